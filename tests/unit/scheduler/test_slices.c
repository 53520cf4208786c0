/* SPDX-License-Identifier: Apache-2.0 */
/* Time slices on a simulated clock. */
#include "base/checked.h"
#include "random.h"
#include "scheduler/slices.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define SECOND_NS (1000ull * SCHED_MS)

/* What one vGPU's guest does. */
struct guest {
	struct sched_vgpu params;
	unsigned overstays;  /* it uses up to so many hundredths of its slice */
	uint64_t thinks_ns;  /* after a slice it wants nothing for up to so long */
	uint64_t back_at;    /* ns: until then */
	uint64_t used_ns;    /* of the GPU so far */
	uint64_t wants_from; /* since its last turn, or since it wants */
	uint64_t waited_ns;  /* the longest */
};

struct node {
	struct slices slices;
	struct guest guests[SCHED_VGPUS_MAX];
	unsigned n;
	uint64_t now, idle_ns, seed;
	int64_t clock; /* what the clock says beyond `now` */
	bool overrun_is_free;
};

static void node_init(
	struct node *node, enum sched_policy policy, const struct guest *guests, unsigned n)
{
	const struct sched_gpu gpu = {.policy = policy};

	*node = (struct node){.n = n, .seed = 4711 + n, .clock = 3600 * (int64_t)SECOND_NS};
	assert_int_equal(slices_init(&node->slices, &gpu), 0);
	for (unsigned i = 0; i < n; i++) {
		node->guests[i] = guests[i];
		assert_int_equal(slices_add(&node->slices, i + 1, &guests[i].params), 0);
	}
}

static void node_wants(struct node *node)
{
	for (unsigned i = 0; i < node->n; i++) {
		struct guest *g = &node->guests[i];
		bool wants = g->back_at <= node->now;
		if (wants && !node->slices.vgpus[i].wants)
			g->wants_from = node->now;
		slices_want(&node->slices, i + 1, wants);
	}
}

/* Nobody has a turn: on to the next thing that happens. */
static void node_idle(struct node *node, uint64_t wait_ns)
{
	uint64_t next = wait_ns == UINT64_MAX ? UINT64_MAX : node->now + MAX(wait_ns, 1000u);

	for (unsigned i = 0; i < node->n; i++) {
		if (node->guests[i].back_at > node->now)
			next = MIN(next, node->guests[i].back_at);
	}
	assert_true(next != UINT64_MAX);
	node->idle_ns += next - node->now;
	node->now = next;
}

static void node_turn(struct node *node, const struct slices_grant *grant)
{
	struct guest *g = &node->guests[grant->id - 1];
	uint64_t most = g->overstays > 100 ? g->overstays : 100;
	uint64_t least = g->overstays > 100 ? 100 : 60;
	uint64_t used = grant->length_ns * random_in(&node->seed, least, most) / 100;

	used = MIN(used, grant->force_ns + 10 * SCHED_MS); /* a draw that cannot be stopped */
	g->waited_ns = MAX(g->waited_ns, node->now - g->wants_from);
	node->now += used;
	g->used_ns += used;
	g->wants_from = node->now;
	if (g->thinks_ns)
		g->back_at = node->now + random_in(&node->seed, 0, g->thinks_ns);
	uint64_t charged = node->overrun_is_free ? MIN(used, grant->length_ns) : used;
	assert_int_equal(slices_end(&node->slices, grant->id, charged), 0);
}

static void node_step(struct node *node)
{
	struct slices_grant grant;

	node_wants(node);
	assert_int_equal(slices_next(&node->slices, node->now + (uint64_t)node->clock, &grant), 0);
	if (grant.id)
		node_turn(node, &grant);
	else
		node_idle(node, grant.wait_ns);
}

static void node_run(struct node *node, uint64_t ns)
{
	uint64_t end = node->now + ns;

	while (node->now < end)
		node_step(node);
}

