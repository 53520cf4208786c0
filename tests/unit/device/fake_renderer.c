/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_renderer.h"

#include "base/checked.h"
#include "base/idmap.h"
#include "base/iov.h"
#include "protocol/virgl.h"
#include "renderer/format.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FAKE_OBJECTS     64
#define FAKE_QUERIES     256
#define FAKE_CONTEXTS    16
#define FAKE_BIND_CUSTOM (1u << 17)

enum {
	CREATE_OBJECT = 1,
	DESTROY_OBJECT = 3,
	SET_FRAMEBUFFER = 5,
	CLEAR = 7,
	BEGIN_QUERY = 19,
	END_QUERY = 20,
	GET_QUERY_RESULT = 21,
	TRANSFER3D = 43,
};

struct fake_resource {
	struct renderer_resource_desc desc;
	uint64_t size;
	uint8_t *bytes;
	struct iovec *iov;
	unsigned n_iov;
};

struct fake_query {
	uint32_t ctx, handle, resource;
	struct renderer_query q;
	bool asked;
	uint64_t result;
};

struct fake_context {
	uint32_t id;
	struct {
		uint32_t handle, resource;
	} surfaces[FAKE_OBJECTS];
	uint32_t target; /* resource drawn into */
};

struct renderer {
	struct renderer_events events;
	void *events_data;
	struct idmap resources;
	struct fake_context contexts[FAKE_CONTEXTS];
	struct fake_query queries[FAKE_QUERIES];
	uint32_t n_queries, n_reported;
	uint64_t fence;
};

struct fake_faults fake_faults;

static int fake_create(const struct renderer_config *config, const struct renderer_events *events,
	void *events_data, struct renderer **ret)
{
	struct renderer *r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->events = *events;
	r->events_data = events_data;
	idmap_init(&r->resources, 0);
	*ret = r;
	return 0;
}

static void fake_resource_destroy(struct renderer *r, uint32_t id)
{
	struct fake_resource *res = idmap_remove(&r->resources, id);
	if (res)
		free(res->bytes);
	free(res);
}

static void fake_set_vram(struct renderer *r, uint64_t bytes)
{
}

static void fake_destroy(struct renderer *r)
{
	uint32_t cursor = 0, id;
	while (idmap_next(&r->resources, &cursor, &id)) {
		fake_resource_destroy(r, id);
		cursor = 0;
	}
	idmap_finish(&r->resources);
	free(r);
}

static const char *fake_description(struct renderer *r)
{
	return "fake";
}

static uint64_t fake_context_bytes(struct renderer *r)
{
	return 2816u << 10;
}

/* ---- capsets ---- */

static int fake_capset_info(struct renderer *r, unsigned index, struct renderer_capset *ret)
{
	*ret = (struct renderer_capset){.id = 1, .max_version = 1, .max_size = 16};
	return index ? -ENOENT : 0;
}

static int fake_capset_get(
	struct renderer *r, uint32_t id, uint32_t version, void *buf, size_t size)
{
	memset(buf, 0, size);
	memcpy(buf, "capabilities", MIN(size, 12u));
	return 0;
}

static int fake_capset_covers(struct renderer *r, uint32_t id, uint32_t version, const void *saved,
	size_t saved_size, char *why, size_t why_size)
{
	snprintf(why, why_size, "no such thing");
	return fake_faults.capset_covers;
}

/* ---- contexts ---- */

static struct fake_context *fake_context(struct renderer *r, uint32_t id)
{
	for (size_t i = 0; i < FAKE_CONTEXTS; i++) {
		if (r->contexts[i].id == id)
			return &r->contexts[i];
	}
	return NULL;
}

static int fake_context_create(struct renderer *r, uint32_t ctx_id, const char *name)
{
	struct fake_context *ctx = fake_context(r, 0);
	if (!ctx || fake_context(r, ctx_id))
		return -ENOMEM;
	*ctx = (struct fake_context){.id = ctx_id};
	return 0;
}

static void fake_context_destroy(struct renderer *r, uint32_t ctx_id)
{
	struct fake_context *ctx = fake_context(r, ctx_id);
	for (uint32_t i = 0; i < r->n_queries; i++) {
		if (r->queries[i].ctx == ctx_id)
			r->queries[i] = (struct fake_query){0};
	}
	if (ctx)
		ctx->id = 0;
}

