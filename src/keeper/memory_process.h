/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_KEEPER_MEMORY_PROCESS_H
#define VGPU_KEEPER_MEMORY_PROCESS_H

/* The keeper's end of the process that holds a VM's memory (memory_holder.h). */

#include "keeper/memory_wire.h"

struct keeper;
struct memory_process;

/* Both are called from the loop, never from within the functions below. */
struct memory_process_ops {
	void (*report)(struct keeper *k, uint32_t type, const struct memory_report *report);
	void (*died)(struct keeper *k, const char *how); /* it is freed afterwards */
};

/* Forks; 0 or -errno. */
int memory_process_start(
	struct keeper *k, const struct memory_process_ops *ops, struct memory_process **ret);
/* 0 or -errno; -EAGAIN: it does not read. `fd` (-1: none) stays the caller's. */
int memory_process_send(struct memory_process *process, uint32_t type, const void *payload, int fd);
/* Ends it, and with it the lock. Nothing is told any more. NULL-safe; does not wait. */
void memory_process_end(struct memory_process *process);

#endif
