/* SPDX-License-Identifier: Apache-2.0 */
#include "device/private.h"

#include "base/checked.h"
#include "base/iov.h"
#include "renderer/format.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

struct resource *device_find_resource(struct device_client *client, uint32_t handle)
{
	return idmap_get(&client->resources, handle);
}

static int resource_register(struct device *dev, struct resource *res)
{
	int err = idmap_add(&dev->resource_ids, res->stream.id, res);
	if (err < 0)
		return err;
	err = idmap_add(&res->client->resources, res->handle, res);
	if (err < 0)
		idmap_remove(&dev->resource_ids, res->stream.id);
	return err;
}

static void resource_unregister(struct device *dev, struct resource *res)
{
	idmap_remove(&dev->resource_ids, res->stream.id);
	idmap_remove(&res->client->resources, res->handle);
}

int device_resource_create(
	struct device_client *client, uint32_t handle, const struct renderer_resource_desc *desc)
{
	struct device *dev = client->device;
	uint64_t bytes;

	if (!handle || !format_resource_size(desc, &bytes))
		return -EINVAL;
	if (device_find_resource(client, handle))
		return -EEXIST;
	if (dev->resource_ids.count >= DEVICE_MAX_RESOURCES)
		return -ENOSPC;
	uint64_t cost = MAX(bytes, (uint64_t)DEVICE_RESOURCE_COST);
	int err = device_charge(dev, cost);
	if (err < 0) {
		device_notice(dev,
			"over quota: %s asked for %llu KiB of VRAM, %llu of %llu MiB are in use",
			client->name, (unsigned long long)(cost >> 10),
			(unsigned long long)(dev->vram_used >> 20),
			(unsigned long long)(dev->config.vram_bytes >> 20));
		return err;
	}
	struct resource *res = calloc(1, sizeof(*res));
	if (!res) {
		err = -ENOMEM;
		goto uncharge;
	}
	*res = (struct resource){.client = client, .handle = handle, .desc = *desc, .cost = cost};
	res->stream.id = device_pick_id(&dev->resource_ids, handle, &dev->next_resource_id);
	err = resource_register(dev, res);
	if (err < 0)
		goto free_resource;
	err = dev->ops->resource_create(dev->renderer, res->stream.id, desc);
	if (err < 0)
		goto unregister;
	vgpu_stats_set(&dev->config.stats->resources, dev->resource_ids.count);
	return 0;

unregister:
	resource_unregister(dev, res);
free_resource:
	free(res);
uncharge:
	device_uncharge(dev, cost);
	return err;
}

static void resource_drop_backing(struct resource *res)
{
	struct device *dev = res->client->device;
	if (!res->iov)
		return;
	dev->ops->resource_detach_iov(dev->renderer, res->stream.id);
	free(res->iov);
	device_uncharge(dev, res->backing_cost);
	res->iov = NULL;
	res->n_iov = 0;
	res->backing_bytes = 0;
}

void resource_free(struct resource *res)
{
	struct device_client *client = res->client;
	struct device *dev = client->device;
	uint32_t cursor = 0;
	struct context *ctx;

	screens_forget(dev, res);
	while ((ctx = idmap_next(&client->contexts, &cursor, NULL)))
		idmap_remove(&ctx->attached, res->handle);
	resource_drop_backing(res);
	dev->ops->resource_destroy(dev->renderer, res->stream.id);
	resource_unregister(dev, res);
	device_uncharge(dev, res->cost);
	vgpu_stats_set(&dev->config.stats->resources, dev->resource_ids.count);
	if (res->stream.refs)
		res->gone = true;
	else
		free(res);
}

int device_resource_destroy(struct device_client *client, uint32_t handle)
{
	struct resource *res = device_find_resource(client, handle);
	if (!res)
		return -ENOENT;
	resource_free(res);
	return 0;
}

int device_resource_attach_backing(
	struct device_client *client, uint32_t handle, const struct iovec *iov, unsigned n)
{
	struct device *dev = client->device;
	struct resource *res = device_find_resource(client, handle);

