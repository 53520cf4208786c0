/* SPDX-License-Identifier: Apache-2.0 */
#include "base/process_times.h"

#include "base/cleanup.h"
#include "base/parse.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define CHILDREN_MAX 8 /* a device process has one */

static bool read_line(pid_t pid, const char *name, char *ret, int size)
{
	char path[96];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	cleanup_fclose FILE *f = fopen(path, "re");
	return f && fgets(ret, size, f);
}

int schedstat_read(int fd, uint64_t *ret_ran_ns, uint64_t *ret_waited_ns)
{
	char text[96];
	const char *at = text;

	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
	if (n <= 0)
		return -ESRCH;
	text[n] = '\0';
	return parse_next(&at, 10, UINT64_MAX, ret_ran_ns) &&
			       parse_next(&at, 10, UINT64_MAX, ret_waited_ns)
		       ? 0
		       : -ENODATA;
}

uint64_t process_start_time(pid_t pid)
{
	char text[1024];
	uint64_t start;

	if (!read_line(pid, "stat", text, sizeof(text)))
		return 0;
	/* The name in field 2 may hold anything, so fields are counted from its last ')'. */
	const char *at = strrchr(text, ')');
	for (int field = 2; at && field < 22; field++)
		at = strchr(at + 1, ' ');
	return at && parse_next(&at, 10, UINT64_MAX, &start) ? start : 0;
}

static void add_process(pid_t pid, struct process_times *times)
{
	struct timespec cpu;
	clockid_t clock;
	char text[128];
	uint64_t ran, waited;
	const char *at = text;

	if (clock_getcpuclockid(pid, &clock) == 0 && clock_gettime(clock, &cpu) == 0)
		times->cpu_ns += (uint64_t)cpu.tv_sec * 1000000000u + (uint64_t)cpu.tv_nsec;
	if (read_line(pid, "schedstat", text, sizeof(text)) &&
		parse_next(&at, 10, UINT64_MAX, &ran) && parse_next(&at, 10, UINT64_MAX, &waited))
		times->delay_ns += waited;
}

unsigned process_children(pid_t pid, pid_t *ret, unsigned max)
{
	char name[64], children[256];
	const char *at = children;
	uint64_t child;
	unsigned n = 0;

	snprintf(name, sizeof(name), "task/%d/children", (int)pid);
	if (!read_line(pid, name, children, sizeof(children)))
		return 0;
	while (n < max && parse_next(&at, 10, INT_MAX, &child))
		ret[n++] = (pid_t)child;
	return n;
}

int process_times(pid_t pid, uint64_t start_time, struct process_times *ret)
{
	struct process_times times = {0};
	pid_t children[CHILDREN_MAX];

	add_process(pid, &times);
	unsigned n = process_children(pid, children, CHILDREN_MAX);
	for (unsigned i = 0; i < n; i++)
		add_process(children[i], &times);
	/* Only now: the pid was this process' all the while. */
	uint64_t start = process_start_time(pid);
	if (!start || (start_time && start != start_time))
		return -ESRCH;
	*ret = times;
	return 0;
}
