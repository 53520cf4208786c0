/* SPDX-License-Identifier: Apache-2.0 */
/* A guest is carried to another device process, and every way in which that can fail. */
#include "bench.h"

#include "base/checked.h"
#include "protocol/stats.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB (1ull << 20)

static struct given given; /* large */

/* One client, and what its device process keeps: items 1 to 3. */
static int begin(struct bench *b, struct fake *f, uint32_t *ret_id, char *const *options)
{
	bench_start(b, options);
	fake_accept_ready(b, f);
	int client = bench_connect(b, f, ret_id);
	fake_put(f, KEEPER_CUSTODY_ANCHOR, 0, 0, 1);
	fake_put(f, KEEPER_CUSTODY_JOURNAL, 1, 0, 2);
	fake_put(f, KEEPER_CUSTODY_SHARED, *ret_id, 5, 3);
	return client;
}

static void ask_move(struct bench *b, bool exact, const char *arg)
{
	struct keeper_move move = {.n_args = arg ? 1 : 0, .exact = exact};

	if (arg)
		snprintf(move.args, sizeof(move.args), "%s", arg);
	bench_send(b, KEEPER_CONTROL_MOVE, &move, -1);
}

/* One round: it is asked for, put into custody, given to the next and loaded. */
static void round_of(struct fake *f, struct fake *next, uint32_t number, uint64_t left)
{
	fake_expect_only(f, KEEPER_DEVICE_PRECOPY);
	fake_put(f, KEEPER_CUSTODY_PRECOPY, number, 0, 100 + (int)number);
	fake_saved(f, KEEPER_DEVICE_PRECOPIED, 0, 10 * MIB, left);
	fake_take(next, &given, KEEPER_DEVICE_LOAD_PRECOPY, false);
	assert_int_equal(given.count, 1);
	assert_int_equal(given.number[0], 100 + (int)number);
	fake_saved(next, KEEPER_DEVICE_LOADED, 0, 0, 0);
}

static void save(struct fake *f, uint32_t slot)
{
	fake_expect_only(f, KEEPER_DEVICE_SAVE);
	fake_put(f, KEEPER_CUSTODY_IMAGE, slot, 0, 200);
	fake_saved(f, KEEPER_DEVICE_SAVED, 0, MIB, 0);
}

