/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_FRONTEND_VHOST_USER_MESSAGE_H
#define VGPU_FRONTEND_VHOST_USER_MESSAGE_H

/*
 * One direction each way on the vhost-user socket, never blocking. A message is read in as many
 * pieces as the peer sent it, and never past its own end, so the fds that arrive meanwhile are its
 * own. One message is held at a time and one reply: while a reply waits for the peer to read, the
 * caller reads nothing more, so a peer that does not read costs nothing but its own progress.
 *
 * Bytes are received into and sent from the connection's wire, which knows to the byte where both
 * stand. Descriptors do not survive in a socket once their bytes were received: with `hold` they
 * are looked at first (MSG_PEEK gives duplicates) and handed to it, then as many bytes as were seen
 * are received.
 */

#include "base/fdpass.h"

#include "wire.h"

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
		struct vhost_user_state device_state;
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
	struct wire_socket *wire;
	uint64_t consumed; /* bytes of messages that are dealt with */
	struct vu_message in;
	size_t got;   /* bytes of header and payload in the wire */
	bool whole;   /* `in` is a message */
	uint64_t end; /* where it ends, in bytes received */
	int out_fd;
	/* NULL, or keeps a descriptor of the message being received. 0 or -errno. */
	int (*hold)(void *data, unsigned index, int fd);
	void *hold_data;
};

/* Takes `fd`, a stream socket, and makes it non-blocking. `wire` stays the caller's. */
void vu_channel_init(struct vu_channel *channel, int fd, struct wire_socket *wire);
void vu_channel_finish(struct vu_channel *channel); /* closes all fds */

/*
 * Goes on where a predecessor was when all before `consumed` was dealt with. *ret_fds: descriptors
 * that came with the bytes after it, which the caller gives back with vu_channel_adopt().
 */
int vu_channel_resume(struct vu_channel *channel, uint64_t consumed, unsigned *ret_fds);
void vu_channel_adopt(struct vu_channel *channel, int fd);

/*
 * 1: channel->in is a whole message; 0: wait for more; -EPROTO with a constant *ret_reason, ""
 * when the peer closed the connection between messages.
 */
int vu_channel_receive(struct vu_channel *channel, const char **ret_reason);
/* vu_channel_receive() has a message without reading anything more. */
bool vu_channel_pending(const struct vu_channel *channel);
/* Done with channel->in: closes the fds nobody took, and makes room for the next message. */
void vu_channel_next(struct vu_channel *channel);

/* Where the message in channel->in ends, in bytes received. */
uint64_t vu_channel_position(const struct vu_channel *channel);

/*
 * Answers channel->in, with its payload as it is now. Takes `fd` (-1: none). From here on the
 * answer counts as given.
 */
void vu_channel_reply(struct vu_channel *channel, int fd);
/* The message that ended at `position`, or a later one, was answered. */
bool vu_channel_replied(const struct vu_channel *channel, uint64_t position);
/* Bytes of the answer that are not sent yet and where they begin; *ret_fd: with a descriptor. */
size_t vu_channel_unsent(const struct vu_channel *channel, size_t *ret_at, bool *ret_fd);
bool vu_channel_busy(const struct vu_channel *channel);
/* Sends what waits: 1 all out, 0 wait until the socket is writable, -errno. */
int vu_channel_flush(struct vu_channel *channel);

#endif
