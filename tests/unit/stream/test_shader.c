/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include "base/checked.h"

#include <errno.h>
#include <string.h>

enum { VERTEX = 0, FRAGMENT = 1, COMPUTE = 5 };

static int shader(
	struct stream *stream, uint32_t handle, uint32_t stage, uint32_t offset, uint32_t words)
{
	uint32_t payload[64] = {handle, stage, offset, 300, 0};
	return check(stream, VIRGL_CREATE_OBJECT, VIRGL_OBJECT_SHADER, payload, 5 + words, NULL);
}

static int bind(struct stream *stream, uint32_t handle, uint32_t stage)
{
	return CHECK(stream, VIRGL_BIND_SHADER, 0, handle, stage);
}

#define CONTINUES VIRGL_SHADER_CONTINUES

static void test_parts_in_order(void **state)
{
	struct stream *stream = new_stream(&test_limits);

	assert_int_equal(shader(stream, 7, VERTEX, 22, 2), 0);
	assert_int_equal(bind(stream, 7, VERTEX), -EINVAL);
	assert_int_equal(shader(stream, 7, VERTEX, 8 | CONTINUES, 0), -EINVAL);
	assert_int_equal(shader(stream, 7, VERTEX, 8 | CONTINUES, 3), 0);
	assert_int_equal(shader(stream, 7, VERTEX, 20 | CONTINUES, 1), 0);
	assert_int_equal(bind(stream, 7, VERTEX), 0);
	assert_int_equal(shader(stream, 8, VERTEX, 4, 1), 0);
	stream_destroy(stream);
}

static void test_one_unfinished_shader_per_stage(void **state)
{
	struct stream *stream = new_stream(&test_limits);

	assert_int_equal(shader(stream, 7, VERTEX, 22, 2), 0);
	assert_int_equal(shader(stream, 8, FRAGMENT, 22, 2), 0);
	assert_int_equal(shader(stream, 9, VERTEX, 4, 1), -EINVAL);
	assert_int_equal(shader(stream, 7, VERTEX, 4, 1), -EINVAL);
	assert_int_equal(shader(stream, 8, VERTEX, 8 | CONTINUES, 1), -EINVAL);
	assert_int_equal(shader(stream, 7, FRAGMENT, 8 | CONTINUES, 1), -EINVAL);
	assert_int_equal(shader(stream, 8, FRAGMENT, 8 | CONTINUES, 4), 0);
	assert_int_equal(shader(stream, 7, VERTEX, 8 | CONTINUES, 4), 0);
	assert_int_equal(bind(stream, 7, VERTEX), 0);
	assert_int_equal(bind(stream, 8, FRAGMENT), 0);
	stream_destroy(stream);
}

static void test_parts_that_do_not_fit(void **state)
{
	static const struct {
		uint32_t offset, words;
	} rows[] = {
		{4 | CONTINUES, 1},
		{12 | CONTINUES, 1},
		{0x7fffffff | CONTINUES, 1},
		{8 | CONTINUES, 5},
		{8 | CONTINUES, 50},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct stream *stream = new_stream(&test_limits);
		assert_int_equal(shader(stream, 7, VERTEX, 22, 2), 0);
		assert_int_equal(shader(stream, 7, VERTEX, rows[i].offset, rows[i].words), -EINVAL);
		stream_destroy(stream);
	}
}

/* The one of one word at offset 0 crashes virglrenderer 0.10.4: its buffer is gone by then. */
static void test_nothing_continues_a_finished_shader(void **state)
{
	struct stream *stream = new_stream(&test_limits);

	assert_int_equal(shader(stream, 7, VERTEX, 8, 2), 0);
	assert_int_equal(shader(stream, 7, VERTEX, CONTINUES, 0), -EINVAL);
	assert_int_equal(shader(stream, 7, VERTEX, CONTINUES, 1), -EINVAL);
	assert_int_equal(shader(stream, 7, VERTEX, 8 | CONTINUES, 0), -EINVAL);
	assert_int_equal(shader(stream, 6, VERTEX, CONTINUES, 1), -EINVAL);
	stream_destroy(stream);
}

