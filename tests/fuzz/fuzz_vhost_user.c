/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A whole connection: the input is a script of a hostile front end, guest and viewer. Each step is
 * one byte that chooses an action, and its arguments.
 */

#include "frontend/vhost_user/vhost_user.h"
#include "frontend/vhost_user/virtqueue.h"

#include "unit/vhost_user/fake_device.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/fdpass.h"
#include "base/log.h"

#include "protocol/vhost_user.h"

#include "frontend/vhost_user/guard.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define MEMORY      0x10000u
#define UVA         0x100000ull
#define NUM         16u
#define DESC(ring)  ((ring)*0x2000u)
#define AVAIL(ring) (DESC(ring) + 0x1000u)
#define USED(ring)  (DESC(ring) + 0x1800u)
#define SPIN_ROUNDS 6u

struct script {
	const uint8_t *at, *end;
};

struct bench {
	struct device dev;
	struct loop *loop;
	struct vhost_user *vu;
	int socket, viewer, memory_fd, event;
	uint8_t *memory;
	unsigned rounds;
	bool verdict;
};

static uint8_t take(struct script *s)
{
	return s->at < s->end ? *s->at++ : 0;
}

static size_t take_bytes(struct script *s, const uint8_t **ret, size_t most)
{
	size_t n = MIN(most, (size_t)(s->end - s->at));
	*ret = s->at;
	s->at += n;
	return n;
}

static void on_custody(void *data, const struct keeper_custody *custody, int fd)
{
	if (fcntl(fd, F_GETFD) < 0)
		abort(); /* custody of something that is not open */
}

static void on_release(void *data, const struct keeper_custody *custody)
{
}

static void on_memory_done(void *data, uint32_t serial)
{
	struct bench *b = data;
	if (b->verdict)
		vhost_user_memory_verdict(b->vu, serial, true, "");
}

static void on_closed(void *data, const char *reason)
{
	struct bench *b = data;
	vhost_user_destroy(TAKE_PTR(b->vu));
}

static const struct vhost_user_ops bench_ops = {on_custody, on_release, on_memory_done, on_closed};

static bool bench_round(void *data)
{
	struct bench *b = data;
	if (b->rounds++ >= SPIN_ROUNDS)
		loop_quit(b->loop, 0);
	return true;
}

static void spin(struct bench *b)
{
	b->rounds = 0;
	loop_run(b->loop);
}

static void drop_replies(int fd)
{
	uint8_t buf[4096];
	struct fdpass_fds fds;

	while (fd >= 0 && fdpass_recv(fd, buf, sizeof(buf), MSG_DONTWAIT, &fds) > 0)
		fdpass_close(&fds);
}

/* ---- actions ---- */

/* A message with a whole header; its fds by the bits of one byte. */
static void act_message(struct bench *b, struct script *s)
{
	uint8_t buf[12 + 300];
	const uint8_t *payload;
	uint32_t request = take(s), flags = take(s) & 0xf, size = take(s);
	uint8_t kinds = take(s);
	int fds[4];
	unsigned n_fds = 0;
	int pair[2] = {-1, -1};

	size_t n = take_bytes(s, &payload, size);
	uint32_t header[3] = {request, flags ^ VHOST_USER_VERSION, size};
	memset(buf, 0, sizeof(buf));
	memcpy(buf, header, 12);
	memcpy(buf + 12, payload, n);
	if (kinds & 1)
		fds[n_fds++] = b->memory_fd;
	if (kinds & 2)
		fds[n_fds++] = b->event;
	if (kinds & 4 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0) {
		fds[n_fds++] = pair[0];
		close_fd(&b->viewer);
		b->viewer = pair[1];
	}
	if (kinds & 8)
		fds[n_fds++] = b->memory_fd;
	(void)fdpass_send(b->socket, buf, 12 + size, fds, n_fds);
	close_fd(&pair[0]);
	spin(b);
}

