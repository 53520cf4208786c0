/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The objects a guest makes, per sub-context: which handle is what, so that nothing unknown is
 * bound, what made them, so that they can be made again, and how much they take together. Records
 * come from a pool that grows by blocks and is given back with the stream, so only a guest that
 * makes more objects than ever before allocates (and one whose shaders and vertex elements are too
 * large for a record).
 */
#include "stream/internal.h"

#include "base/checked.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

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

/*
 * What virglrenderer, the GL and the driver make of an object, bytes, beside the text of shaders;
 * measured on llvmpipe by tests/unit/device/test_vram.c. Views and surfaces may each be a texture
 * object of their own, of as many images as their resource has: its view_bytes are added. Programs,
 * which the driver compiles when it first draws with them, are counted by the renderer.
 */
static const uint32_t host_bytes[VIRGL_OBJECTS] = {
	[VIRGL_OBJECT_BLEND] = 128,
	[VIRGL_OBJECT_RASTERIZER] = 128,
	[VIRGL_OBJECT_DSA] = 128,
	[VIRGL_OBJECT_SHADER] = 9216,
	[VIRGL_OBJECT_VERTEX_ELEMENTS] = 3584,
	[VIRGL_OBJECT_SAMPLER_VIEW] = 160,
	[VIRGL_OBJECT_SAMPLER_STATE] = 448,
	[VIRGL_OBJECT_SURFACE] = 160,
	[VIRGL_OBJECT_QUERY] = 1280,
	[VIRGL_OBJECT_STREAMOUT_TARGET] = 128,
};

struct stream_pool_block {
	struct stream_pool_block *next;
	struct stream_object objects[POOL_BLOCK_OBJECTS];
};

static struct stream_object *alloc_object(struct stream *stream)
{
	if (!stream->free_objects) {
		struct stream_pool_block *block = calloc(1, sizeof(*block));
		if (!block || charge_host(stream, sizeof(*block)) < 0) {
			free(block);
			return NULL;
		}
		block->next = stream->blocks;
		stream->blocks = block;
		for (size_t i = 0; i < POOL_BLOCK_OBJECTS; i++) {
			block->objects[i].next = stream->free_objects;
			stream->free_objects = &block->objects[i];
		}
	}
	struct stream_object *object = stream->free_objects;
	stream->free_objects = object->next;
	stream->counters.objects++;
	return object;
}

/* What it holds, not the record itself. */
static void empty_object(struct stream *stream, struct stream_object *object)
{
	if (object->unnamed)
		query_gone(stream, object);
	if (object->type == VIRGL_OBJECT_SHADER)
		uncharge_kept(stream, object->n * sizeof(*object->dwords));
	if (object->dwords != object->small)
		free(object->dwords);
	stream->counters.object_bytes -= object->bytes;
	stream->budget->bytes -= object->bytes;
	uncharge_host(stream, object->host);
	bind_resource(stream, &object->res, NULL);
}

void free_object(struct stream *stream, struct stream_object *object)
{
	empty_object(stream, object);
	stream->counters.objects--;
	object->next = stream->free_objects;
	stream->free_objects = object;
	/* One block is kept for a guest that makes and ends one object again and again. */
	if (!stream->counters.objects && stream->blocks->next)
		free_pool(stream);
}

void free_pool(struct stream *stream)
{
	while (stream->blocks) {
		struct stream_pool_block *block = stream->blocks;
		stream->blocks = block->next;
		uncharge_host(stream, sizeof(*block));
		free(block);
	}
	stream->free_objects = NULL;
}

struct stream_object *find_object(
	const struct stream *stream, uint32_t handle, enum virgl_object type)
{
	struct stream_object *object = idmap_get(&stream->current->objects, handle);

	return object && object->type == type ? object : NULL;
}

int charge_kept(struct stream *stream, uint64_t bytes)
{
	struct stream_counters *counters = &stream->counters;

	if (!range_inside(counters->kept_bytes, bytes, stream->limits.max_object_bytes) ||
		!range_inside(stream->budget->bytes, bytes, stream->budget->max_bytes) ||
		!stream_budget_fits(stream->budget, 0, bytes, 0))
		return -ENOSPC;
	counters->kept_bytes += bytes;
	stream->budget->bytes += bytes;
	return 0;
}

void uncharge_kept(struct stream *stream, uint64_t bytes)
{
	stream->counters.kept_bytes -= bytes;
	stream->budget->bytes -= bytes;
}

int charge_host(struct stream *stream, uint64_t bytes)
{
	if (!stream_budget_fits(stream->budget, 0, bytes, 0))
		return -ENOSPC;
	stream->budget->host += bytes;
	return 0;
}

void uncharge_host(struct stream *stream, uint64_t bytes)
{
	stream->budget->host -= bytes;
}

