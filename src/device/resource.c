/* SPDX-License-Identifier: Apache-2.0 */
#include "device/private.h"

#include "base/checked.h"
#include "base/iov.h"
#include "protocol/state.h"
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
	if (err < 0 || !res->handle)
		return err;
	err = idmap_add(&res->client->resources, res->handle, res);
	if (err < 0)
		idmap_remove(&dev->resource_ids, res->stream.id);
	return err;
}

static void resource_unregister(struct device *dev, struct resource *res)
{
	idmap_remove(&dev->resource_ids, res->stream.id);
	if (res->handle)
		idmap_remove(&res->client->resources, res->handle);
	vgpu_stats_set(&dev->config.stats->resources, dev->resource_ids.count);
}

uint64_t resource_cost(const struct renderer_resource_desc *desc)
{
	uint64_t bytes;
	return format_host_bytes(desc, &bytes) ? bytes : 0;
}

uint64_t resource_saved_cost(const struct renderer_resource_desc *desc)
{
	uint64_t bytes;
	return format_resource_size(desc, &bytes) ? MAX(bytes, (uint64_t)DEVICE_RESOURCE_COST) : 0;
}

bool resource_is_too_large_to_save(const struct renderer_resource_desc *desc)
{
	const uint64_t head = 64; /* bytes before the contents, and more */
	struct format_content_part p;

	return format_content_part(desc, 0, &p) && p.bytes > STATE_SECTION_MAX - head;
}

int resource_make(const struct resource_wish *wish, struct resource **ret)
{
	struct device *dev = wish->client->device;
	uint64_t cost = resource_cost(wish->desc);

	if (!cost)
		return -EINVAL;
	if ((wish->handle && device_find_resource(wish->client, wish->handle)) ||
		(wish->id && idmap_get(&dev->resource_ids, wish->id)))
		return -EEXIST;
	if (dev->resource_ids.count >= DEVICE_MAX_RESOURCES)
		return -ENOSPC;
	if (dev->config.exact_only && resource_is_too_large_to_save(wish->desc)) {
		device_notice(dev, "%s asked for a resource that is too large to be saved",
			wish->client->name);
		return -ENOMEM;
	}
	if (wish->free_of_charge)
		cost = 0;
	int err = device_charge_for(wish->client, "a resource", cost);
	if (err < 0)
		return err;
	struct resource *res = calloc(1, sizeof(*res));
	if (!res) {
		err = -ENOMEM;
		goto uncharge;
	}
	*res = (struct resource){.client = wish->client,
		.handle = wish->handle,
		.desc = *wish->desc,
		.cost = cost,
		.serial = dev->next_serial,
		.stream = {.written = dev->stream_budget.epoch,
			.view_bytes = format_host_view_bytes(wish->desc)}};
	res->stream.id =
		wish->id ? wish->id
			 : device_pick_id(&dev->resource_ids, wish->handle, &dev->next_resource_id);
	err = resource_register(dev, res);
	if (err < 0)
		goto free_resource;
	err = dev->ops->resource_create(dev->renderer, res->stream.id, wish->desc);
	if (err < 0)
		goto unregister;
	dev->next_serial++;
	vgpu_stats_set(&dev->config.stats->resources, dev->resource_ids.count);
	*ret = res;
	return 0;

unregister:
	resource_unregister(dev, res);
free_resource:
	free(res);
uncharge:
	device_uncharge(dev, cost);
	return err;
}

int device_resource_create(
	struct device_client *client, uint32_t handle, const struct renderer_resource_desc *desc)
{
	struct resource *res;

	if (!handle)
		return -EINVAL;
	if (client->device->replay.skip)
		return -EIO;
	return resource_make(
		&(struct resource_wish){.client = client, .handle = handle, .desc = desc}, &res);
}

static void resource_drop_backing(struct resource *res)
{
	struct device *dev = res->client->device;
	if (!res->iov)
		return;
	dev->ops->resource_detach_iov(dev->renderer, res->stream.id);
	/* What was only there is in the renderer now; what was copied ahead says "not here". */
	res->stream.written = dev->stream_budget.epoch;
	free(res->iov);
	free(res->real);
	free(res->scratch);
	device_uncharge(dev, res->backing_cost);
	res->iov = res->real = NULL;
	res->scratch = NULL;
	res->n_iov = 0;
	res->backing_bytes = 0;
}

void resource_release(struct resource *res)
{
	struct device *dev = res->client->device;

	dev->ops->resource_destroy(dev->renderer, res->stream.id);
	resource_unregister(dev, res);
	device_uncharge(dev, res->cost);
	free(res);
}

void resource_condemn(struct resource *res)
{
	struct device *dev = res->client->device;

	if (res->condemned)
		return;
	res->condemned = true;
	res->next_condemned = dev->condemned;
	dev->condemned = res;
}

