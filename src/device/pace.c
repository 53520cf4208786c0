/* SPDX-License-Identifier: Apache-2.0 */
#include "device/private.h"

#include "base/checked.h"
#include "base/clock.h"

/*
 * The frame-rate limit of the vGPU's type: completions are held back, work is not.
 *
 * A screen's frame is its flush. A guest is told that work is complete in the order in which it was
 * submitted, so until the frame's time has come all completions wait that are reported from the
 * flush on; and a guest that waits for its last frame, as all do, draws the next one no sooner. One
 * that does not wait has its share of the GPU, no more.
 *
 * A client's frame is counted when it is complete; the front end tells the client so, and serves
 * it, no sooner than it is told here. All clients of a vGPU have one limit together, each screen
 * has one of its own.
 *
 * Whoever needs everything to be complete (saving, a memory map that changes) does not wait for a
 * frame's time: it is let go, and the limit is met again from there on.
 */

int pace_init(struct device *dev, uint32_t max_fps)
{
	int err = frames_init(&dev->client_pace, max_fps);

	for (uint32_t i = 0; i < DISPLAY_MAX_HEADS && !err; i++)
		err = frames_init(&dev->screens[i].pace, max_fps);
	return err;
}

uint64_t device_client_frame(struct device_client *client)
{
	struct device *dev = client->device;

	account_frame(dev, &client->frame_ns);
	return dev->replay.on ? 0 : frames_hold_ns(&dev->client_pace, clock_ns());
}

void pace_screen(struct device *dev, struct screen *screen)
{
	uint64_t now = clock_ns();

	account_frame(dev, &screen->frame_ns);
	uint64_t hold = dev->replay.on ? 0 : frames_hold_ns(&screen->pace, now);
	if (hold)
		dev->held_until = MAX(dev->held_until, now + hold);
}

uint64_t device_held_ns(const struct device *dev)
{
	uint64_t now = dev->held_until && dev->fences ? clock_ns() : 0;

	return now && dev->held_until > now ? dev->held_until - now : 0;
}

bool pace_holds(struct device *dev)
{
	if (dev->held_until && clock_ns() >= dev->held_until)
		dev->held_until = 0;
	return dev->held_until != 0;
}

void pace_let_go(struct device *dev)
{
	dev->held_until = 0;
}
