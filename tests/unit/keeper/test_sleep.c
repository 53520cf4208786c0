/* SPDX-License-Identifier: Apache-2.0 */
/* Hibernation, and all that wakes. */
#include "bench.h"

#include "base/checked.h"
#include "base/clock.h"
#include "protocol/stats.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB (1ull << 20)

static struct given given; /* large */

static const struct keeper_save exact = {.exact = 1};

struct sleeper {
	struct bench b;
	struct fake f;
	uint32_t id;
	int client, kick;
};

static void hibernate(struct sleeper *s)
{
	const struct keeper_save asked = {.exact = 0};
	struct packet p;
	int file = bench_file(42);

	bench_send(&s->b, KEEPER_CONTROL_HIBERNATE, &asked, file);
	close(file);
	fake_expect(&s->f, KEEPER_DEVICE_SAVE_FILE, &p);
	assert_int_equal(((struct keeper_save *)p.payload)->stop, 1);
	assert_int_equal(((struct keeper_save *)p.payload)->exact, 0);
	assert_int_equal(bench_file_number(p.fd), 42);
	close(p.fd);
	fake_saved(&s->f, KEEPER_DEVICE_SAVED, 0, MIB, 0);
	bench_until_done(&s->b, 0, "");
	fake_expect_end(&s->f);
	assert_int_equal(s->b.status.state, KEEPER_STATE_HIBERNATED);
	assert_int_equal(s->b.status.device_pid, 0);
	assert_string_equal(s->b.status.failure, "");
	assert_int_equal(s->b.done.bytes, MIB);
	assert_in_range(s->b.done.left_bytes, 1, 5000000);
}

static void begin(struct sleeper *s, char *const *options)
{
	struct keeper_custody what = {.kind = KEEPER_CUSTODY_KICK};

	bench_start(&s->b, options);
	fake_accept_ready(&s->b, &s->f);
	s->client = bench_connect(&s->b, &s->f, &s->id);
	s->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	fake_send(&s->f, KEEPER_DEVICE_CUSTODY, &what, s->kick);
	fake_put(&s->f, KEEPER_CUSTODY_KICK, 1, 0, 9); /* a file: it never kicks */
	fake_put(&s->f, KEEPER_CUSTODY_ANCHOR, 0, 0, 1);
	fake_put(&s->f, KEEPER_CUSTODY_JOURNAL, 1, 0, 2);
	fake_put(&s->f, KEEPER_CUSTODY_IMAGE, 1, 0, 2);
	fake_put(&s->f, KEEPER_CUSTODY_PRECOPY, 0, 0, 2);
	fake_put(&s->f, KEEPER_CUSTODY_SHARED, s->id, 5, 3);
	fake_put(&s->f, KEEPER_CUSTODY_SCREEN, 0, 0, 4);
}

static void end(struct sleeper *s)
{
	close(s->client);
	close(s->kick);
	bench_stop(&s->b);
}

/* `resumed` connections and `count` items, of which the state's own are none. */
static void take(struct sleeper *s, unsigned resumed, unsigned count)
{
	fake_accept_ready(&s->b, &s->f);
	fake_take(&s->f, &given, KEEPER_DEVICE_LOAD_FILE, false);
	assert_int_equal(given.file_number, 42);
	assert_int_equal(given.load.recover, 0);
	assert_int_equal(given.resumed, resumed);
	assert_int_equal(given.count, count);
	for (unsigned i = 0; i < given.count; i++)
		assert_true(given.what[i].kind < KEEPER_CUSTODY_ANCHOR);
}

static void wake(struct sleeper *s)
{
	take(s, 1, 2 + 1);
	fake_saved(&s->f, KEEPER_DEVICE_LOADED, 0, 0, 0);
	bench_until_event(&s->b, "woken: pause");
	bench_until_state(&s->b, KEEPER_STATE_BOUND);
}

