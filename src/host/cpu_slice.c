/* SPDX-License-Identifier: Apache-2.0 */
#include "host/cpu_slice.h"

#include "base/parse.h"
#include "base/process_times.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CHILDREN_MAX 8

/* struct sched_attr of sched_setattr(2), its first version; glibc 2.36 has none. */
struct slice_attr {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

static int slice_set_thread(pid_t tid, uint64_t ns)
{
	struct slice_attr attr = {.size = sizeof(attr)};

	if (syscall(SYS_sched_getattr, tid, &attr, sizeof(attr), 0) < 0)
		return errno == ESRCH ? 0 : -errno;
	attr.runtime = ns;
	if (syscall(SYS_sched_setattr, tid, &attr, 0) < 0)
		return errno == ESRCH ? 0 : -errno;
	return 0;
}

static int slice_set_process(pid_t pid, uint64_t ns)
{
	const struct dirent *entry;
	char path[64];
	uint64_t tid;
	int result = 0;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	DIR *tasks = opendir(path);
	while (tasks && (entry = readdir(tasks))) {
		if (!parse_number(entry->d_name, 10, INT_MAX, &tid))
			continue;
		int r = slice_set_thread((pid_t)tid, ns);
		result = r < 0 ? r : result;
	}
	if (tasks)
		closedir(tasks);
	return result;
}

int cpu_slice_set(pid_t pid, uint64_t ns)
{
	pid_t children[CHILDREN_MAX];
	int result = slice_set_process(pid, ns);

	unsigned n = process_children(pid, children, CHILDREN_MAX);
	for (unsigned i = 0; i < n; i++) {
		int r = slice_set_process(children[i], ns);
		result = r < 0 ? r : result;
	}
	return result;
}