void resources_bury(struct device *dev)
{
	while (dev->condemned) {
		struct resource *res = dev->condemned;
		dev->condemned = res->next_condemned;
		res->condemned = false;
		if (!res->stream.refs)
			resource_release(res);
	}
}

void resource_free(struct resource *res)
{
	struct device_client *client = res->client;
	uint32_t cursor = 0;
	struct context *ctx;

	screens_forget(client->device, res);
	while ((ctx = idmap_next(&client->contexts, &cursor, NULL)))
		idmap_remove(&ctx->attached, res->handle);
	resource_drop_backing(res);
	if (!res->stream.refs) {
		resource_release(res);
		return;
	}
	/* Objects of a stream go on using it: it can still be read, and takes up room. */
	idmap_remove(&client->resources, res->handle);
	res->handle = 0;
	res->has_uuid = false;
}

int device_resource_destroy(struct device_client *client, uint32_t handle)
{
	struct resource *res = device_find_resource(client, handle);
	if (!res)
		return -ENOENT;
	resource_free(res);
	return 0;
}

/* Of the virgl protocol. */
#define BIND_CUSTOM  (1u << 17)
#define BIND_STAGING (1u << 19)

bool resource_is_guests(const struct resource *res)
{
	uint32_t bind = res->desc.bind;
	return res->desc.target == PIPE_BUFFER && (bind == BIND_CUSTOM || bind == BIND_STAGING);
}

bool resource_is_query_result(const struct resource *res)
{
	return res->desc.target == PIPE_BUFFER && (res->desc.bind & BIND_CUSTOM) &&
	       res->desc.width == sizeof(struct virgl_query_result);
}

int resource_divert(struct resource *res)
{
	struct iovec *real = calloc(res->n_iov, sizeof(*real));
	size_t size = MAX(MIN(res->backing_bytes, (uint64_t)res->desc.width), 1u);
	uint8_t *scratch = calloc(1, size);

	if (!real || !scratch) {
		free(real);
		free(scratch);
		return -ENOMEM;
	}
	memcpy(real, res->iov, res->n_iov * sizeof(*real));
	iov_read(real, res->n_iov, 0, scratch, size);
	res->real = real;
	res->scratch = scratch;
	res->scratch_size = size;
	for (unsigned i = 0; i < res->n_iov; i++)
		res->iov[i] = (struct iovec){scratch, i ? 0 : size};
	return 0;
}

void resource_undivert(struct resource *res)
{
	if (!res->real)
		return;
	memcpy(res->iov, res->real, res->n_iov * sizeof(*res->real));
	free(res->real);
	free(res->scratch);
	res->real = NULL;
	res->scratch = NULL;
}

/*
 * Attaching makes the renderer write what it keeps of a buffer that is the guest's into its
 * backing. `untouched`: into scratch memory instead.
 */
static int resource_attach(
	struct resource *res, const struct iovec *iov, unsigned n, bool untouched)
{
	struct device *dev = res->client->device;
	uint64_t bytes = iov_size(iov, n);

	if (res->iov)
		return -EEXIST;
	if (!n || n > DEVICE_MAX_BACKING || bytes == UINT64_MAX)
		return -EINVAL;
	uint64_t cost = n * sizeof(*iov);
	int err = device_charge(dev, cost);
	if (err < 0)
		return err;
	res->iov = calloc(n, sizeof(*iov));
	if (!res->iov) {
		device_uncharge(dev, cost);
		return -ENOMEM;
	}
	memcpy(res->iov, iov, cost);
	res->n_iov = n;
	res->backing_bytes = bytes;
	res->backing_cost = cost;
	if (untouched && resource_is_guests(res))
		err = resource_divert(res);
	if (!err)
		err = dev->ops->resource_attach_iov(dev->renderer, res->stream.id, res->iov, n);
	if (err < 0) {
		resource_undivert(res);
		free(res->iov);
		res->iov = NULL;
		device_uncharge(dev, cost);
		return err;
	}
	res->stream.written = dev->stream_budget.epoch;
	if (res->real)
		replay_expect_result(res);
	return 0;
}

int device_resource_attach_backing(
	struct device_client *client, uint32_t handle, const struct iovec *iov, unsigned n)
{
	struct resource *res = device_find_resource(client, handle);

	return res ? resource_attach(res, iov, n, client->device->replay.on) : -ENOENT;
}

int device_resource_reattach(
	struct device_client *client, uint32_t handle, const struct iovec *iov, unsigned n)
{
	struct resource *res = device_find_resource(client, handle);
	int err = res ? resource_attach(res, iov, n, true) : -ENOENT;

	if (!err && !client->device->replay.on)
		resource_undivert(res);
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
