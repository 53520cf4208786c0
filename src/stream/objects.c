/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The objects a guest makes, per sub-context: which handle is what, so that nothing unknown is
 * bound, and how much they take together. Records come from a pool that grows by blocks and is
 * given back with the stream, so only a guest that makes more objects than ever before allocates.
 */
#include "stream/internal.h"

#include "base/checked.h"

#include <errno.h>
#include <stdlib.h>

#define ANY VIRGL_HEADER_LENGTH_MAX
#define NO_RESOURCES                                                                               \
	{                                                                                          \
		0                                                                                  \
	}
#define NEEDS(first, stride, count)                                                                \
	{                                                                                          \
		first, stride, count, 0                                                            \
	}

#define POOL_BLOCK_OBJECTS 128

struct stream_pool_block {
	struct stream_pool_block *next;
	struct stream_object objects[POOL_BLOCK_OBJECTS];
};

static struct stream_object *alloc_object(struct stream *stream)
{
	if (!stream->free_objects) {
		struct stream_pool_block *block = calloc(1, sizeof(*block));
		if (!block)
			return NULL;
		block->next = stream->blocks;
		stream->blocks = block;
		for (size_t i = 0; i < POOL_BLOCK_OBJECTS; i++) {
			block->objects[i].next = stream->free_objects;
			stream->free_objects = &block->objects[i];
		}
	}
	struct stream_object *object = stream->free_objects;
	stream->free_objects = object->next;
	*object = (struct stream_object){0};
	stream->counters.objects++;
	return object;
}

void free_object(struct stream *stream, struct stream_object *object)
{
	shader_text_unref(stream, &object->text);
	stream->counters.objects--;
	stream->counters.object_bytes -= object->bytes;
	stream->budget->bytes -= object->bytes;
	object->next = stream->free_objects;
	stream->free_objects = object;
}

void free_pool(struct stream *stream)
{
	while (stream->blocks) {
		struct stream_pool_block *block = stream->blocks;
		stream->blocks = block->next;
		free(block);
	}
}

struct stream_object *find_object(
	const struct stream *stream, uint32_t handle, enum virgl_object type)
{
	struct stream_object *object = idmap_get(&stream->current->objects, handle);

	return object && object->type == type ? object : NULL;
}

int put_object(struct stream *stream, struct command *command, uint32_t handle,
	enum virgl_object type, uint64_t bytes, struct stream_object **ret)
{
	struct stream_counters *counters = &stream->counters;
	struct stream_object *object = idmap_get(&stream->current->objects, handle);
	uint64_t old = object ? object->bytes : 0;
	uint64_t others = counters->object_bytes - old;

	if (!range_inside(others, bytes, stream->limits.max_object_bytes))
		return refuse(command, -ENOSPC, "objects too large", handle);
	if (!range_inside(stream->budget->bytes - old, bytes, stream->budget->max_bytes))
		return refuse(command, -ENOSPC, "objects of this vGPU too large", handle);
	if (!object) {
		if (counters->objects >= stream->limits.max_objects)
			return refuse(command, -ENOSPC, "too many objects", handle);
		object = alloc_object(stream);
		if (!object)
			return refuse(command, -ENOMEM, "no memory for an object", handle);
		int r = idmap_add(&stream->current->objects, handle, object);
		if (r < 0) {
			free_object(stream, object);
			return refuse(command, r, "no memory for an object", handle);
		}
	}
	shader_text_unref(stream, &object->text);
	*object = (struct stream_object){.type = (uint8_t)type, .bytes = bytes};
	counters->object_bytes = others + bytes;
	stream->budget->bytes += bytes - old;
	if (ret)
		*ret = object;
	return 0;
}

static int create_plain(struct stream *stream, struct command *command)
{
	uint32_t type = VIRGL_HEADER_TYPE(command->dw[0]);

	if (type == VIRGL_OBJECT_MSAA_SURFACE)
		type = VIRGL_OBJECT_SURFACE;
	return put_object(
		stream, command, command->dw[1], type, command->len * sizeof(uint32_t), NULL);
}

/* {handle, S0, point size, sprite coordinates, S3, ...}: S3 has the clip planes in its top byte. */
static int create_rasterizer(struct stream *stream, struct command *command)
{
	uint32_t planes = command->dw[5] >> 24;

	if (planes && stream->current->clip == CLIP_WATCHED)
		return refuse(command, -ERESTART, "clip planes", planes);
	return create_plain(stream, command);
}

static int create_vertex_elements(struct stream *stream, struct command *command)
{
	/* Elements of {source offset, divisor, vertex buffer, format}. */
	for (uint32_t at = 4; at <= command->len; at += 4) {
		if (command->dw[at] >= VIRGL_VERTEX_BUFFERS)
			return refuse(command, -EINVAL, "no such vertex buffer", command->dw[at]);
	}
	return create_plain(stream, command);
}

struct object_row {
	uint32_t min;
	uint32_t max;
	uint32_t step;
	struct virgl_resources resources;
	command_handler create;
};

static const struct object_row rows[] = {
#define VIRGL_OBJECT(type, name, min, max, step, resources, handler)                               \
	[type] = {min, max, step, resources, create_##handler},
#include "protocol/virgl.def"
};
_Static_assert(ARRAY_SIZE(rows) == VIRGL_OBJECTS, "one row per type");

int command_create_object(struct stream *stream, struct command *command)
{
	uint32_t type = VIRGL_HEADER_TYPE(command->dw[0]);

	if (type >= VIRGL_OBJECTS || !rows[type].create)
		return refuse(command, -EINVAL, "unknown type of object", type);
	const struct object_row *row = &rows[type];
	if (!command->dw[1])
		return refuse(command, -EINVAL, "object handle 0", 0);
	if (!length_fits(command->len, row->min, row->max, row->step))
		return refuse(command, -EINVAL, "wrong length", command->len);
	int r = translate(stream, command, &row->resources);
	return r < 0 ? r : row->create(stream, command);
}

int command_bind_object(struct stream *stream, struct command *command)
{
	static const bool bindable[VIRGL_OBJECTS] = {
		[VIRGL_OBJECT_BLEND] = true,
		[VIRGL_OBJECT_RASTERIZER] = true,
		[VIRGL_OBJECT_DSA] = true,
		[VIRGL_OBJECT_VERTEX_ELEMENTS] = true,
	};
	uint32_t type = VIRGL_HEADER_TYPE(command->dw[0]);
	uint32_t handle = command->dw[1];

	if (type >= VIRGL_OBJECTS || !bindable[type])
		return refuse(command, -EINVAL, "no type to bind", type);
	if (handle && !find_object(stream, handle, type))
		return refuse(command, -ENOENT, "no such object", handle);
	return 0;
}

/* By handle alone, as the library does: the type in the header means nothing. */
int command_destroy_object(struct stream *stream, struct command *command)
{
	struct stream_object *object = idmap_remove(&stream->current->objects, command->dw[1]);

	if (object)
		free_object(stream, object);
	return 0;
}
