/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/deficit.h"

#include "base/checked.h"

#include <errno.h>

#define DEFICIT_CPUS_MAX 1000000u
#define DEFICIT_STEP_MAX (UINT64_C(1) << 40) /* ns; so sums of all times a weight fit */
#define PART_ONE         65536u
#define DEFICIT_WANTS    10u /* who ran or waited for one part in so many of the time wants more */

int deficit_init(struct deficit *d, const struct sched_gpu *gpu, uint32_t cpus, bool stops)
{
	if (sched_check_gpu(gpu) < 0 || !cpus || cpus > DEFICIT_CPUS_MAX)
		return -EINVAL;
	*d = (struct deficit){.gpu = *gpu, .cpus = cpus, .stops = stops};
	return 0;
}

static struct deficit_vgpu *deficit_find(const struct deficit *d, uint32_t id)
{
	for (unsigned i = 0; i < SCHED_VGPUS_MAX; i++) {
		if (d->vgpus[i].id == id)
			return (struct deficit_vgpu *)&d->vgpus[i];
	}
	return NULL;
}

int deficit_add(struct deficit *d, uint32_t id, const struct sched_vgpu *params)
{
	struct deficit_vgpu *free_slot = deficit_find(d, 0);

	if (!id || sched_check_vgpu(params) < 0)
		return -EINVAL;
	if (deficit_find(d, id))
		return -EEXIST;
	if (!free_slot)
		return -ENOSPC;
	*free_slot = (struct deficit_vgpu){.id = id, .params = *params};
	return 0;
}

void deficit_remove(struct deficit *d, uint32_t id)
{
	struct deficit_vgpu *v = id ? deficit_find(d, id) : NULL;

	if (v)
		*v = (struct deficit_vgpu){0};
}

static void add_step(uint64_t *step, uint64_t now, uint64_t last)
{
	*step = MIN(*step + MIN(now - last, DEFICIT_STEP_MAX), DEFICIT_STEP_MAX);
}

int deficit_used(struct deficit *d, uint32_t id, const struct deficit_use *use)
{
	struct deficit_vgpu *v = id ? deficit_find(d, id) : NULL;

	if (!v)
		return -ENOENT;
	if (v->known) {
		bool back = use->ran_ns < v->last.ran_ns || use->waited_ns < v->last.waited_ns;
		add_step(&v->step.ran_ns, use->ran_ns, back ? 0 : v->last.ran_ns);
		add_step(&v->step.waited_ns, use->waited_ns, back ? 0 : v->last.waited_ns);
	}
	v->known = true;
	v->last = *use;
	return 0;
}

static void balance_change(
	struct deficit_vgpu *v, uint64_t gets_ns, int64_t claim_ns, int64_t debt_ns)
{
	int64_t balance = v->balance_ns + (int64_t)gets_ns - (int64_t)v->step.ran_ns;

	v->balance_ns = MAX(MIN(balance, claim_ns), -debt_ns);
}

/* --- equal-share --- */

static void fade(uint64_t *recent, uint64_t step_ns, uint64_t now)
{
	*recent -= *recent / DEFICIT_WINDOW_NS * step_ns +
		   *recent % DEFICIT_WINDOW_NS * step_ns / DEFICIT_WINDOW_NS;
	*recent += now;
}

/* What it did and wanted in this step joins what it did lately. */
static void equal_remember(const struct deficit *d, struct deficit_vgpu *v, uint64_t step_ns)
{
	uint64_t wants = v->step.ran_ns + v->step.waited_ns;

	if (v->stop_ns)
		wants += step_ns * d->cpus / 1000; /* it could not show that it waits */
	fade(&v->recent_ns, step_ns, step_ns);
	fade(&v->recent_ran_ns, step_ns, v->step.ran_ns);
	fade(&v->recent_wants_ns, step_ns, wants);
	v->idle_ns = wants ? 0 : MIN(v->idle_ns + step_ns, DEFICIT_IDLE_NS);
}

/*
 * `part`: of what all used lately, by weight. It took less than that, and now it runs and hardly
 * waits: it has all it wants, and what it was owed is of no use to it any more. Others would stop
 * for nothing. One that did not run at all may be waiting; the kernel tells only afterwards.
 */
static bool is_content(const struct deficit_vgpu *v, uint64_t part_ns, uint64_t step_ns)
{
	uint64_t enough = part_ns / 4 * 3, steps = MAX(v->recent_ns / MAX(step_ns, 1u), 1u);

	if (v->idle_ns >= DEFICIT_IDLE_NS)
		return true;
	return !v->stop_ns && v->step.ran_ns && v->step.waited_ns < step_ns / DEFICIT_WANTS &&
	       v->step.ran_ns < enough / steps && v->recent_ran_ns < enough;
}

