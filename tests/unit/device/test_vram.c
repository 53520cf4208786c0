/* SPDX-License-Identifier: Apache-2.0 */
/* What is charged, against what library and driver really take; and that it is a limit. */
#include "vram_support.h"

#include "base/checked.h"
#include "protocol/virgl.h"

#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MIB (1ull << 20)

static const struct {
	const char *name;
	uint32_t number;
} formats[] = {
#define X(name, number, block_w, block_h, size) {#name, number},
	VIRGL_FORMATS(X)
#undef X
};

#define FLAT .depth = 1, .array_size = 1

static const struct renderer_resource_desc shapes[] = {
	{PIPE_TEXTURE_2D, .width = 1, .height = 1, FLAT},
	{PIPE_TEXTURE_2D, .width = 65, .height = 33, FLAT},
	{PIPE_TEXTURE_2D, .width = 64, .height = 64, FLAT, .last_level = 6},
	{PIPE_TEXTURE_2D, .width = 1, .height = 512, FLAT, .last_level = 9},
	{PIPE_TEXTURE_2D, .width = 32, .height = 32, FLAT, .nr_samples = 2},
	{PIPE_TEXTURE_2D, .width = 32, .height = 32, FLAT, .nr_samples = 4},
	{PIPE_TEXTURE_1D, .width = 512, .height = 1, FLAT},
	{PIPE_TEXTURE_RECT, .width = 50, .height = 50, FLAT},
	{PIPE_TEXTURE_3D, .width = 16, .height = 16, .depth = 16, .array_size = 1, .last_level = 4},
	{PIPE_TEXTURE_3D, .width = 1, .height = 1, .depth = 128, .array_size = 1},
	{PIPE_TEXTURE_CUBE, .width = 32, .height = 32, .depth = 1, .array_size = 6,
		.last_level = 5},
	{PIPE_TEXTURE_CUBE, .width = 1, .height = 1, .depth = 1, .array_size = 6},
	{PIPE_TEXTURE_1D_ARRAY, .width = 64, .height = 1, .depth = 1, .array_size = 16,
		.last_level = 6},
	{PIPE_TEXTURE_2D_ARRAY, .width = 16, .height = 16, .depth = 1, .array_size = 8,
		.last_level = 4},
	{PIPE_TEXTURE_2D_ARRAY, .width = 1, .height = 1, .depth = 1, .array_size = 256},
	{PIPE_TEXTURE_CUBE_ARRAY, .width = 16, .height = 16, .depth = 1, .array_size = 12,
		.last_level = 4},
};

static bool is_depth(uint32_t format)
{
	return (format >= VIRGL_FORMAT_Z16_UNORM && format <= VIRGL_FORMAT_S8_UINT) ||
	       format == VIRGL_FORMAT_Z32_FLOAT_S8X24_UINT;
}

/*
 * Something of that kind costs at most so much more than it is charged for; deleting frees both.
 * What is left counts in the last try only: a driver whose threads had much to do at once keeps the
 * memory for that, so only what is left each time was lost.
 */
static bool is_charged(const struct vram *v, const char *what, struct vram_cost before,
	struct vram_cost in_use, bool last_try)
{
	uint64_t charged = in_use.charged - before.charged;
	struct vram_cost after = vram_now(v);
	int64_t heap = (int64_t)(in_use.heap - after.heap),
		left = (int64_t)(after.heap - before.heap);

	if (left > 131072 && !last_try)
		return false;
	if ((int64_t)charged * 10 < heap * 9 || after.charged > before.charged || left > 131072) {
		fprintf(stderr, "%s: charged %llu, took %lld; left: charged %lld, takes %lld\n",
			what, (unsigned long long)charged, (long long)heap,
			(long long)(after.charged - before.charged), (long long)left);
		_exit(1);
	}
	return true;
}

#define COPIES 24u
#define TRIES  3u

static bool measure_resource(
	struct vram *v, const struct renderer_resource_desc *desc, const char *name, bool last_try)
{
	char what[128];
	uint32_t made = 0;

