/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_VGPU_PRIVATE_H
#define VGPU_CONTROL_VGPU_PRIVATE_H

/* What the files of one vGPU share: vgpu.c, vgpu_keeper.c, vgpu_status.c and vgpu_ask.c. */

#include "control/vgpu.h"

/* --- vgpu.c --- */

/* Who connects is served, if only once it is awake or has recovered. */
bool vgpu_serves(const struct vgpu *v);
/* Tells everyone who waits; they may start to wait anew. */
void vgpu_tell(struct vgpu *v, const struct error *err);
/* `done` is called when it is ready or has failed. -EAGAIN: too many wait already. */
int vgpu_wait(struct vgpu *v, const char *what, vgpu_done done, void *data, struct error *err);
/* Notes why, and tells everyone who waits. */
void vgpu_fail(struct vgpu *v, const char *why);
/* The keeper of a vGPU that shall not be is gone: the last step. Frees it. */
void vgpu_gone(struct vgpu *v);

/* --- vgpu_keeper.c --- */

void vgpu_set_source(
	struct vgpu *v, sd_event_source **source, uint64_t ms, sd_event_time_handler_t handler);
void vgpu_set_timer(struct vgpu *v, uint64_t ms, sd_event_time_handler_t handler);
void vgpu_remove_dir(const struct vgpu *v);
/* The last line a keeper that ended has written, for the reason; with ": " before it, or "". */
void vgpu_last_words(const struct vgpu *v, char *ret, size_t size);
/*
 * A keeper runs and cannot be talked to. One that shall stop is killed after `patience` attempts.
 * May free v.
 */
void vgpu_try_later(struct vgpu *v, unsigned patience);
int vgpu_on_retry(sd_event_source *source, uint64_t usec, void *data);
/* Ends the keeper, wherever it stands; vgpu_gone() follows, perhaps at once. */
void vgpu_stop(struct vgpu *v);

/* --- vgpu_status.c --- */

extern const struct link_ops vgpu_link_ops;
/* May free v. */
void vgpu_keeper_ended(struct vgpu *v);

#endif