static void test_moved(void **state)
{
	struct vgpu_stats stats = {.magic = VGPU_STATS_MAGIC, .version = 1, .draws_total = 7};
	struct bench b;
	struct fake f, next;
	uint32_t id;
	int client = begin(&b, &f, &id, NULL);

	fake_put(&f, KEEPER_CUSTODY_IMAGE, 0, 0, 50); /* an older one */
	ask_move(&b, true, "second");
	fake_accept_ready(&b, &next);
	assert_string_equal(f.arg, "first");
	assert_string_equal(next.arg, "second");
	round_of(&f, &next, 0, 100 * MIB);
	round_of(&f, &next, 1, 50 * MIB);
	bench_until_state(&b, KEEPER_STATE_MOVING);
	assert_int_equal(b.status.device_pid, f.pid); /* it is still the one that serves */
	round_of(&f, &next, 2, 2 * MIB);
	assert_int_equal(pwrite(f.stats, &stats, sizeof(stats), 0), sizeof(stats));
	int late;
	fake_expect_only(&f, KEEPER_DEVICE_SAVE);
	late = bench_client(&b, "vtest.sock");
	fake_put(&f, KEEPER_CUSTODY_IMAGE, 1, 0, 200);
	fake_saved(&f, KEEPER_DEVICE_SAVED, 0, MIB, 0);
	fake_take(&next, &given, KEEPER_DEVICE_LOAD, true);
	assert_int_equal(given.count, 4); /* anchor, journal, shared, and that image alone */
	assert_int_equal(given_number(&given, KEEPER_CUSTODY_IMAGE, 1, 0), 200);
	assert_int_equal(given_number(&given, KEEPER_CUSTODY_SHARED, id, 5), 3);
	assert_int_equal(given.load.recover, 0);
	assert_int_equal(given.load.images, 2);
	assert_int_equal(given.resumed, 1);
	fake_put(&next, KEEPER_CUSTODY_SHARED, id, 6, 4);
	fake_release(&next, KEEPER_CUSTODY_SHARED, id, 5);
	usleep(50000);
	assert_int_equal(kill(f.pid, 0), 0);
	fake_expect_nothing(&f, 0);
	fake_saved(&next, KEEPER_DEVICE_LOADED, 0, 0, 0);
	bench_until_done(&b, 0, "");
	assert_int_equal(b.done.bytes, 31 * MIB);
	assert_in_range(b.done.pause_ns, 50000000, b.done.total_ns);
	fake_expect_end(&f);
	bench_until_state(&b, KEEPER_STATE_BOUND);
	assert_int_equal(b.status.moves, 1);
	assert_int_equal(b.status.device_pid, next.pid);
	assert_int_equal(pread(next.stats, &stats, sizeof(stats), 0), sizeof(stats));
	assert_int_equal(stats.draws_total, 7);
	fake_expect_only(&next, KEEPER_DEVICE_CONNECTION); /* the late one */
	assert_true(client_open(client));

	/* What it put and released counts now, and its arguments are those of its successors. */
	fake_kill(&next);
	fake_accept_ready(&b, &f);
	assert_string_equal(f.arg, "second");
	fake_take(&f, &given, KEEPER_DEVICE_LOAD, false);
	assert_int_equal(given_number(&given, KEEPER_CUSTODY_SHARED, id, 6), 4);
	assert_int_equal(given_number(&given, KEEPER_CUSTODY_SHARED, id, 5), -1);
	assert_int_equal(given_number(&given, KEEPER_CUSTODY_PRECOPY, 2, 0), 102);
	assert_int_equal(given.resumed, 2);
	close(late);
	close(client);
	bench_stop(&b);
}

static void test_a_vgpu_without_a_client_is_moved_too(void **state)
{
	struct bench b;
	struct fake f, next;

	bench_start(&b, NULL);
	fake_accept_ready(&b, &f);
	bench_until_state(&b, KEEPER_STATE_READY);
	ask_move(&b, false, "second");
	fake_accept_ready(&b, &next);
	bench_until_done(&b, 0, "");
	fake_expect_end(&f);
	uint32_t id;
	int client = bench_connect(&b, &next, &id);
	close(client);
	bench_stop(&b);
}

enum failure {
	NEXT_REFUSES,
	NEXT_DIES_AT_START,
	NEXT_DIES_COPYING,
	PRECOPY_HANGS,
	NEXT_DIES_PRELOADING,
	PRELOAD_REFUSED,
	PRELOAD_HANGS,
	SAVE_REFUSED,
	SAVE_LOSSY,
	SAVE_WITHOUT_IMAGE,
	SAVE_HANGS,
	NEXT_DIES_SAVING,
	LOAD_REFUSED,
	LOAD_HANGS,
	NEXT_DIES_LOADING,
	NEXT_BREAKS_PROTOCOL,
	FAILURES
};

