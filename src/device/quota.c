/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Theory of operation
 *
 * VRAM is one number for everything that a guest can make its host keep. Who charges what:
 *
 *   what                               size                                charged by   given back
 *   texels of textures, buffers,       format_host_bytes(): all levels,    resource.c   destroyed,
 * and no with the records of library,       layers, samples as the driver                    stream
 * refers to GL and driver                      lays them out                                    it
 * any more lists of a backing's pieces        16 bytes each, twice in a VM        resource.c,
 * detached virtio_gpu.c memory shared with a vtest         its size, whole pages vtest/shm.c
 * unmapped client: backings, small-buffer     (device_client_charge) pool, fence page pictures of
 * the screens: ours      3 x 4 bytes a pixel; 16 KiB         screen.c     head off; resized twice
 * and the one shown; cursors objects of streams, their text,    stream_budget: bytes and host
 * stream       object ended and constants, stream-output lists unbound; context contexts,
 * sub-contexts, programs   DEVICE_CONTEXT_COST,                here         ended
 *                                      DEVICE_PROGRAM_COST, beyond
 *                                      DEVICE_DRIVER_FREE
 *
 * Backings in a VM are the guest's own memory and cost nothing. Blob resources and video are not
 * offered. What is limited by other numbers, because it does not grow with what a guest does or is
 * gone before its next command: messages in flight (vtest: vtest_buffers_charge(); rings:
 * frontend/vhost_user), the journal and images (state/journal.h), compiled shaders kept for a
 * successor (process/shader_cache.h), copies made for one transfer (at most the resource's size).
 *
 * A context of the host's driver takes megabytes and a program compiled for a CPU half of one,
 * before anything is drawn. Every vGPU has DEVICE_DRIVER_FREE of that beside its VRAM; a guest that
 * wants more pays with VRAM. That is counted as it is made, but programs are made while commands
 * run: when they do not fit, the context that ran them is lost.
 *
 * Deleted memory goes back to the node: the allocator keeps what was freed, so device_trim() hands
 * it back once enough was.
 *
 * A state is loaded leniently, within twice the quota: another version may have counted otherwise.
 */
#include "device/private.h"

#include "base/checked.h"

#include <errno.h>
#include <malloc.h>

static uint64_t quota_room(const struct device *dev)
{
	uint64_t limit = dev->config.vram_bytes;

	if (dev->lenient && !dev->replay.on)
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
		.sub_context_bytes = DEVICE_CONTEXT_COST,
		.driver_free = DEVICE_DRIVER_FREE,
		.epoch = 1};
	vgpu_stats_set(&dev->config.stats->vram_limit_bytes, dev->config.vram_bytes);
	quota_changed(dev);
}

void quota_lenient(struct device *dev, bool lenient)
{
	dev->lenient = lenient;
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

int device_client_charge(struct device_client *client, uint64_t bytes)
{
	return device_charge(client->device, bytes);
}

void device_client_uncharge(struct device_client *client, uint64_t bytes)
{
	device_uncharge(client->device, bytes);
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

int quota_add_context(struct device *dev)
{
	if (!stream_budget_fits(&dev->stream_budget, 0, 0, DEVICE_CONTEXT_COST)) {
		vgpu_stats_add(&dev->config.stats->quota_refusals_total, 1);
		return -ENOMEM;
	}
	dev->stream_budget.driver += DEVICE_CONTEXT_COST;
	quota_settle(dev);
	return 0;
}

void quota_remove_context(struct device *dev)
{
	dev->stream_budget.driver -= DEVICE_CONTEXT_COST;
	quota_settle(dev);
}

/* ---- back to the node ---- */

bool device_trim(struct device *dev)
{
	if (dev->freed < DEVICE_TRIM_BYTES)
		return false;
	dev->freed = 0;
	malloc_trim(0);
	return true;
}
