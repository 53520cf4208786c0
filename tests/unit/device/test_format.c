/* SPDX-License-Identifier: Apache-2.0 */
#include "renderer/format.h"

#include "base/checked.h"

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

/* ---- what the host spends ---- */

static uint32_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*state >> 32);
}

/* Mostly small, sometimes at a limit, sometimes any number at all. */
static uint32_t random_size(uint64_t *state, uint32_t limit)
{
	uint32_t r = next_random(state);

	switch (r % 8) {
	case 0:
		return limit - r / 8 % 3;
	case 1:
		return limit + r / 8 % 2;
	case 2:
		return next_random(state);
	default:
		return r / 8 % 300;
	}
}

/* The sum again, without limits on its size. */
static unsigned __int128 texels_of(const struct renderer_resource_desc *d)
{
	struct format_block b = format_block(d->format);
	unsigned __int128 sum = 0;
	uint32_t samples = 1;

	while (d->nr_samples > 1 && (samples < 4 || samples < d->nr_samples))
		samples *= 2;
	for (uint32_t level = 0; level <= d->last_level; level++) {
		uint64_t w = MAX(d->width >> level, 1u), h = MAX(d->height >> level, 1u);
		uint64_t layers = d->array_size;
		if (d->target == PIPE_TEXTURE_3D)
			layers = MAX(d->depth >> level, 1u);
		else if (d->target == PIPE_TEXTURE_CUBE && layers < 6)
			layers = 6;
		sum += (unsigned __int128)((w + b.width - 1) / b.width) *
		       ((h + b.height - 1) / b.height) * b.bytes * layers * samples;
	}
	return sum;
}

static void test_any_description_is_counted_or_refused(void **state)
{
	uint64_t random = 5;
	unsigned counted = 0;

	for (unsigned i = 0; i < 300000; i++) {
		const struct renderer_resource_desc d = {
			.target = random_size(&random, PIPE_TARGET_COUNT) % (PIPE_TARGET_COUNT + 1),
			.format = random_size(&random, 400),
			.bind = 1u << next_random(&random) % 32,
			.width = random_size(&random, 32768),
			.height = random_size(&random, 32768),
			.depth = random_size(&random, 16384),
			.array_size = random_size(&random, 16384),
			.last_level = random_size(&random, 16) % 24,
			.nr_samples = random_size(&random, 32),
		};
		uint64_t host = 0, size = 0;
		bool possible = format_host_bytes(&d, &host);
		assert_true(possible || !format_resource_size(&d, &size));
		format_resource_size(&d, &size);
		if (!possible)
			continue;
		counted++;
		assert_true(host >= 1024);
		if (d.target == PIPE_BUFFER) {
			assert_true(d.bind == 1u << 19 || host > d.width);
			continue;
		}
		unsigned __int128 texels = texels_of(&d);
		assert_true(texels <= UINT64_MAX && host > (uint64_t)texels);
		/* A volume has no layers, whatever it says. */
		assert_true(host > size || (d.target == PIPE_TEXTURE_3D && d.array_size > 1));
		assert_true(format_host_view_bytes(&d) <= 1536 + 16 * 6 * 160);
	}
	assert_true(counted > 1000);
}