/* A kick, WAKE, and a byte: that one last, for nobody here reads it. */
static void test_a_kick_a_command_and_a_byte_wake(void **state)
{
	struct keeper_hello hello = {.version = KEEPER_PROTOCOL_VERSION};
	struct sleeper s;

	begin(&s, NULL);
	for (uint32_t how = 0; how < 3; how++) {
		hibernate(&s);
		usleep(100000);
		bench_send(&s.b, KEEPER_CONTROL_HELLO, &hello, -1);
		bench_until_state(&s.b, KEEPER_STATE_HIBERNATED); /* still */
		if (how == 0)
			assert_int_equal(eventfd_write(s.kick, 1), 0);
		if (how == 1)
			bench_send(&s.b, KEEPER_CONTROL_WAKE, NULL, -1);
		if (how == 2)
			assert_int_equal(send(s.client, "x", 1, 0), 1);
		wake(&s);
		assert_int_equal(s.b.status.wakes, how + 1);
		assert_true(s.b.status.last_pause_ns > 0);
		eventfd_t kicks;
		eventfd_read(s.kick, &kicks); /* as a device process would */
		assert_true(client_open(s.client));
	}
	end(&s);
}

static void test_a_new_connection_wakes(void **state)
{
	struct sleeper s;

	begin(&s, NULL);
	hibernate(&s);
	int late = bench_client(&s.b, "vtest.sock");
	wake(&s);
	fake_expect_only(&s.f, KEEPER_DEVICE_CONNECTION);
	close(late);
	end(&s);
}

/* Both in one batch of events: a keeper that is stopped meanwhile sees them together. */
static void test_two_that_wake_start_one_process(void **state)
{
	struct sleeper s;
	uint32_t id;

	begin(&s, NULL);
	int other = bench_connect(&s.b, &s.f, &id);
	hibernate(&s);
	assert_int_equal(kill(s.b.keeper, SIGSTOP), 0);
	assert_int_equal(send(s.client, "x", 1, 0), 1);
	assert_int_equal(send(other, "x", 1, 0), 1);
	eventfd_write(s.kick, 1);
	assert_int_equal(kill(s.b.keeper, SIGCONT), 0);
	take(&s, 2, 2 + 1);
	fake_saved(&s.f, KEEPER_DEVICE_LOADED, 0, 0, 0);
	bench_until_event(&s.b, "woken: pause");
	bench_until_state(&s.b, KEEPER_STATE_BOUND);
	assert_int_equal(s.b.status.starts, 2);
	assert_true(client_open(s.client));
	close(other);
	end(&s);
}

/* What is there already when it falls asleep wakes it at once. */
static void test_a_kick_that_was_not_read_wakes(void **state)
{
	struct sleeper s;

	begin(&s, NULL);
	eventfd_write(s.kick, 1);
	hibernate(&s);
	wake(&s);
	end(&s);
}

static void test_it_cannot_be_saved(void **state)
{
	struct sleeper s;

	for (int dies = 0; dies < 2; dies++) {
		begin(&s, NULL);
		int file = bench_file(1);
		bench_send(&s.b, KEEPER_CONTROL_HIBERNATE, &exact, file);
		struct packet p;
		fake_expect(&s.f, KEEPER_DEVICE_SAVE_FILE, &p);
		assert_int_equal(((struct keeper_save *)p.payload)->exact, 1);
		close(p.fd);
		if (dies) {
			fake_kill(&s.f);
			bench_until_done(&s.b, -EIO, "SIGKILL");
			fake_accept_ready(&s.b, &s.f);
			fake_take(&s.f, &given, KEEPER_DEVICE_LOAD, false);
			assert_int_equal(given.count, 7);
			fake_saved(&s.f, KEEPER_DEVICE_LOADED, 0, 0, 0);
			bench_until_event(&s.b, "recovered");
		} else {
			fake_saved(&s.f, KEEPER_DEVICE_SAVED, -ENOSPC, 0, 0);
			bench_until_done(&s.b, -ENOSPC, "it says no");
			fake_expect_only(&s.f, KEEPER_DEVICE_THAW);
		}
		close(file);
		hibernate(&s); /* now it can */
		send(s.client, "x", 1, 0);
		wake(&s);
		end(&s);
	}
}

