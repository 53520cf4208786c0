/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_BASE_PROCESS_TIMES_H
#define VGPU_BASE_PROCESS_TIMES_H

/*
 * What a process has cost, as the kernel counts it: the process has no say in it. Counted are the
 * process and its children of the moment, because a device process under lock-down is a monitor
 * and the one child that does the work; a filter keeps that child from having more. Nobody needs a
 * right to ask.
 */

#include <stdint.h>
#include <sys/types.h>

struct process_times {
	uint64_t cpu_ns;   /* CPU time of all threads, those that ended included */
	uint64_t delay_ns; /* the main threads were ready to run and had no CPU; 0: not known */
};

/*
 * Of a schedstat file that is open, now: how long the thread ran, and how long it was ready to and
 * had no CPU, ns. -ESRCH: it ended; -ENODATA: not what the kernel writes.
 */
int schedstat_read(int fd, uint64_t *ret_ran_ns, uint64_t *ret_waited_ns);

/* Field 22 of /proc/PID/stat, clock ticks since boot; 0: there is no such process. */
uint64_t process_start_time(pid_t pid);

/* Its children of the moment, at most `max`; 0 also when it is gone. */
unsigned process_children(pid_t pid, pid_t *ret, unsigned max);

/*
 * `start_time` (0: whatever it is) tells the process from another one that got its pid since. 0, or
 * -ESRCH: there is no such process. One that ended and was not waited for yet still counts.
 */
int process_times(pid_t pid, uint64_t start_time, struct process_times *ret);

#endif
