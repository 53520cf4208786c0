/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arbiter of time slices on a simulated clock, beside simulated device processes: honest ones,
 * as process/gate.c is, and others.
 */
#include "base/checked.h"
#include "control/arbiter.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define MS    1000000ull
#define US    1000ull
#define TICK  (20 * US)
#define VGPUS 8
#define START (3600 * 1000 * MS)
static const struct sched_gpu equal = {.policy = SCHED_EQUAL_SHARE};
static const struct sched_vgpu half = {100, SCHED_WHOLE / 2};

enum manners {
	HONEST,
	IGNORES,  /* its slices: never returns one, works whenever it is not stopped */
	FORESEES, /* the same, and says beforehand that it returned what it will be told it has */
	HOSTILE,  /* writes whatever to its claim, all the time */
};

struct process {
	struct slice_page page;
	struct slice_claim claim;
	enum manners manners;
	uint64_t piece_ns, think_ns; /* one submission; between two of them */
	uint64_t left_ns;            /* of the one under way */
	uint64_t thinks_until, idle_since, inside, held_until;
	bool waits;
	unsigned sometimes; /* it thinks for 8 ms once in about so many pieces; 0: never */
	uint64_t slow_ns,
		wakes_at;         /* it wakes up so late, and thinks for longer; will have, then */
	uint64_t ran_ns, stopped; /* in all; times it was stopped */
};

struct node {
	struct arbiter arbiter;
	struct process processes[VGPUS];
	unsigned n;
	uint64_t now, next, steps, random;
	bool woken, blind; /* blind: what is used cannot be told … */
	bool later;        /* … at once, but a moment later */
	uint64_t asked_at; /* 0: nobody asked */
};

/* --- what the arbiter asks for --- */

static void node_wake(void *data, struct slice_page *page)
{
	struct node *node = data;

	for (unsigned i = 0; i < node->n; i++) {
		struct process *p = &node->processes[i];
		if (&p->page == page)
			p->wakes_at = node->now + p->slow_ns;
	}
}

static void node_hold(void *data, uint32_t id, uint64_t ns)
{
	struct node *node = data;
	struct process *p = &node->processes[id - 1];

	assert_in_range(id, 1, node->n);
	assert_true(ns <= 50 * MS);
	p->stopped += ns != 0 && p->held_until <= node->now;
	p->held_until = ns ? node->now + ns : 0;
}

static bool node_used(void *data, uint32_t id, uint64_t *ret_ns)
{
	const struct node *node = data;

	*ret_ns = node->processes[id - 1].ran_ns;
	return !node->blind;
}

static void node_sample(void *data)
{
	struct node *node = data;

	node->asked_at = node->later ? node->now : 0;
}

static const struct arbiter_ops ops = {
	.wake = node_wake, .hold = node_hold, .used = node_used, .sample = node_sample};

/* --- processes --- */

static void process_tell(struct node *node, struct process *p, bool wants)
{
	p->claim.wants = wants;
	p->claim.returned = p->page.until_ns;
	p->inside = 0;
	p->waits = wants;
	node->woken = true;
}

static bool process_may(struct node *node, struct process *p)
{
	uint64_t until = p->page.until_ns;

	if (until != SLICE_OPEN && (node->now >= until || until == p->claim.returned))
		return false;
	p->inside = until == SLICE_OPEN ? 0 : until;
	p->claim.inside = p->inside;
	if (p->waits)
		p->claim.wants = 0;
	p->waits = false;
	return true;
}

static void process_honest(struct node *node, struct process *p)
{
	bool thinks = p->thinks_until > node->now;

	if (p->left_ns || !p->piece_ns)
		return;
	if (thinks && p->inside &&
		(node->now >= p->page.until_ns || node->now - p->idle_since >= p->page.idle_ns))
		process_tell(node, p, false);
	if (thinks || (p->waits && node->now < p->wakes_at))
		return;
	if (process_may(node, p))
		p->left_ns = p->piece_ns;
	else if (!p->waits)
		process_tell(node, p, true);
}