/* Within 2 % of what it is entitled to, of all the time. */
static void assert_share(const struct node *node, unsigned i, uint64_t share)
{
	uint64_t due = node->now * share / SCHED_WHOLE;

	assert_in_range(node->guests[i].used_ns, due * 98 / 100, due * 102 / 100);
}

/* --- shares --- */

static const uint32_t weightings[][8] = {{1, 1, 1, 1, 1, 1, 1, 1},
	{100, 200, 300, 400, 100, 200, 300, 400}, {10000, 1000, 500, 2000, 700, 900, 800, 600}};

static void run_shares(enum sched_policy policy, const uint32_t *weights, unsigned n,
	unsigned cheat, uint64_t thinks_ns)
{
	struct guest guests[8] = {0};
	uint32_t shares[8];
	struct node node;
	uint64_t sum = 0;

	for (unsigned i = 0; i < n; i++)
		sum += weights[i];
	for (unsigned i = 0; i < n; i++) {
		shares[i] = (uint32_t)((uint64_t)SCHED_WHOLE * weights[i] / sum);
		guests[i].params = (struct sched_vgpu){weights[i], shares[i]};
	}
	guests[0].overstays = cheat;
	guests[0].thinks_ns = thinks_ns;
	node_init(&node, policy, guests, n);
	node_run(&node, 30 * SECOND_NS);
	if (thinks_ns) /* it wants less than it might have, and may not get more */
		assert_true(
			node.guests[0].used_ns <= node.now * shares[0] / SCHED_WHOLE * 102 / 100);
	for (unsigned i = thinks_ns ? 1 : 0; i < n && (policy == SCHED_FIXED_SHARE || !thinks_ns);
		i++)
		assert_share(&node, i, shares[i]);
}

static void each_share(enum sched_policy policy, unsigned cheat, uint64_t thinks_ns)
{
	for (size_t w = 0; w < ARRAY_SIZE(weightings); w++) {
		for (unsigned n = 2; n <= 8; n *= 2)
			run_shares(policy, weightings[w], n, cheat, thinks_ns);
	}
}

static void test_equal_shares(void **state)
{
	each_share(SCHED_EQUAL_SHARE, 0, 0);
}

static void test_fixed_shares(void **state)
{
	each_share(SCHED_FIXED_SHARE, 0, 0);
}

/* Who overstays every slice, threefold, has what it is entitled to, and so have the others. */
static void test_cheat(void **state)
{
	each_share(SCHED_EQUAL_SHARE, 300, 0);
	each_share(SCHED_FIXED_SHARE, 300, 0);
}

/* Nor does it help to go away after having overstayed. */
static void test_cheat_that_hides(void **state)
{
	each_share(SCHED_EQUAL_SHARE, 300, 3 * SCHED_MS);
}

/* The test above would notice: an overrun that is not charged is a gain. */
static void test_cheat_control(void **state)
{
	const struct guest guests[2] = {{.params = {1, SCHED_WHOLE / 2}, .overstays = 300},
		{.params = {1, SCHED_WHOLE / 2}}};
	struct node node;

	node_init(&node, SCHED_EQUAL_SHARE, guests, 2);
	node.overrun_is_free = true;
	node_run(&node, 30 * SECOND_NS);
	assert_true(node.guests[0].used_ns > node.now * 6 / 10);
}

static void test_slice_shrinks(void **state)
{
	struct slices s;
	struct slices_grant grant;

	slices_init(&s, &(struct sched_gpu){SCHED_EQUAL_SHARE, 10});
	slices_add(&s, 1, &(struct sched_vgpu){1, 1});
	slices_want(&s, 1, true);
	assert_int_equal(slices_next(&s, 0, &grant), 0);
	assert_int_equal(grant.length_ns, 10 * SCHED_MS);
	assert_int_equal(grant.force_ns, 10 * SCHED_MS + SLICES_GRACE_NS);
	assert_int_equal(slices_end(&s, 1, 13 * SCHED_MS), 0);
	slices_next(&s, 0, &grant);
	assert_int_equal(grant.length_ns, 7 * SCHED_MS);
	slices_end(&s, 1, 7 * SCHED_MS);
	slices_next(&s, 0, &grant);
	assert_int_equal(grant.length_ns, 10 * SCHED_MS);
	slices_end(&s, 1, 60 * SCHED_MS);
	slices_next(&s, 0, &grant);
	assert_int_equal(grant.length_ns, SCHED_SLICE_MIN_MS * SCHED_MS);
}

