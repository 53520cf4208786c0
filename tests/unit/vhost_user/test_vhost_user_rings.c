/* SPDX-License-Identifier: Apache-2.0 */

/* Requests from kick to call, ring lifecycle, and rings that break. */

#include "front.h"

#include <string.h>
#include <unistd.h>

static void test_kick_request_used_call(void **state)
{
	struct front *f = *state;

	front_start(f, 0);
	front_request(f, 0, 0, 0x11);
	front_kick(f, 0);
	assert_int_equal(f->dev.requests, 1);
	assert_int_equal(front_used_idx(f, 0), 1);
	assert_int_equal(front_used(f, 0, 0).id, 0);
	assert_int_equal(front_used(f, 0, 0).len, 24);
	assert_int_equal(f->memory[FRONT_DATA + 128], 0x12); /* the answer */
	assert_int_equal(front_events(f->call[0]), 1);
	assert_int_equal(front_events(f->call[1]), 0);

	front_request(f, 1, 0, 0x21);
	front_kick(f, 1);
	assert_int_equal(f->dev.cursor_requests, 1);
	assert_int_equal(front_used_idx(f, 1), 1);
	assert_int_equal(front_events(f->call[1]), 1);
}

static bool is_pending(struct front *f)
{
	vhost_user_freeze(f->vu);
	bool pending = vhost_user_pending(f->vu);
	vhost_user_thaw(f->vu);
	front_spin(f);
	return pending;
}

/* A guest that waits for what only a process can do. */
static void pending_is_seen(struct front *f, uint64_t without)
{
	front_start(f, without);
	assert_false(is_pending(f));
	front_request(f, 0, 0, 0x11); /* the kick was read already */
	assert_true(is_pending(f));
	assert_int_equal(front_used_idx(f, 0), 1);
	front_request(f, 1, 0, 0x11);
	assert_true(is_pending(f));
	assert_int_equal(front_used_idx(f, 1), 1);
	assert_false(is_pending(f));
}

static void test_pending(void **state)
{
	pending_is_seen(*state, 0);
}

/* Kicks are asked for anew, as the driver may have seen them refused. */
static void test_pending_asks_for_kicks(void **state)
{
	struct front *f = *state;

	pending_is_seen(f, 1ull << VIRTIO_BIT_RING_EVENT_IDX);
	vhost_user_freeze(f->vu);
	front_used_ring(f, 0)[0] = 1; /* NO_NOTIFY */
	assert_false(vhost_user_pending(f->vu));
	assert_int_equal(front_used_ring(f, 0)[0], 0);
}

static void test_pending_control(void **state)
{
	struct front *f = *state;

	front_negotiate(f, 0);
	f->silent_keeper = true;
	front_set_memory(f);
	assert_true(is_pending(f)); /* the verdict is missing */
	vhost_user_memory_verdict(f->vu, f->serial, true, NULL);
	assert_false(is_pending(f));
}

static void test_completion_out_of_order_and_later(void **state)
{
	struct front *f = *state;

	front_start(f, 0);
	f->dev.hold = true;
	for (unsigned i = 0; i < 4; i++)
		front_request(f, 0, i, i);
	front_kick(f, 0);
	assert_int_equal(f->dev.requests, 4);
	assert_int_equal(front_used_idx(f, 0), 0);
	fake_release(&f->dev, 2);
	assert_int_equal(front_used_idx(f, 0), 2);
	assert_true(front_events(f->call[0]) >= 1);
	fake_release(&f->dev, 2);
	assert_int_equal(front_used_idx(f, 0), 4);
}

static void test_event_index_holds_calls_back(void **state)
{
	struct front *f = *state;

	front_start(f, 0);
	front_request(f, 0, 0, 1);
	front_kick(f, 0);
	assert_int_equal(front_events(f->call[0]), 1);
	front_avail_ring(f, 0)[2 + FRONT_NUM] = 2; /* used_event: not before the third */
	front_request(f, 0, 1, 1);
	front_kick(f, 0);
	assert_int_equal(front_events(f->call[0]), 0);
	front_request(f, 0, 2, 1);
	front_kick(f, 0);
	assert_int_equal(front_events(f->call[0]), 1);
	/* Kicks are wanted for what comes next: avail_event follows. */
	assert_int_equal(front_used_ring(f, 0)[2 + 4 * FRONT_NUM], 3);
}

