/* SPDX-License-Identifier: Apache-2.0 */
/* Clip planes: where the check stops, and what making the shaders again emits. */
#include "stream/stream.h"

#include "protocol/virgl.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define HEADER(opcode, type, len) ((opcode) | (type) << 8 | (uint32_t)(len) << 16)
#define VERTEX                    0u
#define FRAGMENT                  1u

struct emitted {
	uint32_t dwords[512];
	size_t n;
	unsigned fail_after;
};

static struct stream_resource *resolve(void *data, uint32_t handle)
{
	static struct stream_resource resource = {.id = 1};
	return &resource;
}

static const struct stream_resource_ops ops = {.resolve = resolve};
static const struct stream_limits limits = {
	.max_sub_contexts = 4, .max_objects = 64, .max_object_bytes = 1 << 20};

static int setup(void **state)
{
	struct stream *stream;
	int err = stream_create(&limits, NULL, &ops, NULL, &stream);
	*state = stream;
	if (!err)
		stream_watch_clip_planes(stream, true);
	return err;
}

static int teardown(void **state)
{
	stream_destroy(*state);
	return 0;
}

static int emit(void *data, uint32_t *dwords, size_t n)
{
	struct emitted *e = data;
	if (e->fail_after && !--e->fail_after)
		return -EIO;
	assert_true(e->n + n <= sizeof(e->dwords) / sizeof(e->dwords[0]));
	memcpy(e->dwords + e->n, dwords, n * sizeof(*dwords));
	e->n += n;
	return 0;
}

static int run(struct stream *stream, const uint32_t *dwords, size_t n)
{
	uint32_t copy[64];
	memcpy(copy, dwords, n * sizeof(*dwords));
	return stream_check(stream, copy, n, NULL);
}

static void create_shader(struct stream *stream, uint32_t handle, uint32_t stage, uint32_t text)
{
	const uint32_t dwords[] = {
		HEADER(1, VIRGL_OBJECT_SHADER, 7), handle, stage, 8, 10, 0, text, 0};
	assert_int_equal(run(stream, dwords, 8), 0);
}

static void bind_shader(struct stream *stream, uint32_t handle, uint32_t stage)
{
	const uint32_t dwords[] = {HEADER(31, 0, 2), handle, stage};
	assert_int_equal(run(stream, dwords, 3), 0);
}

#define RASTERIZER(handle, planes)                                                                 \
	HEADER(1, VIRGL_OBJECT_RASTERIZER, 9), handle, 0, 0, 0, (uint32_t)(planes) << 24, 0, 0, 0, 0

static void test_stops_before_the_clip_plane(void **state)
{
	uint32_t dwords[] = {RASTERIZER(1, 0), HEADER(0, 0, 0), RASTERIZER(2, 1), HEADER(0, 0, 0)};
	struct stream_fault fault = {0};

	assert_int_equal(stream_check(*state, dwords, 22, &fault), -ERESTART);
	assert_int_equal(fault.offset, 11);
	assert_int_equal(stream_counters(*state)->commands, 2);
	assert_int_equal(stream_counters(*state)->bytes, 44);
	stream_watch_clip_planes(*state, false);
	assert_int_equal(stream_check(*state, dwords + 11, 11, &fault), 0);
	assert_int_equal(stream_counters(*state)->bytes, 88);
	assert_int_equal(stream_counters(*state)->buffers, 1);
}

static void test_replays_what_is_there(void **state)
{
	struct emitted e = {0};

	create_shader(*state, 1, VERTEX, 0xaaaa);
	create_shader(*state, 2, FRAGMENT, 0xbbbb); /* no clip code in there */
	create_shader(*state, 3, VERTEX, 0xcccc);
	bind_shader(*state, 1, VERTEX);
	bind_shader(*state, 2, FRAGMENT);
	const uint32_t destroy[] = {HEADER(3, VIRGL_OBJECT_SHADER, 1), 3};
	assert_int_equal(run(*state, destroy, 2), 0);
	assert_int_equal(stream_replay_shaders(*state, emit, &e), 0);
	const uint32_t expected[] = {
		HEADER(1, VIRGL_OBJECT_SHADER, 7),
		1,
		VERTEX,
		8,
		10,
		0,
		0xaaaa,
		0,
		HEADER(31, 0, 2),
		1,
		VERTEX,
	};
	assert_int_equal(e.n, sizeof(expected) / sizeof(expected[0]));
	assert_memory_equal(e.dwords, expected, sizeof(expected));
}

