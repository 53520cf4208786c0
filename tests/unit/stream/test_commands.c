/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every command by example. In an example a dword 1000..1999 is a resource handle and one of
 * 101..111 an object handle; nothing else is either. From each example follow: it passes, and
 * exactly its resource handles are translated; one dword less or more, an unknown resource, none,
 * an unknown object, each do what the example says.
 */
#include "support.h"

#include "base/checked.h"

#include <errno.h>
#include <string.h>

enum { LONGER = 1, SHORTER = 2, NONE = 4, ANY_OBJECT = 8, ANY_RESOURCE = 16 };

struct example {
	uint32_t opcode;
	uint32_t type;
	unsigned also; /* what passes too, of the above */
	uint32_t n;
	uint32_t dw[40];
};

#define P(...)                                                                                     \
	COUNT(__VA_ARGS__),                                                                        \
	{                                                                                          \
		__VA_ARGS__                                                                        \
	}
#define CREATE(t)   VIRGL_CREATE_OBJECT, VIRGL_OBJECT_##t
#define BOX         1, 2, 3, 4, 5, 6
#define TRANSFER(n) RES(n), 15, 1, 64, 640, BOX
#define SIX         1, 2, 3, 4, 5, 6
#define THIRTY_TWO  SIX, SIX, SIX, SIX, SIX, 1, 2

