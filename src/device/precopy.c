/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Contents copied while clients are served. A round raises the epoch first: what is written from
 * then on has the new one, and is copied again in the next round, or when the device is saved.
 */
#include "device/state.h"

#include "base/clock.h"

#include <errno.h>
#include <stdlib.h>

static void precopy_begin_round(struct device *dev)
{
	dev->precopy.epoch = ++dev->stream_budget.epoch;
	dev->precopy.end = dev->next_serial;
	dev->precopy.done = 0;
	dev->precopy.part_of = 0;
}

/* Goes on with one resource: true when it is whole. */
static bool precopy_resource(
	struct device *dev, struct state_writer *w, struct resource *res, uint64_t deadline)
{
	uint32_t parts = format_content_parts(&res->desc), part = 0;
	bool lost = false;

	if (dev->precopy.part_of == res->serial)
		part = dev->precopy.parts;
	else
		state_put_resource(w, res);
	for (; part < parts; part++) {
		dev->precopy.part_of = res->serial;
		dev->precopy.parts = part;
		if (part && clock_ns() >= deadline)
			return false;
		state_put_content(dev, w, res, part, &lost);
	}
	dev->precopy.part_of = 0;
	res->copied = dev->precopy.epoch;
	return true;
}

static uint64_t precopy_left(struct resource *const *resources, size_t n)
{
	uint64_t left = 0;

	for (size_t i = 0; i < n; i++)
		left += state_is_copied(resources[i]) ? 0 : resources[i]->cost;
	return left;
}

int device_precopy(
	struct device *dev, struct state_writer *w, uint64_t budget_ns, uint64_t *ret_left)
{
	struct resource **resources;
	size_t n;

	if (!dev->ops->content_read || dev->replay.on)
		return -EBUSY;
	device_enter(dev);
	int err = state_resources(dev, &resources, &n);
	if (err < 0)
		return err;
	if (!dev->precopy.epoch)
		precopy_begin_round(dev);
	device_finish_all(dev); /* as long as that takes: it would be drawn anyway */
	device_busy(dev);
	uint64_t deadline = clock_ns() + budget_ns;
	bool whole = true;
	for (size_t i = 0; i < n && whole && resources[i]->serial < dev->precopy.end; i++) {
		struct resource *res = resources[i];
		if (res->serial <= dev->precopy.done || state_is_copied(res))
			continue;
		whole = clock_ns() < deadline && precopy_resource(dev, w, res, deadline);
		if (whole)
			dev->precopy.done = res->serial;
	}
	state_contents_done(dev);
	device_idle(dev);
	if (whole) {
		dev->precopy.epoch = 0;
		*ret_left = precopy_left(resources, n);
	}
	free(resources);
	err = state_error(w);
	return err ? err : !whole;
}

void device_precopy_forget(struct device *dev)
{
	uint32_t cursor = 0;
	struct resource *res;

	dev->precopy.epoch = 0;
	while ((res = idmap_next(&dev->resource_ids, &cursor, NULL)))
		res->copied = 0;
}
