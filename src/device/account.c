/* SPDX-License-Identifier: Apache-2.0 */
#include "device/private.h"

#include "base/clock.h"

/* What protocol/stats.h says of frames, of waiting and of fence time is done here. */

static const uint64_t frame_bounds_ns[VGPU_FRAME_TIMES_COUNT] = {
#define BOUND(X, us, le) us##000u,
	VGPU_FRAME_TIMES(BOUND, )
#undef BOUND
};

void account_frame(struct device *dev, uint64_t *last_ns)
{
	struct vgpu_stats *stats = dev->config.stats;
	uint64_t now = clock_ns(), took = now - *last_ns;
	bool timed = *last_ns && took < VGPU_FRAME_GAP_NS;
	unsigned bucket = 0;

	if (dev->replay.on) /* it was counted when it was drawn */
		return;
	*last_ns = now;
	vgpu_stats_add(&stats->frames_total, 1);
	if (!timed)
		return;
	while (bucket < VGPU_FRAME_TIMES_COUNT && took > frame_bounds_ns[bucket])
		bucket++;
	vgpu_stats_add(&vgpu_stats_frames(stats)[bucket], 1);
	vgpu_stats_add(&stats->frame_time_ns_total, took);
}

void device_waited(struct device *dev, uint64_t ns)
{
	vgpu_stats_add(&dev->config.stats->wait_time_ns_total, ns);
}

/*
 * On a render node one fence is always behind the work that is under way, whether or not a client
 * asked for one: a client that never waits is measured like any other.
 */
void account_work(struct device *dev)
{
	if (!dev->config.render_node || !dev->unfenced || dev->replay.on ||
		dev->fence_done < dev->fence_last)
		return;
	(void)fence_point(dev); /* without memory it is not measured */
}

void account_fenced(struct device *dev)
{
	if (dev->config.render_node && !dev->working_since && dev->fence_done < dev->fence_last)
		dev->working_since = clock_ns();
}

void account_fence_done(struct device *dev)
{
	if (!dev->working_since)
		return;
	uint64_t now = clock_ns();
	vgpu_stats_add(&dev->config.stats->fence_time_ns_total, now - dev->working_since);
	dev->working_since = dev->fence_done < dev->fence_last ? now : 0;
}
