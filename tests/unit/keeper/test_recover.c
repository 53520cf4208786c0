/* SPDX-License-Identifier: Apache-2.0 */
/* A device process dies under its connections, and another one is given what it kept. */
#include "bench.h"

#include "base/checked.h"
#include "base/clock.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define ITEMS 1500

static struct given given; /* large */

static void keep_something(struct fake *f, uint32_t id)
{
	fake_put(f, KEEPER_CUSTODY_ANCHOR, 0, 0, 1);
	fake_put(f, KEEPER_CUSTODY_JOURNAL, 1, 0, 2);
	fake_put(f, KEEPER_CUSTODY_WIRE, id, 4096, 3);
}

/* A keeper, its device process, a client, and something that is kept of it. */
static int begin(struct bench *b, struct fake *f, char **options, uint32_t *ret_id)
{
	bench_start(b, options);
	fake_accept_ready(b, f);
	int client = bench_connect(b, f, ret_id);
	keep_something(f, *ret_id);
	return client;
}

static void take_and_load(struct fake *f)
{
	fake_take(f, &given, KEEPER_DEVICE_LOAD, false);
	fake_saved(f, KEEPER_DEVICE_LOADED, 0, 0, 0);
}

static void test_all_that_was_kept_is_given(void **state)
{
	struct bench b;
	struct fake f, next;
	uint32_t id[3];
	int client[3], late;
	unsigned seed = 3, expected = 0;
	static int model[4][ITEMS];

	memset(model, 0, sizeof(model));
	bench_start(&b, NULL);
	fake_accept_ready(&b, &f);
	for (unsigned i = 0; i < 3; i++)
		client[i] = bench_connect(&b, &f, &id[i]);
	fake_put(&f, KEEPER_CUSTODY_ANCHOR, 0, 0, 1);
	fake_put(&f, KEEPER_CUSTODY_IMAGE, 1, 77, 2);
	fake_put(&f, KEEPER_CUSTODY_SCREEN, 0, 0, 3); /* a new process makes its own */
	for (int i = 1; i <= 2 * ITEMS; i++) {
		unsigned c = (unsigned)rand_r(&seed) % 3, a = (unsigned)rand_r(&seed) % ITEMS;
		uint32_t kind = KEEPER_CUSTODY_SHARED + (uint32_t)rand_r(&seed) % 2;
		if (rand_r(&seed) % 4) {
			fake_put(&f, kind, id[c], a, i);
			model[c][a] = kind == KEEPER_CUSTODY_SHARED ? i : model[c][a];
		} else {
			fake_release(&f, KEEPER_CUSTODY_SHARED, id[c], a);
			model[c][a] = 0;
		}
		fake_release(&f, KEEPER_CUSTODY_EVENT, id[c], a);
	}
	assert_int_equal(send(client[0], "x", 1, 0), 1);
	fake_kill(&f);
	bench_until_state(&b, KEEPER_STATE_RECOVERING);
	assert_non_null(strstr(b.status.failure, "SIGKILL"));
	late = bench_client(&b, "vtest.sock"); /* waits */
	fake_accept_ready(&b, &next);
	usleep(100000); /* its channel is full long before all is sent */
	fake_take(&next, &given, KEEPER_DEVICE_LOAD, true);
	for (unsigned c = 0; c < 3; c++) {
		for (unsigned a = 0; a < ITEMS; a++) {
			expected += model[c][a] != 0;
			assert_int_equal(given_number(&given, KEEPER_CUSTODY_SHARED, id[c], a),
				model[c][a] ? model[c][a] : -1);
		}
	}
	assert_true(expected > 300);
	assert_int_equal(given.count, expected + 2);
	assert_int_equal(given_number(&given, KEEPER_CUSTODY_IMAGE, 1, 77), 2);
	assert_int_equal(given.resumed, 3);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(given.resumed_id[i], id[i]);
	assert_int_equal(given.load.recover, 1);
	assert_int_equal(given.load.images, 2);
	fake_expect_nothing(&next, 50); /* the late one still waits */
	fake_saved(&next, KEEPER_DEVICE_LOADED, 0, 0, 0);
	bench_until_event(&b, "recovered: the device process was killed by signal 9 (SIGKILL)");
	bench_until_state(&b, KEEPER_STATE_BOUND);
	assert_int_equal(b.status.recoveries, 1);
	assert_string_equal(b.status.failure, "");
	assert_true(b.status.last_pause_ns > 100000000);
	fake_expect_only(&next, KEEPER_DEVICE_CONNECTION);
	for (unsigned i = 0; i < 3; i++) {
		assert_true(client_open(client[i]));
		close(client[i]);
	}
	close(late);
	close(next.channel);
	bench_stop(&b);
}

