/* SPDX-License-Identifier: Apache-2.0 */
#include "device/private.h"

#include "base/checked.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static void device_renderer_fence(void *data, uint64_t fence_id)
{
	fences_complete(data, fence_id);
}

static void device_renderer_failed(void *data, const char *why)
{
	struct device *dev = data;

	device_notice(dev, "%s", why);
	dev->replay.failed = true;
	if (dev->events.failed)
		dev->events.failed(dev->events_data);
}

static const struct renderer_events device_renderer_events = {
	.fence = device_renderer_fence, .failed = device_renderer_failed};

/* Heads, sizes and quota as the type says; anything else is the caller's mistake, not a guest's. */
static bool device_config_valid(const struct device_config *config)
{
	return config->renderer_ops && config->stats && config->vram_bytes && config->heads >= 1 &&
	       config->heads <= DISPLAY_MAX_HEADS && config->max_width >= 64 &&
	       config->max_height >= 64 && config->max_width <= 16384 &&
	       config->max_height <= 16384;
}

static void device_prefer_modes(struct device *dev)
{
	const struct device_config *config = &dev->config;

	for (uint32_t i = 0; i < config->heads; i++)
		dev->screens[i].preferred = (struct display_mode){.enabled = i == 0,
			.width = MIN(config->max_width, 1024u),
			.height = MIN(config->max_height, 768u)};
}

int device_create(const struct device_config *config, const struct device_events *events,
	void *events_data, struct device **ret)
{
	uint32_t seed = 0;

	if (!device_config_valid(config))
		return -EINVAL;
	struct device *dev = calloc(1, sizeof(*dev));
	if (!dev)
		return -ENOMEM;
	dev->config = *config;
	dev->events = *events;
	dev->events_data = events_data;
	dev->ops = config->renderer_ops;
	dev->fences_end = &dev->fences;
	dev->log = dev->notices = (struct log_limit)LOG_LIMIT_INIT;
	snprintf(dev->name, sizeof(dev->name), "%s", config->name);
	if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) < 0)
		log_debug("no random seed for the id tables: %m");
	idmap_init(&dev->resource_ids, seed);
	idmap_init(&dev->context_ids, seed);
	dev->next_resource_id = dev->next_context_id = dev->next_client_id = 1;
	dev->next_serial = 1;
	device_prefer_modes(dev);
	struct renderer_config renderer_config = {
		.render_node = config->render_node,
		.vram_bytes = config->vram_bytes,
		.plain_shaders = config->plain_shaders,
		.exact_only = config->exact_only,
	};
	int err = pace_init(dev, config->max_fps);
	if (!err)
		err = dev->ops->create(
			&renderer_config, &device_renderer_events, dev, &dev->renderer);
	if (err < 0) {
		free(dev);
		return err;
	}
	quota_init(dev);
	quota_begin(dev);
	*ret = dev;
	return 0;
}

int device_configure(struct device *dev, const struct device_late_config *late)
{
	struct device_config config = dev->config;

	config.vram_bytes = late->vram_bytes;
	config.heads = late->heads;
	config.max_width = late->max_width;
	config.max_height = late->max_height;
	config.max_fps = late->max_fps;
	if (!device_config_valid(&config))
		return -EINVAL;
	if (dev->clients || dev->vram_used)
		return -EBUSY;
	int err = pace_init(dev, config.max_fps);
	if (err < 0)
		return err;
	dev->config = config;
	snprintf(dev->name, sizeof(dev->name), "%s", late->name);
	dev->config.name = dev->name;
	device_prefer_modes(dev);
	dev->ops->set_vram(dev->renderer, config.vram_bytes);
	quota_init(dev); /* nothing was charged yet */
	quota_begin(dev);
	return 0;
}

void device_destroy(struct device *dev)
{
	if (!dev)
		return;
	while (dev->clients)
		device_client_destroy(dev->clients);
	for (uint32_t i = 0; i < DISPLAY_MAX_HEADS; i++) {
		free(dev->screens[i].pixels);
		free(dev->screens[i].fresh);
		free(dev->screens[i].cursor_image);
	}
	for (uint32_t i = 0; i < dev->n_promised; i++)
		free(dev->promised[i].bytes);
	dev->ops->destroy(dev->renderer);
	idmap_finish(&dev->resource_ids);
	idmap_finish(&dev->context_ids);
	free(dev);
}

void device_set_gate(struct device *dev, const struct device_gate *gate)
{
	dev->gate = gate;
}

