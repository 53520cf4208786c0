/* SPDX-License-Identifier: Apache-2.0 */
#include "peer.h"

#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static uint32_t make_sync(struct peer *p, uint32_t value)
{
	uint32_t answer[3];
	SEND(p, VTEST_SYNC_CREATE, value, 0);
	peer_read(p, answer, sizeof(answer));
	assert_int_equal(answer[0], 1);
	assert_int_equal(answer[1], VTEST_SYNC_CREATE);
	return answer[2];
}

static int wait_fd(struct peer *p)
{
	EXPECT(p, 0, VTEST_SYNC_WAIT);
	return peer_read_fd(p);
}

/* Reads and closes the eventfd. */
static bool signalled(int fd)
{
	eventfd_t value;
	bool is = eventfd_read(fd, &value) == 0;
	close(fd);
	return is;
}

static bool ready(int fd)
{
	eventfd_t value;
	return eventfd_read(fd, &value) == 0;
}

static void test_values(void **state)
{
	struct peer *p = *state;
	uint32_t a = make_sync(p, 5), b = make_sync(p, 6);

	assert_int_not_equal(a, b);
	SEND(p, VTEST_SYNC_READ, a);
	EXPECT(p, 2, VTEST_SYNC_READ, 5, 0);
	SEND(p, VTEST_SYNC_WRITE, a, 7, 1);
	SEND(p, VTEST_SYNC_READ, a);
	EXPECT(p, 2, VTEST_SYNC_READ, 7, 1);
	SEND(p, VTEST_SYNC_UNREF, a);
	peer_expect_open(p);
	SEND(p, VTEST_SYNC_READ, a);
	peer_expect_closed(p, "SYNC_READ: unknown handle");
}

static void test_wait_all_and_any(void **state)
{
	struct peer *p = *state;
	uint32_t a = make_sync(p, 0), b = make_sync(p, 0);

	SEND(p, VTEST_SYNC_WAIT, 0, UINT32_MAX, a, 3, 0, b, 4, 0);
	int all = wait_fd(p);
	SEND(p, VTEST_SYNC_WAIT, VTEST_SYNC_WAIT_FLAG_ANY, UINT32_MAX, a, 3, 0, b, 4, 0);
	int any = wait_fd(p);
	SEND(p, VTEST_SYNC_WRITE, b, 4, 0);
	assert_false(ready(all));
	assert_true(signalled(any));
	SEND(p, VTEST_SYNC_WRITE, a, 2, 0);
	assert_false(ready(all));
	SEND(p, VTEST_SYNC_WRITE, a, 9, 0);
	assert_true(signalled(all));
	assert_int_equal(p->vtest->wait_count, 0);
	SEND(p, VTEST_SYNC_WAIT, 0, 0, a, 9, 0);
	assert_true(signalled(wait_fd(p)));
	SEND(p, VTEST_SYNC_WAIT, 0, 0, a, 10, 0);
	assert_false(signalled(wait_fd(p)));
	assert_int_equal(p->vtest->wait_count, 0);
	peer_expect_open(p);
}

static void test_a_wait_outlives_the_name_of_its_sync(void **state)
{
	struct peer *p = *state;
	uint32_t a = make_sync(p, 0);

	SEND(p, VTEST_SYNC_WAIT, 0, UINT32_MAX, a, 1, 0);
	int fd = wait_fd(p);
	SEND(p, VTEST_SYNC_UNREF, a);
	peer_expect_open(p);
	assert_false(signalled(fd));
}

static void test_waits_are_limited(void **state)
{
	struct peer *p = *state;
	uint32_t a = make_sync(p, 0);

	for (unsigned i = 0; i < VTEST_MAX_WAITS; i++) {
		SEND(p, VTEST_SYNC_WAIT, 0, UINT32_MAX, a, 1, 0);
		close(wait_fd(p));
	}
	SEND(p, VTEST_SYNC_WAIT, 0, UINT32_MAX, a, 1, 0);
	peer_expect_closed(p, "SYNC_WAIT: too many objects");
}

static void test_expired_waits_make_room(void **state)
{
	struct peer *p = *state;
	uint32_t a = make_sync(p, 0);

	for (unsigned i = 0; i < 3 * VTEST_MAX_WAITS; i++) {
		SEND(p, VTEST_SYNC_WAIT, 0, 1, a, 1, 0);
		close(wait_fd(p));
		if (i % (VTEST_MAX_WAITS / 2) == 0)
			usleep(3000);
	}
	peer_expect_open(p);
}

static void test_wait_for_an_unknown_sync(void **state)
{
	struct peer *p = *state;
	uint32_t a = make_sync(p, 0);
	SEND(p, VTEST_SYNC_WAIT, 0, 0, a, 1, 0, 99, 1, 0);
	peer_expect_closed(p, "SYNC_WAIT: unknown sync");
}

static void test_submit2(void **state)
{
	struct peer *p = *state;
	uint32_t a = make_sync(p, 0);

	p->dev.hold_fences = true;
	/* count, batch {flags, cmd 9+2, sync 11+1, ring}, 2 padding, stream, sync triple */
	SEND(p, VTEST_SUBMIT_CMD2, 1, VTEST_SUBMIT_FLAG_RING_IDX, 9, 2, 11, 1, 3, 0, 0, 40, 41, a,
		8, 0);
	assert_int_equal(p->dev.submits, 1);
	assert_int_equal(p->dev.last_dword, 41);
	assert_int_equal(p->dev.last_n, 2);
	SEND(p, VTEST_SYNC_READ, a);
	EXPECT(p, 2, VTEST_SYNC_READ, 0, 0);
	device_finish(p->vtest->client, VTEST_CONTEXT);
	SEND(p, VTEST_SYNC_READ, a);
	EXPECT(p, 2, VTEST_SYNC_READ, 8, 0);
	/* Without a ring it is signalled once executed. */
	SEND(p, VTEST_SUBMIT_CMD2, 1, 0, 9, 2, 11, 1, 0, 0, 0, 40, 41, a, 9, 0);
	SEND(p, VTEST_SYNC_READ, a);
	EXPECT(p, 2, VTEST_SYNC_READ, 9, 0);
	SEND(p, VTEST_SUBMIT_CMD2, 0);
	peer_expect_open(p);
}

