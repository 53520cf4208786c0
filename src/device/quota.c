/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Theory of operation
 *
 * VRAM is one number for everything that a guest can make its host keep; decision 12 has the table
 * of it all. Charged here:
 * - resources and the lists of their backing's pieces, by resource.c, at what
 *   format_host_bytes() says that library and driver take for them;
 * - memory shared with vtest clients, by the front end, and pictures of screens, by screen.c;
 * - objects of streams, their text, constants and stream-output lists, by stream, into its budget,
 *   whose max_total is always what the quota has room for;
 * - contexts, sub-contexts and compiled programs, here.
 *
 * A context of the host's driver takes megabytes and a program compiled for a CPU half of one,
 * before anything is drawn. Every vGPU has DEVICE_DRIVER_FREE of that beside its VRAM; a guest that
 * wants more pays with VRAM. That is counted as it is made, but programs are made while commands
 * run: when they do not fit, the context that ran them is lost.
 *
 * What a driver makes beyond all that (a program's variants for each state it is drawn in, scenes)
 * nobody counts. So the process's own memory is looked at, every 10 ms of running commands: it may
 * be what it was before the first guest, VRAM, DEVICE_DRIVER_FREE and DEVICE_SPARE. Beyond that a
 * context that made it grow is lost. This is late and not exact, and meant for those who try.
 *
 * Deleted memory goes back to the node: the allocator keeps what was freed, so device_trim() hands
 * it back once enough was.
 *
 * A state is loaded leniently, within twice the quota: another version may have counted otherwise.
 * Contexts and programs are free of charge meanwhile within four times of what a guest could pay
 * for, as one version of a driver takes that much more for a context than another. What it really
 * comes to is charged when that is over, and may be more than the quota.
 */
#include "device/private.h"

#include "base/checked.h"
#include "base/clock.h"

#include <errno.h>
#include <malloc.h>

static bool quota_is_lenient(const struct device *dev)
{
	return dev->lenient && !dev->replay.on;
}

static uint64_t quota_room(const struct device *dev)
{
	uint64_t limit = dev->config.vram_bytes;

	if (quota_is_lenient(dev))
		limit *= 2;
	return limit > dev->vram_used ? limit - dev->vram_used : 0;
}

static void quota_changed(struct device *dev)
{
	struct vgpu_stats *stats = dev->config.stats;
	struct stream_budget *budget = &dev->stream_budget;

	budget->max_total = dev->streams_charged + quota_room(dev);
	vgpu_stats_set(&stats->vram_used_bytes, dev->vram_used);
	if (dev->vram_used > stats->vram_peak_bytes)
		vgpu_stats_set(&stats->vram_peak_bytes, dev->vram_used);
}

void quota_init(struct device *dev)
{
	dev->stream_budget = (struct stream_budget){.max_sub_contexts = DEVICE_MAX_SUB_CONTEXTS,
		.max_bytes = DEVICE_MAX_OBJECT_BYTES,
		.sub_context_bytes = dev->ops->context_bytes(dev->renderer),
		.driver_free = DEVICE_DRIVER_FREE,
		.epoch = 1};
	vgpu_stats_set(&dev->config.stats->vram_limit_bytes, dev->config.vram_bytes);
	quota_changed(dev);
}

int device_charge(struct device *dev, uint64_t bytes)
{
	if (bytes > quota_room(dev)) {
		vgpu_stats_add(&dev->config.stats->quota_refusals_total, 1);
		return -ENOMEM;
	}
	dev->vram_used += bytes;
	quota_changed(dev);
	return 0;
}

void device_uncharge(struct device *dev, uint64_t bytes)
{
	dev->vram_used -= bytes;
	dev->freed += bytes;
	quota_changed(dev);
}

int device_charge_for(struct device_client *client, const char *what, uint64_t bytes)
{
	struct device *dev = client->device;
	int err = device_charge(dev, bytes);

	if (err < 0)
		device_notice(dev,
			"over quota: %s asked for %llu KiB of VRAM for %s, %llu of %llu MiB are in "
			"use",
			client->name, (unsigned long long)(bytes >> 10), what,
			(unsigned long long)(dev->vram_used >> 20),
			(unsigned long long)(dev->config.vram_bytes >> 20));
	return err;
}

int device_client_charge(struct device_client *client, uint64_t bytes)
{
	return device_charge_for(client, "shared memory", bytes);
}

/* ---- streams, contexts, programs ---- */

static void quota_count_programs(struct device *dev)
{
	struct stream_budget *budget = &dev->stream_budget;
	uint64_t programs = dev->ops->programs ? dev->ops->programs(dev->renderer) : 0;

	budget->driver += (programs - dev->programs) * DEVICE_PROGRAM_COST; /* modulo 2^64 */
	dev->programs = programs;
}

bool quota_settle(struct device *dev)
{
	quota_count_programs(dev);
	uint64_t now = stream_budget_total(&dev->stream_budget), was = dev->streams_charged;

	if (now == was)
		return true;
	bool fits = now <= was || now - was <= quota_room(dev);
	dev->freed += now < was ? was - now : 0;
	dev->vram_used += now - was; /* modulo 2^64 */
	dev->streams_charged = now;
	quota_changed(dev);
	return fits;
}

void quota_lenient(struct device *dev, bool lenient)
{
	uint64_t payable = dev->config.vram_bytes + DEVICE_DRIVER_FREE;

	dev->lenient = lenient;
	dev->stream_budget.driver_free = quota_is_lenient(dev) ? 4 * payable : DEVICE_DRIVER_FREE;
	quota_settle(dev);
	quota_changed(dev);
}

uint64_t quota_room_for_programs(const struct device *dev)
{
	const struct stream_budget *b = &dev->stream_budget;
	uint64_t total = stream_budget_total(b);
	uint64_t bytes = b->max_total > total ? b->max_total - total : 0;

	if (b->driver_free > b->driver)
		bytes += b->driver_free - b->driver;
	return bytes / DEVICE_PROGRAM_COST;
}

int quota_add_context(struct device *dev)
{
	const struct stream_budget *budget = &dev->stream_budget;

	if (!stream_budget_fits(budget, 0, 0, budget->sub_context_bytes)) {
		vgpu_stats_add(&dev->config.stats->quota_refusals_total, 1);
		return -ENOMEM;
	}
	dev->stream_budget.driver += budget->sub_context_bytes;
	quota_settle(dev);
	return 0;
}

void quota_remove_context(struct device *dev)
{
	dev->stream_budget.driver -= dev->stream_budget.sub_context_bytes;
	quota_settle(dev);
}

/* ---- what nobody counts ---- */

static uint64_t quota_memory(const struct device *dev)
{
	return dev->config.memory ? dev->config.memory(dev->config.memory_data) : 0;
}

void quota_begin(struct device *dev)
{
	uint64_t now = quota_memory(dev);

	dev->memory.last = now;
	dev->memory.limit =
		now ? now + dev->config.vram_bytes + DEVICE_DRIVER_FREE + DEVICE_SPARE : 0;
}

bool quota_looks_right(struct device *dev, uint64_t *grown)
{
	if (!dev->memory.limit || dev->replay.on)
		return true;
	uint64_t now = clock_ns(), was = dev->memory.last;
	if (now - dev->memory.looked < DEVICE_LOOK_NS)
		return true;
	dev->memory.looked = now;
	dev->memory.last = quota_memory(dev);
	if (dev->memory.last > was)
		*grown += dev->memory.last - was;
	if (dev->memory.last <= dev->memory.limit || *grown < DEVICE_GROWN)
		return true;
	device_trim(dev);
	dev->memory.last = quota_memory(dev);
	return dev->memory.last <= dev->memory.limit;
}

/* ---- back to the node ---- */

bool device_trim_due(const struct device *dev)
{
	return dev->freed >= DEVICE_TRIM_BYTES;
}

void device_trim(struct device *dev)
{
	dev->freed = 0;
	malloc_trim(0);
}

void device_rest(struct device *dev, bool compiler)
{
	if (dev->ops->rest)
		dev->ops->rest(dev->renderer, compiler);
}
