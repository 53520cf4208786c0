/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What supersedes what, command by command: after some commands, exactly these bindings are saved.
 * A resource handle n is the renderer's ID(n).
 */
#include "save_support.h"

#include "base/checked.h"

#include <errno.h>
#include <stdlib.h>

#define DO(...)     RUN(((struct save_fixture *)*state)->stream, __VA_ARGS__)
#define EXPECT(...) EXPECT_BINDINGS(((struct save_fixture *)*state)->stream, DEVICE, __VA_ARGS__)
#define NOTHING()   expect_bindings(((struct save_fixture *)*state)->stream, DEVICE, NULL, 0)
#define DEVICE      (((struct save_fixture *)*state)->device)
#define ID(handle)  DEVICE->handles[handle]

#define BLEND(h)      CREATE(BLEND, h, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
#define DSA(h)        CREATE(DSA, h, 0, 0, 0, 0)
#define RS(h, first)  CREATE(RASTERIZER, h, first, 0, 0, 0, 0, 0, 0, 0)
#define VE(h)         CREATE(VERTEX_ELEMENTS, h, 0, 0, 0, 1)
#define SHADER(h, st) CREATE(SHADER, h, st, 4, 1, 0, 0)
#define VIEW(h, res)  CREATE(SAMPLER_VIEW, h, res, 1, 0, 0, 0)
#define SAMPLER(h)    CREATE(SAMPLER_STATE, h, 0, 0, 0, 0, 0, 0, 0, 0)
#define SURFACE(h, r) CREATE(SURFACE, h, r, 1, 0, 0)
#define QUERY(h, t)   CREATE(QUERY, h, t, 0, 3)
#define TARGET(h, r)  CREATE(STREAMOUT_TARGET, h, r, 0, 64)

static void test_nothing(void **state)
{
	NOTHING();
	DO(CMD(SET_STENCIL_REF, 0, 1), CMD(SET_STENCIL_REF, 0, 2));
	EXPECT(CMD(SET_STENCIL_REF, 0, 2));
}

static void test_single_states(void **state)
{
	uint32_t plain[VIRGL_COMMANDS] = {
		[VIRGL_SET_STENCIL_REF] = 1,
		[VIRGL_SET_BLEND_COLOR] = 4,
		[VIRGL_SET_POLYGON_STIPPLE] = 32,
		[VIRGL_SET_CLIP_STATE] = 32,
		[VIRGL_SET_SAMPLE_MASK] = 1,
		[VIRGL_SET_TESS_STATE] = 6,
		[VIRGL_SET_MIN_SAMPLES] = 1,
		[VIRGL_SET_FRAMEBUFFER_STATE_NO_ATTACH] = 2,
	};
	struct save_fixture *f = *state;
	uint32_t all[128], n = 0;

	for (uint32_t round = 0; round < 2; round++) {
		n = 0;
		for (uint32_t opcode = 0; opcode < VIRGL_COMMANDS; opcode++) {
			if (!plain[opcode])
				continue;
			all[n] = VIRGL_HEADER(opcode, 0, plain[opcode]);
			for (uint32_t i = 1; i <= plain[opcode]; i++)
				all[n + i] = round * 1000 + opcode * 100 + i;
			n += 1 + plain[opcode];
		}
		assert_int_equal(run_dwords(f->stream, all, n), 0);
	}
	expect_bindings(f->stream, f->device, all, n);
}

static void test_viewports_and_scissors_by_slot(void **state)
{
	DO(CMD(SET_VIEWPORT_STATE, 0, 2, 1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15, 16));
	DO(CMD(SET_VIEWPORT_STATE, 0, 3, 21, 22, 23, 24, 25, 26));
	DO(CMD(SET_VIEWPORT_STATE, 0, 15, 31, 32, 33, 34, 35, 36));
	DO(CMD(SET_VIEWPORT_STATE, 0, 9));
	DO(CMD(SET_SCISSOR_STATE, 0, 14, 1, 2, 3, 4), CMD(SET_SCISSOR_STATE, 0, 15, 5, 6));
	DO(CMD(SET_SCISSOR_STATE, 0, 0, 7, 8));
	EXPECT(CMD(SET_VIEWPORT_STATE, 0, 2, 1, 2, 3, 4, 5, 6, 21, 22, 23, 24, 25, 26),
		CMD(SET_VIEWPORT_STATE, 0, 15, 31, 32, 33, 34, 35, 36),
		CMD(SET_SCISSOR_STATE, 0, 0, 7, 8), CMD(SET_SCISSOR_STATE, 0, 14, 1, 2, 5, 6));
}

