/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_BASE_DURABLE_H
#define VGPU_BASE_DURABLE_H

/*
 * A stream socket used by a process that may be killed at any instruction, so that its successor
 * knows to the byte what was received and sent.
 *
 * recvmmsg() and sendmmsg() have the kernel itself write the number of bytes into the message
 * header, before the call returns to a process that a signal may end there and then. With that
 * header in shared memory there is no moment at which bytes were taken or given and nobody knows.
 * Which of two headers is the valid one is one store, done before the call.
 *
 * The pages of the struct must be resident (it is touched here; do not put it on swap that can
 * fill up), received bytes must go to shared memory as well. One thread. Descriptors that come
 * along are lost with the process: peers that send some need another way.
 */

#include "base/fdpass.h"

#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

struct durable_way {
	struct mmsghdr message[2];
	struct iovec iov[2];
	uint64_t before[2]; /* bytes in all before that call */
	uint32_t current;   /* the valid one of the two */
	uint32_t pad;
};

/* Lies in shared memory, zero at first. */
struct durable {
	struct durable_way in, out;
};

/* Bytes in all so far. A predecessor's numbers are as hostile as all of its memory. */
uint64_t durable_received(const struct durable *d);
uint64_t durable_sent(const struct durable *d);

/*
 * Like fdpass_recv() and fdpass_send() with MSG_DONTWAIT: bytes, 0 at the end of file, -errno.
 * `passed_fd` (-1: none) rides with the first byte.
 */
ssize_t durable_recv(
	struct durable *d, int socket, void *buf, size_t len, struct fdpass_fds *ret_fds);
ssize_t durable_send(struct durable *d, int socket, const void *buf, size_t len, int passed_fd);

#endif
