/* SPDX-License-Identifier: Apache-2.0 */

/*
 * An answer is one send while the client keeps reading, which it does: it waits for each. What the
 * socket does not take is queued within a bound; a client past it has stopped reading and is ended,
 * so it can block nobody.
 */

#include "frontend/vtest/internal.h"

#include "base/cleanup.h"
#include "base/fdpass.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define VTEST_OUTPUT_MAX_COUNT 1024u

struct vtest_message {
	struct vtest_message *next;
	int fd; /* owned; rides with the first byte; -1: none, or sent */
	size_t len, done;
	uint8_t bytes[];
};

static int vtest_enqueue(struct vtest *v, const void *buf, size_t len, int fd)
{
	struct vtest_output *out = &v->out;
	struct vtest_message *message;

	if (out->bytes > VTEST_OUTPUT_MAX || out->count >= VTEST_OUTPUT_MAX_COUNT)
		return vtest_fail(v, -ENOBUFS, "the client does not read its answers");
	if (fd >= 0 && (out->fds >= VTEST_QUEUED_FDS || v->budget->fds >= v->budget->max_fds))
		return vtest_fail(v, -ENOBUFS, "the client does not take its file descriptors");
	if (vtest_buffers_charge(v, len) < 0)
		return vtest_fail(v, -ENOBUFS, "too much is unread on all connections together");
	message = malloc(sizeof(*message) + len);
	if (!message) {
		vtest_buffers_uncharge(v, len);
		return -ENOMEM;
	}
	*message = (struct vtest_message){.fd = -1, .len = len};
	memcpy(message->bytes, buf, len);
	if (fd >= 0) {
		message->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		if (message->fd < 0) {
			int err = -errno;
			vtest_buffers_uncharge(v, len);
			free(message);
			return err;
		}
		out->fds++;
		v->budget->fds++;
	}
	*out->last = message;
	out->last = &message->next;
	out->bytes += len;
	out->count++;
	return vtest_set_events(v, EPOLLIN | EPOLLOUT);
}

/* 0: the socket is full. A peer that is gone is noticed when reading. */
static ssize_t vtest_send_some(struct vtest *v, const void *buf, size_t len, int fd)
{
	ssize_t n = fdpass_send(v->fd, buf, len, &fd, fd >= 0 ? 1 : 0);

	if (n == -EAGAIN || n == -EWOULDBLOCK)
		return 0;
	if (n == -EPIPE || n == -ECONNRESET)
		return (ssize_t)len;
	return n;
}

int vtest_send(struct vtest *v, const void *buf, size_t len, int fd)
{
	ssize_t n = 0;

	if (!len)
		return 0;
	if (!v->out.first) {
		n = vtest_send_some(v, buf, len, fd);
		if (n < 0)
			return (int)n;
		if ((size_t)n == len)
			return 0;
	}
	return vtest_enqueue(v, (const uint8_t *)buf + n, len - (size_t)n, n ? -1 : fd);
}

int vtest_reply(struct vtest *v, uint32_t len, uint32_t id, const uint32_t *dwords, size_t n)
{
	uint32_t message[8] = {len, id};

	if (n > 6)
		return -EINVAL;
	if (n)
		memcpy(message + 2, dwords, n * sizeof(*dwords));
	return vtest_send(v, message, (2 + n) * sizeof(*message), -1);
}

static void vtest_message_close_fd(struct vtest *v, struct vtest_message *message)
{
	if (message->fd < 0)
		return;
	close_fd(&message->fd);
	v->out.fds--;
	v->budget->fds--;
}

static void vtest_dequeue(struct vtest *v)
{
	struct vtest_output *out = &v->out;
	struct vtest_message *message = out->first;

	out->first = message->next;
	if (!out->first)
		out->last = &out->first;
	out->count--;
	vtest_message_close_fd(v, message);
	vtest_buffers_uncharge(v, message->len);
	free(message);
}

int vtest_output_flush(struct vtest *v)
{
	struct vtest_output *out = &v->out;

	while (out->first) {
		struct vtest_message *message = out->first;
		ssize_t n = vtest_send_some(v, message->bytes + message->done,
			message->len - message->done, message->fd);
		if (n <= 0)
			return (int)n;
		vtest_message_close_fd(v, message);
		message->done += (size_t)n;
		out->bytes -= (size_t)n;
		if (message->done == message->len)
			vtest_dequeue(v);
	}
	return 0;
}

void vtest_output_finish(struct vtest *v)
{
	while (v->out.first)
		vtest_dequeue(v);
	v->out.bytes = 0;
}