static void test_many_fences_in_flight(void **state)
{
	struct peer *p = *state;
	uint32_t a = make_sync(p, 0);

	p->dev.hold_fences = true;
	for (unsigned i = 1; i < 3 * VTEST_MAX_FENCES; i++)
		SEND(p, VTEST_SUBMIT_CMD2, 1, VTEST_SUBMIT_FLAG_RING_IDX, 9, 1, 10, 1, 0, 0, 0, 40,
			a, i, 0);
	assert_true(p->vtest->fence_count <= VTEST_MAX_FENCES);
	assert_true(p->dev.finishes >= 2);
	peer_expect_open(p);
}

/* Batches without commands are no work to finish, but their fences count all the same. */
static void test_many_fences_without_work(void **state)
{
	struct peer *p = *state;
	uint32_t a = make_sync(p, 0);

	p->dev.hold_fences = true;
	for (unsigned i = 1; i < 3 * VTEST_MAX_FENCES; i++)
		SEND(p, VTEST_SUBMIT_CMD2, 1, VTEST_SUBMIT_FLAG_RING_IDX, 9, 0, 9, 1, 0, 0, 0, a, i,
			0);
	assert_true(p->vtest->fence_count <= VTEST_MAX_FENCES);
	peer_expect_open(p);
}

/* Ends while a fence and a wait are outstanding; the tear-down finds leaks. */
static void test_end_with_everything_outstanding(void **state)
{
	struct peer *p = *state;
	uint32_t a = make_sync(p, 0);

	p->dev.hold_fences = true;
	SEND(p, VTEST_SYNC_WAIT, 0, UINT32_MAX, a, 100, 0);
	close(wait_fd(p));
	SEND(p, VTEST_SUBMIT_CMD2, 1, VTEST_SUBMIT_FLAG_RING_IDX, 9, 1, 10, 1, 0, 0, 0, 40, a, 1,
		0);
	SEND(p, VTEST_RESOURCE_BUSY_WAIT, 77, 0);
	assert_int_equal(p->vtest->fence_count, 1);
}

static void refuse(struct peer *p, const uint32_t *dwords, size_t n)
{
	peer_send(p, VTEST_SUBMIT_CMD2, dwords, n);
	peer_expect_closed(p, "SUBMIT_CMD2");
	assert_int_equal(p->dev.submits, 0);
}

#define REFUSE(p, ...)                                                                             \
	refuse(p, (const uint32_t[]){__VA_ARGS__}, sizeof((uint32_t[]){__VA_ARGS__}) / 4)

static void test_submit2_count_too_large(void **state)
{
	REFUSE(*state, UINT32_MAX, 0, 9, 1, 9, 0, 0, 0, 0, 1);
}

static void test_submit2_second_batch_missing(void **state)
{
	REFUSE(*state, 2, 0, 9, 1, 9, 0, 0, 0, 0, 1);
}

static void test_submit2_commands_outside(void **state)
{
	REFUSE(*state, 1, 0, 9, 2, 9, 0, 0, 0, 0, 1);
}

static void test_submit2_commands_wrap(void **state)
{
	REFUSE(*state, 1, 0, UINT32_MAX, 2, 9, 0, 0, 0, 0, 1);
}

static void test_submit2_syncs_outside(void **state)
{
	REFUSE(*state, 1, 0, 9, 1, 9, 0x55555556, 0, 0, 0, 1);
}

static void test_submit2_ring(void **state)
{
	REFUSE(*state, 1, 1, 9, 1, 9, 0, 64, 0, 0, 1);
}

static void test_submit2_flags_of_version_4(void **state)
{
	REFUSE(*state, 1, 2, 9, 1, 9, 0, 0, 0, 0, 1);
}

/* Many batches may not run one stream over and over. */
static void test_submit2_amplification(void **state)
{
	struct peer *p = *state;
	uint32_t message[1 + 8 * 60] = {60};

	for (unsigned i = 0; i < 60; i++) {
		message[1 + 8 * i + 1] = 0;
		message[1 + 8 * i + 2] = 300;
	}
	peer_send(p, VTEST_SUBMIT_CMD2, message, sizeof(message) / 4);
	peer_expect_closed(p, "SUBMIT_CMD2");
	assert_int_equal(p->dev.submits, 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, peer_setup_v3, peer_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_values),
		TEST(test_wait_all_and_any),
		TEST(test_a_wait_outlives_the_name_of_its_sync),
		TEST(test_waits_are_limited),
		TEST(test_expired_waits_make_room),
		TEST(test_wait_for_an_unknown_sync),
		TEST(test_submit2),
		TEST(test_many_fences_in_flight),
		TEST(test_many_fences_without_work),
		TEST(test_end_with_everything_outstanding),
		TEST(test_submit2_count_too_large),
		TEST(test_submit2_second_batch_missing),
		TEST(test_submit2_commands_outside),
		TEST(test_submit2_commands_wrap),
		TEST(test_submit2_syncs_outside),
		TEST(test_submit2_ring),
		TEST(test_submit2_flags_of_version_4),
		TEST(test_submit2_amplification),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("vtest sync", tests, NULL, NULL);
}
