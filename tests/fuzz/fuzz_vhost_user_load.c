/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What a hostile predecessor leaves to a vhost-user connection: the payload of its CONNECTION
 * section, then records of the journal, then bytes over its wire. Custody has something for
 * everything that is asked for.
 */

#include "frontend/keep.h"
#include "frontend/vhost_user/vhost_user.h"
#include "frontend/vhost_user/wire.h"
#include "state/section.h"

#include "unit/vhost_user/fake_device.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/log.h"

#include "frontend/vhost_user/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define MEMORY      0x10000u
#define SPIN_ROUNDS 6u

struct bench {
	struct device dev;
	struct loop *loop;
	struct vhost_user *vu;
	int memory_fd, wire_fd;
	unsigned rounds;
};

static int on_put(void *data, const struct keeper_custody *what, int fd)
{
	return fcntl(fd, F_GETFD) < 0 ? -EBADF : 0;
}

static void on_drop(void *data, const struct keeper_custody *what)
{
}

static int on_take(void *data, struct keeper_custody *what)
{
	struct bench *b = data;

	if (what->kind == KEEPER_CUSTODY_WIRE)
		return fcntl(b->wire_fd, F_DUPFD_CLOEXEC, 0);
	if (what->kind == KEEPER_CUSTODY_MEMORY || what->kind == KEEPER_CUSTODY_INFLIGHT)
		what->b = what->a = MEMORY;
	if (what->kind == KEEPER_CUSTODY_INFLIGHT)
		what->b = 0;
	if (what->kind == KEEPER_CUSTODY_REGION ? what->a & 1 : what->kind < KEEPER_CUSTODY_KICK)
		return fcntl(b->memory_fd, F_DUPFD_CLOEXEC, 0);
	return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

static struct journal *on_journal(void *data)
{
	return NULL;
}

static void on_image_due(void *data)
{
}

static void on_custody(void *data, const struct keeper_custody *custody, int fd)
{
	abort(); /* beside keep */
}

static void on_release(void *data, const struct keeper_custody *custody)
{
	abort();
}

static void on_memory_done(void *data, uint32_t serial)
{
	struct bench *b = data;
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

/* An image of one section with these bytes. */
static int load(struct bench *b, const uint8_t *bytes, size_t size)
{
	cleanup_close int fd = memfd_create("image", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct state_section section;
	struct state_writer *w;
	struct state_reader *r;

	if (!size)
		return vhost_user_load(b->vu, NULL);
	if (state_writer_create(STATE_IMAGE, fd, &w))
		abort();
	state_begin(w, STATE_CONNECTION);
	state_put(w, bytes, size);
	state_end(w);
	if (state_finish(w))
		abort();
	state_writer_destroy(w);
	if (state_reader_create(fd, &r) || state_next(r, &section) != 1)
		abort();
	int err = vhost_user_load(b->vu, r);
	state_reader_destroy(r);
	return err;
}

/* kind, size, position, flags, then as many bytes. */
static void replay(struct bench *b, const uint8_t *bytes, size_t size)
{
	while (size >= 4) {
		size_t n = MIN((size_t)bytes[1], size - 4);
		struct journal_record record = {
			.kind = bytes[0] % JOURNAL_KIND_COUNT,
			.position = bytes[2],
			.executed = bytes[3] & 1,
			.bytes = bytes + 4,
			.size = n,
		};
		if (vhost_user_replay(b->vu, &record) < 0)
			return;
		bytes += 4 + n;
		size -= 4 + n;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bench b = {.rounds = 0};
	const struct frontend_keep keep = {&b, on_put, on_drop, on_take, on_journal, on_image_due};
	struct wire *wire;
	int pair[2];

	if (size < 4)
		return 0;
	size_t n_image = MIN((size_t)(data[0] | data[1] << 8), size - 4), n_wire = data[2];
	const uint8_t *image = data + 4, *rest = image + n_image;
	size_t left = size - 4 - n_image;
	n_wire = MIN(n_wire, left);
	log_init("fuzz", LOG_LEVEL_ERROR);
	guard_install_sigbus_handler();
	fake_device_init(&b.dev);
	if (loop_create(&b.loop) || wire_create(&b.wire_fd, &wire) ||
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair))
		abort();
	b.memory_fd = memfd_create("guest", MFD_CLOEXEC);
	if (ftruncate(b.memory_fd, MEMORY) < 0)
		abort();
	memcpy((uint8_t *)wire + sizeof(uint64_t), rest, n_wire);
	if (vhost_user_create(&b.dev, b.loop, pair[1], &bench_ops, &b, &b.vu) ||
		vhost_user_keep(b.vu, &keep, 1))
		abort();
	if (load(&b, image, n_image) == 0) {
		replay(&b, rest + n_wire, left - n_wire);
		vhost_user_thaw(b.vu);
		loop_set_idle(b.loop, bench_round, &b);
		loop_run(b.loop);
	}
	vhost_user_destroy(b.vu);
	loop_destroy(b.loop);
	wire_destroy(wire, true);
	close(pair[0]);
	close(b.memory_fd);
	close(b.wire_fd);
	return 0;
}
