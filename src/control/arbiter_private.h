/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_ARBITER_PRIVATE_H
#define VGPU_CONTROL_ARBITER_PRIVATE_H

/* Shared by arbiter.c (turns) and arbiter_vgpu.c (one vGPU). */

#include "control/arbiter.h"

/* Its page says that from now on; nothing happens where it did. */
void arbiter_page(struct arbiter *a, struct arbiter_vgpu *v, uint64_t until_ns);
/* It has no slice, and has returned none of that name. */
void arbiter_withdraw(struct arbiter *a, struct arbiter_vgpu *v);
bool arbiter_returned(const struct arbiter_vgpu *v); /* the slice that its page names */

/* Its process is stopped, for longer if it is already; or goes on, if it was stopped. */
void arbiter_stop(struct arbiter *a, struct arbiter_vgpu *v, uint64_t now);
void arbiter_go_on(struct arbiter *a, struct arbiter_vgpu *v);
/* To HELD, and back to AWAY. */
void arbiter_guilty(struct arbiter *a, struct arbiter_vgpu *v, uint64_t now);
/* Ends the slice of whoever has one now. */
void arbiter_slice_over(struct arbiter *a, uint64_t now);
void arbiter_forgive(struct arbiter *a, struct arbiter_vgpu *v);

/* Counts from now on what it uses. */
void arbiter_count(struct arbiter *a, struct arbiter_vgpu *v, uint64_t now);
/* What samples said so far is of no use: it was not by slices that it worked. */
void arbiter_count_anew(struct arbiter_vgpu *v);
/* Since it was counted; 0 also when that cannot be told. */
uint64_t arbiter_used(struct arbiter *a, const struct arbiter_vgpu *v);
/* It had no slice since it was counted: is charged, and guilty beyond what is allowed. */
void arbiter_police(struct arbiter *a, struct arbiter_vgpu *v, uint64_t now);

#endif