static uint64_t node_random(struct node *node)
{
	node->random = node->random * 6364136223846793005ull + 1442695040888963407ull;
	return node->random >> 33;
}

static void process_tick(struct node *node, struct process *p)
{
	if (node->now < p->held_until)
		return;
	if ((p->manners == IGNORES || p->manners == FORESEES) && !p->left_ns)
		p->left_ns = p->piece_ns;
	if (p->manners == FORESEES)
		p->claim.returned = node->arbiter.vgpus[p - node->processes].withdrawn + 1;
	if (p->manners == HONEST)
		process_honest(node, p);
	if (!p->left_ns)
		return;
	p->left_ns -= MIN(p->left_ns, TICK);
	p->ran_ns += TICK;
	if (!p->left_ns) {
		p->idle_since = node->now;
		p->thinks_until = node->now + (p->think_ns ? p->think_ns + TICK : 0);
		p->thinks_until += p->slow_ns * (node_random(node) % 8);
		if (p->sometimes && node_random(node) % p->sometimes == 0)
			p->thinks_until = node->now + 8 * MS;
	}
}

/* Says anything at any moment, and works when it may, to be found out. */
static void process_hostile(struct node *node, struct process *p)
{
	uint64_t r = node_random(node);

	p->claim.wants = (uint32_t)r;
	p->claim.inside = r % 3 ? p->page.until_ns : r;
	p->claim.returned = r % 2 ? p->page.until_ns : r % 5 ? UINT64_MAX : r;
	node->woken = true;
	p->left_ns = node->now < p->page.until_ns ? TICK : 0;
}

/* --- the node --- */

static void node_begin(struct node *node, struct sched_gpu gpu)
{
	*node = (struct node){.now = START, .random = 4711};
	assert_int_equal(arbiter_init(&node->arbiter, &gpu, &ops, node), 0);
}

static struct process *node_add(struct node *node, struct sched_vgpu params, uint64_t piece_ns)
{
	struct process *p = &node->processes[node->n++];

	*p = (struct process){.piece_ns = piece_ns};
	assert_int_equal(arbiter_add(&node->arbiter, node->n, &params, &p->page, &p->claim), 0);
	node->woken = true;
	return p;
}

static void node_run(struct node *node, uint64_t ns)
{
	uint64_t end = node->now + ns;

	for (; node->now < end; node->now += TICK) {
		for (unsigned i = 0; i < node->n; i++) {
			if (node->processes[i].manners == HOSTILE)
				process_hostile(node, &node->processes[i]);
			process_tick(node, &node->processes[i]);
		}
		if (node->asked_at && node->now > node->asked_at + 60 * US) {
			for (unsigned i = 0; i < node->n; i++)
				arbiter_sampled(&node->arbiter, i + 1, node->processes[i].ran_ns,
					node->now);
			node->asked_at = 0;
		}
		if (!node->woken && node->now < node->next)
			continue;
		node->woken = false;
		node->next = arbiter_step(&node->arbiter, node->now);
		node->steps++;
		assert_true(node->next > node->now);
	}
}

static void node_forget(struct node *node)
{
	for (unsigned i = 0; i < node->n; i++)
		node->processes[i].ran_ns = 0;
}

/* Hundredths of all that was used. */
static uint64_t percent(const struct node *node, unsigned i)
{
	uint64_t sum = 0;

	for (unsigned j = 0; j < node->n; j++)
		sum += node->processes[j].ran_ns;
	return node->processes[i].ran_ns * 100 / MAX(sum, 1u);
}

/* --- shares --- */

