/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A vtest connection that takes over from a hostile predecessor: the input is its wire's page, the
 * records of its journal, and its CONNECTION section. Custody gives memory for every number.
 */

#include "fake_device.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "frontend/vtest/internal.h"
#include "state/section.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define WIRE_BYTES (4096u + (576u << 10))

struct state {
	struct device dev;
	struct vtest_budget budget;
	struct vtest_wire wire;
	uint8_t how;
	bool closed;
};

static void on_closed(void *data, const char *reason)
{
	struct state *s = data;

	if (s->closed || strlen(reason) >= VTEST_REASON_MAX)
		abort();
	s->closed = true;
}

static int keep_put(void *data, const struct keeper_custody *what, int fd)
{
	return 0;
}

static void keep_drop(void *data, const struct keeper_custody *what)
{
}

static int keep_take(void *data, struct keeper_custody *what)
{
	struct state *s = data;

	if (what->kind == KEEPER_CUSTODY_EVENT)
		return what->a & 1 ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -ENOENT;
	if (what->kind == KEEPER_CUSTODY_SHARED && what->a & 1)
		return -ENOENT;
	cleanup_close int fd = memfd_create("given", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	bool wire = what->kind == KEEPER_CUSTODY_WIRE;
	if (ftruncate(fd, wire ? WIRE_BYTES : 4096) < 0 ||
		(s->how & 2 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) < 0) ||
		(wire && pwrite(fd, &s->wire, sizeof(s->wire), 0) < 0))
		return -EIO;
	return TAKE_FD(fd);
}

static struct journal *keep_journal(void *data)
{
	return NULL;
}

static void keep_image_due(void *data)
{
}

/* A section of these bytes, read as an image's; NULL: it cannot be made. */
static struct state_reader *make_section(const uint8_t *data, size_t size)
{
	cleanup_close int fd = memfd_create("image", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct state_section section;
	struct state_reader *r = NULL;
	struct state_writer *w;

	if (state_writer_create(STATE_IMAGE, fd, &w))
		return NULL;
	state_begin(w, STATE_CONNECTION);
	state_put(w, data, size);
	state_end(w);
	int err = state_finish(w);
	state_writer_destroy(w);
	if (err || state_reader_create(fd, &r))
		return NULL;
	if (state_next(r, &section) != 1)
		abort();
	return r;
}

/* {kind and whether executed, length} and bytes, each; the position follows, or is off by some. */
static void replay(struct vtest *v, const uint8_t *data, size_t size)
{
	while (size >= 3) {
		size_t n = MIN((size_t)data[1], size - 3);
		struct journal_record record = {
			.kind = data[0] % (JOURNAL_KIND_COUNT + 1),
			.executed = data[0] & 0x80,
			.position = v->in.consumed + n + (data[2] & 0x80 ? data[2] & 0x7f : 0),
			.bytes = data + 3,
			.size = n,
		};
		(void)vtest_replay(v, &record);
		data += 3 + n;
		size -= 3 + n;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct vtest_ops ops = {.closed = on_closed};
	struct state s = {.budget.max_fds = 32768};
	const struct frontend_keep keep = {
		&s, keep_put, keep_drop, keep_take, keep_journal, keep_image_due};
	struct device_client *claimed;
	struct state_reader *r = NULL;
	struct vtest *v;
	struct loop *loop;
	int pair[2];

	if (size < 3 + sizeof(s.wire) || loop_create(&loop))
		return 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		abort();
	fake_device_init(&s.dev);
	s.how = data[0];
	size_t records = MIN((size_t)(data[1] | data[2] << 8), size - 3 - sizeof(s.wire));
	memcpy(&s.wire, data + 3, sizeof(s.wire));
	data += 3 + sizeof(s.wire);
	size -= 3 + sizeof(s.wire);
	if (s.how & 1) { /* a wire that is at least one */
		s.wire.magic = 0x52495756u;
		s.wire.version = 1;
		s.wire.capacity = WIRE_BYTES - 4096;
	}
	if (vtest_create(&s.dev, loop, &s.budget, pair[1], "fuzz", &ops, &s, &v) ||
		vtest_keep(v, &keep, 1) || fake_client_loaded(&s.dev, &claimed))
		abort();
	vtest_freeze(v);
	if (s.how & 4)
		r = make_section(data + records, size - records);
	if (vtest_load(v, r) == 0) {
		replay(v, data, records);
		vtest_thaw(v);
		for (unsigned i = 0; i < 8 && !s.closed; i++)
			vtest_event(v, EPOLLIN | EPOLLOUT);
	}
	state_reader_destroy(r);
	vtest_destroy(v);
	if (s.dev.loaded)
		device_client_destroy(device_client_claim(&s.dev, device_client_id(claimed)));
	if (s.dev.clients || s.budget.fds || s.budget.mappings || s.budget.buffers)
		abort();
	close(pair[0]);
	loop_destroy(loop);
	return 0;
}