static void test_flags_without_event_index(void **state)
{
	struct front *f = *state;

	front_start(f, 1ull << VIRTIO_BIT_RING_EVENT_IDX);
	front_avail_ring(f, 0)[0] = 1; /* NO_INTERRUPT */
	front_request(f, 0, 0, 1);
	front_kick(f, 0);
	assert_int_equal(front_used_idx(f, 0), 1);
	assert_int_equal(front_events(f->call[0]), 0);
	front_avail_ring(f, 0)[0] = 0;
	front_request(f, 0, 1, 1);
	front_kick(f, 0);
	assert_int_equal(front_events(f->call[0]), 1);
	assert_int_equal(front_used_ring(f, 0)[0], 0);
}

/* More requests than one turn takes, over several wraps of the ring. */
static void test_many_requests(void **state)
{
	struct front *f = *state;

	front_start(f, 0);
	for (unsigned round = 0; round < 50; round++) {
		for (unsigned i = 0; i < FRONT_NUM / 2; i++)
			front_request(f, 0, i, round);
		front_kick(f, 0);
		assert_int_equal(front_used_idx(f, 0), (round + 1) * (FRONT_NUM / 2));
	}
	assert_int_equal(f->dev.requests, 50 * FRONT_NUM / 2);
}

static void test_indirect_request(void **state)
{
	struct front *f = *state;
	struct virtqueue_desc *table = (struct virtqueue_desc *)(f->memory + FRONT_DATA);

	front_start(f, 0);
	for (unsigned i = 0; i < 1500; i++)
		table[i] = (struct virtqueue_desc){FRONT_GPA + 0x40000 + 16 * i, 16,
			i < 1499 ? VIRTQUEUE_DESC_NEXT : VIRTQUEUE_DESC_WRITE, (uint16_t)(i + 1)};
	front_set_desc(f, 0, 3, FRONT_DATA, 1500 * 16, VIRTQUEUE_DESC_INDIRECT, 0);
	front_avail(f, 0, 3);
	front_kick(f, 0);
	assert_int_equal(f->dev.requests, 1);
	assert_int_equal(f->dev.last_out_bytes, 1499 * 16);
	assert_int_equal(f->dev.last_in_bytes, 16);
	assert_int_equal(front_used(f, 0, 0).id, 3);
}

static void test_base_is_told_and_taken_up_again(void **state)
{
	struct front *f = *state;

	front_start(f, 0);
	for (unsigned i = 0; i < 3; i++)
		front_request(f, 0, i, i);
	front_kick(f, 0);
	assert_int_equal(front_stop_ring(f, 0), 3);
	assert_int_equal(f->released[KEEPER_CUSTODY_KICK], 1);
	front_request(f, 0, 3, 9);
	front_kick(f, 0);
	assert_int_equal(f->dev.requests, 3); /* stopped */
	/* A pause: the guest's resources survive. */
	front_start_ring(f, 0, 3);
	front_spin(f);
	assert_int_equal(f->dev.resets, 0);
	assert_int_equal(f->dev.requests, 4);
	assert_int_equal(front_used_idx(f, 0), 4);
}

static void test_stop_waits_for_requests_in_flight(void **state)
{
	struct front *f = *state;
	struct vhost_user_vring_state which = {0, 0};
	struct front_message m;

	front_start(f, 0);
	f->dev.hold = true;
	front_request(f, 0, 0, 1);
	front_request(f, 0, 1, 1);
	front_kick(f, 0);
	front_send(f, VHOST_USER_GET_VRING_BASE, 0, &which, 8, NULL, 0);
	front_spin(f);
	assert_false(front_receive(f, &m));
	front_request(f, 0, 2, 1); /* comes too late */
	front_kick(f, 0);
	assert_int_equal(f->dev.requests, 2);
	f->dev.release_on_poll = true; /* the device is polled meanwhile */
	front_wait_change(f, &front_used_ring(f, 0)[1], 0);
	assert_true(f->dev.polls > 0);
	assert_true(front_receive(f, &m));
	memcpy(&which, m.payload, 8);
	assert_int_equal(which.num, 2);
	assert_int_equal(front_used_idx(f, 0), 2);
	unsigned polls = f->dev.polls;
	front_wait(f, 10);
	assert_int_equal(f->dev.polls, polls); /* and no longer than needed */
}

