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

enum { DESTROY_OBJECT = 3, BIND_SHADER = 31 };

/* ---- kept text ---- */

static int shader_text_grow(struct shader_text *t, size_t n)
{
	uint64_t room, bytes;

	if (n <= t->room - t->n)
		return 0;
	if (!checked_add(t->n, n, &room) || !checked_add(room, t->n / 2, &room) ||
		!checked_mul(room, sizeof(*t->dwords), &bytes) || bytes > SIZE_MAX)
		return -ENOMEM;
	uint32_t *grown = realloc(t->dwords, bytes);
	if (!grown)
		return -ENOMEM;
	t->dwords = grown;
	t->room = room;
	return 0;
}

int shader_text_append(
	struct stream *stream, struct shader_text **text, const uint32_t *dwords, uint32_t n)
{
	uint64_t bytes = (uint64_t)n * sizeof(*dwords);

	if (!range_inside(stream->counters.kept_bytes, bytes, stream->limits.max_object_bytes) ||
		!range_inside(stream->budget->bytes, bytes, stream->budget->max_bytes))
		return -ENOSPC;
	if (!*text) {
		*text = calloc(1, sizeof(**text));
		if (!*text)
			return -ENOMEM;
		(*text)->refs = 1;
	}
	struct shader_text *t = *text;
	if (shader_text_grow(t, n) < 0 || !t->dwords)
		return -ENOMEM;
	memcpy(t->dwords + t->n, dwords, bytes);
	t->n += n;
	stream->counters.kept_bytes += bytes;
	stream->budget->bytes += bytes;
	return 0;
}

struct shader_text *shader_text_ref(struct shader_text *text)
{
	if (text)
		text->refs++;
	return text;
}

void shader_text_unref(struct stream *stream, struct shader_text **text)
{
	struct shader_text *t = *text;

	*text = NULL;
	if (!t || --t->refs)
		return;
	stream->counters.kept_bytes -= t->n * sizeof(*t->dwords);
	stream->budget->bytes -= t->n * sizeof(*t->dwords);
	free(t->dwords);
	free(t);
}

void forget_bound_shaders(struct stream *stream, struct stream_sub_context *sub)
{
	for (size_t i = 0; i < VIRGL_STAGES; i++)
		shader_text_unref(stream, &sub->bound[i].text);
}

static void forget_text(struct stream *stream, struct stream_sub_context *sub)
{
	uint32_t cursor = 0;
	struct stream_object *object;

	while ((object = idmap_next(&sub->objects, &cursor, NULL)))
		shader_text_unref(stream, &object->text);
	forget_bound_shaders(stream, sub);
}

void stream_watch_clip_planes(struct stream *stream, bool watch)
{
	uint32_t at = 0;
	struct stream_sub_context *sub;

	stream->watch_clip_planes = watch;
	while ((sub = idmap_next(&stream->sub_contexts, &at, NULL))) {
		sub->clip = watch ? CLIP_WATCHED : CLIP_COMPLETE;
		if (!watch)
			forget_text(stream, sub);
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

/* ---- replay ---- */

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
	const struct replay *replay, const struct shader_text *text, uint32_t handle)
{
	uint32_t *copy = malloc(text->n * sizeof(*copy));
	if (!copy)
		return -ENOMEM;
	memcpy(copy, text->dwords, text->n * sizeof(*copy));
	for (size_t at = 0; at < text->n; at += 1 + VIRGL_HEADER_LENGTH(copy[at]))
		copy[at + 1] = handle;
	int r = replay->emit(replay->data, copy, text->n);
	free(copy);
	return r;
}

static int replay_objects(const struct replay *replay, const struct stream_sub_context *sub)
{
	uint32_t cursor = 0, handle;
	const struct stream_object *object;
	int r = 0;

	while (r >= 0 && (object = idmap_next(&sub->objects, &cursor, &handle))) {
		/* One that ended unfinished was never translated. */
		if (object->text && object->received == object->total)
			r = replay_create(replay, object->text, handle);
	}
	return r;
}

static int replay_bound(
	const struct replay *replay, const struct stream_sub_context *sub, uint32_t stage)
{
	const struct shader_text *text = sub->bound[stage].text;
	uint32_t handle = sub->bound[stage].handle;
	const struct stream_object *object = idmap_get(&sub->objects, handle);

	if (!text)
		return 0;
	if (object && object->text == text)
		return replay_small(replay, BIND_SHADER, handle, stage, 2);
	for (handle = UINT32_MAX; idmap_get(&sub->objects, handle);)
		handle--;
	int r = replay_create(replay, text, handle);
	if (r >= 0)
		r = replay_small(replay, BIND_SHADER, handle, stage, 2);
	if (r >= 0)
		r = replay_small(replay, DESTROY_OBJECT | VIRGL_OBJECT_SHADER << 8, handle, 0, 1);
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
	forget_text(stream, sub);
	return r;
}
