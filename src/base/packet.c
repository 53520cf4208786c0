/* SPDX-License-Identifier: Apache-2.0 */
#include "base/packet.h"

#include "base/checked.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct packet_wire {
	uint32_t type;
	uint32_t size;
	/* One byte more than any message has, so that an oversized one shows. */
	unsigned char payload[PACKET_PAYLOAD_MAX + 1];
};

#define PACKET_HEADER offsetof(struct packet_wire, payload)

int packet_recv(int socket, const struct packet_table *table, unsigned from, struct packet *ret)
{
	struct packet_wire wire = {0};
	struct fdpass_fds fds;

	ssize_t n = fdpass_recv(socket, &wire, sizeof(wire), MSG_DONTWAIT, &fds);
	bool no_fd = n == -E2BIG && !fds.count;
	if (no_fd) /* its length is lost with it, and the table's is as good */
		n = (ssize_t)(PACKET_HEADER + MIN(wire.size, PACKET_PAYLOAD_MAX));
	if (n == -E2BIG)
		return -EPROTO;
	if (n <= 0) {
		fdpass_close(&fds);
		return (int)n;
	}
	const struct packet_row *row = NULL;
	if ((size_t)n >= PACKET_HEADER && wire.type < table->count)
		row = &table->rows[wire.type];
	if (!row || row->from != from || wire.size != row->size ||
		(size_t)n != PACKET_HEADER + row->size || fds.count + no_fd != row->fds) {
		fdpass_close(&fds);
		return -EPROTO;
	}
	ret->type = wire.type;
	ret->fd = fdpass_take(&fds);
	memcpy(ret->payload, wire.payload, row->size);
	fdpass_close(&fds);
	return no_fd ? -EMFILE : 1;
}

int packet_send(
	int socket, const struct packet_table *table, uint32_t type, const void *payload, int fd)
{
	const struct packet_row *row = &table->rows[type];
	struct packet_wire wire = {.type = type, .size = row->size};

	if ((fd >= 0) != (row->fds == 1) || row->size > PACKET_PAYLOAD_MAX)
		return -EINVAL;
	if (row->size)
		memcpy(wire.payload, payload, row->size);
	ssize_t n = fdpass_send(socket, &wire, PACKET_HEADER + row->size, &fd, row->fds);
	if (n < 0)
		return (int)n;
	return (size_t)n == PACKET_HEADER + row->size ? 0 : -EIO;
}

void packet_text(char *text, size_t size)
{
	text[size - 1] = '\0';
	for (char *p = text; *p; p++) {
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = ' ';
	}
}
