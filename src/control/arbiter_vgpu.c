/* SPDX-License-Identifier: Apache-2.0 */
/* One vGPU of an arbiter: its page, what it is stopped for, and its coming and going. */
#include "control/arbiter_private.h"

#include "base/checked.h"
#include "base/cleanup.h"

#include <errno.h>

/* --- pages --- */

void arbiter_page(struct arbiter *a, struct arbiter_vgpu *v, uint64_t until_ns)
{
	if (v->until_ns == until_ns)
		return;
	v->until_ns = until_ns;
	SLICE_STORE(&v->page->until_ns, until_ns);
	__atomic_fetch_add(&v->page->word, 1, __ATOMIC_SEQ_CST);
	a->ops->wake(a->data, v->page);
}

void arbiter_withdraw(struct arbiter *a, struct arbiter_vgpu *v)
{
	arbiter_page(a, v, ++v->withdrawn);
}

bool arbiter_returned(const struct arbiter_vgpu *v)
{
	return SLICE_LOAD(&v->claim->returned) == v->until_ns;
}

/* --- force --- */

void arbiter_stop(struct arbiter *a, struct arbiter_vgpu *v, uint64_t now)
{
	if (v->held_at && now - v->held_at < ARBITER_RENEW_NS)
		return;
	v->held_at = now;
	a->ops->hold(a->data, v->id, ARBITER_HOLD_NS);
}

void arbiter_go_on(struct arbiter *a, struct arbiter_vgpu *v)
{
	if (!v->held_at)
		return;
	v->held_at = 0;
	a->ops->hold(a->data, v->id, 0);
}

void arbiter_guilty(struct arbiter *a, struct arbiter_vgpu *v, uint64_t now)
{
	v->state = ARBITER_HELD;
	v->guilty = true;
	v->calm = 0;
	arbiter_stop(a, v, now);
}

void arbiter_forgive(struct arbiter *a, struct arbiter_vgpu *v)
{
	v->state = ARBITER_AWAY;
	v->guilty = false;
	arbiter_go_on(a, v);
}

/* --- what is used outside of slices --- */

void arbiter_count(struct arbiter *a, struct arbiter_vgpu *v, uint64_t now)
{
	uint64_t used = 0;

	v->counted_at = a->ops->used(a->data, v->id, &used) ? now : 0;
	v->counted_ns = used;
}

uint64_t arbiter_used(struct arbiter *a, const struct arbiter_vgpu *v)
{
	uint64_t used;

	if (!v->counted_at || !a->ops->used(a->data, v->id, &used) || used < v->counted_ns)
		return 0;
	return used - v->counted_ns;
}

void arbiter_count_anew(struct arbiter_vgpu *v)
{
	v->counted_at = 0;
	v->sample.at = 0;
}

/* It used so much outside of its slices, in so much time. */
static bool outside_too_much(
	struct arbiter *a, struct arbiter_vgpu *v, uint64_t used, uint64_t passed)
{
	v->allowed_ns = MIN(v->allowed_ns + passed / ARBITER_OUTSIDE, ARBITER_OUTSIDE_NS);
	if (used)
		slices_charge(&a->slices, v->id, MIN(used, passed));
	bool too_much = used > v->allowed_ns;
	v->allowed_ns = too_much ? ARBITER_OUTSIDE_NS : v->allowed_ns - used;
	return too_much;
}

static void outside_held(struct arbiter *a, struct arbiter_vgpu *v, uint64_t now)
{
	arbiter_withdraw(a, v);
	v->outside = true;
	arbiter_guilty(a, v, now);
}

void arbiter_police(struct arbiter *a, struct arbiter_vgpu *v, uint64_t now)
{
	uint64_t used = arbiter_used(a, v), passed = v->counted_at ? now - v->counted_at : 0;

	arbiter_count(a, v, now);
	if (outside_too_much(a, v, used, passed))
		outside_held(a, v, now);
}

