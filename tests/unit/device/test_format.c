/* SPDX-License-Identifier: Apache-2.0 */
#include "renderer/format.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define TEXTURE(w, h)                                                                              \
	.target = PIPE_TEXTURE_2D, .width = w, .height = h, .depth = 1, .array_size = 1

static void test_every_format_has_a_block(void **state)
{
	static const uint32_t numbers[] = {
#define X(name, number, block_w, block_h, bytes) number,
		VIRGL_FORMATS(X)
#undef X
	};
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		struct format_block b = format_block(numbers[i]);
		assert_true(b.width && b.height && b.bytes && b.bytes <= 32);
	}
	assert_int_equal(format_block(0).bytes, 0);
	assert_int_equal(format_block(UINT32_MAX).bytes, 0);
}

static void test_sizes(void **state)
{
	const struct {
		struct renderer_resource_desc desc;
		uint64_t bytes; /* 0: not possible */
	} rows[] = {
		{{TEXTURE(4, 4), .format = VIRGL_FORMAT_B8G8R8A8_UNORM}, 256},
		{{TEXTURE(4, 4), .format = VIRGL_FORMAT_B8G8R8A8_UNORM, .last_level = 2}, 768},
		{{TEXTURE(4, 4), .format = VIRGL_FORMAT_B8G8R8A8_UNORM, .nr_samples = 4}, 1024},
		{{TEXTURE(64, 4), .format = VIRGL_FORMAT_B8G8R8A8_UNORM}, 1024},
		{{TEXTURE(1, 4096), .format = VIRGL_FORMAT_R8_UNORM}, 64 * 4096},
		{{TEXTURE(4096, 1), .format = VIRGL_FORMAT_R8_UNORM}, 4 * 4096},
		{{.target = PIPE_TEXTURE_1D,
			 .width = 4096,
			 .height = 1,
			 .depth = 1,
			 .array_size = 1,
			 .format = VIRGL_FORMAT_R8_UNORM},
			4096},
		{{TEXTURE(5, 5), .format = VIRGL_FORMAT_DXT1_RGB}, 32},
		{{.target = PIPE_TEXTURE_CUBE,
			 .width = 2,
			 .height = 2,
			 .depth = 1,
			 .array_size = 6,
			 .format = VIRGL_FORMAT_R8_UNORM},
			1536},
		{{.target = PIPE_TEXTURE_3D,
			 .width = 2,
			 .height = 2,
			 .depth = 4,
			 .array_size = 1,
			 .format = VIRGL_FORMAT_R8_UNORM,
			 .last_level = 1},
			1536},
		{{.target = PIPE_BUFFER, .width = 1u << 31, .height = 1, .depth = 1}, 1u << 31},
		{{.target = PIPE_BUFFER, .width = 0, .height = 1, .depth = 1}, 0},
		{{.target = PIPE_BUFFER, .width = 8, .height = 2, .depth = 1}, 0},
		{{TEXTURE(0, 4), .format = VIRGL_FORMAT_R8_UNORM}, 0},
		{{TEXTURE(4, UINT32_MAX), .format = VIRGL_FORMAT_R8_UNORM}, 0},
		{{TEXTURE(4, 4), .format = 0}, 0},
		{{TEXTURE(4, 4), .format = 100000}, 0},
		{{TEXTURE(4, 4), .format = VIRGL_FORMAT_R8_UNORM, .last_level = UINT32_MAX}, 0},
		{{TEXTURE(4, 4), .format = VIRGL_FORMAT_R8_UNORM, .nr_samples = UINT32_MAX}, 0},
		{{.target = PIPE_TARGET_COUNT,
			 .width = 1,
			 .height = 1,
			 .depth = 1,
			 .array_size = 1,
			 .format = VIRGL_FORMAT_R8_UNORM},
			0},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint64_t bytes = 0;
		bool possible = format_resource_size(&rows[i].desc, &bytes);
		assert_int_equal(possible, rows[i].bytes != 0);
		assert_int_equal(bytes, rows[i].bytes);
	}
}

