/* SPDX-License-Identifier: Apache-2.0 */
#include "device/private.h"

#include "base/checked.h"
#include "base/iov.h"
#include "protocol/virgl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A context's share of the stream's budgets; a desktop session was seen to use a fiftieth. */
static const struct stream_limits context_stream_limits = {
	.max_sub_contexts = 64,
	.max_objects = 131072,
	.max_object_bytes =
		64u << 20, /* that commands carry; what they cost is the quota's matter */
};

struct context *device_find_context(struct device_client *client, uint32_t handle)
{
	return idmap_get(&client->contexts, handle);
}

/* A saved stream has the renderer's ids, of any resource of the client; also of some that are
 * attached no more: objects made before go on. */
static struct stream_resource *context_resolve_id(struct context *ctx, uint32_t id)
{
	struct device *dev = ctx->client->device;
	struct resource *res = idmap_get(&dev->resource_ids, id);

	if (!res || res->client != ctx->client)
		return NULL;
	if (!idmap_get(ctx->borrowed, id)) {
		if (idmap_add(ctx->borrowed, id, res) < 0)
			return NULL;
		dev->ops->context_attach(dev->renderer, ctx->id, id);
	}
	return &res->stream;
}

static struct stream_resource *context_resolve(void *data, uint32_t handle)
{
	struct context *ctx = data;

	if (ctx->borrowed)
		return context_resolve_id(ctx, handle);
	struct resource *res = idmap_get(&ctx->attached, handle);
	return res ? &res->stream : NULL;
}

static void context_released(void *data, struct stream_resource *stream)
{
	struct resource *res = container_of(stream, struct resource, stream);
	struct context *ctx = data;

	if (!res->handle && !ctx->borrowed)
		resource_condemn(res);
}

/* Quota and what is left of it, KiB; there is no staging memory and nothing is ever evicted. */
static void context_memory_info(void *data, uint32_t handle)
{
	const struct context *ctx = data;
	const struct device *dev = ctx->client->device;
	const struct resource *res = ctx->borrowed ? NULL : idmap_get(&ctx->attached, handle);
	uint64_t total = dev->config.vram_bytes >> 10;
	uint64_t left = dev->config.vram_bytes - MIN(dev->vram_used, dev->config.vram_bytes);
	const uint32_t info[6] = {(uint32_t)MIN(total, (uint64_t)UINT32_MAX),
		(uint32_t)MIN(left >> 10, (uint64_t)UINT32_MAX)};

	if (res && !(dev->replay.on && dev->replay.executed))
		iov_write(resource_backing(res), res->n_iov, 0, info, sizeof(info));
}

static const struct stream_resource_ops context_resource_ops = {
	.resolve = context_resolve,
	.released = context_released,
	.memory_info = context_memory_info,
	.transfer = context_transfer,
};

static void context_set_name(struct context *ctx, const char *name, size_t len)
{
	size_t n = MIN(len, sizeof(ctx->name) - 1);
	for (size_t i = 0; i < n && name[i]; i++)
		ctx->name[i] = name[i] >= ' ' && name[i] < 127 ? name[i] : '?';
	if (!ctx->name[0])
		memcpy(ctx->name, "context", sizeof("context"));
}

int context_make(struct device_client *client, uint32_t handle, uint32_t id, const char *name,
	size_t name_len, struct context **ret)
{
	struct device *dev = client->device;
	int err = -ENOMEM;

	if (!handle)
		return -EINVAL;
	if (device_find_context(client, handle) || (id && idmap_get(&dev->context_ids, id)))
		return -EEXIST;
	if (dev->context_ids.count >= DEVICE_MAX_CONTEXTS)
		return -ENOSPC;
	struct context *ctx = calloc(1, sizeof(*ctx));
	if (!ctx)
		return err;
	if (quota_add_context(dev) < 0) {
		device_notice(dev, "over quota: %s asked for a context, and %llu MiB are in use",
			client->name, (unsigned long long)(dev->vram_used >> 20));
		free(ctx);
		return err;
	}
	ctx->client = client;
	ctx->handle = handle;
	context_set_name(ctx, name, name_len);
	idmap_init(&ctx->attached, dev->resource_ids.seed);
	err = stream_create(&context_stream_limits, &dev->stream_budget, &context_resource_ops, ctx,
		&ctx->stream);
	if (err < 0)
		goto free_context;
	ctx->id = id ? id : device_pick_id(&dev->context_ids, handle, &dev->next_context_id);
	err = idmap_add(&dev->context_ids, ctx->id, ctx);
	if (err < 0)
		goto destroy_stream;
	err = idmap_add(&client->contexts, handle, ctx);
	if (err < 0)
		goto release_id;
	stream_watch_clip_planes(ctx->stream, dev->ops->leaves_out_clip_planes(dev->renderer));
	err = dev->ops->context_create(dev->renderer, ctx->id, ctx->name);
	if (err < 0)
		goto unregister;
	vgpu_stats_set(&dev->config.stats->contexts, dev->context_ids.count);
	if (ret)
		*ret = ctx;
	return 0;

unregister:
	idmap_remove(&client->contexts, handle);
release_id:
	idmap_remove(&dev->context_ids, ctx->id);
destroy_stream:
	stream_destroy(ctx->stream);
free_context:
	quota_remove_context(dev);
	free(ctx);
	return err;
}

