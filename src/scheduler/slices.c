/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/slices.h"

#include "base/checked.h"

#include <errno.h>

int slices_init(struct slices *s, const struct sched_gpu *gpu)
{
	if (sched_check_gpu(gpu) < 0)
		return -EINVAL;
	*s = (struct slices){.gpu = *gpu};
	return 0;
}

static struct slices_vgpu *slices_find(const struct slices *s, uint32_t id)
{
	for (unsigned i = 0; i < SCHED_VGPUS_MAX; i++) {
		if (s->vgpus[i].id == id)
			return (struct slices_vgpu *)&s->vgpus[i];
	}
	return NULL;
}

static size_t slices_members(const struct slices *s)
{
	size_t n = 0;

	for (unsigned i = 0; i < SCHED_VGPUS_MAX; i++)
		n += s->vgpus[i].id != 0;
	return n;
}

/* Who is there has changed. */
static void slices_entitle(struct slices *s)
{
	struct sched_vgpu params[SCHED_VGPUS_MAX];
	struct sched_entitlement due[SCHED_VGPUS_MAX];
	size_t n = 0;

	for (unsigned i = 0; i < SCHED_VGPUS_MAX; i++) {
		if (s->vgpus[i].id)
			params[n++] = s->vgpus[i].params;
	}
	if (sched_entitle(&s->gpu, params, n, due) < 0)
		return; /* all were checked when they came */
	n = 0;
	for (unsigned i = 0; i < SCHED_VGPUS_MAX; i++) {
		if (s->vgpus[i].id)
			s->vgpus[i].due = due[n++];
	}
}

int slices_add(struct slices *s, uint32_t id, const struct sched_vgpu *params)
{
	struct slices_vgpu *free_slot = slices_find(s, 0);

	if (!id || sched_check_vgpu(params) < 0)
		return -EINVAL;
	if (slices_find(s, id))
		return -EEXIST;
	if (!free_slot)
		return -ENOSPC;
	*free_slot = (struct slices_vgpu){.id = id, .params = *params, .count = s->count};
	slices_entitle(s);
	return 0;
}

void slices_remove(struct slices *s, uint32_t id)
{
	struct slices_vgpu *v = id ? slices_find(s, id) : NULL;

	if (!v)
		return;
	if (s->holder == id)
		s->holder = 0;
	*v = (struct slices_vgpu){0};
	slices_entitle(s);
}

int slices_set_params(struct slices *s, uint32_t id, const struct sched_vgpu *params)
{
	struct slices_vgpu *v = id ? slices_find(s, id) : NULL;

	if (!v || sched_check_vgpu(params) < 0)
		return v ? -EINVAL : -ENOENT;
	v->params = *params;
	slices_entitle(s);
	return 0;
}

bool slices_open(const struct slices *s)
{
	return s->gpu.policy == SCHED_BEST_EFFORT ||
	       (s->gpu.policy == SCHED_EQUAL_SHARE && slices_members(s) <= 1);
}

static uint64_t slices_cost(const struct slices_vgpu *v, uint64_t used_ns)
{
	return used_ns * SCHED_WEIGHT_MAX / v->due.weight;
}

/* By how much its count may be below that of the others when it comes back. */
static uint64_t slices_credit(const struct slices *s, const struct slices_vgpu *v)
{
	uint64_t others = 0;

	for (unsigned i = 0; i < SCHED_VGPUS_MAX; i++)
		others += s->vgpus[i].wants && &s->vgpus[i] != v ? s->vgpus[i].due.weight : 0;
	/* With less weight than it has, theirs grow faster in that time than its own would. */
	uint64_t weight = others ? MIN(others, v->due.weight) : v->due.weight;
	return SLICES_CREDIT_NS * SCHED_WEIGHT_MAX / weight;
}

int slices_want(struct slices *s, uint32_t id, bool wants)
{
	struct slices_vgpu *v = id ? slices_find(s, id) : NULL;

	if (!v)
		return -ENOENT;
	uint64_t credit = slices_credit(s, v);
	if (wants && !v->wants)
		v->count = MAX(v->count, s->count > credit ? s->count - credit : 0);
	v->wants = wants;
	return 0;
}