static void test_peer_goes_while_a_stop_waits(void **state)
{
	struct front *f = *state;
	struct vhost_user_vring_state which = {0, 0};

	front_start(f, 0);
	f->dev.hold = true;
	front_request(f, 0, 0, 1);
	front_kick(f, 0);
	front_send(f, VHOST_USER_GET_VRING_BASE, 0, &which, 8, NULL, 0);
	front_spin(f);
	close(f->socket);
	f->socket = -1;
	front_expect_closed(f, "");
}

static void test_guest_reset_by_message(void **state)
{
	struct front *f = *state;

	front_start(f, 0);
	front_request(f, 0, 0, 1);
	front_kick(f, 0);
	front_stop_ring(f, 0);
	front_stop_ring(f, 1);
	assert_int_equal(front_ack(f, VHOST_USER_RESET_DEVICE, NULL, 0, -1), 0);
	assert_int_equal(f->dev.resets, 1);
	/* The memory table stays. */
	memset(f->memory, 0, FRONT_DATA);
	front_start_ring(f, 0, 0);
	assert_int_equal(f->dev.resets, 1);
	front_request(f, 0, 0, 1);
	front_kick(f, 0);
	assert_int_equal(f->dev.requests, 2);
}

/* QEMU before 8.2: the driver's empty rings say it. */
static void test_guest_reset_by_empty_rings(void **state)
{
	struct front *f = *state;

	front_start(f, 0);
	front_request(f, 0, 0, 1);
	front_kick(f, 0);
	front_stop_ring(f, 0);
	front_stop_ring(f, 1);
	memset(f->memory, 0, FRONT_DATA);
	front_start_ring(f, 0, 0);
	assert_int_equal(f->dev.resets, 1);
	front_stop_ring(f, 0);
	front_start_ring(f, 0, 0); /* nothing happened since */
	assert_int_equal(f->dev.resets, 1);
}

static void expect_ring_breaks(struct front *f)
{
	front_kick(f, 0);
	assert_false(f->closed);
	assert_int_equal(front_events(f->err[0]), 1);
	assert_int_equal(front_used_idx(f, 0), 0);
	/* The other ring goes on. */
	unsigned before = f->dev.requests;
	front_request(f, 1, 0, 5);
	front_kick(f, 1);
	assert_int_equal(f->dev.requests, before + 1);
	/* Stopped and started anew it is as good as new. */
	front_stop_ring(f, 0);
	memset(f->memory + FRONT_DESC(0), 0, 0x3000);
	front_start_ring(f, 0, 0);
	front_request(f, 0, 0, 6);
	front_kick(f, 0);
	assert_int_equal(front_used_idx(f, 0), 1);
}

static void test_ring_breaks_on_a_loop(void **state)
{
	struct front *f = *state;

	front_start(f, 0);
	front_set_desc(f, 0, 0, FRONT_DATA, 16, VIRTQUEUE_DESC_NEXT, 0);
	front_avail(f, 0, 0);
	expect_ring_breaks(f);
}

static void test_ring_breaks_on_an_index_jump(void **state)
{
	struct front *f = *state;

	front_start(f, 0);
	front_avail_ring(f, 0)[1] = 1000;
	expect_ring_breaks(f);
}

static void test_ring_breaks_on_a_head_in_flight(void **state)
{
	struct front *f = *state;

	front_start(f, 0);
	f->dev.hold = true;
	front_request(f, 0, 0, 1);
	front_kick(f, 0);
	front_avail(f, 0, 0);
	front_kick(f, 0);
	assert_int_equal(front_events(f->err[0]), 1);
	assert_int_equal(f->dev.requests, 1);
	f->dev.hold = false;
	fake_release(&f->dev, 1);
	assert_int_equal(front_used_idx(f, 0), 0); /* a broken ring is not written to */
	front_stop_ring(f, 0);
}

static void test_ring_without_kick_is_polled(void **state)
{
	struct front *f = *state;
	uint64_t index = 0 | VHOST_USER_VRING_NO_FD;

	front_start(f, 0);
	front_stop_ring(f, 0);
	assert_int_equal(front_ack(f, VHOST_USER_SET_VRING_KICK, &index, 8, -1), 0);
	front_request(f, 0, 0, 1);
	front_wait_change(f, &front_used_ring(f, 0)[1], 0);
	assert_int_equal(f->dev.requests, 1);
}

