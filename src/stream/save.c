/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saving, first half: the sub-contexts and objects, sorted by id and handle. Within a sub-context
 * come first the shaders, then the traces of long shaders whose handle went before their text was
 * whole (the library then takes no shader of that stage any more), the other objects, and last the
 * long shaders whose text is still coming.
 */
#include "stream/save_internal.h"

#include "base/checked.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- commands out ---- */

int save_begin(struct save_out *out, stream_emit_fn emit, void *data)
{
	*out = (struct save_out){.emit = emit, .data = data};
	out->dw = malloc(STREAM_SAVE_DWORDS * sizeof(*out->dw));
	return out->dw ? 0 : -ENOMEM;
}

void save_flush(struct save_out *out)
{
	if (out->n && out->error >= 0)
		out->error = out->emit(out->data, out->dw, out->n);
	out->n = 0;
}

int save_end(struct save_out *out)
{
	save_flush(out);
	free(out->dw);
	out->dw = NULL;
	return out->error < 0 ? out->error : 0;
}

uint32_t *save_put(struct save_out *out, uint32_t opcode, uint32_t type, uint32_t len)
{
	if (1 + (size_t)len > STREAM_SAVE_DWORDS - out->n)
		save_flush(out);
	uint32_t *dw = out->dw + out->n;
	dw[0] = VIRGL_HEADER(opcode, type, len);
	out->n += 1 + (size_t)len;
	return dw + 1;
}

void save_put1(struct save_out *out, uint32_t opcode, uint32_t type, uint32_t value)
{
	save_put(out, opcode, type, 1)[0] = value;
}

void save_select(struct save_out *out, const struct stream_sub_context *sub)
{
	if (out->selected != sub)
		save_put1(out, VIRGL_SET_SUB_CTX, 0, sub->id);
	out->selected = sub;
}

/* ---- order ---- */

static int by_id(const void *a, const void *b)
{
	const struct stream_sub_context *const *x = a, *const *y = b;
	return ((*x)->id > (*y)->id) - ((*x)->id < (*y)->id);
}

static int by_handle(const void *a, const void *b)
{
	const struct stream_object *const *x = a, *const *y = b;
	return ((*x)->handle > (*y)->handle) - ((*x)->handle < (*y)->handle);
}

static int sort_map(const struct idmap *map, int (*order)(const void *, const void *), void ***ret,
	uint32_t *ret_n)
{
	void **all = calloc((size_t)map->count + 1, sizeof(*all)), *one;
	uint32_t n = 0;

	if (!all)
		return -ENOMEM;
	for (uint32_t at = 0; (one = idmap_next(map, &at, NULL));)
		all[n++] = one;
	qsort(all, n, sizeof(*all), order);
	*ret = all;
	*ret_n = n;
	return 0;
}

int save_sort_sub_contexts(
	const struct stream *stream, struct stream_sub_context ***ret, uint32_t *ret_n)
{
	return sort_map(&stream->sub_contexts, by_id, (void ***)ret, ret_n);
}

int save_sort_objects(
	const struct stream_sub_context *sub, struct stream_object ***ret, uint32_t *ret_n)
{
	return sort_map(&sub->objects, by_handle, (void ***)ret, ret_n);
}

/* ---- what is bound without handle ---- */

typedef void (*object_fn)(void *data, struct stream_object *object);

/* Every object bound at a place where it may outlive its handle, as often as it is bound. */
static void each_bound(const struct stream_sub_context *sub, object_fn fn, void *data)
{
	for (uint32_t i = 0; i < BINDABLES; i++) {
		if (sub->bound[i])
			fn(data, sub->bound[i]);
	}
	if (sub->framebuffer.depth)
		fn(data, sub->framebuffer.depth);
	for (uint32_t i = 0; i < sub->framebuffer.n; i++) {
		if (sub->framebuffer.colour[i])
			fn(data, sub->framebuffer.colour[i]);
	}
	for (uint32_t stage = 0; stage < VIRGL_STAGES; stage++) {
		const struct stream_stage *s = &sub->stages[stage];
		if (s->shader)
			fn(data, s->shader);
		for (uint32_t i = 0; i < s->views_count; i++) {
			if (s->view[i])
				fn(data, s->view[i]);
		}
	}
}

