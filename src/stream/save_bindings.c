/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saving, second half: what is bound and set, and a walk over the stream-output lists. What the
 * library computes at once from what is bound at that time comes after it: the framebuffer before
 * MIN_SAMPLES, the rasterizer before viewports.
 */
#include "stream/save_internal.h"

#include "base/checked.h"

#include <errno.h>
#include <string.h>

/* The next run of set bits from *from on. */
static bool next_run(uint32_t mask, uint32_t *from, uint32_t *ret_count)
{
	if (*from >= 32 || !(mask >> *from))
		return false;
	*from += (uint32_t)__builtin_ctz(mask >> *from);
	uint32_t clear = ~(mask >> *from);
	*ret_count = clear ? (uint32_t)__builtin_ctz(clear) : 32;
	return true;
}

#define FOR_EACH_RUN(mask, from, count)                                                            \
	for (uint32_t from = 0, count = 0; next_run(mask, &from, &count); from += count)

static uint32_t id_of(const struct stream_resource *res)
{
	return res ? res->id : 0;
}

/* ---- state ---- */

static void save_tweaks(struct save_out *out, const struct stream_sub_context *sub)
{
	for (uint32_t mask = sub->tweaks; mask; mask &= mask - 1) {
		uint32_t id = (uint32_t)__builtin_ctz(mask);
		uint32_t *dw = save_put(out, VIRGL_SET_TWEAKS, 0, 2);
		dw[0] = id;
		dw[1] = sub->tweak[id];
	}
}

static void save_framebuffer(struct save_out *out, const struct stream_sub_context *sub)
{
	uint32_t n = sub->framebuffer.n;

	if (!sub->framebuffer.set)
		return;
	uint32_t *dw = save_put(out, VIRGL_SET_FRAMEBUFFER_STATE, 0, 2 + n);
	dw[0] = n;
	dw[1] = save_handle(sub->framebuffer.depth);
	for (uint32_t i = 0; i < n; i++)
		dw[2 + i] = save_handle(sub->framebuffer.colour[i]);
}

static void save_viewports(
	struct save_out *out, const struct stream_sub_context *sub, uint32_t slots)
{
	FOR_EACH_RUN(slots, from, count)
	{
		uint32_t *dw = save_put(out, VIRGL_SET_VIEWPORT_STATE, 0, 1 + 6 * count);
		dw[0] = from;
		memcpy(&dw[1], sub->viewport[from], count * sizeof(sub->viewport[0]));
	}
}

static void save_scissors(struct save_out *out, const struct stream_sub_context *sub)
{
	FOR_EACH_RUN(sub->scissors, from, count)
	{
		uint32_t *dw = save_put(out, VIRGL_SET_SCISSOR_STATE, 0, 1 + 2 * count);
		dw[0] = from;
		memcpy(&dw[1], sub->scissor[from], count * sizeof(sub->scissor[0]));
	}
}

static bool half_z_now(const struct stream_sub_context *sub)
{
	const struct stream_object *rasterizer = sub->bound[BOUND_RASTERIZER];
	return rasterizer && rasterizer->dwords[2] & VIRGL_RASTERIZER_HALF_Z;
}

uint32_t save_viewports_of_other_range(const struct stream_sub_context *sub)
{
	return sub->viewports & (half_z_now(sub) ? ~sub->half_z : sub->half_z);
}

/* No rasterizer counts as one without half depth; one with it is made for the purpose. */
static void save_viewports_before(
	struct save_out *out, const struct stream_sub_context *sub, uint32_t temporary)
{
	const uint32_t rasterizer[9] = {temporary, VIRGL_RASTERIZER_HALF_Z};
	uint32_t slots = save_viewports_of_other_range(sub);