static void act_raw(struct bench *b, struct script *s)
{
	const uint8_t *bytes;
	size_t n = take_bytes(s, &bytes, take(s));
	if (n)
		(void)fdpass_send(b->socket, bytes, n, NULL, 0);
	spin(b);
}

static void act_memory(struct bench *b, struct script *s)
{
	const uint8_t *bytes;
	size_t at = (size_t)(take(s) << 8 | take(s));
	size_t n = take_bytes(s, &bytes, MIN((size_t)take(s), MEMORY - at));
	memcpy(b->memory + at, bytes, n);
}

static void act_kick(struct bench *b, struct script *s)
{
	uint64_t one = 1;
	if (write(b->event, &one, sizeof(one)) < 0)
		return;
	spin(b);
}

static void act_viewer(struct bench *b, struct script *s)
{
	const uint8_t *bytes;
	uint8_t answer[12 + 408] = {take(s), 0, 0, 0, 4};
	uint32_t size = answer[0] == 3 ? 408 : answer[0] == 1 ? 8 : take(s);
	size_t n = take_bytes(s, &bytes, size);

	memcpy(answer + 8, &size, 4);
	memcpy(answer + 12, bytes, n);
	if (b->viewer >= 0 && send(b->viewer, answer, 12 + size, MSG_NOSIGNAL) < 0)
		close_fd(&b->viewer);
	drop_replies(b->viewer);
	spin(b);
}

static void act_device(struct bench *b, struct script *s)
{
	uint8_t what = take(s);

	b->dev.hold = what & 1;
	b->dev.ask_info = what & 2;
	b->verdict = !(what & 4);
	if (what & 8)
		fake_release(&b->dev, 1 + what / 64);
	spin(b);
}

static void act_screen(struct bench *b, struct script *s)
{
	static const uint8_t pixels[64 * 64 * 4];
	uint8_t what = take(s);
	uint32_t head = what / 64;
	struct display_rect rect = {take(s), take(s), take(s), take(s)};
	struct display_cursor cursor = {head, rect.x, rect.y, 0, 0, what & 1};
	struct display_dmabuf buf = {.fd = b->memory_fd, .width = 64, .height = 64, .stride = 256};
	const struct display_ops *d = b->dev.display;

	if (what & 2)
		d->mode(b->dev.display_data, head, 64, what & 1 ? 64 : 0);
	if (what & 4)
		d->update(b->dev.display_data, head, &rect, pixels, 256);
	if (what & 8)
		d->cursor(b->dev.display_data, &cursor, what & 2 ? (const uint32_t *)pixels : NULL);
	if (what & 16)
		(void)d->dmabuf(b->dev.display_data, head, &buf);
	if (what & 32)
		(void)d->dmabuf_update(b->dev.display_data, head, &rect);
	spin(b);
}

static void say(struct bench *b, uint32_t request, const void *payload, uint32_t size, int fd)
{
	uint8_t buf[12 + 64];
	uint32_t header[3] = {request, VHOST_USER_VERSION, size};

	memcpy(buf, header, 12);
	memcpy(buf + 12, payload, size);
	(void)fdpass_send(b->socket, buf, 12 + size, &fd, fd >= 0 ? 1 : 0);
}

