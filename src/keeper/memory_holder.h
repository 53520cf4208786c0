/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_KEEPER_MEMORY_HOLDER_H
#define VGPU_KEEPER_MEMORY_HOLDER_H

/*
 * The process that makes a VM's memory resident, keeps it locked by having it mapped, and looks
 * whether it stays so. A process of its own, because populating takes seconds for many GiB and
 * because what it maps would count as the keeper's.
 *
 * It maps the files of the guest's memory shared, all of them and whole, never reads or writes a
 * byte of them, and ends with its keeper. Locking is done first, on fault (so that pages put back
 * later are locked as well), then the pages are made, in steps, between which time and the node's
 * free memory are looked at.
 *
 * Looking, every MEMORY_LOOK_MS: allocated size of the files and our own count of shared pages, two
 * system calls a file whatever its size. They miss a few pages that were taken away and are back
 * without being ours; smaps, a walk over all page tables, finds those, and is read so rarely that
 * it costs at most 1/MEMORY_WALK_SHARE of a core. What is missing is put back at once; repairing
 * costs at most 1/MEMORY_REPAIR_SHARE of a core, however often it is taken away.
 */

#define MEMORY_LOOK_MS      2000u
#define MEMORY_WALK_MS      30000u
#define MEMORY_WALK_SHARE   400u
#define MEMORY_REPAIR_SHARE 10u
#define MEMORY_TIMEOUT_MS   60000u /* where nobody says */

/* In a child of the keeper: serves memory_wire.h on `channel` until that ends. */
_Noreturn void memory_holder_main(int channel);

#endif
