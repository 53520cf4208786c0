/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_RENDERER_VIRGL_RASTER_THREADS_H
#define VGPU_RENDERER_VIRGL_RASTER_THREADS_H

/*
 * llvmpipe starts a thread for each CPU, and all of them draw each frame. Where each CPU is busy
 * for most of the time, Linux does not look for an idle one when it wakes a thread, so two of them
 * find themselves on one CPU, one after the other, with the next CPU idle. Each gets a CPU of its
 * own here, which costs nothing else: work is handed to whoever is ready for it, tile by tile.
 *
 * Only where there are as many threads as CPUs this process may use: with fewer threads the kernel
 * has a choice to make that it makes better, and who confines us has chosen already.
 */

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>

/*
 * Once, after the driver's start and before /proc is out of reach: how many threads got a CPU; 0
 * where they are to stay as they are; -errno.
 */
int raster_threads_spread(void);

/* Exposed for tests: is that the name of one, and which (at least 0)? -1: no. */
int raster_thread_number(const char *name);
/* The CPU of thread `number`, of those allowed, counted from 0; -1: there are fewer. */
int raster_thread_cpu(const cpu_set_t *allowed, int number);

#endif