	if (vram_resource(v, 99, desc) < 0)
		return true;
	vram_fill(v, 99, 1);
	device_resource_destroy(v->client, 99);
	struct vram_cost before = vram_now(v);
	while (made < COPIES && vram_resource(v, 100 + made, desc) == 0)
		vram_fill(v, 100 + made++, 0x5a);
	struct vram_cost in_use = vram_now(v);
	for (uint32_t i = 0; i < made; i++)
		MUST(device_resource_destroy(v->client, 100 + i) == 0);
	device_finish_all(v->dev);
	snprintf(what, sizeof(what),
		"%u of %s, target %u, %u x %u x %u, %u layers, %u levels, %u samples", made, name,
		desc->target, desc->width, desc->height, desc->depth, desc->array_size,
		desc->last_level + 1, desc->nr_samples);
	return is_charged(v, what, before, in_use, last_try);
}

static void assert_resource(
	struct vram *v, const struct renderer_resource_desc *desc, const char *name)
{
	bool charged = false;

	for (unsigned i = 1; i <= TRIES && !charged; i++)
		charged = measure_resource(v, desc, name, i == TRIES);
}

static void textures(void)
{
	struct vram *v = vram_start(1024 * MIB);

	for (size_t f = 0; f < ARRAY_SIZE(formats); f++) {
		for (size_t s = 0; s < ARRAY_SIZE(shapes); s++) {
			struct renderer_resource_desc desc = shapes[s];
			desc.format = formats[f].number;
			desc.bind = is_depth(desc.format) ? 1 : 1 << 3;
			assert_resource(v, &desc, formats[f].name);
		}
	}
}

/* Custom, staging, vertex, index, constants, stream output, query, shader, arguments, views. */
static const uint32_t buffer_binds[] = {1u << 17, 1u << 19, 1u << 4, 1u << 5, 1u << 6, 1u << 11,
	1u << 15, 1u << 14, 0, 1u << 16, 1u << 3};

static void buffers(void)
{
	static const uint32_t sizes[] = {1, 100, 5000, 300000};
	struct vram *v = vram_start(1024 * MIB);

	for (size_t b = 0; b < ARRAY_SIZE(buffer_binds); b++) {
		for (size_t s = 0; s < ARRAY_SIZE(sizes); s++) {
			const struct renderer_resource_desc desc = {PIPE_BUFFER,
				.format = VIRGL_FORMAT_R8_UNORM, .bind = buffer_binds[b],
				.width = sizes[s], .height = 1, FLAT};
			assert_resource(v, &desc, "buffer");
		}
	}
}

/* Pages, not only what the allocator thinks; and back to the node when it is deleted. */
static void libc_pages(void)
{
	static const struct renderer_resource_desc desc = {PIPE_TEXTURE_2D,
		.format = VIRGL_FORMAT_B8G8R8A8_UNORM, .bind = 1 << 3, .width = 256, .height = 256,
		FLAT};
	struct vram *v = vram_start(96 * MIB);

	MUST(vram_resource(v, 1, &desc) == 0);
	vram_fill(v, 1, 1);
	device_trim(v->dev);
	struct vram_cost before = vram_now(v);
	for (uint32_t i = 0; i < 256; i++) {
		MUST(vram_resource(v, 100 + i, &desc) == 0);
		vram_fill(v, 100 + i, 0x5a);
	}
	struct vram_cost in_use = vram_now(v);
	MUST(in_use.rss - before.rss >= 64 * MIB);
	MUST((in_use.charged - before.charged) * 10 >= (in_use.rss - before.rss) * 9);
	for (uint32_t i = 0; i < 256; i++)
		device_resource_destroy(v->client, 100 + i);
	MUST(vram_now(v).charged == before.charged);
	MUST(device_trim_due(v->dev));
	device_trim(v->dev);
	MUST(vram_now(v).rss <= before.rss + 2 * MIB);
	MUST(!device_trim_due(v->dev));
}

/* ---- objects ---- */

#define VIEW_SWIZZLE           (0u | 1u << 3 | 2u << 6 | 3u << 9)
#define VIEWED(format, target) ((uint32_t)VIRGL_FORMAT_##format | (uint32_t)(target) << 24)

enum { TEXTURE = 50, ARRAY, CUBE, BUFFER, CAPTURE, RESULT };