/* Plays a move until `how` happens; says whether the source was stopped. */
static void fail_move(struct fake *f, struct fake *next, enum failure how)
{
	struct keeper_saved lossy = {.lossy = 1, .text = "it says no"};
	struct keeper_text text = {"no such GPU"};

	if (how == NEXT_REFUSES)
		fake_send(next, KEEPER_DEVICE_FAILED, &text, -1);
	if (how <= NEXT_DIES_AT_START) {
		fake_kill(next);
		return;
	}
	struct keeper_ready ready = {.version = KEEPER_PROTOCOL_VERSION, .renderer = "fake"};
	fake_send(next, KEEPER_DEVICE_READY, &ready, -1);
	if (how <= PRELOAD_HANGS) {
		fake_expect_only(f, KEEPER_DEVICE_PRECOPY);
		if (how == NEXT_DIES_COPYING)
			fake_kill(next);
		if (how <= PRECOPY_HANGS)
			return;
		fake_put(f, KEEPER_CUSTODY_PRECOPY, 0, 0, 100);
		fake_saved(f, KEEPER_DEVICE_PRECOPIED, 0, MIB, MIB);
		fake_take(next, &given, KEEPER_DEVICE_LOAD_PRECOPY, false);
		if (how == NEXT_DIES_PRELOADING)
			fake_kill(next);
		if (how == PRELOAD_REFUSED)
			fake_saved(next, KEEPER_DEVICE_LOADED, -EIO, 0, 0);
		return;
	}
	round_of(f, next, 0, MIB);
	fake_expect_only(f, KEEPER_DEVICE_SAVE);
	if (how == SAVE_REFUSED)
		fake_saved(f, KEEPER_DEVICE_SAVED, -EIO, 0, 0);
	if (how == SAVE_LOSSY)
		fake_send(f, KEEPER_DEVICE_SAVED, &lossy, -1);
	if (how == SAVE_WITHOUT_IMAGE)
		fake_saved(f, KEEPER_DEVICE_SAVED, 0, 0, 0);
	if (how == NEXT_DIES_SAVING)
		fake_kill(next);
	if (how <= NEXT_DIES_SAVING)
		return;
	fake_put(f, KEEPER_CUSTODY_IMAGE, 0, 0, 200);
	fake_saved(f, KEEPER_DEVICE_SAVED, 0, MIB, 0);
	fake_take(next, &given, KEEPER_DEVICE_LOAD, false);
	/* None of this may ever count. */
	fake_put(next, KEEPER_CUSTODY_ANCHOR, 0, 0, 99);
	fake_put(next, KEEPER_CUSTODY_SHARED, given.resumed_id[0], 5, 99);
	fake_release(next, KEEPER_CUSTODY_SHARED, given.resumed_id[0], 5);
	struct keeper_closed closed = {.id = given.resumed_id[0]};
	fake_send(next, KEEPER_DEVICE_CLOSED, &closed, -1);
	if (how == LOAD_REFUSED)
		fake_saved(next, KEEPER_DEVICE_LOADED, -EIO, 0, 0);
	if (how == NEXT_DIES_LOADING)
		fake_kill(next);
	if (how == NEXT_BREAKS_PROTOCOL)
		fake_saved(next, KEEPER_DEVICE_SAVED, 0, 0, 0);
}

static void test_the_source_goes_on_whatever_fails(void **state)
{
	char *options[] = {"--step-ms", "1000", NULL};

	for (enum failure how = 0; how < FAILURES; how++) {
		struct bench b;
		struct fake f, next;
		uint32_t id;
		int client = begin(&b, &f, &id, options);
		ask_move(&b, how == SAVE_LOSSY, "second");
		fake_accept(&b, &next);
		fail_move(&f, &next, how);
		while (b.done.total_ns == 0)
			bench_until_done(&b,
				how == PRECOPY_HANGS || how == PRELOAD_HANGS || how == SAVE_HANGS ||
						how == LOAD_HANGS
					? -ETIMEDOUT
				: how == SAVE_LOSSY         ? -EOPNOTSUPP
				: how == SAVE_WITHOUT_IMAGE ? -EPROTO
							    : -EIO,
				"the source goes on");
		if (how > NEXT_DIES_AT_START)
			fake_expect_only(&f, KEEPER_DEVICE_THAW);
		if (how == PRECOPY_HANGS) /* a late answer is nobody's, but no fault */
			fake_saved(&f, KEEPER_DEVICE_PRECOPIED, 0, MIB, MIB);
		if (how == SAVE_HANGS)
			fake_saved(&f, KEEPER_DEVICE_SAVED, 0, MIB, 0);
		assert_true(client_open(client));
		assert_int_equal(kill(f.pid, 0), 0);
		fake_expect_nothing(&f, 20);

		/* Nothing of the move is left in custody, the source's own things are. */
		fake_kill(&f);
		fake_accept_ready(&b, &f);
		assert_string_equal(f.arg, "first");
		fake_take(&f, &given, KEEPER_DEVICE_LOAD, false);
		assert_int_equal(given.load.recover, 1);
		assert_int_equal(given_number(&given, KEEPER_CUSTODY_ANCHOR, 0, 0), 1);
		assert_int_equal(given_number(&given, KEEPER_CUSTODY_JOURNAL, 1, 0), 2);
		assert_int_equal(given_number(&given, KEEPER_CUSTODY_SHARED, id, 5), 3);
		assert_int_equal(given.resumed, 1);
		fake_saved(&f, KEEPER_DEVICE_LOADED, 0, 0, 0);
		bench_until_event(&b, "recovered");
		close(client);
		bench_stop(&b);
	}
}

