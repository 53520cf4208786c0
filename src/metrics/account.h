/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_METRICS_ACCOUNT_H
#define VGPU_METRICS_ACCOUNT_H

/*
 * What one vGPU has used, as vgpud shows it everywhere: one table for JSON, Prometheus and the
 * documentation. Names hold the unit; a counter ends in _total.
 *
 * Two sources are put together: the page that the device process writes (protocol/stats.h), which
 * may hold anything, and the kernel's account of that process, which it cannot change. A counter
 * shown never falls, whatever its source does: one that went back goes on from what was shown, so a
 * page that lies harms the figures of its own vGPU and no reader.
 */

#include "protocol/stats.h"

#include <stdbool.h>

/* X(name, kind, help) as in VGPU_STATS_TABLE. */
#define METRICS_TABLE(X)                                                                           \
	VGPU_STATS_VALUES(X)                                                                       \
	X(gpu_time_ns_total, COUNTER, "GPU time: CPU time on a soft GPU, else fence time")         \
	X(cpu_time_ns_total, COUNTER, "CPU time of its device processes, by the kernel")           \
	X(cpu_delay_ns_total, COUNTER, "time in which they were ready to run and had no CPU")      \
	X(held_time_ns_total, COUNTER, "time in which they were stopped for their share")

/* Of each at most METRICS_MAX, which is the largest number that JSON's readers take. */
struct metrics_values {
#define X(name, kind, help) uint64_t name;
	METRICS_TABLE(X)
#undef X
	uint64_t frames[VGPU_FRAME_TIMES_COUNT + 1]; /* by time; not cumulative */
	uint64_t frame_time_ns_total;
};
#define METRICS_MAX ((uint64_t)INT64_MAX)

struct metrics_account {
	struct metrics_values last, shown;
};

/*
 * The kernel's side, of all of a keeper's device processes. A process that is ending may be missing
 * for a moment: what falls is not believed.
 */
struct metrics_times {
	uint64_t cpu_ns, delay_ns, held_ns;
};

/*
 * Takes in a new look at the sources; either may be NULL: it cannot be seen now, and nothing of it
 * changes, but gauges without a page are 0. `by_fences`: GPU time is what the page says of fences.
 */
void metrics_account(struct metrics_account *account, const struct vgpu_stats *page,
	const struct metrics_times *times, bool by_fences);
/* Another keeper counts from here on, and it begins at 0. */
void metrics_times_anew(struct metrics_account *account);

#endif
