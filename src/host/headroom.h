/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_HOST_HEADROOM_H
#define VGPU_HOST_HEADROOM_H

/*
 * How much memory processes that are started now can use before the kernel has to kill something:
 * what the node has available, or what the control group this process is in, and those above it,
 * are still allowed, whichever is least.
 */

#include <stdint.h>

/* Bytes; UINT64_MAX: nothing says. `proc`, `sys` are /proc and /sys/fs/cgroup but for tests. */
uint64_t host_headroom(const char *proc, const char *sys);

/* All the memory that the node has, bytes; 0: nothing says. */
uint64_t host_memory_total(const char *proc);

#endif
