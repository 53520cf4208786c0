/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_BASE_FDPASS_H
#define VGPU_BASE_FDPASS_H

/*
 * Unix-socket messages with file descriptors. Received descriptors are always close-on-exec, and
 * more of them than the caller made room for are closed and reported, never leaked.
 */

#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>

#define FDPASS_MAX 16 /* most fds one message may carry here; vhost-user needs 8 */

struct fdpass_fds {
	int fd[FDPASS_MAX];
	unsigned count;
	unsigned taken; /* how many of the front the receiver has taken over */
};

/* Receives once (recvmsg). Returns bytes, 0 at end of file, -errno; -E2BIG when fds were cut off.
 */
ssize_t fdpass_recv(int socket, void *buf, size_t len, int flags, struct fdpass_fds *ret_fds);

/* Sends once, retrying only EINTR. `fds` stay the caller's. Returns bytes or -errno. */
ssize_t fdpass_send(int socket, const void *buf, size_t len, const int *fds, unsigned n_fds);

/* Takes the descriptors out of a header that recvmsg() filled in; -E2BIG when some were cut off
 * (then none is kept). */
int fdpass_collect(struct msghdr *header, struct fdpass_fds *ret_fds);

/* Next fd of a message, now the caller's, or -1 when there is none left. */
int fdpass_take(struct fdpass_fds *fds);

/* Closes what nobody took. */
void fdpass_close(struct fdpass_fds *fds);

#endif
