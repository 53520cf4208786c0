/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_SCHEDULER_POLICY_H
#define VGPU_SCHEDULER_POLICY_H

/*
 * How the time of one GPU is shared: what each vGPU is entitled to. Pure, like all of scheduler/:
 * no clock, thread or descriptor; times are given, and answers are lengths of time, never dates.
 *
 *   policy.h    entitlements: a weight, a share, a cap for each vGPU
 *   deficit.h   for a soft GPU: from the CPU time processes used, who has to stop for how long
 *   slices.h    for a render node: whose turn it is to submit, and for how long
 *   frames.h    how long a frame is held back where a type limits their rate
 *
 * best-effort: whoever submits gets; nothing is guaranteed. equal-share: what is wanted by several
 * is divided by weight among those who want it; what one leaves is given to the others.
 * fixed-share: a vGPU gets its share and never more, whoever else is idle.
 *
 * Amounts of a GPU are millionths of it (SCHED_WHOLE). Errors are -EINVAL for a policy, slice,
 * weight or share out of range, and nothing is changed then.
 */

#include <stddef.h>
#include <stdint.h>

#define SCHED_WHOLE          1000000u
#define SCHED_VGPUS_MAX      64u
#define SCHED_WEIGHT_MAX     10000u /* from 1 */
#define SCHED_WEIGHT_DEFAULT 100u
#define SCHED_SLICE_MIN_MS   1u
#define SCHED_SLICE_MAX_MS   30u
#define SCHED_SLICE_FEW_MS   2u /* with up to SCHED_FEW vGPUs, where nobody chose */
#define SCHED_SLICE_MANY_MS  1u
#define SCHED_FEW            8u
#define SCHED_MS             1000000u /* ns */

enum sched_policy { SCHED_BEST_EFFORT, SCHED_EQUAL_SHARE, SCHED_FIXED_SHARE, SCHED_POLICY_COUNT };

extern const char *const sched_policy_names[SCHED_POLICY_COUNT];
/* SCHED_POLICY_COUNT when there is no such policy. */
enum sched_policy sched_policy_from_name(const char *name);

struct sched_gpu {
	enum sched_policy policy;
	uint32_t slice_ms; /* SCHED_SLICE_MIN_MS..SCHED_SLICE_MAX_MS; 0: by the number of vGPUs */
};

struct sched_vgpu {
	uint32_t weight; /* 1..SCHED_WEIGHT_MAX */
	uint32_t share;  /* 1..SCHED_WHOLE: what fixed-share gives it */
};

struct sched_entitlement {
	uint32_t weight; /* among those who want something */
	uint32_t share;  /* it can count on, when all want all they can get; 0: on nothing */
	uint32_t cap;    /* it never gets more; SCHED_WHOLE: there is none */
};

int sched_check_gpu(const struct sched_gpu *gpu);
int sched_check_vgpu(const struct sched_vgpu *vgpu);

/* How long one slice is with so many vGPUs on a GPU that passed sched_check_gpu(), in ns. */
uint64_t sched_slice_ns(const struct sched_gpu *gpu, size_t n_vgpus);

/* The share of one of `max_instances` (0 counts as 1), at least a millionth. */
uint32_t sched_share_of(uint32_t max_instances);

/*
 * What each of the n vGPUs of a GPU is entitled to, in the order given; n up to SCHED_VGPUS_MAX.
 * Fixed shares that add up to more than the whole are all made smaller by the same factor.
 */
int sched_entitle(const struct sched_gpu *gpu, const struct sched_vgpu *vgpus, size_t n,
	struct sched_entitlement *ret);

/*
 * Divides `amount` by weight among n who want `wants` each: nobody gets more than that, and what
 * one leaves goes to the others. The sum of `ret` is the smaller of `amount` and the sum of
 * `wants`, but for less than one unit each. Weights are above 0, n up to SCHED_VGPUS_MAX, amounts
 * below 2^48.
 */
void sched_divide(
	uint64_t amount, const uint32_t *weights, const uint64_t *wants, size_t n, uint64_t *ret);

/*
 * Counts the time that passed by a clock that may be stepped: a step back counts as no time, one
 * forward by more than SCHED_STEP_MAX_NS (the node was asleep) as that much.
 */
#define SCHED_STEP_MAX_NS (1000u * (uint64_t)SCHED_MS)
struct sched_time {
	uint64_t last; /* what the clock said */
	uint64_t passed;
	int started;
};
/* `now` in ns of any origin; returns what passed since the call before, 0 the first time. */
uint64_t sched_time_pass(struct sched_time *time, uint64_t now);

#endif