static void object_resources(struct vram *v)
{
	static const struct renderer_resource_desc descs[] = {
		{PIPE_TEXTURE_2D, VIRGL_FORMAT_R8G8B8A8_UNORM, 2 | 8, 64, 64, FLAT,
			.last_level = 6},
		{PIPE_TEXTURE_2D_ARRAY, VIRGL_FORMAT_R8G8B8A8_UNORM, 2 | 8, 64, 64, 1, 16,
			.last_level = 6},
		{PIPE_TEXTURE_CUBE, VIRGL_FORMAT_R8G8B8A8_UNORM, 2 | 8, 64, 64, 1, 6,
			.last_level = 6},
		{PIPE_BUFFER, VIRGL_FORMAT_R8_UNORM, 8, 4096, 1, FLAT},
		{PIPE_BUFFER, VIRGL_FORMAT_R8_UNORM, 1 << 11, 65536, 1, FLAT},
		{PIPE_BUFFER, VIRGL_FORMAT_R8_UNORM, 1 << 17, 16, 1, FLAT},
	};

	for (uint32_t i = 0; i < ARRAY_SIZE(descs); i++)
		MUST(vram_resource(v, TEXTURE + i, &descs[i]) == 0);
}

static void make_object(struct vram *v, unsigned kind, uint32_t handle, uint32_t i)
{
	uint32_t elements[65] = {handle};

	switch (kind) {
	case 0:
		PUT(v, VIRGL_CREATE_OBJECT, VIRGL_OBJECT_SURFACE, handle, TEXTURE,
			VIRGL_FORMAT_R8G8B8A8_UNORM, 0, 0);
		break;
	case 1:
		PUT(v, VIRGL_CREATE_OBJECT, VIRGL_OBJECT_SURFACE, handle, TEXTURE,
			VIRGL_FORMAT_R8G8B8A8_UINT, i % 7, 0);
		break;
	case 2:
		PUT(v, VIRGL_CREATE_OBJECT, VIRGL_OBJECT_SURFACE, handle, ARRAY,
			VIRGL_FORMAT_R8G8B8A8_UNORM, 1, (i % 16) | (i % 16) << 16);
		break;
	case 3:
		PUT(v, VIRGL_CREATE_OBJECT, VIRGL_OBJECT_SAMPLER_VIEW, handle, TEXTURE,
			VIEWED(R8G8B8A8_UINT, PIPE_TEXTURE_2D), 0, 6u << 8, VIEW_SWIZZLE);
		break;
	case 4:
		PUT(v, VIRGL_CREATE_OBJECT, VIRGL_OBJECT_SAMPLER_VIEW, handle, ARRAY,
			VIEWED(R8G8B8A8_UINT, PIPE_TEXTURE_2D_ARRAY), 15u << 16, 6u << 8,
			VIEW_SWIZZLE);
		break;
	case 5:
		PUT(v, VIRGL_CREATE_OBJECT, VIRGL_OBJECT_SAMPLER_VIEW, handle, CUBE,
			VIEWED(R8G8B8A8_UINT, PIPE_TEXTURE_CUBE), 5u << 16, 6u << 8, VIEW_SWIZZLE);
		break;
	case 6:
		PUT(v, VIRGL_CREATE_OBJECT, VIRGL_OBJECT_SAMPLER_VIEW, handle, BUFFER,
			VIEWED(R8_UNORM, PIPE_BUFFER), 0, 4095, VIEW_SWIZZLE);
		break;
	case 7:
		PUT(v, VIRGL_CREATE_OBJECT, VIRGL_OBJECT_BLEND, handle, 0, 0, 0xfu << 27, 0, 0, 0,
			0, 0, 0, 0);
		break;
	case 8:
		PUT(v, VIRGL_CREATE_OBJECT, VIRGL_OBJECT_DSA, handle, 0, 0, 0, 0);
		break;
	case 9:
		PUT(v, VIRGL_CREATE_OBJECT, VIRGL_OBJECT_RASTERIZER, handle, 2u | 1u << 29, 0, 0, 0,
			0, 0, 0, 0);
		break;
	case 10:
		for (unsigned k = 0; k < 16; k++)
			elements[4 + 4 * k] = VIRGL_FORMAT_R32G32B32A32_FLOAT;
		vram_put(v, VIRGL_CREATE_OBJECT, VIRGL_OBJECT_VERTEX_ELEMENTS, 65, elements);
		break;
	case 11:
		PUT(v, VIRGL_CREATE_OBJECT, VIRGL_OBJECT_SAMPLER_STATE, handle, 0, 0, 0, 0, 0, 0, 0,
			0);
		break;
	case 12: /* counted with, once */
		PUT(v, VIRGL_CREATE_OBJECT, VIRGL_OBJECT_QUERY, handle, 0, 0, RESULT);
		PUT(v, VIRGL_BEGIN_QUERY, 0, handle);
		PUT(v, VIRGL_END_QUERY, 0, handle);
		break;
	case 13: /* in a list of its own */
		PUT(v, VIRGL_CREATE_OBJECT, VIRGL_OBJECT_STREAMOUT_TARGET, handle, CAPTURE, i * 16,
			16);
		PUT(v, VIRGL_SET_STREAMOUT_TARGETS, 0, 0, handle);
		break;
	case 14:
		vram_shader(v, handle, 0, i, 0);
		break;
	case 15:
		vram_shader(v, handle, 1, i, 100);
		break;
	default:
		break;
	}
}

