/* SPDX-License-Identifier: Apache-2.0 */
#include "peer.h"

#include "base/fdpass.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* A few messages cut in two at every byte. */
static void test_messages_split_at_every_byte(void **state)
{
	struct peer *p = *state;
	const uint32_t messages[] = {0, VTEST_PING_PROTOCOL_VERSION, 3, VTEST_SUBMIT_CMD, 1, 2, 3,
		11, VTEST_RESOURCE_CREATE2, BUFFER2(9, BIND_CUSTOM, 8), 2, VTEST_RESOURCE_BUSY_WAIT,
		9, 1, 1, VTEST_RESOURCE_UNREF, 9};

	for (size_t cut = 0; cut <= sizeof(messages); cut++) {
		if (cut)
			peer_write(p, messages, cut);
		peer_step(p);
		if (cut < sizeof(messages))
			peer_write(p, (const char *)messages + cut, sizeof(messages) - cut);
		peer_step(p);
		EXPECT(p, 0, VTEST_PING_PROTOCOL_VERSION);
		close(peer_read_fd(p));
		EXPECT(p, 1, VTEST_RESOURCE_BUSY_WAIT, 0);
		peer_expect_silence(p);
		assert_int_equal(p->dev.resources, 0);
	}
	assert_int_equal(p->dev.submits, sizeof(messages) + 1);
	peer_expect_open(p);
}

static void test_one_byte_at_a_time(void **state)
{
	struct peer *p = *state;
	const uint32_t submit[] = {3, VTEST_SUBMIT_CMD, 7, 8, 9};

	for (unsigned round = 0; round < 50; round++) {
		for (size_t i = 0; i < sizeof(submit); i++) {
			peer_write(p, (const char *)submit + i, 1);
			peer_step(p);
		}
	}
	assert_int_equal(p->dev.submits, 50);
	assert_int_equal(p->dev.last_dword, 9);
	peer_expect_open(p);
}

static void test_many_messages_in_one_write(void **state)
{
	struct peer *p = *state;
	enum { COUNT = 500 };
	uint32_t messages[COUNT][2];

	for (unsigned i = 0; i < COUNT; i++) {
		messages[i][0] = 0;
		messages[i][1] = VTEST_PING_PROTOCOL_VERSION;
	}
	peer_write(p, messages, sizeof(messages));
	peer_step(p);
	for (unsigned i = 0; i < COUNT; i++) {
		EXPECT(p, 0, VTEST_PING_PROTOCOL_VERSION);
		peer_step(p);
	}
	peer_expect_open(p);
}

/* The largest submit, in pieces, from a client that never has it all in the socket. */
static void test_largest_submit(void **state)
{
	struct peer *p = *state;
	const size_t bytes = (size_t)VTEST_SUBMIT_MAX_DWORDS * 4;
	uint32_t *stream = calloc(1, bytes);

	assert_non_null(stream);
	stream[VTEST_SUBMIT_MAX_DWORDS - 1] = 0x1234;
	peer_write(p, (uint32_t[]){VTEST_SUBMIT_MAX_DWORDS, VTEST_SUBMIT_CMD}, 8);
	for (size_t done = 0; done < bytes;) {
		ssize_t n = send(p->fd, (char *)stream + done, bytes - done, MSG_DONTWAIT);
		if (n > 0)
			done += (size_t)n;
		peer_step(p);
	}
	assert_int_equal(p->dev.last_n, VTEST_SUBMIT_MAX_DWORDS);
	assert_int_equal(p->dev.last_dword, 0x1234);
	/* The buffer that held it is given back. */
	assert_true(p->vtest->in.capacity < (1u << 20));
	free(stream);
	peer_expect_open(p);
}

/* A length is a promise, not an allocation. */
static void test_promised_bytes_cost_nothing(void **state)
{
	struct peer *p = *state;
	peer_write(p, (uint32_t[]){VTEST_SUBMIT_MAX_DWORDS, VTEST_SUBMIT_CMD, 1, 2, 3}, 20);
	peer_step(p);
	assert_true(p->vtest->in.capacity < (1u << 20));
	assert_int_equal(p->closed, 0);
}

static void test_lengths_outside_the_table(void **state)
{
	for (uint32_t id = 0; id < VTEST_COMMAND_LIMIT; id++) {
		const struct vtest_command *command = vtest_command(id);
		if (!command)
			continue;
		for (unsigned upper = 0; upper < 2; upper++) {
			uint32_t len = upper ? command->max + 1 : command->min - 1;
			if (upper ? command->max == UINT32_MAX : command->min == 0)
				continue;
			struct peer *p;
			peer_setup_v3((void **)&p);
			peer_write(p, (uint32_t[]){len, id}, 8);
			peer_step(p);
			peer_expect_closed(p, command->name);
			peer_teardown((void **)&p);
		}
	}
	*state = NULL;
}

