/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_KEEPER_MEMORY_HELD_H
#define VGPU_KEEPER_MEMORY_HELD_H

/* What the holder of a VM's memory (memory_holder.h) holds: files, each mapped whole. */

#include "protocol/custody.h"
#include "protocol/keeper_memory.h"

#include <stdbool.h>
#include <stdint.h>

struct held {
	int fd; /* -1: free */
	bool huge, populated;
	uint64_t dev, ino, size;
	void *map;
};

struct holder {
	int channel;
	struct held held[KEEPER_MAX_MEMORY];
	uint64_t keep_free, timeout_ms;
	uint64_t look_at, walk_at; /* ms; look_at 0: not before it was verified */
	uint64_t pages; /* of shared memory that our page tables had after the last walk */
	int code;       /* why a HOLD failed, for VERIFIED */
	char text[KEEPER_MEMORY_TEXT];
};

/* Keeps the first reason, for the next report; returns `code`. */
int holder_fail(struct holder *h, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
uint64_t holder_bytes(const struct holder *h); /* of all that is held */
unsigned long long holder_mib(uint64_t bytes); /* rounded up */

/* Maps and locks; nothing is resident for that. Checks that it is memory. 0 or the reason's code.
 */
int held_map(struct holder *h, struct held *held);
void held_drop(struct held *held);
/* Makes every page of it resident, in steps, until then; 0 or the reason's code. */
int held_populate(struct holder *h, struct held *held, uint64_t end_ms);

#endif