static void test_what_the_host_spends(void **state)
{
	const uint64_t record = 3072, image = 160, layer = 48;
	const struct {
		struct renderer_resource_desc desc;
		uint64_t bytes;
	} rows[] = {
		{{TEXTURE(4, 4), .format = VIRGL_FORMAT_B8G8R8A8_UNORM},
			256 + record + image + layer},
		/* 24 bits are stored as 32, two samples as four, blocks as they are. */
		{{TEXTURE(64, 64), .format = VIRGL_FORMAT_Z24X8_UNORM},
			16384 + record + image + layer},
		{{TEXTURE(16, 4), .format = VIRGL_FORMAT_R8_UNORM, .nr_samples = 2},
			4 * 256 + record + image + layer},
		{{TEXTURE(16, 4), .format = VIRGL_FORMAT_R8_UNORM, .nr_samples = 5},
			8 * 256 + record + image + layer},
		{{TEXTURE(64, 64), .format = VIRGL_FORMAT_DXT1_RGB}, 2048 + record + image + layer},
		{{TEXTURE(4, 4), .format = VIRGL_FORMAT_DXT1_RGB, .last_level = 2},
			3 * (64 + image + layer) + record},
		{{.target = PIPE_TEXTURE_CUBE,
			 .width = 16,
			 .height = 16,
			 .depth = 1,
			 .array_size = 6,
			 .format = VIRGL_FORMAT_R32_FLOAT},
			6 * 1024 + record + 6 * image + 21 * layer},
		{{.target = PIPE_TEXTURE_3D,
			 .width = 16,
			 .height = 4,
			 .depth = 8,
			 .array_size = 1,
			 .format = VIRGL_FORMAT_R32_FLOAT},
			8 * 256 + record + image + 8 * layer},
		{{.target = PIPE_BUFFER, .width = 5000, .height = 1, .bind = 1 << 4}, 5000 + 1792},
		{{.target = PIPE_BUFFER, .width = 5000, .height = 1, .bind = 1 << 17}, 5000 + 1024},
		/* Staging memory is the guest's own. */
		{{.target = PIPE_BUFFER, .width = 5000, .height = 1, .bind = 1 << 19}, 1024},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint64_t bytes = 0;
		assert_true(format_host_bytes(&rows[i].desc, &bytes));
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

/* Each resource's parts, counted, and some of them looked at. */
static void test_content_parts(void **state)
{
	const struct {
		struct renderer_resource_desc desc;
		uint32_t parts, part;
		struct format_content_part want;
	} rows[] = {
		{{.target = PIPE_BUFFER, .width = 13, .height = 1, .depth = 1}, 1, 0,
			{0, 0, 0, 13, 1, 13}},
		{{TEXTURE(5, 3), .format = VIRGL_FORMAT_B8G8R8A8_UNORM, .last_level = 2}, 3, 1,
			{1, 0, 0, 2, 1, 8}},
		{{.target = PIPE_TEXTURE_3D,
			 .width = 8,
			 .height = 4,
			 .depth = 4,
			 .array_size = 1,
			 .format = VIRGL_FORMAT_R8_UNORM,
			 .last_level = 3},
			4 + 2 + 1 + 1, 5, {1, 1, 0, 4, 2, 8}},
		{{.target = PIPE_TEXTURE_CUBE,
			 .width = 4,
			 .height = 4,
			 .depth = 1,
			 .array_size = 6,
			 .format = VIRGL_FORMAT_R8_UNORM,
			 .last_level = 1},
			12, 7, {1, 1, 0, 2, 2, 4}},
		{{.target = PIPE_TEXTURE_CUBE_ARRAY,
			 .width = 4,
			 .height = 4,
			 .depth = 1,
			 .array_size = 12,
			 .format = VIRGL_FORMAT_R8_UNORM},
			12, 11, {0, 11, 0, 4, 4, 16}},
		{{.target = PIPE_TEXTURE_1D_ARRAY,
			 .width = 7,
			 .height = 1,
			 .depth = 1,
			 .array_size = 3,
			 .format = VIRGL_FORMAT_R16_UNORM},
			3, 2, {0, 2, 0, 7, 1, 14}},
		{{.target = PIPE_TEXTURE_2D_ARRAY,
			 .width = 3,
			 .height = 2,
			 .depth = 1,
			 .array_size = 2,
			 .nr_samples = 4,
			 .format = VIRGL_FORMAT_R32_FLOAT},
			8, 6, {0, 1, 2, 3, 2, 24}},
		{{TEXTURE(5, 9), .format = VIRGL_FORMAT_DXT5_RGBA, .last_level = 1}, 2, 0,
			{0, 0, 0, 5, 9, 2 * 3 * 16}},
		{{TEXTURE(1, 1), .format = 100000}, 0, 0, {0}},
		{{TEXTURE(0, 1), .format = VIRGL_FORMAT_R8_UNORM}, 0, 0, {0}},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct format_content_part got;
		uint32_t parts = format_content_parts(&rows[i].desc);

		assert_int_equal(parts, rows[i].parts);
		assert_false(format_content_part(&rows[i].desc, parts, &got));
		assert_false(format_content_part(&rows[i].desc, UINT32_MAX, &got));
		if (!parts)
			continue;
		assert_true(format_content_part(&rows[i].desc, parts - 1, &got));
		assert_true(format_content_part(&rows[i].desc, rows[i].part, &got));
		assert_int_equal(got.level, rows[i].want.level);
		assert_int_equal(got.layer, rows[i].want.layer);
		assert_int_equal(got.sample, rows[i].want.sample);
		assert_int_equal(got.width, rows[i].want.width);
		assert_int_equal(got.height, rows[i].want.height);
		assert_int_equal(got.bytes, rows[i].want.bytes);
	}
}

/* Every part of the largest shape is found, and their bytes are no more than the resource's. */
static void test_content_parts_of_every_target(void **state)
{
	for (uint32_t target = PIPE_TEXTURE_1D; target < PIPE_TARGET_COUNT; target++) {
		const struct renderer_resource_desc desc = {.target = target,
			.format = VIRGL_FORMAT_R64G64B64A64_FLOAT,
			.width = 32768,
			.height = 32768,
			.depth = 16384,
			.array_size = 16384,
			.last_level = 15,
			.nr_samples = 32};
		uint32_t parts = format_content_parts(&desc);
		struct format_content_part first, last;

		assert_true(parts > 0);
		assert_true(format_content_part(&desc, 0, &first));
		assert_true(format_content_part(&desc, parts - 1, &last));
		assert_int_equal(last.level, 15);
		assert_int_equal(last.sample, 31);
		assert_int_equal(first.bytes, (uint64_t)32 * first.width * first.height);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_format_has_a_block),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_what_the_host_spends),
		cmocka_unit_test(test_any_description_is_counted_or_refused),
		cmocka_unit_test(test_largest_resource_does_not_overflow),
		cmocka_unit_test(test_boxes),
		cmocka_unit_test(test_box_bytes),
		cmocka_unit_test(test_screen_formats_become_bgra),
		cmocka_unit_test(test_content_parts),
		cmocka_unit_test(test_content_parts_of_every_target),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
