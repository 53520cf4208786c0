/* SPDX-License-Identifier: Apache-2.0 */
#include "device/private.h"

#include "base/checked.h"
#include "base/clock.h"
#include "state/journal.h"

#include <errno.h>

/*
 * The renderer has one timeline; a device fence waits for a point on it. A fence behind no new work
 * waits for the point of the last one, so answers keep their order without costing a GL sync each.
 *
 * Points that complete also tell how far the driver is through with the journal. One at a time is
 * watched for that: a mark that lags behind makes a few records more suspect, no more.
 */

static void fence_run(struct device_fence *fence)
{
	struct device *dev = fence->client->device;
	fence->client = NULL;
	vgpu_stats_add(&dev->config.stats->fences_total, 1);
	fence->done(fence);
}

/* A point was set behind all work so far. */
static void fence_mark(struct device *dev)
{
	/* What a predecessor had executed is not yet run again. */
	if (!dev->journal || dev->replay.on || dev->finishing.fence)
		return;
	dev->finishing.fence = dev->fence_last;
	dev->finishing.mark = journal_mark(dev->journal);
}

static void fence_finished(struct device *dev)
{
	if (!dev->finishing.fence || dev->fence_done < dev->finishing.fence)
		return;
	journal_finished(dev->journal, dev->finishing.mark);
	dev->finishing.fence = 0;
}

int fence_point(struct device *dev)
{
	int err = dev->ops->fence_create(dev->renderer, dev->fence_last + 1);

	if (err < 0)
		return err;
	dev->fence_last++;
	dev->unfenced = false;
	account_fenced(dev);
	fence_mark(dev);
	fence_finished(dev); /* without a driver it was at once */
	return 0;
}

int device_fence(struct device_client *client, uint32_t ctx_handle, struct device_fence *fence)
{
	struct device *dev = client->device;

	if (ctx_handle && !device_find_context(client, ctx_handle))
		return -ENOENT;
	if (dev->unfenced) {
		int err = fence_point(dev);
		if (err < 0)
			return err;
	}
	fence->client = client;
	fence->id = dev->fence_last;
	fence->next = NULL;
	if (fence->id <= dev->fence_done && !dev->fences && !pace_holds(dev)) {
		fence_run(fence);
		return 0;
	}
	*dev->fences_end = fence;
	dev->fences_end = &fence->next;
	if (dev->journal && !dev->pending_since) {
		dev->pending_since = clock_ns();
		device_idle(dev);
	}
	return 0;
}

/* One fence after the other gets done: the driver is at the next one since now. */
static void fences_progress(struct device *dev)
{
	if (!dev->pending_since)
		return;
	dev->pending_since = dev->fences ? clock_ns() : 0;
	device_idle(dev);
}

static void fences_run(struct device *dev)
{
	bool progress = false;

	while (dev->fences && dev->fences->id <= dev->fence_done && !pace_holds(dev)) {
		struct device_fence *fence = dev->fences;
		dev->fences = fence->next;
		if (!dev->fences)
			dev->fences_end = &dev->fences;
		fence_run(fence);
		progress = true;
	}
	if (progress)
		fences_progress(dev);
}

void fences_complete(struct device *dev, uint64_t done)
{
	if (done > dev->fence_done) {
		dev->fence_done = done;
		account_fence_done(dev);
	}
	fence_finished(dev);
	fences_run(dev);
}

void fences_flush_client(struct device_client *client)
{
	struct device *dev = client->device;
	struct device_fence **at = &dev->fences, *mine = NULL, **mine_end = &mine;

	while (*at) {
		struct device_fence *fence = *at;
		if (fence->client != client) {
			at = &fence->next;
			continue;
		}
		*at = fence->next;
		fence->next = NULL;
		*mine_end = fence;
		mine_end = &fence->next;
	}
	dev->fences_end = at;
	fences_progress(dev);
	while (mine) {
		struct device_fence *fence = mine;
		mine = fence->next;
		fence_run(fence);
	}
}

bool device_fences_pending(const struct device *dev)
{
	return dev->fences != NULL;
}

int device_poll_fd(struct device *dev)
{
	return dev->ops->poll_fd(dev->renderer);
}

void device_poll(struct device *dev)
{
	dev->ops->poll(dev->renderer);
	account_work(dev);
}

void device_let_go_due(struct device *dev)
{
	fences_run(dev);
}

void device_start_drawing(struct device_client *client)
{
	struct device *dev = client->device;

	if (!dev->ops->flush || !dev->unfenced)
		return;
	device_busy(dev);
	dev->ops->flush(dev->renderer);
	device_idle(dev);
}

void device_drain(struct device *dev)
{
	/* Not by the list of fences: a client may have taken its own off unfinished. */
	if (!dev->unfenced && dev->fence_done >= dev->fence_last)
		return;
	device_busy(dev);
	dev->ops->finish(dev->renderer);
	dev->unfenced = false;
	fences_complete(dev, dev->fence_last);
	device_idle(dev);
}

bool device_settled(struct device *dev)
{
	/* Without a fence behind all of it nobody can tell; without memory for one it is not. */
	if (dev->unfenced && fence_point(dev) < 0)
		return false;
	if (dev->fence_done < dev->fence_last)
		device_poll(dev);
	return dev->fence_done >= dev->fence_last;
}

void device_finish_all(struct device *dev)
{
	pace_let_go(dev);
	device_drain(dev);
	fences_run(dev);
}

void device_finish(struct device_client *client, uint32_t ctx)
{
	device_finish_all(client->device);
}

/* ---- what the keeper watches ---- */

void device_busy(struct device *dev)
{
	if (dev->journal && !dev->pending_since)
		journal_busy(dev->journal, clock_ns());
}

void device_idle(struct device *dev)
{
	if (dev->journal)
		journal_busy(dev->journal, dev->pending_since);
}
