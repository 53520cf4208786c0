/* SPDX-License-Identifier: Apache-2.0 */
#include "base/attend.h"

#include "base/clock.h"

#include <sched.h>

/* True: it is over, *ret_last_ns after the look before. */
static bool attend_awake(
	const struct attend *a, bool (*over)(void *data), void *data, uint64_t *ret_last_ns)
{
	uint64_t busy = 0, now = clock_ns();
	unsigned away = 0;

	*ret_last_ns = 0;
	while (!over(data)) {
		const uint64_t before = now;
		sched_yield();
		now = clock_ns();
		*ret_last_ns = now - before;
		if (*ret_last_ns > ATTEND_AWAY_NS)
			away++;
		else
			busy += *ret_last_ns;
		if (away > a->away || busy > a->busy_ns)
			return false;
	}
	return true;
}

bool attend(struct attend *a, bool (*over)(void *data), void *data)
{
	uint64_t last;

	if (!worthwhile_try(&a->worthwhile))
		return false;
	bool seen = attend_awake(a, over, data, &last);
	worthwhile_told(&a->worthwhile, seen && last <= a->last_ns);
	return seen;
}
