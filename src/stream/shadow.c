/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shadow: what is bound and set in each sub-context, kept so that save_bindings.c can say it
 * again. What supersedes what is as in virglrenderer 0.10.4. A command gets here once it is
 * accepted and its resources are translated.
 *
 * Resources bound here are referred to, so the device keeps them while the library may use them:
 * it holds bare pointers to what is bound as uniform, storage and atomic buffers and as images.
 */
#include "stream/internal.h"

#include "base/checked.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef int (*apply_fn)(struct stream *stream, struct command *command);

static inline void set_bit(uint32_t *mask, uint32_t bit, bool set)
{
	*mask = (*mask & ~(1u << bit)) | (uint32_t)set << bit;
}

/* ---- marks ---- */

static void mark_surface(const struct stream *stream, const struct stream_object *surface)
{
	if (surface)
		mark_written(stream, surface->res);
}

void mark_framebuffer(struct stream *stream, struct stream_sub_context *sub)
{
	sub->drew &= ~(uint32_t)DREW_FRAMEBUFFER;
	mark_surface(stream, sub->framebuffer.depth);
	for (uint32_t i = 0; i < sub->framebuffer.n; i++)
		mark_surface(stream, sub->framebuffer.colour[i]);
}

static void mark_ranges(
	const struct stream *stream, const struct bound_range *ranges, uint32_t mask)
{
	for (; mask; mask &= mask - 1)
		mark_written(stream, ranges[__builtin_ctz(mask)].res);
}

/* Images bound for reading too: the library warns of an unknown access and goes on. */
static void mark_images(const struct stream *stream, const struct stream_stage *stage)
{
	for (uint32_t mask = stage->images; mask; mask &= mask - 1)
		mark_written(stream, stage->image[__builtin_ctz(mask)].res);
}

void mark_others(struct stream *stream, struct stream_sub_context *sub)
{
	sub->drew &= ~(uint32_t)DREW_OTHERS;
	for (uint32_t i = 0; i < VIRGL_STAGES; i++) {
		mark_ranges(stream, sub->stages[i].buffer, sub->stages[i].buffers);
		mark_images(stream, &sub->stages[i]);
	}
	mark_ranges(stream, sub->atomic, sub->atomics);
	mark_streamout(stream, sub);
}

/* What is bound for writing by all that is not the framebuffer changes. */
static inline void before_others_change(struct stream *stream)
{
	if (stream->current->drew & DREW_OTHERS)
		mark_others(stream, stream->current);
}

static int apply_draw(struct stream *stream, struct command *command)
{
	stream->current->drew |= DREW_FRAMEBUFFER | DREW_OTHERS;
	return 0;
}

static int apply_clear(struct stream *stream, struct command *command)
{
	stream->current->drew |= DREW_FRAMEBUFFER;
	return 0;
}

static int apply_launch_grid(struct stream *stream, struct command *command)
{
	stream->current->drew |= DREW_OTHERS;
	return 0;
}

/* The first resource of the command is its destination. */
static int apply_write(struct stream *stream, struct command *command)
{
	mark_written(stream, command->res[0]);
	return 0;
}

/* {resource, where to put the answer, ...} */
static int apply_layout(struct stream *stream, struct command *command)
{
	if (command->len >= 2)
		mark_written(stream, command->res[1]);
	return 0;
}

static int apply_transfer3d(struct stream *stream, struct command *command)
{
	if (command->dw[13] == VIRGL_TRANSFER_TO_HOST)
		mark_written(stream, command->res[0]);
	return 0;
}

static int apply_copy_transfer3d(struct stream *stream, struct command *command)
{
	mark_written(stream, command->res[command->dw[14] & VIRGL_COPY_TRANSFER_FROM_HOST ? 1 : 0]);
	return 0;
}

static int apply_clear_surface(struct stream *stream, struct command *command)
{
	mark_surface(stream, find_object(stream, command->dw[2], VIRGL_OBJECT_SURFACE));
	return 0;
}

/* ---- single states ---- */