static void test_the_source_dies_during_the_move(void **state)
{
	for (int moment = 0; moment < 4; moment++) {
		struct bench b;
		struct fake f, next;
		uint32_t id;
		int client = begin(&b, &f, &id, NULL);
		ask_move(&b, false, "second");
		fake_accept(&b, &next);
		struct keeper_ready ready = {.version = KEEPER_PROTOCOL_VERSION};
		if (moment > 0)
			fake_send(&next, KEEPER_DEVICE_READY, &ready, -1);
		if (moment > 1)
			round_of(&f, &next, 0, 100 * MIB);
		if (moment == 2)
			round_of(&f, &next, 1, MIB);
		if (moment > 2)
			round_of(&f, &next, 1, 60 * MIB);
		if (moment == 2)
			fake_expect_only(&f, KEEPER_DEVICE_SAVE);
		fake_kill(&f);
		bench_until_done(&b, -EIO, "SIGKILL");
		fake_expect_end(&next);
		fake_accept_ready(&b, &f);
		assert_string_equal(f.arg, "first");
		fake_take(&f, &given, KEEPER_DEVICE_LOAD, false);
		assert_int_equal(given.load.recover, 1);
		fake_saved(&f, KEEPER_DEVICE_LOADED, 0, 0, 0);
		bench_until_event(&b, "recovered");
		assert_true(client_open(client));
		close(client);
		bench_stop(&b);
	}
}

/* Its state is saved already: the successor goes on, or who recovers from what both left. */
static void test_the_source_dies_when_it_was_saved(void **state)
{
	for (int loaded = 0; loaded < 2; loaded++) {
		struct bench b;
		struct fake f, next;
		uint32_t id;
		int client = begin(&b, &f, &id, NULL);
		ask_move(&b, false, NULL);
		fake_accept_ready(&b, &next);
		assert_string_equal(next.arg, "first"); /* none given: the same */
		round_of(&f, &next, 0, MIB);
		save(&f, 0);
		fake_take(&next, &given, KEEPER_DEVICE_LOAD, false);
		fake_put(&next, KEEPER_CUSTODY_JOURNAL, 0, 0, 300);
		fake_kill(&f);
		usleep(50000);
		if (loaded) {
			fake_saved(&next, KEEPER_DEVICE_LOADED, 0, 0, 0);
			bench_until_done(&b, 0, "");
			fake_kill(&next);
		} else {
			fake_kill(&next);
			bench_until_done(&b, -EIO, "SIGKILL");
		}
		fake_accept_ready(&b, &f);
		fake_take(&f, &given, KEEPER_DEVICE_LOAD, false);
		assert_int_equal(given.load.recover, 1);
		assert_int_equal(given_number(&given, KEEPER_CUSTODY_IMAGE, 0, 0), 200);
		assert_int_equal(given_number(&given, KEEPER_CUSTODY_JOURNAL, 0, 0), 300);
		assert_int_equal(given_number(&given, KEEPER_CUSTODY_JOURNAL, 1, 0), 2);
		fake_saved(&f, KEEPER_DEVICE_LOADED, 0, 0, 0);
		bench_until_event(&b, "recovered");
		assert_true(client_open(client));
		close(client);
		bench_stop(&b);
	}
}

