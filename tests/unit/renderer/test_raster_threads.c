/* SPDX-License-Identifier: Apache-2.0 */
/* Threads named as the driver names its own; the driver's are looked at in the last test. */
#include "support.h"

#include "base/checked.h"
#include "renderer/virgl/raster_threads.h"

#include <dirent.h>
#include <pthread.h>
#include <unistd.h>

#define MAX_THREADS 64

static pthread_t threads[MAX_THREADS];

static void *sleep_for_ever(void *data)
{
	for (;;)
		pause();
	return data;
}

static int start(unsigned at, unsigned number)
{
	char name[32];

	snprintf(name, sizeof(name), "llvmpipe-%u", number);
	CHECK(pthread_create(&threads[at], NULL, sleep_for_ever, NULL) == 0);
	CHECK(pthread_setname_np(threads[at], name) == 0);
	return 0;
}

static bool has(pthread_t thread, const cpu_set_t *cpus)
{
	cpu_set_t now;

	return pthread_getaffinity_np(thread, sizeof(now), &now) == 0 && CPU_EQUAL(&now, cpus);
}

static int test_names(void)
{
	CHECK(raster_thread_number("llvmpipe-0") == 0);
	CHECK(raster_thread_number("llvmpipe-31") == 31);
	CHECK(raster_thread_number("llvmpipe-") == -1);
	CHECK(raster_thread_number("llvmpipe- 1") == -1);
	CHECK(raster_thread_number("llvmpipe--1") == -1);
	CHECK(raster_thread_number("llvmpipe-1x") == -1);
	CHECK(raster_thread_number("llvmpipe-128") == -1);
	CHECK(raster_thread_number("llvmpipe-99999999999999999999") == -1);
	CHECK(raster_thread_number("llvmpipe") == -1);
	CHECK(raster_thread_number("vgpu-device") == -1);
	return 0;
}

static int test_cpus(void)
{
	cpu_set_t allowed;

	CPU_ZERO(&allowed);
	CHECK(raster_thread_cpu(&allowed, 0) == -1);
	CPU_SET(3, &allowed);
	CPU_SET(70, &allowed);
	CPU_SET(CPU_SETSIZE - 1, &allowed);
	CHECK(raster_thread_cpu(&allowed, 0) == 3);
	CHECK(raster_thread_cpu(&allowed, 1) == 70);
	CHECK(raster_thread_cpu(&allowed, 2) == CPU_SETSIZE - 1);
	CHECK(raster_thread_cpu(&allowed, 3) == -1);
	return 0;
}

/* As many as CPUs, started in another order: each has its own. One fewer or more: none has. */
static int test_each_its_own(void)
{
	cpu_set_t allowed, one;

	CHECK(sched_getaffinity(0, sizeof(allowed), &allowed) == 0);
	unsigned n = (unsigned)CPU_COUNT(&allowed);
	if (n < 2 || n > MAX_THREADS - 1)
		return TEST_SKIP;
	for (unsigned i = 0; i < n - 1; i++)
		CHECK(start(i, n - 1 - i) == 0);
	CHECK(raster_threads_spread() == 0);
	CHECK(has(threads[0], &allowed));
	CHECK(start(n - 1, 0) == 0);
	CHECK(raster_threads_spread() == (int)n);
	for (unsigned i = 0; i < n; i++) {
		CPU_ZERO(&one);
		CPU_SET((size_t)raster_thread_cpu(&allowed, (int)(n - 1 - i)), &one);
		CHECK(has(threads[i], &one));
	}
	CHECK(has(pthread_self(), &allowed));
	return 0;
}

static int test_more_than_cpus(void)
{
	cpu_set_t allowed;

	CHECK(sched_getaffinity(0, sizeof(allowed), &allowed) == 0);
	unsigned n = (unsigned)CPU_COUNT(&allowed);
	if (n > MAX_THREADS - 1)
		return TEST_SKIP;
	for (unsigned i = 0; i <= n; i++)
		CHECK(start(i, i) == 0);
	CHECK(raster_threads_spread() == 0);
	CHECK(has(threads[0], &allowed));
	return 0;
}

/* As many as CPUs, but not numbered like the driver's: an error, and the driver's were not seen. */
static int test_not_the_drivers(void)
{
	cpu_set_t allowed;

	CHECK(sched_getaffinity(0, sizeof(allowed), &allowed) == 0);
	unsigned n = (unsigned)CPU_COUNT(&allowed);
	if (n < 2 || n > MAX_THREADS - 1)
		return TEST_SKIP;
	for (unsigned i = 0; i < n; i++)
		CHECK(start(i, 2 * i + 1) == 0);
	CHECK(raster_threads_spread() < 0);
	CHECK(has(threads[0], &allowed));
	CHECK(start(n, 1) == 0);
	CHECK(raster_threads_spread() < 0);
	CHECK(has(threads[n], &allowed));
	return 0;
}

/* Threads of this process that may use one CPU only. */
static int count_confined(void)
{
	DIR *tasks = opendir("/proc/self/task");
	const struct dirent *entry;
	int confined = 0;

	while (tasks && (entry = readdir(tasks))) {
		cpu_set_t cpus;
		pid_t tid = (pid_t)strtol(entry->d_name, NULL, 10);
		if (tid > 0 && sched_getaffinity(tid, sizeof(cpus), &cpus) == 0)
			confined += CPU_COUNT(&cpus) == 1;
	}
	if (tasks)
		closedir(tasks);
	return confined;
}

static int test_the_drivers(void)
{
	struct renderer_under_test t;
	cpu_set_t allowed;

	CHECK(sched_getaffinity(0, sizeof(allowed), &allowed) == 0);
	int n = CPU_COUNT(&allowed), r = renderer_start(&t, false);
	if (r || n < 2 || n > 16)
		return r ? r : TEST_SKIP;
	CHECK(count_confined() == n);
	t.ops->destroy(t.r);
	return 0;
}

int main(void)
{
	static const struct test tests[] = {
		{"names", test_names},
		{"CPUs", test_cpus},
		{"each its own", test_each_its_own},
		{"more than CPUs", test_more_than_cpus},
		{"not the driver's", test_not_the_drivers},
		{"the driver's", test_the_drivers},
	};
	return tests_run(tests, ARRAY_SIZE(tests));
}
