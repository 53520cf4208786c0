/* SPDX-License-Identifier: Apache-2.0 */
/* Threads named as the driver names its own; the driver's are looked at in the last test. */
#include "support.h"

#include "base/checked.h"
#include "base/clock.h"
#include "renderer/virgl/raster_threads.h"

#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#define MAX_THREADS 64
#define PATIENCE_NS 30000000000u
#define MS          1000000u

static pthread_t threads[MAX_THREADS];

static void *spin(void *data)
{
	for (volatile unsigned i = 0;; i++)
		;
	return data;
}

static int start(unsigned at, unsigned number)
{
	char name[32];

	snprintf(name, sizeof(name), "llvmpipe-%u", number);
	CHECK(pthread_create(&threads[at], NULL, spin, NULL) == 0);
	CHECK(pthread_setname_np(threads[at], name) == 0);
	return 0;
}

static bool has(pthread_t thread, const cpu_set_t *cpus)
{
	cpu_set_t now;

	return pthread_getaffinity_np(thread, sizeof(now), &now) == 0 && CPU_EQUAL(&now, cpus);
}

static unsigned cpus_allowed(cpu_set_t *ret)
{
	return sched_getaffinity(0, sizeof(*ret), ret) == 0 ? (unsigned)CPU_COUNT(ret) : 0;
}

/* ---- names and numbers ---- */

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

/* ---- judging ---- */

static const struct raster_times alone = {40 * MS, 2 * MS, 2 * MS};
static const struct raster_times one_behind_the_other = {40 * MS, 20 * MS, 20 * MS};
static const struct raster_times some_others = {40 * MS, 16 * MS, 8 * MS};
static const struct raster_times contended = {40 * MS, 41 * MS, 21 * MS};

static int test_alone(void)
{
	struct raster_judge judge = {0};

	raster_judge(&judge, &one_behind_the_other, 2, true);
	CHECK(judge.apart);
	for (int i = 0; i < 100; i++) {
		raster_judge(&judge, &alone, 2, true);
		CHECK(judge.apart);
	}
	raster_judge(&judge, &contended, 2, true);
	CHECK(!judge.apart);
	for (int i = 0; i < 100; i++) {
		raster_judge(&judge, &contended, 2, true);
		CHECK(!judge.apart);
	}
	/* One miss since it paid last: tried at the second chance. */
	raster_judge(&judge, &alone, 2, true);
	raster_judge(&judge, &alone, 2, true);
	CHECK(judge.apart);
	return 0;
}

/* One of many whose CPU is somebody else's: the others wait for it at the end of each frame. */
static int test_one_of_many_waits(void)
{
	struct raster_judge judge = {0};
	const struct raster_times times = {160 * MS, 5 * MS, 4 * MS},
				  more = {160 * MS, 5 * MS, 5 * MS};

	raster_judge(&judge, &alone, 2, true);
	CHECK(judge.apart);
	raster_judge(&judge, &times, 10, true);
	CHECK(judge.apart);
	raster_judge(&judge, &more, 10, true);
	CHECK(judge.apart);
	raster_judge(&judge, &more, 11, true);
	CHECK(!judge.apart);
	return 0;
}

/* Where they cannot be apart, two on one CPU are still alone. */
static int test_alone_and_not_apart(void)
{
	struct raster_judge judge = {0};

	for (int i = 0; i < 100; i++) {
		raster_judge(&judge, &one_behind_the_other, 2, false);
		CHECK(judge.alone && !judge.apart);
	}
	raster_judge(&judge, &contended, 2, false);
	CHECK(!judge.alone);
	return 0;
}

/* Free they seem to be alone, apart they are not: hardly ever apart. */
static int test_in_vain(void)
{
	struct raster_judge judge = {0};
	unsigned apart = 0;

	for (int i = 0; i < 10000; i++) {
		raster_judge(&judge, judge.apart ? &some_others : &alone, 2, true);
		apart += judge.apart;
	}
	CHECK(apart > 10 && apart < 30);
	return 0;
}

static int test_extremes(void)
{
	struct raster_judge judge = {0};
	const struct raster_times most = {UINT64_MAX, UINT64_MAX, UINT64_MAX}, none = {0};

	raster_judge(&judge, &most, 1, true);
	CHECK(!judge.apart);
	raster_judge(&judge, &none, 128, true);
	CHECK(!judge.apart);
	raster_judge(&judge, &alone, 2, true);
	CHECK(judge.apart);
	raster_judge(&judge, &most, 128, true);
	CHECK(!judge.apart);
	return 0;
}

/* ---- threads ---- */

/* Watches until thread 0 may use `cpus`. */
static int watch_until(struct raster_threads *t, const cpu_set_t *cpus)
{
	const uint64_t end = clock_ns() + PATIENCE_NS;

	while (!has(threads[0], cpus)) {
		CHECK(clock_ns() < end);
		usleep(RASTER_LOOK_NS / 1000 / 4);
		raster_threads_watch(t);
	}
	return 0;
}

static int burn_beside(unsigned n, pid_t *ret)
{
	for (unsigned i = 0; i < n; i++) {
		ret[i] = fork();
		if (ret[i] == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			spin(NULL);
		}
		CHECK(ret[i] > 0);
	}
	return 0;
}

