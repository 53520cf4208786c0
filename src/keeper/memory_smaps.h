/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_KEEPER_MEMORY_SMAPS_H
#define VGPU_KEEPER_MEMORY_SMAPS_H

/*
 * What the kernel shows of mappings, from its walk over the page tables: /proc/PID/smaps.
 *
 * "Locked" there is each page's share among all that map it, not its size: of memory that QEMU, the
 * device process and we map it shows about a third. What counts: every mapping of a range has the
 * flag "lo", all of it is resident in our own page tables, nothing is swapped, and Locked is all of
 * Pss, the same share of every resident page. Huge pages are counted apart, cannot be swapped and
 * have no such flag.
 */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct memory_range {
	uint64_t start, end; /* addresses */
	bool huge;           /* of huge pages */
	/* Sums of its mappings, bytes. */
	uint64_t mapped, resident, swapped, pss, locked_pss;
	bool unlocked; /* one of them is not locked */
};

/* Fills the sums of `n` ranges, in any order. 0; -EBADMSG: this is no smaps; -EIO. */
int memory_smaps_read(FILE *smaps, struct memory_range *ranges, unsigned n);

/* Is all of it there, and bound to stay? */
bool memory_range_locked(const struct memory_range *range);

#endif
