/* SPDX-License-Identifier: Apache-2.0 */
/* Which resources are marked as written, command by command. */
#include "save_support.h"

#include "base/checked.h"

#include <errno.h>
#include <stdlib.h>

struct fixture {
	struct fake_device *device;
	struct fake_view view;
	struct stream_budget budget;
	struct stream *stream;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	if (!f)
		return -1;
	f->device = fake_device_new();
	f->view = (struct fake_view){f->device, false};
	f->budget = (struct stream_budget){
		.max_sub_contexts = 8, .max_bytes = 1 << 20, .max_total = 1 << 20};
	*state = f;
	return stream_create(&test_limits, &f->budget, &fake_ops, &f->view, &f->stream);
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	stream_destroy(f->stream);
	fake_device_free(f->device);
	free(f);
	return 0;
}

/* In a new epoch, the commands mark exactly the handles whose bits are set. */
static void expect_written(struct fixture *f, uint64_t handles, const uint32_t *dwords, size_t n)
{
	f->budget.epoch++;
	assert_int_equal(run_dwords(f->stream, dwords, n), 0);
	for (uint32_t handle = 1; handle < FAKE_HANDLES; handle++) {
		bool written = fake_resource(f->device, handle)->written == f->budget.epoch;
		if (written != (handles >> handle & 1))
			fail_msg("resource %u is %smarked", handle, written ? "" : "not ");
	}
}

#define BIT(n) (1ull << (n))
#define WRITES(handles, ...)                                                                       \
	expect_written(*state, handles, (const uint32_t[]){__VA_ARGS__}, COUNT(__VA_ARGS__))

#define SURFACE(h, r) CREATE(SURFACE, h, r, 1, 0, 0)
#define TARGET(h, r)  CREATE(STREAMOUT_TARGET, h, r, 0, 64)
#define DRAW          CMD(DRAW_VBO, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
#define GRID          CMD(LAUNCH_GRID, 0, 1, 1, 1, 1, 1, 1, 0, 0)
#define WIPE          CMD(CLEAR, 0, 4, 0, 0, 0, 0, 0, 0, 0)

/* 1, 2, 3: colour, colour, depth; 4: storage, 5: image, 6: atomic, 7: stream output; 8.. read. */
#define TARGETS                                                                                    \
	SURFACE(1, 1), SURFACE(2, 2), SURFACE(3, 3), TARGET(7, 7),                                 \
		CMD(SET_FRAMEBUFFER_STATE, 0, 2, 3, 1, 2),                                         \
		CMD(SET_SHADER_BUFFERS, 0, 1, 3, 0, 4, 4),                                         \
		CMD(SET_SHADER_IMAGES, 0, 5, 2, 1, 2, 0, 0, 5),                                    \
		CMD(SET_ATOMIC_BUFFERS, 0, 0, 0, 4, 6), CMD(SET_STREAMOUT_TARGETS, 0, 0, 7),       \
		CMD(SET_VERTEX_BUFFERS, 0, 1, 0, 8), CMD(SET_INDEX_BUFFER, 0, 9, 2, 0),            \
		CMD(SET_UNIFORM_BUFFER, 0, 0, 0, 0, 4, 10),                                        \
		CREATE(SAMPLER_VIEW, 11, 11, 1, 0, 0, 0), CMD(SET_SAMPLER_VIEWS, 0, 1, 0, 11)

#define FRAMEBUFFER (BIT(1) | BIT(2) | BIT(3))
#define OTHERS      (BIT(4) | BIT(5) | BIT(6) | BIT(7))

static void test_drawing(void **state)
{
	WRITES(0, TARGETS);
	WRITES(FRAMEBUFFER | OTHERS, DRAW);
	WRITES(0, CMD(SET_STENCIL_REF, 0, 1));
	WRITES(OTHERS, GRID);
	WRITES(FRAMEBUFFER, WIPE);
	WRITES(FRAMEBUFFER | OTHERS, WIPE, GRID, DRAW, DRAW);
}

static void test_what_was_bound_when_drawn(void **state)
{
	WRITES(0, TARGETS);
	WRITES(FRAMEBUFFER, WIPE, CMD(SET_FRAMEBUFFER_STATE, 0, 0, 0));
	WRITES(OTHERS, DRAW, CMD(SET_SHADER_BUFFERS, 0, 1, 3, 0, 0, 0));
	WRITES(OTHERS & ~BIT(4), DRAW, CMD(SET_SHADER_IMAGES, 0, 5, 2, 0, 0, 0, 0, 0));
	WRITES(BIT(6) | BIT(7), GRID, CMD(SET_ATOMIC_BUFFERS, 0, 0, 0, 4, 12));
	WRITES(BIT(7) | BIT(12), GRID, CMD(SET_STREAMOUT_TARGETS, 0, 0));
	WRITES(BIT(12), DRAW);
	WRITES(BIT(7) | BIT(12), CMD(SET_STREAMOUT_TARGETS, 0, 0, 7), DRAW, DESTROY(7));
	WRITES(BIT(12), DRAW);
	/* Bound without being drawn to. */
	WRITES(0, CMD(SET_FRAMEBUFFER_STATE, 0, 1, 0, 1), CMD(SET_FRAMEBUFFER_STATE, 0, 0, 3));
	/* Of a surface whose handle is gone. */
	WRITES(BIT(3) | BIT(12), DESTROY(3), DRAW);
}

