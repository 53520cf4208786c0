/* SPDX-License-Identifier: Apache-2.0 */
#include "metrics/account.h"

#include "base/checked.h"

#include <stddef.h>
#include <string.h>

/* What a counter of a source has risen by, however it came to where it is. */
static uint64_t account_rise(uint64_t *shown, uint64_t *last, uint64_t now)
{
	uint64_t rise = now > *last ? now - *last : 0;

	*last = now;
	*shown += MIN(rise, METRICS_MAX - *shown);
	return rise;
}

static void account_gauges(struct metrics_values *shown, const struct vgpu_stats *page)
{
#define TAKE_GAUGE(name) shown->name = page ? MIN(page->name, METRICS_MAX) : 0;
#define TAKE_COUNTER(name)
#define X(name, kind, help) TAKE_##kind(name)
	VGPU_STATS_VALUES(X)
#undef X
#undef TAKE_GAUGE
#undef TAKE_COUNTER
}

static void account_counters(struct metrics_account *a, const struct vgpu_stats *page)
{
	static const size_t frames = offsetof(struct vgpu_stats, frames_4375us_total);
	uint64_t now;

#define TAKE_GAUGE(name)
#define TAKE_COUNTER(name)  account_rise(&a->shown.name, &a->last.name, page->name);
#define X(name, kind, help) TAKE_##kind(name)
	VGPU_STATS_VALUES(X)
	X(frame_time_ns_total, COUNTER, )
#undef X
#undef TAKE_GAUGE
#undef TAKE_COUNTER
	for (unsigned i = 0; i < ARRAY_SIZE(a->shown.frames); i++) {
		memcpy(&now, (const char *)page + frames + i * sizeof(now), sizeof(now));
		account_rise(&a->shown.frames[i], &a->last.frames[i], now);
	}
}

void metrics_times_anew(struct metrics_account *a)
{
	a->last.cpu_time_ns_total = a->last.cpu_delay_ns_total = a->last.held_time_ns_total = 0;
}

void metrics_account(struct metrics_account *a, const struct vgpu_stats *page,
	const struct metrics_times *times, bool by_fences)
{
	struct metrics_values *shown = &a->shown, *last = &a->last;
	uint64_t fence_ns = shown->fence_time_ns_total, gpu_ns;

	account_gauges(shown, page);
	if (page)
		account_counters(a, page);
	fence_ns = shown->fence_time_ns_total - fence_ns;
	uint64_t cpu_ns = 0;
	if (times) {
		cpu_ns = account_rise(&shown->cpu_time_ns_total, &last->cpu_time_ns_total,
			MAX(times->cpu_ns, last->cpu_time_ns_total));
		account_rise(&shown->cpu_delay_ns_total, &last->cpu_delay_ns_total,
			MAX(times->delay_ns, last->cpu_delay_ns_total));
		account_rise(&shown->held_time_ns_total, &last->held_time_ns_total,
			MAX(times->held_ns, last->held_time_ns_total));
	}
	gpu_ns = by_fences ? fence_ns : cpu_ns;
	shown->gpu_time_ns_total += MIN(gpu_ns, METRICS_MAX - shown->gpu_time_ns_total);
}
