/* SPDX-License-Identifier: Apache-2.0 */
#include "life.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/durable.h"
#include "state/section.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define ROUNDS 2u

/* ---- places to die at ---- */

#define WRAP(type, name, parameters, arguments)                                                    \
	type __real_##name parameters;                                                             \
	type __wrap_##name parameters;                                                             \
	type __wrap_##name parameters                                                              \
	{                                                                                          \
		life_point();                                                                      \
		type ret = __real_##name arguments;                                                \
		life_point();                                                                      \
		return ret;                                                                        \
	}

#define WRAP_VOID(name, parameters, arguments)                                                     \
	void __real_##name parameters;                                                             \
	void __wrap_##name parameters;                                                             \
	void __wrap_##name parameters                                                              \
	{                                                                                          \
		life_point();                                                                      \
		__real_##name arguments;                                                           \
		life_point();                                                                      \
	}

struct vhost_user_inflight_queue;

WRAP(ssize_t, durable_recv,
	(struct durable * d, int socket, void *buf, size_t len, struct fdpass_fds *fds),
	(d, socket, buf, len, fds))
WRAP(ssize_t, durable_send, (struct durable * d, int socket, const void *buf, size_t len, int fd),
	(d, socket, buf, len, fd))
WRAP(int, journal_record,
	(struct journal * j, enum journal_kind kind, uint32_t source, uint64_t position,
		const struct iovec *parts, unsigned n),
	(j, kind, source, position, parts, n))
WRAP(const void *, journal_payload,
	(struct journal * j, const struct iovec *iov, unsigned n, uint64_t at, size_t size),
	(j, iov, n, at, size))
WRAP_VOID(journal_executed, (struct journal * j), (j))
WRAP_VOID(inflight_take, (struct vhost_user_inflight_queue * q, uint16_t head, uint64_t counter),
	(q, head, counter))
WRAP_VOID(inflight_return_begin, (struct vhost_user_inflight_queue * q, uint16_t head), (q, head))
WRAP_VOID(inflight_return_end, (struct vhost_user_inflight_queue * q, uint16_t head, uint16_t used),
	(q, head, used))
WRAP_VOID(virtqueue_push, (struct virtqueue * vq, uint16_t head, uint32_t written),
	(vq, head, written))
WRAP_VOID(virtio_gpu_request,
	(struct virtio_gpu * gpu, enum virtio_gpu_queue queue, struct virtio_gpu_request *request),
	(gpu, queue, request))
WRAP_VOID(virtio_gpu_reset, (struct virtio_gpu * gpu), (gpu))

/* ---- the keeper's part ---- */

struct life_entry *life_find(struct life *l, const struct keeper_custody *what)
{
	bool numbered = what->kind == KEEPER_CUSTODY_REGION;

	for (unsigned i = 0; i < LIFE_CUSTODY; i++) {
		struct life_entry *e = &l->custody[i];
		if (e->fd >= 0 && e->what.kind == what->kind && e->what.index == what->index &&
			(!numbered || e->what.a == what->a))
			return e;
	}
	return NULL;
}

unsigned life_count(const struct life *l, uint32_t kind)
{
	unsigned n = 0;

	for (unsigned i = 0; i < LIFE_CUSTODY; i++)
		n += l->custody[i].fd >= 0 && l->custody[i].what.kind == kind;
	return n;
}

static void keep_drop(void *data, const struct keeper_custody *what)
{
	struct process *p = data;

	life_point();
	struct life_entry *e = life_find(p->life, what);
	if (e)
		close_fd(&e->fd);
	life_point();
}

static int keep_put(void *data, const struct keeper_custody *what, int fd)
{
	struct process *p = data;

	life_point();
	struct life_entry *e = life_find(p->life, what);
	for (unsigned i = 0; !e; i++) {
		assert_true(i < LIFE_CUSTODY);
		e = p->life->custody[i].fd < 0 ? &p->life->custody[i] : NULL;
	}
	close_fd(&e->fd);
	*e = (struct life_entry){.what = *what, .fd = fcntl(fd, F_DUPFD_CLOEXEC, 0)};
	assert_true(e->fd >= 0);
	life_point();
	return 0;
}

