/* SPDX-License-Identifier: Apache-2.0 */

/* The message layer and the requests, over a socket. */

#include "front.h"

#include "base/checked.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void test_negotiation(void **state)
{
	struct front *f = *state;

	uint64_t features = front_get(f, VHOST_USER_GET_FEATURES);
	assert_true(features & 1ull << VHOST_USER_BIT_PROTOCOL);
	assert_true(features & 1ull << VIRTIO_BIT_VERSION_1);
	assert_true(features & 1ull << VIRTIO_BIT_RING_EVENT_IDX);
	assert_int_equal(features & 0x7, 0x7);
	front_negotiate(f, 0x2); /* acknowledges a bit that was not offered */
	assert_int_equal(f->dev.driver_features, 0x5);
	assert_int_equal(front_get(f, VHOST_USER_GET_MAX_MEM_SLOTS), KEEPER_MAX_MEMORY);
	uint64_t packed = 1ull << VIRTIO_BIT_RING_PACKED;
	assert_int_not_equal(front_ack(f, VHOST_USER_SET_FEATURES, &packed, 8, -1), 0);
	assert_false(f->closed);
}

static void test_message_split_anywhere(void **state)
{
	struct front *f = *state;
	uint8_t bytes[12 + 8] = {
		VHOST_USER_SET_VRING_CALL, 0, 0, 0, VHOST_USER_VERSION, 0, 0, 0, 8};

	for (size_t cut = 1; cut < sizeof(bytes); cut++) {
		front_send_raw(f, bytes, cut, &f->call[0], 1);
		front_spin(f);
		assert_int_equal(f->custody[KEEPER_CUSTODY_CALL], cut - 1);
		front_send_raw(f, bytes + cut, sizeof(bytes) - cut, NULL, 0);
		front_spin(f);
		assert_int_equal(f->custody[KEEPER_CUSTODY_CALL], cut);
	}
	assert_false(f->closed);
}

static void test_messages_in_one_write_keep_their_order(void **state)
{
	struct front *f = *state;
	uint32_t one[3] = {VHOST_USER_GET_FEATURES, VHOST_USER_VERSION, 0};
	uint32_t two[3] = {VHOST_USER_GET_PROTOCOL_FEATURES, VHOST_USER_VERSION, 0};
	uint8_t bytes[24 * 20];
	struct front_message m;

	for (unsigned i = 0; i < 20; i++) {
		memcpy(bytes + i * 24, one, 12);
		memcpy(bytes + i * 24 + 12, two, 12);
	}
	front_send_raw(f, bytes, sizeof(bytes), NULL, 0);
	front_spin(f);
	for (unsigned i = 0; i < 40; i++) {
		assert_true(front_receive(f, &m));
		assert_int_equal(m.request,
			i % 2 ? VHOST_USER_GET_PROTOCOL_FEATURES : VHOST_USER_GET_FEATURES);
	}
}

/* Fds belong to the message whose first byte they came with. */
static void test_fds_stay_with_their_message(void **state)
{
	struct front *f = *state;
	uint64_t zero = 0, one = 1;

	front_send(f, VHOST_USER_SET_VRING_CALL, 0, &zero, 8, &f->call[0], 1);
	front_send(f, VHOST_USER_SET_VRING_CALL, 0, &one, 8, &f->call[1], 1);
	front_send(f, VHOST_USER_SET_VRING_ERR, 0, &one, 8, &f->err[1], 1);
	front_spin(f);
	assert_false(f->closed);
	assert_int_equal(f->custody[KEEPER_CUSTODY_CALL], 2);
	assert_int_equal(f->custody[KEEPER_CUSTODY_ERR], 1);
}

/* A front end that does not read its replies costs a reply, not memory and not the device. */
static void test_replies_not_read(void **state)
{
	struct front *f = *state;
	uint32_t one[3] = {VHOST_USER_GET_FEATURES, VHOST_USER_VERSION, 0};
	unsigned sent = 0, got = 0;
	struct front_message m;

	for (;;) {
		ssize_t n = send(f->socket, one, sizeof(one), MSG_DONTWAIT);
		if (n != sizeof(one))
			break;
		sent++;
		if (sent % 64 == 0)
			front_spin(f);
		assert_true(sent < 1000000);
	}
	front_spin(f);
	assert_false(f->closed);
	for (unsigned idle = 0; idle < 3 && got < sent; idle++) {
		while (front_receive(f, &m)) {
			got++;
			idle = 0;
		}
		front_spin(f);
	}
	assert_int_equal(got, sent);
}

static void test_peer_closes(void **state)
{
	struct front *f = *state;

	close(f->socket);
	f->socket = -1;
	front_expect_closed(f, "");
}