/* The library computes the depth range of a viewport by the rasterizer bound then. */
static void test_viewports_by_rasterizer(void **state)
{
#define ONE(slot) CMD(SET_VIEWPORT_STATE, 0, slot, 1, 2, 3, 4, 5, 6)
	DO(RS(1, 0), RS(2, VIRGL_RASTERIZER_HALF_Z), ONE(0), CMD(BIND_OBJECT, 2, 2), ONE(1));
	EXPECT(ONE(0), CMD(BIND_OBJECT, 2, 2), ONE(1));
	DO(CMD(BIND_OBJECT, 2, 1));
	EXPECT(RS(~0u, VIRGL_RASTERIZER_HALF_Z), CMD(BIND_OBJECT, 2, ~0u), ONE(1),
		CMD(BIND_OBJECT, 2, 0), CMD(DESTROY_OBJECT, 2, ~0u), CMD(BIND_OBJECT, 2, 1),
		ONE(0));
	DO(ONE(1));
	EXPECT(CMD(BIND_OBJECT, 2, 1),
		CMD(SET_VIEWPORT_STATE, 0, 0, 1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6));
}

static void test_bound_objects(void **state)
{
	DO(BLEND(1), BLEND(2), RS(3, 0), DSA(4), VE(5), CMD(BIND_OBJECT, 1, 1),
		CMD(BIND_OBJECT, 1, 2), CMD(BIND_OBJECT, 2, 3), CMD(BIND_OBJECT, 3, 4),
		CMD(BIND_OBJECT, 5, 5));
	EXPECT(CMD(BIND_OBJECT, 1, 2), CMD(BIND_OBJECT, 2, 3), CMD(BIND_OBJECT, 3, 4),
		CMD(BIND_OBJECT, 5, 5));
	DO(CMD(BIND_OBJECT, 2, 0), DESTROY(4));
	EXPECT(CMD(BIND_OBJECT, 1, 2), CMD(BIND_OBJECT, 3, ~0u), CMD(BIND_OBJECT, 5, 5),
		CMD(DESTROY_OBJECT, 3, ~0u));
	/* Vertex elements are not bound without handle; neither when it becomes another's. */
	DO(DESTROY(5), CMD(BIND_OBJECT, 3, 0));
	EXPECT(CMD(BIND_OBJECT, 1, 2));
	DO(VE(5), CMD(BIND_OBJECT, 5, 5), BLEND(5));
	EXPECT(CMD(BIND_OBJECT, 1, 2));
	DO(BLEND(2));
	EXPECT(CMD(BIND_OBJECT, 1, ~0u), CMD(DESTROY_OBJECT, 1, ~0u));
}

static void test_shaders_by_stage(void **state)
{
	DO(SHADER(1, 0), SHADER(2, 1), SHADER(3, 0), SHADER(4, 5), CMD(BIND_SHADER, 0, 1, 0),
		CMD(BIND_SHADER, 0, 2, 1), CMD(BIND_SHADER, 0, 4, 5));
	DO(CMD(BIND_SHADER, 0, 3, 0));
	/* Of another stage, unknown: nothing happens. */
	DO(CMD(BIND_SHADER, 0, 2, 0), CMD(BIND_SHADER, 0, 77, 1));
	EXPECT(CMD(BIND_SHADER, 0, 3, 0), CMD(BIND_SHADER, 0, 2, 1), CMD(BIND_SHADER, 0, 4, 5));
	DO(CMD(BIND_SHADER, 0, 0, 1), DESTROY(3));
	EXPECT(CMD(BIND_SHADER, 0, ~0u, 0), CMD(BIND_SHADER, 0, 4, 5), CMD(DESTROY_OBJECT, 4, ~0u));
}

static void test_framebuffer_as_a_whole(void **state)
{
	DO(SURFACE(1, 5), SURFACE(2, 6), SURFACE(3, 7));
	DO(CMD(SET_FRAMEBUFFER_STATE, 0, 3, 3, 1, 0, 2));
	EXPECT(CMD(SET_FRAMEBUFFER_STATE, 0, 3, 3, 1, 0, 2));
	DO(CMD(SET_FRAMEBUFFER_STATE, 0, 1, 0, 2));
	EXPECT(CMD(SET_FRAMEBUFFER_STATE, 0, 1, 0, 2));
	DO(DESTROY(2), SURFACE(2, 8));
	EXPECT(CMD(SET_FRAMEBUFFER_STATE, 0, 1, 0, ~0u), CMD(DESTROY_OBJECT, 8, ~0u));
}

