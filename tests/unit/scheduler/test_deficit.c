/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deficit accounting on a simulated node: its kernel divides the CPUs among ready threads, whoever
 * they belong to, as a kernel without groups does.
 */
#include "base/checked.h"
#include "random.h"
#include "scheduler/deficit.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define SECOND_NS (1000ull * SCHED_MS)
#define TICK_NS   (4ull * SCHED_MS)
#define GRAIN_NS  (SCHED_MS / 4ull)
#define GUESTS    8

struct guest {
	struct sched_vgpu params;
	unsigned threads;
	unsigned work;     /* hundredths of a CPU that it has work for; 0: for all it can get */
	uint64_t backlog;  /* ns: of that work, not done yet */
	uint64_t frame_ns; /* 0: as above; else work for a frame, after which its client … */
	uint64_t think_ns; /* … thinks for about so long before it wants the next */
	uint64_t thinks_until;
	uint64_t late_ns; /* how long it runs on when it has to stop */
	uint64_t ordered; /* ns: when it was told to stop; 0: it was not */
	struct deficit_use use;
};

struct node {
	struct deficit deficit;
	struct guest guests[GUESTS];
	unsigned n, cpus;
	uint64_t tick_ns, now, used_ns, seed;
	int64_t clock;
	bool late_is_free; /* what one uses after the order to stop is not charged */
};

static void node_init(struct node *node, enum sched_policy policy, unsigned cpus,
	const struct guest *guests, unsigned n)
{
	const struct sched_gpu gpu = {.policy = policy};

	*node = (struct node){
		.n = n, .cpus = cpus, .seed = 99, .tick_ns = TICK_NS, .now = SECOND_NS};
	assert_int_equal(deficit_init(&node->deficit, &gpu, cpus * 1000, true), 0);
	for (unsigned i = 0; i < n; i++) {
		node->guests[i] = guests[i];
		assert_int_equal(deficit_add(&node->deficit, i + 1, &guests[i].params), 0);
		deficit_used(&node->deficit, i + 1, &node->guests[i].use);
	}
	deficit_settle(&node->deficit, node->now);
}

/* A client that waits for each frame before it asks for the next. */
static void guest_thinks(struct node *node, struct guest *g)
{
	if (g->backlog)
		return;
	uint64_t most = random_in(&node->seed, 1, 10) == 1 ? 10 * g->think_ns : g->think_ns;
	if (!g->thinks_until)
		g->thinks_until = node->now + random_in(&node->seed, most / 2, most);
	if (node->now < g->thinks_until)
		return;
	g->thinks_until = 0;
	g->backlog = g->frame_ns;
}

/* One grain of time of that node: what it wants, ns, and as whom the kernel sees it. */
static uint64_t guest_wants(struct node *node, struct guest *g)
{
	bool stopped = g->ordered && node->now >= g->ordered + g->late_ns;
	uint64_t most = g->threads * GRAIN_NS;

	if (g->frame_ns)
		guest_thinks(node, g);
	else
		g->backlog += random_in(&node->seed, 0, 2 * g->work) * GRAIN_NS / 100;
	if (stopped)
		return 0;
	return g->work || g->frame_ns ? MIN(most, g->backlog) : most;
}

static void node_grain(struct node *node)
{
	uint64_t wants[GUESTS], gets[GUESTS] = {0};
	uint32_t threads[GUESTS];

	for (unsigned i = 0; i < node->n; i++) {
		wants[i] = guest_wants(node, &node->guests[i]);
		threads[i] = node->guests[i].threads;
	}
	sched_divide(node->cpus * GRAIN_NS, threads, wants, node->n, gets);
	for (unsigned i = 0; i < node->n; i++) {
		struct guest *g = &node->guests[i];
		g->use.waited_ns += wants[i] - gets[i];
		g->use.ran_ns += gets[i];
		g->backlog -= MIN(gets[i], g->backlog);
		node->used_ns += gets[i];
	}
	node->now += GRAIN_NS;
}

