/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_SHARE_H
#define VGPU_CONTROL_SHARE_H

/*
 * How the vGPUs of a soft GPU share its CPU time: the policy's entitlements (scheduler/policy.h),
 * written down as control groups (share_groups.h), which the kernel enforces from then on, whether
 * vgpud is there or not. Keepers put device processes there and stay outside. With best-effort
 * there are no groups.
 *
 * GPUs that are shared by time slices (slicing.h) are in no groups; policies are chosen for both.
 *
 * Where no groups can be made, or the configuration says so, vgpud keeps accounts and has those
 * stopped that took too much (share_stop.h). Where it says that groups it must be and there are
 * none, only best-effort can be chosen. A policy that was chosen before and cannot be enforced any
 * more stays as it is; the GPU has no `enforcer` then, and doctor says why.
 */

#include "base/error.h"
#include "host/cgroup.h"
#include "scheduler/deficit.h"
#include "scheduler/policy.h"

#include <stdbool.h>
#include <stdint.h>

struct cpu_time;
struct share_stop;
struct vgpud;
struct vgpu;
struct gpu;

#define SHARE_GAIN_ONE 1000

enum share_by { SHARE_BY_NOTHING, SHARE_BY_GROUPS, SHARE_BY_ACCOUNTS };

struct share {
	enum share_by by; /* what enforces policies of soft GPUs */
	struct cgroup cgroup;
	bool usable;   /* groups can be made */
	char why[320]; /* it is not */
	char base[32]; /* what the names of this vgpud's groups begin with */
	uint32_t cpus; /* that we may use, and keepers and device processes with us */
	uint32_t last_id;
	struct share_stop *stop; /* share_stop.c; NULL: it has not begun */
};

/* Of one vGPU. */
struct vgpu_share {
	bool in_group;   /* its device processes are, or may be */
	uint32_t weight; /* of its group, among those of the GPU */
	uint32_t gain;   /* its correction, thousandths: see share_balance.c */
	uint32_t id;     /* in the accounts; 0: not in them yet */
	struct deficit_use last, sum;
	bool light;             /* share_balance.c: it uses much less than its share */
	uint64_t late_until_ns; /* it is not light before */
	uint32_t slice_pid;     /* the device process that was told its slice; 0: none */
	struct cpu_time *time;  /* share_stop.c: of its device process; or NULL */
	uint32_t time_pid;      /* whose it is, or was last; 0: nobody's */
	uint64_t held_until_ns; /* what its keeper was told; 0: it runs */
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

/* What a soft GPU is made of, in thousandths of a CPU. */
uint32_t vgpud_share_cpus(const struct vgpud *d);
struct sched_vgpu vgpu_share_params(const struct vgpu *v, const struct gpu *gpu);
/* share_groups.c: removes the groups that nobody needs; one that still has a process goes the next
 * time. */
void vgpud_share_sweep(struct vgpud *d);
/* Writes its weight with another gain. */
void vgpu_share_correct(struct vgpu *v, uint32_t gain);

/* share_balance.c: as long as a GPU has groups. */
void vgpud_share_watch(struct vgpud *d);
/* The policy of that GPU is another one: who is light is found anew. */
void vgpud_share_begin_anew(struct vgpud *d, const struct gpu *gpu);
void vgpud_share_close(struct vgpud *d);

#endif