/* Alone each has its own CPU; beside others none has. */
static int test_apart_while_alone(void)
{
	cpu_set_t allowed, one;
	struct raster_threads *t;
	pid_t others[4 * MAX_THREADS];
	unsigned n = cpus_allowed(&allowed);

	if (n < 2 || n > MAX_THREADS)
		return TEST_SKIP;
	for (unsigned i = 0; i < n; i++)
		CHECK(start(i, n - 1 - i) == 0);
	CHECK(raster_threads_create(&t) == 0);
	CHECK(raster_threads_found(t) == n);
	CPU_ZERO(&one);
	CPU_SET((size_t)raster_thread_cpu(&allowed, (int)n - 1), &one);
	CHECK(watch_until(t, &one) == 0);
	for (unsigned i = 0; i < n; i++) {
		CPU_ZERO(&one);
		CPU_SET((size_t)raster_thread_cpu(&allowed, (int)(n - 1 - i)), &one);
		CHECK(has(threads[i], &one));
	}
	CHECK(has(pthread_self(), &allowed));
	CHECK(burn_beside(4 * n, others) == 0);
	int failed = watch_until(t, &allowed);
	for (unsigned i = 0; i < 4 * n; i++)
		kill(others[i], SIGKILL);
	CHECK(!failed);
	for (unsigned i = 0; i < n; i++)
		CHECK(has(threads[i], &allowed));
	raster_threads_destroy(t);
	return 0;
}

/* Other CPUs than before, as a cpuset gives them: the process' are theirs, all of them again later.
 */
static int test_other_cpus(void)
{
	cpu_set_t allowed, one;
	struct raster_threads *t;
	unsigned n = cpus_allowed(&allowed);

	if (n < 2 || n > MAX_THREADS)
		return TEST_SKIP;
	for (unsigned i = 0; i < n; i++)
		CHECK(start(i, i) == 0);
	CHECK(raster_threads_create(&t) == 0);
	CPU_ZERO(&one);
	CPU_SET((size_t)raster_thread_cpu(&allowed, 0), &one);
	CHECK(watch_until(t, &one) == 0);
	CHECK(sched_setaffinity(0, sizeof(one), &one) == 0);
	usleep(RASTER_LOOK_NS / 1000);
	raster_threads_watch(t);
	for (unsigned i = 0; i < n; i++)
		CHECK(has(threads[i], &one));
	CHECK(sched_setaffinity(0, sizeof(allowed), &allowed) == 0);
	usleep(RASTER_LOOK_NS / 1000);
	raster_threads_watch(t);
	CHECK(has(threads[n - 1], &allowed));
	raster_threads_destroy(t);
	return 0;
}

/* One more than there are CPUs: found, but never apart. */
static int test_more_than_cpus(void)
{
	cpu_set_t allowed;
	struct raster_threads *t;
	unsigned n = cpus_allowed(&allowed);

	if (n > MAX_THREADS - 1)
		return TEST_SKIP;
	for (unsigned i = 0; i <= n; i++)
		CHECK(start(i, i) == 0);
	CHECK(raster_threads_create(&t) == 0);
	CHECK(raster_threads_found(t) == n + 1);
	for (int i = 0; i < 10; i++) {
		usleep(RASTER_LOOK_NS / 1000);
		raster_threads_watch(t);
		for (unsigned k = 0; k <= n; k++)
			CHECK(has(threads[k], &allowed));
	}
	raster_threads_destroy(t);
	return 0;
}

/* Numbered with gaps, or two of one name: not the driver's, and left alone. */
static int test_not_the_drivers(void)
{
	struct raster_threads *t;

	CHECK(start(0, 1) == 0);
	CHECK(start(1, 3) == 0);
	CHECK(raster_threads_create(&t) == 0);
	CHECK(raster_threads_found(t) == 0);
	raster_threads_watch(t);
	raster_threads_destroy(t);
	CHECK(start(2, 0) == 0);
	CHECK(start(3, 0) == 0);
	CHECK(raster_threads_create(&t) == 0);
	CHECK(raster_threads_found(t) == 0);
	raster_threads_destroy(t);
	raster_threads_destroy(NULL);
	return 0;
}

static int test_the_drivers(void)
{
	struct renderer_under_test under_test;
	struct raster_threads *t;
	cpu_set_t allowed;
	unsigned n = cpus_allowed(&allowed);
	int r = renderer_start(&under_test, false);

	if (r || n < 2 || n > 16)
		return r ? r : TEST_SKIP;
	CHECK(raster_threads_create(&t) == 0);
	CHECK(raster_threads_found(t) == n);
	raster_threads_destroy(t);
	under_test.ops->destroy(under_test.r);
	return 0;
}

int main(void)
{
	static const struct test tests[] = {
		{"names", test_names},
		{"CPUs", test_cpus},
		{"alone", test_alone},
		{"alone and not apart", test_alone_and_not_apart},
		{"one of many waits", test_one_of_many_waits},
		{"in vain", test_in_vain},
		{"extremes", test_extremes},
		{"apart while alone", test_apart_while_alone},
		{"other CPUs", test_other_cpus},
		{"more than CPUs", test_more_than_cpus},
		{"not the driver's", test_not_the_drivers},
		{"the driver's", test_the_drivers},
	};
	return tests_run(tests, ARRAY_SIZE(tests));
}
