/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_RENDERER_VIRGL_RASTER_THREADS_H
#define VGPU_RENDERER_VIRGL_RASTER_THREADS_H

/*
 * Theory of operation
 *
 * llvmpipe starts a thread for each CPU, and all of them draw each frame. Where each CPU is busy
 * for most of the time, Linux does not look for an idle one when it wakes a thread, so two of them
 * find themselves on one CPU, one after the other, with the next CPU idle. With a CPU each that
 * does not happen: they are set *apart*. But where others want the CPUs too, a frame of threads
 * apart waits for every one of these, and the kernel does better by putting all on the first that
 * is free. So they are apart only while they hardly wait.
 *
 * How long they waited for a CPU is what the kernel counts (/proc/PID/task/TID/schedstat), looked
 * at every RASTER_LOOK_NS of drawing:
 *
 *   free   nobody else wants the CPUs (they wait less than 3/4 of the time they run; with one
 *          other vGPU more than all of it)                                      -> apart
 *   apart  the one that waits most does so for more than 1/3 of the time that each runs (0.03 to
 *          0.19 alone, 0.37 to 0.85 beside one other vGPU)                      -> free
 *
 * Going apart in vain, in a row, is tried less and less often (base/worthwhile.h).
 *
 * A CPU for each only where there are as many threads as CPUs this process may use: with fewer
 * threads the kernel has a choice to make that it makes better. Where it was given other CPUs since
 * the last look, they begin anew with those. Where the kernel does not count, or the calls are not
 * ours to make, they stay as they are.
 *
 * The figures are of two CPUs. Time in which a limit of CPU time keeps the threads from running
 * counts as waiting: who draws up to its limit is not apart.
 */

#include "base/worthwhile.h"

#include <sched.h>
#include <stdint.h>

#define RASTER_LOOK_NS 40000000u

/* All of them since a moment; nanoseconds. */
struct raster_times {
	uint64_t ran, waited;
	uint64_t waited_most; /* by one of them */
};

struct raster_judge {
	bool apart;
	bool alone; /* nobody else wants the CPUs */
	struct worthwhile worthwhile;
};

struct raster_threads;

/*
 * After the driver's start and before /proc is out of reach; holds a descriptor for each thread.
 * Finding none is no error. -ENOMEM.
 */
int raster_threads_create(struct raster_threads **ret);

void raster_threads_destroy(struct raster_threads *t); /* NULL-safe; leaves them as they are */

/* After each piece of drawing; costs a look at the clock, mostly. */
void raster_threads_watch(struct raster_threads *t);

/* Does nobody else want the CPUs, as far as is known? */
bool raster_threads_alone(const struct raster_threads *t);

/* ---- exposed for tests ---- */

/* Is that the name of one, and which (at least 0)? -1: no. */
int raster_thread_number(const char *name);
/* The CPU of thread `number`, of those allowed, counted from 0; -1: there are fewer. */
int raster_thread_cpu(const cpu_set_t *allowed, int number);
unsigned raster_threads_found(const struct raster_threads *t);
/* Of `n` threads, at least 1, that can be apart or not. */
void raster_judge(
	struct raster_judge *judge, const struct raster_times *times, unsigned n, bool placeable);

#endif
