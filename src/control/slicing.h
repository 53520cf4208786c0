/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_SLICING_H
#define VGPU_CONTROL_SLICING_H

/*
 * Which vGPUs take part in the time slices of which GPU. A GPU that is shared so (render nodes, and
 * soft GPUs of `sharing = slices`) has a thread from its first policy on; each of its vGPUs has
 * pages, which its keeper is told of. Pages are this vgpud's: the next one makes new ones, and
 * tells all keepers.
 */

#include "control/slice_thread.h"

#include <stdbool.h>

struct gpu;
struct vgpu;
struct vgpud;

/* Of one vGPU. */
struct vgpu_slices {
	struct slice_pages pages;
	struct slice_thread *thread; /* NULL: it takes part nowhere */
	uint32_t id;                 /* 0: none yet */
	uint32_t pid;                /* of the device process that the thread knows */
	bool told;                   /* its keeper has been, on this link */
};

/* Makes its slices as its policy and its vGPUs say. 0 or -errno. */
int slicing_apply(struct vgpud *d, const struct gpu *gpu);
/* It is on no such GPU any more, or is gone. */
void slicing_leave(struct vgpu *v);
/* Its keeper is there, or says something new. */
void slicing_status(struct vgpu *v);
/* Its keeper is not there any more. */
void slicing_lost(struct vgpu *v);
void slicing_close(struct vgpud *d);

#endif
