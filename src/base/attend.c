/* SPDX-License-Identifier: Apache-2.0 */
#include "base/attend.h"

#include "base/checked.h"
#include "base/clock.h"

#include <sched.h>

struct attend_looks {
	uint64_t last_ns, longest_ns;
};

/* True: it is over. */
static bool attend_awake(
	const struct attend *a, bool (*over)(void *data), void *data, struct attend_looks *looks)
{
	uint64_t busy = 0, now = clock_ns();
	unsigned away = 0;

	while (!over(data)) {
		const uint64_t before = now;
		sched_yield();
		now = clock_ns();
		looks->last_ns = now - before;
		looks->longest_ns = MAX(looks->longest_ns, looks->last_ns);
		if (looks->last_ns > ATTEND_AWAY_NS)
			away++;
		else
			busy += looks->last_ns;
		if (away > a->away || busy > a->busy_ns)
			return false;
	}
	return true;
}

bool attend(struct attend *a, bool (*over)(void *data), void *data)
{
	struct attend_looks looks = {0};

	if (!worthwhile_try(&a->worthwhile))
		return false;
	bool seen = attend_awake(a, over, data, &looks);
	if (a->dear_ns && looks.longest_ns > a->dear_ns)
		worthwhile_lost(&a->worthwhile);
	else
		worthwhile_told(&a->worthwhile, seen && looks.last_ns <= a->last_ns);
	return seen;
}
