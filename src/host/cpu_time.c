/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CPU time is read from the CPU clock of each process, which counts all its threads to the
 * nanosecond, those that ended too. Waiting is known for single threads only, so each has its
 * schedstat open. Which threads there are is looked up now and then.
 */
#include "host/cpu_time.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/parse.h"
#include "base/process_times.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define CPU_TIME_PROCESSES 9  /* the process, and as many children as process_times() counts */
#define CPU_TIME_THREADS   96 /* those of a node with many CPUs do not all count as waiting */

struct cpu_thread {
	pid_t pid, tid; /* tid 0: free */
	int fd;         /* its schedstat */
	bool seen;
	uint64_t waited_ns; /* what it said last */
};

struct cpu_process {
	pid_t pid; /* 0: free */
	clockid_t clock;
	uint64_t ran_ns;
};

struct cpu_time {
	pid_t pid;
	uint64_t start_time, looked_ns;
	bool counts; /* what is found now is new, and not what was there before counting began */
	struct cpu_process processes[CPU_TIME_PROCESSES];
	struct cpu_thread threads[CPU_TIME_THREADS];
	uint64_t ran_ns, waited_ns;
};

/* --- who --- */

static void thread_drop(struct cpu_thread *t)
{
	close_fd(&t->fd);
	*t = (struct cpu_thread){.fd = -1};
}

static void thread_add(struct cpu_time *c, int tasks, pid_t pid, const char *name)
{
	struct cpu_thread *free_slot = NULL;
	char path[NAME_MAX + 16];
	uint64_t tid;

	if (!parse_number(name, 10, INT_MAX, &tid))
		return; /* "." and ".." */
	for (unsigned i = 0; i < CPU_TIME_THREADS; i++) {
		struct cpu_thread *t = &c->threads[i];
		if (t->tid == (pid_t)tid && t->pid == pid) {
			t->seen = true;
			return;
		}
		if (!t->tid && !free_slot)
			free_slot = t;
	}
	snprintf(path, sizeof(path), "%s/schedstat", name);
	int fd = free_slot ? openat(tasks, path, O_RDONLY | O_CLOEXEC) : -1;
	if (fd >= 0)
		*free_slot =
			(struct cpu_thread){.pid = pid, .tid = (pid_t)tid, .fd = fd, .seen = true};
}

static void threads_find(struct cpu_time *c, pid_t pid)
{
	const struct dirent *entry;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	DIR *tasks = opendir(path);
	while (tasks && (entry = readdir(tasks)))
		thread_add(c, dirfd(tasks), pid, entry->d_name);
	if (tasks)
		closedir(tasks);
}

static void process_add(struct cpu_time *c, pid_t pid)
{
	struct cpu_process *free_slot = NULL;

	for (unsigned i = 0; i < CPU_TIME_PROCESSES; i++) {
		if (c->processes[i].pid == pid)
			return;
		if (!c->processes[i].pid && !free_slot)
			free_slot = &c->processes[i];
	}
	if (!free_slot)
		return;
	*free_slot = (struct cpu_process){.pid = pid};
	if (clock_getcpuclockid(pid, &free_slot->clock) != 0)
		free_slot->pid = 0;
}

static bool is_among(pid_t pid, const pid_t *pids, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (pids[i] == pid)
			return true;
	}
	return false;
}

static int look(struct cpu_time *c, uint64_t now_ns)
{
	pid_t pids[CPU_TIME_PROCESSES] = {c->pid};
	unsigned n = 1 + process_children(c->pid, pids + 1, CPU_TIME_PROCESSES - 1);

	for (unsigned i = 0; i < CPU_TIME_THREADS; i++)
		c->threads[i].seen = false;
	for (unsigned i = 0; i < CPU_TIME_PROCESSES; i++) {
		if (c->processes[i].pid && !is_among(c->processes[i].pid, pids, n))
			c->processes[i].pid = 0;
	}
	for (unsigned i = 0; i < n; i++) {
		process_add(c, pids[i]);
		threads_find(c, pids[i]);
	}
	for (unsigned i = 0; i < CPU_TIME_THREADS; i++) {
		if (c->threads[i].tid && !c->threads[i].seen)
			thread_drop(&c->threads[i]);
	}
	/* Only now: the pid was this process' all the while. */
	uint64_t start = process_start_time(c->pid);
	if (!start || (c->start_time && start != c->start_time))
		return -ESRCH;
	c->looked_ns = now_ns;
	return 0;
}

/* --- how much --- */

static uint64_t rise(uint64_t now, uint64_t *last)
{
	uint64_t by = now > *last ? now - *last : 0;

	*last = now;
	return by;
}

static int read_clock(struct cpu_time *c, struct cpu_process *p)
{
	struct timespec ran;

	if (clock_gettime(p->clock, &ran) < 0)
		return -ESRCH;
	uint64_t by = rise((uint64_t)ran.tv_sec * 1000000000u + (uint64_t)ran.tv_nsec, &p->ran_ns);
	c->ran_ns += c->counts ? by : 0;
	return 0;
}

static int read_thread(struct cpu_time *c, struct cpu_thread *t)
{
	uint64_t ran, waited;

	int r = schedstat_read(t->fd, &ran, &waited);
	if (r < 0)
		return r;
	uint64_t by = rise(waited, &t->waited_ns);
	c->waited_ns += c->counts ? by : 0;
	return 0;
}

/* A clock is known by a pid; that it was still this process' is what its main thread's file says.
 */
static int read_all(struct cpu_time *c)
{
	uint64_t ran_ns = c->ran_ns;
	int r = 0;

	for (unsigned i = 0; i < CPU_TIME_PROCESSES; i++) {
		struct cpu_process *p = &c->processes[i];
		if (p->pid && read_clock(c, p) < 0)
			p->pid = 0;
		if (i == 0 && !p->pid)
			r = -ESRCH;
	}
	for (unsigned i = 0; i < CPU_TIME_THREADS; i++) {
		struct cpu_thread *t = &c->threads[i];
		if (!t->tid || read_thread(c, t) != -ESRCH)
			continue;
		if (t->tid == c->pid) {
			c->ran_ns = ran_ns;
			r = -ESRCH;
		}
		thread_drop(t);
	}
	return r;
}

int cpu_time_read(
	struct cpu_time *c, uint64_t now_ns, uint64_t *ret_ran_ns, uint64_t *ret_waited_ns)
{
	int r = 0;

	if (!c->looked_ns || now_ns - c->looked_ns >= CPU_TIME_LOOK_NS)
		r = look(c, now_ns);
	if (r == 0)
		r = read_all(c);
	*ret_ran_ns = c->ran_ns;
	*ret_waited_ns = c->waited_ns;
	return r;
}

pid_t cpu_time_pid(const struct cpu_time *c)
{
	return c->pid;
}

int cpu_time_open(pid_t pid, uint64_t start_time, bool from_birth, struct cpu_time **ret)
{
	struct cpu_time *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	*c = (struct cpu_time){.pid = pid, .start_time = start_time, .counts = from_birth};
	for (unsigned i = 0; i < CPU_TIME_THREADS; i++)
		c->threads[i].fd = -1;
	int r = look(c, 0);
	if (r == 0)
		r = read_all(c);
	if (r < 0) {
		cpu_time_close(c);
		return r;
	}
	c->counts = true;
	*ret = c;
	return 0;
}

void cpu_time_close(struct cpu_time *c)
{
	if (!c)
		return;
	for (unsigned i = 0; i < CPU_TIME_THREADS; i++)
		close_fd(&c->threads[i].fd);
	free(c);
}