static const struct example examples[] = {
	{VIRGL_NOP, 0, LONGER, 0},
	{CREATE(BLEND), 0, P(1, 0, 0, SIX, 7, 8)},
	{CREATE(RASTERIZER), 0, P(1, SIX, 7, 8)},
	{CREATE(DSA), 0, P(1, 2, 3, 4, 5)},
	{CREATE(SHADER), SHORTER, P(1, 0, 8, 300, 0, 'V', 0)},
	{CREATE(VERTEX_ELEMENTS), 0, P(1, 0, 0, 31, 5, 0, 0, 0, 5)},
	{CREATE(VERTEX_ELEMENTS), 0, P(1)},
	{CREATE(SAMPLER_VIEW), 0, P(1, RES(1), 5, 6, 7, 8)},
	{CREATE(SAMPLER_STATE), 0, P(1, SIX, 7, 8)},
	{CREATE(SURFACE), 0, P(1, RES(1), 5, 6, 7)},
	{CREATE(QUERY), 0, P(1, 2, 3, RES(1))},
	{CREATE(STREAMOUT_TARGET), 0, P(1, RES(1), 5, 6)},
	{CREATE(MSAA_SURFACE), 0, P(1, RES(1), 5, 6, 7, 4)},
	{VIRGL_BIND_OBJECT, VIRGL_OBJECT_BLEND, 0, P(OBJECT(BLEND))},
	{VIRGL_BIND_OBJECT, VIRGL_OBJECT_RASTERIZER, 0, P(OBJECT(RASTERIZER))},
	{VIRGL_BIND_OBJECT, VIRGL_OBJECT_DSA, 0, P(OBJECT(DSA))},
	{VIRGL_BIND_OBJECT, VIRGL_OBJECT_VERTEX_ELEMENTS, 0, P(OBJECT(VERTEX_ELEMENTS))},
	{VIRGL_BIND_OBJECT, VIRGL_OBJECT_BLEND, 0, P(0)},
	{VIRGL_DESTROY_OBJECT, 0, ANY_OBJECT, P(OBJECT(BLEND))},
	{VIRGL_SET_VIEWPORT_STATE, 0, 0, P(14, SIX, SIX)},
	{VIRGL_SET_VIEWPORT_STATE, 0, 0, P(16)},
	{VIRGL_SET_FRAMEBUFFER_STATE, 0, 0,
		P(3, OBJECT(SURFACE), OBJECT(MSAA_SURFACE), 0, OBJECT(SURFACE))},
	{VIRGL_SET_FRAMEBUFFER_STATE, 0, 0, P(8, 0, 0, 0, 0, 0, 0, 0, 0, 0)},
	{VIRGL_SET_VERTEX_BUFFERS, 0, 0, 0},
	{VIRGL_SET_VERTEX_BUFFERS, 0, NONE, P(4, 5, RES(1), 7, 8, RES(2))},
	{VIRGL_CLEAR, 0, 0, P(SIX, 7, 8)},
	{VIRGL_DRAW_VBO, 0, 0, P(SIX, SIX)},
	{VIRGL_DRAW_VBO, 0, 0, P(SIX, SIX, 7, 8)},
	{VIRGL_DRAW_VBO, 0, NONE, P(SIX, SIX, 7, 8, RES(1), 1, 2, 3, 4, RES(2))},
	{VIRGL_RESOURCE_INLINE_WRITE, 0, LONGER, P(TRANSFER(1), 1)},
	{VIRGL_SET_SAMPLER_VIEWS, 0, LONGER | SHORTER, P(5, 125, OBJECT(SAMPLER_VIEW), 0)},
	{VIRGL_SET_SAMPLER_VIEWS, 0, 0, P(5, 128)},
	{VIRGL_SET_INDEX_BUFFER, 0, NONE, P(RES(1))},
	{VIRGL_SET_INDEX_BUFFER, 0, NONE, P(RES(1), 2, 64)},
	{VIRGL_SET_CONSTANT_BUFFER, 0, LONGER, P(5, 99)},
	{VIRGL_SET_STENCIL_REF, 0, 0, P(1)},
	{VIRGL_SET_BLEND_COLOR, 0, 0, P(1, 2, 3, 4)},
	{VIRGL_SET_SCISSOR_STATE, 0, 0, P(14, 1, 2, 3, 4)},
	{VIRGL_SET_SCISSOR_STATE, 0, 0, P(15)},
	{VIRGL_BLIT, 0, 0, P(1, 2, 3, RES(1), 15, 5, SIX, RES(2), 15, 5, SIX)},
	{VIRGL_RESOURCE_COPY_REGION, 0, 0, P(RES(1), 15, 1, 2, 3, RES(2), 15, BOX)},
	{VIRGL_BIND_SAMPLER_STATES, 0, LONGER | SHORTER | ANY_OBJECT,
		P(5, 29, OBJECT(SAMPLER_STATE), 0)},
	{VIRGL_BIND_SAMPLER_STATES, 0, 0, P(5, 32)},
	{VIRGL_BEGIN_QUERY, 0, 0, P(OBJECT(QUERY))},
	{VIRGL_END_QUERY, 0, 0, P(OBJECT(QUERY))},
	{VIRGL_GET_QUERY_RESULT, 0, ANY_OBJECT, P(OBJECT(QUERY), 1)},
	{VIRGL_SET_POLYGON_STIPPLE, 0, 0, P(THIRTY_TWO)},
	{VIRGL_SET_CLIP_STATE, 0, 0, P(THIRTY_TWO)},
	{VIRGL_SET_SAMPLE_MASK, 0, 0, P(1)},
	{VIRGL_SET_STREAMOUT_TARGETS, 0, LONGER | SHORTER, P(1, OBJECT(STREAMOUT_TARGET), 0)},
	{VIRGL_SET_STREAMOUT_TARGETS, 0, LONGER, P(1)},
	{VIRGL_SET_RENDER_CONDITION, 0, ANY_OBJECT, P(OBJECT(QUERY), 1, 2)},
	{VIRGL_SET_UNIFORM_BUFFER, 0, NONE, P(5, 31, 1, 2, RES(1))},
	{VIRGL_SET_SUB_CTX, 0, 0, P(77)},
	{VIRGL_CREATE_SUB_CTX, 0, 0, P(1)},
	{VIRGL_DESTROY_SUB_CTX, 0, 0, P(1)},
	{VIRGL_BIND_SHADER, 0, ANY_OBJECT, P(OBJECT(SHADER), 5)},
	{VIRGL_SET_TESS_STATE, 0, 0, P(SIX)},
	{VIRGL_SET_MIN_SAMPLES, 0, 0, P(1)},
	{VIRGL_SET_SHADER_BUFFERS, 0, LONGER | SHORTER | NONE,
		P(5, 30, 4, 5, RES(1), 7, 8, RES(2))},
	{VIRGL_SET_SHADER_BUFFERS, 0, LONGER, P(5, 900)},
	{VIRGL_SET_SHADER_IMAGES, 0, LONGER | SHORTER | NONE,
		P(5, 30, 321, 1, 2, 3, RES(1), 321, 1, 2, 3, RES(2))},
	{VIRGL_SET_SHADER_IMAGES, 0, LONGER, P(5, 900)},
	{VIRGL_MEMORY_BARRIER, 0, 0, P(1)},
	{VIRGL_LAUNCH_GRID, 0, NONE, P(SIX, RES(1), 8)},
	{VIRGL_SET_FRAMEBUFFER_STATE_NO_ATTACH, 0, 0, P(1, 2)},
	{VIRGL_TEXTURE_BARRIER, 0, 0, P(1)},
	{VIRGL_SET_ATOMIC_BUFFERS, 0, LONGER | SHORTER | NONE, P(30, 4, 5, RES(1), 7, 8, RES(2))},
	{VIRGL_SET_ATOMIC_BUFFERS, 0, LONGER, P(900, 1)},
	{VIRGL_GET_QUERY_RESULT_QBO, 0, ANY_OBJECT, P(OBJECT(QUERY), RES(1), 1, 2, 3, 4)},
	{VIRGL_GET_QUERY_RESULT_QBO, 0, ANY_RESOURCE | NONE, P(12, RES(1), 1, 2, 3, 4)},
	{VIRGL_TRANSFER3D, 0, LONGER, P(TRANSFER(1), 8, 1)},
	{VIRGL_TRANSFER3D, 0, LONGER, P(TRANSFER(1), 8, 2)},
	{VIRGL_END_TRANSFERS, 0, LONGER, 0},
	{VIRGL_COPY_TRANSFER3D, 0, 0, P(TRANSFER(1), RES(2), 8, 3)},
	{VIRGL_SET_TWEAKS, 0, LONGER, P(1, 2)},
	{VIRGL_CLEAR_TEXTURE, 0, 0, P(RES(1), 15, BOX, 1, 2, 3, 4)},
	{VIRGL_PIPE_RESOURCE_SET_TYPE, 0, 0, P(RES(1), SIX, 7, 8, 9)},
	{VIRGL_PIPE_RESOURCE_SET_TYPE, 0, 0, P(RES(1), SIX, 7, SIX, 7, 8)},
	{VIRGL_SEND_STRING_MARKER, 0, LONGER, P(4, 'x')},
	{VIRGL_LINK_SHADER, 0, ANY_OBJECT, P(OBJECT(SHADER), 0, 0, 0, 0, OBJECT(SHADER))},
	{VIRGL_CLEAR_SURFACE, 0, 0, P(1, OBJECT(SURFACE), SIX, 7, 8)},
	{VIRGL_GET_PIPE_RESOURCE_LAYOUT, 0, LONGER, P(RES(1), RES(2))},
};