/* Budgets grow with the time that passed, whoever wants. */
static void slices_fill(struct slices *s, uint64_t step_ns)
{
	for (unsigned i = 0; i < SCHED_VGPUS_MAX; i++) {
		struct slices_vgpu *v = &s->vgpus[i];
		v->budget_ns += (int64_t)(step_ns * v->due.share / SCHED_WHOLE);
		v->budget_ns = MIN(v->budget_ns, SLICES_SAVED_NS);
	}
}

/* How long until its budget allows a slice; 0: now. */
static uint64_t slices_until(const struct slices *s, const struct slices_vgpu *v, uint64_t slice_ns)
{
	int64_t lacks = (int64_t)slice_ns - v->budget_ns;

	if (s->gpu.policy != SCHED_FIXED_SHARE || lacks <= 0)
		return 0;
	return (uint64_t)lacks * SCHED_WHOLE / v->due.share + 1;
}

int slices_next(struct slices *s, uint64_t now, struct slices_grant *ret)
{
	uint64_t slice_ns = sched_slice_ns(&s->gpu, slices_members(s)), wait = UINT64_MAX;
	struct slices_vgpu *best = NULL;

	slices_fill(s, sched_time_pass(&s->time, now));
	if (s->holder)
		return -EBUSY;
	for (unsigned i = 0; i < SCHED_VGPUS_MAX; i++) {
		struct slices_vgpu *v = &s->vgpus[i];
		if (!v->id || !v->wants)
			continue;
		uint64_t until = slices_until(s, v, slice_ns);
		wait = MIN(wait, until);
		if (!until && (!best || v->count < best->count))
			best = v;
	}
	*ret = (struct slices_grant){.wait_ns = wait};
	if (!best)
		return 0;
	uint64_t shorter = MIN(best->over_ns, slice_ns - SCHED_SLICE_MIN_MS * SCHED_MS);
	best->over_ns -= shorter;
	best->length_ns = slice_ns - shorter;
	s->holder = best->id;
	s->count = MAX(s->count, best->count);
	*ret = (struct slices_grant){.id = best->id,
		.length_ns = best->length_ns,
		.force_ns = best->length_ns + SLICES_GRACE_NS};
	return 0;
}

static uint64_t slices_account(struct slices_vgpu *v, uint64_t used_ns)
{
	used_ns = MIN(used_ns, 3600 * SCHED_STEP_MAX_NS);
	v->count += slices_cost(v, used_ns);
	v->budget_ns -= (int64_t)used_ns;
	return used_ns;
}

bool slices_preempt(const struct slices *s, uint64_t used_ns)
{
	const struct slices_vgpu *holder = s->holder ? slices_find(s, s->holder) : NULL;

	if (!holder || s->gpu.policy != SCHED_EQUAL_SHARE)
		return false;
	uint64_t slice_ns = sched_slice_ns(&s->gpu, slices_members(s));
	uint64_t count = holder->count + slices_cost(holder, used_ns);
	for (unsigned i = 0; i < SCHED_VGPUS_MAX; i++) {
		const struct slices_vgpu *v = &s->vgpus[i];
		if (v->id && v != holder && v->wants &&
			v->count + slices_cost(v, slice_ns) <= count)
			return true;
	}
	return false;
}

bool slices_other_first(const struct slices *s, uint32_t id, uint64_t used_ns)
{
	const struct slices_vgpu *it = id ? slices_find(s, id) : NULL;
	uint64_t count = it ? it->count + slices_cost(it, used_ns) : 0;

	for (unsigned i = 0; it && i < SCHED_VGPUS_MAX; i++) {
		const struct slices_vgpu *v = &s->vgpus[i];
		if (v->id && v != it && v->wants && v->count < count)
			return true;
	}
	return false;
}

int slices_charge(struct slices *s, uint32_t id, uint64_t used_ns)
{
	struct slices_vgpu *v = id ? slices_find(s, id) : NULL;

	if (!v)
		return -ENOENT;
	v->over_ns += slices_account(v, used_ns);
	return 0;
}

int slices_end(struct slices *s, uint32_t id, uint64_t used_ns)
{
	struct slices_vgpu *v = id && s->holder == id ? slices_find(s, id) : NULL;

	if (!v)
		return -ENOENT;
	s->holder = 0;
	used_ns = slices_account(v, used_ns);
	if (used_ns > v->length_ns)
		v->over_ns += used_ns - v->length_ns;
	return 0;
}