static void node_tick(struct node *node)
{
	for (uint64_t end = node->now + node->tick_ns; node->now < end;)
		node_grain(node);
	for (unsigned i = 0; i < node->n; i++) {
		struct guest *g = &node->guests[i];
		struct deficit_vgpu *v = &node->deficit.vgpus[i];
		if (node->late_is_free && g->ordered)
			v->last = g->use;
		assert_int_equal(deficit_used(&node->deficit, i + 1, &g->use), 0);
	}
	deficit_settle(&node->deficit, node->now + (uint64_t)node->clock);
	for (unsigned i = 0; i < node->n; i++) {
		struct guest *g = &node->guests[i];
		bool stop = deficit_stop_ns(&node->deficit, i + 1) > 0;
		g->ordered = stop ? (g->ordered ?: node->now) : 0;
	}
}

static void node_run(struct node *node, uint64_t ns)
{
	for (uint64_t end = node->now + ns; node->now < end;)
		node_tick(node);
}

static void assert_part(uint64_t part, uint64_t whole, uint64_t share)
{
	uint64_t due = whole * share / SCHED_WHOLE;

	assert_in_range(part, due * 98 / 100, due * 102 / 100);
}

/* --- shares --- */

static const uint32_t weightings[][GUESTS] = {
	{1, 1, 1, 1, 1, 1, 1, 1}, {100, 200, 300, 400, 100, 200, 300, 400}};

/* All want all they can get, the first with more threads, and slow to stop. */
static void run_shares(enum sched_policy policy, const uint32_t *weights, unsigned n)
{
	struct guest guests[GUESTS] = {0};
	uint64_t sum = 0;
	struct node node;

	for (unsigned i = 0; i < n; i++)
		sum += weights[i];
	for (unsigned i = 0; i < n; i++) {
		guests[i].threads = i ? 2 : 8;
		guests[i].late_ns = i ? 0 : 8 * SCHED_MS;
		guests[i].params.weight = weights[i];
		guests[i].params.share = (uint32_t)((uint64_t)SCHED_WHOLE * weights[i] / sum);
	}
	node_init(&node, policy, 2, guests, n);
	node_run(&node, 30 * SECOND_NS);
	uint64_t all = policy == SCHED_FIXED_SHARE ? 2 * 30 * SECOND_NS : node.used_ns;
	for (unsigned i = 0; i < n; i++)
		assert_part(node.guests[i].use.ran_ns, all, guests[i].params.share);
	assert_true(node.used_ns >= 2 * 30 * SECOND_NS * 98 / 100);
}

static void test_shares(void **state)
{
	for (size_t w = 0; w < ARRAY_SIZE(weightings); w++) {
		for (unsigned n = 2; n <= GUESTS; n *= 2) {
			run_shares(SCHED_EQUAL_SHARE, weightings[w], n);
			run_shares(SCHED_FIXED_SHARE, weightings[w], n);
		}
	}
}

/* The test above would notice: the same without a policy, and with lateness for free. */
static void test_shares_control(void **state)
{
	const struct guest guests[2] = {
		{.params = {1, SCHED_WHOLE / 2}, .threads = 8, .late_ns = 8 * SCHED_MS},
		{.params = {1, SCHED_WHOLE / 2}, .threads = 2}};
	struct node node;

	node_init(&node, SCHED_BEST_EFFORT, 2, guests, 2);
	node_run(&node, 10 * SECOND_NS);
	assert_true(node.guests[0].use.ran_ns > node.used_ns * 7 / 10);
	node_init(&node, SCHED_EQUAL_SHARE, 2, guests, 2);
	node.late_is_free = true;
	node_run(&node, 10 * SECOND_NS);
	assert_true(node.guests[0].use.ran_ns > node.used_ns * 55 / 100);
}