#define FOR_EACH_EXAMPLE(e)                                                                        \
	for (const struct example *(e) = examples; (e) != &examples[ARRAY_SIZE(examples)]; (e)++)

/* The example after a NOP of two dwords, so that offsets are not 0; -errno or 0. */
static int try_example(const struct example *e, uint32_t n, uint32_t dw[64], struct stream_fault *f)
{
	struct stream *stream = new_stream_with_objects();
	dw[0] = VIRGL_HEADER(VIRGL_NOP, 0, 2);
	dw[1] = dw[2] = RES(9);
	dw[3] = VIRGL_HEADER(e->opcode, e->type, n);
	int r = stream_check(stream, dw, 4 + n, f);
	stream_destroy(stream);
	if (r < 0) {
		assert_int_equal(f->offset, 3);
		assert_int_equal(f->opcode, e->opcode);
		assert_string_equal(f->command, stream_command_name(e->opcode));
		assert_non_null(f->reason);
	}
	return r;
}

static void expect(const struct example *e, int r, int wanted, const char *what, uint32_t at)
{
	if (r != wanted)
		fail_msg("%s (example %td), %s at %u: %d, not %d", stream_command_name(e->opcode),
			e - examples, what, at, r, wanted);
}

static bool is_resource(uint32_t v)
{
	return v >= RES(0) && v < RES(1000);
}

static bool is_object(uint32_t v)
{
	return v > 100 && v < 100 + VIRGL_OBJECTS;
}

static void test_examples_pass_and_exactly_their_resources_are_translated(void **state)
{
	FOR_EACH_EXAMPLE(e)
	{
		uint32_t dw[64];
		struct stream_fault f;
		memcpy(&dw[4], e->dw, sizeof(e->dw));
		expect(e, try_example(e, e->n, dw, &f), 0, "as it is", 0);
		assert_int_equal(dw[3], VIRGL_HEADER(e->opcode, e->type, e->n));
		for (uint32_t i = 0; i < e->n; i++)
			assert_int_equal(dw[4 + i],
				is_resource(e->dw[i]) ? e->dw[i] - RES(0) + RENDERER(0) : e->dw[i]);
	}
}