static void test_lengths(void **state)
{
	struct stream *stream = new_stream(&test_limits);

	assert_int_equal(shader(stream, 7, VERTEX, 0, 0), -EINVAL);
	assert_int_equal(shader(stream, 7, VERTEX, 4, 2), -EINVAL);
	assert_int_equal(shader(stream, 7, VERTEX, 5, 2), 0);
	assert_int_equal(shader(stream, 7, 6, 8, 2), -EINVAL);
	assert_int_equal(shader(stream, 7, ~0u, 8, 2), -EINVAL);
	assert_int_equal(shader(stream, 7, VERTEX, 2 << 20, 2), -ENOSPC);
	assert_int_equal(shader(stream, 7, VERTEX, 0x7fffffff, 2), -ENOSPC);
	stream_destroy(stream);
}

static void test_announced_text_is_charged_at_once(void **state)
{
	struct stream *stream = new_stream(&test_limits);

	assert_int_equal(shader(stream, 7, VERTEX, 1000, 2), 0);
	assert_int_equal(stream_counters(stream)->object_bytes, 5 * 4 + 1000);
	assert_int_equal(shader(stream, 7, VERTEX, 8 | CONTINUES, 2), 0);
	assert_int_equal(stream_counters(stream)->object_bytes, 5 * 4 + 1000);
	assert_int_equal(CHECK(stream, VIRGL_DESTROY_OBJECT, 0, 7), 0);
	assert_int_equal(stream_counters(stream)->object_bytes, 0);
	/* The library still waits for the rest of it. */
	assert_int_equal(shader(stream, 7, VERTEX, 16 | CONTINUES, 2), -EINVAL);
	assert_int_equal(shader(stream, 8, VERTEX, 4, 1), -EINVAL);
	stream_destroy(stream);
}

static void test_tokens_are_bounded_by_the_text(void **state)
{
	struct stream *stream = new_stream(&test_limits);
	uint32_t payload[8] = {7, VERTEX, 8, 8 + 1024, 0};

	assert_int_equal(
		check(stream, VIRGL_CREATE_OBJECT, VIRGL_OBJECT_SHADER, payload, 7, NULL), 0);
	payload[3]++;
	assert_int_equal(
		check(stream, VIRGL_CREATE_OBJECT, VIRGL_OBJECT_SHADER, payload, 7, NULL), -EINVAL);
	payload[3] = ~0u;
	assert_int_equal(
		check(stream, VIRGL_CREATE_OBJECT, VIRGL_OBJECT_SHADER, payload, 7, NULL), -EINVAL);
	payload[2] = 12;
	payload[3] = 1;
	assert_int_equal(
		check(stream, VIRGL_CREATE_OBJECT, VIRGL_OBJECT_SHADER, payload, 7, NULL), 0);
	payload[2] = 8 | CONTINUES;
	payload[3] = ~0u;
	assert_int_equal(
		check(stream, VIRGL_CREATE_OBJECT, VIRGL_OBJECT_SHADER, payload, 6, NULL), -EINVAL);
	stream_destroy(stream);
}

static void test_unfinished_shaders_are_not_linked(void **state)
{
	struct stream *stream = new_stream(&test_limits);

	assert_int_equal(shader(stream, 7, FRAGMENT, 22, 2), 0);
	for (uint32_t i = 0; i < 6; i++) {
		uint32_t payload[6] = {0};
		payload[i] = 7;
		assert_int_equal(check(stream, VIRGL_LINK_SHADER, 0, payload, 6, NULL), -EINVAL);
	}
	assert_int_equal(CHECK(stream, VIRGL_LINK_SHADER, 0, 8, 8, 8, 8, 8, 8), 0);
	stream_destroy(stream);
}

static uint32_t output(uint32_t components, uint32_t buffer, uint32_t offset)
{
	return components << 10 | buffer << 13 | offset << 16;
}

/* A shader of two words of text with these stream outputs. */
static int with_outputs(uint32_t claimed, const uint32_t strides[4], const uint32_t *outputs,
	uint32_t n, int dwords_less)
{
	struct stream *stream = new_stream(&test_limits);
	uint32_t payload[160] = {7, VERTEX, 8, 300, claimed};
	for (uint32_t i = 0; i < 4; i++)
		payload[5 + i] = strides[i];
	for (uint32_t i = 0; i < n; i++)
		payload[9 + 2 * i] = outputs[i];
	struct stream_fault fault = {0};
	int r = check(stream, VIRGL_CREATE_OBJECT, VIRGL_OBJECT_SHADER, payload,
		9 + 2 * n + 2 - (uint32_t)dwords_less, &fault);
	/* Refused before the outputs that are not there are looked at. */
	if (dwords_less > 2)
		assert_string_equal(fault.reason, "wrong number of outputs");
	stream_destroy(stream);
	return r;
}

