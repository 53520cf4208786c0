/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fdpass.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

union fdpass_control {
	char bytes[CMSG_SPACE(FDPASS_MAX * sizeof(int))];
	struct cmsghdr align;
};

int fdpass_collect(struct msghdr *header, struct fdpass_fds *ret_fds)
{
	*ret_fds = (struct fdpass_fds){0};
	for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR(header, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (ret_fds->count < FDPASS_MAX)
				ret_fds->fd[ret_fds->count++] = fd;
			else
				close(fd);
		}
	}
	if (header->msg_flags & MSG_CTRUNC) {
		fdpass_close(ret_fds);
		return -E2BIG;
	}
	return 0;
}

ssize_t fdpass_recv(int socket, void *buf, size_t len, int flags, struct fdpass_fds *ret_fds)
{
	union fdpass_control control;
	struct iovec iov = {.iov_base = buf, .iov_len = len};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	ssize_t n;

	*ret_fds = (struct fdpass_fds){0};
	do {
		n = recvmsg(socket, &msg, flags | MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	int err = fdpass_collect(&msg, ret_fds);
	return err < 0 ? err : n;
}

ssize_t fdpass_send(int socket, const void *buf, size_t len, const int *fds, unsigned n_fds)
{
	union fdpass_control control;
	struct iovec iov = {.iov_base = (void *)(uintptr_t)buf, .iov_len = len};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	if (n_fds > FDPASS_MAX)
		return -EINVAL;
	if (n_fds) {
		memset(&control, 0, sizeof(control));
		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
	}
	do {
		n = sendmsg(socket, &msg, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

int fdpass_take(struct fdpass_fds *fds)
{
	return fds->taken < fds->count ? fds->fd[fds->taken++] : -1;
}

void fdpass_close(struct fdpass_fds *fds)
{
	while (fds->taken < fds->count)
		close(fds->fd[fds->taken++]);
}
