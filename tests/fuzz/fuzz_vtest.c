/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A whole vtest connection over a device that only keeps books. The input's first byte chooses the
 * version that was agreed on, how the rest is cut into pieces, and whether the client reads its
 * answers; the second whether the rest is what the client sends as it is, or a shorthand for
 * messages with right headers, which gets further into what commands do to each other.
 */

#include "fake_device.h"

#include "base/checked.h"
#include "frontend/vtest/internal.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

struct peer {
	struct device dev;
	struct vtest_budget budget;
	struct vtest *vtest;
	int fd;
	bool closed;
};

static void on_closed(void *data, const char *reason)
{
	struct peer *p = data;

	/* A connection ends once and with a terminated reason. */
	if (p->closed || strlen(reason) >= VTEST_REASON_MAX)
		abort();
	p->closed = true;
}

static void drain(int fd)
{
	union {
		char bytes[CMSG_SPACE(16 * sizeof(int))];
		struct cmsghdr align;
	} control;
	char buf[4096];
	struct iovec iov = {.iov_base = buf, .iov_len = sizeof(buf)};
	struct msghdr msg;

	do {
		msg = (struct msghdr){.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = control.bytes,
			.msg_controllen = sizeof(control.bytes)};
		if (recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) <= 0)
			return;
		for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
			size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
			for (size_t i = 0; i < n; i++) {
				int received;
				memcpy(&received, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
				close(received);
			}
		}
	} while (true);
}

static void give(struct peer *p, const void *bytes, size_t len, bool read_answers)
{
	for (size_t done = 0; done < len && !p->closed;) {
		ssize_t n = send(
			p->fd, (const char *)bytes + done, len - done, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n > 0)
			done += (size_t)n;
		vtest_event(p->vtest, EPOLLIN | EPOLLOUT);
		if (read_answers)
			drain(p->fd);
	}
}

/* A dword in one byte: small numbers are handles, sizes and flags; a few are extreme. */
static uint32_t widen(uint8_t byte)
{
	static const uint32_t extreme[] = {
		UINT32_MAX, UINT32_MAX - 1, 1u << 31, 1u << 17, 1u << 7, 1u << 19, 1u << 16, 4096};

	return byte >= 0xf8 ? extreme[byte - 0xf8] : byte;
}

/* {command, additional dwords, a byte for each dword of payload}… as messages. */
static size_t expand(const uint8_t *data, size_t size, uint32_t *out, size_t max)
{
	size_t n = 0;

	while (size >= 2) {
		uint32_t id = 1 + data[0] % (VTEST_COMMAND_LIMIT - 1);
		const struct vtest_command *command = vtest_command(id);
		uint32_t len = MIN(command->min + data[1] % 32, command->max);
		data += 2;
		size -= 2;
		if (n + 2 + len > max)
			break;
		out[n++] = len;
		out[n++] = id;
		if (command->payload == VTEST_PAYLOAD_HEADER_ONLY)
			len = command->min;
		for (uint32_t i = 0; i < len && command->payload != VTEST_PAYLOAD_BYTES; i++) {
			out[n++] = size ? widen(*data) : 0;
			data += size > 0;
			size -= size > 0;
		}
	}
	return n * sizeof(*out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct vtest_ops ops = {.closed = on_closed};
	static const uint32_t versions[] = {0, 2, 3, 3};
	static uint32_t expanded[4096];
	struct peer p = {0};
	struct loop *loop;
	int pair[2];

	if (size < 2 || loop_create(&loop))
		return 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		abort();
	p.fd = pair[0];
	fake_device_init(&p.dev);
	p.budget.max_fds = 64;
	p.dev.hold_fences = data[0] & 0x40;
	if (vtest_create(&p.dev, loop, &p.budget, pair[1], "fuzz", &ops, &p, &p.vtest))
		abort();
	const uint32_t handshake[] = {
		0, VTEST_CREATE_RENDERER, 1, VTEST_PROTOCOL_VERSION, versions[data[0] & 3]};
	give(&p, handshake, sizeof(handshake), true);
	uint8_t how = data[0];
	const uint8_t *bytes = data + 2;
	size -= 2;
	if (data[1] & 1) {
		size = expand(bytes, size, expanded, ARRAY_SIZE(expanded));
		bytes = (const uint8_t *)expanded;
	}
	size_t piece = (how >> 2 & 15) ? (size_t)(how >> 2 & 15) * 7 : size;
	for (size_t at = 0; at < size; at += piece)
		give(&p, bytes + at, MIN(piece, size - at), !(how & 0x80));
	shutdown(p.fd, SHUT_WR);
	for (unsigned i = 0; i < 64 && !p.closed; i++)
		vtest_event(p.vtest, EPOLLIN | EPOLLOUT);
	vtest_destroy(p.vtest);
	if (p.dev.clients || p.dev.contexts || p.dev.resources)
		abort();
	close(p.fd);
	loop_destroy(loop);
	return 0;
}