static void test_one_dword_less_or_more(void **state)
{
	FOR_EACH_EXAMPLE(e)
	{
		uint32_t dw[64] = {0};
		struct stream_fault f;
		memcpy(&dw[4], e->dw, sizeof(e->dw));
		expect(e, try_example(e, e->n + 1, dw, &f), e->also & LONGER ? 0 : -EINVAL,
			"longer", e->n);
		memcpy(&dw[4], e->dw, sizeof(e->dw));
		if (e->n)
			expect(e, try_example(e, e->n - 1, dw, &f), e->also & SHORTER ? 0 : -EINVAL,
				"shorter", e->n);
	}
}

static void test_a_command_longer_than_the_buffer(void **state)
{
	FOR_EACH_EXAMPLE(e)
	{
		struct stream *stream = new_stream_with_objects();
		uint32_t dw[64] = {VIRGL_HEADER(e->opcode, e->type, e->n + 1)};
		struct stream_fault f;
		memcpy(&dw[1], e->dw, sizeof(e->dw));
		expect(e, stream_check(stream, dw, 1 + e->n, &f), -EINVAL, "cut off", e->n);
		assert_int_equal(f.value, e->n + 1);
		stream_destroy(stream);
	}
}

static void test_unknown_resources_and_none(void **state)
{
	FOR_EACH_EXAMPLE(e)
	{
		for (uint32_t i = 0; i < e->n; i++) {
			uint32_t dw[64];
			struct stream_fault f;
			if (!is_resource(e->dw[i]))
				continue;
			memcpy(&dw[4], e->dw, sizeof(e->dw));
			dw[4 + i] = 777;
			int r = try_example(e, e->n, dw, &f);
			expect(e, r, e->also & ANY_RESOURCE ? 0 : -ENOENT, "unknown resource", i);
			assert_int_equal(r ? f.value : dw[4 + i], r ? 777 : 0);

			memcpy(&dw[4], e->dw, sizeof(e->dw));
			dw[4 + i] = 0;
			expect(e, try_example(e, e->n, dw, &f), e->also & NONE ? 0 : -ENOENT,
				"no resource", i);
			assert_int_equal(dw[4 + i], 0);
		}
	}
}

static void test_unknown_objects_and_ones_of_another_type(void **state)
{
	FOR_EACH_EXAMPLE(e)
	{
		for (uint32_t i = 0; i < e->n; i++) {
			uint32_t dw[64];
			struct stream_fault f;
			if (!is_object(e->dw[i]))
				continue;
			memcpy(&dw[4], e->dw, sizeof(e->dw));
			dw[4 + i] = 99;
			int r = try_example(e, e->n, dw, &f);
			expect(e, r, e->also & ANY_OBJECT ? 0 : -ENOENT, "unknown object", i);
			if (r)
				assert_int_equal(f.value, 99);
			memcpy(&dw[4], e->dw, sizeof(e->dw));
			dw[4 + i] = e->dw[i] == OBJECT(BLEND) ? OBJECT(DSA) : OBJECT(BLEND);
			expect(e, try_example(e, e->n, dw, &f), e->also & ANY_OBJECT ? 0 : -ENOENT,
				"other type", i);
		}
	}
}

struct bad {
	uint32_t opcode;
	uint32_t type;
	int error;
	uint32_t value;
	uint32_t n;
	uint32_t dw[40];
};