static void test_alone_is_open(void **state)
{
	struct node node;

	node_begin(&node, equal);
	struct process *p = node_add(&node, half, MS);
	node_run(&node, 100 * MS);
	assert_true(p->page.until_ns == SLICE_OPEN);
	assert_true(node.next == UINT64_MAX);
	assert_in_range(p->ran_ns, 99 * MS, 100 * MS);
	assert_in_range(node.steps, 1, 2);
	/* Another one comes, and goes. */
	node_add(&node, half, MS);
	node_run(&node, 100 * MS);
	assert_true(p->page.until_ns != SLICE_OPEN);
	arbiter_remove(&node.arbiter, 2);
	node.woken = true;
	node_run(&node, 10 * MS);
	assert_true(p->page.until_ns == SLICE_OPEN);
	assert_true(node.processes[1].page.until_ns == SLICE_OPEN);
	/* And once more: nobody is left over from before. */
	node.n = 1;
	node_add(&node, half, MS);
	node_forget(&node);
	node_run(&node, 1000 * MS);
	assert_in_range(percent(&node, 0), 49, 51);
}

static void test_equal(void **state)
{
	static const uint64_t pieces[] = {200 * US, 900 * US, 2300 * US, 5000 * US};

	for (unsigned i = 0; i < ARRAY_SIZE(pieces); i++) {
		struct node node;
		node_begin(&node, equal);
		node_add(&node, half, 500 * US);
		node_add(&node, half, pieces[i]);
		node_run(&node, 4000 * MS);
		assert_in_range(percent(&node, 0), 49, 51);
		/* Little is lost, and nobody who behaves is stopped. */
		assert_true(node.processes[0].ran_ns + node.processes[1].ran_ns > 3800 * MS);
		assert_int_equal(node.processes[0].stopped + node.processes[1].stopped, 0);
	}
}

/*
 * They are at work already when pages are made for them, and one is late to take them up: nobody is
 * stopped for that, and nobody waits.
 */
static void test_settling(void **state)
{
	struct node node;

	node_begin(&node, equal);
	arbiter_settle(&node.arbiter, ARBITER_SETTLE_LATER);
	for (unsigned i = 0; i < 3; i++)
		node_add(&node, half, 500 * US)->claim.returned = i < 2;
	node_run(&node, 2 * ARBITER_SETTLE_NS);
	for (unsigned i = 0; i < 3; i++)
		assert_true(node.processes[i].page.until_ns == SLICE_OPEN);
	arbiter_settle(&node.arbiter, node.now + ARBITER_SETTLE_NS);
	node.woken = true;
	node_run(&node, 50 * MS);
	assert_true(node.processes[0].page.until_ns == SLICE_OPEN);
	node.processes[2].claim.returned = 1;
	node.woken = true;
	node_run(&node, MS);
	for (unsigned i = 0; i < 3; i++)
		assert_true(node.processes[i].page.until_ns != SLICE_OPEN);
	node_forget(&node);
	node_run(&node, 3000 * MS);
	for (unsigned i = 0; i < 3; i++) {
		assert_in_range(percent(&node, i), 32, 35);
		assert_int_equal(node.processes[i].stopped, 0);
	}
	/* One that never does is not waited for, nor is one that has no process. */
	arbiter_settle(&node.arbiter, node.now + ARBITER_SETTLE_NS);
	node.processes[2].claim.returned = 0;
	node.processes[2].piece_ns = 0;
	node.woken = true;
	node_run(&node, MS);
	assert_true(node.processes[0].page.until_ns == SLICE_OPEN);
	node_run(&node, ARBITER_SETTLE_NS);
	assert_true(node.processes[0].page.until_ns != SLICE_OPEN);
	arbiter_settle(&node.arbiter, node.now + ARBITER_SETTLE_NS);
	arbiter_renew(&node.arbiter, 3, false, node.now);
	node.woken = true;
	node_run(&node, MS);
	assert_true(node.processes[0].page.until_ns != SLICE_OPEN);
}