static void test_peer_closes_inside_a_message(void **state)
{
	struct front *f = *state;

	front_send_raw(f, "\5\0\0\0\1", 5, &f->memory_fd, 1);
	front_spin(f);
	assert_false(f->closed);
	close(f->socket);
	f->socket = -1;
	front_expect_closed(f, "inside a message");
}

struct malformed {
	const char *reason;
	uint32_t request, flags, size;
	unsigned fds;
};

static const struct malformed malformed[] = {
	{"too short", VHOST_USER_SET_FEATURES, VHOST_USER_VERSION, 7, 0},
	{"too long", VHOST_USER_SET_FEATURES, VHOST_USER_VERSION, 9, 0},
	{"too long", VHOST_USER_GET_FEATURES, VHOST_USER_VERSION, 1, 0},
	{"too long", VHOST_USER_SET_MEM_TABLE, VHOST_USER_VERSION, 0xffffffff, 0},
	{"too long", 77, VHOST_USER_VERSION, 0x7fffffff, 0},
	{"too short", VHOST_USER_GET_CONFIG, VHOST_USER_VERSION, 11, 0},
	{"another protocol version", VHOST_USER_GET_FEATURES, 0, 0, 0},
	{"another protocol version", VHOST_USER_GET_FEATURES, 2, 0, 0},
	{"unexpected flags", VHOST_USER_GET_FEATURES, 5, 0, 0},
	{"unexpected flags", VHOST_USER_GET_FEATURES, 0x11, 0, 0},
	{"too many file descriptors", VHOST_USER_GET_FEATURES, VHOST_USER_VERSION, 0, 1},
	{"too many file descriptors", VHOST_USER_SET_VRING_KICK, VHOST_USER_VERSION, 8, 2},
	{"too many file descriptors", VHOST_USER_SET_MEM_TABLE, VHOST_USER_VERSION, 8, 9},
	{"too many file descriptors", 77, VHOST_USER_VERSION, 0, 16},
	{"not known here", 77, VHOST_USER_VERSION, 0, 3},
	{"not known here", 0, VHOST_USER_VERSION, 0, 0},
	{"not known here", 19 /* SEND_RARP */, VHOST_USER_VERSION, 8, 0},
	{"not known here", 6 /* SET_LOG_BASE */, VHOST_USER_VERSION, 16, 1},
	{"not known here", 39 /* SET_STATUS */, VHOST_USER_VERSION, 8, 0},
	{"not known here", 0xffffffff, VHOST_USER_VERSION, 8, 0},
	{"not negotiated", VHOST_USER_GET_CONFIG, VHOST_USER_VERSION, 12, 0},
	{"not negotiated", VHOST_USER_ADD_MEM_REG, VHOST_USER_VERSION, 40, 1},
	{"no socket", VHOST_USER_GPU_SET_SOCKET, VHOST_USER_VERSION, 0, 0},
	{"do not agree", VHOST_USER_SET_VRING_KICK, VHOST_USER_VERSION, 8, 0},
	{"before its size", VHOST_USER_SET_VRING_KICK, VHOST_USER_VERSION, 8, 1},
};

static void test_malformed_messages_end_the_connection(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(malformed); i++) {
		const struct malformed *m = &malformed[i];
		uint8_t bytes[12 + 512] = {0};
		void *one;
		struct front *f;
		int fds[16];

		front_setup(&one);
		f = one;
		memcpy(bytes, &m->request, 4);
		memcpy(bytes + 4, &m->flags, 4);
		memcpy(bytes + 8, &m->size, 4);
		for (unsigned n = 0; n < m->fds; n++)
			fds[n] = f->memory_fd;
		front_send_raw(f, bytes, 12 + MIN(m->size, 512u), fds, m->fds);
		front_expect_closed(f, m->reason);
		front_teardown(&one);
	}
}

