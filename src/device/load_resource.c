/* SPDX-License-Identifier: Apache-2.0 */
#include "device/load_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void load_read_resource(struct state_reader *r, struct saved_resource *ret)
{
	struct renderer_resource_desc *d = &ret->desc;
	uint32_t *const numbers[] = {&d->target, &d->format, &d->bind, &d->width, &d->height,
		&d->depth, &d->array_size, &d->last_level, &d->nr_samples, &d->flags, &ret->flags};

	ret->client = state_get_u32(r);
	ret->handle = state_get_u32(r);
	ret->id = state_get_u32(r);
	ret->serial = state_get_u64(r);
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		*numbers[i] = state_get_u32(r);
	state_get(r, ret->uuid, sizeof(ret->uuid));
}

static bool same_shape(
	const struct renderer_resource_desc *a, const struct renderer_resource_desc *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

static bool is_ahead(const struct device_loader *l, const struct resource *res)
{
	return res->client == l->ahead;
}

static void ahead_drop(struct device_loader *l, struct resource *res)
{
	l->ahead_bytes -= resource_cost(&res->desc);
	resource_release(res);
}

/* Copied ahead: whose it is will be seen. */
static int load_resource_ahead(struct device_loader *l, const struct saved_resource *saved)
{
	uint64_t cost = resource_cost(&saved->desc);
	struct resource *res = idmap_get(&l->dev->resource_ids, saved->id);

	if (res && res->serial == saved->serial && same_shape(&res->desc, &saved->desc))
		return 0;
	if (res)
		ahead_drop(l, res);
	if (!cost || cost > 2 * l->dev->config.vram_bytes - l->ahead_bytes)
		return load_refuse(
			l, -ENOMEM, "more was copied ahead than two quotas have room for");
	const struct resource_wish wish = {.client = l->ahead,
		.handle = saved->id,
		.id = saved->id,
		.free_of_charge = true,
		.desc = &saved->desc};
	int err = resource_make(&wish, &res);
	if (err < 0)
		return err;
	res->serial = saved->serial;
	l->ahead_bytes += cost;
	return 0;
}

int load_resource(struct device_loader *l, struct state_reader *r)
{
	struct saved_resource saved;

	load_read_resource(r, &saved);
	if (state_bad(r))
		return -EBADMSG;
	if (!saved.id || !saved.serial)
		return load_refuse(l, -EBADMSG, "RESOURCE: one without a number");
	if (!l->last)
		return load_resource_ahead(l, &saved);
	if (l->n_resources == DEVICE_MAX_RESOURCES)
		return load_refuse(l, -ENOSPC, "RESOURCE: too many");
	if (l->n_resources == l->room) {
		uint32_t room = MAX(l->room * 2, 64u);
		void *grown = realloc(l->resources, room * sizeof(*l->resources));
		if (!grown)
			return -ENOMEM;
		l->resources = grown;
		l->room = room;
	}
	l->resources[l->n_resources++] = saved;
	return 0;
}

/* ---- whose is what ---- */

static int by_id(const void *a, const void *b)
{
	const struct saved_resource *x = a, *y = b;
	return x->id < y->id ? -1 : x->id > y->id;
}

static void ahead_keep_only_listed(struct device_loader *l)
{
	uint32_t cursor = 0;
	struct resource *res;

	while ((res = idmap_next(&l->dev->resource_ids, &cursor, NULL))) {
		const struct saved_resource key = {.id = res->stream.id}, *saved = NULL;
		if (l->n_resources)
			saved = bsearch(&key, l->resources, l->n_resources, sizeof(key), by_id);
		if (saved && saved->serial == res->serial && same_shape(&saved->desc, &res->desc))
			continue;
		ahead_drop(l, res);
		cursor = 0;
	}
}

static int load_adopt(struct device_loader *l, struct resource *res,
	const struct saved_resource *saved, struct device_client *client)
{
	uint64_t cost = resource_cost(&res->desc);

	if (saved->handle && idmap_get(&client->resources, saved->handle))
		return -EEXIST;
	int err = device_charge(l->dev, cost);
	if (err < 0)
		return err;
	res->cost = cost;
	idmap_remove(&l->ahead->resources, res->handle);
	res->client = client;
	res->handle = saved->handle;
	return saved->handle ? idmap_add(&client->resources, saved->handle, res) : 0;
}

static int load_place(struct device_loader *l, const struct saved_resource *saved)
{
	struct device_client *client = load_find_client(l, saved->client);
	struct resource *res = idmap_get(&l->dev->resource_ids, saved->id);
	int err = -EEXIST;

	if (!client)
		return load_refuse(l, -EBADMSG, "RESOURCE: client %u is missing", saved->client);
	const struct resource_wish wish = {
		.client = client, .handle = saved->handle, .id = saved->id, .desc = &saved->desc};
	if (!res)
		err = resource_make(&wish, &res);
	else if (is_ahead(l, res))
		err = load_adopt(l, res, saved, client);
	if (err == -ENOMEM)
		return load_refuse(l, err, "its resources do not fit the quota of %llu MiB",
			(unsigned long long)(l->dev->config.vram_bytes >> 20));
	if (err < 0)
		return load_refuse(l, err, "RESOURCE: number %u of %s: %s", saved->handle,
			client->name, strerror(-err));
	res->serial = saved->serial;
	res->has_uuid = saved->flags & STATE_RESOURCE_UUID;
	memcpy(res->uuid, saved->uuid, sizeof(res->uuid));
	return 0;
}

int load_settle(struct device_loader *l)
{
	int err = 0;

	l->settled = true;
	if (l->n_resources)
		qsort(l->resources, l->n_resources, sizeof(*l->resources), by_id);
	ahead_keep_only_listed(l);
	for (uint32_t i = 0; i < l->n_resources && !err; i++)
		err = l->resources[i].serial < l->next_serial
			      ? load_place(l, &l->resources[i])
			      : load_refuse(l, -EBADMSG, "RESOURCE: number from the future");
	return err;
}

/* ---- contents ---- */

static const void *load_zeros(struct device_loader *l, size_t size)
{
	if (size <= l->zeros_size)
		return l->zeros;
	uint8_t *zeros = calloc(1, size);
	if (!zeros)
		return NULL;
	free(l->zeros);
	l->zeros = zeros;
	l->zeros_size = size;
	return zeros;
}

/* A resource that is here, and the part that comes next in it. */
static struct resource *load_content_target(
	struct device_loader *l, uint32_t id, uint32_t part, uint64_t serial, uint64_t size)
{
	struct resource *res = idmap_get(&l->dev->resource_ids, id);
	struct format_content_part p;

	if (!res || res->serial != serial || !format_content_part(&res->desc, part, &p) ||
		p.bytes != size)
		return NULL;
	if (!part)
		res->parts = 0;
	return part == res->parts ? res : NULL;
}

int load_content(struct device_loader *l, struct state_reader *r)
{
	struct device *dev = l->dev;
	uint32_t id = state_get_u32(r), part = state_get_u32(r), encoding = state_get_u32(r);
	uint64_t serial = state_get_u64(r), size = state_get_u64(r);
	const void *bytes = NULL;
	int err = 0;

	if (state_bad(r))
		return -EBADMSG;
	struct resource *res = load_content_target(l, id, part, serial, size);
	if (!res || encoding > STATE_NOT_HERE)
		return load_refuse(l, -EBADMSG, "CONTENT: part %u of resource %u", part, id);
	if (encoding == STATE_RAW)
		bytes = state_take(r, size);
	else if (encoding == STATE_ZERO)
		bytes = load_zeros(l, size);
	if (!bytes && encoding != STATE_NOT_HERE)
		return encoding == STATE_RAW ? -EBADMSG : -ENOMEM;
	if (bytes)
		err = dev->ops->content_write(dev->renderer, id, part, bytes, size);
	dev->unfenced = true;
	if (err < 0 && err != -ENODATA)
		return load_refuse(
			l, err, "this host's driver takes no contents of resource %u", id);
	res->parts++;
	return 0;
}

int load_finish_resources(struct device_loader *l)
{
	struct device *dev = l->dev;
	uint32_t cursor = 0;
	uint64_t cost = 0;
	struct resource *res;

	while ((res = idmap_next(&dev->resource_ids, &cursor, NULL))) {
		cost += resource_saved_cost(&res->desc);
		if (res->parts != format_content_parts(&res->desc))
			return load_refuse(
				l, -EBADMSG, "contents of resource %u are missing", res->stream.id);
	}
	if (cost != l->cost)
		return load_refuse(l, -EBADMSG, "its resources cost %llu bytes, not %llu",
			(unsigned long long)cost, (unsigned long long)l->cost);
	cursor = 0;
	while ((res = idmap_next(&dev->resource_ids, &cursor, NULL))) {
		if (res->handle || res->stream.refs)
			continue;
		resource_release(res);
		cursor = 0;
	}
	return 0;
}
