/* SPDX-License-Identifier: Apache-2.0 */
#include "peer.h"

#include <string.h>
#include <sys/socket.h>

static void test_mesa_handshake(void **state)
{
	struct peer *p = *state;

	/* What Mesa 22.3 sends before it reads anything. */
	peer_write(p, (uint32_t[]){8, VTEST_CREATE_RENDERER}, 8);
	peer_write(p, "glmark2", 8);
	SEND_EMPTY(p, VTEST_PING_PROTOCOL_VERSION);
	SEND(p, VTEST_RESOURCE_BUSY_WAIT, 0, 0);
	EXPECT(p, 0, VTEST_PING_PROTOCOL_VERSION);
	EXPECT(p, 1, VTEST_RESOURCE_BUSY_WAIT, 0);
	SEND(p, VTEST_PROTOCOL_VERSION, 2);
	EXPECT(p, 1, VTEST_PROTOCOL_VERSION, 2);
	assert_int_equal(p->dev.contexts, 0);
	SEND(p, VTEST_RESOURCE_CREATE, 1, 0, 64, 16, 32, 1, 1, 0, 0, 0);
	assert_int_equal(p->dev.contexts, 1);
	assert_string_equal(p->dev.context_name, "glmark2");
	peer_expect_open(p);
}

static void test_versions(void **state)
{
	static const uint32_t asked[] = {0, 1, 2, 3, 4, UINT32_MAX};
	static const uint32_t answered[] = {0, 0, 2, 3, 3, 3};
	struct peer *p = *state;

	peer_write(p, (uint32_t[]){0, VTEST_CREATE_RENDERER}, 8);
	for (size_t i = 0; i < 6; i++) {
		SEND(p, VTEST_PROTOCOL_VERSION, asked[i]);
		EXPECT(p, 1, VTEST_PROTOCOL_VERSION, answered[i]);
	}
	peer_expect_open(p);
}

static void test_caps(void **state)
{
	struct peer *p = *state;
	uint8_t caps[1020];

	peer_write(p, (uint32_t[]){0, VTEST_GET_CAPS2, 0, VTEST_GET_CAPS}, 16);
	peer_step(p);
	EXPECT(p, 1021, 2);
	peer_read(p, caps, 1020);
	assert_int_equal(caps[1019], 0xc2);
	EXPECT(p, 309, 1);
	peer_read(p, caps, 308);
	assert_int_equal(caps[0], 0xc1);
	peer_expect_open(p);
}

static void test_no_virgl(void **state)
{
	struct peer *p = *state;
	p->dev.no_capset2 = true;
	SEND_EMPTY(p, VTEST_GET_CAPS2);
	peer_expect_closed(p, "GET_CAPS2: this vGPU does not offer virgl");
}

static void test_params_and_capsets(void **state)
{
	struct peer *p = *state;
	uint8_t caps[1020];

	SEND(p, VTEST_GET_PARAM, 1);
	EXPECT(p, 2, VTEST_GET_PARAM, 1, 64);
	SEND(p, VTEST_GET_PARAM, 77);
	EXPECT(p, 2, VTEST_GET_PARAM, 0, 0);
	SEND(p, VTEST_GET_CAPSET, 2, 1);
	EXPECT(p, 1 + 1020 / 4, VTEST_GET_CAPSET, 1);
	peer_read(p, caps, 1020);
	SEND(p, VTEST_GET_CAPSET, 2, 9);
	EXPECT(p, 1, VTEST_GET_CAPSET, 0);
	SEND(p, VTEST_GET_CAPSET, 4, 0);
	EXPECT(p, 1, VTEST_GET_CAPSET, 0);
	SEND(p, VTEST_CONTEXT_INIT, 2);
	SEND(p, VTEST_CONTEXT_INIT, 2);
	peer_expect_open(p);
	assert_int_equal(p->dev.capset, 2);
	assert_int_equal(p->dev.contexts, 1);
	SEND(p, VTEST_CONTEXT_INIT, 1);
	peer_expect_closed(p, "CONTEXT_INIT: the capset is fixed");
}

static void test_context_refused(void **state)
{
	struct peer *p = *state;
	SEND(p, VTEST_CONTEXT_INIT, 4);
	peer_expect_closed(p, "CONTEXT_INIT: invalid argument");
}

static void test_before_create_renderer(void **state)
{
	struct peer *p = *state;
	SEND_EMPTY(p, VTEST_PING_PROTOCOL_VERSION);
	peer_expect_closed(p, "sent before CREATE_RENDERER");
}

static void test_create_renderer_twice(void **state)
{
	struct peer *p = *state;
	SEND_EMPTY(p, VTEST_CREATE_RENDERER);
	peer_expect_closed(p, "CREATE_RENDERER: sent twice");
}

static void test_version_after_context(void **state)
{
	struct peer *p = *state;
	SEND(p, VTEST_RESOURCE_CREATE, 1, 0, 64, 16, 32, 1, 1, 0, 0, 0);
	SEND(p, VTEST_PROTOCOL_VERSION, 3);
	peer_expect_closed(p, "after the first rendering command");
}

static void test_command_of_a_newer_version(void **state)
{
	struct peer *p = *state;
	SEND(p, VTEST_SYNC_CREATE, 0, 0);
	peer_expect_closed(p, "SYNC_CREATE: needs protocol 3, version 2 was agreed on");
}

/* A name of any length up to the limit must not shift what follows it. */
static void test_messages_after_an_odd_name_are_aligned(void **state)
{
	struct peer *p = *state;
	char name[VTEST_NAME_MAX];

	memset(name, 'x', sizeof(name));
	peer_write(p, (uint32_t[]){4093, VTEST_CREATE_RENDERER}, 8);
	peer_write(p, name, 4093);
	peer_write(p, (uint32_t[]){1, VTEST_PROTOCOL_VERSION, 2}, 12);
	SEND(p, VTEST_SUBMIT_CMD, 1, 2, 3);
	EXPECT(p, 1, VTEST_PROTOCOL_VERSION, 2);
	peer_expect_open(p);
	assert_int_equal(p->dev.last_dword, 3);
	assert_int_equal(strlen(p->dev.context_name), 63);
}

static void test_peer_leaves(void **state)
{
	struct peer *p = *state;
	shutdown(p->fd, SHUT_WR);
	peer_step(p);
	peer_expect_closed(p, "");
}

static void test_peer_leaves_inside_a_message(void **state)
{
	struct peer *p = *state;
	peer_write(p, (uint32_t[]){1}, 4);
	shutdown(p->fd, SHUT_WR);
	peer_step(p);
	peer_expect_closed(p, "ended inside a message");
}

#define TEST(f, setup) cmocka_unit_test_setup_teardown(f, setup, peer_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_mesa_handshake, peer_setup),
		TEST(test_versions, peer_setup),
		TEST(test_caps, peer_setup_v2),
		TEST(test_no_virgl, peer_setup_v2),
		TEST(test_params_and_capsets, peer_setup_v3),
		TEST(test_context_refused, peer_setup_v3),
		TEST(test_before_create_renderer, peer_setup),
		TEST(test_create_renderer_twice, peer_setup_v2),
		TEST(test_version_after_context, peer_setup_v2),
		TEST(test_command_of_a_newer_version, peer_setup_v2),
		TEST(test_messages_after_an_odd_name_are_aligned, peer_setup),
		TEST(test_peer_leaves, peer_setup_v2),
		TEST(test_peer_leaves_inside_a_message, peer_setup_v2),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("vtest session", tests, NULL, NULL);
}
