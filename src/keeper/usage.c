/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper/keeper.h"

#include "base/checked.h"
#include "base/process_times.h"

#include <sys/resource.h>

static uint64_t timeval_ns(const struct timeval *t)
{
	return (uint64_t)t->tv_sec * 1000000000u + (uint64_t)t->tv_usec * 1000u;
}

static void usage_add(struct process_times *to, const struct process_times *times)
{
	to->cpu_ns += times->cpu_ns;
	to->delay_ns += times->delay_ns;
}

void usage_look(struct device_process *d)
{
	struct process_times now;

	/* Its child may have ended and be counted no more. */
	if (!d->pid || process_times(d->pid, d->start_time, &now) < 0)
		return;
	d->times.cpu_ns = MAX(d->times.cpu_ns, now.cpu_ns);
	d->times.delay_ns = MAX(d->times.delay_ns, now.delay_ns);
}

void usage_ended(struct device_process *d, const struct rusage *usage)
{
	uint64_t cpu_ns = timeval_ns(&usage->ru_utime) + timeval_ns(&usage->ru_stime);

	d->times.cpu_ns = MAX(d->times.cpu_ns, cpu_ns);
	usage_add(&d->keeper->ended, &d->times);
	d->times = (struct process_times){0};
}

struct process_times usage_others(struct keeper *k)
{
	struct process_times sum = k->ended;

	for (unsigned i = 0; i < KEEPER_PROCESSES; i++) {
		struct device_process *d = &k->processes[i];
		if (d == k->current || !d->pid)
			continue;
		usage_look(d);
		usage_add(&sum, &d->times);
	}
	return sum;
}