/* --- the rules --- */

static void test_open(void **state)
{
	struct slices s;
	const struct sched_vgpu params = {1, SCHED_WHOLE / 2};

	for (enum sched_policy policy = 0; policy < SCHED_POLICY_COUNT; policy++) {
		slices_init(&s, &(struct sched_gpu){policy, 0});
		slices_add(&s, 1, &params);
		assert_int_equal(slices_open(&s), policy != SCHED_FIXED_SHARE);
		slices_add(&s, 2, &params);
		assert_int_equal(slices_open(&s), policy == SCHED_BEST_EFFORT);
		slices_remove(&s, 1);
		assert_int_equal(slices_open(&s), policy != SCHED_FIXED_SHARE);
	}
}

static void test_errors(void **state)
{
	struct slices s;
	struct slices_grant grant;
	const struct sched_vgpu params = {1, 1}, no_weight = {0, 1};

	assert_int_equal(slices_init(&s, &(struct sched_gpu){SCHED_EQUAL_SHARE, 31}), -EINVAL);
	assert_int_equal(slices_init(&s, &(struct sched_gpu){SCHED_EQUAL_SHARE, 30}), 0);
	assert_int_equal(slices_add(&s, 1, &no_weight), -EINVAL);
	assert_int_equal(slices_add(&s, 0, &params), -EINVAL);
	for (uint32_t i = 1; i <= SCHED_VGPUS_MAX; i++)
		assert_int_equal(slices_add(&s, i, &params), 0);
	assert_int_equal(slices_add(&s, 1, &params), -EEXIST);
	assert_int_equal(slices_add(&s, 999, &params), -ENOSPC);
	assert_int_equal(slices_want(&s, 999, true), -ENOENT);
	assert_int_equal(slices_next(&s, 0, &grant), 0);
	assert_int_equal(grant.id, 0);
	assert_true(grant.wait_ns == UINT64_MAX);
	assert_int_equal(slices_end(&s, 1, 0), -ENOENT);
}

static void test_deleted_in_its_slice(void **state)
{
	struct slices s;
	struct slices_grant grant;
	const struct sched_vgpu params = {1, SCHED_WHOLE / 2};

	slices_init(&s, &(struct sched_gpu){SCHED_EQUAL_SHARE, 0});
	slices_add(&s, 1, &params);
	slices_add(&s, 2, &params);
	slices_want(&s, 1, true);
	slices_want(&s, 2, true);
	assert_int_equal(slices_next(&s, 0, &grant), 0);
	uint32_t first = grant.id;
	assert_int_equal(slices_next(&s, 1, &grant), -EBUSY);
	slices_remove(&s, first);
	assert_int_equal(slices_end(&s, first, SCHED_MS), -ENOENT);
	assert_int_equal(slices_next(&s, 2, &grant), 0);
	assert_int_equal(grant.id, 3 - first);
	/* Another one of that id starts with nothing to pay for. */
	assert_int_equal(slices_add(&s, first, &params), 0);
	slices_want(&s, first, true);
	assert_int_equal(slices_end(&s, 3 - first, 2 * SCHED_MS), 0);
	assert_int_equal(slices_next(&s, 3, &grant), 0);
	assert_int_equal(grant.id, first);
}