static void test_waking_fails_and_is_tried_again(void **state)
{
	char *options[] = {"--step-ms", "300", NULL};
	struct sleeper s;

	begin(&s, options);
	for (int how = 0; how < 4; how++) {
		hibernate(&s);
		send(s.client, "x", 1, 0);
		if (how == 0) {
			struct keeper_text text = {"no such GPU"};
			fake_accept(&s.b, &s.f);
			fake_send(&s.f, KEEPER_DEVICE_FAILED, &text, -1);
			kill(s.f.pid, SIGSEGV);
			fake_expect_end(&s.f);
		} else {
			take(&s, 1, 3);
			fake_put(&s.f, KEEPER_CUSTODY_ANCHOR, 0, 0, 99); /* never counts */
			struct keeper_closed closed = {.id = s.id};
			fake_send(&s.f, KEEPER_DEVICE_CLOSED, &closed, -1);
		}
		if (how == 1) {
			kill(s.f.pid, SIGSEGV);
			fake_expect_end(&s.f);
		}
		if (how == 2) {
			fake_saved(&s.f, KEEPER_DEVICE_LOADED, -EIO, 0, 0);
			fake_expect_end(&s.f);
		}
		if (how == 3)
			fake_expect_end(&s.f); /* 4 times --step-ms */
		bench_until_event(&s.b, "waking failed");
		bench_until_state(&s.b, KEEPER_STATE_FAILED);
		usleep(100000); /* the byte is still there and wakes nobody */
		bench_send(&s.b, KEEPER_CONTROL_WAKE, NULL, -1);
		take(&s, 1, 3);
		fake_saved(&s.f, KEEPER_DEVICE_LOADED, 0, 0, 0);
		bench_until_done(&s.b, 0, "");
		assert_true(client_open(s.client));
		fake_put(&s.f, KEEPER_CUSTODY_ANCHOR, 0, 0, 1);
		/* As who serves would. */
		close(s.client);
		struct keeper_closed closed = {.id = s.id};
		fake_send(&s.f, KEEPER_DEVICE_CLOSED, &closed, -1);
		fake_expect_end(&s.f);
		close(s.kick);
		bench_stop(&s.b);
		begin(&s, options);
	}
	end(&s);
}

/* Killed from outside, at each moment: nobody has to type anything. */
static void test_killed_while_it_wakes(void **state)
{
	char *options[] = {"--recoveries", "1", "--delay-ms", "300", NULL};
	struct sleeper s;

	begin(&s, options);
	hibernate(&s);
	send(s.client, "x", 1, 0);
	fake_accept(&s.b, &s.f);
	fake_kill(&s.f);
	fake_accept_ready(&s.b, &s.f);
	fake_kill(&s.f);
	take(&s, 1, 3);
	struct keeper_closed closed = {.id = s.id};
	fake_send(&s.f, KEEPER_DEVICE_CLOSED, &closed, -1); /* does not count */
	fake_kill(&s.f);
	usleep(200000);
	wake(&s);
	assert_true(s.b.status.last_pause_ns > 200000000); /* since the first attempt */
	assert_true(client_open(s.client));
	usleep(700000); /* it served: they are counted anew */
	hibernate(&s);
	send(s.client, "x", 1, 0);
	for (int i = 0; i < 20; i++) {
		fake_accept(&s.b, &s.f);
		fake_kill(&s.f);
	}
	fake_accept(&s.b, &s.f);
	uint64_t start = clock_ms();
	fake_kill(&s.f); /* of so many in a row, only the last ones have to wait */
	bench_until_event(&s.b, "something kills its device processes");
	wake(&s);
	assert_true(clock_ms() - start >= 300);
	assert_true(client_open(s.client));
	end(&s);
}

static void test_nobody_is_left_to_wake_up_for(void **state)
{
	struct sleeper s;

	for (int unbind = 0; unbind < 2; unbind++) {
		begin(&s, NULL);
		hibernate(&s);
		if (unbind)
			bench_send(&s.b, KEEPER_CONTROL_UNBIND, NULL, -1);
		else
			close(s.client);
		fake_accept_ready(&s.b, &s.f); /* a fresh one */
		bench_until_state(&s.b, KEEPER_STATE_READY);
		fake_expect_nothing(&s.f, 50);
		if (unbind)
			client_expect_end(s.client);
		s.client = bench_connect(&s.b, &s.f, &s.id);
		end(&s);
	}
}