static void test_vertex_and_index_buffers(void **state)
{
	DO(CMD(SET_VERTEX_BUFFERS, 0, 4, 0, 1, 8, 16, 0, 12, 20, 3));
	DO(CMD(SET_VERTEX_BUFFERS, 0, 5, 1, 2, 9, 17, 0));
	DO(CMD(SET_INDEX_BUFFER, 0, 4, 2, 6));
	EXPECT(CMD(SET_VERTEX_BUFFERS, 0, 5, 1, ID(2), 9, 17, 0),
		CMD(SET_INDEX_BUFFER, 0, ID(4), 2, 6));
	assert_int_equal(fake_resource(DEVICE, 1)->refs, 0);
	assert_int_equal(fake_resource(DEVICE, 3)->refs, 0);
	DO(CMD(SET_INDEX_BUFFER, 0, 5));
	DO(VIRGL_HEADER(VIRGL_SET_VERTEX_BUFFERS, 0, 0));
	EXPECT(CMD(SET_INDEX_BUFFER, 0, ID(5), 0, 0));
	DO(CMD(SET_INDEX_BUFFER, 0, 0));
	EXPECT(CMD(SET_INDEX_BUFFER, 0, 0, 0, 0));
}

/* Per stage, whatever the index; the number counts, also none. */
static void test_constants_by_stage(void **state)
{
	DO(CMD(SET_CONSTANT_BUFFER, 0, 0, 7, 1, 2, 3), CMD(SET_CONSTANT_BUFFER, 0, 1, 0, 4));
	DO(CMD(SET_CONSTANT_BUFFER, 0, 0, 1, 5, 6));
	EXPECT(CMD(SET_CONSTANT_BUFFER, 0, 0, 0, 5, 6), CMD(SET_CONSTANT_BUFFER, 0, 1, 0, 4));
	DO(CMD(SET_CONSTANT_BUFFER, 0, 0, 0));
	EXPECT(CMD(SET_CONSTANT_BUFFER, 0, 1, 0, 4));
}

static void test_uniform_buffers_by_slot(void **state)
{
	DO(CMD(SET_UNIFORM_BUFFER, 0, 1, 31, 16, 32, 9), CMD(SET_UNIFORM_BUFFER, 0, 0, 2, 0, 8, 1));
	DO(CMD(SET_UNIFORM_BUFFER, 0, 0, 2, 4, 8, 2), CMD(SET_UNIFORM_BUFFER, 0, 1, 0, 4, 8, 2));
	DO(CMD(SET_UNIFORM_BUFFER, 0, 1, 0, 4, 8, 0));
	EXPECT(CMD(SET_UNIFORM_BUFFER, 0, 0, 2, 4, 8, ID(2)),
		CMD(SET_UNIFORM_BUFFER, 0, 1, 31, 16, 32, ID(9)));
}

static void test_sampler_views_by_slot_and_cleared_behind(void **state)
{
	DO(VIEW(1, 1), VIEW(2, 2), VIEW(3, 3), CMD(SET_SAMPLER_VIEWS, 0, 1, 0, 1, 2, 3));
	DO(CMD(SET_SAMPLER_VIEWS, 0, 4, 2, 3));
	DO(CMD(SET_SAMPLER_VIEWS, 0, 1, 1, 3));
	EXPECT(CMD(SET_SAMPLER_VIEWS, 0, 1, 0, 1, 3), CMD(SET_SAMPLER_VIEWS, 0, 4, 0, 0, 0, 3));
	DO(DESTROY(3), CMD(SET_SAMPLER_VIEWS, 0, 4, 4));
	EXPECT(CMD(SET_SAMPLER_VIEWS, 0, 1, 0, 1, ~0u),
		CMD(SET_SAMPLER_VIEWS, 0, 4, 0, 0, 0, ~0u, 0), CMD(DESTROY_OBJECT, 6, ~0u));
	DO(CMD(SET_SAMPLER_VIEWS, 0, 4, 1), CMD(SET_SAMPLER_VIEWS, 0, 1, 0));
	EXPECT(CMD(SET_SAMPLER_VIEWS, 0, 4, 0, 0));
	assert_int_equal(fake_resource(DEVICE, 3)->refs, 0);
}