/* Idle time is given on, except in fixed-share. */
static void test_idle_time(void **state)
{
	const struct guest guests[2] = {{.params = {1, SCHED_WHOLE / 2}},
		{.params = {1, SCHED_WHOLE / 2}, .back_at = UINT64_MAX - 1}};
	struct node node;

	node_init(&node, SCHED_EQUAL_SHARE, guests, 2);
	node_run(&node, 10 * SECOND_NS);
	assert_int_equal(node.idle_ns, 0);
	node_init(&node, SCHED_FIXED_SHARE, guests, 2);
	node_run(&node, 10 * SECOND_NS);
	assert_share(&node, 0, SCHED_WHOLE / 2);
}

/* No more than 10 ms that were not wanted are saved up: who was away for long locks nobody out. */
static void test_nothing_saved(void **state)
{
	const struct guest guests[2] = {{.params = {1, SCHED_WHOLE / 2}},
		{.params = {1, SCHED_WHOLE / 2}, .back_at = 10 * SECOND_NS}};
	struct node node;

	node_init(&node, SCHED_EQUAL_SHARE, guests, 2);
	node_run(&node, 11 * SECOND_NS);
	assert_true(node.guests[0].waited_ns <= 14 * SCHED_MS);
	assert_in_range(node.guests[1].used_ns, 480 * SCHED_MS, 520 * SCHED_MS);
}

/* What it took outside of its slices lets others go first, and shortens its own. */
static void test_charged_outside(void **state)
{
	struct slices s;
	struct slices_grant grant;

	slices_init(&s, &(struct sched_gpu){SCHED_EQUAL_SHARE, 10});
	for (uint32_t id = 1; id <= 2; id++) {
		slices_add(&s, id, &(struct sched_vgpu){1, 1});
		slices_want(&s, id, true);
	}
	assert_int_equal(slices_charge(&s, 1, 15 * SCHED_MS), 0);
	assert_int_equal(slices_charge(&s, 3, 1), -ENOENT);
	for (unsigned i = 0; i < 2; i++) {
		slices_next(&s, 0, &grant);
		assert_int_equal(grant.id, 2);
		slices_end(&s, 2, 10 * SCHED_MS);
	}
	slices_next(&s, 0, &grant);
	assert_int_equal(grant.id, 1);
	assert_int_equal(grant.length_ns, SCHED_SLICE_MIN_MS * SCHED_MS);
}

/* Who is behind and comes back does not wait for the end of another's slice; nobody else ends it.
 */
static void test_preempt(void **state)
{
	struct slices s;
	struct slices_grant grant;

	slices_init(&s, &(struct sched_gpu){SCHED_EQUAL_SHARE, 2});
	slices_add(&s, 1, &(struct sched_vgpu){300, 1});
	slices_add(&s, 2, &(struct sched_vgpu){100, 1});
	slices_want(&s, 2, true);
	for (unsigned i = 0; i < 50; i++) {
		slices_next(&s, 0, &grant);
		slices_end(&s, 2, grant.length_ns);
	}
	slices_next(&s, 0, &grant);
	assert_false(slices_preempt(&s, grant.length_ns));
	slices_want(&s, 1, true);
	assert_true(slices_preempt(&s, 0));
	slices_end(&s, 2, SCHED_MS);
	slices_next(&s, 0, &grant);
	assert_int_equal(grant.id, 1);
	assert_false(slices_preempt(&s, grant.length_ns));
}

static void test_other_params(void **state)
{
	struct slices s;
	struct slices_grant grant;

	slices_init(&s, &(struct sched_gpu){SCHED_EQUAL_SHARE, 10});
	slices_add(&s, 1, &(struct sched_vgpu){100, 1});
	assert_int_equal(slices_set_params(&s, 1, &(struct sched_vgpu){0, 1}), -EINVAL);
	assert_int_equal(slices_set_params(&s, 2, &(struct sched_vgpu){1, 1}), -ENOENT);
	assert_int_equal(slices_set_params(&s, 1, &(struct sched_vgpu){200, 1}), 0);
	slices_want(&s, 1, true);
	slices_next(&s, 0, &grant);
	slices_end(&s, 1, 10 * SCHED_MS);
	assert_int_equal(s.vgpus[0].count, 10ull * SCHED_MS * SCHED_WEIGHT_MAX / 200);
}

