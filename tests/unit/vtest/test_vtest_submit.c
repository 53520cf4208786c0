/* SPDX-License-Identifier: Apache-2.0 */
#include "peer.h"

#include "base/loop.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static void test_submit(void **state)
{
	struct peer *p = *state;
	SEND(p, VTEST_SUBMIT_CMD, 10, 20, 30);
	assert_int_equal(p->dev.submits, 1);
	assert_int_equal(p->dev.last_n, 3);
	assert_int_equal(p->dev.last_dword, 30);
	SEND_EMPTY(p, VTEST_SUBMIT_CMD);
	assert_int_equal(p->dev.submits, 1);
	peer_expect_open(p);
}

/* Was the answer to what follows the submit there while it ran? */
static void note_readable(struct device *dev, const uint32_t *dwords, size_t n)
{
	struct peer *p = dev->on_submit_data;
	struct pollfd pollfd = {.fd = p->fd, .events = POLLIN};
	dev->last_transfer.level = poll(&pollfd, 1, 0) == 1;
}

#define ANSWERED_EARLY(p) ((p)->dev.last_transfer.level)

static void watch_submits(struct peer *p)
{
	/* The first rendering command makes the context. */
	SEND_EMPTY(p, VTEST_SUBMIT_CMD);
	p->dev.on_submit = note_readable;
	p->dev.on_submit_data = p;
}

static void test_create_is_answered_before_the_submit(void **state)
{
	struct peer *p = *state;
	const uint32_t messages[] = {2, VTEST_SUBMIT_CMD, 1, 2, 11, VTEST_RESOURCE_CREATE2,
		BUFFER2(9, BIND_CUSTOM, 8), 2, VTEST_RESOURCE_BUSY_WAIT, 9, 1};

	watch_submits(p);
	peer_write(p, messages, sizeof(messages));
	peer_step(p);
	assert_true(ANSWERED_EARLY(p));
	assert_int_equal(p->dev.submits, 1);
	assert_int_equal(p->dev.resources, 1);
	close(peer_read_fd(p));
	EXPECT(p, 1, VTEST_RESOURCE_BUSY_WAIT, 0);
	/* Waiting still means waiting; but drawing began before that. */
	assert_int_equal(p->dev.flushes, 1);
	assert_int_equal(p->dev.finishes, 1);
	peer_expect_open(p);
	SEND(p, VTEST_RESOURCE_UNREF, 9);
	peer_expect_open(p);
}

static void test_create_arrives_while_the_submit_is_pending(void **state)
{
	struct peer *p = *state;
	const uint32_t submit[] = {2, VTEST_SUBMIT_CMD, 1, 2};
	const uint32_t create[] = {11, VTEST_RESOURCE_CREATE2, BUFFER2(9, BIND_CUSTOM, 8)};

	watch_submits(p);
	/* The first receive gets no more than the submit's own bytes. */
	peer_write(p, submit, sizeof(submit));
	assert_int_equal(vtest_input_receive(p->vtest), 1);
	peer_write(p, create, sizeof(create));
	peer_step(p);
	assert_true(ANSWERED_EARLY(p));
	close(peer_read_fd(p));
	peer_expect_open(p);
}

static void test_no_answer_overtakes_an_unref(void **state)
{
	struct peer *p = *state;
	const uint32_t messages[] = {2, VTEST_SUBMIT_CMD, 1, 2, 1, VTEST_RESOURCE_UNREF, 9, 11,
		VTEST_RESOURCE_CREATE2, BUFFER2(9, BIND_CUSTOM, 8)};

	munmap(peer_make_buffer(p, 9, BIND_CUSTOM, 8), 8);
	watch_submits(p);
	peer_write(p, messages, sizeof(messages));
	peer_step(p);
	assert_false(ANSWERED_EARLY(p));
	close(peer_read_fd(p));
	peer_expect_open(p);
}

static void test_early_create_that_fails_fails_in_its_turn(void **state)
{
	struct peer *p = *state;
	const uint32_t messages[] = {
		2, VTEST_SUBMIT_CMD, 1, 2, 11, VTEST_RESOURCE_CREATE2, BUFFER2(9, BIND_CUSTOM, 8)};

	munmap(peer_make_buffer(p, 9, BIND_CUSTOM, 8), 8);
	watch_submits(p);
	peer_write(p, messages, sizeof(messages));
	peer_step(p);
	assert_int_equal(p->dev.submits, 1);
	peer_expect_closed(p, "RESOURCE_CREATE2: handle already in use");
}