/* What a light one leaves is used, and it gets what it wants. */
static void test_idle_time(void **state)
{
	const struct guest guests[2] = {{.params = {1, SCHED_WHOLE / 2}, .threads = 8},
		{.params = {1, SCHED_WHOLE / 2}, .threads = 1, .work = 20}};
	struct node node;

	node_init(&node, SCHED_EQUAL_SHARE, 2, guests, 2);
	node_run(&node, 30 * SECOND_NS);
	/* What is lost is the rest of a tick in which the light one has caught up. */
	assert_true(node.used_ns >= 2 * 30 * SECOND_NS * 85 / 100);
	assert_part(node.guests[1].use.ran_ns, 30 * SECOND_NS, SCHED_WHOLE / 5);
	node_init(&node, SCHED_FIXED_SHARE, 2, guests, 2);
	node_run(&node, 30 * SECOND_NS);
	assert_true(node.guests[0].use.ran_ns <= 30 * SECOND_NS * 102 / 100);
	assert_true(node.guests[0].use.ran_ns >= 30 * SECOND_NS * 98 / 100);
}

static struct guest blocking(uint32_t weight, uint64_t think_ns)
{
	return (struct guest){.params = {weight, 1},
		.threads = 1,
		.late_ns = SCHED_MS / 2,
		.frame_ns = 4 * SCHED_MS,
		.think_ns = think_ns};
}

/*
 * Clients that wait for each of their frames and think for a moment between them get their shares
 * all the same.
 */
static void run_blocking(const uint32_t *weights, unsigned n, uint64_t think_ns)
{
	struct guest guests[GUESTS] = {0};
	uint64_t sum = 0;
	struct node node;

	for (unsigned i = 0; i < n; i++) {
		sum += weights[i];
		guests[i] = blocking(weights[i], think_ns);
	}
	node_init(&node, SCHED_EQUAL_SHARE, 1, guests, n);
	node.tick_ns = 2 * TICK_NS;
	node_run(&node, 30 * SECOND_NS);
	for (unsigned i = 0; i < n; i++)
		assert_part(node.guests[i].use.ran_ns, node.used_ns,
			(uint64_t)SCHED_WHOLE * weights[i] / sum);
	/* With two, nobody else may run while the one that is owed thinks. */
	assert_true(node.used_ns >= 30 * SECOND_NS * (n > 2 ? 90 : 80) / 100);
}

static void test_blocking_clients(void **state)
{
	static const uint32_t two[] = {300, 100};

	for (uint64_t think_ns = SCHED_MS / 2; think_ns <= 2 * SCHED_MS; think_ns *= 2) {
		for (size_t w = 0; w < ARRAY_SIZE(weightings); w++) {
			run_blocking(weightings[w], 4, think_ns);
			run_blocking(weightings[w], 8, think_ns);
		}
		if (think_ns <= SCHED_MS)
			run_blocking(two, 2, think_ns);
	}
}

/*
 * One whose own pace lets it use less than its part gets the better part of that beside one with
 * more threads, and what it leaves is used: standing still for it costs more than it would gain.
 */
static void test_blocking_by_its_own_pace(void **state)
{
	const struct guest guests[2] = {
		blocking(300, 3 * SCHED_MS), {.params = {100, 1}, .threads = 2}};
	struct node node, alone;

	node_init(&alone, SCHED_EQUAL_SHARE, 1, guests, 1);
	node_run(&alone, 30 * SECOND_NS);
	assert_true(alone.used_ns < 30 * SECOND_NS * 60 / 100);
	node_init(&node, SCHED_EQUAL_SHARE, 1, guests, 2);
	node_run(&node, 30 * SECOND_NS);
	assert_true(node.guests[0].use.ran_ns > alone.used_ns * 60 / 100);
	assert_true(node.used_ns >= 30 * SECOND_NS * 75 / 100);
}