static void test_unknown_commands(void **state)
{
	static const uint32_t ids[] = {0, VTEST_COMMAND_LIMIT, 1000, 0x80000000, UINT32_MAX};
	for (size_t i = 0; i < 5; i++) {
		struct peer *p;
		peer_setup_v3((void **)&p);
		peer_write(p, (uint32_t[]){0, ids[i]}, 8);
		peer_step(p);
		peer_expect_closed(p, "unknown command");
		peer_teardown((void **)&p);
	}
}

static void test_version_4_is_refused_by_name(void **state)
{
	struct peer *p = *state;
	SEND(p, VTEST_DRM_SYNC_CREATE, 0);
	peer_expect_closed(p, "DRM_SYNC_CREATE: not offered, needs protocol 4");
}

/* A bad message behind a submit: the submit runs, and the reason names the bad one. */
static void test_bad_message_behind_a_submit(void **state)
{
	struct peer *p = *state;
	const uint32_t messages[] = {1, VTEST_SUBMIT_CMD, 1, 0, 4711};

	SEND(p, VTEST_SUBMIT_CMD, 0);
	peer_write(p, messages, sizeof(messages));
	peer_step(p);
	assert_int_equal(p->dev.submits, 2);
	peer_expect_closed(p, "unknown command 4711");
}

static void test_unexpected_descriptors(void **state)
{
	struct peer *p = *state;
	const uint32_t ping[] = {0, VTEST_PING_PROTOCOL_VERSION};
	int fds[FDPASS_MAX];

	for (unsigned i = 0; i < FDPASS_MAX; i++)
		fds[i] = STDERR_FILENO;
	assert_int_equal(fdpass_send(p->fd, ping, 8, fds, FDPASS_MAX), 8);
	peer_step(p);
	peer_expect_closed(p, "sent file descriptors");
}