/* What the one that dies in the middle had put counts too. */
static void test_killed_while_taking_over(void **state)
{
	struct bench b;
	struct fake f;
	uint32_t id;

	int client = begin(&b, &f, NULL, &id);
	fake_kill(&f);
	for (int moment = 0; moment < 4; moment++) {
		if (moment == 0)
			fake_accept(&b, &f);
		else
			fake_accept_ready(&b, &f);
		if (moment == 1)
			fake_expect_only(&f, KEEPER_DEVICE_GIVE);
		if (moment >= 2) {
			fake_take(&f, &given, KEEPER_DEVICE_LOAD, false);
			assert_int_equal(given.count, moment == 2 ? 3 : 4);
			fake_put(&f, KEEPER_CUSTODY_SHARED, id, (uint64_t)moment, 10 + moment);
		}
		fake_kill(&f);
	}
	fake_accept_ready(&b, &f);
	take_and_load(&f);
	assert_int_equal(given.count, 5);
	assert_int_equal(given_number(&given, KEEPER_CUSTODY_SHARED, id, 2), 12);
	assert_int_equal(given_number(&given, KEEPER_CUSTODY_SHARED, id, 3), 13);
	bench_until_event(&b, "recovered");
	bench_until_state(&b, KEEPER_STATE_BOUND);
	assert_int_equal(b.status.recoveries, 1);
	assert_true(client_open(client));
	close(client);
	bench_stop(&b);
}

static void test_nothing_kept_means_that_connections_end(void **state)
{
	struct bench b;
	struct fake f;
	uint32_t id;

	bench_start(&b, NULL);
	fake_accept_ready(&b, &f);
	int client = bench_connect(&b, &f, &id);
	fake_put(&f, KEEPER_CUSTODY_JOURNAL, 0, 0, 1); /* but no anchor */
	fake_kill(&f);
	client_expect_end(client);
	bench_until_state(&b, KEEPER_STATE_FAILED);
	bench_stop(&b);
}

static void test_a_state_that_cannot_be_taken_over(void **state)
{
	struct bench b;
	struct fake f;
	uint32_t id;

	int client = begin(&b, &f, NULL, &id);
	fake_kill(&f);
	fake_accept_ready(&b, &f);
	fake_take(&f, &given, KEEPER_DEVICE_LOAD, false);
	fake_saved(&f, KEEPER_DEVICE_LOADED, -EBADMSG, 0, 0);
	bench_until_event(&b, "the state could not be taken over: it says no");
	client_expect_end(client);
	fake_expect_end(&f);
	/* A fresh one, and nothing of the old state is left for it or those after it. */
	fake_accept_ready(&b, &f);
	bench_until_state(&b, KEEPER_STATE_READY);
	client = bench_connect(&b, &f, &id);
	fake_put(&f, KEEPER_CUSTODY_ANCHOR, 0, 0, 1);
	fake_kill(&f);
	fake_accept_ready(&b, &f);
	take_and_load(&f);
	assert_int_equal(given.count, 1);
	close(client);
	bench_stop(&b);
}

/* One that is killed from outside does not count. */
static void test_given_up_after_too_many(void **state)
{
	char *options[] = {"--recoveries", "3", NULL};
	struct bench b;
	struct fake f;
	uint32_t id;

	int client = begin(&b, &f, options, &id);
	fake_crash(&f);
	for (int i = 0; i < 8; i++) {
		fake_accept_ready(&b, &f);
		if (i % 2)
			take_and_load(&f); /* dies before it served for long */
		if (i < 5)
			fake_kill(&f);
		else
			fake_crash(&f);
	}
	client_expect_end(client);
	bench_until_event(&b, "given up after 3 recoveries: the device process was killed");
	bench_until_state(&b, KEEPER_STATE_FAILED);
	bench_stop(&b);
}

/* Whoever kills them ends no guest, at whatever moment. */
static void test_killed_from_outside_200_times(void **state)
{
	char *options[] = {"--recoveries", "1", "--delay-ms", "1", NULL};
	struct bench b;
	struct fake f;
	uint32_t id;

	int client = begin(&b, &f, options, &id);
	uint64_t start = clock_ms();
	for (int i = 0; i < 200; i++) {
		fake_kill(&f);
		if (i % 3) {
			fake_accept_ready(&b, &f);
			fake_take(&f, &given, KEEPER_DEVICE_LOAD, false);
		} else {
			fake_accept(&b, &f);
		}
		if (i % 3 == 2) {
			fake_saved(&f, KEEPER_DEVICE_LOADED, 0, 0, 0);
			bench_until_event(&b, "recovered");
		}
	}
	/* 20 at once, 5 after 1 to 16 ms, the others after 32 each. */
	assert_true(clock_ms() - start >= 5000);
	bench_until_state(&b, KEEPER_STATE_BOUND);
	assert_true(client_open(client));
	close(client);
	bench_stop(&b);
}