/* One of two leaves while it sleeps: who wakes up gets it still, and is then told. */
static void test_one_of_two_leaves(void **state)
{
	struct sleeper s;
	struct packet p;
	uint32_t id;

	begin(&s, NULL);
	int other = bench_connect(&s.b, &s.f, &id);
	hibernate(&s);
	close(other);
	usleep(50000);
	eventfd_write(s.kick, 1);
	take(&s, 2, 3);
	fake_saved(&s.f, KEEPER_DEVICE_LOADED, 0, 0, 0);
	bench_until_event(&s.b, "woken");
	fake_expect(&s.f, KEEPER_DEVICE_DISCONNECT, &p);
	assert_int_equal(((struct keeper_closed *)p.payload)->id, id);
	end(&s);
}

static void test_an_unbound_vgpu_sleeps_too(void **state)
{
	struct sleeper s = {.kick = -1};

	bench_start(&s.b, NULL);
	fake_accept_ready(&s.b, &s.f);
	bench_until_state(&s.b, KEEPER_STATE_READY);
	hibernate(&s);
	s.client = bench_client(&s.b, "vtest.sock");
	take(&s, 0, 0);
	fake_saved(&s.f, KEEPER_DEVICE_LOADED, 0, 0, 0);
	fake_expect_only(&s.f, KEEPER_DEVICE_CONNECTION);
	end(&s);
}

/* Asks for the screen; is there one? */
static bool has_screen(struct sleeper *s)
{
	const struct keeper_screen asked = {0};
	struct packet p;

	bench_send(&s->b, KEEPER_CONTROL_GET_SCREEN, &asked, -1);
	do {
		struct pollfd there = {.fd = s->b.control, .events = POLLIN};
		assert_int_equal(poll(&there, 1, 5000), 1);
		int r = packet_recv(s->b.control, &keeper_control_table, KEEPER_FROM_KEEPER, &p);
		assert_int_equal(r, 1);
	} while (p.type != KEEPER_CONTROL_SCREEN && p.type != KEEPER_CONTROL_RESULT);
	if (p.fd >= 0)
		close(p.fd);
	return p.type == KEEPER_CONTROL_SCREEN;
}

static void test_screens_are_let_go(void **state)
{
	struct sleeper s;

	begin(&s, NULL);
	usleep(50000); /* what it put has arrived */
	assert_true(has_screen(&s));
	hibernate(&s);
	assert_false(has_screen(&s));
	bench_send(&s.b, KEEPER_CONTROL_WAKE, NULL, -1);
	wake(&s);
	assert_false(has_screen(&s));
	fake_put(&s.f, KEEPER_CUSTODY_SCREEN, 0, 0, 5);
	usleep(50000);
	assert_true(has_screen(&s));
	end(&s);
}

static void ask_idle(struct sleeper *s)
{
	const struct keeper_hello hello = {.version = KEEPER_PROTOCOL_VERSION};

	has_screen(s); /* whatever came before is read */
	bench_send(&s->b, KEEPER_CONTROL_HELLO, &hello, -1);
	bench_until_state(&s->b, KEEPER_STATE_BOUND);
}

/* As vgpud's policy asks: what the guest did is seen at once, and a second without is idle. */
static void test_idle_time_is_of_the_moment(void **state)
{
	struct vgpu_stats stats = {.magic = VGPU_STATS_MAGIC, .version = VGPU_STATS_VERSION};
	struct sleeper s;

	begin(&s, NULL);
	for (int nap = 0; nap < 2; nap++) {
		usleep(1300000);
		ask_idle(&s);
		assert_true(s.b.status.idle_ns >= 1000000000);
		stats.submits_total++;
		assert_int_equal(pwrite(s.f.stats, &stats, sizeof(stats), 0), sizeof(stats));
		ask_idle(&s);
		assert_int_equal(s.b.status.idle_ns, 0);
		usleep(1100000);
		ask_idle(&s);
		assert_in_range(s.b.status.idle_ns, 1000000000, 10000000000);
		hibernate(&s); /* the next one counts on in a page of its own */
		bench_send(&s.b, KEEPER_CONTROL_WAKE, NULL, -1);
		wake(&s);
	}
	end(&s);
}