static int keep_take(void *data, struct keeper_custody *what)
{
	struct process *p = data;
	struct life_entry *e = life_find(p->life, what);

	if (!e || p->live)
		return -ENOENT;
	*what = e->what;
	return fcntl(e->fd, F_DUPFD_CLOEXEC, 0);
}

static struct journal *keep_journal(void *data)
{
	return ((struct process *)data)->journal;
}

static void keep_image_due(void *data)
{
	((struct process *)data)->image_wanted = true;
}

/* ---- the process' part ---- */

static void on_custody(void *data, const struct keeper_custody *custody, int fd)
{
	fail_msg("custody beside keep");
}

static void on_release(void *data, const struct keeper_custody *custody)
{
	fail_msg("custody beside keep");
}

static void on_memory_done(void *data, uint32_t serial)
{
	struct process *p = data;

	life_point();
	p->life->asked++;
	if (!p->life->verdicts_wait)
		vhost_user_memory_verdict(p->vu, serial, !p->life->refuse_memory, "taken");
	life_point();
}

static void on_closed(void *data, const char *reason)
{
	struct process *p = data;

	p->life->front.closed = true;
	snprintf(p->life->front.reason, sizeof(p->life->front.reason), "%s", reason);
	vhost_user_destroy(TAKE_PTR(p->vu));
}

static const struct vhost_user_ops life_ops = {
	.custody = on_custody,
	.release = on_release,
	.memory_done = on_memory_done,
	.closed = on_closed,
};

static void put_slot(struct process *p, uint32_t kind, unsigned slot, int fd)
{
	const struct keeper_custody what = {.kind = kind, .index = slot};
	keep_put(p, &what, fd);
}

static int begin_journal(struct process *p, unsigned slot, struct journal **ret)
{
	cleanup_close int fd = -1;

	*ret = NULL;
	if (p->life->move)
		return 0;
	int err = journal_create(p->life->limit, &fd, ret);
	if (!err)
		put_slot(p, KEEPER_CUSTODY_JOURNAL, slot, fd);
	return err;
}

static int write_image(struct process *p, int fd)
{
	struct state_writer *w;
	int err = state_writer_create(STATE_IMAGE, fd, &w);

	if (err)
		return err;
	state_begin(w, STATE_CONNECTION);
	vhost_user_save(p->vu, w);
	state_end(w);
	err = state_finish(w);
	state_writer_destroy(w);
	return err;
}