/* Alone nobody stops, however much it used before. */
static void test_alone(void **state)
{
	const struct guest guests[2] = {{.params = {1, SCHED_WHOLE / 2}, .threads = 8},
		{.params = {1, SCHED_WHOLE / 2}, .threads = 2}};
	struct node node;

	node_init(&node, SCHED_EQUAL_SHARE, 2, guests, 2);
	node_run(&node, SECOND_NS);
	deficit_remove(&node.deficit, 2);
	node.n = 1;
	node_tick(&node);
	for (int i = 0; i < 100; i++) {
		assert_int_equal(deficit_stop_ns(&node.deficit, 1), 0);
		node_tick(&node);
	}
	assert_int_equal(deficit_stop_ns(&node.deficit, 2), 0);
	assert_int_equal(deficit_used(&node.deficit, 2, &node.guests[1].use), -ENOENT);
}

static void test_errors(void **state)
{
	struct deficit d;
	const struct sched_gpu gpu = {SCHED_FIXED_SHARE, 0}, bad = {SCHED_FIXED_SHARE, 31};
	const struct sched_vgpu params = {1, 1}, no_weight = {0, 1};

	assert_int_equal(deficit_init(&d, &bad, 1000, true), -EINVAL);
	assert_int_equal(deficit_init(&d, &gpu, 0, true), -EINVAL);
	assert_int_equal(deficit_init(&d, &gpu, 1000, true), 0);
	assert_int_equal(deficit_add(&d, 0, &params), -EINVAL);
	assert_int_equal(deficit_add(&d, 1, &no_weight), -EINVAL);
	assert_int_equal(deficit_add(&d, 1, &params), 0);
	assert_int_equal(deficit_add(&d, 1, &params), -EEXIST);
	for (uint32_t i = 2; i <= SCHED_VGPUS_MAX; i++)
		assert_int_equal(deficit_add(&d, i, &params), 0);
	assert_int_equal(deficit_add(&d, 999, &params), -ENOSPC);
	assert_int_equal(deficit_used(&d, 0, &(struct deficit_use){0}), -ENOENT);
	deficit_remove(&d, 0);
	deficit_remove(&d, 999);
}

/* A new process' counters begin at 0, and what they say is charged; so is any nonsense. */
static void test_counters_go_back(void **state)
{
	struct deficit d;
	const struct sched_vgpu params = {1, SCHED_WHOLE};

	deficit_init(&d, &(struct sched_gpu){SCHED_FIXED_SHARE, 0}, 1000, true);
	deficit_add(&d, 1, &params);
	deficit_settle(&d, 0);
	deficit_used(&d, 1, &(struct deficit_use){SECOND_NS, 0});
	deficit_used(&d, 1, &(struct deficit_use){5 * SCHED_MS, 0});
	deficit_settle(&d, 2 * SCHED_MS);
	assert_int_equal(deficit_stop_ns(&d, 1), 3 * SCHED_MS);
	deficit_used(&d, 1, &(struct deficit_use){UINT64_MAX, UINT64_MAX});
	deficit_used(&d, 1, &(struct deficit_use){0, UINT64_MAX});
	deficit_settle(&d, 3 * SCHED_MS);
	assert_int_equal(deficit_stop_ns(&d, 1), DEFICIT_STOP_MAX_NS);
}

/* A burst that was seen late is not made up for by standing still for long. */
static void test_a_stall_is_bounded(void **state)
{
	struct deficit d;
	const struct sched_vgpu params = {1, SCHED_WHOLE / 8};
	struct deficit_use use = {0};
	uint64_t now = 0;

	deficit_init(&d, &(struct sched_gpu){SCHED_FIXED_SHARE, 0}, 2000, true);
	deficit_add(&d, 1, &params);
	deficit_used(&d, 1, &use);
	deficit_settle(&d, now);
	use.ran_ns += SECOND_NS; /* with two CPUs, in half a second */
	now += SECOND_NS / 2;
	deficit_used(&d, 1, &use);
	deficit_settle(&d, now);
	assert_int_equal(deficit_stop_ns(&d, 1), DEFICIT_STOP_MAX_NS);
	for (uint64_t end = now + (uint64_t)DEFICIT_STALL_NS; now < end; now += TICK_NS) {
		assert_true(deficit_stop_ns(&d, 1) > 0);
		deficit_used(&d, 1, &use);
		deficit_settle(&d, now + TICK_NS);
	}
	assert_int_equal(deficit_stop_ns(&d, 1), 0);
}

