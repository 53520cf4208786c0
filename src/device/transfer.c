/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Transfers, by themselves and inside a stream, and what of them goes to the journal or comes from
 * it. Bytes are read from a backing once: into the journal, and from there. A transfer inside a
 * stream is the exception: the library reads the backing itself, a moment later; a guest that
 * changes it in between has no answer to expect.
 *
 * Buffers that are the guest's (staging, custom) have their bytes nowhere else. Moving them "to the
 * host" changes nothing there, so nothing of it is kept.
 */
#include "device/private.h"

#include "base/checked.h"
#include "base/iov.h"
#include "renderer/format.h"
#include "state/journal.h"

#include <errno.h>
#include <stdlib.h>

/*
 * Mesa's guest driver waits for a query by reading its buffer (a "custom" one of 16 bytes) until
 * the host says there that the result has come. A lost context's results never come, and no error
 * reaches the guest's program: it would read for ever. So such a reading finds "done, 0".
 */
static void transfer_answer_lost(
	const struct resource *res, enum device_transfer_direction direction)
{
	static const struct virgl_query_result done = {
		.state = VIRGL_QUERY_RESULT_DONE, .size = sizeof(done.result)};

	if (direction == DEVICE_FROM_HOST && resource_is_query_result(res) && res->iov)
		iov_write(resource_backing(res), res->n_iov, 0, &done, sizeof(done));
}

/* ---- payloads ---- */

/* The bytes of the backing as they are to be used; NULL: those in the backing itself. */
static const void *transfer_payload(
	struct device *dev, const struct resource *res, uint64_t offset, uint64_t bytes)
{
	const void *payload = NULL;
	size_t size = 0;

	if (!dev->journal)
		return NULL;
	if (dev->replay.on) {
		payload = journal_next_payload(dev->journal, &size);
		/* Cut off by the end of the process: what is used now is kept for the next one. */
		if (!payload && !dev->replay.executed &&
			journal_payload(
				dev->journal, resource_backing(res), res->n_iov, offset, bytes))
			payload = journal_next_payload(dev->journal, &size);
		dev->replay.failed |= payload ? size != bytes : dev->replay.executed;
		return dev->replay.failed ? NULL : payload;
	}
	if (!dev->journal_full)
		payload = journal_payload(
			dev->journal, resource_backing(res), res->n_iov, offset, bytes);
	/* What came after a gap would be taken for what is missing. */
	dev->journal_full |= !payload;
	return payload;
}

/*
 * What the library may look at: from the box's first byte to its last. It counts buffers in texels
 * of their format.
 */
static bool transfer_span(const struct resource *res, const struct renderer_transfer *t,
	uint64_t room, uint64_t *ret_bytes)
{
	uint64_t bytes, end;

	if (!format_box_inside(&res->desc, t->level, &t->box) ||
		!format_box_bytes(
			&res->desc, t->level, &t->box, t->stride, t->layer_stride, &bytes) ||
		!checked_add(t->offset, bytes, &end) || end > room)
		return false;
	if (res->desc.target == PIPE_BUFFER)
		bytes = MIN(
			bytes * MAX(format_block(res->desc.format).bytes, 1u), room - t->offset);
	*ret_bytes = bytes;
	return true;
}

/* With the payload in place of the backing's bytes; NULL: as it says itself. */
static int transfer_use(
	struct device *dev, const struct renderer_transfer *t, const void *payload, uint64_t bytes)
{
	const struct iovec copy = {(void *)(uintptr_t)payload, bytes};
	struct renderer_transfer own = *t;

	if (payload) {
		own.iov = &copy;
		own.n_iov = 1;
		own.offset = 0;
	}
	return dev->ops->transfer_to_host(dev->renderer, &own);
}

/* ---- replaying ---- */

/* Of a buffer that is the guest's: from one place of its backing to another. */
static int transfer_within(const struct resource *to, uint64_t at, const struct resource *from,
	uint64_t offset, uint64_t n)
{
	void *bytes = malloc(n);

	if (!bytes)
		return -ENOMEM;
	n = iov_read(resource_backing(from), from->n_iov, offset, bytes, n);
	iov_write(resource_backing(to), to->n_iov, at, bytes, n);
	free(bytes);
	return 0;
}

/* `from`: whose backing it is about. `own` names neither a list nor a context of the client. */
static int transfer_replayed(struct device *dev, enum device_transfer_direction direction,
	const struct resource *res, const struct resource *from, struct renderer_transfer *own,
	uint64_t bytes)
{
	bool touches_guest = direction == DEVICE_FROM_HOST || resource_is_guests(res);

	if (touches_guest && dev->replay.executed)
		return 0;
	if (resource_is_guests(res))
		return direction == DEVICE_FROM_HOST
			       ? transfer_within(from, own->offset, res, own->box.x, own->box.w)
			       : transfer_within(res, own->box.x, from, own->offset, own->box.w);
	own->iov = resource_backing(from);
	own->n_iov = from->n_iov;
	if (direction == DEVICE_FROM_HOST)
		return dev->ops->transfer_from_host(dev->renderer, own);
	const void *payload = transfer_payload(dev, from, own->offset, bytes);
	return transfer_use(dev, own, payload, bytes);
}

