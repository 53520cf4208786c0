/* SPDX-License-Identifier: Apache-2.0 */
#include "peer.h"

#include "base/fdpass.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

int peer_count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static void on_closed(void *data, const char *reason)
{
	struct peer *p = data;
	p->closed++;
	snprintf(p->reason, sizeof(p->reason), "%s", reason);
}

int peer_setup(void **state)
{
	static const struct vtest_ops ops = {.closed = on_closed};
	struct peer *p = calloc(1, sizeof(*p));
	int pair[2];

	assert_non_null(p);
	p->open_fds = peer_count_fds();
	fake_device_init(&p->dev);
	p->budget.max_fds = 512;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	p->fd = pair[0];
	assert_int_equal(loop_create(&p->loop), 0);
	assert_int_equal(
		vtest_create(&p->dev, p->loop, &p->budget, pair[1], "test", &ops, p, &p->vtest), 0);
	*state = p;
	return 0;
}

static void handshake(struct peer *p, uint32_t version)
{
	peer_write(p, (uint32_t[]){6, VTEST_CREATE_RENDERER}, 8);
	peer_write(p, "tester", 6);
	SEND(p, VTEST_PROTOCOL_VERSION, version);
	EXPECT(p, 1, VTEST_PROTOCOL_VERSION, version);
}

int peer_setup_v2(void **state)
{
	peer_setup(state);
	handshake(*state, 2);
	return 0;
}

int peer_setup_v3(void **state)
{
	peer_setup(state);
	handshake(*state, 3);
	return 0;
}

/* Lets go of the server's end; what it held must be gone afterwards. */
static void destroy_server(struct peer *p)
{
	vtest_destroy(p->vtest);
	p->vtest = NULL;
	assert_int_equal(p->dev.clients, 0);
	assert_int_equal(p->dev.contexts, 0);
	assert_int_equal(p->dev.resources, 0);
	assert_int_equal(p->budget.fds, 0);
	assert_int_equal(p->budget.mappings, 0);
	assert_int_equal(p->budget.buffers, 0);
}

int peer_teardown(void **state)
{
	struct peer *p = *state;

	destroy_server(p);
	assert_int_equal(p->dev.charged, 0);
	loop_destroy(p->loop);
	close(p->fd);
	assert_int_equal(peer_count_fds(), p->open_fds);
	free(p);
	return 0;
}

void peer_step(struct peer *p)
{
	/* A turn that stopped for its time is taken up again, as epoll would. */
	do {
		vtest_event(p->vtest, EPOLLIN | EPOLLOUT);
	} while (!p->closed && p->vtest->epoll_events & EPOLLOUT && !p->vtest->out.first);
}

void peer_write(struct peer *p, const void *buf, size_t len)
{
	assert_int_equal(send(p->fd, buf, len, MSG_NOSIGNAL), (ssize_t)len);
}

void peer_send(struct peer *p, uint32_t id, const uint32_t *dwords, size_t n)
{
	uint32_t message[2 + 512] = {(uint32_t)n, id};

	assert_true(n <= 512);
	if (n)
		memcpy(message + 2, dwords, n * 4);
	peer_write(p, message, 8 + n * 4);
	peer_step(p);
}

void peer_read(struct peer *p, void *buf, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = recv(p->fd, (char *)buf + done, len - done, MSG_DONTWAIT);
		assert_true(n > 0);
		done += (size_t)n;
	}
}

void peer_expect(struct peer *p, const uint32_t *dwords, size_t n)
{
	uint32_t got[64];

	assert_true(n <= 64);
	peer_read(p, got, n * 4);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(got[i], dwords[i]);
}

int peer_read_fd(struct peer *p)
{
	struct fdpass_fds fds;
	char byte;

	assert_int_equal(fdpass_recv(p->fd, &byte, 1, MSG_DONTWAIT, &fds), 1);
	assert_int_equal(fds.count, 1);
	return fdpass_take(&fds);
}

void peer_expect_silence(struct peer *p)
{
	char byte;
	assert_int_equal(recv(p->fd, &byte, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
}

void peer_expect_closed(struct peer *p, const char *part)
{
	assert_int_equal(p->closed, 1);
	if (part[0])
		assert_non_null(strstr(p->reason, part));
	else
		assert_string_equal(p->reason, "");
	vtest_event(p->vtest, EPOLLIN);
	assert_int_equal(p->closed, 1);
}

void peer_expect_open(struct peer *p)
{
	if (p->closed)
		fail_msg("closed: %s", p->reason);
	SEND_EMPTY(p, VTEST_PING_PROTOCOL_VERSION);
	EXPECT(p, 0, VTEST_PING_PROTOCOL_VERSION);
	peer_expect_silence(p);
}

void *peer_make_buffer(struct peer *p, uint32_t handle, uint32_t bind, uint32_t bytes)
{
	int fd;
	void *map;

	SEND(p, VTEST_RESOURCE_CREATE2, BUFFER2(handle, bind, bytes));
	if (p->vtest->version >= 3)
		peer_read(p, (uint32_t[3]){0}, 12);
	fd = peer_read_fd(p);
	map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	close(fd);
	return map;
}