int device_context_create(struct device_client *client, uint32_t handle, uint32_t capset,
	const char *name, size_t name_len)
{
	if (capset && capset != 1 && capset != 2)
		return -EINVAL;
	return context_make(client, handle, 0, name, name_len, NULL);
}

void context_free(struct context *ctx)
{
	struct device *dev = ctx->client->device;

	dev->ops->context_destroy(dev->renderer, ctx->id);
	idmap_remove(&ctx->client->contexts, ctx->handle);
	idmap_remove(&dev->context_ids, ctx->id);
	vgpu_stats_set(&dev->config.stats->contexts, dev->context_ids.count);
	stream_destroy(ctx->stream);
	idmap_finish(&ctx->attached);
	free(ctx);
	resources_bury(dev);
	quota_remove_context(dev);
}

int device_context_destroy(struct device_client *client, uint32_t handle)
{
	struct context *ctx = device_find_context(client, handle);
	if (!ctx)
		return -ENOENT;
	context_free(ctx);
	return 0;
}

int device_context_attach(struct device_client *client, uint32_t ctx_handle, uint32_t handle)
{
	struct device *dev = client->device;
	struct context *ctx = device_find_context(client, ctx_handle);
	struct resource *res = device_find_resource(client, handle);

	if (!ctx || !res)
		return -ENOENT;
	int err = idmap_add(&ctx->attached, handle, res);
	if (err == -EEXIST) /* drivers attach again for every open of a buffer */
		return 0;
	if (err < 0)
		return err;
	dev->ops->context_attach(dev->renderer, ctx->id, res->stream.id);
	return 0;
}

int device_context_detach(struct device_client *client, uint32_t ctx_handle, uint32_t handle)
{
	struct device *dev = client->device;
	struct context *ctx = device_find_context(client, ctx_handle);
	struct resource *res = device_find_resource(client, handle);

	if (!ctx || !res || !idmap_remove(&ctx->attached, handle))
		return -ENOENT;
	dev->ops->context_detach(dev->renderer, ctx->id, res->stream.id);
	return 0;
}

void context_lose(struct context *ctx, const char *why)
{
	struct device *dev = ctx->client->device;

	if (ctx->lost)
		return;
	ctx->lost = true;
	vgpu_stats_add(&dev->config.stats->contexts_lost_total, 1);
	device_notice(dev, "%s lost its context \"%s\": %s", ctx->client->name, ctx->name, why);
}

bool device_context_lost(struct device_client *client, uint32_t handle)
{
	const struct context *ctx = device_find_context(client, handle);
	return ctx && ctx->lost;
}

static void context_count(struct context *ctx)
{
	struct vgpu_stats *stats = ctx->client->device->config.stats;
	const struct stream_counters *now = stream_counters(ctx->stream);

	if (ctx->borrowed) { /* what is loaded was counted when its guest sent it */
		ctx->counted = *now;
		return;
	}
	vgpu_stats_add(&stats->submits_total, 1);
	vgpu_stats_add(&stats->commands_total, now->commands - ctx->counted.commands);
	vgpu_stats_add(&stats->draws_total, now->draws - ctx->counted.draws);
	vgpu_stats_add(&stats->stream_bytes_total, now->bytes - ctx->counted.bytes);
	ctx->counted = *now;
}

/* The renderer's names for the queries that it made just now, in the stream's order. */
static void context_name_queries(struct context *ctx)
{
	struct device *dev = ctx->client->device;
	uint32_t ids[64];
	unsigned left;

	while (dev->ops->queries_made && (left = stream_queries_unnamed(ctx->stream))) {
		unsigned n = dev->ops->queries_made(
			dev->renderer, ids, MIN(left, (unsigned)ARRAY_SIZE(ids)));
		if (!n || stream_name_queries(ctx->stream, ids, n) < 0)
			break;
	}
}

/* What it drew with took more than there was: programs, and what the driver makes of them. */
static void context_over_quota(struct context *ctx)
{
	vgpu_stats_add(&ctx->client->device->config.stats->quota_refusals_total, 1);
	context_lose(ctx, "over quota: no video memory for the programs it draws with");
}