static void test_weights(void **state)
{
	struct node node;

	node_begin(&node, equal);
	for (unsigned i = 0; i < 4; i++)
		node_add(&node, (struct sched_vgpu){100 * (i + 1), SCHED_WHOLE / 4}, 700 * US);
	node_run(&node, 5000 * MS);
	for (unsigned i = 0; i < 4; i++)
		assert_in_range(percent(&node, i), 10 * (i + 1) - 1, 10 * (i + 1) + 1);
	/* It may change while they draw. */
	assert_int_equal(arbiter_set_params(&node.arbiter, 1, &(struct sched_vgpu){400, 1}), 0);
	node_forget(&node);
	node_run(&node, 5000 * MS);
	assert_in_range(percent(&node, 0), 29, 32);
}

/* A guest that waits for each frame has its part all the same. */
static void test_one_that_thinks(void **state)
{
	struct node node;

	node_begin(&node, equal);
	struct process *p = node_add(&node, (struct sched_vgpu){300, 1}, 2100 * US);
	p->think_ns = 300 * US;
	node_add(&node, (struct sched_vgpu){100, 1}, 2100 * US);
	node_run(&node, 5000 * MS);
	assert_in_range(percent(&node, 0), 73, 76);
	/* Not expected back it has half of it: it never wants anything when asked. */
	p->think_ns = 2 * ARBITER_THINK_NS;
	node_forget(&node);
	node_run(&node, 5000 * MS);
	assert_true(percent(&node, 0) < 60);
}

static void test_fixed(void **state)
{
	struct node node;

	node_begin(&node, (struct sched_gpu){SCHED_FIXED_SHARE, 0});
	struct process *p = node_add(&node, (struct sched_vgpu){1, SCHED_WHOLE / 5}, 300 * US);
	node_run(&node, 5000 * MS);
	assert_in_range(p->ran_ns, 940 * MS, 1060 * MS);
	struct process *q = node_add(&node, (struct sched_vgpu){1, SCHED_WHOLE / 2}, 300 * US);
	node_forget(&node);
	node_run(&node, 5000 * MS);
	assert_in_range(p->ran_ns, 940 * MS, 1060 * MS);
	assert_in_range(q->ran_ns, 2350 * MS, 2600 * MS);
}

/* Long frames, and clients that think about as long as a slice is kept, or longer. */
static void run_thinking(enum sched_policy policy, uint64_t think_ns, uint64_t *ret_ran_ns)
{
	const struct sched_vgpu large = {300, SCHED_WHOLE * 6 / 10}, small = {100, SCHED_WHOLE / 5};
	struct node node;

	node_begin(&node, (struct sched_gpu){policy, 0});
	node_add(&node, large, 4400 * US)->think_ns = think_ns;
	node_add(&node, small, 4400 * US)->think_ns = think_ns;
	node_run(&node, 10000 * MS);
	ret_ran_ns[0] = node.processes[0].ran_ns;
	ret_ran_ns[1] = node.processes[1].ran_ns;
}

static void test_thinking(void **state)
{
	uint64_t ran[2];

	for (uint64_t think_ns = 200 * US; think_ns < ARBITER_THINK_NS; think_ns += 200 * US) {
		bool little = think_ns <= 800 * US;
		run_thinking(SCHED_EQUAL_SHARE, think_ns, ran);
		assert_in_range(ran[0] * 100 / ran[1], little ? 297 : 270, 303);
		assert_true(ran[0] + ran[1] > (little ? 9100 : 8600) * MS);
		run_thinking(SCHED_FIXED_SHARE, think_ns, ran);
		assert_in_range(ran[0], 5940 * MS, 6060 * MS);
		assert_in_range(ran[1], 1980 * MS, 2020 * MS);
	}
}

/* Now and then a client is late itself: as long as it can, its process catches up. */
static void test_late_clients(void **state)
{
	struct node node;

	node_begin(&node, equal);
	for (unsigned i = 0; i < 2; i++) {
		struct process *p =
			node_add(&node, (struct sched_vgpu){i ? 100 : 300, 1}, 4400 * US);
		p->think_ns = 500 * US;
		p->sometimes = 30;
	}
	node_run(&node, 20000 * MS);
	assert_in_range(node.processes[0].ran_ns * 100 / node.processes[1].ran_ns, 291, 309);
}