/* --- random schedules --- */

static void change_something(struct node *node)
{
	uint32_t id = (uint32_t)random_in(&node->seed, 1, node->n);
	struct guest *g = &node->guests[id - 1];

	switch (random_in(&node->seed, 0, 2)) {
	case 0: /* deleted, and created anew */
		slices_remove(&node->slices, id);
		assert_int_equal(slices_add(&node->slices, id, &g->params), 0);
		g->wants_from = node->now;
		break;
	case 1: /* the clock steps */
		node->clock = (int64_t)random_in(&node->seed, 3600, 7200) * (int64_t)SECOND_NS;
		break;
	default:
		g->back_at = node->now + random_in(&node->seed, 0, 200) * SCHED_MS;
	}
}

static void run_random(uint64_t seed)
{
	enum sched_policy policy = seed & 1 ? SCHED_EQUAL_SHARE : SCHED_FIXED_SHARE;
	unsigned n = (unsigned)random_in(&seed, 1, 12);
	struct guest guests[12] = {0};
	struct node node;

	for (unsigned i = 0; i < n; i++) {
		guests[i].params.weight = 1;
		guests[i].params.share = (uint32_t)random_in(&seed, 20000, SCHED_WHOLE / n);
		guests[i].overstays = (unsigned)random_in(&seed, 0, 2) * 150;
		guests[i].thinks_ns = random_in(&seed, 0, 1) * random_in(&seed, 0, 20) * SCHED_MS;
	}
	node_init(&node, policy, guests, n);
	node.seed = seed;
	unsigned changes = 0;
	for (uint64_t next = 0; node.now < SECOND_NS;) {
		if (node.now >= next) {
			change_something(&node);
			changes++;
			next = node.now + random_in(&node.seed, 20, 200) * SCHED_MS;
		}
		uint64_t idle = node.idle_ns;
		node_wants(&node);
		bool wanted = false;
		for (unsigned i = 0; i < n; i++)
			wanted |= node.slices.vgpus[i].wants;
		node_step(&node);
		if (policy == SCHED_EQUAL_SHARE && wanted)
			assert_int_equal(node.idle_ns, idle);
	}
	for (unsigned i = 0; i < n; i++) {
		uint64_t most = node.now * guests[i].params.share / SCHED_WHOLE;
		/* A step of the clock on is at most one second; each is one change. */
		most += (changes * SCHED_STEP_MAX_NS * guests[i].params.share) / SCHED_WHOLE;
		if (policy == SCHED_FIXED_SHARE)
			assert_true(node.guests[i].used_ns <= most + SLICES_SAVED_NS);
		/* Each of the others may have a slice, an overrun and one more before it. */
		else
			assert_true(node.guests[i].waited_ns <= n * 30 * SCHED_MS);
	}
}

static void test_random_schedules(void **state)
{
	for (uint64_t seed = 1; seed <= 3000; seed++)
		run_random(seed * 0x9e3779b97f4a7c15u);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_equal_shares),
		cmocka_unit_test(test_fixed_shares),
		cmocka_unit_test(test_cheat),
		cmocka_unit_test(test_cheat_that_hides),
		cmocka_unit_test(test_cheat_control),
		cmocka_unit_test(test_slice_shrinks),
		cmocka_unit_test(test_open),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_deleted_in_its_slice),
		cmocka_unit_test(test_idle_time),
		cmocka_unit_test(test_nothing_saved),
		cmocka_unit_test(test_charged_outside),
		cmocka_unit_test(test_preempt),
		cmocka_unit_test(test_other_params),
		cmocka_unit_test(test_random_schedules),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