static void test_early_create_may_fail_once(void **state)
{
	struct peer *p = *state;
	const uint32_t messages[] = {
		2, VTEST_SUBMIT_CMD, 1, 2, 11, VTEST_RESOURCE_CREATE2, BUFFER2(9, BIND_CUSTOM, 8)};

	watch_submits(p);
	p->dev.fail_resource_create = -ENOMEM;
	peer_write(p, messages, sizeof(messages));
	peer_step(p);
	assert_false(ANSWERED_EARLY(p));
	close(peer_read_fd(p));
	peer_expect_open(p);
}

static void test_version_3_early_create(void **state)
{
	struct peer *p = *state;
	const uint32_t messages[] = {
		2, VTEST_SUBMIT_CMD, 1, 2, 11, VTEST_RESOURCE_CREATE2, BUFFER2(0, BIND_CUSTOM, 8)};

	watch_submits(p);
	peer_write(p, messages, sizeof(messages));
	peer_step(p);
	assert_true(ANSWERED_EARLY(p));
	EXPECT(p, 1, VTEST_RESOURCE_CREATE2, 1);
	close(peer_read_fd(p));
	peer_expect_open(p);
}

static void test_waiting_only_with_work(void **state)
{
	struct peer *p = *state;
	munmap(peer_make_buffer(p, 9, BIND_CUSTOM, 8), 8);
	for (unsigned i = 0; i < 3; i++) {
		SEND(p, VTEST_RESOURCE_BUSY_WAIT, 9, 1);
		EXPECT(p, 1, VTEST_RESOURCE_BUSY_WAIT, 0);
	}
	assert_int_equal(p->dev.finishes, 0);
	SEND(p, VTEST_SUBMIT_CMD, 1);
	for (unsigned i = 0; i < 3; i++) {
		SEND(p, VTEST_RESOURCE_BUSY_WAIT, 9, 1);
		EXPECT(p, 1, VTEST_RESOURCE_BUSY_WAIT, 0);
	}
	assert_int_equal(p->dev.finishes, 1);
	/* A handle nobody knows is waited for like a fence. */
	SEND(p, VTEST_SUBMIT_CMD, 1);
	SEND(p, VTEST_RESOURCE_BUSY_WAIT, 1234, 1);
	EXPECT(p, 1, VTEST_RESOURCE_BUSY_WAIT, 0);
	assert_int_equal(p->dev.finishes, 2);
}

static void test_asking_never_blocks(void **state)
{
	struct peer *p = *state;
	p->dev.hold_fences = true;
	munmap(peer_make_buffer(p, 9, BIND_CUSTOM, 8), 8);
	SEND(p, VTEST_SUBMIT_CMD, 1);
	for (unsigned i = 0; i < 5; i++) {
		SEND(p, VTEST_RESOURCE_BUSY_WAIT, 9, 0);
		EXPECT(p, 1, VTEST_RESOURCE_BUSY_WAIT, 1);
	}
	assert_int_equal(p->dev.finishes, 0);
	assert_int_equal(p->dev.fences, 1);
	assert_int_equal(p->dev.polls, 5);
	assert_int_equal(p->dev.frames, 0);
	device_finish(p->vtest->client, VTEST_CONTEXT);
	SEND(p, VTEST_RESOURCE_BUSY_WAIT, 9, 0);
	EXPECT(p, 1, VTEST_RESOURCE_BUSY_WAIT, 0);
	assert_int_equal(p->dev.frames, 1);
}

static void quit(void *data)
{
	loop_quit(data, 0);
}

static void run_loop(struct peer *p, uint64_t ms)
{
	loop_set_timer(p->loop, ms, quit, p->loop);
	assert_int_equal(loop_run(p->loop), 0);
}

