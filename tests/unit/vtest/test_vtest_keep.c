/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The process of a connection ends at every place there is, and another one takes over: the client
 * must note the same as in a run that nothing disturbed, and the device must have been given the
 * same commands once each.
 *
 * A life ends by a jump out of it, in a process of its own for each run, so that whatever it leaves
 * behind is gone.
 */

#include "life.h"
#include "script.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define TURNS_MAX 20000u

struct plan {
	uint32_t version;
	unsigned rounds;
	uint32_t seed;
	uint64_t limit;
	bool bad_end;
	unsigned move_every;   /* turns; 0: never */
	uint64_t die_after[2]; /* points passed, of each life; 0: never */
};

struct outcome {
	uint64_t points, history, images, recoveries, records;
	unsigned shared, events;
	bool finished, closed;
	char reason[VTEST_REASON_MAX];
	struct script_notes notes;
};

static struct {
	uint64_t points, left;
	const struct plan *plan;
	unsigned deaths;
	jmp_buf death;
} fate;

void life_point(void)
{
	fate.points++;
	if (fate.left && --fate.left == 0)
		longjmp(fate.death, 1);
}

struct server {
	struct life life;
	struct process *process;
	unsigned turns;
};

static bool server_turn(void *data)
{
	struct server *server = data;

	if (server->turns++ > TURNS_MAX)
		return false;
	if (setjmp(fate.death)) {
		/* What it had is abandoned; the client goes on with what it was sent. */
		server->process = NULL;
		fate.deaths++;
		fate.left = fate.deaths < 2 ? fate.plan->die_after[fate.deaths] : 0;
		return true;
	}
	if (!server->process) {
		struct process *next = calloc(1, sizeof(*next));
		if (!next || !process_start(&server->life, next)) {
			snprintf(server->life.anchor->reason, VTEST_REASON_MAX, "no successor: %s",
				strerror(next ? -next->err : ENOMEM));
			return false;
		}
		server->process = next;
	}
	process_step(server->process);
	if (server->process->over)
		return false;
	if (fate.plan->move_every && server->turns % fate.plan->move_every == 0) {
		if (process_image(server->process))
			abort();
		process_stop(server->process);
		server->process = NULL;
	}
	return true;
}

static void run_here(const struct plan *plan, struct outcome *out)
{
	struct server server = {0};
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		abort();
	/* So little room that answers are left over. */
	int room = 1;
	if (setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)))
		abort();
	life_init(&server.life, pair[1]);
	server.life.seed = plan->seed;
	if (plan->limit)
		server.life.limit = plan->limit;
	fate.plan = plan;
	fate.left = plan->die_after[0];
	struct script script = {.fd = pair[0],
		.version = plan->version,
		.rounds = plan->rounds,
		.bad_end = plan->bad_end,
		.notes = &out->notes,
		.wait = server_turn,
		.data = &server};
	out->finished = script_run(&script);
	out->points = fate.points;
	out->history = server.life.anchor->history;
	out->images = server.life.anchor->images;
	out->recoveries = server.life.anchor->recoveries;
	out->records = server.life.anchor->records;
	out->closed = server.life.anchor->closed;
	out->shared = life_count(&server.life, KEEPER_CUSTODY_SHARED);
	out->events = life_count(&server.life, KEEPER_CUSTODY_EVENT);
	memcpy(out->reason, server.life.anchor->reason, sizeof(out->reason));
}

/* In a process of its own; false: that process did not come to its end. */
static bool run(const struct plan *plan, struct outcome *out)
{
	int status;

	*out = (struct outcome){0};
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0) {
		alarm(20);
		run_here(plan, out);
		_exit(0);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
	       WEXITSTATUS(status) == 0;
}