/* An image in case of a crash was being made when SAVE was sent: the one of SAVE comes after it. */
static void test_the_newest_image_is_loaded(void **state)
{
	struct bench b;
	struct fake f, next;
	uint32_t id;
	int client = begin(&b, &f, &id, NULL);

	ask_move(&b, false, NULL);
	fake_accept_ready(&b, &next);
	round_of(&f, &next, 0, MIB);
	fake_expect_only(&f, KEEPER_DEVICE_SAVE);
	fake_put(&f, KEEPER_CUSTODY_IMAGE, 0, 0, 50);
	fake_put(&f, KEEPER_CUSTODY_IMAGE, 1, 0, 200);
	fake_saved(&f, KEEPER_DEVICE_SAVED, 0, MIB, 0);
	fake_take(&next, &given, KEEPER_DEVICE_LOAD, false);
	assert_int_equal(given.load.images, 1u << 1);
	assert_int_equal(given_number(&given, KEEPER_CUSTODY_IMAGE, 1, 0), 200);
	assert_int_equal(given_number(&given, KEEPER_CUSTODY_IMAGE, 0, 0), -1);
	fake_saved(&next, KEEPER_DEVICE_LOADED, 0, 0, 0);
	bench_until_done(&b, 0, "");
	close(client);
	bench_stop(&b);
}

/* Rounds of an earlier move are given to nobody, and gone when this one is over. */
static void test_rounds_of_an_earlier_move(void **state)
{
	for (int at_once = 0; at_once < 2; at_once++) {
		struct keeper_move move = {.at_once = (uint32_t)at_once};
		struct bench b;
		struct fake f, next;
		uint32_t id;
		int client = begin(&b, &f, &id, NULL);

		for (uint32_t i = 0; i < 3; i++)
			fake_put(&f, KEEPER_CUSTODY_PRECOPY, i, 0, 50 + (int)i);
		bench_send(&b, KEEPER_CONTROL_MOVE, &move, -1);
		fake_accept_ready(&b, &next);
		if (!at_once)
			round_of(&f, &next, 0, MIB); /* it is given one, the new one */
		save(&f, 0);
		fake_take(&next, &given, KEEPER_DEVICE_LOAD, false);
		assert_int_equal(given.count, 4); /* anchor, journal, shared, image */
		fake_saved(&next, KEEPER_DEVICE_LOADED, 0, 0, 0);
		bench_until_done(&b, 0, "");
		fake_kill(&next);
		fake_accept_ready(&b, &f);
		fake_take(&f, &given, KEEPER_DEVICE_LOAD, false);
		assert_int_equal(
			given_number(&given, KEEPER_CUSTODY_PRECOPY, 0, 0), at_once ? -1 : 100);
		assert_int_equal(given_number(&given, KEEPER_CUSTODY_PRECOPY, 1, 0), -1);
		assert_int_equal(given_number(&given, KEEPER_CUSTODY_PRECOPY, 2, 0), -1);
		fake_saved(&f, KEEPER_DEVICE_LOADED, 0, 0, 0);
		bench_until_event(&b, "recovered");
		close(client);
		bench_stop(&b);
	}
}

/* It serves already when its time is over: the source must not go on as well. */
static void test_loaded_crosses_the_time_out(void **state)
{
	char *options[] = {"--step-ms", "600", NULL};
	struct bench b;
	struct fake f, next;
	uint32_t id;
	int client = begin(&b, &f, &id, options);

	ask_move(&b, false, NULL);
	fake_accept_ready(&b, &next);
	round_of(&f, &next, 0, MIB);
	save(&f, 0);
	fake_take(&next, &given, KEEPER_DEVICE_LOAD, false);
	fake_put(&next, KEEPER_CUSTODY_JOURNAL, 0, 0, 300);
	usleep(100000);
	kill(b.keeper, SIGSTOP);
	usleep(800000); /* its clock is the first thing it sees afterwards */
	fake_saved(&next, KEEPER_DEVICE_LOADED, 0, 0, 0);
	kill(b.keeper, SIGCONT);
	bench_until_done(&b, 0, "");
	fake_expect_end(&f);
	fake_expect_end(&next);
	fake_accept_ready(&b, &f);
	fake_take(&f, &given, KEEPER_DEVICE_LOAD, false);
	assert_int_equal(given.load.recover, 1);
	assert_int_equal(given.load.blame, 0);
	assert_int_equal(given_number(&given, KEEPER_CUSTODY_JOURNAL, 0, 0), 300);
	fake_saved(&f, KEEPER_DEVICE_LOADED, 0, 0, 0);
	bench_until_event(&b, "recovered");
	assert_true(client_open(client));
	close(client);
	bench_stop(&b);
}