	if (!slots)
		return;
	if (!half_z_now(sub)) {
		memcpy(save_put(out, VIRGL_CREATE_OBJECT, VIRGL_OBJECT_RASTERIZER,
			       ARRAY_SIZE(rasterizer)),
			rasterizer, sizeof(rasterizer));
		save_put1(out, VIRGL_BIND_OBJECT, VIRGL_OBJECT_RASTERIZER, temporary);
	}
	save_viewports(out, sub, slots);
	if (!half_z_now(sub)) {
		save_put1(out, VIRGL_BIND_OBJECT, VIRGL_OBJECT_RASTERIZER, 0);
		save_put1(out, VIRGL_DESTROY_OBJECT, VIRGL_OBJECT_RASTERIZER, temporary);
	}
}

static void save_bound_objects(struct save_out *out, const struct stream_sub_context *sub)
{
	static const uint32_t types[BINDABLES] = {
		[BOUND_BLEND] = VIRGL_OBJECT_BLEND,
		[BOUND_RASTERIZER] = VIRGL_OBJECT_RASTERIZER,
		[BOUND_DSA] = VIRGL_OBJECT_DSA,
		[BOUND_VERTEX_ELEMENTS] = VIRGL_OBJECT_VERTEX_ELEMENTS,
	};

	for (uint32_t i = 0; i < BINDABLES; i++) {
		if (sub->bound[i])
			save_put1(out, VIRGL_BIND_OBJECT, types[i], save_handle(sub->bound[i]));
	}
}

static void save_singles(struct save_out *out, const struct stream_sub_context *sub)
{
	for (uint32_t opcode = 0; opcode < VIRGL_COMMANDS; opcode++) {
		const struct single_state *state = &single_states[opcode];
		if (sub->singles_set >> opcode & 1)
			memcpy(save_put(out, opcode, 0, state->n), &sub->singles[state->at],
				state->n * sizeof(uint32_t));
	}
}

static void save_vertex_buffers(struct save_out *out, const struct stream_sub_context *sub)
{
	if (sub->vertices_n) {
		uint32_t *dw = save_put(out, VIRGL_SET_VERTEX_BUFFERS, 0, 3 * sub->vertices_n);
		for (uint32_t i = 0; i < sub->vertices_n; i++) {
			*dw++ = sub->vertices[i].stride;
			*dw++ = sub->vertices[i].offset;
			*dw++ = id_of(sub->vertices[i].res);
		}
	}
	if (sub->index.set) {
		uint32_t *dw = save_put(out, VIRGL_SET_INDEX_BUFFER, 0, 3);
		dw[0] = id_of(sub->index.res);
		dw[1] = sub->index.size;
		dw[2] = sub->index.offset;
	}
}

/* ---- stages ---- */

static void save_constants(struct save_out *out, const struct stream_stage *s, uint32_t stage)
{
	if (!s->constants_n)
		return;
	uint32_t *dw = save_put(out, VIRGL_SET_CONSTANT_BUFFER, 0, 2 + s->constants_n);
	dw[0] = stage;
	dw[1] = 0; /* the library takes no notice of it */
	memcpy(&dw[2], s->constants, s->constants_n * sizeof(*dw));
}

static void save_uniforms(struct save_out *out, const struct stream_stage *s, uint32_t stage)
{
	for (uint32_t mask = s->uniforms; mask; mask &= mask - 1) {
		uint32_t slot = (uint32_t)__builtin_ctz(mask);
		uint32_t *dw = save_put(out, VIRGL_SET_UNIFORM_BUFFER, 0, 5);
		dw[0] = stage;
		dw[1] = slot;
		dw[2] = s->uniform[slot].offset;
		dw[3] = s->uniform[slot].size;
		dw[4] = s->uniform[slot].res->id;
	}
}

static void put_samplers(
	struct save_out *out, const struct stream_stage *s, uint32_t stage, uint32_t n)
{
	uint32_t *dw = save_put(out, VIRGL_BIND_SAMPLER_STATES, 0, 2 + n);

	dw[0] = stage;
	dw[1] = 0;
	for (uint32_t i = 0; i < n; i++)
		dw[2 + i] = save_handle(s->sampler[i]);
}

/* The library also keeps how many the last command set. */
static void save_samplers(struct save_out *out, const struct stream_stage *s, uint32_t stage)
{
	uint32_t n = VIRGL_SAMPLERS;

	while (n && !s->sampler[n - 1])
		n--;
	if (n)
		put_samplers(out, s, stage, n);
	if (s->samplers_count != n)
		put_samplers(out, s, stage, s->samplers_count);
}