#define OBJECT_KINDS 16u

static void make_and_drop(struct vram *v, unsigned kind, uint32_t n, bool check)
{
	const uint32_t first = 1000;
	char what[64];
	struct vram_cost before = vram_now(v);

	for (uint32_t i = 0; i < n; i++)
		make_object(v, kind, first + i, i);
	MUST(vram_run(v) == 0);
	struct vram_cost in_use = vram_now(v);
	PUT(v, VIRGL_SET_STREAMOUT_TARGETS, 0, 0);
	for (uint32_t i = 0; i < n; i++)
		PUT(v, VIRGL_DESTROY_OBJECT, 0, first + i);
	MUST(vram_run(v) == 0);
	MUST(!device_context_lost(v->client, 1));
	snprintf(what, sizeof(what), "%u objects of kind %u", n, kind);
	if (check)
		is_charged(v, what, before, in_use, true);
}

static void objects(void)
{
	struct vram *v = vram_start(1024 * MIB);

	object_resources(v);
	for (unsigned kind = 0; kind < OBJECT_KINDS; kind++) {
		uint32_t n = kind >= 14 ? 300 : 1000;
		make_and_drop(v, kind, n, false); /* tables grow */
		make_and_drop(v, kind, n, true);
	}
}

/* The records of objects stay in a pool: also what was made and dropped is charged as long. */
static void libc_dropped_objects(void)
{
	struct vram *v = vram_start(1024 * MIB);

	struct vram_cost before = vram_now(v);
	for (uint32_t i = 0; i < 60000; i++)
		make_object(v, 8, 1000 + i, i);
	for (uint32_t i = 1; i < 60000; i++)
		PUT(v, VIRGL_DESTROY_OBJECT, 0, 1000 + i);
	MUST(vram_run(v) == 0);
	struct vram_cost now = vram_now(v);
	MUST((now.charged - before.charged) * 10 >= (now.heap - before.heap - MIB) * 9);
	MUST(now.charged - before.charged >= MIB);
	PUT(v, VIRGL_DESTROY_OBJECT, 0, 1000);
	MUST(vram_run(v) == 0);
	MUST(vram_now(v).charged <= before.charged + 65536);
}

/* ---- a limit ---- */

/* Makes of one kind until it is refused; then nothing beyond the quota is charged or taken. */
static void until_refused(unsigned kind)
{
	struct vram *v = vram_start(8 * MIB);
	uint32_t made = 0;

	object_resources(v);
	device_finish_all(v->dev);
	struct vram_cost before = vram_now(v);
	while (made < 1000000 && !device_context_lost(v->client, 1)) {
		for (unsigned i = 0; i < 64; i++, made++)
			make_object(v, kind, 1000 + made, kind == 13 ? made % 4000 : made);
		vram_run(v);
		MUST(v->dev->vram_used <= 8 * MIB);
	}
	MUST(device_context_lost(v->client, 1));
	MUST(v->stats.quota_refusals_total > 0);
	MUST(vram_now(v).heap <= before.heap + 10 * MIB);
	/* Only that context is; and its memory comes back with its end. */
	MUST(device_context_destroy(v->client, 1) == 0);
	MUST(v->dev->vram_used <= before.charged + 4096);
	MUST(device_context_create(v->client, 1, 0, "x", 1) == 0);
	MUST(device_context_attach(v->client, 1, TEXTURE) == 0);
	make_object(v, 3, 1, 0);
	MUST(vram_run(v) == 0);
}