int process_image(struct process *p)
{
	struct life *l = p->life;
	unsigned slot = (l->current >> 16) & 1;
	struct journal *next, *old = p->journal;
	cleanup_close int fd = memfd_create("image", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	vhost_user_freeze(p->vu);
	fake_release(&p->dev, UINT32_MAX);
	int err = write_image(p, fd);
	if (!err)
		err = begin_journal(p, slot, &next);
	if (!err) {
		put_slot(p, KEEPER_CUSTODY_IMAGE, slot, fd);
		life_point();
		l->current = ((l->current >> 16) + 1) << 16 | slot << 8 | slot;
		life_point();
		p->journal = next;
		journal_destroy(old);
		l->images++;
	}
	if (!l->move)
		vhost_user_thaw(p->vu);
	p->image_wanted = false;
	return err;
}

static int read_image(struct process *p, unsigned slot)
{
	struct keeper_custody what = {.kind = KEEPER_CUSTODY_IMAGE, .index = slot};
	cleanup_close int fd = keep_take(p, &what);
	struct state_section section;
	struct state_reader *r;

	int err = state_reader_create(fd, &r);
	if (err)
		return err;
	err = state_next(r, &section) == 1 && section.type == STATE_CONNECTION ? 0 : -EBADMSG;
	if (!err)
		err = vhost_user_load(p->vu, r);
	state_reader_destroy(r);
	return err;
}

static int replay(struct process *p, unsigned slot)
{
	struct keeper_custody what = {.kind = KEEPER_CUSTODY_JOURNAL, .index = slot};
	cleanup_close int fd = keep_take(p, &what);
	struct journal_record record;
	int r;

	int err = journal_open(fd, p->life->limit, &p->journal);
	while (!err && (r = journal_next(p->journal, &record))) {
		err = r < 0 ? r : vhost_user_replay(p->vu, &record);
		p->life->records++;
	}
	return err;
}

static int resume(struct process *p)
{
	unsigned journal = p->life->current & 0xff, image = p->life->current >> 8 & 0xff;
	int err = image == KEEPER_NO_IMAGE ? vhost_user_load(p->vu, NULL) : read_image(p, image);

	if (!err && !p->life->move)
		err = replay(p, journal);
	p->live = true;
	if (!err)
		vhost_user_thaw(p->vu);
	return err;
}

int process_start(struct life *l, struct process *p)
{
	*p = (struct process){.life = l, .number = ++l->processes};
	p->keep = (struct frontend_keep){
		p, keep_put, keep_drop, keep_take, keep_journal, keep_image_due};
	fake_device_init(&p->dev);
	p->dev.remember = true;
	p->dev.hold = l->hold;
	p->dev.ask_info = l->ask_info;
	if (l->shown) {
		p->dev.screen = l->screen;
		p->dev.screen_width = LIFE_SCREEN_W;
		p->dev.screen_height = LIFE_SCREEN_H;
	}
	assert_int_equal(loop_create(&p->loop), 0);
	int err = vhost_user_create(
		&p->dev, p->loop, fcntl(l->socket, F_DUPFD_CLOEXEC, 0), &life_ops, p, &p->vu);
	if (!err)
		err = vhost_user_keep(p->vu, &p->keep, LIFE_CONNECTION);
	if (err)
		return err;
	if (l->current)
		return resume(p);
	err = begin_journal(p, 0, &p->journal);
	l->current = 1ull << 16 | KEEPER_NO_IMAGE << 8;
	return err;
}

/* ---- turns ---- */

static void life_paint(struct process *p)
{
	struct life *l = p->life;
	const struct display_rect all = {0, 0, LIFE_SCREEN_W, LIFE_SCREEN_H};

	if (!l->paint || !p->dev.display)
		return;
	l->paint = false;
	l->shown = true;
	p->dev.display->mode(p->dev.display_data, 0, all.w, all.h);
	p->dev.display->update(p->dev.display_data, 0, &all, l->screen, all.w * 4);
}

static bool life_round(void *data)
{
	struct process *p = data;
	if (p->rounds++ >= ROUNDS)
		loop_quit(p->loop, 0);
	return true;
}

static bool life_chance(struct life *l)
{
	l->random = l->random * 1664525u + 1013904223u;
	return (l->random >> 16) % 11 == 0;
}

void life_turn(struct front *f)
{
	struct life *l = container_of(f, struct life, front);

	l->turns++;
	if (!l->process) {
		struct process *next = calloc(1, sizeof(*next));
		int err = process_start(l, next);
		if (err)
			life_failed(err);
		l->process = next;
	}
	struct process *p = l->process;
	for (unsigned i = 0; i < 3 && p->vu; i++) {
		p->rounds = 0;
		loop_set_idle(p->loop, life_round, p);
		assert_int_equal(loop_run(p->loop), 0);
		life_paint(p);
		if (l->hold)
			fake_release(&p->dev, 1);
		bool image = p->image_wanted || (l->random && life_chance(l));
		if (p->vu && image)
			assert_int_equal(process_image(p), 0);
	}
}

void life_init(struct life *l)
{
	int pair[2];

	*l = (struct life){.limit = 1u << 20};
	for (unsigned i = 0; i < LIFE_CUSTODY; i++)
		l->custody[i].fd = -1;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	l->front.socket = pair[0];
	l->socket = pair[1];
	front_make_guest(&l->front);
	l->front.turn = life_turn;
	l->screen = malloc(LIFE_SCREEN_W * LIFE_SCREEN_H * 4);
	for (size_t i = 0; i < LIFE_SCREEN_W * LIFE_SCREEN_H * 4; i++)
		l->screen[i] = (uint8_t)(i * 7 + i / 251);
}