const struct single_state single_states[VIRGL_COMMANDS] = {
	[VIRGL_SET_STENCIL_REF] = {0, 1},
	[VIRGL_SET_BLEND_COLOR] = {1, 4},
	[VIRGL_SET_POLYGON_STIPPLE] = {5, 32},
	[VIRGL_SET_CLIP_STATE] = {37, 32},
	[VIRGL_SET_SAMPLE_MASK] = {69, 1},
	[VIRGL_SET_TESS_STATE] = {70, 6},
	[VIRGL_SET_MIN_SAMPLES] = {76, 1},
	[VIRGL_SET_FRAMEBUFFER_STATE_NO_ATTACH] = {77, 2},
};
_Static_assert(77 + 2 == SINGLES_DWORDS, "one after the other");

static int apply_single(struct stream *stream, struct command *command)
{
	uint32_t opcode = VIRGL_HEADER_OPCODE(command->dw[0]);
	const struct single_state *state = &single_states[opcode];

	stream->current->singles_set |= 1ull << opcode;
	memcpy(&stream->current->singles[state->at], &command->dw[1], state->n * sizeof(uint32_t));
	return 0;
}

static int apply_viewports(struct stream *stream, struct command *command)
{
	struct stream_sub_context *sub = stream->current;
	const struct stream_object *rasterizer = sub->bound[BOUND_RASTERIZER];
	bool half_z = rasterizer && rasterizer->dwords[2] & VIRGL_RASTERIZER_HALF_Z;
	uint32_t n = (command->len - 1) / 6;

	for (uint32_t i = 0, slot = command->dw[1]; i < n; i++, slot++) {
		memcpy(sub->viewport[slot], &command->dw[2 + 6 * i], sizeof(sub->viewport[slot]));
		set_bit(&sub->viewports, slot, true);
		set_bit(&sub->half_z, slot, half_z);
	}
	return 0;
}

static int apply_scissors(struct stream *stream, struct command *command)
{
	struct stream_sub_context *sub = stream->current;
	uint32_t n = (command->len - 1) / 2;

	for (uint32_t i = 0, slot = command->dw[1]; i < n; i++, slot++) {
		memcpy(sub->scissor[slot], &command->dw[2 + 2 * i], sizeof(sub->scissor[slot]));
		set_bit(&sub->scissors, slot, true);
	}
	return 0;
}

/* {tweak, value}; libraries know three, and none will know more than its mask has bits. */
static int apply_tweaks(struct stream *stream, struct command *command)
{
	struct stream_sub_context *sub = stream->current;
	uint32_t id = command->dw[1];

	if (id < ARRAY_SIZE(sub->tweak)) {
		sub->tweak[id] = command->dw[2];
		set_bit(&sub->tweaks, id, true);
	}
	return 0;
}

static int apply_constants(struct stream *stream, struct command *command)
{
	struct stream_stage *stage = &stream->current->stages[command->dw[1]];
	uint32_t n = command->len - 2;

	if (n > stage->constants_room) {
		uint64_t more = (uint64_t)(n - stage->constants_room) * sizeof(uint32_t);
		int r = charge_host(stream, more); /* the library's copy */
		if (r == 0 && (r = charge_kept(stream, more)) < 0)
			uncharge_host(stream, more);
		if (r < 0)
			return refuse(command, r, "no room to keep constants", n);
		uint32_t *grown = realloc(stage->constants, n * sizeof(uint32_t));
		if (!grown) {
			uncharge_kept(stream, more);
			uncharge_host(stream, more);
			return refuse(command, -ENOMEM, "no memory for constants", n);
		}
		stage->constants = grown;
		stage->constants_room = n;
	}
	if (n)
		memcpy(stage->constants, &command->dw[3], n * sizeof(uint32_t));
	stage->constants_n = n;
	return 0;
}

/* ---- objects ---- */