static void test_a_client_that_leaves_during_the_move(void **state)
{
	struct keeper_closed closed;
	struct bench b;
	struct fake f, next;
	uint32_t id;

	/* While the source still serves: the next one has seen its contents, so it goes too. */
	int client = begin(&b, &f, &id, NULL);
	ask_move(&b, false, NULL);
	fake_accept_ready(&b, &next);
	fake_expect_only(&f, KEEPER_DEVICE_PRECOPY);
	close(client);
	closed = (struct keeper_closed){.id = id};
	fake_send(&f, KEEPER_DEVICE_CLOSED, &closed, -1);
	bench_until_done(&b, -ECANCELED, "its binding is over");
	fake_expect_end(&f);
	fake_expect_end(&next);
	fake_accept_ready(&b, &f);
	client = bench_connect(&b, &f, &id);

	/* While it is stopped: the next one is told. */
	fake_put(&f, KEEPER_CUSTODY_ANCHOR, 0, 0, 1);
	ask_move(&b, false, NULL);
	fake_accept_ready(&b, &next);
	round_of(&f, &next, 0, MIB);
	fake_expect_only(&f, KEEPER_DEVICE_SAVE);
	close(client);
	fake_put(&f, KEEPER_CUSTODY_IMAGE, 0, 0, 200);
	fake_saved(&f, KEEPER_DEVICE_SAVED, 0, MIB, 0);
	fake_take(&next, &given, KEEPER_DEVICE_LOAD, false);
	assert_int_equal(given.resumed, 1);
	fake_saved(&next, KEEPER_DEVICE_LOADED, 0, 0, 0);
	bench_until_done(&b, 0, "");
	fake_expect_end(&f);
	fake_expect_end(&next); /* no connection is left after the time to drain */
	bench_stop(&b);
}

/* A binding ends while its guest is moved: what was carried is nothing for the next one. */
static void test_a_binding_that_ends_during_the_move(void **state)
{
	const struct keeper_save save_asked = {0};
	struct bench b;
	struct fake f, next;
	uint32_t id;
	int client = begin(&b, &f, &id, NULL), file = bench_file(1);

	ask_move(&b, false, NULL);
	fake_accept_ready(&b, &next);
	fake_expect_only(&f, KEEPER_DEVICE_PRECOPY);
	close(client);
	usleep(50000); /* the keeper has seen it */
	fake_saved(&f, KEEPER_DEVICE_PRECOPIED, 0, 0, 0);
	save(&f, 0);
	fake_take(&next, &given, KEEPER_DEVICE_LOAD, false);
	fake_saved(&next, KEEPER_DEVICE_LOADED, 0, 0, 0);
	bench_until_done(&b, 0, "");
	fake_expect_end(&f);
	bench_send(&b, KEEPER_CONTROL_HIBERNATE, &save_asked, file);
	bench_until_done(&b, -EAGAIN, "its last client's work is being finished");
	client = bench_client(&b, "vtest.sock");
	fake_expect_end(&next);
	fake_accept_ready(&b, &f); /* a fresh one */
	fake_expect_only(&f, KEEPER_DEVICE_CONNECTION);
	bench_until_state(&b, KEEPER_STATE_BOUND);
	close(file);
	close(client);
	bench_stop(&b);
}

