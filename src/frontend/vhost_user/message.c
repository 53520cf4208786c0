/* SPDX-License-Identifier: Apache-2.0 */
#include "message.h"

#include "base/checked.h"
#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#define REPLY_ACK false
#define REPLY_OWN true

static const struct vu_message_row message_rows[VHOST_USER_REQUEST_LIMIT] = {
#define X(row_name, id, row_min, row_max, row_fds, reply, row_feature)                             \
	[id] = {.name = #row_name,                                                                 \
		.min = row_min,                                                                    \
		.max = row_max,                                                                    \
		.fds = row_fds,                                                                    \
		.own_reply = REPLY_##reply,                                                        \
		.feature = VHOST_USER_PROTOCOL_##row_feature},
	VHOST_USER_MESSAGES(X)
#undef X
};

#define X(name, id, min, max, fds, reply, feature)                                                 \
	_Static_assert((min) <= (max) && (max) <= VHOST_USER_MAX_PAYLOAD &&                        \
			       (fds) <= VHOST_USER_MAX_FDS && (id) < VHOST_USER_REQUEST_LIMIT,     \
		#name);
VHOST_USER_MESSAGES(X)
#undef X

static const struct vu_message_row unknown_row = {
	.max = VHOST_USER_MAX_PAYLOAD,
	.fds = VHOST_USER_MAX_FDS,
	.feature = VHOST_USER_PROTOCOL_NONE,
};

const struct vu_message_row *vu_message_row(uint32_t request)
{
	if (request < ARRAY_SIZE(message_rows) && message_rows[request].name)
		return &message_rows[request];
	return &unknown_row;
}

void vu_channel_init(struct vu_channel *channel, int fd)
{
	*channel = (struct vu_channel){.fd = fd, .out_fd = -1};
	(void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

void vu_channel_finish(struct vu_channel *channel)
{
	fdpass_close(&channel->in.fds);
	close_fd(&channel->out_fd);
	close_fd(&channel->fd);
}

/* Moves newly received fds to the message; false when they are more than any message may have. */
static bool message_add_fds(struct vu_message *message, struct fdpass_fds *fds)
{
	for (;;) {
		int fd = fdpass_take(fds);
		if (fd < 0)
			return true;
		if (message->fds.count == VHOST_USER_MAX_FDS) {
			close(fd);
			fdpass_close(fds);
			return false;
		}
		message->fds.fd[message->fds.count++] = fd;
	}
}

static const char *message_check_header(struct vu_channel *channel)
{
	struct vu_message *in = &channel->in;

	memcpy(&in->request, channel->header, 4);
	memcpy(&in->flags, channel->header + 4, 4);
	memcpy(&in->size, channel->header + 8, 4);
	const struct vu_message_row *row = vu_message_row(in->request);
	if ((in->flags & VHOST_USER_FLAG_VERSION_MASK) != VHOST_USER_VERSION)
		return "message of another protocol version";
	if (in->flags & ~(uint32_t)(VHOST_USER_FLAG_VERSION_MASK | VHOST_USER_FLAG_NEED_REPLY))
		return "message with unexpected flags";
	if (in->size < row->min)
		return "message too short";
	if (in->size > row->max)
		return "message too long";
	return NULL;
}

/* Reads once towards `end` bytes of header and payload: 1 progress, 0 would block, -EPROTO. */
static int channel_read(struct vu_channel *channel, size_t end, const char **ret_reason)
{
	uint8_t *to = channel->got < VHOST_USER_HEADER_SIZE
			      ? channel->header + channel->got
			      : channel->in.payload.bytes + (channel->got - VHOST_USER_HEADER_SIZE);
	struct fdpass_fds fds;
	ssize_t n = fdpass_recv(channel->fd, to, end - channel->got, MSG_DONTWAIT, &fds);

	if (n == -EAGAIN)
		return 0;
	if (n == 0 || n == -ECONNRESET || n == -EPIPE) {
		fdpass_close(&fds);
		*ret_reason = channel->got ? "connection closed inside a message" : "";
		return -EPROTO;
	}
	if (n < 0) {
		*ret_reason = n == -E2BIG ? "too many file descriptors in a message"
					  : "cannot read the socket";
		return -EPROTO;
	}
	channel->got += (size_t)n;
	if (!message_add_fds(&channel->in, &fds)) {
		*ret_reason = "too many file descriptors in a message";
		return -EPROTO;
	}
	return 1;
}

int vu_channel_receive(struct vu_channel *channel, const char **ret_reason)
{
	struct vu_message *in = &channel->in;
	int r;

	while (channel->got < VHOST_USER_HEADER_SIZE) {
		r = channel_read(channel, VHOST_USER_HEADER_SIZE, ret_reason);
		if (r <= 0)
			return r;
		if (channel->got < VHOST_USER_HEADER_SIZE)
			continue;
		*ret_reason = message_check_header(channel);
		if (*ret_reason)
			return -EPROTO;
	}
	while (channel->got < VHOST_USER_HEADER_SIZE + in->size) {
		r = channel_read(channel, VHOST_USER_HEADER_SIZE + in->size, ret_reason);
		if (r <= 0)
			return r;
	}
	if (in->fds.count > vu_message_row(in->request)->fds) {
		*ret_reason = "too many file descriptors in a message";
		return -EPROTO;
	}
	memset(in->payload.bytes + in->size, 0, sizeof(in->payload.bytes) - in->size);
	return 1;
}

void vu_channel_next(struct vu_channel *channel)
{
	fdpass_close(&channel->in.fds);
	channel->in.fds = (struct fdpass_fds){0};
	channel->got = 0;
}

void vu_channel_reply(struct vu_channel *channel, int fd)
{
	struct vu_message *in = &channel->in;
	uint32_t flags = VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY;

	memcpy(channel->out, &in->request, 4);
	memcpy(channel->out + 4, &flags, 4);
	memcpy(channel->out + 8, &in->size, 4);
	memcpy(channel->out + VHOST_USER_HEADER_SIZE, in->payload.bytes, in->size);
	channel->out_len = VHOST_USER_HEADER_SIZE + in->size;
	channel->out_sent = 0;
	close_fd(&channel->out_fd);
	channel->out_fd = fd;
}

int vu_channel_flush(struct vu_channel *channel)
{
	while (channel->out_sent < channel->out_len) {
		unsigned n_fds = channel->out_fd >= 0 ? 1 : 0;
		ssize_t n = fdpass_send(channel->fd, channel->out + channel->out_sent,
			channel->out_len - channel->out_sent, &channel->out_fd, n_fds);
		if (n == -EAGAIN)
			return 0;
		if (n < 0)
			return (int)n;
		close_fd(&channel->out_fd);
		channel->out_sent += (size_t)n;
	}
	channel->out_len = channel->out_sent = 0;
	return 1;
}
