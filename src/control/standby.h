/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_STANDBY_H
#define VGPU_CONTROL_STANDBY_H

/*
 * Stand-bys: keepers with initialised device processes, started in the background, from which a
 * vGPU starts in milliseconds (protocol/standby.h, docs/decisions/0015-standby.md).
 *
 * There is one *kind* for each command line of vgpu-device, but for what may be told late: software
 * GPUs share one for each method. A kind is wanted from the first vGPU of it on; that of software
 * GPUs' default method from the start; that of a device until its last vGPU is gone. One stand-by
 * is started at a time. A creation takes one that is still starting, too; when there is none, or it
 * died, the vGPU is started without.
 *
 * Nothing here survives vgpud: a stand-by ends when its channel does.
 */

#include "control/vgpu.h"

struct standbys;

/* Starts none yet. 0 or -errno. */
int standbys_create(struct vgpud *d, struct standbys **ret);
void standbys_destroy(struct standbys *pool); /* NULL-safe; ends them */

/* From now on some are kept for vGPUs of that method on that GPU. */
void standbys_want(struct standbys *pool, const struct gpu *gpu, enum method method);

/*
 * None is kept for that GPU any more; its processes, and their hold on its device files, end some
 * milliseconds later. Nothing for a software GPU, of which nothing is held.
 */
void standbys_unwant(struct standbys *pool, const struct gpu *gpu);

/*
 * Makes one the keeper of `v`, whose folder is there: the link is the caller's, with `ops`.
 * -ENOENT: there is none; another -errno: it could not be told, and is gone.
 */
int standbys_take(struct standbys *pool, struct vgpu *v, const struct link_spawn *spawn,
	const struct link_ops *ops, struct link **ret);

/* Of the kinds that serve that GPU, since vgpud started. */
struct standby_counts {
	unsigned ready;   /* now */
	uint64_t used;    /* vGPUs that were started from one */
	uint64_t missing; /* vGPUs that were not, because there was none */
};
struct standby_counts standbys_count(const struct standbys *pool, const struct gpu *gpu);

#endif
