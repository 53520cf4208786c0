/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/policy.h"

#include "base/checked.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

const char *const sched_policy_names[SCHED_POLICY_COUNT] = {
	[SCHED_BEST_EFFORT] = "best-effort",
	[SCHED_EQUAL_SHARE] = "equal-share",
	[SCHED_FIXED_SHARE] = "fixed-share",
};

enum sched_policy sched_policy_from_name(const char *name)
{
	enum sched_policy policy = 0;

	while (policy < SCHED_POLICY_COUNT && strcmp(sched_policy_names[policy], name) != 0)
		policy++;
	return policy;
}

int sched_check_gpu(const struct sched_gpu *gpu)
{
	bool slice = !gpu->slice_ms ||
		     (gpu->slice_ms >= SCHED_SLICE_MIN_MS && gpu->slice_ms <= SCHED_SLICE_MAX_MS);

	return (unsigned)gpu->policy < SCHED_POLICY_COUNT && slice ? 0 : -EINVAL;
}

int sched_check_vgpu(const struct sched_vgpu *vgpu)
{
	return vgpu->weight && vgpu->weight <= SCHED_WEIGHT_MAX && vgpu->share &&
			       vgpu->share <= SCHED_WHOLE
		       ? 0
		       : -EINVAL;
}

uint64_t sched_slice_ns(const struct sched_gpu *gpu, size_t n_vgpus)
{
	uint32_t by_number = n_vgpus > SCHED_FEW ? SCHED_SLICE_MANY_MS : SCHED_SLICE_FEW_MS;

	return (uint64_t)(gpu->slice_ms ?: by_number) * SCHED_MS;
}

uint32_t sched_share_of(uint32_t max_instances)
{
	return MAX(SCHED_WHOLE / MAX(max_instances, 1u), 1u);
}

static struct sched_entitlement entitle_one(const struct sched_gpu *gpu,
	const struct sched_vgpu *vgpu, uint64_t weights, uint64_t shares)
{
	struct sched_entitlement e = {.weight = vgpu->weight, .cap = SCHED_WHOLE};

	if (gpu->policy == SCHED_EQUAL_SHARE)
		e.share = (uint32_t)((uint64_t)SCHED_WHOLE * vgpu->weight / weights);
	if (gpu->policy == SCHED_FIXED_SHARE) {
		uint64_t share = (uint64_t)vgpu->share * SCHED_WHOLE / MAX(shares, SCHED_WHOLE);
		e.weight = MAX((uint32_t)((uint64_t)SCHED_WEIGHT_MAX * share / SCHED_WHOLE), 1u);
		e.cap = e.share = MAX((uint32_t)share, 1u);
	}
	return e;
}

int sched_entitle(const struct sched_gpu *gpu, const struct sched_vgpu *vgpus, size_t n,
	struct sched_entitlement *ret)
{
	uint64_t weights = 0, shares = 0;

	if (sched_check_gpu(gpu) < 0 || n > SCHED_VGPUS_MAX)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		if (sched_check_vgpu(&vgpus[i]) < 0)
			return -EINVAL;
		weights += vgpus[i].weight;
		shares += vgpus[i].share;
	}
	for (size_t i = 0; i < n; i++)
		ret[i] = entitle_one(gpu, &vgpus[i], weights, shares);
	return 0;
}

void sched_divide(
	uint64_t amount, const uint32_t *weights, const uint64_t *wants, size_t n, uint64_t *ret)
{
	bool done[SCHED_VGPUS_MAX] = {0};
	bool again = true;

	/* Whoever wants less than its part gets what it wants; then the parts of the others grow.
	 */
	while (again) {
		uint64_t sum = 0, left = amount;
		again = false;
		for (size_t i = 0; i < n; i++)
			sum += done[i] ? 0 : weights[i];
		for (size_t i = 0; i < n; i++) {
			uint64_t part = sum ? amount * weights[i] / sum : 0;
			if (done[i])
				continue;
			ret[i] = MIN(part, wants[i]);
			done[i] = wants[i] <= part;
			again |= done[i];
			left -= done[i] ? wants[i] : 0;
		}
		amount = left;
	}
}

uint64_t sched_time_pass(struct sched_time *time, uint64_t now)
{
	uint64_t step = 0;

	if (time->started && now > time->last)
		step = MIN(now - time->last, SCHED_STEP_MAX_NS);
	time->started = 1;
	time->last = now;
	time->passed += step;
	return step;
}
