/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_HOST_CPU_SLICE_H
#define VGPU_HOST_CPU_SLICE_H

/*
 * How long the kernel lets a process run at once before it looks who else is due: a hint about
 * latency, which changes no share. Linux 6.12 takes it from whoever may change a process' nice
 * value; one before that ignores it.
 */

#include <stdint.h>
#include <sys/types.h>

/*
 * For all threads of a process and of its children, and what they start from now on; 0: the
 * kernel's own choice. 0, or -errno of a thread that could not be changed; the others are.
 */
int cpu_slice_set(pid_t pid, uint64_t ns);

#endif