/*
 * So many of the commands as can make no more programs than there is room for, or a few more. Stock
 * guests' buffers are one piece, or a few near the limit.
 */
static size_t context_piece(const struct device *dev, const uint32_t *dwords, size_t n)
{
	const size_t each = 8, least = 256; /* dwords, for the shortest command that makes one */
	uint64_t room = quota_room_for_programs(dev);
	size_t at = 0, most = MAX((size_t)MIN(room, (uint64_t)SIZE_MAX / each) * each, least);

	if (n <= most)
		return n;
	while (at < n) {
		size_t next = at + 1 + VIRGL_HEADER_LENGTH(dwords[at]);
		if (at && next > most)
			break;
		at = next;
	}
	return at;
}

/* Hands checked commands to the renderer. */
static int context_execute(struct context *ctx, uint32_t *dwords, size_t n)
{
	struct device *dev = ctx->client->device;
	bool asks_query = stream_counters(ctx->stream)->query_results != ctx->counted.query_results;

	context_count(ctx);
	ctx->reads_back = false;
	quota_settle(dev);
	dev->unfenced = true;
	int err = 0;
	while (n && !err) {
		size_t piece = context_piece(dev, dwords, n);
		err = dev->ops->submit(dev->renderer, ctx->id, dwords, piece, asks_query);
		dwords += piece;
		n -= piece;
		bool fits = quota_settle(dev) && quota_looks_right(dev, &ctx->grown);
		if (!fits && !ctx->borrowed && !err) {
			context_over_quota(ctx);
			err = n ? -EIO : 0;
		}
	}
	if (err < 0)
		context_lose(ctx, "the renderer refused its commands");
	else
		context_name_queries(ctx);
	resources_bury(dev);
	return err;
}

int context_emit(void *data, uint32_t *dwords, size_t n)
{
	const struct context *ctx = data;
	const struct device *dev = ctx->client->device;
	return dev->ops->submit(dev->renderer, ctx->id, dwords, n, false);
}

/* A guest wants clip planes: from here on their code stays in, in its old shaders too. */
static void context_keep_clip_planes(struct context *ctx)
{
	struct device *dev = ctx->client->device;

	if (dev->ops->leaves_out_clip_planes(dev->renderer))
		log_info("%s: a guest uses clip planes: shaders are translated in full", dev->name);
	dev->ops->keep_clip_planes(dev->renderer);
	if (stream_replay_shaders(ctx->stream, context_emit, ctx) < 0)
		context_lose(ctx, "its shaders could not be translated again");
}

/* stream_check() stopped at a command: runs what comes before it. */
static void context_interrupt(struct context *ctx, int why, uint32_t *dwords, size_t n)
{
	if (n)
		context_execute(ctx, dwords, n);
	ctx->stopped = why == -EAGAIN;
	if (!ctx->lost && why == -ERESTART)
		context_keep_clip_planes(ctx);
}

int context_run(struct context *ctx, uint32_t *dwords, size_t n)
{
	struct device *dev = ctx->client->device;
	struct stream_fault fault = {0};
	char why[160];
	int err = 0;

	ctx->stopped = ctx->reads_back = false;
	while (!ctx->lost) {
		err = stream_check(ctx->stream, dwords, n, &fault);
		if (err != -ERESTART && err != -EAGAIN)
			break;
		context_interrupt(ctx, err, dwords, fault.offset);
		dwords += fault.offset;
		n -= fault.offset;
	}
	if (ctx->lost)
		return -EIO;
	if (err < 0) {
		quota_settle(dev);
		if (err == -ENOSPC || err == -ENOMEM)
			vgpu_stats_add(&dev->config.stats->quota_refusals_total, 1);
		snprintf(why, sizeof(why), "%s in %s (opcode %u, dword %zu, value %u)",
			fault.reason ? fault.reason : "bad command",
			fault.command ? fault.command : "an unknown command", fault.opcode,
			fault.offset, fault.value);
		context_lose(ctx, why);
		return -EIO;
	}
	return context_execute(ctx, dwords, n) < 0 ? -EIO : 0;
}

int device_submit(struct device_client *client, uint32_t handle, uint32_t *dwords, size_t n)
{
	struct device *dev = client->device;

	device_enter(dev);
	struct context *ctx = device_find_context(client, handle);
	if (!ctx)
		return -ENOENT;
	if (dev->replay.skip)
		context_lose(ctx, "a command of it crashed the host's driver twice");
	if (ctx->lost)
		return -EIO;
	device_busy(dev);
	int err = context_run(ctx, dwords, n);
	account_work(dev);
	device_idle(dev);
	return err;
}
