/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_FRONTEND_VHOST_USER_MESSAGE_H
#define VGPU_FRONTEND_VHOST_USER_MESSAGE_H

/*
 * One direction each way on the vhost-user socket, never blocking. A message is read in as many
 * pieces as the peer sent it, and never past its own end, so the fds that arrive meanwhile are its
 * own. One message is held at a time and one reply: while a reply waits for the peer to read, the
 * caller reads nothing more, so a peer that does not read costs nothing but its own progress.
 */

#include "base/fdpass.h"

#include "protocol/vhost_user.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vu_message {
	uint32_t request;
	uint32_t flags;
	uint32_t size; /* of the payload */
	union {
		uint8_t bytes[VHOST_USER_MAX_PAYLOAD];
		uint64_t u64;
		struct vhost_user_vring_state state;
		struct vhost_user_vring_addr addr;
		struct vhost_user_mem_table table;
		struct vhost_user_mem_reg reg;
		struct vhost_user_config config;
		struct vhost_user_inflight inflight;
	} payload;
	struct fdpass_fds fds;
};

/* What the table says of a request. */
struct vu_message_row {
	const char *name; /* NULL: no such request here */
	uint32_t min, max;
	uint32_t fds;
	bool own_reply;
	uint8_t feature; /* enum vhost_user_protocol_feature */
};

/* Never NULL: an unknown request has a row without a name that lets anything in. */
const struct vu_message_row *vu_message_row(uint32_t request);

struct vu_channel {
	int fd;
	struct vu_message in;
	size_t got; /* bytes of header and payload */
	uint8_t header[VHOST_USER_HEADER_SIZE];
	uint8_t out[VHOST_USER_HEADER_SIZE + VHOST_USER_MAX_PAYLOAD];
	size_t out_len, out_sent;
	int out_fd;
};

/* Takes `fd`, a stream socket, and makes it non-blocking. */
void vu_channel_init(struct vu_channel *channel, int fd);
void vu_channel_finish(struct vu_channel *channel); /* closes all fds */

/*
 * 1: channel->in is a whole message; 0: wait for more; -EPROTO with a constant *ret_reason, ""
 * when the peer closed the connection between messages.
 */
int vu_channel_receive(struct vu_channel *channel, const char **ret_reason);
/* Done with channel->in: closes the fds nobody took, and makes room for the next message. */
void vu_channel_next(struct vu_channel *channel);

/* Answers channel->in, with its payload as it is now. Takes `fd` (-1: none). */
void vu_channel_reply(struct vu_channel *channel, int fd);
/* Sends what waits: 1 all out, 0 wait until the socket is writable, -errno. */
int vu_channel_flush(struct vu_channel *channel);

#endif
