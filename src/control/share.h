/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_SHARE_H
#define VGPU_CONTROL_SHARE_H

/*
 * How the vGPUs of a soft GPU share its CPU time: the policy's entitlements (scheduler/policy.h),
 * written down as control groups (host/cgroup.h), which the kernel enforces from then on, whether
 * vgpud is there or not. One group for each GPU that has a policy, in it one for each vGPU; keepers
 * put device processes there and stay outside. With best-effort there are no groups.
 *
 * Where no groups can be made, only best-effort can be chosen. A policy that was chosen before and
 * cannot be enforced any more stays as it is; the GPU has no `enforcer` then, and doctor says why.
 */

#include "base/error.h"
#include "host/cgroup.h"
#include "scheduler/deficit.h"
#include "scheduler/policy.h"

#include <stdbool.h>
#include <stdint.h>

struct vgpud;
struct vgpu;
struct gpu;

#define SHARE_GAIN_ONE 1000

struct share {
	struct cgroup cgroup;
	bool usable;
	char why[320]; /* it is not */
	char base[32]; /* what the names of this vgpud's groups begin with */
	uint32_t cpus; /* that we may use, and keepers and device processes with us */
	uint32_t last_id;
};

/* Of one vGPU. */
struct vgpu_share {
	bool in_group;   /* its device processes are, or may be */
	uint32_t weight; /* of its group, among those of the GPU */
	uint32_t gain;   /* its correction, thousandths: see share_balance.c */
	uint32_t id;     /* in the accounts; 0: not in them yet */
	struct deficit_use last, sum;
};

/* Finds out what can be enforced, and reads the policies of all GPUs. 0 or -errno. */
int vgpud_share_open(struct vgpud *d, struct error *err);

/*
 * Another policy for a GPU, now and after every restart; slice_ms 0: by the number of vGPUs.
 * -ENOENT: no such GPU; -EINVAL: policy or slice out of range; -ENOTSUP: it cannot be enforced
 * here. Nothing has changed then.
 */
int vgpud_set_policy(
	struct vgpud *d, const char *gpu, const char *policy, uint32_t slice_ms, struct error *err);

/* A vGPU came to, or is gone from, that GPU. */
void vgpud_share_changed(struct vgpud *d, const char *gpu);

/* Before its keeper is started: the file that takes its device processes; "" : none. */
void vgpu_share_prepare(struct vgpu *v, char *ret, size_t size);
/* Its keeper is there: tells it where device processes belong. */
void vgpu_share_join(struct vgpu *v);

struct sched_vgpu vgpu_share_params(const struct vgpu *v, const struct gpu *gpu);
/* What its group used, as cgroup_usage(); -errno. */
int vgpu_share_usage(const struct vgpu *v, struct deficit_use *ret);
/* Removes the groups that nobody needs; one that still has a process goes the next time. */
void vgpud_share_sweep(struct vgpud *d);
/* Writes its weight with another gain. */
void vgpu_share_correct(struct vgpu *v, uint32_t gain);

/* share_balance.c: as long as a GPU is in equal-share. */
void vgpud_share_watch(struct vgpud *d);
void vgpud_share_close(struct vgpud *d);

#endif