static int make_room(struct stream_object *object, uint32_t n)
{
	uint64_t room = (uint64_t)object->n + n;

	if (room <= object->room)
		return 0;
	room += object->n / 2;
	if (room > UINT32_MAX)
		return -ENOMEM;
	uint32_t *own = object->dwords == object->small ? NULL : object->dwords;
	uint32_t *grown = realloc(own, room * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	if (!own)
		memcpy(grown, object->small, object->n * sizeof(*grown));
	object->dwords = grown;
	object->room = (uint32_t)room;
	return 0;
}

int keep_command(struct stream *stream, struct stream_object *object, const uint32_t *dwords,
	uint32_t n, bool charged)
{
	uint64_t bytes = n * sizeof(*dwords);
	int r = charged ? charge_kept(stream, bytes) : 0;

	if (r < 0)
		return r;
	r = make_room(object, n);
	if (r < 0) {
		if (charged)
			uncharge_kept(stream, bytes);
		return r;
	}
	memcpy(object->dwords + object->n, dwords, bytes);
	object->n += n;
	return 0;
}

static void unbind_samplers(
	struct stream *stream, struct stream_sub_context *sub, const struct stream_object *sampler)
{
	for (uint32_t stage = 0; stage < VIRGL_STAGES; stage++) {
		struct stream_object **slot = sub->stages[stage].sampler;
		for (uint32_t i = 0; i < VIRGL_SAMPLERS; i++) {
			if (slot[i] == sampler)
				bind_object(stream, &slot[i], NULL);
		}
	}
}

/*
 * What the library does with an object that is bound when its handle goes: blend, rasterizer and
 * depth state it copied, views, surfaces and shaders it counts references to; these stay bound.
 * Vertex elements and lists of stream-output targets it drops. Sampler states and queries it frees
 * although it still points to them; for a guest that depends on that, nothing can be promised, and
 * here they are unbound.
 */
static void unbind_object(
	struct stream *stream, struct stream_sub_context *sub, struct stream_object *object)
{
	if (object->type == VIRGL_OBJECT_VERTEX_ELEMENTS)
		bind_object(stream, &sub->bound[BOUND_VERTEX_ELEMENTS], NULL);
	else if (object->type == VIRGL_OBJECT_SAMPLER_STATE)
		unbind_samplers(stream, sub, object);
	else if (object->type == VIRGL_OBJECT_QUERY)
		bind_object(stream, &sub->render_condition.query, NULL);
	else if (object->type == VIRGL_OBJECT_STREAMOUT_TARGET)
		drop_streamouts(stream, sub, object);
}

void drop_handle(
	struct stream *stream, struct stream_sub_context *sub, struct stream_object *object)
{
	if (object->refs > 1)
		unbind_object(stream, sub, object);
	object->gone = true;
	if (!--object->refs)
		free_object(stream, object);
}

static int check_room(struct stream *stream, struct command *command,
	const struct stream_object *ends, uint64_t bytes, uint64_t host)
{
	const struct stream_counters *counters = &stream->counters;
	const struct stream_budget *budget = stream->budget;
	uint64_t old = ends ? ends->bytes : 0;
	uint32_t handle = command->dw[1];

	if (!range_inside(counters->object_bytes - old, bytes, stream->limits.max_object_bytes))
		return refuse(command, -ENOSPC, "objects too large", handle);
	if (!range_inside(budget->bytes - old, bytes, budget->max_bytes))
		return refuse(command, -ENOSPC, "objects of this vGPU too large", handle);
	if (!stream_budget_fits(budget, old + (ends ? ends->host : 0), bytes + host, 0))
		return refuse(command, -ENOSPC, "no video memory for an object", handle);
	if (!ends && counters->objects >= stream->limits.max_objects)
		return refuse(command, -ENOSPC, "too many objects", handle);
	return 0;
}

/* A record under that handle: the one of the object that ends, or a new one. */
static struct stream_object *take_record(
	struct stream *stream, struct stream_object *old, uint32_t handle)
{
	struct stream_sub_context *sub = stream->current;

	if (old && old->refs == 1) {
		empty_object(stream, old);
		return old;
	}
	struct stream_object *object = alloc_object(stream);
	if (!object)
		return NULL;
	if (old)
		idmap_remove(&sub->objects, handle);
	if (idmap_add(&sub->objects, handle, object) == 0)
		return object;
	stream->counters.objects--;
	object->next = stream->free_objects;
	stream->free_objects = object;
	return NULL;
}

int put_object(struct stream *stream, struct command *command, enum virgl_object type,
	uint64_t bytes, struct stream_object **ret)
{
	uint32_t handle = command->dw[1];
	struct stream_object *old = idmap_get(&stream->current->objects, handle);
	uint32_t host = host_bytes[type];

	if (type == VIRGL_OBJECT_SAMPLER_VIEW || type == VIRGL_OBJECT_SURFACE)
		host += command->res[0]->view_bytes;
	if (old && old->refs > 1)
		unbind_object(stream, stream->current, old);
	int r = check_room(stream, command, old && old->refs == 1 ? old : NULL, bytes, host);
	if (r < 0)
		return r;
	struct stream_object *object = take_record(stream, old, handle);
	if (!object)
		return refuse(command, -ENOMEM, "no memory for an object", handle);
	if (old && old != object)
		drop_handle(stream, stream->current, old);
	*object = (struct stream_object){
		.handle = handle,
		.refs = 1,
		.type = (uint8_t)type,
		.bytes = bytes,
		.host = host,
		.dwords = object->small,
		.room = OBJECT_SMALL,
	};
	stream->counters.object_bytes += bytes;
	stream->budget->bytes += bytes;
	stream->budget->host += host;
	*ret = object;
	return 0;
}

static int create_plain(struct stream *stream, struct command *command)
{
	uint32_t type = VIRGL_HEADER_TYPE(command->dw[0]);
	struct stream_object *object;

	if (type == VIRGL_OBJECT_MSAA_SURFACE)
		type = VIRGL_OBJECT_SURFACE;
	int r = put_object(stream, command, type, command->len * sizeof(uint32_t), &object);
	if (r < 0)
		return r;
	bind_resource(stream, &object->res, command->res[0]);
	r = keep_command(stream, object, command->dw, 1 + command->len, false);
	if (r < 0) {
		idmap_remove(&stream->current->objects, object->handle);
		drop_handle(stream, stream->current, object);
		return refuse(command, r, "no memory for an object", command->dw[1]);
	}
	if (type == VIRGL_OBJECT_QUERY)
		query_made(stream, object);
	return 0;
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
	command->res[0] = NULL;
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
		drop_handle(stream, stream->current, object);
	return 0;
}