static int apply_bind_object(struct stream *stream, struct command *command)
{
	static const uint8_t places[VIRGL_OBJECTS] = {
		[VIRGL_OBJECT_BLEND] = BOUND_BLEND,
		[VIRGL_OBJECT_RASTERIZER] = BOUND_RASTERIZER,
		[VIRGL_OBJECT_DSA] = BOUND_DSA,
		[VIRGL_OBJECT_VERTEX_ELEMENTS] = BOUND_VERTEX_ELEMENTS,
	};
	uint32_t type = VIRGL_HEADER_TYPE(command->dw[0]);

	bind_object(stream, &stream->current->bound[places[type]],
		find_object(stream, command->dw[1], type));
	return 0;
}

/* The library binds nothing new for a handle that is no shader of that stage. */
static int apply_bind_shader(struct stream *stream, struct command *command)
{
	uint32_t handle = command->dw[1], stage = command->dw[2];
	struct stream_object *shader = find_object(stream, handle, VIRGL_OBJECT_SHADER);

	if (!handle || (shader && shader->stage == stage))
		bind_object(stream, &stream->current->stages[stage].shader, shader);
	return 0;
}

/* {stage, start, views ...}: what is behind them is unbound. */
static int apply_sampler_views(struct stream *stream, struct command *command)
{
	struct stream_stage *stage = &stream->current->stages[command->dw[1]];
	uint32_t slot = command->dw[2], old = stage->views_count;

	for (uint32_t at = 3; at <= command->len; at++, slot++) {
		struct stream_object *view =
			find_object(stream, command->dw[at], VIRGL_OBJECT_SAMPLER_VIEW);
		if (view && view != stage->view[slot])
			view->made = ++stream->views_bound;
		bind_object(stream, &stage->view[slot], view);
	}
	stage->views_count = slot;
	for (; slot < old; slot++)
		bind_object(stream, &stage->view[slot], NULL);
	return 0;
}

static int apply_sampler_states(struct stream *stream, struct command *command)
{
	struct stream_stage *stage = &stream->current->stages[command->dw[1]];
	uint32_t slot = command->dw[2];

	for (uint32_t at = 3; at <= command->len; at++, slot++)
		bind_object(stream, &stage->sampler[slot],
			find_object(stream, command->dw[at], VIRGL_OBJECT_SAMPLER_STATE));
	stage->samplers_count = command->len - 2;
	return 0;
}

/* {count, depth, colours ...} */
static int apply_framebuffer(struct stream *stream, struct command *command)
{
	struct stream_sub_context *sub = stream->current;
	uint32_t n = command->dw[1], old = sub->framebuffer.n;

	if (sub->drew & DREW_FRAMEBUFFER)
		mark_framebuffer(stream, sub);
	bind_object(stream, &sub->framebuffer.depth,
		find_object(stream, command->dw[2], VIRGL_OBJECT_SURFACE));
	for (uint32_t i = 0; i < n; i++)
		bind_object(stream, &sub->framebuffer.colour[i],
			find_object(stream, command->dw[3 + i], VIRGL_OBJECT_SURFACE));
	for (uint32_t i = n; i < old; i++)
		bind_object(stream, &sub->framebuffer.colour[i], NULL);
	sub->framebuffer.n = n;
	sub->framebuffer.set = true;
	return 0;
}

/* ---- resources ---- */

static int apply_vertex_buffers(struct stream *stream, struct command *command)
{
	struct stream_sub_context *sub = stream->current;
	uint32_t n = command->len / 3;

	for (uint32_t i = 0; i < n; i++) {
		sub->vertices[i].stride = command->dw[1 + 3 * i];
		sub->vertices[i].offset = command->dw[2 + 3 * i];
		bind_resource(stream, &sub->vertices[i].res, command->res[i]);
	}
	for (uint32_t i = n; i < sub->vertices_n; i++)
		bind_resource(stream, &sub->vertices[i].res, NULL);
	sub->vertices_n = n;
	return 0;
}

static int apply_index_buffer(struct stream *stream, struct command *command)
{
	struct stream_sub_context *sub = stream->current;

	sub->index.set = true;
	sub->index.size = command->len == 3 ? command->dw[2] : 0;
	sub->index.offset = command->len == 3 ? command->dw[3] : 0;
	bind_resource(stream, &sub->index.res, command->res[0]);
	return 0;
}

