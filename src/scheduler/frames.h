/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_SCHEDULER_FRAMES_H
#define VGPU_SCHEDULER_FRAMES_H

/*
 * The frame-rate limit of a type: how long the completion of a frame is held back. Frames that come
 * unevenly may catch up by one, so in any t seconds no more than rate * t + 2 are let go.
 */

#include "scheduler/policy.h"

#define FRAMES_RATE_MAX 1000u /* a second */

struct frames {
	struct sched_time time;
	uint64_t period_ns; /* 0: no limit */
	uint64_t due;       /* of the next frame, by time.passed */
};

/* `rate` frames a second, up to FRAMES_RATE_MAX; 0: no limit. -EINVAL: above that. */
int frames_init(struct frames *frames, uint32_t rate);

/* A frame is done now; how many ns to hold it back. Several may be held at once. */
uint64_t frames_hold_ns(struct frames *frames, uint64_t now);

#endif