static uint32_t *put_ranges(
	uint32_t *dw, const struct bound_range *ranges, uint32_t from, uint32_t count)
{
	for (uint32_t i = from; i < from + count; i++) {
		*dw++ = ranges[i].offset;
		*dw++ = ranges[i].size;
		*dw++ = ranges[i].res->id;
	}
	return dw;
}

static void save_shader_buffers(struct save_out *out, const struct stream_stage *s, uint32_t stage)
{
	FOR_EACH_RUN(s->buffers, from, count)
	{
		uint32_t *dw = save_put(out, VIRGL_SET_SHADER_BUFFERS, 0, 2 + 3 * count);
		dw[0] = stage;
		dw[1] = from;
		put_ranges(&dw[2], s->buffer, from, count);
	}
}

static void save_shader_images(struct save_out *out, const struct stream_stage *s, uint32_t stage)
{
	FOR_EACH_RUN(s->images, from, count)
	{
		uint32_t *dw = save_put(out, VIRGL_SET_SHADER_IMAGES, 0, 2 + 5 * count);
		*dw++ = stage;
		*dw++ = from;
		for (uint32_t i = from; i < from + count; i++) {
			memcpy(dw, s->image[i].raw, sizeof(s->image[i].raw));
			dw[4] = s->image[i].res->id;
			dw += 5;
		}
	}
}

static void save_stage(struct save_out *out, const struct stream_sub_context *sub, uint32_t stage)
{
	const struct stream_stage *s = &sub->stages[stage];

	if (s->shader) {
		uint32_t *dw = save_put(out, VIRGL_BIND_SHADER, 0, 2);
		dw[0] = save_handle(s->shader);
		dw[1] = stage;
	}
	save_constants(out, s, stage);
	save_uniforms(out, s, stage);
	if (s->views_count)
		save_put_views(out, s, stage, 0, false);
	save_samplers(out, s, stage);
	save_shader_buffers(out, s, stage);
	save_shader_images(out, s, stage);
}

static void save_atomics(struct save_out *out, const struct stream_sub_context *sub)
{
	FOR_EACH_RUN(sub->atomics, from, count)
	{
		uint32_t *dw = save_put(out, VIRGL_SET_ATOMIC_BUFFERS, 0, 1 + 3 * count);
		dw[0] = from;
		put_ranges(&dw[1], sub->atomic, from, count);
	}
}

/* ---- queries and stream output ---- */

static int save_active_queries(struct save_out *out, const struct stream_sub_context *sub)
{
	struct stream_object **objects;
	uint32_t n;
	int r = save_sort_objects(sub, &objects, &n);

	if (r < 0)
		return r;
	for (uint32_t i = 0; i < n; i++) {
		if (objects[i]->type == VIRGL_OBJECT_QUERY && objects[i]->active)
			save_put1(out, VIRGL_BEGIN_QUERY, 0, objects[i]->handle);
	}
	free(objects);
	return 0;
}

static void put_streamout(struct save_out *out, const struct streamout_list *list)
{
	uint32_t n = list ? list->n : 0;
	uint32_t *dw = save_put(out, VIRGL_SET_STREAMOUT_TARGETS, 0, 1 + n);

	dw[0] = list ? list->append : 0;
	for (uint32_t i = 0; i < n; i++)
		dw[1 + i] = save_handle(list->target[i]);
}

static void save_streamout(struct save_out *out, const struct stream_sub_context *sub)
{
	for (const struct streamout_list *list = sub->streamouts; list; list = list->next)
		put_streamout(out, list);
	if (sub->streamouts)
		put_streamout(out, sub->streamout);
}

static void save_render_condition(struct save_out *out, const struct stream_sub_context *sub)
{
	if (!sub->render_condition.query)
		return;
	uint32_t *dw = save_put(out, VIRGL_SET_RENDER_CONDITION, 0, 3);
	dw[0] = save_handle(sub->render_condition.query);
	dw[1] = sub->render_condition.condition;
	dw[2] = sub->render_condition.mode;
}