static void set_range(struct stream *stream, struct bound_range *ranges, uint32_t *mask,
	uint32_t slot, uint32_t offset, uint32_t size, struct stream_resource *res)
{
	ranges[slot].offset = offset;
	ranges[slot].size = size;
	bind_resource(stream, &ranges[slot].res, res);
	set_bit(mask, slot, res);
}

/* {stage, slot, offset, size, resource} */
static int apply_uniform_buffer(struct stream *stream, struct command *command)
{
	struct stream_stage *stage = &stream->current->stages[command->dw[1]];

	set_range(stream, stage->uniform, &stage->uniforms, command->dw[2], command->dw[3],
		command->dw[4], command->res[0]);
	return 0;
}

/* {stage, start, {offset, size, resource} ...} */
static int apply_shader_buffers(struct stream *stream, struct command *command)
{
	struct stream_stage *stage = &stream->current->stages[command->dw[1]];
	const uint32_t *dw = &command->dw[3];

	before_others_change(stream);
	for (uint32_t i = 0; i < (command->len - 2) / 3; i++, dw += 3)
		set_range(stream, stage->buffer, &stage->buffers, command->dw[2] + i, dw[0], dw[1],
			command->res[i]);
	return 0;
}

static int apply_atomic_buffers(struct stream *stream, struct command *command)
{
	struct stream_sub_context *sub = stream->current;
	const uint32_t *dw = &command->dw[2];

	before_others_change(stream);
	for (uint32_t i = 0; i < (command->len - 1) / 3; i++, dw += 3)
		set_range(stream, sub->atomic, &sub->atomics, command->dw[1] + i, dw[0], dw[1],
			command->res[i]);
	return 0;
}

/* {stage, start, {format, access, layers, level, resource} ...} */
static int apply_shader_images(struct stream *stream, struct command *command)
{
	struct stream_stage *stage = &stream->current->stages[command->dw[1]];

	before_others_change(stream);
	for (uint32_t i = 0; i < (command->len - 2) / 5; i++) {
		uint32_t slot = command->dw[2] + i;
		struct bound_image *image = &stage->image[slot];
		memcpy(image->raw, &command->dw[3 + 5 * i], sizeof(image->raw));
		bind_resource(stream, &image->res, command->res[i]);
		set_bit(&stage->images, slot, command->res[i]);
	}
	return 0;
}

/* ---- */

