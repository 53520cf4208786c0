/* SPDX-License-Identifier: Apache-2.0 */

/* The inflight region: what one connection took and did not return, the next one takes again. */

#include "front.h"

#include "base/cleanup.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define QUEUE(i) ((struct vhost_user_inflight_queue *)(map + (i)*320)) /* 16 + 16 * 16, rounded */
#define DESC(q)  ((struct vhost_user_inflight_desc *)((q) + 1))

static struct vhost_user_inflight get_region(struct front *f, int *ret_fd)
{
	struct vhost_user_inflight in = {.num_queues = 2, .queue_size = FRONT_NUM};
	struct front_message m;

	front_send(f, VHOST_USER_GET_INFLIGHT_FD, 0, &in, 24, NULL, 0);
	front_spin(f);
	assert_true(front_receive(f, &m));
	assert_int_equal(m.request, VHOST_USER_GET_INFLIGHT_FD);
	assert_int_equal(m.size, 24);
	assert_true(m.fd >= 0);
	memcpy(&in, m.payload, sizeof(in));
	assert_int_equal(in.mmap_size, 640);
	assert_int_equal(in.mmap_offset, 0);
	*ret_fd = m.fd;
	return in;
}

static uint64_t set_region(struct front *f, const struct vhost_user_inflight *in, int fd)
{
	return front_ack(f, VHOST_USER_SET_INFLIGHT_FD, in, 24, fd);
}

static void start(struct front *f, uint16_t base)
{
	front_set_memory(f);
	front_start_ring(f, 0, base);
	front_spin(f);
}

static void disconnect(struct front *f)
{
	close_fd(&f->socket);
	front_expect_closed(f, "");
}

static void test_requests_are_taken_again_in_order(void **state)
{
	struct front *f = *state;
	cleanup_close int fd = -1;

	front_negotiate(f, 0);
	struct vhost_user_inflight in = get_region(f, &fd);
	assert_int_equal(set_region(f, &in, fd), 0);
	assert_int_equal(f->custody[KEEPER_CUSTODY_INFLIGHT], 2);
	start(f, 0);
	f->dev.hold = true;
	/* Taken in the order 3, 1, 0, 2; 3 comes back. */
	static const unsigned slots[] = {3, 1, 0, 2};
	for (unsigned i = 0; i < 4; i++)
		front_request(f, 0, slots[i], 100 + slots[i]);
	front_kick(f, 0);
	fake_release(&f->dev, 1);
	assert_int_equal(front_used_idx(f, 0), 1);
	disconnect(f);
	assert_int_equal(front_used_idx(f, 0), 1);
	front_request(f, 0, 4, 104); /* made available while nobody was there */

	front_connect(f);
	f->dev.hold = false;
	f->dev.n_order = 0;
	front_negotiate(f, 0);
	assert_int_equal(set_region(f, &in, fd), 0);
	start(f, 1); /* QEMU's guess after a crash: the used index */
	assert_int_equal(f->dev.n_order, 4);
	assert_int_equal(f->dev.order[0], 101);
	assert_int_equal(f->dev.order[1], 100);
	assert_int_equal(f->dev.order[2], 102);
	assert_int_equal(f->dev.order[3], 104);
	assert_int_equal(front_used_idx(f, 0), 5);
	assert_int_equal(front_stop_ring(f, 0), 5);
}

static void test_death_between_used_index_and_unmarking(void **state)
{
	struct front *f = *state;
	cleanup_close int fd = -1;

	front_negotiate(f, 0);
	struct vhost_user_inflight in = get_region(f, &fd);
	assert_int_equal(set_region(f, &in, fd), 0);
	start(f, 0);
	front_request(f, 0, 0, 1);
	front_request(f, 0, 1, 2);
	front_kick(f, 0);
	uint8_t *map = mmap(NULL, in.mmap_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	struct vhost_user_inflight_queue *queue = QUEUE(0);
	assert_int_equal(queue->version, 1);
	assert_int_equal(queue->used_idx, 2);
	assert_int_equal(DESC(queue)[0].inflight, 0);
	/* The second was shown to the driver, and then the process died. */
	assert_int_equal(queue->last_batch_head, 2);
	DESC(queue)[2].inflight = 1;
	queue->used_idx = 1;
	disconnect(f);

	front_connect(f);
	front_negotiate(f, 0);
	assert_int_equal(set_region(f, &in, fd), 0);
	start(f, 2);
	assert_int_equal(f->dev.requests, 2); /* not a third time */
	assert_int_equal(queue->used_idx, 2);
	assert_int_equal(DESC(queue)[2].inflight, 0);
	munmap(map, in.mmap_size);
}

static void test_region_full_of_nonsense(void **state)
{
	struct front *f = *state;
	cleanup_close int fd = -1;

	front_negotiate(f, 0);
	struct vhost_user_inflight in = get_region(f, &fd);
	uint8_t *map = mmap(NULL, in.mmap_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	memset(map, 0xff, in.mmap_size);
	QUEUE(0)->version = 1;
	assert_int_equal(set_region(f, &in, fd), 0);
	start(f, 0);
	/* All heads are said to be in flight; their descriptors are zero: the ring breaks. */
	assert_int_equal(front_events(f->err[0]), 1);
	assert_false(f->closed);
	front_stop_ring(f, 0);
	munmap(map, in.mmap_size);
}

static void test_bad_regions_are_refused(void **state)
{
	struct front *f = *state;
	struct vhost_user_inflight good = {640, 0, 2, FRONT_NUM, 0}, bad;
	int fd = f->memory_fd;

	front_negotiate(f, 0);
	assert_int_equal(set_region(f, &good, fd), 0);
	bad = good;
	bad.mmap_size = 639;
	assert_int_not_equal(set_region(f, &bad, fd), 0);
	bad = good;
	bad.num_queues = 3;
	assert_int_not_equal(set_region(f, &bad, fd), 0);
	bad = good;
	bad.queue_size = 0;
	assert_int_not_equal(set_region(f, &bad, fd), 0);
	bad = good;
	bad.mmap_offset = FRONT_MEMORY - 64;
	assert_int_not_equal(set_region(f, &bad, fd), 0);
	bad.mmap_offset = UINT64_MAX - 63;
	assert_int_not_equal(set_region(f, &bad, fd), 0);
	bad.mmap_offset = 8;
	assert_int_not_equal(set_region(f, &bad, fd), 0);
	assert_int_not_equal(set_region(f, &good, f->call[0]), 0);
	assert_int_not_equal(set_region(f, &good, -1), 0);
	/* A ring larger than the region is served and not tracked. */
	good.queue_size = FRONT_NUM / 2;
	assert_int_equal(set_region(f, &good, fd), 0);
	memset(f->memory, 0, FRONT_DATA);
	start(f, 0);
	assert_int_not_equal(set_region(f, &good, fd), 0); /* not while it runs */
	front_request(f, 0, 0, 1);
	front_kick(f, 0);
	assert_int_equal(front_used_idx(f, 0), 1);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, front_setup, front_teardown)
	const struct CMUnitTest tests[] = {
		T(test_requests_are_taken_again_in_order),
		T(test_death_between_used_index_and_unmarking),
		T(test_region_full_of_nonsense),
		T(test_bad_regions_are_refused),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