/* A slice may be another one's again before its owner has woken up: nobody is stopped for that. */
static void test_slow_to_wake(void **state)
{
	struct node node;

	node_begin(&node, equal);
	for (unsigned i = 0; i < 4; i++) {
		struct process *p =
			node_add(&node, (struct sched_vgpu){100 * (i + 1), 1}, (2 + i) * 700 * US);
		p->think_ns = (1 + i) * 130 * US;
		p->slow_ns = 600 * US;
	}
	node_run(&node, 10000 * MS);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(node.processes[i].stopped, 0);
}

/* Who wants the GPU alone has it whole, and nothing is lost in hand-shakes. */
static void test_idle_time(void **state)
{
	struct node node;

	node_begin(&node, equal);
	struct process *p = node_add(&node, half, 300 * US);
	struct process *q = node_add(&node, half, 300 * US);
	q->thinks_until = START + 2000 * MS;
	node_run(&node, 1000 * MS);
	assert_true(p->ran_ns > 995 * MS);
	assert_true(node.steps < 1200);
	/* Nobody wants anything: nothing is done. */
	p->think_ns = q->think_ns = 3600 * 1000 * MS;
	q->thinks_until = UINT64_MAX;
	node_run(&node, 50 * MS);
	uint64_t steps = node.steps;
	node_run(&node, 1000 * MS);
	assert_int_equal(node.steps, steps);
	assert_true(node.next == UINT64_MAX);
}

/* --- force --- */

/* A draw of 30 ms is stopped in the middle, goes on in its next turns, and is charged. */
static void test_long_draws(void **state)
{
	struct node node;

	node_begin(&node, equal);
	struct process *p = node_add(&node, half, 30 * MS);
	node_add(&node, half, 500 * US);
	node_run(&node, 5000 * MS);
	assert_true(p->stopped > 10);
	assert_in_range(percent(&node, 0), 47, 53);
	/* As soon as its draws are short it is not stopped any more. */
	p->piece_ns = 500 * US;
	node_run(&node, 200 * MS);
	uint64_t stopped = p->stopped;
	node_run(&node, 1000 * MS);
	assert_int_equal(p->stopped, stopped);
}

static void test_one_that_ignores(void **state)
{
	struct node node;

	node_begin(&node, equal);
	struct process *p = node_add(&node, half, 500 * US);
	p->manners = IGNORES;
	node_add(&node, half, 500 * US);
	node_run(&node, 200 * MS); /* until it is found out */
	node_forget(&node);
	node_run(&node, 5000 * MS);
	assert_in_range(p->ran_ns, 2000 * MS, 2600 * MS);
	assert_true(node.processes[1].ran_ns > 2250 * MS);
	/* It ends, and is left alone again after a while. */
	p->manners = HONEST;
	p->think_ns = 3600 * 1000 * MS;
	node_run(&node, 2000 * MS);
	assert_true(arbiter_find(&node.arbiter, 1)->state == ARBITER_AWAY);
	assert_true(p->held_until <= node.now);
	/* When what it uses cannot be told, nobody finds out: this is what the account is for. */
	node_begin(&node, equal);
	node.blind = true;
	node_add(&node, half, 500 * US)->manners = IGNORES;
	node_add(&node, half, 500 * US);
	node_run(&node, 2000 * MS);
	assert_true(node.processes[0].ran_ns > 1900 * MS);
}

