/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/frames.h"

#include "base/checked.h"

#include <errno.h>

int frames_init(struct frames *frames, uint32_t rate)
{
	if (rate > FRAMES_RATE_MAX)
		return -EINVAL;
	/* Rounded up: the limit is a limit. */
	*frames = (struct frames){.period_ns = rate ? (1000ull * SCHED_MS + rate - 1) / rate : 0};
	return 0;
}

uint64_t frames_hold_ns(struct frames *frames, uint64_t now)
{
	uint64_t period = frames->period_ns;

	sched_time_pass(&frames->time, now);
	if (!period)
		return 0;
	uint64_t passed = frames->time.passed;
	uint64_t hold = frames->due > passed ? frames->due - passed : 0;
	/* Late frames move the schedule, but for one period that may be caught up. */
	frames->due = MAX(frames->due, passed > period ? passed - period : 0) + period;
	return hold;
}
