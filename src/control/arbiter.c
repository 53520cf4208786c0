/* SPDX-License-Identifier: Apache-2.0 */
#include "control/arbiter_private.h"

#include "base/checked.h"
#include "base/cleanup.h"

#define LATE_NS   (2 * (uint64_t)SLICE_BEAT_NS) /* we were late ourselves, nobody else was */
#define FREE_PART 6u /* of a slice, that its owner may leave unused and not be charged for */
#define TURNS     8u /* begun in one step; one that returns its slices at once is not waited for */
#define AGAIN_NS  100000u

/* --- slices --- */

/*
 * The time in which nobody else could use the GPU, less a little of what was not used in it: a
 * client thinks between frames, and slices take a moment to begin and to end.
 */
static uint64_t slice_cost(struct arbiter *a, const struct arbiter_vgpu *v, uint64_t now)
{
	uint64_t took = MAX(now - a->began_ns, ARBITER_LEAST_NS);

	if (v->guilty || !v->counted_at)
		return took;
	return MIN(MAX(arbiter_used(a, v), took - took / FREE_PART), took);
}

static void slice_ended(struct arbiter *a, struct arbiter_vgpu *v, uint64_t now)
{
	v->own_ns += now - a->began_ns;
	arbiter_count(a, v, now);
}

void arbiter_slice_over(struct arbiter *a, uint64_t now)
{
	struct arbiter_vgpu *v = TAKE_PTR(a->has);

	slices_end(&a->slices, v->id, slice_cost(a, v, now));
	slice_ended(a, v, now);
}

/* It had its turn and did not return it, as expected. */
static void slice_of_guilty_over(struct arbiter *a, struct arbiter_vgpu *v, uint64_t now)
{
	bool calm = v->counted_at ? arbiter_used(a, v) < (now - a->began_ns) / ARBITER_CALM_PART
				  : v->sample.at && v->sample.idle;

	v->calm = calm ? v->calm + 1 : 0;
	arbiter_slice_over(a, now);
	if (v->calm >= ARBITER_CALM)
		arbiter_forgive(a, v);
	else
		v->state = ARBITER_HELD;
}

static void slice_forced(struct arbiter *a, uint64_t now)
{
	struct arbiter_vgpu *v = a->has;

	if (v->guilty) {
		slice_of_guilty_over(a, v, now);
	} else {
		arbiter_slice_over(a, now);
		arbiter_guilty(a, v, now);
	}
	if (v->state == ARBITER_HELD)
		arbiter_stop(a, v, now);
}

/* Until when one that wants nothing now may come back. */
static uint64_t expected_until(const struct arbiter_vgpu *v, uint64_t now)
{
	uint64_t soon = MIN(2 * v->thinks_ns, ARBITER_THINK_NS);

	if (v->thinks_ns && v->thinks_ns <= ARBITER_THINK_NS)
		return now + MAX(soon, ARBITER_IDLE_NS);
	return now >= v->until_ns ? now + ARBITER_IDLE_NS : 0;
}

/* It wants the GPU again. */
static void came_back(struct arbiter_vgpu *v, uint64_t now)
{
	if (!v->returned_at)
		return;
	uint64_t thought = MIN(now - v->returned_at, 2 * ARBITER_THINK_NS);
	v->thinks_ns = (3 * v->thinks_ns + thought) / 4;
	v->returned_at = 0;
}

static void slice_returned(struct arbiter *a, uint64_t now)
{
	struct arbiter_vgpu *v = a->has;

	if (!v->returned_at && !SLICE_LOAD(&v->claim->wants))
		v->returned_at = now;
	v->expected_until = expected_until(v, now);
	arbiter_slice_over(a, now);
	arbiter_forgive(a, v);
}

static void slice_begin(
	struct arbiter *a, struct arbiter_vgpu *v, const struct slices_grant *grant, uint64_t now)
{
	a->has = v;
	a->began_ns = now;
	v->outside = false;
	a->unless_ns = v->guilty || SLICE_LOAD(&v->claim->wants) ? 0 : v->expected_until;
	a->untouched = !v->guilty;
	v->expected_until = 0;
	uint64_t until = MAX(MAX(now, a->unless_ns) + grant->length_ns, v->until_ns + 1);
	a->force_ns = until + (v->guilty ? ARBITER_FORCED_NS : SLICES_GRACE_NS);
	v->state = ARBITER_HAS;
	v->slices++;
	bool yields = slices_other_first(&a->slices, v->id, grant->length_ns);
	SLICE_STORE(&v->page->idle_ns, yields ? ARBITER_YIELD_NS : ARBITER_IDLE_NS);
	arbiter_page(a, v, until);
	arbiter_go_on(a, v);
}