const char *device_renderer_description(struct device *dev)
{
	return dev->ops->description(dev->renderer);
}

int device_fidelity_save(struct device *dev, void *bytes, size_t size)
{
	return dev->ops->fidelity_save(dev->renderer, bytes, size);
}

int device_fidelity_load(struct device *dev, const void *bytes, size_t size)
{
	return dev->ops->fidelity_load(dev->renderer, bytes, size);
}

void device_notice(struct device *dev, const char *format, ...)
{
	char text[256];
	va_list args;

	if (!log_limit_pass(&dev->notices))
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	log_warning("%s: %s", dev->name, text);
	if (dev->events.notice)
		dev->events.notice(dev->events_data, text);
}

/* ---- clients ---- */

struct device_client *client_new(struct device *dev, uint32_t id, const char *name)
{
	struct device_client *client = calloc(1, sizeof(*client));
	if (!client)
		return NULL;
	client->device = dev;
	client->id = id;
	snprintf(client->name, sizeof(client->name), "%s", name);
	idmap_init(&client->resources, dev->resource_ids.seed);
	idmap_init(&client->contexts, dev->resource_ids.seed);
	client->next = dev->clients;
	dev->clients = client;
	vgpu_stats_add(&dev->config.stats->clients, 1);
	return client;
}

int device_client_create(struct device *dev, const char *name, struct device_client **ret)
{
	if (dev->next_client_id == UINT32_MAX)
		return -ENOSPC;
	struct device_client *client = client_new(dev, dev->next_client_id, name);
	if (!client)
		return -ENOMEM;
	dev->next_client_id++;
	*ret = client;
	return 0;
}

uint32_t device_client_id(const struct device_client *client)
{
	return client->id;
}

struct device_client *device_client_claim(struct device *dev, uint32_t id)
{
	for (struct device_client *client = dev->clients; client; client = client->next) {
		if (client->id != id || !client->unclaimed)
			continue;
		client->unclaimed = false;
		return client;
	}
	return NULL;
}

void device_drop_unclaimed(struct device *dev)
{
	quota_lenient(dev, false);
	for (struct device_client *client = dev->clients, *next; client; client = next) {
		next = client->next;
		if (client->unclaimed)
			device_client_destroy(client);
	}
}

void device_client_reset(struct device_client *client)
{
	uint32_t cursor = 0;
	struct context *ctx;
	struct resource *res;

	fences_flush_client(client);
	while ((ctx = idmap_next(&client->contexts, &cursor, NULL))) {
		context_free(ctx);
		cursor = 0;
	}
	cursor = 0;
	while ((res = idmap_next(&client->resources, &cursor, NULL))) {
		resource_free(res);
		cursor = 0;
	}
}

void device_client_destroy(struct device_client *client)
{
	if (!client)
		return;
	struct device *dev = client->device;
	device_client_reset(client);
	for (struct device_client **at = &dev->clients; *at; at = &(*at)->next) {
		if (*at == client) {
			*at = client->next;
			break;
		}
	}
	idmap_finish(&client->resources);
	idmap_finish(&client->contexts);
	vgpu_stats_add(&dev->config.stats->clients, (uint64_t)-1);
	free(client);
}

uint32_t device_pick_id(const struct idmap *used, uint32_t wanted, uint32_t *next)
{
	if (wanted && !idmap_get(used, wanted))
		return wanted;
	while (!*next || idmap_get(used, *next))
		(*next)++;
	return (*next)++;
}

/* ---- capabilities ---- */

static const struct promised_capset *capset_promised(const struct device *dev, uint32_t id)
{
	for (uint32_t i = 0; i < dev->n_promised; i++) {
		if (dev->promised[i].info.id == id)
			return &dev->promised[i];
	}
	return NULL;
}

int device_capset_info(struct device *dev, unsigned index, struct renderer_capset *ret)
{
	int err = dev->ops->capset_info(dev->renderer, index, ret);
	const struct promised_capset *promised = err < 0 ? NULL : capset_promised(dev, ret->id);

	if (promised)
		*ret = promised->info;
	return err;
}

int device_capset_get(struct device *dev, uint32_t id, uint32_t version, void *buf, size_t size)
{
	const struct promised_capset *promised = capset_promised(dev, id);

	if (promised) {
		if (version > promised->info.max_version)
			return -EINVAL;
		memset(buf, 0, size);
		memcpy(buf, promised->bytes, MIN(size, (size_t)promised->info.max_size));
		return 0;
	}
	return dev->ops->capset_get(dev->renderer, id, version, buf, size);
}