/* Of several views of one texture the library heeds the one bound last. */
static void test_sampler_views_of_one_texture(void **state)
{
#define LEVELS(h, levels) CREATE(SAMPLER_VIEW, h, 1, 1, 0, levels, 0)
	DO(LEVELS(1, 0), LEVELS(2, 0x100), LEVELS(3, 0), VIEW(4, 2));
	DO(CMD(SET_SAMPLER_VIEWS, 0, 0, 0, 4, 1, 4), CMD(SET_SAMPLER_VIEWS, 0, 1, 0, 3));
	EXPECT(CMD(SET_SAMPLER_VIEWS, 0, 0, 0, 4, 1, 4), CMD(SET_SAMPLER_VIEWS, 0, 1, 0, 3));
	DO(CMD(SET_SAMPLER_VIEWS, 0, 1, 0, 2));
	EXPECT(CMD(SET_SAMPLER_VIEWS, 0, 0, 0, 4, 1, 4), CMD(SET_SAMPLER_VIEWS, 0, 1, 0, 2));
	/* Bound where it was: nothing changes. */
	DO(CMD(SET_SAMPLER_VIEWS, 0, 0, 1, 1, 4));
	EXPECT(CMD(SET_SAMPLER_VIEWS, 0, 0, 0, 4, 1, 4), CMD(SET_SAMPLER_VIEWS, 0, 1, 0, 2));
	DO(CMD(SET_SAMPLER_VIEWS, 0, 0, 1, 0, 4), CMD(SET_SAMPLER_VIEWS, 0, 0, 1, 1, 4),
		DESTROY(1));
	EXPECT(CMD(SET_SAMPLER_VIEWS, 0, 0, 0, 4, ~0u, 4), CMD(SET_SAMPLER_VIEWS, 0, 1, 0, 2),
		CMD(SET_SAMPLER_VIEWS, 0, 0, 1, 0, 4), CMD(SET_SAMPLER_VIEWS, 0, 0, 1, ~0u, 4),
		CMD(DESTROY_OBJECT, 6, ~0u));
}

static void test_sampler_states_by_slot(void **state)
{
	DO(SAMPLER(1), SAMPLER(2), CMD(BIND_SAMPLER_STATES, 0, 1, 0, 1, 2, 1));
	DO(CMD(BIND_SAMPLER_STATES, 0, 1, 1, 0, 2));
	/* The library also keeps how many were set last. */
	EXPECT(CMD(BIND_SAMPLER_STATES, 0, 1, 0, 1, 0, 2), CMD(BIND_SAMPLER_STATES, 0, 1, 0, 1, 0));
	/* Unknown: none. Destroyed: unbound. */
	DO(CMD(BIND_SAMPLER_STATES, 0, 1, 0, 77, 1, 2), DESTROY(2));
	EXPECT(CMD(BIND_SAMPLER_STATES, 0, 1, 0, 0, 1), CMD(BIND_SAMPLER_STATES, 0, 1, 0, 0, 1, 0));
}