static void fake_context_resource(struct renderer *r, uint32_t ctx_id, uint32_t resource_id)
{
}

/* ---- resources ---- */

static int fake_resource_create(
	struct renderer *r, uint32_t id, const struct renderer_resource_desc *desc)
{
	struct fake_resource *res = calloc(1, sizeof(*res));
	struct format_content_part part;

	if (!res)
		return -ENOMEM;
	res->desc = *desc;
	for (uint32_t i = 0; format_content_part(desc, i, &part); i++)
		res->size += part.bytes;
	res->bytes = calloc(1, res->size + 1);
	int err = res->bytes ? idmap_add(&r->resources, id, res) : -ENOMEM;
	if (err) {
		free(res->bytes);
		free(res);
	}
	return err;
}

static bool fake_is_custom(const struct fake_resource *res)
{
	return res->desc.target == PIPE_BUFFER && res->desc.bind == FAKE_BIND_CUSTOM;
}

static int fake_attach(struct renderer *r, uint32_t id, struct iovec *iov, unsigned n)
{
	struct fake_resource *res = idmap_get(&r->resources, id);
	if (!res)
		return -ENOENT;
	res->iov = iov;
	res->n_iov = n;
	if (fake_is_custom(res))
		iov_write(iov, n, 0, res->bytes, res->size);
	return 0;
}

static void fake_detach(struct renderer *r, uint32_t id)
{
	struct fake_resource *res = idmap_get(&r->resources, id);
	if (res && res->iov && fake_is_custom(res))
		iov_read(res->iov, res->n_iov, 0, res->bytes, res->size);
	if (res)
		res->iov = NULL;
}

/* Buffers and whole first levels of textures only. */
static int fake_transfer(struct renderer *r, const struct renderer_transfer *t, bool to_host)
{
	struct fake_resource *res = idmap_get(&r->resources, t->resource_id);
	if (!res)
		return -ENOENT;
	const struct iovec *iov = t->n_iov ? t->iov : res->iov;
	unsigned n = t->n_iov ? t->n_iov : res->n_iov;
	uint64_t bytes;

	if (!iov || !format_box_bytes(&res->desc, t->level, &t->box, 0, 0, &bytes))
		return -EINVAL;
	if (fake_is_custom(res) && res->iov)
		return 0;
	uint64_t at = res->desc.target == PIPE_BUFFER ? t->box.x : 0;
	if (!range_inside(at, bytes, res->size) ||
		!range_inside(t->offset, bytes, iov_size(iov, n)))
		return -EINVAL;
	if (to_host)
		iov_read(iov, n, t->offset, res->bytes + at, bytes);
	else
		iov_write(iov, n, t->offset, res->bytes + at, bytes);
	return 0;
}

static int fake_to_host(struct renderer *r, const struct renderer_transfer *t)
{
	return fake_transfer(r, t, true);
}

static int fake_from_host(struct renderer *r, const struct renderer_transfer *t)
{
	return fake_transfer(r, t, false);
}

/* ---- commands ---- */

static struct fake_query *fake_query(struct renderer *r, uint32_t ctx, uint32_t handle)
{
	for (uint32_t i = r->n_queries; i-- > 0;) {
		if (r->queries[i].ctx == ctx && r->queries[i].handle == handle)
			return &r->queries[i];
	}
	return NULL;
}

static uint32_t *fake_surface(struct fake_context *ctx, uint32_t handle)
{
	for (size_t i = 0; i < FAKE_OBJECTS; i++) {
		if (ctx->surfaces[i].handle == handle)
			return &ctx->surfaces[i].resource;
	}
	return NULL;
}

static int fake_create_surface(struct fake_context *ctx, uint32_t handle, uint32_t resource)
{
	uint32_t *surface = fake_surface(ctx, handle);

	for (size_t i = 0; i < FAKE_OBJECTS && !surface; i++) {
		if (ctx->surfaces[i].handle)
			continue;
		ctx->surfaces[i].handle = handle;
		surface = &ctx->surfaces[i].resource;
	}
	if (surface)
		*surface = resource;
	return surface ? 0 : -EINVAL;
}

