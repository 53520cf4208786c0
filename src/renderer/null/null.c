/* SPDX-License-Identifier: Apache-2.0 */
#include "renderer/null/null.h"

#include "renderer/format.h"

#include "base/checked.h"
#include "base/idmap.h"
#include "base/iov.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct null_resource {
	struct renderer_resource_desc desc;
	uint64_t size;
	struct iovec *iov; /* the device's */
	unsigned n_iov;
	uint8_t *bytes; /* level 0 */
	uint8_t *parts; /* what content_write() was given of the other parts; NULL: zeros */
};

struct renderer {
	struct renderer_events events;
	void *events_data;
	struct idmap resources; /* struct null_resource */
	uint64_t fence_id;
};

static int null_create(const struct renderer_config *config, const struct renderer_events *events,
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

static void null_resource_destroy(struct renderer *r, uint32_t id)
{
	struct null_resource *res = idmap_remove(&r->resources, id);
	if (!res)
		return;
	free(res->bytes);
	free(res->parts);
	free(res);
}

static void null_set_vram(struct renderer *r, uint64_t bytes)
{
}

static void null_destroy(struct renderer *r)
{
	uint32_t cursor = 0, id;
	while (idmap_next(&r->resources, &cursor, &id)) {
		null_resource_destroy(r, id);
		cursor = 0;
	}
	idmap_finish(&r->resources);
	free(r);
}

static const char *null_description(struct renderer *r)
{
	return "null";
}

/* It has none. */
static uint64_t null_context_bytes(struct renderer *r)
{
	return 0;
}

static int null_capset_info(struct renderer *r, unsigned index, struct renderer_capset *ret)
{
	return -ENOENT;
}

static int null_capset_get(
	struct renderer *r, uint32_t id, uint32_t version, void *buf, size_t size)
{
	return -EINVAL;
}

static int null_context_create(struct renderer *r, uint32_t ctx_id, const char *name)
{
	return 0;
}

static void null_context_destroy(struct renderer *r, uint32_t ctx_id)
{
}

static void null_context_resource(struct renderer *r, uint32_t ctx_id, uint32_t resource_id)
{
}

static int null_resource_create(
	struct renderer *r, uint32_t id, const struct renderer_resource_desc *desc)
{
	struct null_resource *res = calloc(1, sizeof(*res));
	if (!res)
		return -ENOMEM;
	res->desc = *desc;
	if (!format_resource_size(desc, &res->size)) {
		free(res);
		return -EINVAL;
	}
	res->bytes = calloc(1, res->size);
	int err = res->bytes ? idmap_add(&r->resources, id, res) : -ENOMEM;
	if (err < 0) {
		free(res->bytes);
		free(res);
	}
	return err;
}

static int null_attach_iov(struct renderer *r, uint32_t id, struct iovec *iov, unsigned n)
{
	struct null_resource *res = idmap_get(&r->resources, id);
	if (!res)
		return -ENOENT;
	res->iov = iov;
	res->n_iov = n;
	return 0;
}

static void null_detach_iov(struct renderer *r, uint32_t id)
{
	struct null_resource *res = idmap_get(&r->resources, id);
	if (res) {
		res->iov = NULL;
		res->n_iov = 0;
	}
}

/* Only level 0 of single-layer resources is kept; other boxes move nothing. */
static int null_transfer(struct renderer *r, const struct renderer_transfer *t, bool to_host)
{
	struct null_resource *res = idmap_get(&r->resources, t->resource_id);
	if (!res)
		return -ENOENT;
	if (t->level || t->box.z || t->box.d > 1)
		return 0;
	struct format_block block = format_block(res->desc.format);
	if (res->desc.target == PIPE_BUFFER)
		block = (struct format_block){1, 1, 1};
	const struct iovec *iov = t->n_iov ? t->iov : res->iov;
	unsigned n_iov = t->n_iov ? t->n_iov : res->n_iov;
	uint64_t row = (uint64_t)((t->box.w + block.width - 1u) / block.width) * block.bytes;
	uint64_t pitch =
		(uint64_t)((res->desc.width + block.width - 1u) / block.width) * block.bytes;
	uint64_t stride = t->stride ? t->stride : pitch;
	uint32_t rows = (t->box.h + block.height - 1u) / block.height;
	for (uint32_t y = 0; y < rows; y++) {
		uint64_t at = (t->box.y / block.height + y) * pitch +
			      (uint64_t)(t->box.x / block.width) * block.bytes;
		if (!range_inside(at, row, res->size))
			return -EINVAL;
		if (to_host)
			iov_read(iov, n_iov, t->offset + y * stride, res->bytes + at, row);
		else
			iov_write(iov, n_iov, t->offset + y * stride, res->bytes + at, row);
	}
	return 0;
}

static int null_transfer_to_host(struct renderer *r, const struct renderer_transfer *t)
{
	return null_transfer(r, t, true);
}

static int null_transfer_from_host(struct renderer *r, const struct renderer_transfer *t)
{
	return null_transfer(r, t, false);
}

static int null_submit(struct renderer *r, uint32_t ctx_id, uint32_t *dwords, size_t n, bool asks)
{
	return 0;
}

static bool null_leaves_out_clip_planes(const struct renderer *r)
{
	return false;
}

static void null_keep_clip_planes(struct renderer *r)
{
}

static int null_fence_create(struct renderer *r, uint64_t fence_id)
{
	r->fence_id = fence_id;
	return 0;
}

static int null_poll_fd(struct renderer *r)
{
	return -1;
}

static void null_poll(struct renderer *r)
{
	uint64_t id = r->fence_id;
	r->fence_id = 0;
	if (id)
		r->events.fence(r->events_data, id);
}

static int null_read_pixels(struct renderer *r, uint32_t id, const struct renderer_box *rect,
	void *dst, uint32_t stride)
{
	struct iovec iov = {dst, (size_t)stride * rect->h};
	struct renderer_transfer t = {
		.resource_id = id, .box = *rect, .stride = stride, .iov = &iov, .n_iov = 1};
	struct null_resource *res = idmap_get(&r->resources, id);

	if (!res)
		return -ENOENT;
	int err = null_transfer(r, &t, false);
	for (uint32_t y = 0; !err && y < rect->h; y++)
		format_to_bgra(
			res->desc.format, (uint32_t *)((char *)dst + (size_t)y * stride), rect->w);
	return err;
}

static bool null_is_staging(const struct renderer_resource_desc *desc)
{
	const uint32_t staging = 1u << 19; /* VIRGL_BIND_STAGING: the bytes are the backing */
	return desc->target == PIPE_BUFFER && desc->bind == staging;
}

/* ---- state: parts as they were written, and the first is level 0 ---- */

static enum renderer_fidelity null_fidelity(
	struct renderer *r, const struct renderer_resource_desc *desc)
{
	return format_content_parts(desc) ? RENDERER_EXACT : RENDERER_UNREADABLE;
}

/* Where the part's bytes are kept; NULL: nowhere yet. */
static int null_part(
	struct null_resource *res, uint32_t part, size_t size, bool make, uint8_t **ret)
{
	struct format_content_part p;
	uint64_t at = 0, total = 0;

	if (!format_content_part(&res->desc, part, &p) || p.bytes != size)
		return -EINVAL;
	*ret = part ? res->parts : res->bytes;
	if (part == 0)
		return 0;
	for (uint32_t i = 0; format_content_part(&res->desc, i, &p); i++) {
		at += i < part ? p.bytes : 0;
		total += p.bytes;
	}
	if (!res->parts && make) {
		res->parts = calloc(1, MAX(total, 1u));
		if (!res->parts)
			return -ENOMEM;
	}
	*ret = res->parts ? res->parts + at : NULL;
	return 0;
}

static int null_fidelity_save(struct renderer *r, void *bytes, size_t size)
{
	return 0;
}

static int null_fidelity_load(struct renderer *r, const void *bytes, size_t size)
{
	return 0;
}

static int null_content_read(struct renderer *r, uint32_t id, uint32_t part, void *dst, size_t size)
{
	struct null_resource *res = idmap_get(&r->resources, id);
	uint8_t *bytes;

	if (!res)
		return -ENOENT;
	if (null_is_staging(&res->desc))
		return -ENODATA;
	int err = null_part(res, part, size, false, &bytes);
	if (!err && bytes)
		memcpy(dst, bytes, size);
	else if (!err)
		memset(dst, 0, size);
	return err;
}

static int null_content_write(
	struct renderer *r, uint32_t id, uint32_t part, const void *src, size_t size)
{
	struct null_resource *res = idmap_get(&r->resources, id);
	uint8_t *bytes;

	if (!res)
		return -ENOENT;
	if (null_is_staging(&res->desc))
		return -ENODATA;
	int err = null_part(res, part, size, true, &bytes);
	if (!err)
		memcpy(bytes, src, size);
	return err;
}

/* It executes nothing, so there are none of these. */

static unsigned null_queries_made(struct renderer *r, uint32_t *ret_ids, unsigned max)
{
	return 0;
}

static int null_query_save(struct renderer *r, uint32_t query, struct renderer_query *ret)
{
	return -ENOENT;
}

static int null_query_load(struct renderer *r, uint32_t query, const struct renderer_query *saved)
{
	return -ENOENT;
}

static int null_streamout_save(struct renderer *r, uint32_t ctx_id, struct renderer_streamout *ret)
{
	*ret = (struct renderer_streamout){0};
	return 0;
}

static int null_streamout_load(
	struct renderer *r, uint32_t ctx_id, const struct renderer_streamout *saved)
{
	return 0;
}

static int null_capset_covers(struct renderer *r, uint32_t id, uint32_t version, const void *saved,
	size_t saved_size, char *why, size_t why_size)
{
	return 0;
}

static int null_export_dmabuf(struct renderer *r, uint32_t id, struct renderer_dmabuf *ret)
{
	return -ENOTSUP;
}

const struct renderer_ops renderer_null = {
	.name = "null",
	.create = null_create,
	.destroy = null_destroy,
	.set_vram = null_set_vram,
	.description = null_description,
	.context_bytes = null_context_bytes,
	.capset_info = null_capset_info,
	.capset_get = null_capset_get,
	.context_create = null_context_create,
	.context_destroy = null_context_destroy,
	.context_attach = null_context_resource,
	.context_detach = null_context_resource,
	.resource_create = null_resource_create,
	.resource_destroy = null_resource_destroy,
	.resource_attach_iov = null_attach_iov,
	.resource_detach_iov = null_detach_iov,
	.transfer_to_host = null_transfer_to_host,
	.transfer_from_host = null_transfer_from_host,
	.submit = null_submit,
	.leaves_out_clip_planes = null_leaves_out_clip_planes,
	.keep_clip_planes = null_keep_clip_planes,
	.fence_create = null_fence_create,
	.poll_fd = null_poll_fd,
	.poll = null_poll,
	.finish = null_poll,
	.read_pixels = null_read_pixels,
	.fidelity = null_fidelity,
	.fidelity_save = null_fidelity_save,
	.fidelity_load = null_fidelity_load,
	.content_read = null_content_read,
	.content_write = null_content_write,
	.queries_made = null_queries_made,
	.query_save = null_query_save,
	.query_load = null_query_load,
	.streamout_save = null_streamout_save,
	.streamout_load = null_streamout_load,
	.capset_covers = null_capset_covers,
	.export_dmabuf = null_export_dmabuf,
};
