/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shaders made again from the commands that made them. A shader that is bound although its handle
 * is gone gets a handle nobody uses, is bound by it, and loses it again.
 */
#include "stream/internal.h"

#include "base/checked.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void stream_watch_clip_planes(struct stream *stream, bool watch)
{
	uint32_t at = 0;
	struct stream_sub_context *sub;

	stream->watch_clip_planes = watch;
	while ((sub = idmap_next(&stream->sub_contexts, &at, NULL))) {
		sub->clip = watch ? CLIP_WATCHED : CLIP_COMPLETE;
	}
}

/* The library refuses any other shader of a stage while the text of one is still coming. */
static bool text_is_coming(const struct stream_sub_context *sub)
{
	for (uint32_t stage = 0; stage < VIRGL_STAGES; stage++) {
		if (has_clip_code(stage) && sub->long_shader[stage])
			return true;
	}
	return false;
}

bool clip_replay_due(const struct stream_sub_context *sub)
{
	return sub->clip == CLIP_OWED && !text_is_coming(sub);
}

struct replay {
	stream_emit_fn emit;
	void *data;
};

static int replay_small(
	const struct replay *replay, uint32_t opcode, uint32_t a, uint32_t b, uint32_t n)
{
	uint32_t dwords[] = {opcode | n << 16, a, b};
	return replay->emit(replay->data, dwords, 1 + n);
}

/* The renderer may change what it is given, so it gets a copy, with `handle` in every part. */
static int replay_create(
	const struct replay *replay, const struct stream_object *shader, uint32_t handle)
{
	uint32_t *copy = malloc(shader->n * sizeof(*copy));
	if (!copy)
		return -ENOMEM;
	memcpy(copy, shader->dwords, shader->n * sizeof(*copy));
	for (size_t at = 0; at < shader->n; at += 1 + VIRGL_HEADER_LENGTH(copy[at]))
		copy[at + 1] = handle;
	int r = replay->emit(replay->data, copy, shader->n);
	free(copy);
	return r;
}

static int replay_objects(const struct replay *replay, const struct stream_sub_context *sub)
{
	uint32_t cursor = 0;
	const struct stream_object *object;
	int r = 0;

	while (r >= 0 && (object = idmap_next(&sub->objects, &cursor, NULL))) {
		/* One that ended unfinished was never translated. */
		if (object->type == VIRGL_OBJECT_SHADER && has_clip_code(object->stage) &&
			!is_unfinished(object))
			r = replay_create(replay, object, object->handle);
	}
	return r;
}

static int replay_bound(
	const struct replay *replay, const struct stream_sub_context *sub, uint32_t stage)
{
	const struct stream_object *shader = sub->stages[stage].shader;
	uint32_t handle = UINT32_MAX;

	if (!shader || !has_clip_code(stage))
		return 0;
	if (!shader->gone)
		return replay_small(replay, VIRGL_BIND_SHADER, shader->handle, stage, 2);
	while (idmap_get(&sub->objects, handle))
		handle--;
	int r = replay_create(replay, shader, handle);
	if (r >= 0)
		r = replay_small(replay, VIRGL_BIND_SHADER, handle, stage, 2);
	if (r >= 0)
		r = replay_small(
			replay, VIRGL_DESTROY_OBJECT | VIRGL_OBJECT_SHADER << 8, handle, 0, 1);
	return r;
}

int stream_replay_shaders(struct stream *stream, stream_emit_fn emit, void *data)
{
	const struct replay replay = {.emit = emit, .data = data};
	struct stream_sub_context *sub = stream->current;

	stream->watch_clip_planes = false;
	if (text_is_coming(sub)) {
		sub->clip = CLIP_OWED;
		return 0;
	}
	int r = replay_objects(&replay, sub);
	for (uint32_t stage = 0; r >= 0 && stage < VIRGL_STAGES; stage++)
		r = replay_bound(&replay, sub, stage);
	sub->clip = CLIP_COMPLETE;
	return r;
}
