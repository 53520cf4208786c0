/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_device.h"

#include "base/checked.h"
#include "base/idmap.h"
#include "base/iov.h"
#include "device/saving.h"
#include "state/journal.h"
#include "state/section.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct fake_resource {
	struct iovec backing;
	uint8_t contents[FAKE_CONTENTS];
};

struct device_client {
	struct device *dev;
	struct idmap resources;
	bool context;
	struct device_fence *fences;
	uint32_t id;
	uint64_t history;
	struct device_client *next; /* loaded */
};

static void remember(struct device_client *client, const void *bytes, size_t n)
{
	const uint8_t *p = bytes;
	for (size_t i = 0; i < n; i++)
		client->history = (client->history ^ p[i]) * 0x100000001b3ull;
}

static void point(const struct device_client *client)
{
	if (client->dev->point)
		client->dev->point();
}

static int take_failure(int *failure)
{
	int err = *failure;
	*failure = 0;
	return err;
}

void fake_device_init(struct device *dev)
{
	*dev = (struct device){0};
}

uint8_t *fake_contents(struct device_client *client, uint32_t handle)
{
	struct fake_resource *resource = idmap_get(&client->resources, handle);
	return resource ? resource->contents : NULL;
}

int device_client_create(struct device *dev, const char *name, struct device_client **ret)
{
	struct device_client *client = calloc(1, sizeof(*client));
	if (!client)
		return -ENOMEM;
	client->dev = dev;
	client->id = ++dev->next_client;
	idmap_init(&client->resources, 1);
	dev->clients++;
	*ret = client;
	return 0;
}

int device_client_charge(struct device_client *client, uint64_t bytes)
{
	struct device *dev = client->dev;

	if (dev->quota && dev->charged + bytes > dev->quota)
		return -ENOMEM;
	dev->charged += bytes;
	return 0;
}

void device_uncharge(struct device *dev, uint64_t bytes)
{
	dev->charged -= bytes;
}

static void run_fences(struct device_client *client)
{
	while (client->fences) {
		struct device_fence *fence = client->fences;
		client->fences = fence->next;
		fence->done(fence);
	}
}

void device_client_destroy(struct device_client *client)
{
	if (!client)
		return;
	run_fences(client);
	for (;;) {
		uint32_t cursor = 0, id;
		if (!idmap_next(&client->resources, &cursor, &id))
			break;
		device_resource_destroy(client, id);
	}
	idmap_finish(&client->resources);
	client->dev->contexts -= client->context;
	client->dev->clients--;
	free(client);
}

int device_capset_info(struct device *dev, unsigned index, struct renderer_capset *ret)
{
	static const struct renderer_capset sets[] = {{1, 1, 308}, {2, 2, 1020}};
	if (index >= (dev->no_capset2 ? 1 : ARRAY_SIZE(sets)))
		return -ENOENT;
	*ret = sets[index];
	return 0;
}

int device_capset_get(struct device *dev, uint32_t id, uint32_t version, void *buf, size_t size)
{
	memset(buf, (int)(0xc0 + id), size);
	return 0;
}

int device_resource_create(
	struct device_client *client, uint32_t handle, const struct renderer_resource_desc *desc)
{
	point(client);
	int err = take_failure(&client->dev->fail_resource_create);
	if (err)
		return err;
	if (idmap_get(&client->resources, handle))
		return -EEXIST;
	struct fake_resource *resource = calloc(1, sizeof(*resource));
	if (!resource)
		return -ENOMEM;
	client->dev->resources++;
	return idmap_add(&client->resources, handle, resource);
}

int device_resource_destroy(struct device_client *client, uint32_t handle)
{
	point(client);
	struct fake_resource *resource = idmap_remove(&client->resources, handle);
	if (!resource)
		return -ENOENT;
	/* The backing must still be there: this is what a real device may touch. */
	if (resource->backing.iov_len)
		memcpy(resource->contents, resource->backing.iov_base,
			MIN(resource->backing.iov_len, sizeof(resource->contents)));
	free(resource);
	client->dev->resources--;
	return 0;
}

int device_resource_attach_backing(
	struct device_client *client, uint32_t handle, const struct iovec *iov, unsigned n)
{
	point(client);
	struct fake_resource *resource = idmap_get(&client->resources, handle);
	int err = take_failure(&client->dev->fail_attach);
	if (err)
		return err;
	if (!resource || n != 1)
		return -EINVAL;
	resource->backing = iov[0];
	return 0;
}

int device_transfer(struct device_client *client, enum device_transfer_direction direction,
	const struct renderer_transfer *t)
{
	point(client);
	struct fake_resource *resource = idmap_get(&client->resources, t->resource_id);
	int err = take_failure(&client->dev->fail_transfer);
	const struct iovec *iov = t->n_iov ? t->iov : &resource->backing;

	client->dev->transfers++;
	client->dev->last_transfer = *t;
	if (err || !resource)
		return err ? err : -ENOENT;
	if (!range_inside(t->offset, t->box.w, iov->iov_len) || t->box.w > FAKE_CONTENTS)
		return -EINVAL;
	if (direction == DEVICE_FROM_HOST) {
		/* What was written to the client's memory before is not written again. */
		if (t->n_iov || !client->dev->replaying || !client->dev->replay_executed)
			iov_write(iov, 1, t->offset, resource->contents, t->box.w);
		return 0;
	}
	size_t size = 0;
	const void *bytes = client->dev->replaying && !t->n_iov
				    ? journal_next_payload(client->dev->journal, &size)
				    : NULL;
	if (bytes && size != t->box.w)
		return -EBADMSG;
	if (!bytes && !t->n_iov && !(client->dev->replaying && client->dev->replay_executed))
		bytes = journal_payload(client->dev->journal, iov, 1, t->offset, t->box.w);
	if (bytes)
		memcpy(resource->contents, bytes, t->box.w);
	else
		iov_read(iov, 1, t->offset, resource->contents, t->box.w);
	remember(client, resource->contents, t->box.w);
	return 0;
}