static void test_more_descriptors_than_fit(void **state)
{
	struct peer *p = *state;
	enum { COUNT = 200 };
	union {
		char bytes[CMSG_SPACE(COUNT * sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct iovec iov = {.iov_base = (uint32_t[]){0, 10}, .iov_len = 8};
	struct msghdr msg = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(COUNT * sizeof(int));
	for (unsigned i = 0; i < COUNT; i++)
		memcpy(CMSG_DATA(c) + i * sizeof(int), &(int){STDERR_FILENO}, sizeof(int));
	assert_int_equal(sendmsg(p->fd, &msg, 0), 8);
	peer_step(p);
	peer_expect_closed(p, "sent file descriptors");
}

/* Answers pile up: the server goes on without blocking, and ends it at the bound. */
static void test_client_that_stops_reading(void **state)
{
	struct peer *p = *state;
	unsigned sent = 0;

	while (!p->closed && sent < 100000) {
		peer_write(p, (uint32_t[]){2, VTEST_RESOURCE_BUSY_WAIT, 0, 0}, 16);
		peer_step(p);
		sent++;
		assert_true(p->vtest->out.bytes <= 2 * VTEST_OUTPUT_MAX);
	}
	peer_expect_closed(p, "the client does not read its answers");
}

/* The same client, but it reads in the end: all answers come, in order, with their descriptors. */
static void test_slow_reader(void **state)
{
	struct peer *p = *state;
	unsigned sent = 0;
	int before = peer_count_fds();

	while (p->vtest->out.count < 20 && sent < 100000) {
		SEND(p, VTEST_RESOURCE_CREATE2, BUFFER2(sent + 1, BIND_CUSTOM, 8));
		SEND(p, VTEST_RESOURCE_UNREF, sent + 1);
		SEND(p, VTEST_RESOURCE_BUSY_WAIT, 0, 0);
		sent++;
	}
	assert_true(p->vtest->out.count >= 20);
	assert_true(p->vtest->epoll_events & EPOLLOUT);
	for (unsigned i = 0; i < sent; i++) {
		close(peer_read_fd(p));
		EXPECT(p, 1, VTEST_RESOURCE_BUSY_WAIT, 0);
		peer_step(p);
	}
	peer_expect_open(p);
	assert_false(p->vtest->epoll_events & EPOLLOUT);
	assert_true(peer_count_fds() - before <= (int)VTEST_POOL_SIZE);
}

static void spin(struct device *dev, const uint32_t *dwords, size_t n)
{
	usleep(2000);
}

/* One connection's turn ends after its time although more is waiting; nothing is lost. */
static void test_a_turn_is_bounded(void **state)
{
	struct peer *p = *state;
	uint32_t messages[100][3];

	for (unsigned i = 0; i < 100; i++) {
		messages[i][0] = 1;
		messages[i][1] = VTEST_SUBMIT_CMD;
		messages[i][2] = i;
	}
	p->dev.on_submit = spin;
	peer_write(p, messages, sizeof(messages));
	vtest_event(p->vtest, EPOLLIN);
	assert_true(p->dev.submits < 10);
	assert_true(p->vtest->epoll_events & EPOLLOUT);
	p->dev.on_submit = NULL;
	peer_step(p);
	assert_int_equal(p->dev.submits, 100);
	assert_int_equal(p->dev.last_dword, 99);
	peer_expect_open(p);
}

static void test_mappings_are_limited(void **state)
{
	struct peer *p = *state;

	p->vtest->mappings = VTEST_MAX_MAPPINGS;
	SEND(p, VTEST_RESOURCE_CREATE2, BUFFER2(1, 16, 8));
	p->vtest->mappings = 0;
	peer_expect_closed(p, "too many objects");
}

/* What other connections hold counts too. */
static void test_mappings_of_all_connections_are_limited(void **state)
{
	struct peer *p = *state;

	p->budget.mappings = VTEST_ALL_MAPPINGS;
	SEND(p, VTEST_RESOURCE_CREATE2, BUFFER2(1, 16, 8));
	p->budget.mappings = 0;
	peer_expect_closed(p, "too many objects");
}

/* Descriptors it was sent and did not take stay open here: they are few. */
static void test_client_that_takes_no_descriptors(void **state)
{
	struct peer *p = *state;
	int before = peer_count_fds();

	for (unsigned i = 1; i < 100000 && !p->closed; i++)
		SEND(p, VTEST_RESOURCE_CREATE2, BUFFER2(i, 16, 5000));
	assert_true(p->budget.fds <= VTEST_QUEUED_FDS);
	assert_true(peer_count_fds() - before <= (int)VTEST_QUEUED_FDS);
	peer_expect_closed(p, "the client does not take its file descriptors");
}

/* With the process' descriptors used up, small buffers still work, only without the pool. */
static void test_no_pool_without_descriptors(void **state)
{
	struct peer *p = *state;

	p->budget.max_fds = 0;
	for (unsigned i = 1; i <= 10; i++)
		munmap(peer_make_buffer(p, i, BIND_CUSTOM, 16), 16);
	assert_int_equal(p->budget.fds, 0);
	peer_expect_open(p);
}

static void test_memory_for_messages_is_limited(void **state)
{
	struct peer *p = *state;
	uint32_t header[2] = {VTEST_SUBMIT_MAX_DWORDS, VTEST_SUBMIT_CMD};
	static uint32_t part[16384];

	p->budget.buffers = VTEST_ALL_BUFFERS;
	peer_write(p, header, sizeof(header));
	for (unsigned i = 0; i < 20 && !p->closed; i++) {
		peer_write(p, part, sizeof(part));
		peer_step(p);
	}
	p->budget.buffers -= VTEST_ALL_BUFFERS;
	peer_expect_closed(p, "no memory to receive into");
}

/* Bytes at random never crash and never leave anything behind. */
static void test_noise(void **state)
{
	unsigned seed = 12345;

	for (unsigned round = 0; round < 3000; round++) {
		struct peer *p;
		uint32_t message[24];
		peer_setup_v3((void **)&p);
		for (unsigned i = 0; i < 8 && !p->closed; i++) {
			size_t n = 2 + (unsigned)rand_r(&seed) % 22;
			for (size_t k = 0; k < n; k++)
				message[k] = (uint32_t)rand_r(&seed) % 12;
			message[0] = (uint32_t)n - 2;
			message[1] = 1 + (uint32_t)rand_r(&seed) % 25;
			peer_write(p, message, n * 4);
			peer_step(p);
			while (recv(p->fd, message, sizeof(message), MSG_DONTWAIT) > 0)
				;
		}
		peer_teardown((void **)&p);
	}
}

#define TEST(f)       cmocka_unit_test_setup_teardown(f, peer_setup_v2, peer_teardown)
#define TEST_ALONE(f) cmocka_unit_test(f)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_messages_split_at_every_byte),
		TEST(test_one_byte_at_a_time),
		TEST(test_many_messages_in_one_write),
		TEST(test_largest_submit),
		TEST(test_promised_bytes_cost_nothing),
		TEST_ALONE(test_lengths_outside_the_table),
		TEST_ALONE(test_unknown_commands),
		TEST(test_version_4_is_refused_by_name),
		TEST(test_bad_message_behind_a_submit),
		TEST(test_unexpected_descriptors),
		TEST(test_more_descriptors_than_fit),
		TEST(test_client_that_stops_reading),
		TEST(test_slow_reader),
		TEST(test_a_turn_is_bounded),
		TEST(test_mappings_are_limited),
		TEST(test_mappings_of_all_connections_are_limited),
		TEST(test_client_that_takes_no_descriptors),
		TEST(test_no_pool_without_descriptors),
		TEST(test_memory_for_messages_is_limited),
		TEST_ALONE(test_noise),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("vtest hostile", tests, NULL, NULL);
}