static void test_one_job_at_a_time(void **state)
{
	const struct keeper_save save_asked = {0};
	struct bench b;
	struct fake f, next;
	uint32_t id;
	int client = begin(&b, &f, &id, NULL), file = bench_file(1);

	bench_send(&b, KEEPER_CONTROL_WAKE, NULL, -1);
	bench_until_done(&b, -EBUSY, "it is not hibernated");
	ask_move(&b, false, NULL);
	fake_accept_ready(&b, &next);
	bench_send(&b, KEEPER_CONTROL_SNAPSHOT, &save_asked, file);
	bench_until_done(&b, -EBUSY, "a move is under way");
	bench_send(&b, KEEPER_CONTROL_HIBERNATE, &save_asked, file);
	bench_until_done(&b, -EBUSY, "a move is under way");
	round_of(&f, &next, 0, MIB);
	save(&f, 0);
	fake_take(&next, &given, KEEPER_DEVICE_LOAD, false);
	ask_move(&b, false, NULL);
	bench_until_done(&b, -EBUSY, "a move is under way");
	fake_saved(&next, KEEPER_DEVICE_LOADED, 0, 0, 0);
	bench_until_done(&b, 0, "");
	fake_kill(&next);
	fake_accept_ready(&b, &f);
	fake_take(&f, &given, KEEPER_DEVICE_LOAD, false);
	bench_send(&b, KEEPER_CONTROL_CHECK, NULL, -1);
	bench_until_done(&b, -EBUSY, "a recovery is under way");
	fake_saved(&f, KEEPER_DEVICE_LOADED, 0, 0, 0);
	struct keeper_move bad = {.n_args = 3};
	memset(bad.args, 'a', sizeof(bad.args)); /* without an end */
	bench_until_event(&b, "recovered");
	bench_send(&b, KEEPER_CONTROL_MOVE, &bad, -1);
	bench_until_done(&b, -EINVAL, "cannot be started");
	close(file);
	close(client);
	bench_stop(&b);
}

static void test_check_snapshot_restore(void **state)
{
	const struct keeper_save asked = {.exact = 1};
	struct keeper_checked checked = {.verdict = KEEPER_CHECK_LOSSY, .text = "a reason"};
	struct keeper_closed closed = {0};
	struct packet p;
	struct bench b;
	struct fake f;
	int file = bench_file(42);

	int client = begin(&b, &f, &closed.id, NULL);
	bench_send(&b, KEEPER_CONTROL_CHECK, NULL, -1);
	fake_expect_only(&f, KEEPER_DEVICE_CHECK);
	fake_send(&f, KEEPER_DEVICE_CHECKED, &checked, -1);
	fake_send(&f, KEEPER_DEVICE_CHECKED, &checked, -1);
	checked.text[0] = '\0';
	fake_send(&f, KEEPER_DEVICE_CHECKED, &checked, -1);
	bench_until_done(&b, 0, "");
	assert_int_equal(b.checked, 2);

	bench_send(&b, KEEPER_CONTROL_SNAPSHOT, &asked, file);
	fake_expect(&f, KEEPER_DEVICE_SAVE_FILE, &p);
	assert_int_equal(((struct keeper_save *)p.payload)->exact, 1);
	assert_int_equal(((struct keeper_save *)p.payload)->stop, 0);
	assert_int_equal(bench_file_number(p.fd), 42);
	close(p.fd);
	fake_saved(&f, KEEPER_DEVICE_SAVED, 0, 5 * MIB, 0);
	fake_expect_only(&f, KEEPER_DEVICE_THAW);
	bench_until_done(&b, 0, "");
	assert_int_equal(b.done.bytes, 5 * MIB);
	bench_send(&b, KEEPER_CONTROL_SNAPSHOT, &asked, file);
	fake_expect_only(&f, KEEPER_DEVICE_SAVE_FILE);
	fake_saved(&f, KEEPER_DEVICE_SAVED, -ENOSPC, 0, 0);
	fake_expect_only(&f, KEEPER_DEVICE_THAW);
	bench_until_done(&b, -ENOSPC, "it says no");

	bench_send(&b, KEEPER_CONTROL_RESTORE, NULL, file);
	bench_until_done(&b, -EBUSY, "restore under a guest or client that has moved on");
	close(client);
	fake_send(&f, KEEPER_DEVICE_CLOSED, &closed, -1);
	fake_accept_ready(&b, &f);
	bench_until_state(&b, KEEPER_STATE_READY);
	bench_send(&b, KEEPER_CONTROL_RESTORE, NULL, file);
	fake_expect_only(&f, KEEPER_DEVICE_LOAD_FILE);
	client = bench_client(&b, "vtest.sock");
	fake_expect_nothing(&f, 50);
	fake_saved(&f, KEEPER_DEVICE_LOADED, 0, MIB, 0);
	bench_until_done(&b, 0, "");
	fake_expect_only(&f, KEEPER_DEVICE_CONNECTION);
	close(client);
	close(file);
	bench_stop(&b);
}

