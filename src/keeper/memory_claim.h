/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_KEEPER_MEMORY_CLAIM_H
#define VGPU_KEEPER_MEMORY_CLAIM_H

/*
 * A device process says that all of a VM's memory is in custody, and waits for a verdict. The
 * keeper claims the memory (rule 1: one vGPU for a VM) and has it locked where that is demanded
 * (rule 4: memory.h).
 *
 * Each time costs more than the message: files are looked at, vgpud is told and looks at the node.
 * A VM changes its memory some times while it starts and seldom afterwards; one that does so over
 * and over, or a device process that was taken over, gets a burst and then one in MEMORY_CLAIM_MS.
 * What is said meanwhile takes the place of what was said before, so nothing piles up, and the
 * verdict is of the last: nothing is served from a table before its own verdict. Processes take
 * turns, so that one which says it without end does not keep its successor waiting.
 */

#include <stdint.h>

#define MEMORY_CLAIM_BURST 64u
#define MEMORY_CLAIM_MS    50u

struct device_process;
struct keeper;

struct memory_pace {
	uint32_t spent;
	uint64_t last_ms; /* when some of that was earned back */
	uint32_t turn;    /* the process after the one that was served last: asked first */
	uint64_t due;     /* ms: some process waits for its turn; 0: none does */
};

void memory_claim(struct device_process *d, uint32_t serial);
void memory_claim_check_time(struct keeper *k, uint64_t now);
uint64_t memory_claim_next_time(const struct keeper *k); /* UINT64_MAX: none */

#endif