static const struct bad bad[] = {
	{CREATE(BLEND), -EINVAL, 0, P(0, 0, 0, SIX, 7, 8)},
	{VIRGL_CREATE_OBJECT, 0, -EINVAL, 0, P(1, 2, 3)},
	{VIRGL_CREATE_OBJECT, 12, -EINVAL, 12, P(1, 2, 3)},
	{VIRGL_CREATE_OBJECT, 255, -EINVAL, 255, P(1, 2, 3)},
	{CREATE(VERTEX_ELEMENTS), -EINVAL, 32, P(1, 0, 0, 32, 5)},
	{CREATE(VERTEX_ELEMENTS), -EINVAL, ~0u, P(1, 0, 0, 31, 5, 0, 0, ~0u, 5)},
	{VIRGL_BIND_OBJECT, VIRGL_OBJECT_SURFACE, -EINVAL, 8, P(OBJECT(SURFACE))},
	{VIRGL_BIND_OBJECT, VIRGL_OBJECT_SHADER, -EINVAL, 4, P(OBJECT(SHADER))},
	{VIRGL_BIND_OBJECT, 255, -EINVAL, 255, P(OBJECT(BLEND))},
	{VIRGL_SET_VIEWPORT_STATE, 0, -EINVAL, 16, P(16, SIX)},
	{VIRGL_SET_VIEWPORT_STATE, 0, -EINVAL, 15, P(15, SIX, SIX)},
	{VIRGL_SET_VIEWPORT_STATE, 0, -EINVAL, ~0u, P(~0u, SIX, SIX)},
	{VIRGL_SET_VIEWPORT_STATE, 0, -EINVAL, 17, P(17)},
	{VIRGL_SET_SCISSOR_STATE, 0, -EINVAL, 16, P(16)},
	{VIRGL_SET_SCISSOR_STATE, 0, -EINVAL, 15, P(15, 1, 2, 3, 4)},
	{VIRGL_SET_SCISSOR_STATE, 0, -EINVAL, ~0u, P(~0u, 1, 2)},
	{VIRGL_SET_FRAMEBUFFER_STATE, 0, -EINVAL, 9, P(9, 0, 0, 0)},
	{VIRGL_SET_FRAMEBUFFER_STATE, 0, -EINVAL, ~0u, P(~0u, 0)},
	{VIRGL_SET_FRAMEBUFFER_STATE, 0, -EINVAL, 11, P(9, 0, SIX, 7, 8, 9)},
	{VIRGL_DRAW_VBO, 0, -EINVAL, 16, P(SIX, SIX, 7, 8, 9, 0)},
	{VIRGL_DRAW_VBO, 0, -EINVAL, 18, P(SIX, SIX, SIX)},
	{VIRGL_SET_SAMPLER_VIEWS, 0, -EINVAL, 6, P(6, 0, 0)},
	{VIRGL_SET_SAMPLER_VIEWS, 0, -EINVAL, 128, P(0, 128, 0)},
	{VIRGL_SET_SAMPLER_VIEWS, 0, -EINVAL, ~0u, P(0, ~0u, 0)},
	{VIRGL_SET_CONSTANT_BUFFER, 0, -EINVAL, 6, P(6, 0, 1)},
	{VIRGL_BIND_SAMPLER_STATES, 0, -EINVAL, 6, P(6, 0, 0)},
	{VIRGL_BIND_SAMPLER_STATES, 0, -EINVAL, 31, P(0, 31, 0, 0)},
	{VIRGL_BIND_SAMPLER_STATES, 0, -EINVAL, ~0u, P(0, ~0u, 0, 0)},
	{VIRGL_SET_UNIFORM_BUFFER, 0, -EINVAL, 6, P(6, 0, 0, 0, 0)},
	{VIRGL_SET_UNIFORM_BUFFER, 0, -EINVAL, 32, P(0, 32, 0, 0, 0)},
	{VIRGL_BIND_SHADER, 0, -EINVAL, 6, P(0, 6)},
	{VIRGL_SET_SHADER_BUFFERS, 0, -EINVAL, 6, P(6, 0)},
	{VIRGL_SET_SHADER_BUFFERS, 0, -EINVAL, 32, P(0, 32, 0, 0, 0)},
	{VIRGL_SET_SHADER_BUFFERS, 0, -EINVAL, ~0u, P(0, ~0u, 0, 0, 0, 0, 0, 0)},
	{VIRGL_SET_SHADER_IMAGES, 0, -EINVAL, 6, P(6, 0)},
	{VIRGL_SET_SHADER_IMAGES, 0, -EINVAL, 32, P(0, 32, 0, 0, 0, 0, 0)},
	{VIRGL_SET_SHADER_IMAGES, 0, -EINVAL, 322, P(0, 0, 322, 0, 0, 0, RES(1))},
	{VIRGL_SET_SHADER_IMAGES, 0, -EINVAL, ~0u, P(0, 0, 1, 0, 0, 0, 0, ~0u, 0, 0, 0, RES(1))},
	{VIRGL_SET_ATOMIC_BUFFERS, 0, -EINVAL, 32, P(32, 0, 0, 0)},
	{VIRGL_SET_ATOMIC_BUFFERS, 0, -EINVAL, ~0u, P(~0u, 0, 0, 0)},
	{VIRGL_BLIT, 0, -EINVAL, 16, P(1, 2, 3, RES(1), 16, 5, SIX, RES(2), 0, 5, SIX)},
	{VIRGL_BLIT, 0, -EINVAL, 99, P(1, 2, 3, RES(1), 0, 5, SIX, RES(2), 99, 5, SIX)},
	{VIRGL_RESOURCE_COPY_REGION, 0, -EINVAL, 16, P(RES(1), 16, 1, 2, 3, RES(2), 0, BOX)},
	{VIRGL_RESOURCE_COPY_REGION, 0, -EINVAL, 16, P(RES(1), 0, 1, 2, 3, RES(2), 16, BOX)},
	{VIRGL_RESOURCE_COPY_REGION, 0, -EINVAL, 5, P(RES(1), 0, 1, 2, ~0u, RES(2), 0, BOX)},
	{VIRGL_RESOURCE_COPY_REGION, 0, -EINVAL, 10,
		P(RES(1), 0, 1, 2, 3, RES(2), 0, 0, 0, 0, 1, 1, ~0u)},
	{VIRGL_CLEAR_TEXTURE, 0, -EINVAL, 16, P(RES(1), 16, BOX, 1, 2, 3, 4)},
	{VIRGL_RESOURCE_INLINE_WRITE, 0, -EINVAL, 16, P(RES(1), 16, 0, 0, 0, BOX, 1)},
	{VIRGL_RESOURCE_INLINE_WRITE, 0, -EINVAL, 8, P(RES(1), 0, 0, 0, 0, 0, 0, ~0u, 1, 1, 1, 1)},
	{VIRGL_RESOURCE_INLINE_WRITE, 0, -EINVAL, 6,
		P(RES(1), 0, 0, 0, 0, 1u << 30, 0, 0, 1u << 30, 1, 1, 1)},
	{VIRGL_TRANSFER3D, 0, -EINVAL, 0, P(TRANSFER(1), 8, 0)},
	{VIRGL_TRANSFER3D, 0, -EINVAL, 3, P(TRANSFER(1), 8, 3)},
	{VIRGL_TRANSFER3D, 0, -EINVAL, 7, P(RES(1), 0, 0, 0, 0, 0, 1, 0, 1, INT32_MAX, 1, 8, 1)},
	{VIRGL_COPY_TRANSFER3D, 0, -EINVAL, 16, P(RES(1), 16, 0, 0, 0, BOX, RES(2), 0, 1)},
	{VIRGL_COPY_TRANSFER3D, 0, -EINVAL, 6,
		P(RES(1), 0, 0, 0, 0, 0, 0, 0, ~0u, 0, 0, RES(2), 0, 1)},
	{VIRGL_PIPE_RESOURCE_SET_TYPE, 0, -EINVAL, 8, P(RES(1), SIX, 7)},
	{VIRGL_PIPE_RESOURCE_SET_TYPE, 0, -EINVAL, 18, P(RES(1), SIX, 7, SIX, 7, 8, 9, 10)},
	{VIRGL_SEND_STRING_MARKER, 0, -EINVAL, 5, P(5, 'x')},
	{VIRGL_SEND_STRING_MARKER, 0, -EINVAL, ~0u, P(~0u, 'x')},
	{VIRGL_PIPE_RESOURCE_CREATE, 0, -ENOTSUP, 48, P(SIX, 7, 8, 9, 10, 11)},
	{VIRGL_CREATE_VIDEO_CODEC, 0, -ENOTSUP, 53, P(SIX, 7)},
	{VIRGL_DESTROY_VIDEO_CODEC, 0, -ENOTSUP, 54, P(1)},
	{VIRGL_CREATE_VIDEO_BUFFER, 0, -ENOTSUP, 55, P(SIX)},
	{VIRGL_DESTROY_VIDEO_BUFFER, 0, -ENOTSUP, 56, P(1)},
	{VIRGL_BEGIN_FRAME, 0, -ENOTSUP, 57, P(1, 2)},
	{VIRGL_DECODE_MACROBLOCK, 0, -ENOTSUP, 58, 0},
	{VIRGL_DECODE_BITSTREAM, 0, -ENOTSUP, 59, P(1, 2, 3, 4, 5)},
	{VIRGL_ENCODE_BITSTREAM, 0, -ENOTSUP, 60, P(1, 2, 3, 4, 5)},
	{VIRGL_END_FRAME, 0, -ENOTSUP, 61, P(1, 2)},
	{64, 0, -EINVAL, 64, 0},
	{255, 0, -EINVAL, 255, P(1)},
};