static void test_drawing_in_sub_contexts(void **state)
{
	WRITES(0, TARGETS, CMD(CREATE_SUB_CTX, 0, 1));
	WRITES(0, DRAW);
	WRITES(FRAMEBUFFER | OTHERS, CMD(SET_SUB_CTX, 0, 0), DRAW, CMD(SET_SUB_CTX, 0, 1));
	WRITES(FRAMEBUFFER, CMD(SET_SUB_CTX, 0, 0), WIPE, CMD(CREATE_SUB_CTX, 0, 2));
	WRITES(BIT(1), SURFACE(1, 1), CMD(SET_FRAMEBUFFER_STATE, 0, 1, 0, 1), DRAW,
		CMD(DESTROY_SUB_CTX, 0, 2));
	WRITES(FRAMEBUFFER | OTHERS, DRAW);
}

static void test_single_destinations(void **state)
{
	WRITES(BIT(1), CMD(BLIT, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0));
	WRITES(BIT(1), CMD(RESOURCE_COPY_REGION, 0, 1, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1, 1, 1));
	WRITES(BIT(3), CMD(RESOURCE_INLINE_WRITE, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 7));
	WRITES(BIT(4), CMD(CLEAR_TEXTURE, 0, 4, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0));
	WRITES(BIT(5), SURFACE(1, 5), CMD(CLEAR_SURFACE, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 1));
	WRITES(BIT(6), CMD(TRANSFER3D, 0, 6, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 1));
	WRITES(0, CMD(TRANSFER3D, 0, 6, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 2));
	WRITES(BIT(7), CMD(COPY_TRANSFER3D, 0, 7, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 8, 0, 1));
	WRITES(BIT(8), CMD(COPY_TRANSFER3D, 0, 7, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 8, 0, 3));
	WRITES(BIT(9), CMD(PIPE_RESOURCE_SET_TYPE, 0, 9, 1, 1, 1, 1, 0, 0, 0, 0, 0));
	WRITES(BIT(11), CMD(GET_PIPE_RESOURCE_LAYOUT, 0, 10, 11, 0));
	WRITES(BIT(12), CREATE(QUERY, 2, 0, 0, 12), CMD(GET_QUERY_RESULT, 0, 2, 0));
	WRITES(0, CMD(GET_QUERY_RESULT, 0, 77, 0));
	WRITES(BIT(13), CMD(GET_QUERY_RESULT_QBO, 0, 2, 13, 1, 0, 0, 0));
}

static int take_over(void *data, const struct stream_transfer *transfer)
{
	return 1;
}

/* One done by the device is a write all the same. */
static void test_transfers_done_elsewhere(void **state)
{
	struct fixture *f = *state;
	struct stream_resource_ops ops = fake_ops;
	const uint32_t dw[] = {CMD(TRANSFER3D, 0, 6, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 1)};

	ops.transfer = take_over;
	stream_destroy(f->stream);
	assert_int_equal(stream_create(&test_limits, &f->budget, &ops, &f->view, &f->stream), 0);
	expect_written(f, BIT(6), dw, ARRAY_SIZE(dw));
}

/* What a stopped buffer did up to there will be executed. */
static void test_a_buffer_that_stops(void **state)
{
	struct fixture *f = *state;
	const uint32_t dw[] = {DRAW, CREATE(RASTERIZER, 1, 0, 0, 0, 1u << 24, 0, 0, 0, 0),
		CMD(SET_STENCIL_REF, 0, 1)};

	WRITES(0, TARGETS);
	stream_watch_clip_planes(f->stream, true);
	f->budget.epoch++;
	assert_int_equal(run_dwords(f->stream, dw, ARRAY_SIZE(dw)), -ERESTART);
	assert_int_equal(fake_resource(f->device, 1)->written, f->budget.epoch);
	assert_int_equal(fake_resource(f->device, 7)->written, f->budget.epoch);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_drawing),
		TEST(test_what_was_bound_when_drawn),
		TEST(test_drawing_in_sub_contexts),
		TEST(test_single_destinations),
		TEST(test_transfers_done_elsewhere),
		TEST(test_a_buffer_that_stops),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
