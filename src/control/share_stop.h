/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_SHARE_STOP_H
#define VGPU_CONTROL_SHARE_STOP_H

/*
 * Shares of soft GPUs where no control groups can be made, or none are wanted: accounts of the CPU
 * time that device processes use (scheduler/deficit.h), and HOLD to the keepers of those that took
 * too much. See share_stop.c.
 */

struct cpu_time;
struct vgpu;
struct vgpud;

/*
 * Something changed that may call for settling: a policy, a vGPU, what a keeper says. Cheap where
 * it does not.
 */
void vgpud_share_stop_watch(struct vgpud *d);
/* Nobody is held any more by this vgpud. */
void vgpud_share_stop_close(struct vgpud *d);
/* Before that vGPU is freed. */
void vgpu_share_stop_forget(struct vgpu *v);

#endif