static int fake_create_object(
	struct renderer *r, struct fake_context *ctx, const uint32_t *dw, uint32_t type)
{
	if (type == VIRGL_OBJECT_SURFACE)
		return fake_create_surface(ctx, dw[1], dw[2]);
	if (type != VIRGL_OBJECT_QUERY)
		return 0;
	if (r->n_queries == FAKE_QUERIES)
		return -EINVAL;
	r->queries[r->n_queries++] =
		(struct fake_query){.ctx = ctx->id, .handle = dw[1], .resource = dw[4]};
	return 0;
}

static void fake_set_framebuffer(struct fake_context *ctx, const uint32_t *dw)
{
	const uint32_t *surface = dw[1] && dw[3] ? fake_surface(ctx, dw[3]) : NULL;
	ctx->target = surface ? *surface : 0;
}

static void fake_destroy_object(struct fake_context *ctx, uint32_t handle)
{
	for (size_t i = 0; i < FAKE_OBJECTS; i++) {
		if (ctx->surfaces[i].handle == handle)
			ctx->surfaces[i].handle = 0;
	}
}

/* Everything drawn adds to what was there. */
static void fake_draw(struct renderer *r, struct fake_context *ctx, uint32_t value)
{
	struct fake_resource *res = ctx->target ? idmap_get(&r->resources, ctx->target) : NULL;

	for (uint64_t i = 0; res && i < res->size; i++)
		res->bytes[i] = (uint8_t)(res->bytes[i] * 3u + value + i);
	for (uint32_t i = 0; i < r->n_queries; i++) {
		if (r->queries[i].ctx == ctx->id && r->queries[i].q.state == RENDERER_QUERY_ACTIVE)
			r->queries[i].q.value += value;
	}
}

static int fake_stream_transfer(
	struct renderer *r, const struct fake_context *ctx, const uint32_t *dw)
{
	const struct renderer_transfer t = {
		.ctx_id = ctx->id,
		.resource_id = dw[1],
		.level = dw[2],
		.box = {dw[6], dw[7], dw[8], dw[9], dw[10], dw[11]},
		.offset = dw[12],
	};
	return fake_transfer(r, &t, dw[13] == VIRGL_TRANSFER_TO_HOST);
}

static int fake_command(struct renderer *r, struct fake_context *ctx, const uint32_t *dw)
{
	struct fake_query *q = NULL;
	uint32_t opcode = VIRGL_HEADER_OPCODE(dw[0]);

	if (opcode >= BEGIN_QUERY && opcode <= GET_QUERY_RESULT)
		q = fake_query(r, ctx->id, dw[1]);
	switch (opcode) {
	case CREATE_OBJECT:
		return fake_create_object(r, ctx, dw, dw[0] >> 8 & 0xff);
	case SET_FRAMEBUFFER:
		fake_set_framebuffer(ctx, dw);
		return 0;
	case DESTROY_OBJECT:
		fake_destroy_object(ctx, dw[1]);
		return 0;
	case CLEAR:
		fake_draw(r, ctx, dw[2]);
		return 0;
	case BEGIN_QUERY:
		if (q)
			q->q = (struct renderer_query){.state = RENDERER_QUERY_ACTIVE};
		return 0;
	case END_QUERY:
		if (q)
			q->q.state = RENDERER_QUERY_ENDED;
		return 0;
	case GET_QUERY_RESULT:
		if (q)
			q->asked = true, q->result = q->q.value;
		return 0;
	case TRANSFER3D:
		return fake_stream_transfer(r, ctx, dw);
	default:
		return 0;
	}
}

static int fake_submit(struct renderer *r, uint32_t ctx_id, uint32_t *dwords, size_t n, bool asks)
{
	struct fake_context *ctx = fake_context(r, ctx_id);
	int err = ctx ? 0 : -EINVAL;

	if (fake_faults.submit_after && !--fake_faults.submit_after)
		return -EINVAL;
	for (size_t i = 0; i < n && !err; i += 1 + VIRGL_HEADER_LENGTH(dwords[i]))
		err = fake_command(r, ctx, dwords + i);
	return err;
}

static bool fake_leaves_out_clip_planes(const struct renderer *r)
{
	return false;
}