static struct outcome *new_outcome(void)
{
	void *p = mmap(NULL, sizeof(struct outcome), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(p, MAP_FAILED);
	return p;
}

static void assert_same(
	const struct plan *plan, const struct outcome *expected, const struct outcome *got)
{
	size_t n = 0;

	while (n < expected->notes.n && n < got->notes.n &&
		expected->notes.bytes[n] == got->notes.bytes[n])
		n++;
	if (got->finished && got->notes.n == expected->notes.n && n == got->notes.n &&
		got->history == expected->history && got->shared == expected->shared &&
		got->events == expected->events && strcmp(got->reason, expected->reason) == 0)
		return;
	fail_msg("version %u, seed %u, died after %lu and %lu points: %s, the same for %zu of %zu "
		 "bytes, history %s, %u/%u shared, %u/%u events, %lu images, reason \"%s\"",
		plan->version, plan->seed, plan->die_after[0], plan->die_after[1],
		got->finished ? "finished" : "did not finish", n, expected->notes.n,
		got->history == expected->history ? "the same" : "differs", got->shared,
		expected->shared, got->events, expected->events, got->images, got->reason);
}

/* The undisturbed run has to be a good one for the others to mean anything. */
static void run_undisturbed(const struct plan *plan, struct outcome *out)
{
	struct plan calm = *plan;

	calm.die_after[0] = calm.die_after[1] = 0;
	calm.seed = 0;
	calm.limit = 0;
	calm.move_every = 0;
	assert_true(run(&calm, out));
	assert_true(out->finished);
	assert_int_equal(out->recoveries, 0);
	assert_int_equal(out->images, 0);
}

static void die_everywhere(struct plan plan, unsigned step, uint64_t second)
{
	struct outcome *calm = new_outcome(), *out = new_outcome();
	uint64_t records = 0, recoveries = 0;

	run_undisturbed(&plan, calm);
	/* As many points as the run has that makes images but does not die. */
	plan.die_after[0] = 0;
	assert_true(run(&plan, out));
	assert_same(&plan, calm, out);
	uint64_t points = out->points;
	for (uint64_t at = 1; at <= points; at += step) {
		plan.die_after[0] = at;
		plan.die_after[1] = second ? 1 + at % second : 0;
		assert_true(run(&plan, out));
		assert_same(&plan, calm, out);
		recoveries += out->recoveries;
		records += out->records;
	}
	/* Only the first few deaths are so early that there is nothing to take over. */
	assert_true(recoveries + 10 > points / step);
	if (plan.limit != 1)
		assert_true(records > points / step);
	munmap(calm, sizeof(*calm));
	munmap(out, sizeof(*out));
}

static void test_version_0(void **state)
{
	die_everywhere((struct plan){.version = 0, .rounds = 2}, 1, 0);
}

static void test_version_2(void **state)
{
	die_everywhere((struct plan){.version = 2, .rounds = 2}, 1, 0);
}

static void test_version_3(void **state)
{
	die_everywhere((struct plan){.version = 3, .rounds = 2}, 1, 0);
}

static void test_images_at_random(void **state)
{
	for (uint32_t seed = 1; seed <= 4; seed++)
		die_everywhere(
			(struct plan){.version = seed & 1 ? 3 : 2, .rounds = 2, .seed = seed}, 5,
			0);
}

static void test_images_when_the_journal_is_full(void **state)
{
	die_everywhere((struct plan){.version = 3, .rounds = 3, .limit = 66u << 10}, 5, 0);
}

/* No journal is ever as empty as it would have to be. */
static void test_an_image_after_every_message(void **state)
{
	die_everywhere((struct plan){.version = 2, .rounds = 2, .limit = 1}, 5, 0);
	die_everywhere((struct plan){.version = 3, .rounds = 1, .limit = 1}, 5, 0);
}

static void test_dying_twice(void **state)
{
	die_everywhere((struct plan){.version = 2, .rounds = 2}, 3, 97);
	die_everywhere((struct plan){.version = 2, .rounds = 1}, 1, 23);
	die_everywhere((struct plan){.version = 3, .rounds = 2, .seed = 9}, 3, 61);
}

static void test_a_bad_end(void **state)
{
	die_everywhere((struct plan){.version = 0, .rounds = 1, .bad_end = true}, 1, 0);
	die_everywhere((struct plan){.version = 2, .rounds = 1, .bad_end = true, .seed = 3}, 3, 0);
}

/* One process after the other, each with a complete image and nothing to run again. */
static void test_moving(void **state)
{
	struct outcome *calm = new_outcome(), *out = new_outcome();

	for (unsigned i = 0; i < 24; i++) {
		struct plan plan = {
			.version = i % 3 ? 1 + i % 3 : 0, .rounds = 3, .move_every = 1 + i / 3};
		run_undisturbed(&plan, calm);
		assert_true(run(&plan, out));
		assert_same(&plan, calm, out);
		assert_true(out->images >= 1);
		assert_int_equal(out->records, 0);
	}
	munmap(calm, sizeof(*calm));
	munmap(out, sizeof(*out));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_version_0),
		cmocka_unit_test(test_version_2),
		cmocka_unit_test(test_version_3),
		cmocka_unit_test(test_images_at_random),
		cmocka_unit_test(test_images_when_the_journal_is_full),
		cmocka_unit_test(test_an_image_after_every_message),
		cmocka_unit_test(test_dying_twice),
		cmocka_unit_test(test_a_bad_end),
		cmocka_unit_test(test_moving),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("vtest keep", tests, NULL, NULL);
}