/* ---- all of it ---- */

static int save_sub_context(
	struct save_out *out, const struct stream_sub_context *sub, struct save_gone *gone)
{
	save_find_gone(sub, gone);
	save_select(out, sub);
	save_tweaks(out, sub);
	save_framebuffer(out, sub);
	save_viewports_before(out, sub, save_unused_handle(sub, gone));
	save_bound_objects(out, sub);
	save_viewports(out, sub, sub->viewports & ~save_viewports_of_other_range(sub));
	save_scissors(out, sub);
	save_singles(out, sub);
	save_vertex_buffers(out, sub);
	for (uint32_t stage = 0; stage < VIRGL_STAGES; stage++)
		save_stage(out, sub, stage);
	save_atomics(out, sub);
	int r = save_active_queries(out, sub);
	if (r < 0)
		return r;
	save_streamout(out, sub);
	return 0;
}

/* The last of each: temporary handles go, and nothing is drawn without the condition. */
static void save_ends(
	struct save_out *out, const struct stream_sub_context *sub, struct save_gone *gone)
{
	save_find_gone(sub, gone);
	if (gone->n || sub->render_condition.query)
		save_select(out, sub);
	for (uint32_t i = 0; i < gone->n; i++)
		save_put1(out, VIRGL_DESTROY_OBJECT, gone->object[i]->type,
			gone->object[i]->temporary);
	save_render_condition(out, sub);
}

static int save_bindings(struct save_out *out, struct stream *stream,
	struct stream_sub_context *const *subs, uint32_t n, struct save_gone *gone)
{
	int r = 0;

	for (uint32_t i = 0; i < n && r >= 0; i++)
		r = save_sub_context(out, subs[i], gone);
	if (r >= 0)
		r = save_views_again(out, subs, n);
	for (uint32_t i = 0; i < n && r >= 0; i++)
		save_ends(out, subs[i], gone);
	save_put1(out, VIRGL_SET_SUB_CTX, 0, stream->current->id);
	return r;
}

int stream_save_bindings(struct stream *stream, stream_emit_fn emit, void *data)
{
	return save_all(stream, emit, data, save_bindings);
}

struct streamout_walk {
	struct save_out out;
	int (*visit)(void *data, uint32_t index);
	void *data;
	uint32_t index;
};

static int walk_sub_context(struct streamout_walk *walk, const struct stream_sub_context *sub)
{
	struct save_out *out = &walk->out;

	for (const struct streamout_list *list = sub->streamouts; list; list = list->next) {
		save_put1(out, VIRGL_SET_SUB_CTX, 0, sub->id);
		put_streamout(out, list);
		save_flush(out);
		int r = out->error < 0 ? out->error : walk->visit(walk->data, walk->index++);
		if (r < 0)
			return r;
	}
	return 0;
}

int stream_walk_streamout(struct stream *stream, stream_emit_fn emit, void *emit_data,
	int (*visit)(void *data, uint32_t index), void *data)
{
	struct streamout_walk walk = {.visit = visit, .data = data};
	struct stream_sub_context **subs;
	uint32_t n;
	int r = save_sort_sub_contexts(stream, &subs, &n);

	if (r < 0)
		return r;
	r = save_begin(&walk.out, emit, emit_data);
	if (r < 0) {
		free(subs);
		return r;
	}
	for (uint32_t i = 0; i < n && r >= 0; i++)
		r = walk_sub_context(&walk, subs[i]);
	walk.out.error = 0;
	for (uint32_t i = 0; i < n; i++) {
		if (!subs[i]->streamouts)
			continue;
		save_put1(&walk.out, VIRGL_SET_SUB_CTX, 0, subs[i]->id);
		put_streamout(&walk.out, subs[i]->streamout);
	}
	if (walk.out.n)
		save_put1(&walk.out, VIRGL_SET_SUB_CTX, 0, stream->current->id);
	int restored = save_end(&walk.out);
	free(subs);
	return r < 0 ? r : restored;
}
