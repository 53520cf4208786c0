/* SPDX-License-Identifier: Apache-2.0 */
#include "base/durable.h"

#include "base/crash_point.h"

#include <errno.h>
#include <string.h>

union durable_control {
	char bytes[CMSG_SPACE(FDPASS_MAX * sizeof(int))];
	struct cmsghdr align;
};

static uint64_t durable_total(const struct durable_way *way)
{
	uint32_t i = __atomic_load_n(&way->current, __ATOMIC_ACQUIRE) & 1;
	return way->before[i] + way->message[i].msg_len;
}

uint64_t durable_received(const struct durable *d)
{
	return durable_total(&d->in);
}

uint64_t durable_sent(const struct durable *d)
{
	return durable_total(&d->out);
}

/* Prepares the other header and makes it the valid one: the total does not change. */
static struct mmsghdr *durable_prepare(struct durable_way *way, void *buf, size_t len)
{
	uint32_t next = ~way->current & 1;
	struct mmsghdr *message = &way->message[next];

	way->before[next] = durable_total(way);
	way->iov[next] = (struct iovec){.iov_base = buf, .iov_len = len};
	*message = (struct mmsghdr){
		.msg_hdr = {.msg_iov = &way->iov[next], .msg_iovlen = 1},
	};
	__atomic_store_n(&way->current, next, __ATOMIC_RELEASE);
	return message;
}

ssize_t durable_recv(
	struct durable *d, int socket, void *buf, size_t len, struct fdpass_fds *ret_fds)
{
	union durable_control control;

	*ret_fds = (struct fdpass_fds){0};
	struct mmsghdr *message = durable_prepare(&d->in, buf, len);
	message->msg_hdr.msg_control = control.bytes;
	message->msg_hdr.msg_controllen = sizeof(control.bytes);
	if (recvmmsg(socket, message, 1, MSG_DONTWAIT | MSG_CMSG_CLOEXEC, NULL) < 0)
		return -errno;
	crash_point(CRASH_POINT_RECEIVED);
	int err = fdpass_collect(&message->msg_hdr, ret_fds);
	return err < 0 ? err : (ssize_t)message->msg_len;
}

ssize_t durable_send(struct durable *d, int socket, const void *buf, size_t len, int passed_fd)
{
	union durable_control control;
	struct mmsghdr *message = durable_prepare(&d->out, (void *)(uintptr_t)buf, len);

	if (passed_fd >= 0) {
		memset(&control, 0, sizeof(control));
		message->msg_hdr.msg_control = control.bytes;
		message->msg_hdr.msg_controllen = CMSG_SPACE(sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&message->msg_hdr);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &passed_fd, sizeof(int));
	}
	if (sendmmsg(socket, message, 1, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		return -errno;
	crash_point(CRASH_POINT_ANSWERED);
	return (ssize_t)message->msg_len;
}