/* ---- inside a stream ---- */

static struct renderer_transfer transfer_of_stream(
	const struct context *ctx, const struct stream_transfer *t)
{
	return (struct renderer_transfer){
		.ctx_id = ctx->id,
		.resource_id = t->res->id,
		.level = t->level,
		.stride = t->stride,
		.layer_stride = t->layer_stride,
		.box = {t->x, t->y, t->z, t->width, t->height, t->depth},
		.offset = t->offset,
	};
}

int context_transfer(void *data, const struct stream_transfer *t)
{
	struct context *ctx = data;
	struct device *dev = ctx->client->device;
	struct resource *res = container_of(t->res, struct resource, stream);
	struct resource *from = t->from ? container_of(t->from, struct resource, stream) : res;
	enum device_transfer_direction direction = t->from_host ? DEVICE_FROM_HOST : DEVICE_TO_HOST;
	struct renderer_transfer own = transfer_of_stream(ctx, t);
	uint64_t bytes;

	/* What does not fit is for the library to refuse, before it looks at a byte. */
	if (!dev->journal || ctx->borrowed || !from->iov ||
		!transfer_span(res, &own, from->backing_bytes, &bytes) || !bytes)
		return 0;
	if (dev->replay.on) {
		if (!ctx->stopped)
			return -EAGAIN;
		ctx->stopped = false;
		return transfer_replayed(dev, direction, res, from, &own, bytes) < 0 ? -EINVAL : 1;
	}
	if (direction == DEVICE_FROM_HOST) {
		ctx->reads_back = true;
		return 0;
	}
	if (resource_is_guests(res))
		return 0;
	/* It may be about to read what a command before it is about to write. */
	if (ctx->reads_back)
		return -EAGAIN;
	transfer_payload(dev, from, own.offset, bytes);
	return 0;
}

/* ---- by themselves ---- */

static int transfer_to_host(struct device *dev, struct resource *res,
	const struct renderer_transfer *own, uint64_t bytes)
{
	const void *payload = NULL;

	dev->unfenced = true;
	res->stream.written = dev->stream_budget.epoch;
	if (!own->n_iov && !resource_is_guests(res))
		payload = transfer_payload(dev, res, own->offset, bytes);
	return transfer_use(dev, own, payload, bytes);
}

static int transfer_run(struct device *dev, enum device_transfer_direction direction,
	struct resource *res, struct renderer_transfer *own, uint64_t bytes)
{
	struct vgpu_stats *stats = dev->config.stats;
	int err;

	vgpu_stats_add(direction == DEVICE_FROM_HOST ? &stats->transfer_from_host_bytes_total
						     : &stats->transfer_to_host_bytes_total,
		bytes);
	device_busy(dev);
	if (dev->replay.on && !own->n_iov) {
		dev->unfenced |= direction == DEVICE_TO_HOST;
		res->stream.written = dev->stream_budget.epoch;
		err = transfer_replayed(dev, direction, res, res, own, bytes);
	} else if (direction == DEVICE_FROM_HOST) {
		err = dev->ops->transfer_from_host(dev->renderer, own);
	} else {
		err = transfer_to_host(dev, res, own, bytes);
	}
	account_work(dev);
	device_idle(dev);
	return err;
}

/* The client's handles become the renderer's ids. */
static int transfer_name(struct device_client *client, enum device_transfer_direction direction,
	const struct resource *res, struct renderer_transfer *own)
{
	own->resource_id = res->stream.id;
	if (!own->ctx_id)
		return client->device->replay.skip ? -EIO : 0;
	struct context *ctx = device_find_context(client, own->ctx_id);
	if (!ctx || !idmap_get(&ctx->attached, res->handle))
		return -ENOENT;
	if (client->device->replay.skip)
		context_lose(ctx, "a transfer of it crashed the host's driver twice");
	if (ctx->lost) {
		if (!(client->device->replay.on && client->device->replay.executed))
			transfer_answer_lost(res, direction);
		return -EIO;
	}
	own->ctx_id = ctx->id;
	return 0;
}

int device_transfer(struct device_client *client, enum device_transfer_direction direction,
	const struct renderer_transfer *t)
{
	device_enter(client->device);
	struct resource *res = device_find_resource(client, t->resource_id);
	struct renderer_transfer own = *t;
	uint64_t bytes;

	if (!res)
		return -ENOENT;
	int err = transfer_name(client, direction, res, &own);
	if (err < 0)
		return err;
	uint64_t room = t->n_iov ? iov_size(t->iov, t->n_iov) : res->backing_bytes;
	if (!transfer_span(res, t, room, &bytes))
		return -EINVAL;
	return bytes ? transfer_run(client->device, direction, res, &own, bytes) : 0;
}