/* The same where a driver is asked, by another thread. */
static void test_told_later(void **state)
{
	struct node node;

	node_begin(&node, equal);
	node.blind = node.later = true;
	struct process *p = node_add(&node, half, 500 * US);
	p->manners = IGNORES;
	node_add(&node, half, 500 * US);
	node_run(&node, 200 * MS);
	uint64_t first = p->ran_ns, other = node.processes[1].ran_ns;
	node_run(&node, 5000 * MS);
	// cppcheck-suppress duplicateExpression -- node_run() changes it
	assert_in_range(p->ran_ns - first, 2000 * MS, 2600 * MS);
	assert_true(node.processes[1].ran_ns - other > 2250 * MS);
	p->manners = HONEST;
	p->think_ns = 3600 * 1000 * MS;
	node_run(&node, 2000 * MS);
	assert_true(arbiter_find(&node.arbiter, 1)->state == ARBITER_AWAY);
	/* Nobody who behaves is stopped, whatever its draws are like. */
	node_begin(&node, equal);
	node.blind = node.later = true;
	node_add(&node, half, 300 * US);
	node_add(&node, half, 2300 * US)->think_ns = 700 * US;
	node_add(&node, half, 5000 * US)->think_ns = 100 * US;
	node_run(&node, 5000 * MS);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(node.processes[i].stopped, 0);
}

/* What it says does not end the force against what it does. */
static void test_one_that_foresees(void **state)
{
	struct node node;

	node_begin(&node, equal);
	struct process *p = node_add(&node, half, 500 * US);
	p->manners = FORESEES;
	node_add(&node, half, 500 * US);
	node_run(&node, 200 * MS);
	node_forget(&node);
	node_run(&node, 5000 * MS);
	assert_in_range(p->ran_ns, 2000 * MS, 2600 * MS);
	assert_true(node.processes[1].ran_ns > 2250 * MS);
}

/* Nothing it writes gives it more than its part, costs others theirs, or keeps the arbiter busy. */
static void test_hostile_claims(void **state)
{
	struct node node;

	node_begin(&node, equal);
	for (unsigned i = 0; i < 3; i++)
		node_add(&node, half, 500 * US);
	node.processes[0].manners = HOSTILE;
	node_run(&node, 5000 * MS);
	assert_true(node.processes[1].ran_ns > 5000 * MS * 30 / 100);
	assert_true(node.processes[2].ran_ns > 5000 * MS * 30 / 100);
	assert_true(node.processes[0].stopped > 10);
	assert_true(percent(&node, 0) < 38);
}

/* --- while vgpud lives --- */

static void test_heart_beats(void **state)
{
	struct node node;
	uint64_t longest = 0;

	node_begin(&node, (struct sched_gpu){SCHED_EQUAL_SHARE, 30});
	for (unsigned i = 0; i < 3; i++)
		node_add(&node, half, 25 * MS);
	node_run(&node, 100 * MS); /* what they began while it was open is done */
	for (unsigned i = 0; i < 10000; i++) {
		node_run(&node, TICK);
		longest = MAX(longest, node.now - node.processes[0].page.alive_ns);
	}
	assert_in_range(longest, 1, SLICE_SILENT_NS / 2);
}

static void test_gone_in_its_slice(void **state)
{
	struct node node;

	node_begin(&node, equal);
	for (unsigned i = 0; i < 3; i++)
		node_add(&node, half, 10 * MS);
	node_run(&node, 50 * MS);
	uint32_t id = node.arbiter.has->id;
	arbiter_remove(&node.arbiter, id);
	node.processes[id - 1].piece_ns = 0;
	assert_true(node.processes[id - 1].page.until_ns == SLICE_OPEN);
	node.woken = true;
	node_run(&node, 20 * MS);
	node_forget(&node);
	node_run(&node, 1000 * MS);
	assert_int_equal(node.processes[id - 1].ran_ns, 0);
	assert_in_range(percent(&node, id % 3), 48, 52);
}

