/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_KEEPER_MEMORY_H
#define VGPU_KEEPER_MEMORY_H

/*
 * While vgpud says that the node's memory is over-committed, a VM's memory is resident and locked
 * before any ring of it is served (rule 4; protocol/keeper_memory.h). The keeper decides and waits;
 * a process of its own does it (memory_holder.h) and holds the lock by having the memory mapped, so
 * it outlives device processes and vgpud, and ends with the VM or the keeper.
 *
 *            memory came              granted                verified
 *   NONE ─────────────────▶ ASKING ─────────────▶ LOCKING ─────────────▶ LOCKED ─▶ verdict: good
 *     │ not over-committed     │ denied, late        │ cannot, late,       │ cannot be put back,
 *     ▼                        ▼                     ▼ holder killed       ▼ holder killed: ASKING
 *   FREE                     REFUSED ◀───────────────┴─────────────────────┘
 *
 * REFUSED: a device process that waits for its verdict gets the reason, which ends the VM's
 * connection. Where none waits the VM is served already: in mode MUST its connection is ended, in
 * mode TRY it goes on and vgpud decides. Memory that comes later (hot-plugged, a new table) goes
 * the same way; what is held already stays held, and is not asked for again.
 *
 * What is locked are whole files, whatever part of them a table names: so holes in a table hide
 * nothing. The descriptors come by way of the device process; one that was taken over can hide a
 * file, and then its own guest alone lies unreserved.
 */

#include "base/log.h"
#include "keeper/memory_claim.h"
#include "protocol/custody.h"
#include "protocol/keeper_memory.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct device_process;
struct keeper;
struct memory_process;

struct memory_file {
	dev_t dev;
	ino_t ino;
	uint64_t size;
	int fd; /* custody's */
};

struct memory {
	uint32_t mode;       /* enum keeper_memory_mode */
	uint32_t timeout_ms; /* of the whole */
	enum keeper_memory_state state;
	uint32_t serial; /* of the last ASKING */
	bool again;      /* LOCKING: memory changed meanwhile */
	uint64_t bytes, missing, verified_ms, holes, repaired;
	uint64_t told;                              /* bytes in the last STATUS of a new state */
	uint64_t deadline;                          /* ms; 0: none */
	uint64_t keep_free;                         /* as granted */
	struct memory_process *process;             /* NULL: none */
	struct memory_file held[KEEPER_MAX_MEMORY]; /* by that process, or about to be */
	unsigned n_held;
	uint64_t unsaid;          /* repaired since the last event about it */
	struct log_limit notices; /* of those events */
	struct memory_pace pace;  /* of device processes' words about it */
	char refusal[KEEPER_MEMORY_TEXT];
};

void memory_init(struct memory *m);
/* MEMORY and MEMORY_GRANT; the latter is ignored unless it answers the last ASKING. */
void memory_set(struct keeper *k, const struct keeper_memory *set);
void memory_grant(struct keeper *k, struct keeper_memory_grant *grant);
/* The VM's memory in custody changed; that process waits for a verdict, which it gets in any case.
 */
void memory_changed(struct device_process *d, uint32_t serial);
/* The VM is gone, and its memory out of custody. */
void memory_guest_gone(struct keeper *k);
void memory_status(const struct keeper *k, struct keeper_memory_status *ret);
void memory_check_time(struct keeper *k, uint64_t now);
uint64_t memory_next_time(const struct keeper *k); /* UINT64_MAX: none */

#endif
