/* SPDX-License-Identifier: Apache-2.0 */
/* What a process with threads and a child uses and waits for, and how long it runs at once. */
#include "host/cpu_time.h"

#include "base/checked.h"
#include "base/clock.h"
#include "base/process_times.h"
#include "host/cpu_slice.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define MS      1000000ull
#define LIMIT_S 20u

static void *burn(void *data)
{
	for (;;)
		;
	return NULL;
}

static void on_one_cpu(void)
{
	cpu_set_t mine, one;

	CPU_ZERO(&one);
	sched_getaffinity(0, sizeof(mine), &mine);
	for (size_t i = 0; i < CPU_SETSIZE && !CPU_COUNT(&one); i++) {
		if (CPU_ISSET(i, &mine))
			CPU_SET(i, &one);
	}
	sched_setaffinity(0, sizeof(one), &one);
}

/* All on one CPU, so each waits for the others. `threads` beside the main one, which waits. */
static pid_t start(unsigned threads, bool with_child)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	on_one_cpu();
	if (with_child && fork() == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		burn(NULL);
	}
	for (unsigned i = 0; i < threads; i++) {
		pthread_t thread;
		if (pthread_create(&thread, NULL, burn, NULL) != 0)
			_exit(1);
	}
	alarm(LIMIT_S);
	for (;;)
		pause();
}

static void end(pid_t pid)
{
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* Looks every few ms until it used that much; what it waited for meanwhile. */
static uint64_t until_ran(struct cpu_time *c, uint64_t ns)
{
	uint64_t ran, waited, first_ran, first_waited, last_ran = 0, last_waited = 0;
	uint64_t limit = clock_ns() + LIMIT_S * 1000 * MS;

	assert_int_equal(cpu_time_read(c, clock_ns(), &first_ran, &first_waited), 0);
	do {
		usleep(4000);
		assert_int_equal(cpu_time_read(c, clock_ns(), &ran, &waited), 0);
		assert_true(ran >= last_ran && waited >= last_waited && clock_ns() < limit);
		last_ran = ran;
		last_waited = waited;
	} while (ran - first_ran < ns);
	return waited - first_waited;
}

static void test_all_threads_and_the_child(void **state)
{
	struct cpu_time *c;
	struct process_times before, after;
	uint64_t ran, waited;
	pid_t pid = start(2, true);

	assert_int_equal(cpu_time_open(pid, process_start_time(pid), false, &c), 0);
	assert_int_equal(cpu_time_pid(c), pid);
	until_ran(c, 50 * MS);
	usleep((useconds_t)(CPU_TIME_LOOK_NS / 1000)); /* by then all are known */
	until_ran(c, 1);
	uint64_t begin = clock_ns();
	assert_int_equal(process_times(pid, 0, &before), 0);
	uint64_t waits = until_ran(c, 300 * MS);
	assert_int_equal(process_times(pid, 0, &after), 0);
	uint64_t took = clock_ns() - begin;
	/* Three burn on one CPU, so two wait at any moment; other processes only make it more. */
	assert_true(after.cpu_ns - before.cpu_ns <= took + 10 * MS);
	assert_in_range(waits, 15 * took / 10, 32 * took / 10);
	assert_int_equal(cpu_time_read(c, clock_ns(), &ran, &waited), 0);
	end(pid);
	uint64_t ran_after, waited_after;
	assert_int_equal(cpu_time_read(c, clock_ns(), &ran_after, &waited_after), -ESRCH);
	assert_in_range(ran_after, ran, ran + 1000 * MS);
	assert_true(waited_after >= waited);
	cpu_time_close(c);
}

static void test_since_birth_or_since_now(void **state)
{
	struct cpu_time *old, *new;
	uint64_t ran, waited;
	pid_t pid = start(1, false);

	assert_int_equal(cpu_time_open(pid, 0, true, &old), 0);
	until_ran(old, 100 * MS);
	assert_int_equal(cpu_time_open(pid, 0, false, &new), 0);
	assert_int_equal(cpu_time_read(old, clock_ns(), &ran, &waited), 0);
	assert_true(ran >= 100 * MS);
	uint64_t all = ran;
	assert_int_equal(cpu_time_read(new, clock_ns(), &ran, &waited), 0);
	assert_true(ran < all - 90 * MS);
	cpu_time_close(old);
	cpu_time_close(new);
	end(pid);
}

static void test_another_process_is_not_it(void **state)
{
	struct cpu_time *c = NULL;
	pid_t pid = start(0, false);
	uint64_t started = process_start_time(pid);

	assert_int_equal(cpu_time_open(pid, started + 1, false, &c), -ESRCH);
	assert_null(c);
	end(pid);
	assert_int_equal(cpu_time_open(pid, started, false, &c), -ESRCH);
	assert_null(c);
	cpu_time_close(NULL);
}

struct attr {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

static void assert_slice(pid_t pid, uint64_t ns)
{
	struct attr attr = {.size = sizeof(attr)};

	assert_int_equal(syscall(SYS_sched_getattr, pid, &attr, sizeof(attr), 0), 0);
	assert_int_equal(attr.nice, 7);
	if (attr.runtime) /* a kernel that knows of it */
		assert_int_equal(attr.runtime, ns);
}

static void test_slices(void **state)
{
	pid_t pid = start(1, true), child = 0;

	assert_int_equal(setpriority(PRIO_PROCESS, (id_t)pid, 7), 0);
	for (uint64_t limit = clock_ns() + LIMIT_S * 1000 * MS;
		!process_children(pid, &child, 1);) {
		assert_true(clock_ns() < limit);
		usleep(1000);
	}
	assert_int_equal(setpriority(PRIO_PROCESS, (id_t)child, 7), 0);
	assert_int_equal(cpu_slice_set(pid, 2 * MS), 0);
	assert_slice(pid, 2 * MS);
	assert_slice(child, 2 * MS);
	assert_int_equal(cpu_slice_set(pid, 9 * MS), 0);
	assert_slice(child, 9 * MS);
	assert_int_equal(cpu_slice_set(pid, 0), 0);
	end(pid);
	assert_int_equal(cpu_slice_set(pid, 2 * MS), 0); /* nobody is there */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_threads_and_the_child),
		cmocka_unit_test(test_since_birth_or_since_now),
		cmocka_unit_test(test_another_process_is_not_it),
		cmocka_unit_test(test_slices),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