	if (!res)
		return -ENOENT;
	if (res->iov)
		return -EEXIST;
	uint64_t bytes = iov_size(iov, n);
	if (!n || n > DEVICE_MAX_BACKING || bytes == UINT64_MAX)
		return -EINVAL;
	uint64_t cost = n * sizeof(*iov);
	int err = device_charge(dev, cost);
	if (err < 0)
		return err;
	struct iovec *copy = calloc(n, sizeof(*copy));
	if (!copy) {
		err = -ENOMEM;
		goto uncharge;
	}
	memcpy(copy, iov, cost);
	err = dev->ops->resource_attach_iov(dev->renderer, res->stream.id, copy, n);
	if (err < 0)
		goto free_copy;
	res->iov = copy;
	res->n_iov = n;
	res->backing_bytes = bytes;
	res->backing_cost = cost;
	return 0;

free_copy:
	free(copy);
uncharge:
	device_uncharge(dev, cost);
	return err;
}

int device_resource_detach_backing(struct device_client *client, uint32_t handle)
{
	struct resource *res = device_find_resource(client, handle);
	if (!res || !res->iov)
		return -ENOENT;
	resource_drop_backing(res);
	return 0;
}

void device_client_detach_all_backing(struct device_client *client)
{
	uint32_t cursor = 0;
	struct resource *res;
	while ((res = idmap_next(&client->resources, &cursor, NULL)))
		resource_drop_backing(res);
}

int device_resource_uuid(struct device_client *client, uint32_t handle, uint8_t ret_uuid[16])
{
	struct resource *res = device_find_resource(client, handle);
	if (!res)
		return -ENOENT;
	if (!res->has_uuid) {
		if (getrandom(res->uuid, sizeof(res->uuid), 0) != sizeof(res->uuid))
			return -EIO;
		res->uuid[6] = (res->uuid[6] & 0x0f) | 0x40; /* RFC 4122, version 4 */
		res->uuid[8] = (res->uuid[8] & 0x3f) | 0x80;
		res->has_uuid = true;
	}
	memcpy(ret_uuid, res->uuid, sizeof(res->uuid));
	return 0;
}

/*
 * Mesa's guest driver waits for a query by reading its buffer (a "custom" one of 16 bytes) until
 * the host says there that the result has come. A lost context's results never come, and no error
 * reaches the guest's program: it would read for ever. So such a reading finds "done, 0".
 */
static void transfer_answer_lost(
	const struct resource *res, enum device_transfer_direction direction)
{
	static const struct {
		uint32_t state, size; /* state 1: the result is there */
		uint64_t result;
	} done = {.state = 1, .size = sizeof(done.result)};
	const uint32_t bind_custom = 1u << 17; /* as virgl numbers it */

	if (direction == DEVICE_FROM_HOST && res->desc.target == PIPE_BUFFER &&
		(res->desc.bind & bind_custom) && res->desc.width == sizeof(done) && res->iov)
		iov_write(res->iov, res->n_iov, 0, &done, sizeof(done));
}

int device_transfer(struct device_client *client, enum device_transfer_direction direction,
	const struct renderer_transfer *t)
{
	struct device *dev = client->device;
	struct resource *res = device_find_resource(client, t->resource_id);
	struct renderer_transfer own = *t;
	uint64_t bytes, end;

	if (!res)
		return -ENOENT;
	own.resource_id = res->stream.id;
	if (t->ctx_id) {
		struct context *ctx = device_find_context(client, t->ctx_id);
		if (!ctx)
			return -ENOENT;
		if (!idmap_get(&ctx->attached, res->handle))
			return -ENOENT;
		if (ctx->lost) {
			transfer_answer_lost(res, direction);
			return -EIO;
		}
		own.ctx_id = ctx->id;
	}
	uint64_t room = t->n_iov ? iov_size(t->iov, t->n_iov) : res->backing_bytes;
	if (!format_box_inside(&res->desc, t->level, &t->box) ||
		!format_box_bytes(
			&res->desc, t->level, &t->box, t->stride, t->layer_stride, &bytes) ||
		!checked_add(t->offset, bytes, &end) || end > room)
		return -EINVAL;
	if (!bytes)
		return 0;
	struct vgpu_stats *stats = dev->config.stats;
	if (direction == DEVICE_FROM_HOST) {
		vgpu_stats_add(&stats->transfer_from_host_bytes_total, bytes);
		return dev->ops->transfer_from_host(dev->renderer, &own);
	}
	vgpu_stats_add(&stats->transfer_to_host_bytes_total, bytes);
	dev->unfenced = true;
	return dev->ops->transfer_to_host(dev->renderer, &own);
}
