/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The names are the driver's ("llvmpipe-0", Mesa 11 to 25). /proc may show another pid namespace's
 * numbers, so a thread's own is the last one of NSpid in its status.
 */

#include "renderer/virgl/raster_threads.h"

#include "base/checked.h"
#include "base/parse.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

#define RASTER_THREADS_MAX 128 /* llvmpipe starts 32 at most */

static const char raster_prefix[] = "llvmpipe-";

int raster_thread_number(const char *name)
{
	const size_t prefix = sizeof(raster_prefix) - 1;
	uint64_t number;

	if (strncmp(name, raster_prefix, prefix) != 0 || name[prefix] < '0' || name[prefix] > '9')
		return -1;
	return parse_number(name + prefix, 10, RASTER_THREADS_MAX - 1, &number) ? (int)number : -1;
}

int raster_thread_cpu(const cpu_set_t *allowed, int number)
{
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, allowed) && number-- == 0)
			return cpu;
	return -1;
}

/* The thread's number as a rasteriser, -1 when it is none, and its id in our namespace. */
static int raster_thread_read(const char *task, pid_t *ret_tid)
{
	char path[64], line[128], name[32] = "";

	snprintf(path, sizeof(path), "/proc/self/task/%.16s/status", task);
	FILE *status = fopen(path, "re");
	if (!status)
		return -1; /* it ended */
	*ret_tid = 0;
	while (fgets(line, sizeof(line), status)) {
		const char *ids = line + strlen("NSpid:");
		uint64_t id;
		if (sscanf(line, "Name: %31s", name) == 1 || strncmp(line, "NSpid:", 6) != 0)
			continue;
		while (parse_next(&ids, 10, INT32_MAX, &id))
			*ret_tid = (pid_t)id;
	}
	fclose(status);
	return *ret_tid > 0 ? raster_thread_number(name) : -1;
}

/* Their ids by number; 0: no such. -E2BIG: two of one name, so these are not what they seem. */
static int raster_threads_find(pid_t tids[RASTER_THREADS_MAX])
{
	DIR *tasks = opendir("/proc/self/task");
	const struct dirent *entry;
	int found = 0;

	if (!tasks)
		return -errno;
	while (found >= 0 && (entry = readdir(tasks))) {
		pid_t tid;
		int number = raster_thread_read(entry->d_name, &tid);
		if (number < 0)
			continue;
		found = tids[number] ? -E2BIG : found + 1;
		tids[number] = tid;
	}
	closedir(tasks);
	return found;
}

int raster_threads_spread(void)
{
	pid_t tids[RASTER_THREADS_MAX] = {0};
	cpu_set_t allowed;

	if (sched_getaffinity(0, sizeof(allowed), &allowed) < 0)
		return -errno;
	int found = raster_threads_find(tids);
	if (found < 2 || found != CPU_COUNT(&allowed))
		return MIN(found, 0);
	for (int number = 0; number < found; number++)
		if (!tids[number])
			return -ESRCH;
	for (int number = 0; number < found; number++) {
		cpu_set_t one;
		CPU_ZERO(&one);
		CPU_SET((size_t)raster_thread_cpu(&allowed, number), &one);
		if (sched_setaffinity(tids[number], sizeof(one), &one) < 0)
			return -errno;
	}
	return found;
}
