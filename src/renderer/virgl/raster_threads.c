/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The names are the driver's ("llvmpipe-0", Mesa 11 to 25). /proc may show another pid namespace's
 * numbers, so a thread's own is the last one of NSpid in its status.
 */

#include "renderer/virgl/raster_threads.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/parse.h"
#include "base/process_times.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

#define RASTER_THREADS_MAX 128 /* llvmpipe starts 32 at most */

/* Of each thread. Less is no figure: one slice of somebody else's would decide. */
#define RASTER_RAN_NS 8000000u

struct raster_thread {
	pid_t tid;     /* 0: there is none of this number */
	int schedstat; /* its file, or -1 */
	uint64_t ran, waited;
};

struct raster_threads {
	unsigned n;
	bool placed;  /* their CPUs are what we said, and do not follow the process' any more */
	bool refused; /* they cannot be placed */
	cpu_set_t allowed; /* to the calling thread, which is never placed, at the last look */
	uint64_t next_look_ns;
	struct raster_judge judge;
	struct raster_thread threads[RASTER_THREADS_MAX];
};

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

unsigned raster_threads_found(const struct raster_threads *t)
{
	return t->n;
}

/* ---- finding them ---- */

/* The thread's number as a rasteriser, -1 when it is none, and its id in our namespace. */
static int raster_thread_read(const char *task, pid_t *ret_tid)
{
	char path[64], line[128], name[32] = "";

	snprintf(path, sizeof(path), "/proc/self/task/%.16s/status", task);
	cleanup_fclose FILE *status = fopen(path, "re");
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
	return *ret_tid > 0 ? raster_thread_number(name) : -1;
}

static void raster_thread_note(struct raster_threads *t, const char *task)
{
	char path[64];
	pid_t tid;
	int number = raster_thread_read(task, &tid);

	if (number < 0)
		return;
	struct raster_thread *thread = &t->threads[number];
	if (thread->tid) { /* two of one name: these are not what they seem */
		thread->tid = -1;
		return;
	}
	snprintf(path, sizeof(path), "/proc/self/task/%.16s/schedstat", task);
	thread->schedstat = open(path, O_RDONLY | O_CLOEXEC);
	thread->tid = tid;
	t->n++;
}

/* All of them, numbered from 0 without a gap, and counted by the kernel. */
static bool raster_threads_usable(const struct raster_threads *t)
{
	for (unsigned i = 0; i < t->n; i++)
		if (t->threads[i].tid <= 0 || t->threads[i].schedstat < 0)
			return false;
	return t->n >= 2;
}

static void raster_threads_forget(struct raster_threads *t)
{
	for (unsigned i = 0; i < RASTER_THREADS_MAX; i++)
		close_fd(&t->threads[i].schedstat);
	t->n = 0;
}

int raster_threads_create(struct raster_threads **ret)
{
	struct raster_threads *t = calloc(1, sizeof(*t));
	const struct dirent *entry;

	*ret = t;
	if (!t)
		return -ENOMEM;
	for (unsigned i = 0; i < RASTER_THREADS_MAX; i++)
		t->threads[i].schedstat = -1;
	DIR *tasks = opendir("/proc/self/task");
	while (tasks && (entry = readdir(tasks)))
		raster_thread_note(t, entry->d_name);
	if (tasks)
		closedir(tasks);
	if (!raster_threads_usable(t))
		raster_threads_forget(t);
	return 0;
}

void raster_threads_destroy(struct raster_threads *t)
{
	if (t)
		raster_threads_forget(t);
	free(t);
}

/* ---- watching them ---- */

void raster_judge(
	struct raster_judge *judge, const struct raster_times *times, unsigned n, bool placeable)
{
	const uint64_t each = times->ran / n;

	if (!judge->apart) {
		judge->alone = times->waited / 3 < times->ran / 4;
		judge->apart = judge->alone && placeable && worthwhile_try(&judge->worthwhile);
		return;
	}
	judge->apart = judge->alone = times->waited_most <= each / 3;
	worthwhile_told(&judge->worthwhile, judge->apart);
}

/* Since it said last that there is enough to judge by. */
static bool raster_threads_times(struct raster_threads *t, struct raster_times *ret)
{
	uint64_t ran[RASTER_THREADS_MAX], waited[RASTER_THREADS_MAX];

	*ret = (struct raster_times){0};
	for (unsigned i = 0; i < t->n; i++) {
		const struct raster_thread *thread = &t->threads[i];
		if (schedstat_read(thread->schedstat, &ran[i], &waited[i]) < 0)
			return false;
		ret->ran += ran[i] - thread->ran;
		ret->waited += waited[i] - thread->waited;
		ret->waited_most = MAX(ret->waited_most, waited[i] - thread->waited);
	}
	if (ret->ran < (uint64_t)RASTER_RAN_NS * t->n)
		return false;
	for (unsigned i = 0; i < t->n; i++) {
		t->threads[i].ran = ran[i];
		t->threads[i].waited = waited[i];
	}
	return true;
}

/* False: not all of them are as they should be now. */
static bool raster_threads_put(struct raster_threads *t, bool apart)
{
	bool done = true;

	t->placed = true;
	for (unsigned i = 0; i < t->n; i++) {
		cpu_set_t cpus = t->allowed;
		if (apart) {
			CPU_ZERO(&cpus);
			CPU_SET((size_t)raster_thread_cpu(&t->allowed, (int)i), &cpus);
		}
		done &= sched_setaffinity(t->threads[i].tid, sizeof(cpus), &cpus) == 0;
	}
	return done;
}

static void raster_threads_place(struct raster_threads *t, bool apart)
{
	if ((apart || t->placed) && !raster_threads_put(t, apart)) {
		t->refused = true;
		t->judge.apart = false;
		raster_threads_put(t, false);
	}
}

/* The process was given other CPUs: those that were placed would not have them by themselves. */
static void raster_threads_follow(struct raster_threads *t)
{
	cpu_set_t now;

	if (sched_getaffinity(0, sizeof(now), &now) < 0) {
		t->refused = true;
		return;
	}
	if (CPU_EQUAL(&now, &t->allowed))
		return;
	t->allowed = now;
	t->judge.apart = false;
	raster_threads_place(t, false);
}

void raster_threads_watch(struct raster_threads *t)
{
	struct raster_times times;
	uint64_t now = t->n ? clock_ns() : 0;

	if (!t->n || now < t->next_look_ns)
		return;
	t->next_look_ns = now + RASTER_LOOK_NS;
	raster_threads_follow(t);
	const bool before = t->judge.apart;
	if (!raster_threads_times(t, &times))
		return;
	raster_judge(
		&t->judge, &times, t->n, !t->refused && t->n == (unsigned)CPU_COUNT(&t->allowed));
	if (t->judge.apart != before)
		raster_threads_place(t, t->judge.apart);
}

bool raster_threads_alone(const struct raster_threads *t)
{
	return !t->n || t->judge.alone;
}