static void test_bad_commands(void **state)
{
	for (const struct bad *b = bad; b != &bad[ARRAY_SIZE(bad)]; b++) {
		struct stream *stream = new_stream_with_objects();
		struct stream_fault f = {0};
		int r = check(stream, b->opcode, b->type, b->dw, b->n, &f);
		if (r != b->error || f.value != b->value)
			fail_msg("%s (bad %td): %d (%s %u)", stream_command_name(b->opcode),
				b - bad, r, f.reason ? f.reason : "passed", f.value);
		assert_int_equal(f.command == NULL, b->opcode >= VIRGL_COMMANDS);
		stream_destroy(stream);
	}
}

/* The longest that each command of several elements may be, and one element more. */
static void test_counts_at_their_limits(void **state)
{
	static const struct {
		uint32_t opcode, first, elements, size;
	} rows[] = {
		{VIRGL_SET_VIEWPORT_STATE, 1, 16, 6},
		{VIRGL_SET_SCISSOR_STATE, 1, 16, 2},
		{VIRGL_SET_VERTEX_BUFFERS, 0, 32, 3},
		{VIRGL_SET_SAMPLER_VIEWS, 2, 128, 1},
		{VIRGL_BIND_SAMPLER_STATES, 2, 32, 1},
		{VIRGL_SET_STREAMOUT_TARGETS, 1, 16, 1},
		{VIRGL_SET_SHADER_BUFFERS, 2, 32, 3},
		{VIRGL_SET_SHADER_IMAGES, 2, 32, 5},
		{VIRGL_SET_ATOMIC_BUFFERS, 1, 32, 3},
	};
	static const uint32_t zeros[256];
	struct stream *stream = new_stream(&test_limits);

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		uint32_t n = rows[i].first + rows[i].elements * rows[i].size;
		assert_int_equal(check(stream, rows[i].opcode, 0, zeros, n, NULL), 0);
		assert_int_equal(
			check(stream, rows[i].opcode, 0, zeros, n + rows[i].size, NULL), -EINVAL);
	}
	stream_destroy(stream);
}