static void test_disabled_ring_takes_nothing(void **state)
{
	struct front *f = *state;
	struct vhost_user_vring_state off = {0, 0}, on = {0, 1};

	front_start(f, 0);
	assert_int_equal(front_ack(f, VHOST_USER_SET_VRING_ENABLE, &off, 8, -1), 0);
	front_request(f, 0, 0, 1);
	front_kick(f, 0);
	assert_int_equal(f->dev.requests, 0);
	assert_int_equal(front_ack(f, VHOST_USER_SET_VRING_ENABLE, &on, 8, -1), 0);
	front_spin(f);
	assert_int_equal(f->dev.requests, 1);
}

static void test_running_ring_cannot_be_changed(void **state)
{
	struct front *f = *state;
	struct vhost_user_vring_state num = {0, 8}, base = {0, 3};
	struct vhost_user_vring_addr addr = {.index = 0, .desc = FRONT_UVA};

	front_start(f, 0);
	assert_int_not_equal(front_ack(f, VHOST_USER_SET_VRING_NUM, &num, 8, -1), 0);
	assert_int_not_equal(front_ack(f, VHOST_USER_SET_VRING_BASE, &base, 8, -1), 0);
	assert_int_not_equal(front_ack(f, VHOST_USER_SET_VRING_ADDR, &addr, 40, -1), 0);
	/* A new kick fd is taken. */
	uint64_t index = 0;
	assert_int_equal(front_ack(f, VHOST_USER_SET_VRING_KICK, &index, 8, f->kick[1]), 0);
	front_request(f, 0, 0, 1);
	front_kick(f, 1);
	assert_int_equal(f->dev.requests, 1);
}

static void test_end_with_requests_in_flight(void **state)
{
	struct front *f = *state;

	front_start(f, 0);
	f->dev.hold = true;
	for (unsigned i = 0; i < 8; i++)
		front_request(f, 0, i, i);
	front_kick(f, 0);
	assert_int_equal(f->dev.requests, 8);
	close(f->socket);
	f->socket = -1;
	front_expect_closed(f, "");
	assert_int_equal(front_used_idx(f, 0), 0); /* nothing is returned any more */
}

/* Four chains of 32 Ki descriptors: the third has to wait until the others came back. */
static void test_budget_makes_chains_wait(void **state)
{
	struct front *f = *state;
	struct virtqueue_desc *table = (struct virtqueue_desc *)(f->memory + 0x40000);
	unsigned n = VIRTQUEUE_MAX_TABLE;

	front_start(f, 0);
	for (unsigned i = 0; i < n; i++)
		table[i] = (struct virtqueue_desc){FRONT_GPA + FRONT_DATA, 1,
			i + 1 < n ? VIRTQUEUE_DESC_NEXT : 0, (uint16_t)(i + 1)};
	f->dev.hold = true;
	for (uint16_t i = 0; i < 4; i++) {
		front_set_desc(f, 0, i, 0x40000, n * 16, VIRTQUEUE_DESC_INDIRECT, 0);
		front_avail(f, 0, i);
	}
	front_kick(f, 0);
	assert_int_equal(f->dev.requests, 2);
	fake_release(&f->dev, 1);
	front_spin(f);
	assert_int_equal(f->dev.requests, 3);
	f->dev.hold = false;
	fake_release(&f->dev, 2);
	front_spin(f);
	assert_int_equal(front_used_idx(f, 0), 4);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, front_setup, front_teardown)
	const struct CMUnitTest tests[] = {
		T(test_kick_request_used_call),
		T(test_pending),
		T(test_pending_asks_for_kicks),
		T(test_pending_control),
		T(test_completion_out_of_order_and_later),
		T(test_event_index_holds_calls_back),
		T(test_flags_without_event_index),
		T(test_many_requests),
		T(test_indirect_request),
		T(test_base_is_told_and_taken_up_again),
		T(test_stop_waits_for_requests_in_flight),
		T(test_peer_goes_while_a_stop_waits),
		T(test_guest_reset_by_message),
		T(test_guest_reset_by_empty_rings),
		T(test_ring_breaks_on_a_loop),
		T(test_ring_breaks_on_an_index_jump),
		T(test_ring_breaks_on_a_head_in_flight),
		T(test_ring_without_kick_is_polled),
		T(test_disabled_ring_takes_nothing),
		T(test_running_ring_cannot_be_changed),
		T(test_end_with_requests_in_flight),
		T(test_budget_makes_chains_wait),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