/* What nobody is connected to is not carried by a move, so it is not dropped by one either. */
static void test_a_restored_state_is_not_moved_away(void **state)
{
	const struct keeper_save asked = {0};
	struct bench b;
	struct fake f, next;
	uint32_t id;
	int file = bench_file(1);

	bench_start(&b, NULL);
	fake_accept_ready(&b, &f);
	bench_until_state(&b, KEEPER_STATE_READY);
	bench_send(&b, KEEPER_CONTROL_RESTORE, NULL, file);
	fake_expect_only(&f, KEEPER_DEVICE_LOAD_FILE);
	fake_saved(&f, KEEPER_DEVICE_LOADED, 0, MIB, 0);
	bench_until_done(&b, 0, "no guest or client takes it up");
	ask_move(&b, false, NULL);
	bench_until_done(&b, -EBUSY, "it holds a restored state that no guest uses");
	bench_send(&b, KEEPER_CONTROL_HIBERNATE, &asked, file);
	fake_expect_only(&f, KEEPER_DEVICE_SAVE_FILE);
	fake_saved(&f, KEEPER_DEVICE_SAVED, 0, MIB, 0);
	bench_until_done(&b, 0, "");
	fake_expect_end(&f);
	bench_send(&b, KEEPER_CONTROL_WAKE, NULL, -1);
	fake_accept_ready(&b, &f);
	fake_take(&f, &given, KEEPER_DEVICE_LOAD_FILE, false);
	fake_saved(&f, KEEPER_DEVICE_LOADED, 0, MIB, 0);
	bench_until_done(&b, 0, "");
	ask_move(&b, false, NULL);
	bench_until_done(&b, -EBUSY, "it holds a restored state that no guest uses");
	/* With somebody there it is carried like all else; after him it is gone. */
	int client = bench_connect(&b, &f, &id);
	ask_move(&b, false, NULL);
	fake_accept_ready(&b, &next);
	round_of(&f, &next, 0, MIB);
	save(&f, 0);
	fake_take(&next, &given, KEEPER_DEVICE_LOAD, false);
	fake_saved(&next, KEEPER_DEVICE_LOADED, 0, 0, 0);
	bench_until_done(&b, 0, "");
	fake_expect_end(&f);
	close(client);
	fake_expect_end(&next);
	fake_accept_ready(&b, &f);
	usleep(100000); /* the keeper knows */
	ask_move(&b, false, NULL);
	fake_accept_ready(&b, &next);
	bench_until_done(&b, 0, "");
	fake_expect_end(&f);
	close(file);
	bench_stop(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_moved),
		cmocka_unit_test(test_a_vgpu_without_a_client_is_moved_too),
		cmocka_unit_test(test_the_source_goes_on_whatever_fails),
		cmocka_unit_test(test_the_source_dies_during_the_move),
		cmocka_unit_test(test_the_source_dies_when_it_was_saved),
		cmocka_unit_test(test_the_newest_image_is_loaded),
		cmocka_unit_test(test_rounds_of_an_earlier_move),
		cmocka_unit_test(test_loaded_crosses_the_time_out),
		cmocka_unit_test(test_a_client_that_leaves_during_the_move),
		cmocka_unit_test(test_a_binding_that_ends_during_the_move),
		cmocka_unit_test(test_one_job_at_a_time),
		cmocka_unit_test(test_check_snapshot_restore),
		cmocka_unit_test(test_a_restored_state_is_not_moved_away),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