/* Its process ended in a slice, or while it wanted one, and there is no other. */
static void test_no_process(void **state)
{
	struct node node;

	node_begin(&node, equal);
	for (unsigned i = 0; i < 2; i++)
		node_add(&node, half, 10 * MS);
	node_run(&node, 50 * MS);
	for (uint32_t id = 1; id <= 2; id++) {
		struct process *gone = &node.processes[id - 1];
		gone->piece_ns = gone->left_ns = 0;
		gone->claim.wants = 1;
		arbiter_renew(&node.arbiter, id, false, node.now);
		node.woken = true;
		node_run(&node, 50 * MS);
		node_forget(&node);
		node_run(&node, 1000 * MS);
		assert_true(node.processes[2 - id].ran_ns > 950 * MS);
		/* And the next one has its part again. */
		gone->piece_ns = 10 * MS;
		arbiter_renew(&node.arbiter, id, true, node.now);
		node_run(&node, 100 * MS);
		node_forget(&node);
		node_run(&node, 1000 * MS);
		assert_in_range(percent(&node, 0), 45, 55);
	}
}

static void test_policy_changes(void **state)
{
	static const struct sched_gpu policies[] = {
		{SCHED_FIXED_SHARE, 5}, {SCHED_BEST_EFFORT, 0}, {SCHED_EQUAL_SHARE, 1}};
	struct node node;

	node_begin(&node, equal);
	node_add(&node, half, 400 * US);
	node_add(&node, half, 400 * US);
	for (unsigned i = 0; i < 30; i++) {
		const struct sched_gpu *policy = &policies[i % ARRAY_SIZE(policies)];
		assert_int_equal(arbiter_set_policy(&node.arbiter, policy), 0);
		node.woken = true;
		node_run(&node, 70 * MS);
		node_forget(&node);
		node_run(&node, 200 * MS);
		assert_true(node.processes[0].ran_ns > 80 * MS);
		assert_true(node.processes[1].ran_ns > 80 * MS);
		assert_int_equal(policy->policy == SCHED_BEST_EFFORT,
			node.processes[0].page.until_ns == SLICE_OPEN);
	}
	assert_int_equal(arbiter_set_policy(&node.arbiter, &(struct sched_gpu){1, 31}), -EINVAL);
	node_run(&node, 50 * MS);
	assert_int_equal(node.arbiter.slices.gpu.slice_ms, 1);
}

/* In the middle of a slice: what its owner used of it was not outside of one. */
static void test_policy_changes_in_a_slice(void **state)
{
	static const struct sched_gpu policies[] = {
		{SCHED_FIXED_SHARE, 20}, {SCHED_EQUAL_SHARE, 20}};
	struct node node;

	node_begin(&node, policies[1]);
	node_add(&node, half, 400 * US);
	node_add(&node, half, 400 * US);
	for (unsigned i = 0; i < 30; i++) {
		assert_int_equal(arbiter_set_policy(&node.arbiter, &policies[i % 2]), 0);
		node.woken = true;
		node_run(&node, (100 + i) * MS);
		assert_int_equal(node.processes[0].stopped + node.processes[1].stopped, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_alone_is_open),
		cmocka_unit_test(test_equal),
		cmocka_unit_test(test_settling),
		cmocka_unit_test(test_weights),
		cmocka_unit_test(test_one_that_thinks),
		cmocka_unit_test(test_thinking),
		cmocka_unit_test(test_late_clients),
		cmocka_unit_test(test_slow_to_wake),
		cmocka_unit_test(test_fixed),
		cmocka_unit_test(test_idle_time),
		cmocka_unit_test(test_long_draws),
		cmocka_unit_test(test_one_that_ignores),
		cmocka_unit_test(test_told_later),
		cmocka_unit_test(test_one_that_foresees),
		cmocka_unit_test(test_hostile_claims),
		cmocka_unit_test(test_heart_beats),
		cmocka_unit_test(test_gone_in_its_slice),
		cmocka_unit_test(test_no_process),
		cmocka_unit_test(test_policy_changes),
		cmocka_unit_test(test_policy_changes_in_a_slice),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