/* A frame came too soon: that it is done is told later, and nothing is served until then. */
static void test_a_frame_is_held_back(void **state)
{
	struct peer *p = *state;

	munmap(peer_make_buffer(p, 9, BIND_CUSTOM, 8), 8);
	p->dev.hold_ns = 20000000;
	SEND(p, VTEST_RESOURCE_BUSY_WAIT, 9, 0);
	assert_int_equal(p->dev.frames, 1);
	p->dev.hold_ns = 0;
	SEND(p, VTEST_SUBMIT_CMD, 1);
	peer_expect_silence(p);
	assert_int_equal(p->dev.submits, 0);
	run_loop(p, 100);
	EXPECT(p, 1, VTEST_RESOURCE_BUSY_WAIT, 0);
	assert_int_equal(p->dev.submits, 1);
}

/* One that is frozen meanwhile tells it when it goes on, and serves what waited. */
static void test_held_back_and_frozen(void **state)
{
	struct peer *p = *state;

	munmap(peer_make_buffer(p, 9, BIND_CUSTOM, 8), 8);
	p->dev.hold_ns = 3600000000000;
	SEND(p, VTEST_RESOURCE_BUSY_WAIT, 9, 0);
	p->dev.hold_ns = 0;
	SEND(p, VTEST_SUBMIT_CMD, 1);
	vtest_freeze(p->vtest);
	peer_expect_silence(p);
	vtest_thaw(p->vtest);
	peer_step(p);
	EXPECT(p, 1, VTEST_RESOURCE_BUSY_WAIT, 0);
	assert_int_equal(p->dev.submits, 1);
}

/* A client that is gone is not held on to. */
static void test_held_back_and_gone(void **state)
{
	struct peer *p = *state;

	munmap(peer_make_buffer(p, 9, BIND_CUSTOM, 8), 8);
	p->dev.hold_ns = 3600000000000;
	SEND(p, VTEST_RESOURCE_BUSY_WAIT, 9, 0);
	shutdown(p->fd, SHUT_RDWR);
	run_loop(p, 50);
	peer_expect_closed(p, "");
}

/* The fence asked for before the second submit says nothing about the second submit. */
static void test_an_old_fence_does_not_cover_new_work(void **state)
{
	struct peer *p = *state;
	p->dev.hold_fences = true;
	munmap(peer_make_buffer(p, 9, BIND_CUSTOM, 8), 8);
	SEND(p, VTEST_SUBMIT_CMD, 1);
	SEND(p, VTEST_RESOURCE_BUSY_WAIT, 9, 0);
	EXPECT(p, 1, VTEST_RESOURCE_BUSY_WAIT, 1);
	SEND(p, VTEST_SUBMIT_CMD, 2);
	device_finish(p->vtest->client, VTEST_CONTEXT);
	SEND(p, VTEST_RESOURCE_BUSY_WAIT, 9, 0);
	EXPECT(p, 1, VTEST_RESOURCE_BUSY_WAIT, 1);
	assert_int_equal(p->dev.fences, 2);
}

static void test_refused_submit(void **state)
{
	struct peer *p = *state;
	p->dev.fail_submit = -EIO;
	SEND(p, VTEST_SUBMIT_CMD, 1);
	peer_expect_closed(p, "SUBMIT_CMD: the rendering context is lost");
}

static void test_context_lost_meanwhile(void **state)
{
	struct peer *p = *state;
	munmap(peer_make_buffer(p, 9, BIND_CUSTOM, 8), 8);
	p->dev.lost = true;
	SEND(p, VTEST_RESOURCE_BUSY_WAIT, 9, 1);
	peer_expect_closed(p, "RESOURCE_BUSY_WAIT: the rendering context is lost");
}

#define TEST(f, setup) cmocka_unit_test_setup_teardown(f, setup, peer_teardown)

