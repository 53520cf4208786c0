/* SPDX-License-Identifier: Apache-2.0 */

/* The device's state over a pipe, as a VM monitor that migrates asks for it. */

#include "front.h"

#include "base/cleanup.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SIZE 300000u /* more than a pipe holds */

static int setup(void **state)
{
	int err = front_setup(state);
	struct front *f = *state;

	close_fd(&f->socket);
	front_expect_closed(f, "");
	f->with_state = true;
	front_connect(f);
	f->state_size = SIZE;
	f->state = malloc(SIZE);
	for (unsigned i = 0; i < SIZE; i++)
		f->state[i] = (uint8_t)(i * 11 + i / 253);
	return err;
}

static uint64_t ask(struct front *f, uint32_t request, const void *payload, uint32_t size, int fd)
{
	struct front_message m = {0};
	uint64_t value;

	front_send(f, request, 0, payload, size, &fd, fd >= 0 ? 1 : 0);
	for (unsigned i = 0; i < 20 && !m.request; i++) {
		front_spin(f);
		(void)front_receive(f, &m);
	}
	assert_int_equal(m.request, request);
	assert_int_equal(m.size, 8);
	memcpy(&value, m.payload, 8);
	return value;
}

static uint64_t begin(struct front *f, uint32_t direction, int fd)
{
	struct vhost_user_state state = {direction, VHOST_USER_STATE_STOPPED};
	return ask(f, VHOST_USER_SET_DEVICE_STATE_FD, &state, 8, fd);
}

static uint64_t check(struct front *f)
{
	return ask(f, VHOST_USER_CHECK_DEVICE_STATE, NULL, 0, -1);
}

static void test_save(void **state)
{
	struct front *f = *state;
	cleanup_free uint8_t *got = malloc(SIZE + 1);
	size_t at = 0;
	int ends[2];

	front_negotiate(f, 0);
	assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(begin(f, VHOST_USER_STATE_SAVE, ends[1]), VHOST_USER_STATE_NO_FD);
	close(ends[1]);
	for (unsigned i = 0; i < 1000; i++) {
		ssize_t n = read(ends[0], got + at, SIZE + 1 - at);
		if (n == 0)
			break;
		at += n > 0 ? (size_t)n : 0;
		front_spin(f);
	}
	assert_int_equal(at, SIZE);
	assert_int_equal(read(ends[0], got, 1), 0); /* the end was shown by closing */
	assert_memory_equal(got, f->state, SIZE);
	assert_int_equal(check(f), 0);
	assert_int_not_equal(check(f), 0); /* once */
	close(ends[0]);
}

static void test_save_to_nobody(void **state)
{
	struct front *f = *state;
	int ends[2];

	front_negotiate(f, 0);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(begin(f, VHOST_USER_STATE_SAVE, ends[1]), VHOST_USER_STATE_NO_FD);
	close(ends[1]);
	front_spin(f);
	/* It waits for a reader, and the connection goes on meanwhile. */
	assert_int_equal(front_get(f, VHOST_USER_GET_QUEUE_NUM), 2);
	close(ends[0]); /* and does not die of its going */
	front_spin(f);
	assert_int_not_equal(check(f), 0);
}

static void test_load(void **state)
{
	struct front *f = *state;
	cleanup_free uint8_t *sent = malloc(SIZE);
	size_t at = 0;
	int ends[2];

	memcpy(sent, f->state, SIZE);
	memset(f->state, 0, SIZE);
	front_negotiate(f, 0);
	assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_equal(begin(f, VHOST_USER_STATE_LOAD, ends[0]), VHOST_USER_STATE_NO_FD);
	close(ends[0]);
	for (unsigned i = 0; i < 1000 && at < SIZE; i++) {
		ssize_t n = write(ends[1], sent + at, SIZE - at);
		at += n > 0 ? (size_t)n : 0;
		if (at < SIZE)
			front_spin(f);
	}
	assert_int_equal(at, SIZE);
	close(ends[1]);
	assert_int_equal(check(f), 0); /* asked before all of it was read */
	assert_int_equal(f->state_size, SIZE);
	assert_memory_equal(f->state, sent, SIZE);
}

static void test_refusals(void **state)
{
	struct front *f = *state;
	struct vhost_user_state later = {VHOST_USER_STATE_SAVE, 1};
	int ends[2];

	front_negotiate(f, 0);
	assert_int_not_equal(check(f), 0);
	assert_int_equal(begin(f, VHOST_USER_STATE_SAVE, -1) & 0xff, 1);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(begin(f, 2, ends[1]) & 0xff, 1);
	assert_int_equal(ask(f, VHOST_USER_SET_DEVICE_STATE_FD, &later, 8, ends[1]) & 0xff, 1);
	assert_int_equal(begin(f, VHOST_USER_STATE_SAVE, f->memory_fd) & 0xff, 1);
	f->refuse_state = true;
	assert_int_equal(begin(f, VHOST_USER_STATE_SAVE, ends[1]) & 0xff, 1);
	assert_int_equal(begin(f, VHOST_USER_STATE_LOAD, ends[0]), VHOST_USER_STATE_NO_FD);
	close(ends[0]);
	close(ends[1]);
	assert_int_equal(check(f), 1);
	f->refuse_state = false;
	front_set_memory(f);
	front_start_ring(f, 0, 0);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(begin(f, VHOST_USER_STATE_SAVE, ends[1]) & 0xff, 1);
	close(ends[0]);
	close(ends[1]);
}

static void test_end_in_the_middle(void **state)
{
	struct front *f = *state;
	int ends[2];

	front_negotiate(f, 0);
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	assert_int_equal(begin(f, VHOST_USER_STATE_SAVE, ends[1]), VHOST_USER_STATE_NO_FD);
	assert_int_equal(begin(f, VHOST_USER_STATE_SAVE, ends[1]) & 0xff, 1); /* one at a time */
	close(ends[1]);
	close_fd(&f->socket);
	front_expect_closed(f, "");
	close(ends[0]);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, front_teardown)
	const struct CMUnitTest tests[] = {
		T(test_save),
		T(test_save_to_nobody),
		T(test_load),
		T(test_refusals),
		T(test_end_in_the_middle),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
