/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_BASE_PACKET_H
#define VGPU_BASE_PACKET_H

/*
 * Messages of one packet each (SOCK_SEQPACKET): a type and a size, a payload of exactly the size
 * its table row says, and exactly the descriptors the row says. Both ends are checked by the same
 * table, so a handler sees only messages of the right shape; what the payload says is still
 * whatever the sender wrote.
 */

#include "base/fdpass.h"

#include <stddef.h>
#include <stdint.h>

#define PACKET_PAYLOAD_MAX 2048u /* bytes; a table with a larger row does not build */

struct packet_row {
	const char *name;
	uint32_t size; /* of the payload, bytes */
	uint8_t from;  /* which side may send it: a number of the protocol's choosing */
	uint8_t fds;   /* 0 or 1 */
};

struct packet_table {
	const struct packet_row *rows;
	uint32_t count;
};

struct packet {
	uint32_t type;
	int fd; /* the receiver's to take or close; -1 when the row has none */
	_Alignas(8) unsigned char payload[PACKET_PAYLOAD_MAX];
};

/*
 * Receives one message that side `from` may send. Returns 1; 0 at end of file; -EAGAIN; -EPROTO
 * when the message breaks its row (its descriptors are closed); -EMFILE when there was no room for
 * its descriptor: *ret is then the message without it, which only a receiver who trusts the sender
 * may go by; another -errno. After 0, -EPROTO and other errors the channel is over.
 */
int packet_recv(int socket, const struct packet_table *table, unsigned from, struct packet *ret);

/* Sends one message; blocks as long as the socket does. `fd` (-1: none) stays the caller's. 0 or
 * -errno. */
int packet_send(
	int socket, const struct packet_table *table, uint32_t type, const void *payload, int fd);

/* Makes a received text field safe to print: terminated, without control characters. */
void packet_text(char *text, size_t size);

#endif