/* Nobody would ever type WAKE: the client that came gets a fresh process. */
static void test_an_unbound_vgpu_that_cannot_be_woken(void **state)
{
	struct sleeper s = {.kick = -1};

	bench_start(&s.b, NULL);
	fake_accept_ready(&s.b, &s.f);
	bench_until_state(&s.b, KEEPER_STATE_READY);
	hibernate(&s);
	s.client = bench_client(&s.b, "vtest.sock");
	take(&s, 0, 0);
	fake_saved(&s.f, KEEPER_DEVICE_LOADED, -EIO, 0, 0);
	fake_expect_end(&s.f);
	bench_until_event(&s.b, "nobody used it: its state is let go");
	fake_accept_ready(&s.b, &s.f);
	fake_expect_only(&s.f, KEEPER_DEVICE_CONNECTION);
	bench_until_state(&s.b, KEEPER_STATE_BOUND);
	assert_true(client_open(s.client));
	end(&s);
}

/* What a dead client left is nothing for the next one, not even by way of a file. */
static void test_work_of_the_last_client_is_not_saved(void **state)
{
	struct sleeper s;
	int file = bench_file(42);

	begin(&s, NULL);
	bench_until_state(&s.b, KEEPER_STATE_BOUND);
	close(s.client);
	bench_until_state(&s.b, KEEPER_STATE_STARTING); /* or nearly so */
	bench_send(&s.b, KEEPER_CONTROL_HIBERNATE, &exact, file);
	bench_until_done(&s.b, -EAGAIN, "its last client's work is being finished");
	struct keeper_closed closed = {.id = s.id};
	fake_send(&s.f, KEEPER_DEVICE_CLOSED, &closed, -1);
	fake_expect_end(&s.f);
	fake_accept_ready(&s.b, &s.f);
	bench_until_state(&s.b, KEEPER_STATE_READY);
	hibernate(&s); /* the fresh one */
	s.client = bench_client(&s.b, "vtest.sock");
	take(&s, 0, 0);
	fake_saved(&s.f, KEEPER_DEVICE_LOADED, 0, 0, 0);
	fake_expect_only(&s.f, KEEPER_DEVICE_CONNECTION);
	close(file);
	end(&s);
}

static void test_a_loss_is_said(void **state)
{
	const struct keeper_save asked = {.exact = 0};
	struct keeper_saved lossy = {.lossy = 1, .text = "a query's result"};
	struct sleeper s;
	int file = bench_file(42);

	begin(&s, NULL);
	bench_send(&s.b, KEEPER_CONTROL_HIBERNATE, &asked, file);
	fake_expect_only(&s.f, KEEPER_DEVICE_SAVE_FILE);
	fake_send(&s.f, KEEPER_DEVICE_SAVED, &lossy, -1);
	bench_until_event(&s.b, "hibernated with a loss: a query's result");
	bench_until_done(&s.b, 0, "a query's result");
	assert_int_equal(s.b.done.lossy, 1);
	fake_expect_end(&s.f);
	send(s.client, "x", 1, 0);
	take(&s, 1, 3);
	fake_send(&s.f, KEEPER_DEVICE_LOADED, &lossy, -1);
	bench_until_event(&s.b, "woken with a loss: a query's result; pause");
	close(file);
	end(&s);
}

static void test_a_sleeping_keeper_ends(void **state)
{
	struct sleeper s;

	begin(&s, NULL);
	hibernate(&s);
	end(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_kick_a_command_and_a_byte_wake),
		cmocka_unit_test(test_a_new_connection_wakes),
		cmocka_unit_test(test_two_that_wake_start_one_process),
		cmocka_unit_test(test_a_kick_that_was_not_read_wakes),
		cmocka_unit_test(test_it_cannot_be_saved),
		cmocka_unit_test(test_waking_fails_and_is_tried_again),
		cmocka_unit_test(test_killed_while_it_wakes),
		cmocka_unit_test(test_nobody_is_left_to_wake_up_for),
		cmocka_unit_test(test_one_of_two_leaves),
		cmocka_unit_test(test_an_unbound_vgpu_sleeps_too),
		cmocka_unit_test(test_screens_are_let_go),
		cmocka_unit_test(test_idle_time_is_of_the_moment),
		cmocka_unit_test(test_an_unbound_vgpu_that_cannot_be_woken),
		cmocka_unit_test(test_work_of_the_last_client_is_not_saved),
		cmocka_unit_test(test_a_loss_is_said),
		cmocka_unit_test(test_a_sleeping_keeper_ends),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
