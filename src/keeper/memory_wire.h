/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_KEEPER_MEMORY_WIRE_H
#define VGPU_KEEPER_MEMORY_WIRE_H

/*
 * Between the keeper and the process that holds a VM's memory locked: a socket pair, rows as in
 * protocol/keeper.h. HOLD and DROP as needed, then VERIFY; the answer is VERIFIED. After the first
 * that was good the holder looks by itself and tells HOLE.
 */

#include "base/packet.h"
#include "protocol/keeper_memory.h"

#include <stdint.h>

#define MEMORY_MESSAGES(X)                                                                         \
	X(HOLD, KEEPER, 1, memory_hold)       /* fd: a file of guest memory */                     \
	X(DROP, KEEPER, 0, memory_hold)       /* that file again */                                \
	X(VERIFY, KEEPER, 0, memory_verify)   /* all that is held */                               \
	X(VERIFIED, HOLDER, 0, memory_report) /* answer to VERIFY */                               \
	X(HOLE, HOLDER, 0, memory_report)     /* found by looking: repaired, or code says why not */

enum memory_side { MEMORY_FROM_KEEPER, MEMORY_FROM_HOLDER };

enum memory_message {
#define X(name, side, fds, payload) MEMORY_##name,
	MEMORY_MESSAGES(X)
#undef X
		MEMORY_MESSAGE_COUNT
};

struct memory_hold {
	uint64_t dev, ino, size;
};

struct memory_verify {
	uint32_t serial;
	uint32_t timeout_ms;
	uint64_t keep_free; /* bytes; see keeper_memory_grant */
};

struct memory_report {
	uint32_t serial; /* VERIFIED */
	int32_t code;    /* 0, or -errno and why */
	uint64_t bytes;  /* VERIFIED: held; HOLE: of what was found missing */
	char text[KEEPER_MEMORY_TEXT];
};

#define X(row, side, n_fds, payload)                                                               \
	[MEMORY_##row] = {.name = #row,                                                            \
		.size = sizeof(struct payload),                                                    \
		.from = MEMORY_FROM_##side,                                                        \
		.fds = n_fds},
static const struct packet_row memory_rows[] = {MEMORY_MESSAGES(X)};
#undef X
static const struct packet_table memory_table = {
	.rows = memory_rows, .count = MEMORY_MESSAGE_COUNT};

#endif
