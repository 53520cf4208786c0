/* SPDX-License-Identifier: Apache-2.0 */
/* A device process is stopped by force for a while, and is never left so. */
#include "bench.h"

#include "base/checked.h"
#include "base/clock.h"
#include "base/process_times.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define MS       1000000ull
#define LIMIT_MS 10000u

static struct given given; /* large */

static bool is_stopped(pid_t pid)
{
	char path[32], state = '?';

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	FILE *f = fopen(path, "re");
	if (!f)
		return false;
	bool read = fscanf(f, "%*d (%*[^)]) %c", &state) == 1;
	fclose(f);
	return read && state == 'T';
}

static void hold(struct bench *b, uint64_t ns)
{
	const struct keeper_hold message = {.ns = ns};

	bench_send(b, KEEPER_CONTROL_HOLD, &message, -1);
}

/* Asks until it is seen, for on a busy machine the test may sleep through a hold. */
static void hold_seen(struct bench *b, pid_t pid, uint64_t ns)
{
	for (unsigned i = 0; !is_stopped(pid); i++) {
		if (i == LIMIT_MS)
			fail_msg("it was never stopped");
		if (i % 10 == 0)
			hold(b, ns);
		usleep(1000);
	}
}

static void until_it_goes_on(pid_t pid)
{
	for (unsigned i = 0; is_stopped(pid); i++) {
		if (i == LIMIT_MS)
			fail_msg("it stays stopped");
		usleep(1000);
	}
}

static pid_t child_of(pid_t pid, pid_t not_this)
{
	pid_t child;

	for (unsigned i = 0; !process_children(pid, &child, 1) || child == not_this; i++) {
		if (i == LIMIT_MS)
			fail_msg("it has no child");
		usleep(1000);
	}
	return child;
}

/* Held again and again for `ms`, nearly all of the time. */
static void hold_on(struct bench *b, unsigned ms)
{
	for (unsigned i = 0; i < ms / 10; i++) {
		hold(b, 20 * MS);
		usleep(10000);
	}
}

static void ask_status(struct bench *b)
{
	const struct keeper_hello hello = {.version = KEEPER_PROTOCOL_VERSION};

	bench_send(b, KEEPER_CONTROL_HELLO, &hello, -1);
	bench_until_state(b, b->status.state);
}

static void begin(struct bench *b, struct fake *f, char *const *options)
{
	bench_start(b, options);
	fake_accept_ready(b, f);
	bench_until_state(b, KEEPER_STATE_READY);
}

static void test_it_goes_on_by_itself(void **state)
{
	struct bench b;
	struct fake f;

	begin(&b, &f, NULL);
	uint64_t before = clock_ns();
	hold_seen(&b, f.pid, 10000 * MS);
	until_it_goes_on(f.pid);
	assert_in_range(clock_ns() - before, KEEPER_HOLD_MAX_NS, 20 * KEEPER_HOLD_MAX_NS);
	ask_status(&b);
	assert_in_range(b.status.held_ns, KEEPER_HOLD_MAX_NS, 20 * KEEPER_HOLD_MAX_NS);
	hold_seen(&b, f.pid, 40 * MS);
	hold(&b, 0); /* it is wanted again */
	until_it_goes_on(f.pid);
	fake_expect_nothing(&f, 0);
	bench_stop(&b);
}

/* vgpud asks for one hold after the other, and is killed. */
static void test_nothing_stays_stopped_without_vgpud(void **state)
{
	struct bench b;
	struct fake f;

	begin(&b, &f, NULL);
	hold_on(&b, 100);
	hold(&b, 50 * MS);
	close(b.control);
	until_it_goes_on(f.pid);
	usleep(100000);
	assert_false(is_stopped(f.pid));
	b.control = -1;
	bench_stop(&b);
}

static void test_its_child_is_held_too(void **state)
{
	struct bench b;
	struct fake f;

	setenv("VGPU_FAKE_CHILD", "1", 1);
	begin(&b, &f, NULL);
	unsetenv("VGPU_FAKE_CHILD");
	pid_t child = child_of(f.pid, 0);
	hold_seen(&b, child, 40 * MS);
	assert_true(is_stopped(f.pid) || !is_stopped(child));
	until_it_goes_on(child);
	until_it_goes_on(f.pid);
	assert_int_equal(kill(child, SIGKILL), 0);
	child = child_of(f.pid, child); /* the fake starts another one */
	hold_seen(&b, child, 40 * MS);
	until_it_goes_on(child);
	bench_stop(&b);
}

