/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A child sends or receives numbered words over durable_*() with all it knows in shared memory, is
 * killed at a random moment, and a successor goes on from what is written there. The other end
 * checks every word.
 */

#include "base/durable.h"

#include "base/checked.h"
#include "base/cleanup.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum {
	KILLS = 200, /* of each end */
	RING = 1 << 16
};

struct shared {
	struct durable durable;
	uint32_t ring[RING / 4];
	uint64_t handled; /* bytes: what the receiver has checked */
	uint32_t wrong;
};

static struct shared *new_shared(void)
{
	struct shared *s =
		mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(s != MAP_FAILED);
	return s;
}

static void wait_for(int fd, short events)
{
	struct pollfd p = {fd, events, 0};
	poll(&p, 1, 1000);
}

/* Words are those of their own position; sizes are odd on purpose. */
static void send_forever(struct shared *s, int socket)
{
	static uint32_t words[8192];

	for (;;) {
		uint64_t sent = durable_sent(&s->durable);
		uint64_t first = sent / 4;
		size_t skip = sent % 4, n = 1 + (size_t)(sent * 7919) % 20000;
		for (unsigned i = 0; i < ARRAY_SIZE(words); i++)
			words[i] = (uint32_t)(first + i);
		ssize_t r = durable_send(
			&s->durable, socket, (uint8_t *)words + skip, MIN(n, 32000u), -1);
		if (r == -EAGAIN)
			wait_for(socket, POLLOUT);
		else if (r < 0)
			_exit(0);
	}
}

static void check_byte(struct shared *s, uint64_t at, uint8_t byte)
{
	uint32_t word = (uint32_t)(at / 4);
	if (((uint8_t *)&word)[at % 4] != byte)
		s->wrong++;
}

/* Received bytes are in the ring already when a successor looks: it handles what is left. */
static void receive_forever(struct shared *s, int socket)
{
	struct fdpass_fds fds;

	for (;;) {
		uint64_t received = durable_received(&s->durable);
		for (uint64_t at = s->handled; at < received; at++) {
			check_byte(s, at, ((uint8_t *)s->ring)[at % RING]);
			s->handled = at + 1;
		}
		size_t at = received % RING;
		ssize_t r = durable_recv(
			&s->durable, socket, (uint8_t *)s->ring + at, MIN(RING - at, 5001u), &fds);
		if (r == -EAGAIN)
			wait_for(socket, POLLIN);
		else if (r <= 0)
			_exit(0);
	}
}

static pid_t child(void (*run)(struct shared *, int), struct shared *s, int socket)
{
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (!pid)
		run(s, socket);
	return pid;
}

static void kill_and_replace(
	void (*run)(struct shared *, int), struct shared *s, int socket, pid_t *pid)
{
	for (unsigned i = 0; i < KILLS; i++) {
		usleep((unsigned)random() % 2000);
		kill(*pid, SIGKILL);
		waitpid(*pid, NULL, 0);
		*pid = child(run, s, socket);
	}
}

static void test_receiver_killed(void **state)
{
	struct shared *from = new_shared(), *to = new_shared();
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	pid_t sender = child(send_forever, from, pair[0]);
	pid_t receiver = child(receive_forever, to, pair[1]);
	kill_and_replace(receive_forever, to, pair[1], &receiver);
	usleep(20000);
	kill(sender, SIGKILL);
	waitpid(sender, NULL, 0);
	usleep(50000);
	kill(receiver, SIGKILL);
	waitpid(receiver, NULL, 0);
	assert_int_equal(to->wrong, 0);
	assert_true(to->handled > 1u << 20);
	assert_true(durable_received(&to->durable) <= durable_sent(&from->durable));
}

static void test_sender_killed(void **state)
{
	struct shared *from = new_shared(), *to = new_shared();
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	pid_t sender = child(send_forever, from, pair[0]);
	pid_t receiver = child(receive_forever, to, pair[1]);
	kill_and_replace(send_forever, from, pair[0], &sender);
	kill(sender, SIGKILL);
	waitpid(sender, NULL, 0);
	/* It ends by itself when it has read all there is. */
	shutdown(pair[0], SHUT_WR);
	waitpid(receiver, NULL, 0);
	assert_int_equal(to->wrong, 0);
	assert_true(to->handled > 1u << 20);
	assert_true(durable_received(&to->durable) == durable_sent(&from->durable));
}

static void test_descriptor_rides_along(void **state)
{
	struct durable a = {0}, b = {0};
	struct fdpass_fds fds;
	char buf[8];
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(durable_recv(&b, pair[1], buf, sizeof(buf), &fds), -EAGAIN);
	assert_int_equal(durable_send(&a, pair[0], "abc", 3, 0), 3);
	assert_int_equal(durable_send(&a, pair[0], "de", 2, -1), 2);
	assert_int_equal(durable_recv(&b, pair[1], buf, 3, &fds), 3);
	assert_int_equal(fds.count, 1);
	fdpass_close(&fds);
	assert_int_equal(durable_recv(&b, pair[1], buf, 8, &fds), 2);
	assert_int_equal(fds.count, 0);
	assert_int_equal(durable_sent(&a), 5);
	assert_int_equal(durable_received(&b), 5);
	close(pair[0]);
	assert_int_equal(durable_recv(&b, pair[1], buf, 8, &fds), 0);
	assert_int_equal(durable_send(&b, pair[1], "x", 1, -1), -EPIPE);
	assert_int_equal(durable_sent(&b), 0);
	close(pair[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_descriptor_rides_along),
		cmocka_unit_test(test_receiver_killed),
		cmocka_unit_test(test_sender_killed),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