int device_context_create(struct device_client *client, uint32_t ctx, uint32_t capset,
	const char *name, size_t name_len)
{
	point(client);
	int err = take_failure(&client->dev->fail_context);
	if (err)
		return err;
	if (capset > 2)
		return -EINVAL;
	client->context = true;
	client->dev->contexts++;
	client->dev->capset = capset;
	memcpy(client->dev->context_name, name, name_len);
	client->dev->context_name[name_len] = '\0';
	return 0;
}

int device_context_attach(struct device_client *client, uint32_t ctx, uint32_t handle)
{
	client->dev->attached++;
	return client->context ? 0 : -ENOENT;
}

int device_submit(struct device_client *client, uint32_t ctx, uint32_t *dwords, size_t n)
{
	point(client);
	struct device *dev = client->dev;
	int err = take_failure(&dev->fail_submit);

	dev->submits++;
	dev->last_n = n;
	dev->last_dword = n ? dwords[n - 1] : 0;
	if (dev->on_submit)
		dev->on_submit(dev, dwords, n);
	if (err)
		return err;
	remember(client, dwords, n * 4);
	/* As a real one translates handles in place. */
	for (size_t i = 0; i < n; i++)
		dwords[i] = ~dwords[i];
	return 0;
}

bool device_context_lost(struct device_client *client, uint32_t ctx)
{
	return client->dev->lost;
}

void device_waited(struct device *dev, uint64_t ns)
{
	dev->waited_ns += ns;
}

uint64_t device_client_frame(struct device_client *client)
{
	client->dev->frames++;
	return client->dev->hold_ns;
}

int device_fence(struct device_client *client, uint32_t ctx, struct device_fence *fence)
{
	struct device_fence **at = &client->fences;

	client->dev->fences++;
	if (!client->dev->hold_fences) {
		fence->done(fence);
		return 0;
	}
	while (*at)
		at = &(*at)->next;
	fence->next = NULL;
	*at = fence;
	return 0;
}

void device_start_drawing(struct device_client *client)
{
	client->dev->flushes++;
}

void device_finish(struct device_client *client, uint32_t ctx)
{
	client->dev->finishes++;
	run_fences(client);
}

void device_poll(struct device *dev)
{
	dev->polls++;
}

/* ---- state ---- */

uint64_t fake_history(const struct device_client *client)
{
	return client->history;
}

uint32_t device_client_id(const struct device_client *client)
{
	return client->id;
}

struct device_client *device_client_claim(struct device *dev, uint32_t id)
{
	for (struct device_client **at = &dev->loaded; *at; at = &(*at)->next) {
		struct device_client *client = *at;
		if (client->id == id) {
			*at = client->next;
			return client;
		}
	}
	return NULL;
}

int device_resource_reattach(
	struct device_client *client, uint32_t handle, const struct iovec *iov, unsigned n)
{
	return device_resource_attach_backing(client, handle, iov, n);
}

void device_set_journal(struct device *dev, struct journal *journal)
{
	dev->journal = journal;
}

void device_replay_begin(struct device *dev)
{
	dev->replaying = true;
}

void device_replay_record(struct device *dev, const struct journal_record *record)
{
	dev->replay_executed = record->executed;
}

int device_replay_end(struct device *dev)
{
	dev->replaying = false;
	return 0;
}

bool device_replaying(const struct device *dev)
{
	return dev->replaying;
}

void fake_client_save(const struct device_client *client, struct state_writer *w)
{
	uint32_t cursor = 0, id;
	const struct fake_resource *resource;

	state_put_u32(w, client->id);
	state_put_u32(w, client->context);
	state_put_u64(w, client->history);
	state_put_u32(w, client->resources.count);
	while ((resource = idmap_next(&client->resources, &cursor, &id))) {
		state_put_u32(w, id);
		state_put(w, resource->contents, sizeof(resource->contents));
	}
}

int fake_client_load(struct device *dev, struct state_reader *r)
{
	const struct renderer_resource_desc desc = {0};
	struct device_client *client;
	int err = device_client_create(dev, "loaded", &client);

	if (err)
		return err;
	client->id = state_get_u32(r);
	dev->next_client = MAX(dev->next_client, client->id);
	client->context = state_get_u32(r);
	dev->contexts += client->context;
	client->history = state_get_u64(r);
	uint32_t count = state_get_u32(r);
	for (uint32_t i = 0; i < count && !err && !state_bad(r); i++) {
		uint32_t id = state_get_u32(r);
		err = device_resource_create(client, id, &desc);
		if (!err)
			state_get(r, fake_contents(client, id), FAKE_CONTENTS);
	}
	client->next = dev->loaded;
	dev->loaded = client;
	return err;
}

int fake_client_loaded(struct device *dev, struct device_client **ret)
{
	int err = device_client_create(dev, "loaded", ret);

	if (!err) {
		(*ret)->next = dev->loaded;
		dev->loaded = *ret;
	}
	return err;
}