static void fake_keep_clip_planes(struct renderer *r)
{
}

/* ---- fences, results ---- */

static int fake_fence_create(struct renderer *r, uint64_t id)
{
	r->fence = id;
	return 0;
}

static int fake_poll_fd(struct renderer *r)
{
	return -1;
}

static void fake_poll(struct renderer *r)
{
	uint64_t id = r->fence;

	for (uint32_t i = 0; i < r->n_queries; i++) {
		struct fake_query *q = &r->queries[i];
		const struct {
			uint32_t state, size;
			uint64_t result;
		} done = {1, 8, q->result};
		struct fake_resource *res = q->asked ? idmap_get(&r->resources, q->resource) : NULL;
		if (res && res->iov)
			iov_write(res->iov, res->n_iov, 0, &done, sizeof(done));
		q->asked = false;
	}
	r->fence = 0;
	if (id)
		r->events.fence(r->events_data, id);
}

static int fake_read_pixels(struct renderer *r, uint32_t id, const struct renderer_box *rect,
	void *dst, uint32_t stride)
{
	const struct fake_resource *res = idmap_get(&r->resources, id);
	for (uint32_t y = 0; res && y < rect->h; y++)
		memset((char *)dst + (size_t)y * stride, res->bytes[0], rect->w * 4);
	return res ? 0 : -ENOENT;
}

/* ---- state ---- */

static enum renderer_fidelity fake_fidelity(
	struct renderer *r, const struct renderer_resource_desc *desc)
{
	return fake_faults.lossy && desc->target != PIPE_BUFFER ? RENDERER_LOSSY : RENDERER_EXACT;
}

char fake_told_formats[32];

static int fake_fidelity_save(struct renderer *r, void *bytes, size_t size)
{
	const char *formats = fake_faults.formats ?: "";

	memcpy(bytes, formats, strlen(formats));
	return (int)strlen(formats);
}

static int fake_fidelity_load(struct renderer *r, const void *bytes, size_t size)
{
	snprintf(fake_told_formats, sizeof(fake_told_formats), "%.*s", (int)size,
		(const char *)bytes);
	return -ESTALE; /* which is no harm */
}

static int fake_content(
	struct renderer *r, uint32_t id, uint32_t part, void *buf, size_t size, bool write)
{
	struct fake_resource *res = idmap_get(&r->resources, id);
	struct format_content_part p;
	uint64_t at = 0;

	for (uint32_t i = 0; res && i < part && format_content_part(&res->desc, i, &p); i++)
		at += p.bytes;
	if (!res || !format_content_part(&res->desc, part, &p) || p.bytes != size)
		return -EINVAL;
	if (write)
		memcpy(res->bytes + at, buf, size);
	else
		memcpy(buf, res->bytes + at, size);
	return 0;
}

static int fake_content_read(struct renderer *r, uint32_t id, uint32_t part, void *dst, size_t size)
{
	return fake_faults.content_read ? fake_faults.content_read
					: fake_content(r, id, part, dst, size, false);
}

static int fake_content_write(
	struct renderer *r, uint32_t id, uint32_t part, const void *src, size_t size)
{
	return fake_faults.content_write
		       ? fake_faults.content_write
		       : fake_content(r, id, part, (void *)(uintptr_t)src, size, true);
}

static unsigned fake_queries_made(struct renderer *r, uint32_t *ret_ids, unsigned max)
{
	unsigned n = 0;
	while (n < max && r->n_reported < r->n_queries)
		ret_ids[n++] = ++r->n_reported;
	return n;
}

static int fake_query_save(struct renderer *r, uint32_t query, struct renderer_query *ret)
{
	if (!query || query > r->n_queries)
		return -ENOENT;
	*ret = r->queries[query - 1].q;
	return 0;
}

static int fake_query_load(struct renderer *r, uint32_t query, const struct renderer_query *saved)
{
	if (!query || query > r->n_queries)
		return -ENOENT;
	r->queries[query - 1].q = *saved;
	return 0;
}

static int fake_export(struct renderer *r, uint32_t id, struct renderer_dmabuf *ret)
{
	return -ENOTSUP;
}