/* What QEMU says before the first kick, so that the search starts where rings run. */
static void act_start(struct bench *b, struct script *s)
{
	uint8_t how = take(s);
	uint64_t all = UINT64_MAX & ~(3ull << VIRTIO_BIT_RING_PACKED), ring = how & 1;
	uint32_t index = (uint32_t)ring;
	struct vhost_user_mem_table table = {.count = 1, .regions = {{0, MEMORY, UVA, 0}}};
	struct vhost_user_vring_addr addr = {
		.index = index,
		.desc = UVA + DESC(ring),
		.avail = UVA + AVAIL(ring),
		.used = UVA + USED(ring),
	};
	struct vhost_user_inflight in = {640, 0xf000, 2, NUM, 0};

	if (how & 2)
		all &= ~(1ull << VIRTIO_BIT_RING_EVENT_IDX);
	say(b, VHOST_USER_SET_PROTOCOL_FEATURES, &all, 8, -1);
	say(b, VHOST_USER_SET_FEATURES, &all, 8, -1);
	say(b, VHOST_USER_SET_MEM_TABLE, &table, 40, b->memory_fd);
	if (how & 4)
		say(b, VHOST_USER_SET_INFLIGHT_FD, &in, 24, b->memory_fd);
	if (how & 8)
		say(b, VHOST_USER_GET_INFLIGHT_FD, &in, 24, -1);
	say(b, VHOST_USER_SET_VRING_NUM, (uint32_t[2]){index, NUM}, 8, -1);
	say(b, VHOST_USER_SET_VRING_BASE, (uint32_t[2]){index, 0}, 8, -1);
	say(b, VHOST_USER_SET_VRING_ADDR, &addr, 40, -1);
	say(b, VHOST_USER_SET_VRING_CALL, &ring, 8, b->event);
	say(b, VHOST_USER_SET_VRING_KICK, &ring, 8, b->event);
	say(b, VHOST_USER_SET_VRING_ENABLE, (uint32_t[2]){index, 1}, 8, -1);
	spin(b);
	spin(b);
}

/* The driver writes a descriptor, and perhaps makes a chain available. */
static void act_descriptor(struct bench *b, struct script *s)
{
	uint8_t what = take(s), ring = what & 1;
	struct virtqueue_desc desc = {
		.addr = (uint64_t)take(s) << 8 | take(s),
		.len = take(s) * (what & 2 ? 16u : 1u),
		.flags = take(s) & 7,
		.next = take(s) % (NUM + 1),
	};
	uint16_t *avail = (uint16_t *)(b->memory + AVAIL(ring));
	uint16_t i = (what >> 4) % NUM;

	memcpy(b->memory + DESC(ring) + 16u * i, &desc, sizeof(desc));
	if (!(what & 4))
		return;
	avail[2 + avail[1] % NUM] = i;
	avail[1]++;
	if (what & 8)
		act_kick(b, s);
}

static void act_truncate(struct bench *b, struct script *s)
{
	uint64_t one = 1;

	/* Nothing here reads the mapping meanwhile: the back end is what must survive. */
	if (ftruncate(b->memory_fd, take(s) << 8) < 0 || write(b->event, &one, sizeof(one)) < 0)
		return;
	spin(b);
	if (ftruncate(b->memory_fd, MEMORY) < 0)
		abort();
}

static void (*const actions[])(struct bench *, struct script *) = {
	act_message,
	act_start,
	act_memory,
	act_kick,
	act_device,
	act_viewer,
	act_raw,
	act_truncate,
	act_descriptor,
	act_screen,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct script s = {data, data + size};
	struct bench b = {.socket = -1, .viewer = -1, .verdict = true};
	int pair[2];

	log_init("fuzz", LOG_LEVEL_ERROR);
	guard_install_sigbus_handler();
	fake_device_init(&b.dev);
	if (loop_create(&b.loop) ||
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair))
		abort();
	b.socket = pair[0];
	b.event = eventfd(0, EFD_NONBLOCK);
	b.memory_fd = memfd_create("guest", 0);
	if (ftruncate(b.memory_fd, MEMORY) < 0)
		abort();
	b.memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, b.memory_fd, 0);
	if (vhost_user_create(&b.dev, b.loop, pair[1], &bench_ops, &b, &b.vu))
		abort();
	loop_set_idle(b.loop, bench_round, &b);
	while (s.at < s.end && b.vu) {
		actions[take(&s) % ARRAY_SIZE(actions)](&b, &s);
		drop_replies(b.socket);
	}
	vhost_user_destroy(b.vu);
	loop_destroy(b.loop);
	munmap(b.memory, MEMORY);
	close_fd(&b.socket);
	close_fd(&b.viewer);
	close_fd(&b.memory_fd);
	close_fd(&b.event);
	return 0;
}