static void test_none_is_held_that_starts_or_takes_over(void **state)
{
	struct keeper_move move = {0};
	struct keeper_ready ready = {.version = KEEPER_PROTOCOL_VERSION, .renderer = "fake"};
	struct bench b;
	struct fake f, next;
	uint32_t id;

	bench_start(&b, NULL);
	fake_accept(&b, &f);
	hold_on(&b, 60);
	assert_false(is_stopped(f.pid));
	fake_send(&f, KEEPER_DEVICE_READY, &ready, -1);
	int client = bench_connect(&b, &f, &id);
	bench_until_state(&b, KEEPER_STATE_BOUND);
	hold(&b, 50 * MS);
	bench_send(&b, KEEPER_CONTROL_MOVE, &move, -1);
	fake_accept_ready(&b, &next);
	fake_expect_only(&f, KEEPER_DEVICE_PRECOPY);
	hold_on(&b, 60);
	assert_false(is_stopped(f.pid));
	assert_false(is_stopped(next.pid));
	fake_put(&f, KEEPER_CUSTODY_PRECOPY, 0, 0, 1);
	fake_saved(&f, KEEPER_DEVICE_PRECOPIED, 0, 1, 0);
	fake_take(&next, &given, KEEPER_DEVICE_LOAD_PRECOPY, false);
	fake_saved(&next, KEEPER_DEVICE_LOADED, 0, 0, 0);
	fake_expect_only(&f, KEEPER_DEVICE_SAVE);
	hold(&b, 50 * MS);
	fake_put(&f, KEEPER_CUSTODY_IMAGE, 0, 0, 2);
	fake_saved(&f, KEEPER_DEVICE_SAVED, 0, 1, 0);
	fake_take(&next, &given, KEEPER_DEVICE_LOAD, false);
	hold(&b, 50 * MS);
	fake_saved(&next, KEEPER_DEVICE_LOADED, 0, 0, 0);
	bench_until_done(&b, 0, "");
	assert_false(is_stopped(next.pid));
	hold_seen(&b, next.pid, 30 * MS); /* and the one that serves from now on is */
	until_it_goes_on(next.pid);
	close(client);
	bench_stop(&b);
}

/* What it is asked for it does at once. */
static void test_a_request_ends_the_hold(void **state)
{
	const struct keeper_checked fine = {.verdict = KEEPER_CHECK_FINE};
	bool at_once = false;
	struct bench b;
	struct fake f;

	begin(&b, &f, NULL);
	for (unsigned i = 0; i < 5 && !at_once;
		i++) { /* on a busy machine it may go on by itself */
		hold_seen(&b, f.pid, 50 * MS);
		uint64_t before = clock_ns();
		bench_send(&b, KEEPER_CONTROL_CHECK, NULL, -1);
		until_it_goes_on(f.pid);
		at_once = clock_ns() - before < 25 * MS;
		fake_expect_only(&f, KEEPER_DEVICE_CHECK);
		fake_send(&f, KEEPER_DEVICE_CHECKED, &fine, -1);
		bench_until_done(&b, 0, "");
	}
	assert_true(at_once);
	bench_stop(&b);
}

static void test_its_death_ends_the_hold(void **state)
{
	struct bench b;
	struct fake f;
	uint32_t id;

	begin(&b, &f, NULL);
	int client = bench_connect(&b, &f, &id);
	fake_put(&f, KEEPER_CUSTODY_ANCHOR, 0, 0, 1);
	hold_seen(&b, f.pid, 50 * MS);
	fake_kill(&f);
	fake_accept_ready(&b, &f);
	hold_on(&b, 60); /* it recovers */
	assert_false(is_stopped(f.pid));
	fake_take(&f, &given, KEEPER_DEVICE_LOAD, false);
	fake_saved(&f, KEEPER_DEVICE_LOADED, 0, 0, 0);
	bench_until_event(&b, "recovered");
	assert_true(client_open(client));
	hold_seen(&b, f.pid, 20 * MS);
	until_it_goes_on(f.pid);
	close(client);
	bench_stop(&b);
}

/* It must be able to read that it is to end. */
static void test_the_end_of_its_keeper(void **state)
{
	struct bench b;
	struct fake f;

	begin(&b, &f, NULL);
	hold_seen(&b, f.pid, 50 * MS);
	bench_send(&b, KEEPER_CONTROL_STOP, NULL, -1);
	fake_expect_only(&f, KEEPER_DEVICE_QUIT);
	hold_on(&b, 60);
	assert_false(is_stopped(f.pid));
	bench_stop(&b);
}

/* Who cannot run does not hang; who does hang is found all the same. */
static void test_held_is_not_hung(void **state)
{
	char *options[] = {"--hang-ms", "1000", NULL};
	struct keeper_anchor anchor = {
		.magic = KEEPER_ANCHOR_MAGIC, .version = KEEPER_ANCHOR_VERSION, .current = 0xff00};
	struct keeper_custody what = {.kind = KEEPER_CUSTODY_ANCHOR};
	struct bench b;
	struct fake f;
	uint32_t id;

	begin(&b, &f, options);
	int client = bench_connect(&b, &f, &id);
	int fd = memfd_create("anchor", MFD_CLOEXEC);
	anchor.busy_since = clock_ns();
	assert_int_equal(pwrite(fd, &anchor, sizeof(anchor), 0), sizeof(anchor));
	fake_send(&f, KEEPER_DEVICE_CUSTODY, &what, fd);
	hold_on(&b, 3500);
	assert_int_equal(kill(f.pid, 0), 0);
	until_it_goes_on(f.pid);
	fake_expect_end(&f); /* now it is too long */
	fake_accept_ready(&b, &f);
	fake_take(&f, &given, KEEPER_DEVICE_LOAD, false);
	fake_saved(&f, KEEPER_DEVICE_LOADED, 0, 0, 0);
	bench_until_event(&b, "it hung");
	close(client);
	close(fd);
	bench_stop(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_it_goes_on_by_itself),
		cmocka_unit_test(test_nothing_stays_stopped_without_vgpud),
		cmocka_unit_test(test_its_child_is_held_too),
		cmocka_unit_test(test_none_is_held_that_starts_or_takes_over),
		cmocka_unit_test(test_a_request_ends_the_hold),
		cmocka_unit_test(test_its_death_ends_the_hold),
		cmocka_unit_test(test_the_end_of_its_keeper),
		cmocka_unit_test(test_held_is_not_hung),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