static void views_end(void)
{
	until_refused(5);
}

static void shaders_end(void)
{
	until_refused(15);
}

static void queries_end(void)
{
	until_refused(12);
}

/* In pages: Mesa 25 allocates three times as much for a context as it ever touches. */
static void libc_contexts_end(void)
{
	mallopt(M_PERTURB, 0); /* would touch all of it */
	struct vram *v = vram_start(16 * MIB);
	struct vram_cost before = vram_now(v);
	uint32_t made = 0, subs = 0;

	while (device_context_create(v->client, 100 + made, 0, "x", 1) == 0)
		made++;
	uint64_t most = (16 * MIB + DEVICE_DRIVER_FREE) / v->dev->stream_budget.sub_context_bytes;
	MUST(made >= most - 2 && made <= most);
	MUST(vram_now(v).rss <= before.rss + 16 * MIB + DEVICE_DRIVER_FREE);
	MUST(v->dev->vram_used > 16 * MIB - v->dev->stream_budget.sub_context_bytes &&
		v->dev->vram_used <= 16 * MIB);
	for (uint32_t i = 0; i < made; i++)
		MUST(device_context_destroy(v->client, 100 + i) == 0);
	MUST(v->dev->vram_used == before.charged);
	/* Sub-contexts are no way around. */
	for (;;) {
		PUT(v, VIRGL_CREATE_SUB_CTX, 0, 1 + subs);
		if (vram_run(v) < 0)
			break;
		subs++;
	}
	MUST(subs >= made - 2 && subs <= made);
	MUST(device_context_destroy(v->client, 1) == 0);
	MUST(v->dev->vram_used == before.charged);
}

/* A program for each pair of a few shaders. */
static void programs_end(void)
{
	struct vram *v = vram_start(16 * MIB);
	struct device_client *other;
	uint32_t drawn = 0;

	MUST(device_client_create(v->dev, "other", &other) == 0);
	MUST(device_context_create(other, 1, 0, "x", 1) == 0);
	vram_pipeline(v);
	uint64_t before = v->dev->vram_used;
	for (uint32_t i = 0; i < 24; i++) {
		vram_shader(v, 1000 + i, 0, i, 0);
		vram_shader(v, 2000 + i, 1, i, 0);
	}
	MUST(vram_run(v) == 0);
	while (drawn < 24 * 24) {
		PUT(v, VIRGL_BIND_SHADER, 0, 1000 + drawn % 24, 0);
		PUT(v, VIRGL_BIND_SHADER, 0, 2000 + drawn / 24, 1);
		vram_draw(v);
		if (vram_run(v) < 0)
			break;
		drawn++;
	}
	/* One too many was made before it was seen. */
	MUST(drawn >= 100 && drawn <= (16 * MIB + DEVICE_DRIVER_FREE) / DEVICE_PROGRAM_COST);
	MUST(device_context_lost(v->client, 1));
	MUST(!device_context_lost(other, 1));
	MUST(v->dev->vram_used <= 16 * MIB + DEVICE_PROGRAM_COST);
	uint32_t nop = 0;
	MUST(device_submit(other, 1, &nop, 1) == 0);
	MUST(device_context_destroy(v->client, 1) == 0);
	MUST(v->dev->vram_used <= before);
	MUST(v->dev->programs == 0);
}

/* The same in one buffer: it is not run to its end first. */
static void programs_of_one_buffer_end(void)
{
	struct vram *v = vram_start(16 * MIB);
	uint64_t most = (16 * MIB + DEVICE_DRIVER_FREE) / DEVICE_PROGRAM_COST;

	vram_pipeline(v);
	for (uint32_t i = 0; i < 24; i++) {
		vram_shader(v, 1000 + i, 0, i, 0);
		vram_shader(v, 2000 + i, 1, i, 0);
	}
	MUST(vram_run(v) == 0);
	for (uint32_t i = 0; i < 24 * 24; i++)
		PUT(v, VIRGL_LINK_SHADER, 0, 1000 + i % 24, 2000 + i / 24, 0, 0, 0, 0);
	MUST(v->count > 4000 && vram_run(v) < 0);
	MUST(device_context_lost(v->client, 1));
	MUST(v->dev->programs > most - 10 && v->dev->programs <= most + 40);
	MUST(v->dev->vram_used <= 16 * MIB + 40 * DEVICE_PROGRAM_COST);
}

