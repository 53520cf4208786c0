/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_PROTOCOL_KEEPER_MEMORY_H
#define VGPU_PROTOCOL_KEEPER_MEMORY_H

/*
 * Rule 4 between vgpud and keeper (protocol/keeper.h has the messages): while the node's memory is
 * over-committed, a vGPU serves a VM only while all of that VM's memory is resident and locked.
 *
 *   vgpud ─MEMORY▶ keeper           whether, for VMs to come and for the one that is there
 *   keeper ─STATUS: ASKING▶ vgpud   so much is to be locked; so much of it is not resident yet
 *   vgpud ─MEMORY_GRANT▶ keeper     it fits, or why not
 *   keeper ─STATUS: LOCKED▶ vgpud   or REFUSED and why
 *
 * ASKING is in every STATUS until it is granted, so a vgpud that was started again finds it.
 */

#include <stdint.h>

#define KEEPER_MEMORY_TEXT 256

enum keeper_memory_mode {
	KEEPER_MEMORY_OPEN, /* nothing is locked, and what was is not any more */
	KEEPER_MEMORY_TRY,  /* a VM that is served already goes on if its memory cannot be locked */
	KEEPER_MEMORY_MUST, /* no VM is served whose memory is not */
	KEEPER_MEMORY_MODE_COUNT
};

struct keeper_memory {
	uint32_t mode;
	uint32_t timeout_ms; /* for all of a VM's memory, from ASKING on; 0: 60 s */
};

struct keeper_memory_grant {
	uint32_t serial; /* of the STATUS that asked */
	uint32_t ok;
	uint64_t keep_free; /* bytes the node must have available all the while */
	char reason[KEEPER_MEMORY_TEXT];
};

enum keeper_memory_state {
	KEEPER_MEMORY_NONE,    /* no VM has given memory */
	KEEPER_MEMORY_FREE,    /* it has, and nothing is locked */
	KEEPER_MEMORY_ASKING,  /* for a grant */
	KEEPER_MEMORY_LOCKING, /* being made resident and locked */
	KEEPER_MEMORY_LOCKED,  /* verified; it stays so, or the VM is no longer served */
	KEEPER_MEMORY_REFUSED, /* `refusal` says why */
	KEEPER_MEMORY_STATE_COUNT
};

/* In STATUS. Sizes in bytes, of the whole files that the VM's memory is in. */
struct keeper_memory_status {
	uint32_t mode, state;
	uint32_t serial;
	uint32_t pad;
	uint64_t bytes;
	uint64_t missing;     /* of them not resident when it was asked; 0 of huge pages */
	uint64_t locked;      /* verified by what the kernel shows of the locking mapping */
	uint64_t verified_ms; /* since 1970, UTC: the last full verification; 0: none */
	uint64_t holes;       /* times that some of it had been taken away and was put back */
	uint64_t repaired;    /* how much in all */
	char refusal[KEEPER_MEMORY_TEXT]; /* of the last VM that was refused; "": none since */
};

#endif
