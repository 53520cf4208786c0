/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_KEEPER_OUTBOX_H
#define VGPU_KEEPER_OUTBOX_H

/*
 * What is still to be sent to one device process, in order. Its channel does not block, and what a
 * successor is given can be tens of thousands of messages, so the queue holds few entries that are
 * worked off as far as the channel has room: a message, all items of custody of some kinds, or all
 * connections. Custody is read at the moment of sending, by a cursor that stays good whatever is
 * put or let go meanwhile.
 */

#include <stdbool.h>
#include <stdint.h>

struct device_process;

#define OUTBOX_ENTRIES     16u /* more than any sequence of steps has */
#define OUTBOX_PAYLOAD_MAX 16u

enum outbox_kind { OUTBOX_MESSAGE, OUTBOX_GIVE, OUTBOX_RESUME };

struct outbox_entry {
	enum outbox_kind kind;
	uint32_t type; /* OUTBOX_MESSAGE */
	_Alignas(8) unsigned char payload[OUTBOX_PAYLOAD_MAX];
	int fd;          /* owned, or -1 */
	uint32_t kinds;  /* OUTBOX_GIVE: bits 1 << kind */
	uint32_t images; /* of IMAGE only these slots */
	uint32_t rounds; /* of PRECOPY only from this one on */
	uint32_t cursor;
};

struct outbox {
	struct outbox_entry entries[OUTBOX_ENTRIES];
	unsigned first, count;
};

/*
 * Each appends, and sends at once what there is room for. What cannot be appended (there is no
 * memory, or the process has not taken so much) ends the process. `fd` (-1: none) stays the
 * caller's; `size` is at most OUTBOX_PAYLOAD_MAX.
 */
void outbox_message(
	struct device_process *d, uint32_t type, const void *payload, uint32_t size, int fd);
void outbox_give(struct device_process *d, uint32_t kinds, uint32_t images, uint32_t rounds);
void outbox_resume(struct device_process *d); /* the connections that its predecessor had */

void outbox_flush(struct device_process *d);
void outbox_clear(struct device_process *d);

#endif