static void tiny_resources_end(void)
{
	struct vram *v = vram_start(8 * MIB);
	struct vram_cost before = vram_now(v);
	uint32_t made = 0;
	const struct renderer_resource_desc desc = {PIPE_BUFFER, .format = VIRGL_FORMAT_R8_UNORM,
		.bind = 1 << 17, .width = 1, .height = 1, FLAT};

	while (vram_resource(v, 100 + made, &desc) == 0)
		made++;
	MUST(made < 8 * MIB / 1024);
	/* What maps take of ids grows by doubling. */
	MUST(vram_now(v).heap <= before.heap + 10 * MIB);
}

/* ---- nothing to do ---- */

#define COMPILER_LEAST (3 * MIB) /* what Mesa compiles with takes twice that */

static uint64_t heap_given_back(struct vram *v)
{
	uint64_t before = vram_now(v).heap;

	device_rest(v->dev, true);
	return before - MIN(before, vram_now(v).heap);
}

static void libc_rest(void)
{
	struct vram *v = vram_start(256 * MIB);
	struct device_client *second;
	uint32_t nop = 0;

	vram_pipeline(v);
	/* Another context compiles and stays, a third compiles and is gone by then. */
	PUT(v, VIRGL_CREATE_SUB_CTX, 0, 1);
	PUT(v, VIRGL_SET_SUB_CTX, 0, 1);
	vram_shader(v, 10, 1, 7, 0);
	PUT(v, VIRGL_CREATE_SUB_CTX, 0, 2);
	PUT(v, VIRGL_SET_SUB_CTX, 0, 2);
	vram_shader(v, 10, 1, 8, 0);
	MUST(vram_run(v) == 0);
	PUT(v, VIRGL_SET_SUB_CTX, 0, 0);
	PUT(v, VIRGL_DESTROY_SUB_CTX, 0, 2);
	MUST(device_client_create(v->dev, "second", &second) == 0);
	MUST(device_context_create(second, 1, 0, "x", 1) == 0);
	MUST(vram_run(v) == 0);
	MUST(heap_given_back(v) >= COMPILER_LEAST);
	MUST(heap_given_back(v) < COMPILER_LEAST);

	/* It draws on, with what it had and with what is new, and rests again. */
	vram_draw(v);
	MUST(vram_run(v) == 0);
	vram_shader(v, 20, 1, 9, 0);
	PUT(v, VIRGL_BIND_SHADER, 0, 20, 1);
	vram_draw(v);
	MUST(vram_run(v) == 0);
	MUST(device_submit(second, 1, &nop, 1) == 0);
	MUST(!device_context_lost(v->client, 1) && !device_context_lost(second, 1));
	MUST(v->dev->programs == 2);
	MUST(heap_given_back(v) >= COMPILER_LEAST);
}

/* ---- nobody sees what was there before ---- */

#define DIRT 0xa5

static bool is_clean(const uint8_t *bytes, size_t n, uint8_t untouched)
{
	for (size_t i = 0; i < n; i++) {
		if (bytes[i] && bytes[i] != untouched)
			return false;
	}
	return true;
}

static void assert_parts_are_zero(struct vram *v, uint32_t handle, const char *name)
{
	const struct resource *res = device_find_resource(v->client, handle);
	struct format_content_part part;

	for (uint32_t i = 0; format_content_part(&res->desc, i, &part); i++) {
		uint8_t *bytes = malloc(part.bytes);
		MUST(bytes);
		memset(bytes, 0, part.bytes);
		if (v->dev->ops->content_read(
			    v->dev->renderer, res->stream.id, i, bytes, part.bytes) == 0 &&
			!is_clean(bytes, part.bytes, 0)) {
			fprintf(stderr, "%s, target %u, part %u: dirty\n", name, res->desc.target,
				i);
			_exit(1);
		}
		free(bytes);
	}
}