static void test_bound_but_destroyed(void **state)
{
	struct emitted e = {0};

	create_shader(*state, 1, VERTEX, 0xaaaa);
	bind_shader(*state, 1, VERTEX);
	create_shader(*state, 1, VERTEX, 0xdddd); /* the handle is another shader now */
	assert_int_equal(stream_replay_shaders(*state, emit, &e), 0);
	const uint32_t expected[] = {
		HEADER(1, VIRGL_OBJECT_SHADER, 7),
		1,
		VERTEX,
		8,
		10,
		0,
		0xdddd,
		0,
		HEADER(1, VIRGL_OBJECT_SHADER, 7),
		UINT32_MAX,
		VERTEX,
		8,
		10,
		0,
		0xaaaa,
		0,
		HEADER(31, 0, 2),
		UINT32_MAX,
		VERTEX,
		HEADER(3, VIRGL_OBJECT_SHADER, 1),
		UINT32_MAX,
	};
	assert_int_equal(e.n, sizeof(expected) / sizeof(expected[0]));
	assert_memory_equal(e.dwords, expected, sizeof(expected));
}

static void test_long_shaders_are_kept_whole(void **state)
{
	struct emitted e = {0};
	const uint32_t first[] = {HEADER(1, VIRGL_OBJECT_SHADER, 6), 5, VERTEX, 8, 10, 0, 0x1111};
	const uint32_t second[] = {
		HEADER(1, VIRGL_OBJECT_SHADER, 6), 5, VERTEX, 4 | 1u << 31, 10, 0, 0};

	assert_int_equal(run(*state, first, 7), 0);
	assert_int_equal(run(*state, second, 7), 0);
	assert_int_equal(stream_replay_shaders(*state, emit, &e), 0);
	assert_int_equal(e.n, 14);
	assert_memory_equal(e.dwords, first, sizeof(first));
	assert_memory_equal(e.dwords + 7, second, sizeof(second));
}

/* While a shader's text is coming, the library takes no other: the rest waits until it is whole. */
static void test_a_long_shader_puts_off_the_others(void **state)
{
	struct emitted e = {0};
	const uint32_t first[] = {HEADER(1, VIRGL_OBJECT_SHADER, 6), 5, VERTEX, 8, 10, 0, 0x1111};
	uint32_t rest[] = {RASTERIZER(6, 1), HEADER(1, VIRGL_OBJECT_SHADER, 6), 5, VERTEX,
		4 | 1u << 31, 10, 0, 0, HEADER(0, 0, 0)};
	struct stream_fault fault = {0};

	create_shader(*state, 1, VERTEX, 0xaaaa);
	assert_int_equal(run(*state, first, 7), 0);
	assert_int_equal(stream_check(*state, rest, 18, &fault), -ERESTART);
	assert_int_equal(fault.offset, 0);
	assert_int_equal(stream_replay_shaders(*state, emit, &e), 0);
	assert_int_equal(e.n, 0);
	assert_int_equal(stream_check(*state, rest, 18, &fault), -ERESTART);
	assert_int_equal(fault.offset, 17);
	assert_int_equal(stream_replay_shaders(*state, emit, &e), 0);
	assert_int_equal(e.n, 8 + 14);
	assert_int_equal(stream_check(*state, rest + 17, 1, &fault), 0);
	/* Kept on: they are part of what is saved. */
	assert_int_equal(stream_counters(*state)->kept_bytes, (8 + 14) * sizeof(uint32_t));
}