static bool others_want(const struct arbiter *a)
{
	for (unsigned i = 0; i < SCHED_VGPUS_MAX; i++) {
		const struct arbiter_vgpu *v = &a->vgpus[i];
		if (v->id && v != a->has && (v->state == ARBITER_WAITS || v->state == ARBITER_HELD))
			return true;
	}
	return false;
}

/* The same one's turn again, without a hand-shake. */
static void slice_go_on(struct arbiter *a, uint64_t now)
{
	struct arbiter_vgpu *v = a->has;
	struct slices_grant grant = {0};
	uint64_t was = v->until_ns;

	slices_end(&a->slices, v->id, slice_cost(a, v, now));
	slice_ended(a, v, now);
	slices_want(&a->slices, v->id, true);
	slices_next(&a->slices, now, &grant);
	a->has = NULL;
	if (grant.id != v->id)
		return;
	slice_begin(a, v, &grant, MAX(now, was));
	a->began_ns = now;
	a->untouched = false; /* what is under way goes on in it */
	/* It was returned in this moment, and its owner has not seen that it goes on. */
	if (SLICE_LOAD(&v->claim->returned) == was && !SLICE_LOAD(&v->claim->wants))
		slice_returned(a, now);
}

/* It was expected to, and did not come back. */
static void slice_not_taken(struct arbiter *a, uint64_t now)
{
	struct arbiter_vgpu *v = a->has;

	arbiter_slice_over(a, now);
	v->state = ARBITER_AWAY;
	v->expected_until = 0;
	arbiter_withdraw(a, v);
}

/*
 * Who comes back and is behind comes next; what is under way may end as it would have. True: the
 * slice is over, since its owner has not begun: it waits on, and would never return it.
 */
static bool slice_cut(struct arbiter *a, uint64_t now)
{
	struct arbiter_vgpu *v = a->has;
	uint64_t was = v->until_ns;

	arbiter_page(a, v, now);
	if (!a->untouched || SLICE_LOAD(&v->claim->inside) == was)
		return false;
	arbiter_slice_over(a, now);
	v->state = ARBITER_AWAY; /* or it waits, as its claim will say */
	return true;
}

/* The time at which something has to be done about the slice; 0: it is over. */
static uint64_t slice_step(struct arbiter *a, uint64_t now)
{
	struct arbiter_vgpu *v = a->has;
	uint64_t margin = v->page->idle_ns;

	if (arbiter_returned(v)) {
		slice_returned(a, now);
		return 0;
	}
	if (a->unless_ns && SLICE_LOAD(&v->claim->inside) == v->until_ns) {
		a->unless_ns = 0;
		v->returned_at = 0; /* about as soon as expected */
	}
	if (a->unless_ns && now >= a->unless_ns) {
		slice_not_taken(a, now);
		return 0;
	}
	if (a->unless_ns)
		return a->unless_ns;
	bool alone = a->slices.gpu.policy == SCHED_EQUAL_SHARE && !others_want(a);
	uint64_t ahead = v->until_ns > margin ? v->until_ns - margin : 0;
	if (alone && now >= ahead) {
		slice_go_on(a, now);
		return a->has ? a->has->until_ns - margin : 0;
	}
	if (now >= a->force_ns && !alone) {
		slice_forced(a, now);
		return 0;
	}
	if (now < v->until_ns && slices_preempt(&a->slices, now - a->began_ns) && slice_cut(a, now))
		return 0;
	return alone ? ahead : a->force_ns;
}

/* --- claims --- */

/* What everybody wants now; true: somebody wants or has something. */
static bool claims_read(struct arbiter *a, uint64_t now)
{
	bool any = a->has != NULL;

	for (unsigned i = 0; i < SCHED_VGPUS_MAX; i++) {
		struct arbiter_vgpu *v = &a->vgpus[i];
		if (!v->id || v == a->has)
			continue;
		/* For what it did without a slice nothing that it says now makes up, but its turn.
		 */
		if (v->state == ARBITER_HELD && !v->outside && arbiter_returned(v))
			arbiter_forgive(a, v);
		if (v->state == ARBITER_HELD)
			arbiter_stop(a, v, now);
		else if (!v->absent && (SLICE_LOAD(&v->claim->wants) || now < v->expected_until))
			v->state = ARBITER_WAITS;
		else
			v->state = ARBITER_AWAY;
		if (SLICE_LOAD(&v->claim->wants))
			came_back(v, now);
		slices_want(&a->slices, v->id, v->state != ARBITER_AWAY);
		any |= v->state != ARBITER_AWAY;
	}
	return any;
}