void arbiter_sampled(struct arbiter *a, uint32_t id, uint64_t used_ns, uint64_t now)
{
	struct arbiter_vgpu *v = (struct arbiter_vgpu *)arbiter_find(a, id);

	if (!v || a->open)
		return;
	uint64_t own_ns = v->own_ns + (a->has == v ? now - a->began_ns : 0);
	bool first = !v->sample.at || used_ns < v->sample.used_ns;
	uint64_t used = used_ns - v->sample.used_ns, own = own_ns - v->sample.own_ns;
	uint64_t passed = now - v->sample.at;

	v->sample.at = now;
	v->sample.used_ns = used_ns;
	v->sample.own_ns = own_ns;
	if (first)
		return;
	v->sample.idle = used < own / ARBITER_CALM_PART;
	bool too_much = outside_too_much(a, v, used > own ? used - own : 0, passed);
	if (too_much && a->has != v && v->state != ARBITER_HELD)
		outside_held(a, v, now);
}

/* --- who is there --- */

static int arbiter_slot(const struct arbiter *a, uint32_t id)
{
	for (unsigned i = 0; i < SCHED_VGPUS_MAX; i++) {
		if (a->vgpus[i].id == id)
			return (int)i;
	}
	return -1;
}

const struct arbiter_vgpu *arbiter_find(const struct arbiter *a, uint32_t id)
{
	int slot = id ? arbiter_slot(a, id) : -1;

	return slot < 0 ? NULL : &a->vgpus[slot];
}

int arbiter_init(
	struct arbiter *a, const struct sched_gpu *gpu, const struct arbiter_ops *ops, void *data)
{
	*a = (struct arbiter){.ops = ops, .data = data, .open = true};
	return slices_init(&a->slices, gpu);
}

void arbiter_settle(struct arbiter *a, uint64_t until)
{
	a->settle_until = until;
}

int arbiter_add(struct arbiter *a, uint32_t id, const struct sched_vgpu *params,
	struct slice_page *page, const struct slice_claim *claim)
{
	int slot = arbiter_slot(a, 0);
	int err = slices_add(&a->slices, id, params);

	if (err < 0 || slot < 0)
		return err < 0 ? err : -ENOSPC;
	a->vgpus[slot] = (struct arbiter_vgpu){
		.id = id, .page = page, .claim = claim, .allowed_ns = ARBITER_OUTSIDE_NS};
	page->version = SLICE_VERSION;
	page->magic = SLICE_MAGIC;
	page->idle_ns = ARBITER_IDLE_NS;
	if (a->open)
		arbiter_page(a, &a->vgpus[slot], SLICE_OPEN);
	else
		arbiter_withdraw(a, &a->vgpus[slot]);
	return 0;
}

void arbiter_remove(struct arbiter *a, uint32_t id)
{
	int slot = id ? arbiter_slot(a, id) : -1;

	if (slot < 0)
		return;
	struct arbiter_vgpu *v = &a->vgpus[slot];
	if (a->has == v)
		a->has = NULL;
	slices_remove(&a->slices, id);
	arbiter_page(a, v, SLICE_OPEN);
	arbiter_go_on(a, v);
	*v = (struct arbiter_vgpu){0};
}

int arbiter_set_policy(struct arbiter *a, const struct sched_gpu *gpu)
{
	struct slices old = a->slices;
	int err = slices_init(&a->slices, gpu);

	if (err < 0) {
		a->slices = old;
		return err;
	}
	struct arbiter_vgpu *v = TAKE_PTR(a->has);
	if (v) { /* what it is at was given to it, and is nobody's fault */
		arbiter_count_anew(v);
		arbiter_withdraw(a, v);
	}
	for (unsigned i = 0; i < SCHED_VGPUS_MAX; i++) {
		if (old.vgpus[i].id)
			slices_add(&a->slices, old.vgpus[i].id, &old.vgpus[i].params);
	}
	return 0;
}

int arbiter_set_params(struct arbiter *a, uint32_t id, const struct sched_vgpu *params)
{
	return slices_set_params(&a->slices, id, params);
}

void arbiter_renew(struct arbiter *a, uint32_t id, bool there, uint64_t now)
{
	struct arbiter_vgpu *v = (struct arbiter_vgpu *)arbiter_find(a, id);

	if (!v)
		return;
	if (!there && a->has == v)
		arbiter_slice_over(a, now);
	v->absent = !there;
	arbiter_count_anew(v);
	v->held_at = 0; /* it was the other one's */
	if (there)
		return;
	arbiter_withdraw(a, v);
	arbiter_forgive(a, v);
}
