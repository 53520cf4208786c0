/* SPDX-License-Identifier: Apache-2.0 */
#include "device/load_private.h"

#include "protocol/formats.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- who wrote it, and for which guests ---- */

static int load_capset(struct device_loader *l, struct state_reader *r)
{
	struct device *dev = l->dev;
	struct promised_capset *promised = &dev->promised[dev->n_promised];
	char why[160] = "";
	uint32_t id = state_get_u32(r), version = state_get_u32(r), size = state_get_u32(r);

	if (!id || !size || size > DEVICE_MAX_CAPSET_BYTES)
		return load_refuse(l, -EBADMSG, "SOURCE: capset %u of %u bytes", id, size);
	promised->bytes = calloc(1, size);
	if (!promised->bytes)
		return -ENOMEM;
	state_get(r, promised->bytes, size);
	promised->info = (struct renderer_capset){id, version, size};
	dev->n_promised++;
	if (state_bad(r) || !dev->ops->capset_covers)
		return 0;
	int err = dev->ops->capset_covers(
		dev->renderer, id, version, promised->bytes, size, why, sizeof(why));
	return err < 0 ? load_refuse(l, err, "this host cannot do what the guest was promised: %s",
				 why[0] ? why : strerror(-err))
		       : 0;
}

int load_source(struct device_loader *l, struct state_reader *r)
{
	char text[128];
	int err = 0;

	state_get_text(r, text, sizeof(text)); /* renderer: for people */
	state_get_text(r, text, sizeof(text)); /* version: likewise */
	uint32_t n = state_get_u32(r);
	if (n > DEVICE_MAX_CAPSETS - l->dev->n_promised)
		return load_refuse(l, -EBADMSG, "SOURCE: %u capsets", n);
	while (n-- && !err)
		err = load_capset(l, r);
	return err;
}

/* Of another driver, or broken: then this process tries for itself. */
int load_formats(struct device_loader *l, struct state_reader *r)
{
	uint8_t bytes[FORMATS_FILE_MAX];
	size_t size = MIN(state_left(r), sizeof(bytes));

	state_get(r, bytes, size);
	if (size)
		device_fidelity_load(l->dev, bytes, size);
	return 0;
}

/* ---- the vGPU itself ---- */

static int load_head(struct device_loader *l, struct state_reader *r, uint32_t index)
{
	const size_t image = DISPLAY_CURSOR_SIZE * DISPLAY_CURSOR_SIZE * sizeof(uint32_t);
	struct saved_head *head = &l->heads[index];

	head->resource = state_get_u32(r);
	head->rect.x = state_get_u32(r);
	head->rect.y = state_get_u32(r);
	head->rect.w = state_get_u32(r);
	head->rect.h = state_get_u32(r);
	head->preferred.enabled = state_get_u32(r);
	head->preferred.width = state_get_u32(r);
	head->preferred.height = state_get_u32(r);
	head->cursor.head = index;
	head->cursor.x = state_get_u32(r);
	head->cursor.y = state_get_u32(r);
	head->cursor.hot_x = state_get_u32(r);
	head->cursor.hot_y = state_get_u32(r);
	head->cursor.visible = state_get_u32(r);
	if (!state_get_u32(r))
		return 0;
	head->image = malloc(image);
	if (!head->image)
		return -ENOMEM;
	state_get(r, head->image, image);
	return 0;
}

int load_device(struct device_loader *l, struct state_reader *r)
{
	const struct device_config *config = &l->dev->config;
	int err = 0;

	state_get_u64(r); /* the quota it had; ours is what counts */
	uint32_t heads = state_get_u32(r), width = state_get_u32(r), height = state_get_u32(r);
	if (!state_bad(r) && (heads != config->heads || width > config->max_width ||
				     height > config->max_height))
		return load_refuse(l, -EOPNOTSUPP,
			"it was a vGPU of %u heads of %u x %u, this one has %u of %u x %u", heads,
			width, height, config->heads, config->max_width, config->max_height);
	l->next_resource_id = state_get_u32(r);
	l->next_context_id = state_get_u32(r);
	l->next_client_id = state_get_u32(r);
	l->next_serial = state_get_u64(r);
	l->cost = state_get_u64(r);
	if (!state_bad(r) && !l->next_serial)
		return load_refuse(l, -EBADMSG, "DEVICE: no serials are left");
	for (uint32_t i = 0; i < config->heads && !err; i++)
		err = load_head(l, r, i);
	return err;
}

int load_finish_heads(struct device_loader *l)
{
	struct device *dev = l->dev;

	for (uint32_t i = 0; i < dev->config.heads; i++) {
		const struct saved_head *head = &l->heads[i];
		device_set_preferred_mode(dev, i, &head->preferred);
		if (head->image || head->cursor.visible)
			screen_set_cursor(dev, &head->cursor, head->image);
		if (!head->resource)
			continue;
		struct resource *res = idmap_get(&dev->resource_ids, head->resource);
		if (!res || !res->handle || screen_show(dev, i, res, &head->rect) < 0 ||
			screen_refresh(dev, i) < 0)
			return load_refuse(l, -EBADMSG, "DEVICE: head %u cannot show that", i);
	}
	return 0;
}

/* ---- clients ---- */

struct device_client *load_find_client(struct device_loader *l, uint32_t id)
{
	for (struct device_client *client = l->dev->clients; client; client = client->next) {
		if (id && client->id == id)
			return client;
	}
	return NULL;
}

int load_client(struct device_loader *l, struct state_reader *r)
{
	char name[DEVICE_NAME_MAX];
	uint32_t id = state_get_u32(r);

	state_get_text(r, name, sizeof(name));
	if (state_bad(r))
		return -EBADMSG;
	if (!id || id >= l->next_client_id || load_find_client(l, id) ||
		l->n_clients == DEVICE_MAX_CLIENTS)
		return load_refuse(l, -EBADMSG, "CLIENT: number %u", id);
	struct device_client *client = client_new(l->dev, id, name);
	if (!client)
		return -ENOMEM;
	client->unclaimed = true;
	l->n_clients++;
	return 0;
}