static void test_storage_by_slot(void **state)
{
	DO(CMD(SET_SHADER_BUFFERS, 0, 5, 1, 0, 8, 1, 4, 8, 2, 0, 8, 3));
	DO(CMD(SET_SHADER_BUFFERS, 0, 5, 2, 0, 0, 0));
	DO(CMD(SET_SHADER_IMAGES, 0, 1, 30, 5, 2, 0, 0, 4, 6, 1, 7, 8, 5));
	DO(CMD(SET_SHADER_IMAGES, 0, 1, 31, 9, 1, 2, 3, 6));
	DO(CMD(SET_ATOMIC_BUFFERS, 0, 0, 1, 2, 7, 3, 4, 8), CMD(SET_ATOMIC_BUFFERS, 0, 1, 5, 6, 9));
	EXPECT(CMD(SET_SHADER_IMAGES, 0, 1, 30, 5, 2, 0, 0, ID(4), 9, 1, 2, 3, ID(6)),
		CMD(SET_SHADER_BUFFERS, 0, 5, 1, 0, 8, ID(1)),
		CMD(SET_SHADER_BUFFERS, 0, 5, 3, 0, 8, ID(3)),
		CMD(SET_ATOMIC_BUFFERS, 0, 0, 1, 2, ID(7), 5, 6, ID(9)));
	DO(CMD(SET_SHADER_IMAGES, 0, 1, 30, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
		CMD(SET_ATOMIC_BUFFERS, 0, 0, 0, 0, 0), CMD(SET_SHADER_BUFFERS, 0, 5, 1, 0, 0, 0));
	EXPECT(CMD(SET_SHADER_BUFFERS, 0, 5, 3, 0, 8, ID(3)),
		CMD(SET_ATOMIC_BUFFERS, 0, 1, 5, 6, ID(9)));
}

static void test_tweaks_by_id(void **state)
{
	DO(CMD(SET_TWEAKS, 0, 2, 100), CMD(SET_TWEAKS, 0, 0, 5), CMD(SET_TWEAKS, 0, 2, 200, 1, 2));
	DO(CMD(SET_TWEAKS, 0, 99, 5));
	EXPECT(CMD(SET_TWEAKS, 0, 0, 5), CMD(SET_TWEAKS, 0, 2, 200));
}

static void test_streamout_lists(void **state)
{
	DO(TARGET(1, 1), TARGET(2, 2), TARGET(3, 3));
	DO(CMD(SET_STREAMOUT_TARGETS, 0, 0, 2, 1), CMD(SET_STREAMOUT_TARGETS, 0, 0, 1),
		CMD(SET_STREAMOUT_TARGETS, 0, 0, 0, 3), CMD(SET_STREAMOUT_TARGETS, 0, 0, 1, 2));
	/* A list that was there is not another one. */
	DO(CMD(SET_STREAMOUT_TARGETS, 0, 1, 1));
	EXPECT(CMD(SET_STREAMOUT_TARGETS, 0, 0, 2, 1), CMD(SET_STREAMOUT_TARGETS, 0, 1, 1),
		CMD(SET_STREAMOUT_TARGETS, 0, 0, 0, 3), CMD(SET_STREAMOUT_TARGETS, 0, 0, 1, 2),
		CMD(SET_STREAMOUT_TARGETS, 0, 1, 1));
	/* The lists with a target end with it, also the current one. */
	DO(DESTROY(1));
	EXPECT(CMD(SET_STREAMOUT_TARGETS, 0, 0, 0, 3), CMD(SET_STREAMOUT_TARGETS, 0, 0));
	DO(TARGET(3, 4));
	NOTHING();
	DO(CMD(SET_STREAMOUT_TARGETS, 0, 0, 2), CMD(SET_STREAMOUT_TARGETS, 0, 0));
	EXPECT(CMD(SET_STREAMOUT_TARGETS, 0, 0, 2), CMD(SET_STREAMOUT_TARGETS, 0, 0));
}

static void test_queries_and_conditions(void **state)
{
	DO(QUERY(9, 0), QUERY(2, 5), QUERY(3, VIRGL_QUERY_TIMESTAMP), CMD(BEGIN_QUERY, 0, 9),
		CMD(BEGIN_QUERY, 0, 2), CMD(BEGIN_QUERY, 0, 3),
		CMD(SET_RENDER_CONDITION, 0, 9, 3, 1));
	EXPECT(CMD(BEGIN_QUERY, 0, 2), CMD(BEGIN_QUERY, 0, 9),
		CMD(SET_RENDER_CONDITION, 0, 9, 1, 1));
	DO(CMD(END_QUERY, 0, 9), CMD(END_QUERY, 0, 3), CMD(SET_RENDER_CONDITION, 0, 77, 0, 0));
	EXPECT(CMD(BEGIN_QUERY, 0, 2), CMD(SET_RENDER_CONDITION, 0, 9, 1, 1));
	DO(DESTROY(9), QUERY(2, 5));
	NOTHING();
	DO(CMD(SET_RENDER_CONDITION, 0, 2, 0, 2), CMD(SET_RENDER_CONDITION, 0, 0, 0, 0));
	NOTHING();
}

static void test_what_leaves_no_trace(void **state)
{
	DO(SHADER(1, 0), SHADER(2, 1), QUERY(3, 0), SURFACE(4, 4));
	DO(CMD(MEMORY_BARRIER, 0, 1), CMD(TEXTURE_BARRIER, 0, 1),
		CMD(LINK_SHADER, 0, 1, 2, 0, 0, 0, 0), CMD(GET_QUERY_RESULT, 0, 3, 0),
		VIRGL_HEADER(VIRGL_NOP, 0, 0), CMD(LAUNCH_GRID, 0, 1, 1, 1, 1, 1, 1, 0, 0),
		CMD(CLEAR, 0, 0, 0, 0, 0, 0, 0, 0, 0),
		CMD(DRAW_VBO, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0));
	NOTHING();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, save_setup, save_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_nothing),
		TEST(test_single_states),
		TEST(test_viewports_and_scissors_by_slot),
		TEST(test_viewports_by_rasterizer),
		TEST(test_bound_objects),
		TEST(test_shaders_by_stage),
		TEST(test_framebuffer_as_a_whole),
		TEST(test_vertex_and_index_buffers),
		TEST(test_constants_by_stage),
		TEST(test_uniform_buffers_by_slot),
		TEST(test_sampler_views_by_slot_and_cleared_behind),
		TEST(test_sampler_views_of_one_texture),
		TEST(test_sampler_states_by_slot),
		TEST(test_storage_by_slot),
		TEST(test_tweaks_by_id),
		TEST(test_streamout_lists),
		TEST(test_queries_and_conditions),
		TEST(test_what_leaves_no_trace),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