static void police(struct arbiter *a, uint64_t now)
{
	bool late = now > a->next_ns && now - a->next_ns > LATE_NS;

	a->police_at = now + ARBITER_POLICE_NS;
	for (unsigned i = 0; i < SCHED_VGPUS_MAX; i++) {
		struct arbiter_vgpu *v = &a->vgpus[i];
		if (v->id && late) /* they may have gone on without us */
			v->sample.at = 0;
		if (!v->id || v == a->has || v->state == ARBITER_HELD)
			continue;
		if (late)
			arbiter_count(a, v, now);
		else
			arbiter_police(a, v, now);
	}
	if (a->ops->sample)
		a->ops->sample(a->data);
}

static void beat(struct arbiter *a, uint64_t now)
{
	a->beat_at = now + SLICE_BEAT_NS;
	for (unsigned i = 0; i < SCHED_VGPUS_MAX; i++) {
		if (a->vgpus[i].id)
			SLICE_STORE(&a->vgpus[i].page->alive_ns, now);
	}
}

/* --- the step --- */

/* Nothing is asked or told as long as it is so. */
static uint64_t step_open(struct arbiter *a, uint64_t now)
{
	if (a->has)
		arbiter_slice_over(a, now);
	a->open = true;
	for (unsigned i = 0; i < SCHED_VGPUS_MAX; i++) {
		struct arbiter_vgpu *v = &a->vgpus[i];
		if (!v->id)
			continue;
		arbiter_page(a, v, SLICE_OPEN);
		arbiter_forgive(a, v);
	}
	return UINT64_MAX;
}

static bool settled(struct arbiter *a, uint64_t now)
{
	bool all = a->settle_until != ARBITER_SETTLE_LATER;

	for (unsigned i = 0; i < SCHED_VGPUS_MAX && a->settle_until; i++) {
		const struct arbiter_vgpu *v = &a->vgpus[i];
		if (v->id && !v->absent)
			all &= SLICE_LOAD(&v->claim->returned) != 0;
	}
	if (all || now >= a->settle_until)
		a->settle_until = 0;
	return !a->settle_until;
}

/* Nobody has a slice: they were open, and what they are at now is nobody's fault. */
static void step_close(struct arbiter *a, uint64_t now)
{
	a->open = false;
	a->police_at = now + ARBITER_POLICE_NS;
	beat(a, now);
	for (unsigned i = 0; i < SCHED_VGPUS_MAX; i++) {
		struct arbiter_vgpu *v = &a->vgpus[i];
		if (!v->id)
			continue;
		arbiter_count_anew(v);
		arbiter_withdraw(a, v);
	}
}

/* Until somebody has a slice, or nobody may have one now. */
static uint64_t step_turns(struct arbiter *a, uint64_t now)
{
	struct slices_grant grant;

	for (unsigned i = 0; i < TURNS; i++) {
		uint64_t next = a->has ? slice_step(a, now) : 0;
		if (next)
			return next;
		claims_read(a, now);
		if (slices_next(&a->slices, now, &grant) < 0)
			return now + SLICE_BEAT_NS;
		if (!grant.id)
			return grant.wait_ns > UINT64_MAX - now ? UINT64_MAX : now + grant.wait_ns;
		struct arbiter_vgpu *v = (struct arbiter_vgpu *)arbiter_find(a, grant.id);
		arbiter_police(a, v, now);
		slice_begin(a, v, &grant, now);
	}
	return now + AGAIN_NS;
}

uint64_t arbiter_step(struct arbiter *a, uint64_t now)
{
	if (slices_open(&a->slices))
		return step_open(a, now);
	if (!settled(a, now)) {
		step_open(a, now);
		return a->settle_until;
	}
	if (a->open)
		step_close(a, now);
	bool any = claims_read(a, now);
	if (now >= a->police_at && (any || a->slices.gpu.policy == SCHED_FIXED_SHARE))
		police(a, now);
	if (now >= a->beat_at && any)
		beat(a, now);
	uint64_t next = step_turns(a, now);
	if (claims_read(a, now))
		next = MIN(next, MIN(a->beat_at, a->police_at));
	else if (a->slices.gpu.policy == SCHED_FIXED_SHARE)
		next = MIN(next, a->police_at);
	a->next_ns = next;
	return next;
}