/* Where another one enforces: the same accounts, and nobody is told to stop. */
static void test_accounts_only(void **state)
{
	const struct sched_gpu gpu = {SCHED_EQUAL_SHARE, 0};
	const struct sched_vgpu heavy = {3, 1}, light = {1, 1};
	struct deficit_use a = {0}, b = {0};
	struct deficit d;

	deficit_init(&d, &gpu, 1000, false);
	deficit_add(&d, 1, &heavy);
	deficit_add(&d, 2, &light);
	for (uint64_t now = 0; now <= 4; now++) {
		assert_int_equal(deficit_used(&d, 1, &a), 0);
		assert_int_equal(deficit_used(&d, 2, &b), 0);
		deficit_settle(&d, now * 250 * SCHED_MS);
		a.ran_ns += 180 * SCHED_MS;
		a.waited_ns += 20 * SCHED_MS;
		b.ran_ns += 70 * SCHED_MS;
		b.waited_ns += 180 * SCHED_MS;
		assert_int_equal(deficit_stop_ns(&d, 1) + deficit_stop_ns(&d, 2), 0);
	}
	assert_in_range(deficit_balance_ns(&d, 1), 4 * 7499000, 4 * 7500000);
	assert_in_range(-deficit_balance_ns(&d, 2), 4 * 7499000, 4 * 7500000);
	assert_int_equal(deficit_balance_ns(&d, 3), 0);
}

/* --- random schedules --- */

static void run_random(uint64_t seed)
{
	enum sched_policy policy = seed & 1 ? SCHED_EQUAL_SHARE : SCHED_FIXED_SHARE;
	unsigned n = (unsigned)random_in(&seed, 1, GUESTS);
	struct guest guests[GUESTS] = {0};
	struct node node;

	for (unsigned i = 0; i < n; i++) {
		guests[i].params.weight = (uint32_t)random_in(&seed, 1, 10);
		guests[i].params.share = (uint32_t)random_in(&seed, 20000, SCHED_WHOLE / n);
		guests[i].threads = (unsigned)random_in(&seed, 1, 6);
		guests[i].work = (unsigned)random_in(&seed, 0, 1) * 30;
		guests[i].late_ns = random_in(&seed, 0, 3) * SCHED_MS;
	}
	node_init(&node, policy, 2, guests, n);
	node.seed = seed;
	for (unsigned tick = 0; tick < 250; tick++) {
		unsigned stopped = 0;
		if (random_in(&node.seed, 0, 49) == 0)
			node.clock = (int64_t)random_in(&node.seed, 0, 100) * (int64_t)SCHED_MS;
		node_tick(&node);
		for (unsigned i = 0; i < n; i++) {
			assert_true(deficit_stop_ns(&node.deficit, i + 1) <= DEFICIT_STOP_MAX_NS);
			stopped += deficit_stop_ns(&node.deficit, i + 1) > 0;
		}
		if (policy == SCHED_EQUAL_SHARE)
			assert_true(stopped < n);
	}
	for (unsigned i = 0; i < n; i++) /* nobody starves */
		assert_true(node.guests[i].use.ran_ns > 0);
}

static void test_random_schedules(void **state)
{
	for (uint64_t seed = 1; seed <= 2000; seed++)
		run_random(seed * 0x9e3779b97f4a7c15u);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shares),
		cmocka_unit_test(test_shares_control),
		cmocka_unit_test(test_idle_time),
		cmocka_unit_test(test_blocking_clients),
		cmocka_unit_test(test_blocking_by_its_own_pace),
		cmocka_unit_test(test_alone),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_counters_go_back),
		cmocka_unit_test(test_a_stall_is_bounded),
		cmocka_unit_test(test_accounts_only),
		cmocka_unit_test(test_random_schedules),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