static const apply_fn apply[VIRGL_COMMANDS] = {
	[VIRGL_BIND_OBJECT] = apply_bind_object,
	[VIRGL_BIND_SHADER] = apply_bind_shader,
	[VIRGL_SET_VIEWPORT_STATE] = apply_viewports,
	[VIRGL_SET_SCISSOR_STATE] = apply_scissors,
	[VIRGL_SET_FRAMEBUFFER_STATE] = apply_framebuffer,
	[VIRGL_SET_VERTEX_BUFFERS] = apply_vertex_buffers,
	[VIRGL_SET_INDEX_BUFFER] = apply_index_buffer,
	[VIRGL_SET_CONSTANT_BUFFER] = apply_constants,
	[VIRGL_SET_UNIFORM_BUFFER] = apply_uniform_buffer,
	[VIRGL_SET_SAMPLER_VIEWS] = apply_sampler_views,
	[VIRGL_BIND_SAMPLER_STATES] = apply_sampler_states,
	[VIRGL_SET_SHADER_BUFFERS] = apply_shader_buffers,
	[VIRGL_SET_SHADER_IMAGES] = apply_shader_images,
	[VIRGL_SET_ATOMIC_BUFFERS] = apply_atomic_buffers,
	[VIRGL_SET_STENCIL_REF] = apply_single,
	[VIRGL_SET_BLEND_COLOR] = apply_single,
	[VIRGL_SET_POLYGON_STIPPLE] = apply_single,
	[VIRGL_SET_CLIP_STATE] = apply_single,
	[VIRGL_SET_SAMPLE_MASK] = apply_single,
	[VIRGL_SET_TESS_STATE] = apply_single,
	[VIRGL_SET_MIN_SAMPLES] = apply_single,
	[VIRGL_SET_FRAMEBUFFER_STATE_NO_ATTACH] = apply_single,
	[VIRGL_SET_TWEAKS] = apply_tweaks,
	[VIRGL_SET_STREAMOUT_TARGETS] = apply_streamout,
	[VIRGL_SET_RENDER_CONDITION] = apply_render_condition,
	[VIRGL_BEGIN_QUERY] = apply_begin_query,
	[VIRGL_END_QUERY] = apply_end_query,
	[VIRGL_GET_QUERY_RESULT] = apply_query_result,
	[VIRGL_GET_QUERY_RESULT_QBO] = apply_query_result_qbo,
	[VIRGL_DRAW_VBO] = apply_draw,
	[VIRGL_CLEAR] = apply_clear,
	[VIRGL_LAUNCH_GRID] = apply_launch_grid,
	[VIRGL_BLIT] = apply_write,
	[VIRGL_RESOURCE_COPY_REGION] = apply_write,
	[VIRGL_RESOURCE_INLINE_WRITE] = apply_write,
	[VIRGL_CLEAR_TEXTURE] = apply_write,
	[VIRGL_CLEAR_SURFACE] = apply_clear_surface,
	[VIRGL_PIPE_RESOURCE_SET_TYPE] = apply_write,
	[VIRGL_TRANSFER3D] = apply_transfer3d,
	[VIRGL_COPY_TRANSFER3D] = apply_copy_transfer3d,
	[VIRGL_GET_PIPE_RESOURCE_LAYOUT] = apply_layout,
};

int shadow_apply(struct stream *stream, struct command *command, uint32_t opcode)
{
	return apply[opcode] ? apply[opcode](stream, command) : 0;
}

static void release_stage(struct stream *stream, struct stream_stage *stage)
{
	bind_object(stream, &stage->shader, NULL);
	for (uint32_t i = 0; i < stage->views_count; i++)
		bind_object(stream, &stage->view[i], NULL);
	for (uint32_t i = 0; i < VIRGL_SAMPLERS; i++)
		bind_object(stream, &stage->sampler[i], NULL);
	for (uint32_t i = 0; i < VIRGL_UNIFORM_BUFFERS; i++)
		bind_resource(stream, &stage->uniform[i].res, NULL);
	for (uint32_t i = 0; i < VIRGL_SHADER_BUFFERS; i++)
		bind_resource(stream, &stage->buffer[i].res, NULL);
	for (uint32_t i = 0; i < VIRGL_SHADER_IMAGES; i++)
		bind_resource(stream, &stage->image[i].res, NULL);
	uncharge_kept(stream, stage->constants_room * sizeof(uint32_t));
	uncharge_host(stream, stage->constants_room * sizeof(uint32_t));
	free(stage->constants);
}

void shadow_release(struct stream *stream, struct stream_sub_context *sub)
{
	for (uint32_t i = 0; i < BINDABLES; i++)
		bind_object(stream, &sub->bound[i], NULL);
	bind_object(stream, &sub->framebuffer.depth, NULL);
	for (uint32_t i = 0; i < sub->framebuffer.n; i++)
		bind_object(stream, &sub->framebuffer.colour[i], NULL);
	for (uint32_t i = 0; i < sub->vertices_n; i++)
		bind_resource(stream, &sub->vertices[i].res, NULL);
	bind_resource(stream, &sub->index.res, NULL);
	for (uint32_t i = 0; i < VIRGL_STAGES; i++)
		release_stage(stream, &sub->stages[i]);
	for (uint32_t i = 0; i < VIRGL_ATOMIC_BUFFERS; i++)
		bind_resource(stream, &sub->atomic[i].res, NULL);
	drop_streamouts(stream, sub, NULL);
	bind_object(stream, &sub->render_condition.query, NULL);
}