/* The guest's way, with rows and layers apart and memory in pieces: gaps stay as they were. */
static void assert_transfer_is_clean(struct vram *v, uint32_t handle, const char *name)
{
	const struct resource *res = device_find_resource(v->client, handle);
	static uint8_t memory[1 << 20];
	uint32_t layers = MAX(res->desc.depth, res->desc.array_size);
	struct iovec pieces[] = {
		{memory, 1001}, {memory + 1001, 4095}, {memory + 5096, sizeof(memory) - 5096}};
	struct renderer_transfer t = {.resource_id = handle,
		.stride = res->desc.target == PIPE_BUFFER ? 0 : 1280,
		.box = {0, 0, 0, res->desc.width, res->desc.height, layers},
		.iov = pieces,
		.n_iov = ARRAY_SIZE(pieces)};

	memset(memory, 0x77, sizeof(memory));
	device_transfer(v->client, DEVICE_FROM_HOST, &t);
	if (!is_clean(memory, sizeof(memory), 0x77)) {
		fprintf(stderr, "%s, target %u: a transfer from the host brings dirt\n", name,
			res->desc.target);
		_exit(1);
	}
}

static void check_new(struct vram *v, const struct renderer_resource_desc *desc, const char *name)
{
	for (unsigned round = 0; round < 2; round++) {
		if (vram_resource(v, 99, desc) < 0)
			return;
		assert_transfer_is_clean(v, 99, name);
		assert_parts_are_zero(v, 99, name);
		vram_fill(v, 99, DIRT);
		device_resource_destroy(v->client, 99);
	}
}

/* Whatever the allocator gives out is dirt, so what nobody clears shows. */
static void libc_nothing_shows(void)
{
	MUST(mallopt(M_PERTURB, 0xff ^ DIRT) == 1);
	struct vram *v = vram_start(256 * MIB);

	for (size_t f = 0; f < ARRAY_SIZE(formats); f++) {
		for (size_t s = 0; s < ARRAY_SIZE(shapes); s++) {
			struct renderer_resource_desc desc = shapes[s];
			desc.format = formats[f].number;
			desc.bind = is_depth(desc.format) ? 1 : 1 << 3;
			check_new(v, &desc, formats[f].name);
		}
	}
	for (size_t b = 0; b < ARRAY_SIZE(buffer_binds); b++) {
		struct renderer_resource_desc desc = {
			PIPE_BUFFER, VIRGL_FORMAT_R8_UNORM, buffer_binds[b], 30000, 1, FLAT};
		check_new(v, &desc, "buffer");
		desc.format = VIRGL_FORMAT_R32G32B32A32_FLOAT;
		check_new(v, &desc, "buffer of texels");
	}
}

#define IN_CHILD(name)                                                                             \
	static void test_##name(void **state)                                                      \
	{                                                                                          \
		vram_in_child(name);                                                               \
	}
IN_CHILD(textures)
IN_CHILD(buffers)
IN_CHILD(libc_pages)
IN_CHILD(objects)
IN_CHILD(libc_dropped_objects)
IN_CHILD(views_end)
IN_CHILD(shaders_end)
IN_CHILD(queries_end)
IN_CHILD(libc_contexts_end)
IN_CHILD(programs_end)
IN_CHILD(programs_of_one_buffer_end)
IN_CHILD(tiny_resources_end)
IN_CHILD(libc_rest)
IN_CHILD(libc_nothing_shows)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_textures),
		cmocka_unit_test(test_buffers),
		cmocka_unit_test(test_libc_pages),
		cmocka_unit_test(test_objects),
		cmocka_unit_test(test_libc_dropped_objects),
		cmocka_unit_test(test_views_end),
		cmocka_unit_test(test_shaders_end),
		cmocka_unit_test(test_queries_end),
		cmocka_unit_test(test_libc_contexts_end),
		cmocka_unit_test(test_programs_end),
		cmocka_unit_test(test_programs_of_one_buffer_end),
		cmocka_unit_test(test_tiny_resources_end),
		cmocka_unit_test(test_libc_rest),
		cmocka_unit_test(test_libc_nothing_shows),
	};
#ifdef __SANITIZE_ADDRESS__
	/* They look into the C library's allocator, in whose place is the sanitizer's. */
	cmocka_set_skip_filter("test_libc_*");
#endif
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
