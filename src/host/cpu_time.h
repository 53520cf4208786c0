/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_HOST_CPU_TIME_H
#define VGPU_HOST_CPU_TIME_H

/*
 * What CPU time a device process uses and waits for, read every few ms. base/process_times.h says
 * the same of a process now and then, and opens files for it; this keeps them open, so one look is
 * a system call for each thread. A file that is open belongs to its process for ever: when that is
 * gone it says so, also when its pid is another process'.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct cpu_time;

/*
 * The process with that start time (base/process_times.h) and its children. Counting begins with
 * its birth where `from_birth`, else now. 0, -ESRCH: there is no such process, or -ENOMEM.
 */
int cpu_time_open(pid_t pid, uint64_t start_time, bool from_birth, struct cpu_time **ret);
void cpu_time_close(struct cpu_time *c); /* NULL-safe */

pid_t cpu_time_pid(const struct cpu_time *c);

/*
 * All of its threads together, since counting began; both only grow. Threads and children that are
 * new are found within CPU_TIME_LOOK_NS of `now_ns` (base/clock.h), their CPU time is counted at
 * once. 0 or -ESRCH: it is gone; what was counted before is there all the same.
 */
#define CPU_TIME_LOOK_NS 250000000ull
int cpu_time_read(
	struct cpu_time *c, uint64_t now_ns, uint64_t *ret_ran_ns, uint64_t *ret_waited_ns);

#endif
