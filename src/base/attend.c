/* SPDX-License-Identifier: Apache-2.0 */
#include "base/attend.h"

#include "base/clock.h"

#include <sched.h>

static bool attend_awake(const struct attend *a, bool (*over)(void *data), void *data)
{
	uint64_t busy = 0, now = clock_ns();
	unsigned away = 0;

	while (!over(data)) {
		const uint64_t before = now;
		sched_yield();
		now = clock_ns();
		if (now - before > ATTEND_TURN_NS)
			away++;
		else
			busy += now - before;
		if (away > a->away || busy > a->busy_ns)
			return false;
	}
	return true;
}

bool attend(struct attend *a, bool (*over)(void *data), void *data)
{
	if (!worthwhile_try(&a->worthwhile))
		return false;
	bool seen = attend_awake(a, over, data);
	worthwhile_told(&a->worthwhile, seen);
	return seen;
}