static void test_every_opcode_has_a_test_and_a_name(void **state)
{
	bool seen[VIRGL_COMMANDS] = {
		[VIRGL_SET_DEBUG_FLAGS] = true, [VIRGL_GET_MEMORY_INFO] = true};

	FOR_EACH_EXAMPLE(e)
	seen[e->opcode] = true;
	for (const struct bad *b = bad; b != &bad[ARRAY_SIZE(bad)]; b++) {
		if (b->error == -ENOTSUP)
			seen[b->opcode] = true;
	}
	for (uint32_t i = 0; i < VIRGL_COMMANDS; i++) {
		if (!seen[i])
			fail_msg("%s has no example", stream_command_name(i));
		assert_string_not_equal(stream_command_name(i), "UNKNOWN");
	}
	assert_string_equal(stream_command_name(64), "UNKNOWN");
	assert_string_equal(stream_command_name(43), "TRANSFER3D");
}

static void on_memory_info(void *data, uint32_t handle)
{
	*(uint32_t *)data = handle;
}

static void test_what_becomes_a_nop(void **state)
{
	const struct stream_resource_ops asked = {
		.resolve = test_resources.resolve, .memory_info = on_memory_info};
	struct stream *stream = new_stream(&test_limits);
	uint32_t flags[] = {VIRGL_HEADER(VIRGL_SET_DEBUG_FLAGS, 0, 1), 'a'};
	uint32_t info[] = {VIRGL_HEADER(VIRGL_GET_MEMORY_INFO, 0, 1), RES(2)};
	uint32_t handle = 0;

	assert_int_equal(stream_check(stream, flags, 2, NULL), 0);
	assert_int_equal(flags[0], VIRGL_HEADER(VIRGL_NOP, 0, 1));
	assert_int_equal(stream_check(stream, info, 2, NULL), 0);
	assert_int_equal(info[0], VIRGL_HEADER(VIRGL_NOP, 0, 1));
	stream_destroy(stream);

	assert_int_equal(stream_create(&test_limits, NULL, &asked, &handle, &stream), 0);
	info[0] = VIRGL_HEADER(VIRGL_GET_MEMORY_INFO, 0, 1);
	assert_int_equal(stream_check(stream, info, 2, NULL), 0);
	assert_int_equal(info[0], VIRGL_HEADER(VIRGL_NOP, 0, 1));
	assert_int_equal(handle, RES(2));
	stream_destroy(stream);
}

