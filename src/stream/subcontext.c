/* SPDX-License-Identifier: Apache-2.0 */
/* Sub-contexts, one per context of the guest's driver: all state below them is their own. */
#include "stream/internal.h"

#include <errno.h>
#include <stdlib.h>

/* Adds it and makes it the current one. */
int add_sub_context(struct stream *stream, uint32_t id)
{
	struct stream_sub_context *sub = calloc(1, sizeof(*sub));
	if (!sub)
		return -ENOMEM;
	sub->id = id;
	sub->streamouts_end = &sub->streamouts;
	sub->clip = stream->watch_clip_planes ? CLIP_WATCHED : CLIP_COMPLETE;
	idmap_init(&sub->objects, stream->seed);
	int r = idmap_add(&stream->sub_contexts, id, sub);
	if (r < 0) {
		free(sub);
		return r;
	}
	if (stream->current)
		mark_drawn(stream, stream->current);
	stream->current = sub;
	if (id) {
		stream->budget->sub_contexts++;
		stream->budget->driver += stream->budget->sub_context_bytes;
	}
	return 0;
}

/* Its entry in the map is the caller's to remove. */
void free_sub_context(struct stream *stream, struct stream_sub_context *sub)
{
	uint32_t cursor = 0;
	struct stream_object *object;

	mark_drawn(stream, sub);
	shadow_release(stream, sub);
	while ((object = idmap_next(&sub->objects, &cursor, NULL)))
		drop_handle(stream, sub, object);
	if (sub->id) {
		stream->budget->sub_contexts--;
		stream->budget->driver -= stream->budget->sub_context_bytes;
	}
	idmap_finish(&sub->objects);
	free(sub);
}

int command_create_sub_ctx(struct stream *stream, struct command *command)
{
	uint32_t id = command->dw[1];

	/* The library does not even make it current then. */
	if (idmap_get(&stream->sub_contexts, id))
		return 0;
	if (stream->sub_contexts.count - 1 >= stream->limits.max_sub_contexts)
		return refuse(command, -ENOSPC, "too many sub-contexts", id);
	if (stream->budget->sub_contexts >= stream->budget->max_sub_contexts)
		return refuse(command, -ENOSPC, "too many sub-contexts on this vGPU", id);
	if (!stream_budget_fits(stream->budget, 0, 0, stream->budget->sub_context_bytes))
		return refuse(command, -ENOSPC, "no video memory for a sub-context", id);
	int r = add_sub_context(stream, id);
	return r < 0 ? refuse(command, r, "no memory for a sub-context", id) : 0;
}

int command_set_sub_ctx(struct stream *stream, struct command *command)
{
	struct stream_sub_context *sub = idmap_get(&stream->sub_contexts, command->dw[1]);

	if (sub) {
		mark_drawn(stream, stream->current);
		stream->current = sub;
	}
	return 0;
}

int command_destroy_sub_ctx(struct stream *stream, struct command *command)
{
	uint32_t id = command->dw[1];
	struct stream_sub_context *sub = id ? idmap_remove(&stream->sub_contexts, id) : NULL;

	if (!sub)
		return 0;
	if (stream->current == sub)
		stream->current = idmap_get(&stream->sub_contexts, 0);
	free_sub_context(stream, sub);
	return 0;
}
