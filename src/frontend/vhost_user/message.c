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

void vu_channel_init(struct vu_channel *channel, int fd, struct wire_socket *wire)
{
	*channel = (struct vu_channel){.fd = fd, .wire = wire, .out_fd = -1};
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

	memcpy(&in->request, channel->wire->in, 4);
	memcpy(&in->flags, channel->wire->in + 4, 4);
	memcpy(&in->size, channel->wire->in + 8, 4);
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

/* ---- receiving ---- */

#define FDS_BITS 4u

static const char *const too_many_fds = "too many file descriptors in a message";

/*
 * Keeps the descriptors that come with the next bytes, and cuts *size to the bytes they come with:
 * 1, 0 nothing there, -EPROTO. A process killed here leaves the bytes in the socket; its successor
 * keeps the same descriptors once more under the same number.
 */
static int channel_hold(struct vu_channel *channel, size_t *size, const char **ret_reason)
{
	uint8_t seen[WIRE_MESSAGE_MAX];
	struct fdpass_fds fds;
	unsigned before = channel->in.fds.count;
	ssize_t n = fdpass_recv(channel->fd, seen, *size, MSG_PEEK | MSG_DONTWAIT, &fds);

	if (n == -EAGAIN)
		return 0;
	if (n <= 0)
		return 1; /* receiving says it again */
	*size = (size_t)n;
	unsigned after = before + fds.count;
	for (unsigned i = before; i < after && i < VHOST_USER_MAX_FDS; i++) {
		if (channel->hold(channel->hold_data, i, fds.fd[i - before]) < 0)
			*ret_reason = "file descriptors cannot be kept";
	}
	fdpass_close(&fds);
	if (after > VHOST_USER_MAX_FDS)
		*ret_reason = too_many_fds;
	if (*ret_reason)
		return -EPROTO;
	uint64_t at = durable_received(&channel->wire->durable);
	__atomic_store_n(&channel->wire->fds, at << (2 * FDS_BITS) | before << FDS_BITS | after,
		__ATOMIC_RELEASE);
	return 1;
}

/* Reads once towards `end` bytes of header and payload: 1 progress, 0 would block, -EPROTO. */
static int channel_read(struct vu_channel *channel, size_t end, const char **ret_reason)
{
	struct fdpass_fds fds;
	size_t size = end - channel->got;

	*ret_reason = NULL;
	int r = channel->hold ? channel_hold(channel, &size, ret_reason) : 1;
	if (r <= 0)
		return r;
	ssize_t n = durable_recv(
		&channel->wire->durable, channel->fd, channel->wire->in + channel->got, size, &fds);

	if (n == -EAGAIN)
		return 0;
	if (n == 0 || n == -ECONNRESET || n == -EPIPE) {
		fdpass_close(&fds);
		*ret_reason = channel->got ? "connection closed inside a message" : "";
		return -EPROTO;
	}
	if (n < 0) {
		*ret_reason = n == -E2BIG ? too_many_fds : "cannot read the socket";
		return -EPROTO;
	}
	channel->got += (size_t)n;
	if (!message_add_fds(&channel->in, &fds)) {
		*ret_reason = too_many_fds;
		return -EPROTO;
	}
	return 1;
}

int vu_channel_receive(struct vu_channel *channel, const char **ret_reason)
{
	struct vu_message *in = &channel->in;
	size_t end = VHOST_USER_HEADER_SIZE;

	if (channel->whole)
		return 1;
	for (;;) {
		if (channel->got >= VHOST_USER_HEADER_SIZE) {
			*ret_reason = message_check_header(channel);
			if (*ret_reason)
				return -EPROTO;
			end = VHOST_USER_HEADER_SIZE + in->size;
			if (channel->got >= end)
				break;
		}
		int r = channel_read(channel, end, ret_reason);
		if (r <= 0)
			return r;
	}
	if (channel->got > end) {
		*ret_reason = "a predecessor received beyond a message";
		return -EPROTO;
	}
	if (in->fds.count > vu_message_row(in->request)->fds) {
		*ret_reason = too_many_fds;
		return -EPROTO;
	}
	memcpy(in->payload.bytes, channel->wire->in + VHOST_USER_HEADER_SIZE, in->size);
	memset(in->payload.bytes + in->size, 0, sizeof(in->payload.bytes) - in->size);
	channel->whole = true;
	channel->end = channel->consumed + end;
	return 1;
}

bool vu_channel_pending(const struct vu_channel *channel)
{
	uint32_t size;

	if (channel->whole || channel->got < VHOST_USER_HEADER_SIZE)
		return channel->whole;
	memcpy(&size, channel->wire->in + 8, sizeof(size));
	return channel->got - VHOST_USER_HEADER_SIZE >= size;
}

uint64_t vu_channel_position(const struct vu_channel *channel)
{
	return channel->end;
}

void vu_channel_next(struct vu_channel *channel)
{
	fdpass_close(&channel->in.fds);
	channel->in.fds = (struct fdpass_fds){0};
	channel->consumed = channel->end;
	channel->got = 0;
	channel->whole = false;
}

int vu_channel_resume(struct vu_channel *channel, uint64_t consumed, unsigned *ret_fds)
{
	uint64_t received = durable_received(&channel->wire->durable);
	uint64_t fds = __atomic_load_n(&channel->wire->fds, __ATOMIC_ACQUIRE);
	uint64_t at = fds >> (2 * FDS_BITS);
	unsigned before = fds >> FDS_BITS & 0xf, after = fds & 0xf;

	if (consumed > received || received - consumed > WIRE_MESSAGE_MAX)
		return -EBADMSG;
	channel->consumed = consumed;
	channel->got = (size_t)(received - consumed);
	*ret_fds = 0;
	if (channel->got && at >= consumed)
		*ret_fds = MIN(received > at ? after : before, VHOST_USER_MAX_FDS);
	return 0;
}

void vu_channel_adopt(struct vu_channel *channel, int fd)
{
	channel->in.fds.fd[channel->in.fds.count++] = fd;
}

/* ---- sending ---- */

static const struct wire_reply *channel_reply(const struct vu_channel *channel)
{
	const struct wire_socket *wire = channel->wire;
	return &wire->reply[__atomic_load_n(&wire->current, __ATOMIC_ACQUIRE) & 1];
}

void vu_channel_reply(struct vu_channel *channel, int fd)
{
	struct vu_message *in = &channel->in;
	uint32_t flags = VHOST_USER_VERSION | VHOST_USER_FLAG_REPLY;
	uint32_t next = ~channel->wire->current & 1;
	struct wire_reply *out = &channel->wire->reply[next];

	memcpy(out->bytes, &in->request, 4);
	memcpy(out->bytes + 4, &flags, 4);
	memcpy(out->bytes + 8, &in->size, 4);
	memcpy(out->bytes + VHOST_USER_HEADER_SIZE, in->payload.bytes, in->size);
	out->size = VHOST_USER_HEADER_SIZE + in->size;
	out->end = durable_sent(&channel->wire->durable) + out->size;
	out->position = vu_channel_position(channel);
	out->has_fd = fd >= 0;
	close_fd(&channel->out_fd);
	channel->out_fd = fd;
	__atomic_store_n(&channel->wire->current, next, __ATOMIC_RELEASE);
}

bool vu_channel_replied(const struct vu_channel *channel, uint64_t position)
{
	return channel_reply(channel)->position >= position;
}

size_t vu_channel_unsent(const struct vu_channel *channel, size_t *ret_at, bool *ret_fd)
{
	const struct wire_reply *out = channel_reply(channel);
	uint64_t left = __atomic_load_n(&out->end, __ATOMIC_RELAXED) -
			durable_sent(&channel->wire->durable);
	uint32_t size = __atomic_load_n(&out->size, __ATOMIC_RELAXED);

	if (size > WIRE_MESSAGE_MAX || left > size) /* nothing of ours can have left that */
		left = 0;
	*ret_at = size - (size_t)left;
	*ret_fd = left && left == size && out->has_fd;
	return (size_t)left;
}

bool vu_channel_busy(const struct vu_channel *channel)
{
	size_t at;
	bool with_fd;
	return vu_channel_unsent(channel, &at, &with_fd) != 0;
}

int vu_channel_flush(struct vu_channel *channel)
{
	const struct wire_reply *out = channel_reply(channel);
	size_t left, at;
	bool with_fd;

	while ((left = vu_channel_unsent(channel, &at, &with_fd))) {
		ssize_t n = durable_send(&channel->wire->durable, channel->fd, out->bytes + at,
			left, with_fd ? channel->out_fd : -1);
		if (n == -EAGAIN)
			return 0;
		if (n < 0)
			return (int)n;
		close_fd(&channel->out_fd);
	}
	return 1;
}