/* A part without text would be kept for ever, its header at a time. */
static void test_empty_parts_are_refused(void **state)
{
	const uint32_t first[] = {HEADER(1, VIRGL_OBJECT_SHADER, 6), 5, VERTEX, 8, 10, 0, 0x1111};
	const uint32_t empty[] = {
		HEADER(1, VIRGL_OBJECT_SHADER, 5), 5, VERTEX, 4 | 1u << 31, 10, 0};

	assert_int_equal(run(*state, first, 7), 0);
	assert_int_equal(stream_counters(*state)->kept_bytes, sizeof(first));
	assert_int_equal(run(*state, empty, 6), -EINVAL);
	assert_int_equal(stream_counters(*state)->kept_bytes, sizeof(first));
}

/* What is bound stays kept when its handle is gone, so it must stay charged too. */
static void test_kept_text_is_charged_until_nobody_uses_it(void **state)
{
	const uint32_t destroy[] = {HEADER(3, VIRGL_OBJECT_SHADER, 1), 1};
	const struct stream_limits small = {.max_objects = 8, .max_object_bytes = 60};
	const uint32_t more[] = {HEADER(1, VIRGL_OBJECT_SHADER, 7), 2, VERTEX, 8, 10, 0, 1, 0};
	struct stream *stream;

	assert_int_equal(stream_create(&small, NULL, &ops, NULL, &stream), 0);
	stream_watch_clip_planes(stream, true);
	create_shader(stream, 1, VERTEX, 0xaaaa);
	bind_shader(stream, 1, VERTEX);
	assert_int_equal(run(stream, destroy, 2), 0);
	assert_int_equal(stream_counters(stream)->object_bytes, 28);
	assert_int_equal(stream_counters(stream)->kept_bytes, 32);
	assert_int_equal(run(stream, more, 8), -ENOSPC);
	bind_shader(stream, 0, VERTEX);
	assert_int_equal(stream_counters(stream)->object_bytes, 0);
	assert_int_equal(stream_counters(stream)->kept_bytes, 0);
	stream_destroy(stream);
}

/* Another sub-context is left alone, whatever is unfinished there, until it uses clip planes. */
static void test_each_sub_context_by_itself(void **state)
{
	struct emitted e = {0};
	struct stream_fault fault = {0};
	const uint32_t make[] = {HEADER(29, 0, 1), 7}, back[] = {HEADER(28, 0, 1), 0};
	const uint32_t first[] = {HEADER(1, VIRGL_OBJECT_SHADER, 6), 5, VERTEX, 8, 10, 0, 0x1111};
	uint32_t planes[] = {RASTERIZER(2, 1)};

	create_shader(*state, 1, VERTEX, 0xaaaa);
	assert_int_equal(run(*state, first, 7), 0);
	assert_int_equal(run(*state, make, 2), 0);
	create_shader(*state, 1, VERTEX, 0xeeee);
	assert_int_equal(stream_check(*state, planes, 10, &fault), -ERESTART);
	assert_int_equal(stream_replay_shaders(*state, emit, &e), 0);
	assert_int_equal(e.n, 8);
	assert_int_equal(e.dwords[6], 0xeeee);
	assert_int_equal(stream_check(*state, planes, 10, &fault), 0);
	assert_int_equal(run(*state, back, 2), 0);
	assert_int_equal(stream_check(*state, planes, 10, &fault), -ERESTART);
}

static void test_what_emitting_returns(void **state)
{
	struct emitted e = {.fail_after = 2};

	create_shader(*state, 1, VERTEX, 0xaaaa);
	create_shader(*state, 2, VERTEX, 0xbbbb);
	assert_int_equal(stream_replay_shaders(*state, emit, &e), -EIO);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_stops_before_the_clip_plane),
		TEST(test_replays_what_is_there),
		TEST(test_bound_but_destroyed),
		TEST(test_long_shaders_are_kept_whole),
		TEST(test_empty_parts_are_refused),
		TEST(test_kept_text_is_charged_until_nobody_uses_it),
		TEST(test_a_long_shader_puts_off_the_others),
		TEST(test_each_sub_context_by_itself),
		TEST(test_what_emitting_returns),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