static void test_largest_resource_does_not_overflow(void **state)
{
	const struct renderer_resource_desc desc = {.target = PIPE_TEXTURE_2D_ARRAY,
		.format = VIRGL_FORMAT_R64G64B64A64_FLOAT,
		.width = 32768,
		.height = 32768,
		.depth = 1,
		.array_size = 16384,
		.nr_samples = 32};
	uint64_t bytes = 0;
	if (format_resource_size(&desc, &bytes))
		assert_true(bytes == (1ull << 30) * 32 * 16384 * 32);
}

static void test_boxes(void **state)
{
	const struct renderer_resource_desc desc = {
		TEXTURE(16, 8), .format = VIRGL_FORMAT_B8G8R8A8_UNORM, .last_level = 1};
	const struct {
		uint32_t level;
		struct renderer_box box;
		bool inside;
	} rows[] = {
		{0, {0, 0, 0, 16, 8, 1}, true},
		{1, {0, 0, 0, 8, 4, 1}, true},
		{1, {0, 0, 0, 9, 4, 1}, false},
		{0, {16, 8, 0, 0, 0, 1}, true},
		{0, {UINT32_MAX, 0, 0, 2, 1, 1}, false},
		{0, {1, 0, 0, 16, 8, 1}, false},
		{0, {0, 0, 1, 1, 1, 1}, false},
		{0, {0, 0, 0, 1, 1, 2}, false},
		{2, {0, 0, 0, 1, 1, 1}, false},
		{UINT32_MAX, {0, 0, 0, 1, 1, 1}, false},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(
			format_box_inside(&desc, rows[i].level, &rows[i].box), rows[i].inside);
}

static void test_box_bytes(void **state)
{
	const struct renderer_resource_desc desc = {
		TEXTURE(16, 8), .format = VIRGL_FORMAT_B8G8R8A8_UNORM};
	const struct renderer_box box = {0, 0, 0, 4, 2, 1};
	uint64_t bytes = 0;

	assert_true(format_box_bytes(&desc, 0, &box, 0, 0, &bytes));
	assert_int_equal(bytes, 64 + 16); /* the level's own pitch */
	assert_true(format_box_bytes(&desc, 0, &box, 16, 0, &bytes));
	assert_int_equal(bytes, 32);
	assert_false(format_box_bytes(&desc, 0, &box, 15, 0, &bytes));
	assert_false(format_box_bytes(&desc, 0, &box, 16, 31, &bytes));
	const struct renderer_box deep = {0, 0, 0, 4, 2, UINT32_MAX};
	assert_true(format_box_bytes(&desc, 0, &deep, UINT32_MAX, UINT32_MAX, &bytes) == false);
}

static void test_screen_formats_become_bgra(void **state)
{
	const struct {
		uint32_t format;
		uint8_t bytes[4];
	} rows[] = {
		{VIRGL_FORMAT_B8G8R8A8_UNORM, {1, 2, 3, 4}},
		{VIRGL_FORMAT_R8G8B8A8_UNORM, {3, 2, 1, 4}},
		{VIRGL_FORMAT_A8R8G8B8_UNORM, {4, 3, 2, 1}},
		{VIRGL_FORMAT_A8B8G8R8_UNORM, {4, 1, 2, 3}},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint32_t pixel;
		__builtin_memcpy(&pixel, rows[i].bytes, 4);
		format_to_bgra(rows[i].format, &pixel, 1);
		const uint8_t want[4] = {1, 2, 3, 4};
		assert_memory_equal(&pixel, want, 4);
		assert_true(format_is_screen(rows[i].format));
	}
	uint32_t opaque = 0;
	format_to_bgra(VIRGL_FORMAT_B8G8R8X8_UNORM, &opaque, 1);
	assert_int_equal(opaque, 0xff000000u);
	assert_false(format_is_screen(VIRGL_FORMAT_R8_UNORM));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_format_has_a_block),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_largest_resource_does_not_overflow),
		cmocka_unit_test(test_boxes),
		cmocka_unit_test(test_box_bytes),
		cmocka_unit_test(test_screen_formats_become_bgra),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