/* With an acknowledgement asked for, a refusal is told and the connection goes on. */
static void test_refusals_are_acknowledged(void **state)
{
	struct front *f = *state;
	struct vhost_user_vring_state state_of = {2, 16};
	struct vhost_user_vring_addr addr = {.index = 9};
	struct vhost_user_mem_table table = {.count = 1};
	uint64_t kick = 0;

	front_negotiate(f, 0);
	assert_int_not_equal(front_ack(f, VHOST_USER_SET_VRING_NUM, &state_of, 8, -1), 0);
	state_of = (struct vhost_user_vring_state){0, 15};
	assert_int_not_equal(front_ack(f, VHOST_USER_SET_VRING_NUM, &state_of, 8, -1), 0);
	state_of.num = 0;
	assert_int_not_equal(front_ack(f, VHOST_USER_SET_VRING_NUM, &state_of, 8, -1), 0);
	state_of.num = 4096;
	assert_int_not_equal(front_ack(f, VHOST_USER_SET_VRING_NUM, &state_of, 8, -1), 0);
	state_of.num = 0x10000;
	assert_int_not_equal(front_ack(f, VHOST_USER_SET_VRING_BASE, &state_of, 8, -1), 0);
	assert_int_not_equal(front_ack(f, VHOST_USER_SET_VRING_ENABLE, &state_of, 8, -1), 0);
	assert_int_not_equal(front_ack(f, VHOST_USER_SET_VRING_ADDR, &addr, 40, -1), 0);
	assert_int_not_equal(front_ack(f, VHOST_USER_SET_MEM_TABLE, &table, 40, -1), 0);
	assert_int_not_equal(front_ack(f, VHOST_USER_SET_VRING_KICK, &kick, 8, f->kick[0]), 0);
	kick = 7;
	assert_int_not_equal(front_ack(f, VHOST_USER_SET_VRING_CALL, &kick, 8, f->kick[0]), 0);
	kick = 1u << 9;
	assert_int_not_equal(front_ack(f, VHOST_USER_SET_VRING_CALL, &kick, 8, f->kick[0]), 0);
	assert_int_not_equal(front_ack(f, 19, &kick, 8, -1), 0);
	assert_false(f->closed);
}

static void config_request(struct front *f, uint32_t request, uint32_t offset, uint32_t size,
	uint32_t bytes, struct front_message *ret)
{
	struct vhost_user_config config = {.offset = offset, .size = size};

	memset(config.data, 0xee, sizeof(config.data));
	front_send(f, request, VHOST_USER_FLAG_NEED_REPLY, &config, 12 + bytes, NULL, 0);
	front_spin(f);
	assert_true(front_receive(f, ret));
	assert_int_equal(ret->request, request);
}

static void test_config(void **state)
{
	struct front *f = *state;
	struct front_message m;

	front_negotiate(f, 0);
	config_request(f, VHOST_USER_GET_CONFIG, 0, 16, 16, &m);
	assert_int_equal(m.size, 12 + 16);
	assert_memory_equal(m.payload + 12, "\1\2\3\4\5\6\7\10", 8);
	config_request(f, VHOST_USER_GET_CONFIG, 4, 4, 4, &m);
	assert_int_equal(m.size, 12 + 4);
	assert_memory_equal(m.payload + 12, "\5\6\7\10", 4);
	/* A monitor that knows a longer structure gets zeros for what is not there. */
	config_request(f, VHOST_USER_GET_CONFIG, 0, 24, 24, &m);
	assert_int_equal(m.size, 12 + 24);
	assert_memory_equal(m.payload + 12 + 12, "\15\16\17\20\0\0\0\0\0\0\0\0", 12);
	/* What makes no sense is answered without payload. */
	config_request(f, VHOST_USER_GET_CONFIG, 0, 16, 8, &m);
	assert_int_equal(m.size, 0);
	config_request(f, VHOST_USER_GET_CONFIG, 0xfffffff0, 16, 16, &m);
	assert_int_equal(m.size, 0);
	config_request(f, VHOST_USER_GET_CONFIG, 64, 16, 16, &m);
	assert_int_equal(m.size, 0);

	config_request(f, VHOST_USER_SET_CONFIG, 4, 4, 4, &m);
	assert_int_equal(m.payload[0], 0);
	assert_int_equal(f->dev.config[4], 0xee);
	assert_int_equal(f->dev.config[8], 9);
	config_request(f, VHOST_USER_SET_CONFIG, 0, 24, 24, &m); /* longer than the device's */
	assert_int_equal(m.payload[0], 0);
	config_request(f, VHOST_USER_SET_CONFIG, 0xfffffffc, 4, 4, &m);
	assert_int_not_equal(m.payload[0], 0);
	config_request(f, VHOST_USER_SET_CONFIG, 0, 4, 8, &m);
	assert_int_not_equal(m.payload[0], 0);
}

static void test_channel_to_the_monitor_is_taken(void **state)
{
	struct front *f = *state;

	front_negotiate(f, 0);
	assert_int_equal(front_ack(f, VHOST_USER_SET_BACKEND_REQ_FD, NULL, 0, f->call[0]), 0);
	assert_int_not_equal(front_ack(f, VHOST_USER_SET_BACKEND_REQ_FD, NULL, 0, -1), 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, front_setup, front_teardown)
	const struct CMUnitTest tests[] = {
		T(test_negotiation),
		T(test_message_split_anywhere),
		T(test_messages_in_one_write_keep_their_order),
		T(test_fds_stay_with_their_message),
		T(test_replies_not_read),
		T(test_peer_closes),
		T(test_peer_closes_inside_a_message),
		cmocka_unit_test(test_malformed_messages_end_the_connection),
		T(test_refusals_are_acknowledged),
		T(test_config),
		T(test_channel_to_the_monitor_is_taken),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