const struct renderer_ops fake_renderer = {
	.name = "fake",
	.create = fake_create,
	.destroy = fake_destroy,
	.set_vram = fake_set_vram,
	.description = fake_description,
	.context_bytes = fake_context_bytes,
	.capset_info = fake_capset_info,
	.capset_get = fake_capset_get,
	.capset_covers = fake_capset_covers,
	.context_create = fake_context_create,
	.context_destroy = fake_context_destroy,
	.context_attach = fake_context_resource,
	.context_detach = fake_context_resource,
	.resource_create = fake_resource_create,
	.resource_destroy = fake_resource_destroy,
	.resource_attach_iov = fake_attach,
	.resource_detach_iov = fake_detach,
	.transfer_to_host = fake_to_host,
	.transfer_from_host = fake_from_host,
	.submit = fake_submit,
	.leaves_out_clip_planes = fake_leaves_out_clip_planes,
	.keep_clip_planes = fake_keep_clip_planes,
	.fence_create = fake_fence_create,
	.poll_fd = fake_poll_fd,
	.poll = fake_poll,
	.finish = fake_poll,
	.read_pixels = fake_read_pixels,
	.fidelity = fake_fidelity,
	.fidelity_save = fake_fidelity_save,
	.fidelity_load = fake_fidelity_load,
	.content_read = fake_content_read,
	.content_write = fake_content_write,
	.queries_made = fake_queries_made,
	.query_save = fake_query_save,
	.query_load = fake_query_load,
	.export_dmabuf = fake_export,
};

/* ---- what tests send ---- */

static unsigned fake_put(uint32_t *dw, uint32_t opcode, uint32_t type, unsigned n)
{
	memset(dw, 0, (1 + n) * sizeof(*dw));
	dw[0] = VIRGL_HEADER(opcode, type, n);
	return 1 + n;
}

unsigned fake_put_surface(uint32_t *dw, uint32_t handle, uint32_t resource)
{
	unsigned n = fake_put(dw, CREATE_OBJECT, VIRGL_OBJECT_SURFACE, 5);
	dw[1] = handle;
	dw[2] = resource;
	dw[3] = VIRGL_FORMAT_B8G8R8X8_UNORM;
	return n;
}

unsigned fake_put_destroy(uint32_t *dw, uint32_t handle)
{
	unsigned n = fake_put(dw, DESTROY_OBJECT, VIRGL_OBJECT_SURFACE, 1);
	dw[1] = handle;
	return n;
}

unsigned fake_put_framebuffer(uint32_t *dw, uint32_t surface)
{
	unsigned n = fake_put(dw, SET_FRAMEBUFFER, 0, 3);
	dw[1] = 1;
	dw[3] = surface;
	return n;
}

unsigned fake_put_clear(uint32_t *dw, uint32_t value)
{
	unsigned n = fake_put(dw, CLEAR, 0, 8);
	dw[1] = 4; /* colour buffer 0 */
	dw[2] = value;
	return n;
}

unsigned fake_put_query(uint32_t *dw, uint32_t handle, uint32_t buffer)
{
	unsigned n = fake_put(dw, CREATE_OBJECT, VIRGL_OBJECT_QUERY, 4);
	dw[1] = handle;
	dw[4] = buffer;
	return n;
}

unsigned fake_put_query_begin(uint32_t *dw, uint32_t handle)
{
	unsigned n = fake_put(dw, BEGIN_QUERY, 0, 1);
	dw[1] = handle;
	return n;
}

unsigned fake_put_query_end(uint32_t *dw, uint32_t handle)
{
	unsigned n = fake_put(dw, END_QUERY, 0, 1);
	dw[1] = handle;
	n += fake_put(dw + n, GET_QUERY_RESULT, 0, 2);
	dw[n - 2] = handle;
	return n;
}

unsigned fake_put_transfer(
	uint32_t *dw, uint32_t resource, uint32_t bytes, uint32_t offset, bool from_host)
{
	unsigned n = fake_put(dw, TRANSFER3D, 0, 13);
	dw[1] = resource;
	dw[9] = bytes;
	dw[10] = dw[11] = 1;
	dw[12] = offset;
	dw[13] = from_host ? VIRGL_TRANSFER_FROM_HOST : VIRGL_TRANSFER_TO_HOST;
	return n;
}