static void test_delays_when_killed_in_a_row(void **state)
{
	char *options[] = {"--delay-ms", "1500", NULL};
	struct bench b;
	struct fake f;
	uint32_t id;

	int client = begin(&b, &f, options, &id);
	for (int turn = 0; turn < 2; turn++) {
		uint64_t start = clock_ms();
		for (int i = 0; i < 20; i++) {
			fake_kill(&f);
			fake_accept(&b, &f);
		}
		assert_true(clock_ms() - start < 1500);
		fake_kill(&f);
		bench_until_event(&b, "something kills its device processes");
		fake_accept_ready(&b, &f);
		uint64_t took = clock_ms() - start;
		assert_in_range(took, 1500, 4000);
		take_and_load(&f);
		usleep(700000); /* it served: all is forgotten */
	}
	assert_true(client_open(client));
	close(client);
	bench_stop(&b);
}

static void refuse_to_start(struct bench *b, struct fake *f)
{
	struct keeper_text text = {"no such GPU"};

	fake_accept(b, f);
	fake_send(f, KEEPER_DEVICE_FAILED, &text, -1);
	fake_kill(f);
}

/* For a moment, then for good. */
static void test_a_successor_that_refuses_to_start(void **state)
{
	char *options[] = {"--recoveries", "4", NULL};
	struct bench b;
	struct fake f;
	uint32_t id;

	int client = begin(&b, &f, options, &id);
	fake_kill(&f);
	uint64_t start = clock_ms();
	refuse_to_start(&b, &f);
	refuse_to_start(&b, &f);
	fake_accept_ready(&b, &f);
	assert_true(clock_ms() - start >= 600); /* 200 and 400 ms between them */
	take_and_load(&f);
	bench_until_event(&b, "recovered");
	assert_true(client_open(client));
	fake_crash(&f);
	refuse_to_start(&b, &f);
	refuse_to_start(&b, &f);
	client_expect_end(client);
	bench_until_event(&b, "given up after 4 recoveries");
	bench_until_state(&b, KEEPER_STATE_FAILED);
	assert_non_null(strstr(b.status.failure, "no such GPU"));
	bench_stop(&b);
}

static void test_ends_of_connections_are_told_afterwards(void **state)
{
	struct bench b;
	struct fake f;
	struct packet p;
	uint32_t id[2];

	bench_start(&b, NULL);
	fake_accept_ready(&b, &f);
	int first = bench_connect(&b, &f, &id[0]), second = bench_connect(&b, &f, &id[1]);
	keep_something(&f, id[0]);
	fake_put(&f, KEEPER_CUSTODY_SHARED, id[0], 1, 5);
	fake_kill(&f);
	close(first);
	fake_accept_ready(&b, &f);
	fake_take(&f, &given, KEEPER_DEVICE_LOAD, false);
	assert_int_equal(given.resumed, 2); /* its last bytes may still be there */
	assert_int_equal(given_number(&given, KEEPER_CUSTODY_SHARED, id[0], 1), 5);
	fake_expect_nothing(&f, 100);
	fake_saved(&f, KEEPER_DEVICE_LOADED, 0, 0, 0);
	fake_expect(&f, KEEPER_DEVICE_DISCONNECT, &p); /* after the time to work them off */
	assert_int_equal(((struct keeper_closed *)p.payload)->id, id[0]);
	fake_kill(&f);
	fake_accept_ready(&b, &f);
	take_and_load(&f);
	assert_int_equal(given.count, 2); /* what was the first one's is gone */
	assert_int_equal(given.resumed, 1);
	close(second);
	bench_stop(&b);
}

/* The end of a binding leaves nothing for the next one. */
static void test_the_next_binding_gets_nothing(void **state)
{
	struct keeper_closed closed = {0};
	struct bench b;
	struct fake f;

	int client = begin(&b, &f, NULL, &closed.id);
	fake_put(&f, KEEPER_CUSTODY_REGION, 0, 9, 9); /* of no connection */
	close(client);
	fake_send(&f, KEEPER_DEVICE_CLOSED, &closed, -1);
	fake_expect_end(&f);
	fake_accept_ready(&b, &f);
	client = bench_connect(&b, &f, &closed.id);
	fake_put(&f, KEEPER_CUSTODY_ANCHOR, 0, 0, 4);
	fake_kill(&f);
	fake_accept_ready(&b, &f);
	take_and_load(&f);
	assert_int_equal(given.count, 1);
	assert_int_equal(given.number[0], 4);
	close(client);
	bench_stop(&b);
}