/* Who was answered goes on at once, or is not looked for every time. */
static void test_lingers_for_who_goes_on_at_once(void **state)
{
	struct peer *p = *state;
	const struct worthwhile *linger = &p->vtest->linger.kinds[VTEST_LINGER_REQUEST].worthwhile;
	const uint32_t next[] = {2, VTEST_RESOURCE_BUSY_WAIT, 5, 0};

	vtest_linger_init(p->vtest); /* the handshake had answers, too */
	SEND_EMPTY(p, VTEST_SUBMIT_CMD);
	assert_int_equal(linger->misses, 0); /* no answer */
	munmap(peer_make_buffer(p, 5, 0, 64), 64);
	assert_int_equal(linger->misses, 1);
	assert_int_equal(linger->skip, 1);
	SEND(p, VTEST_RESOURCE_BUSY_WAIT, 5, 0);
	EXPECT(p, 1, VTEST_RESOURCE_BUSY_WAIT, 0);
	assert_int_equal(linger->skip, 0); /* not looked for this time */
	assert_int_equal(linger->misses, 1);
	p->vtest->linger.answers = true;
	peer_write(p, next, sizeof(next));
	assert_int_equal(vtest_linger(p->vtest), 1);
	assert_int_equal(linger->misses, 0);
	assert_int_equal(vtest_linger(p->vtest), 0); /* once for an answer */
	assert_int_equal(linger->misses, 0);
	peer_step(p);
	EXPECT(p, 1, VTEST_RESOURCE_BUSY_WAIT, 0);
	for (unsigned i = 0; i < 4u << WORTHWHILE_MISSES; i++) {
		SEND(p, VTEST_RESOURCE_BUSY_WAIT, 5, 0);
		EXPECT(p, 1, VTEST_RESOURCE_BUSY_WAIT, 0);
	}
	assert_int_equal(linger->misses, WORTHWHILE_MISSES);
	assert_true(linger->skip < 1u << WORTHWHILE_MISSES);
	/* What it does after a frame is another question. */
	munmap(peer_make_buffer(p, 9, BIND_CUSTOM, 8), 8);
	linger = &p->vtest->linger.kinds[VTEST_LINGER_FRAME].worthwhile;
	assert_int_equal(linger->misses, 0);
	SEND(p, VTEST_SUBMIT_CMD, 10);
	SEND(p, VTEST_RESOURCE_BUSY_WAIT, 9, 1);
	EXPECT(p, 1, VTEST_RESOURCE_BUSY_WAIT, 0);
	assert_int_equal(linger->misses, 1);
	SEND(p, VTEST_RESOURCE_UNREF, 5);
	peer_expect_open(p);
}

static void not_called(void *data, uint32_t events)
{
	fail_msg("no loop runs here");
}

/* Another of the process' connections has something to be handled: it is not kept waiting. */
static void test_lingers_only_while_nobody_else_waits(void **state)
{
	struct peer *p = *state;
	const struct worthwhile *linger = &p->vtest->linger.kinds[VTEST_LINGER_REQUEST].worthwhile;
	struct loop_source *other;
	int fd = eventfd(1, EFD_CLOEXEC);

	vtest_linger_init(p->vtest);
	p->vtest->linger.kinds[VTEST_LINGER_REQUEST].away = UINT_MAX;
	assert_int_equal(loop_add_fd(p->loop, fd, EPOLLIN, not_called, NULL, &other), 0);
	p->vtest->linger.answers = true;
	assert_int_equal(vtest_linger(p->vtest), 0);
	assert_int_equal(linger->misses, 0);
	loop_remove(other);
	close(fd);
	peer_expect_open(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_submit, peer_setup_v2),
		TEST(test_a_frame_is_held_back, peer_setup_v2),
		TEST(test_held_back_and_frozen, peer_setup_v2),
		TEST(test_held_back_and_gone, peer_setup_v2),
		TEST(test_create_is_answered_before_the_submit, peer_setup_v2),
		TEST(test_create_arrives_while_the_submit_is_pending, peer_setup_v2),
		TEST(test_lingers_for_who_goes_on_at_once, peer_setup_v2),
		TEST(test_lingers_only_while_nobody_else_waits, peer_setup_v2),
		TEST(test_no_answer_overtakes_an_unref, peer_setup_v2),
		TEST(test_early_create_that_fails_fails_in_its_turn, peer_setup_v2),
		TEST(test_early_create_may_fail_once, peer_setup_v2),
		TEST(test_version_3_early_create, peer_setup_v3),
		TEST(test_waiting_only_with_work, peer_setup_v2),
		TEST(test_asking_never_blocks, peer_setup_v2),
		TEST(test_an_old_fence_does_not_cover_new_work, peer_setup_v2),
		TEST(test_refused_submit, peer_setup_v2),
		TEST(test_context_lost_meanwhile, peer_setup_v2),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("vtest submit", tests, NULL, NULL);
}