static void forget_temporary(void *data, struct stream_object *object)
{
	object->temporary = 0;
}

static void collect_gone(void *data, struct stream_object *object)
{
	struct save_gone *gone = data;

	if (!object->gone || object->temporary)
		return;
	object->temporary = UINT32_MAX;
	gone->object[gone->n++] = object;
}

uint32_t save_unused_handle(const struct stream_sub_context *sub, struct save_gone *gone)
{
	while (idmap_get(&sub->objects, gone->next))
		gone->next--;
	return gone->next--;
}

void save_find_gone(const struct stream_sub_context *sub, struct save_gone *gone)
{
	gone->n = 0;
	gone->next = UINT32_MAX;
	each_bound(sub, forget_temporary, NULL);
	each_bound(sub, collect_gone, gone);
	for (uint32_t i = 0; i < gone->n; i++)
		gone->object[i]->temporary = save_unused_handle(sub, gone);
}

/* ---- objects ---- */

/* The commands that made it, with the handle it has now. */
static void save_object(struct save_out *out, const struct stream_object *object)
{
	for (uint32_t at = 0; at < object->n;) {
		const uint32_t *dw = &object->dwords[at];
		uint32_t len = VIRGL_HEADER_LENGTH(dw[0]);
		uint32_t *to =
			save_put(out, VIRGL_HEADER_OPCODE(dw[0]), VIRGL_HEADER_TYPE(dw[0]), len);
		memcpy(to, &dw[1], len * sizeof(*to));
		to[0] = save_handle(object);
		at += 1 + len;
	}
}

/* The library keeps waiting for the text of a shader that is gone: no other can be made. */
static bool awaits_lost_text(const struct stream_sub_context *sub, uint32_t stage)
{
	uint32_t handle = sub->long_shader[stage];
	const struct stream_object *shader = handle ? idmap_get(&sub->objects, handle) : NULL;

	return handle && !(shader && is_unfinished(shader) && shader->stage == stage);
}

/* A shader of which half is announced only, and gone: what its handle was does not matter. */
static void save_lost_text(struct save_out *out, uint32_t stage, uint32_t handle)
{
	const uint32_t begun[] = {handle, stage, 8, 1, 0, 0};

	memcpy(save_put(out, VIRGL_CREATE_OBJECT, VIRGL_OBJECT_SHADER, ARRAY_SIZE(begun)), begun,
		sizeof(begun));
	save_put1(out, VIRGL_DESTROY_OBJECT, VIRGL_OBJECT_SHADER, handle);
}

enum pass { WHOLE_SHADERS, OTHERS, UNFINISHED_SHADERS };

static enum pass pass_of(const struct stream_object *object)
{
	if (object->type != VIRGL_OBJECT_SHADER)
		return OTHERS;
	return is_unfinished(object) ? UNFINISHED_SHADERS : WHOLE_SHADERS;
}

static void save_pass(struct save_out *out, enum pass pass, struct stream_object *const *objects,
	uint32_t n, const struct save_gone *gone)
{
	for (uint32_t i = 0; i < n; i++) {
		if (pass_of(objects[i]) == pass)
			save_object(out, objects[i]);
	}
	for (uint32_t i = 0; i < gone->n; i++) {
		if (pass_of(gone->object[i]) == pass)
			save_object(out, gone->object[i]);
	}
}

static int save_sub_context_objects(
	struct save_out *out, const struct stream_sub_context *sub, struct save_gone *gone)
{
	struct stream_object **objects;
	uint32_t n;
	int r = save_sort_objects(sub, &objects, &n);