/* Nobody owes what is owed to nobody. */
static void equal_forgive(struct deficit_vgpu **v, size_t n)
{
	uint64_t claims = 0, debts = 0;

	for (size_t i = 0; i < n; i++) {
		claims += v[i]->balance_ns > 0 ? (uint64_t)v[i]->balance_ns : 0;
		debts += v[i]->balance_ns < 0 ? (uint64_t)-v[i]->balance_ns : 0;
	}
	if (debts <= claims)
		return;
	/* Sums of SCHED_VGPUS_MAX such numbers, in us so that their product fits. */
	claims /= 1000;
	debts = MAX(debts / 1000, 1u);
	for (size_t i = 0; i < n; i++) {
		if (v[i]->balance_ns < 0)
			v[i]->balance_ns = v[i]->balance_ns * (int64_t)claims / (int64_t)debts;
	}
}

static void equal_balance(struct deficit *d, struct deficit_vgpu **v, size_t n, uint64_t step_ns)
{
	uint64_t wants[SCHED_VGPUS_MAX], parts[SCHED_VGPUS_MAX] = {0}, recent = 0, used = 0;
	uint32_t weights[SCHED_VGPUS_MAX];
	uint64_t sum = 0;

	for (size_t i = 0; i < n; i++) {
		sum += v[i]->params.weight;
		equal_remember(d, v[i], step_ns);
		weights[i] = v[i]->params.weight;
		wants[i] = v[i]->recent_wants_ns;
		recent += v[i]->recent_ran_ns;
		used += v[i]->step.ran_ns;
	}
	sched_divide(recent, weights, wants, n, parts);
	for (size_t i = 0; i < n; i++) {
		uint64_t gets = recent ? used * (parts[i] * PART_ONE / recent) / PART_ONE : 0;
		balance_change(v[i], gets, DEFICIT_CLAIM_NS, DEFICIT_DEBT_NS);
		if (v[i]->balance_ns > 0 && is_content(v[i], recent * weights[i] / sum, step_ns))
			v[i]->balance_ns = 0;
	}
	equal_forgive(v, n);
}

static bool wants_more(const struct deficit_vgpu *v, uint64_t step_ns)
{
	return v->step.ran_ns + v->step.waited_ns > step_ns / DEFICIT_WANTS;
}

static void equal_settle(struct deficit *d, struct deficit_vgpu **v, size_t n, uint64_t step_ns)
{
	int64_t slice = (int64_t)sched_slice_ns(&d->gpu, n);
	bool owed = false;

	equal_balance(d, v, n, step_ns);
	for (size_t i = 0; i < n; i++)
		owed |= v[i]->balance_ns > 0 && wants_more(v[i], step_ns);
	for (size_t i = 0; i < n; i++) {
		/* One that is stopped already pays its whole debt: fewer stops, longer ones. */
		bool stop = d->stops && owed && v[i]->balance_ns < (v[i]->stop_ns ? 0 : -slice);
		v[i]->stop_ns = stop ? DEFICIT_STOP_MAX_NS : 0;
	}
}

/* --- fixed-share --- */

static void fixed_settle(struct deficit *d, struct deficit_vgpu **v, size_t n, uint64_t step_ns)
{
	struct sched_vgpu params[SCHED_VGPUS_MAX];
	struct sched_entitlement e[SCHED_VGPUS_MAX];

	for (size_t i = 0; i < n; i++)
		params[i] = v[i]->params;
	if (sched_entitle(&d->gpu, params, n, e) < 0)
		return;
	for (size_t i = 0; i < n; i++) {
		uint64_t gets = step_ns * d->cpus / 1000 * e[i].cap / SCHED_WHOLE;
		uint64_t rate = MAX(d->cpus * e[i].cap / 1000, 1u); /* millionths of a CPU */
		/* It makes up for the debt by standing still. */
		int64_t debt_most = (int64_t)(rate * (DEFICIT_STALL_NS / SCHED_WHOLE));
		balance_change(v[i], gets, DEFICIT_SAVED_NS, MIN(debt_most, DEFICIT_DEBT_NS));
		uint64_t debt = v[i]->balance_ns < 0 ? (uint64_t)-v[i]->balance_ns : 0;
		v[i]->stop_ns = !d->stops ? 0
					  : MIN((debt * SCHED_WHOLE + rate - 1) / rate,
						    DEFICIT_STOP_MAX_NS);
	}
}

void deficit_settle(struct deficit *d, uint64_t now)
{
	uint64_t step_ns = sched_time_pass(&d->time, now);
	struct deficit_vgpu *v[SCHED_VGPUS_MAX];
	size_t n = 0;

	for (unsigned i = 0; i < SCHED_VGPUS_MAX; i++) {
		if (d->vgpus[i].id)
			v[n++] = &d->vgpus[i];
	}
	if (d->gpu.policy == SCHED_EQUAL_SHARE)
		equal_settle(d, v, n, step_ns);
	else if (d->gpu.policy == SCHED_FIXED_SHARE)
		fixed_settle(d, v, n, step_ns);
	for (size_t i = 0; i < n; i++)
		v[i]->step = (struct deficit_use){0};
}

uint64_t deficit_stop_ns(const struct deficit *d, uint32_t id)
{
	const struct deficit_vgpu *v = id ? deficit_find(d, id) : NULL;

	return v ? v->stop_ns : 0;
}

int64_t deficit_balance_ns(const struct deficit *d, uint32_t id)
{
	const struct deficit_vgpu *v = id ? deficit_find(d, id) : NULL;

	return v ? v->balance_ns : 0;
}