struct taken_over {
	struct stream_transfer last;
	int result;
};

static int on_transfer(void *data, const struct stream_transfer *transfer)
{
	struct taken_over *t = data;
	t->last = *transfer;
	return t->result;
}

static struct stream_resource *resolve_for_transfer(void *data, uint32_t handle)
{
	return test_resources.resolve(NULL, handle);
}

static int check_answering(
	struct stream *stream, struct taken_over *t, int result, uint32_t *dw, size_t n)
{
	t->result = result;
	return stream_check(stream, dw, n, NULL);
}

static void test_transfers_are_offered_to_the_device(void **state)
{
	const struct stream_resource_ops ops = {
		.resolve = resolve_for_transfer, .transfer = on_transfer};
	const uint32_t original[] = {VIRGL_HEADER(VIRGL_NOP, 0, 0),
		VIRGL_HEADER(VIRGL_TRANSFER3D, 0, 13), RES(4), 1, 0, 2, 3, 10, 11, 12, 13, 14, 15,
		77, 2, VIRGL_HEADER(VIRGL_COPY_TRANSFER3D, 0, 14), RES(5), 1, 0, 2, 3, 10, 11, 12,
		13, 14, 15, RES(6), 88, 1};
	uint32_t dw[ARRAY_SIZE(original)];
	struct taken_over t = {.result = -EAGAIN};
	struct stream_fault fault;
	struct stream *stream;

	assert_int_equal(stream_create(&test_limits, NULL, &ops, &t, &stream), 0);
	memcpy(dw, original, sizeof(dw));
	assert_int_equal(stream_check(stream, dw, ARRAY_SIZE(dw), &fault), -EAGAIN);
	assert_int_equal(fault.offset, 1);
	assert_memory_equal(dw, original, sizeof(dw));
	assert_int_equal(t.last.res->id, RENDERER(4));
	assert_null(t.last.from);
	assert_int_equal(t.last.depth, 15);
	assert_int_equal(t.last.offset, 77);
	assert_true(t.last.from_host);

	t.result = 0;
	assert_int_equal(stream_check(stream, dw + 1, ARRAY_SIZE(dw) - 1, &fault), 0);
	assert_int_equal(stream_counters(stream)->commands, 3);
	assert_int_equal(stream_counters(stream)->bytes, sizeof(dw));
	assert_int_equal(dw[2], RENDERER(4));
	assert_int_equal(t.last.res->id, RENDERER(5));
	assert_true(t.last.from && t.last.from->id == RENDERER(6));
	assert_int_equal(t.last.offset, 88);
	assert_false(t.last.from_host);

	memcpy(dw, original, sizeof(dw));
	assert_int_equal(check_answering(stream, &t, 1, dw, ARRAY_SIZE(dw)), 0);
	assert_int_equal(dw[1], VIRGL_HEADER(VIRGL_NOP, 0, 13));
	assert_int_equal(dw[15], VIRGL_HEADER(VIRGL_NOP, 0, 14));

	memcpy(dw, original, sizeof(dw));
	assert_int_equal(check_answering(stream, &t, -EPERM, dw, ARRAY_SIZE(dw)), -EPERM);
	stream_destroy(stream);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_examples_pass_and_exactly_their_resources_are_translated),
		cmocka_unit_test(test_one_dword_less_or_more),
		cmocka_unit_test(test_a_command_longer_than_the_buffer),
		cmocka_unit_test(test_unknown_resources_and_none),
		cmocka_unit_test(test_unknown_objects_and_ones_of_another_type),
		cmocka_unit_test(test_bad_commands),
		cmocka_unit_test(test_counts_at_their_limits),
		cmocka_unit_test(test_every_opcode_has_a_test_and_a_name),
		cmocka_unit_test(test_what_becomes_a_nop),
		cmocka_unit_test(test_transfers_are_offered_to_the_device),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