	if (r < 0)
		return r;
	save_put1(out, sub->id ? VIRGL_CREATE_SUB_CTX : VIRGL_SET_SUB_CTX, 0, sub->id);
	save_find_gone(sub, gone);
	save_pass(out, WHOLE_SHADERS, objects, n, gone);
	for (uint32_t stage = 0; stage < VIRGL_STAGES; stage++) {
		if (awaits_lost_text(sub, stage))
			save_lost_text(out, stage, save_unused_handle(sub, gone));
	}
	save_pass(out, OTHERS, objects, n, gone);
	save_pass(out, UNFINISHED_SHADERS, objects, n, gone);
	free(objects);
	return 0;
}

static int save_objects(struct save_out *out, struct stream *stream,
	struct stream_sub_context *const *subs, uint32_t n, struct save_gone *gone)
{
	int r = 0;

	for (uint32_t i = 0; i < n && r >= 0 && out->error >= 0; i++)
		r = save_sub_context_objects(out, subs[i], gone);
	return r;
}

int stream_save_objects(struct stream *stream, stream_emit_fn emit, void *data)
{
	return save_all(stream, emit, data, save_objects);
}

int save_all(struct stream *stream, stream_emit_fn emit, void *data, save_part part)
{
	struct stream_sub_context **subs;
	struct save_out out;
	uint32_t n;
	struct save_gone *gone = malloc(sizeof(*gone));
	int r = gone ? save_sort_sub_contexts(stream, &subs, &n) : -ENOMEM;

	if (r < 0)
		goto free_gone;
	r = save_begin(&out, emit, data);
	if (r < 0)
		goto free_subs;
	r = part(&out, stream, subs, n, gone);
	if (r < 0)
		out.error = r;
	r = save_end(&out);
free_subs:
	free(subs);
free_gone:
	free(gone);
	return r;
}

/* ---- what there is ---- */

int stream_each_query(struct stream *stream, stream_query_fn fn, void *data)
{
	struct stream_sub_context **subs;
	struct stream_object **objects;
	uint32_t n, n_objects;
	int r = save_sort_sub_contexts(stream, &subs, &n);

	if (r < 0)
		return r;
	for (uint32_t i = 0; i < n; i++) {
		r = save_sort_objects(subs[i], &objects, &n_objects);
		if (r < 0)
			break;
		for (uint32_t k = 0; k < n_objects; k++) {
			const struct stream_object *query = objects[k];
			if (query->type == VIRGL_OBJECT_QUERY)
				fn(data, subs[i]->id, query->handle, query->dwords[2] & 0xffff,
					query->active, query->host_id);
		}
		free(objects);
	}
	free(subs);
	return r;
}

/* ---- room for what is made in passing: one shader or rasterizer at a time ---- */

static bool needs_temporary(const struct stream *stream)
{
	const struct stream_sub_context *sub;
	bool needs = false;

	for (uint32_t at = 0; (sub = idmap_next(&stream->sub_contexts, &at, NULL));) {
		for (uint32_t stage = 0; stage < VIRGL_STAGES; stage++)
			needs |= awaits_lost_text(sub, stage);
		needs |= save_viewports_of_other_range(sub) != 0;
	}
	return needs;
}

bool stream_saveable(const struct stream *stream, char *why, size_t size)
{
	const uint64_t bytes = 64;
	const struct stream_counters *c = &stream->counters;
	const struct stream_limits *limits = &stream->limits;
	bool fits = c->objects < limits->max_objects &&
		    range_inside(c->object_bytes, bytes, limits->max_object_bytes) &&
		    range_inside(c->kept_bytes, bytes, limits->max_object_bytes) &&
		    range_inside(stream->budget->bytes, 2 * bytes, stream->budget->max_bytes);

	if (fits || !needs_temporary(stream))
		return true;
	snprintf(why, size, "a context has as many objects as it may (%u, %" PRIu64 " bytes)",
		c->objects, c->object_bytes + c->kept_bytes);
	return false;
}