static void test_stream_outputs(void **state)
{
	uint32_t strides[4] = {4, 4, 4, 4}, outputs[65];

	for (uint32_t i = 0; i < 65; i++)
		outputs[i] = output(4, 0, 4 * i);
	assert_int_equal(with_outputs(1, strides, outputs, 1, 0), 0);
	assert_int_equal(with_outputs(64, strides, outputs, 64, 0), 0);
	assert_int_equal(with_outputs(65, strides, outputs, 65, 0), -EINVAL);
	assert_int_equal(with_outputs(2, strides, outputs, 2, 2), 0);
	assert_int_equal(with_outputs(2, strides, outputs, 2, 3), -EINVAL);
	assert_int_equal(with_outputs(2, strides, outputs, 2, 5), -EINVAL);
	assert_int_equal(with_outputs(0x80000000, strides, outputs, 1, 0), -EINVAL);
	assert_int_equal(with_outputs(~0u, strides, outputs, 1, 0), -EINVAL);
	outputs[0] = output(4, 3, 0);
	assert_int_equal(with_outputs(1, strides, outputs, 1, 0), 0);
	outputs[0] = output(4, 4, 0);
	assert_int_equal(with_outputs(1, strides, outputs, 1, 0), -EINVAL);
}

/* Gaps make virglrenderer write marks into an array of 160 on its stack. */
static void test_gaps_between_stream_outputs(void **state)
{
	uint32_t strides[4] = {4}, outputs[2] = {output(4, 0, 0)};

	strides[0] = 4 + 4 * 159;
	assert_int_equal(with_outputs(1, strides, outputs, 1, 0), 0);
	strides[0]++;
	assert_int_equal(with_outputs(1, strides, outputs, 1, 0), -EINVAL);
	strides[0] = INT32_MAX;
	assert_int_equal(with_outputs(1, strides, outputs, 1, 0), -EINVAL);
	/* Less than what is written: no gap. */
	strides[0] = 0;
	assert_int_equal(with_outputs(1, strides, outputs, 1, 0), 0);
	strides[0] = ~0u;
	assert_int_equal(with_outputs(1, strides, outputs, 1, 0), 0);
	/* The difference wraps to a large positive int. */
	strides[0] = 0x80000001;
	assert_int_equal(with_outputs(1, strides, outputs, 1, 0), -EINVAL);
	strides[0] = 4;
	outputs[0] = output(4, 0, 4 * 159);
	assert_int_equal(with_outputs(1, strides, outputs, 1, 0), 0);
	outputs[0] = output(4, 0, 4 * 160);
	assert_int_equal(with_outputs(1, strides, outputs, 1, 0), -EINVAL);
	/* Over two buffers: 1 + (fill 79, next, 1) + fill. */
	strides[0] = 4 + 4 * 79;
	strides[1] = 4 + 4 * 78;
	outputs[0] = output(4, 0, 0);
	outputs[1] = output(4, 1, 0);
	assert_int_equal(with_outputs(2, strides, outputs, 2, 0), 0);
	strides[1] += 4;
	assert_int_equal(with_outputs(2, strides, outputs, 2, 0), -EINVAL);
}

/* For them the dword is the size of local memory. */
static void test_compute_shaders_have_no_outputs(void **state)
{
	struct stream *stream = new_stream(&test_limits);
	uint32_t payload[8] = {7, COMPUTE, 12, 300, 32768, 'C'};

	assert_int_equal(
		check(stream, VIRGL_CREATE_OBJECT, VIRGL_OBJECT_SHADER, payload, 6, NULL), 0);
	payload[2] = 4 | CONTINUES;
	assert_int_equal(
		check(stream, VIRGL_CREATE_OBJECT, VIRGL_OBJECT_SHADER, payload, 7, NULL), 0);
	assert_int_equal(bind(stream, 7, COMPUTE), 0);
	stream_destroy(stream);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parts_in_order),
		cmocka_unit_test(test_one_unfinished_shader_per_stage),
		cmocka_unit_test(test_parts_that_do_not_fit),
		cmocka_unit_test(test_nothing_continues_a_finished_shader),
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_announced_text_is_charged_at_once),
		cmocka_unit_test(test_tokens_are_bounded_by_the_text),
		cmocka_unit_test(test_unfinished_shaders_are_not_linked),
		cmocka_unit_test(test_stream_outputs),
		cmocka_unit_test(test_gaps_between_stream_outputs),
		cmocka_unit_test(test_compute_shaders_have_no_outputs),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