static void test_one_that_hangs_is_killed(void **state)
{
	char *options[] = {"--hang-ms", "1500", NULL};
	struct keeper_anchor anchor = {
		.magic = KEEPER_ANCHOR_MAGIC, .version = KEEPER_ANCHOR_VERSION, .current = 0xff00};
	struct keeper_custody what = {.kind = KEEPER_CUSTODY_ANCHOR};
	struct bench b;
	struct fake f;
	uint32_t id;

	bench_start(&b, options);
	fake_accept_ready(&b, &f);
	int client = bench_connect(&b, &f, &id);
	int fd = memfd_create("anchor", MFD_CLOEXEC);
	fake_send(&f, KEEPER_DEVICE_CUSTODY, &what, fd);
	for (int i = 0; i < 25; i++) { /* busy, but with something new each time */
		anchor.busy_since = clock_ns();
		assert_int_equal(pwrite(fd, &anchor, sizeof(anchor), 0), sizeof(anchor));
		usleep(100000);
	}
	assert_int_equal(kill(f.pid, 0), 0);
	fake_expect_nothing(&f, 0);
	fake_expect_end(&f); /* now it is too long */
	fake_accept_ready(&b, &f);
	take_and_load(&f); /* the anchor still says so, which is not this one's doing */
	bench_until_event(&b, "it hung");
	usleep(1200000);
	assert_int_equal(kill(f.pid, 0), 0);
	fake_expect_nothing(&f, 0);
	close(client);
	close(fd);
	bench_stop(&b);
}

/* A long journal is no hang; one record that never ends is. */
static void test_a_long_replay_is_let_finish(void **state)
{
	char *options[] = {"--hang-ms", "500", NULL};
	struct keeper_anchor anchor = {
		.magic = KEEPER_ANCHOR_MAGIC, .version = KEEPER_ANCHOR_VERSION, .current = 0xff00};
	struct keeper_custody what = {.kind = KEEPER_CUSTODY_ANCHOR};
	struct bench b;
	struct fake f;
	uint32_t id;

	bench_start(&b, options);
	fake_accept_ready(&b, &f);
	int client = bench_connect(&b, &f, &id);
	int fd = memfd_create("anchor", MFD_CLOEXEC);
	fake_send(&f, KEEPER_DEVICE_CUSTODY, &what, fd);
	fake_kill(&f);
	fake_accept_ready(&b, &f);
	fake_take(&f, &given, KEEPER_DEVICE_LOAD, false);
	for (int i = 0; i < 15; i++) {
		anchor.busy_since = clock_ns();
		assert_int_equal(pwrite(fd, &anchor, sizeof(anchor), 0), sizeof(anchor));
		usleep(100000);
	}
	assert_int_equal(kill(f.pid, 0), 0);
	fake_expect_nothing(&f, 0);
	fake_expect_end(&f); /* now it is too long */
	fake_accept_ready(&b, &f);
	fake_take(&f, &given, KEEPER_DEVICE_LOAD, false);
	struct keeper_saved lossy = {.lossy = 1, .text = "a query's result"};
	fake_send(&f, KEEPER_DEVICE_LOADED, &lossy, -1);
	bench_until_event(&b, "recovered with a loss: a query's result");
	assert_true(client_open(client));
	close(client);
	close(fd);
	bench_stop(&b);
}

static void test_answers_nobody_asked_for(void **state)
{
	static const uint32_t types[] = {KEEPER_DEVICE_PRECOPIED, KEEPER_DEVICE_SAVED,
		KEEPER_DEVICE_LOADED, KEEPER_DEVICE_CHECKED};
	static const unsigned char nothing[PACKET_PAYLOAD_MAX];

	for (unsigned i = 0; i < ARRAY_SIZE(types); i++) {
		struct bench b;
		struct fake f;
		bench_start(&b, NULL);
		fake_accept_ready(&b, &f);
		fake_send(&f, types[i], nothing, -1);
		fake_expect_end(&f);
		bench_until_event(&b, "an answer that nobody asked for");
		bench_stop(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_that_was_kept_is_given),
		cmocka_unit_test(test_killed_while_taking_over),
		cmocka_unit_test(test_nothing_kept_means_that_connections_end),
		cmocka_unit_test(test_a_state_that_cannot_be_taken_over),
		cmocka_unit_test(test_given_up_after_too_many),
		cmocka_unit_test(test_killed_from_outside_200_times),
		cmocka_unit_test(test_delays_when_killed_in_a_row),
		cmocka_unit_test(test_a_successor_that_refuses_to_start),
		cmocka_unit_test(test_ends_of_connections_are_told_afterwards),
		cmocka_unit_test(test_the_next_binding_gets_nothing),
		cmocka_unit_test(test_one_that_hangs_is_killed),
		cmocka_unit_test(test_a_long_replay_is_let_finish),
		cmocka_unit_test(test_answers_nobody_asked_for),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
