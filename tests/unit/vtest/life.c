/* SPDX-License-Identifier: Apache-2.0 */
#include "life.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "state/section.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- places to die at ---- */

ssize_t __real_durable_recv(
	struct durable *d, int socket, void *buf, size_t len, struct fdpass_fds *ret_fds);
ssize_t __wrap_durable_recv(
	struct durable *d, int socket, void *buf, size_t len, struct fdpass_fds *ret_fds);
ssize_t __wrap_durable_recv(
	struct durable *d, int socket, void *buf, size_t len, struct fdpass_fds *fds)
{
	life_point();
	ssize_t n = __real_durable_recv(d, socket, buf, len, fds);
	life_point();
	return n;
}

ssize_t __real_durable_send(
	struct durable *d, int socket, const void *buf, size_t len, int passed_fd);
ssize_t __wrap_durable_send(
	struct durable *d, int socket, const void *buf, size_t len, int passed_fd);
ssize_t __wrap_durable_send(struct durable *d, int socket, const void *buf, size_t len, int fd)
{
	life_point();
	ssize_t n = __real_durable_send(d, socket, buf, len, fd);
	life_point();
	return n;
}

int __real_journal_record(struct journal *j, enum journal_kind kind, uint32_t source,
	uint64_t position, const struct iovec *parts, unsigned n_parts);
int __wrap_journal_record(struct journal *j, enum journal_kind kind, uint32_t source,
	uint64_t position, const struct iovec *parts, unsigned n_parts);
int __wrap_journal_record(struct journal *j, enum journal_kind kind, uint32_t source,
	uint64_t position, const struct iovec *parts, unsigned n)
{
	life_point();
	int err = __real_journal_record(j, kind, source, position, parts, n);
	life_point();
	return err;
}

void __real_journal_executed(struct journal *j);
void __wrap_journal_executed(struct journal *j);
void __wrap_journal_executed(struct journal *j)
{
	life_point();
	__real_journal_executed(j);
	life_point();
}

const void *__real_journal_payload(
	struct journal *j, const struct iovec *iov, unsigned n_iov, uint64_t at, size_t size);
const void *__wrap_journal_payload(
	struct journal *j, const struct iovec *iov, unsigned n_iov, uint64_t at, size_t size);
const void *__wrap_journal_payload(
	struct journal *j, const struct iovec *iov, unsigned n, uint64_t at, size_t size)
{
	life_point();
	const void *copy = __real_journal_payload(j, iov, n, at, size);
	life_point();
	return copy;
}

/* ---- the keeper's part ---- */

void life_init(struct life *life, int socket)
{
	*life = (struct life){.socket = socket, .channel = -1, .limit = LIFE_JOURNAL_MAX};
	for (unsigned i = 0; i < LIFE_CUSTODY; i++)
		life->custody[i].fd = -1;
	life->anchor = mmap(NULL, sizeof(*life->anchor), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (life->anchor == MAP_FAILED)
		abort();
}

struct life_entry *life_find(struct life *life, const struct keeper_custody *what)
{
	bool numbered = what->kind == KEEPER_CUSTODY_SHARED || what->kind == KEEPER_CUSTODY_EVENT;

	for (unsigned i = 0; i < LIFE_CUSTODY; i++) {
		struct life_entry *e = &life->custody[i];
		if (e->fd >= 0 && e->what.kind == what->kind && e->what.index == what->index &&
			(!numbered || e->what.a == what->a))
			return e;
	}
	return NULL;
}

void life_drop(struct life *life, const struct keeper_custody *what)
{
	struct life_entry *e = life_find(life, what);

	if (e)
		close_fd(&e->fd);
}

void life_put(struct life *life, const struct keeper_custody *what, int fd)
{
	life_drop(life, what);
	for (unsigned i = 0; i < LIFE_CUSTODY; i++) {
		if (life->custody[i].fd >= 0)
			continue;
		life->custody[i].what = *what;
		life->custody[i].fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		return;
	}
	abort();
}

unsigned life_count(const struct life *life, uint32_t kind)
{
	unsigned n = 0;

	for (unsigned i = 0; i < LIFE_CUSTODY; i++)
		n += life->custody[i].fd >= 0 && life->custody[i].what.kind == kind;
	return n;
}

static int keep_put(void *data, const struct keeper_custody *what, int fd)
{
	struct process *p = data;

	life_point();
	if (p->life->channel >= 0 && fdpass_send(p->life->channel, what, sizeof(*what), &fd, 1) < 0)
		return -EIO;
	life_put(p->life, what, fd);
	life_point();
	return 0;
}

static void keep_drop(void *data, const struct keeper_custody *what)
{
	struct process *p = data;

	life_point();
	if (p->life->channel >= 0)
		(void)!fdpass_send(p->life->channel, what, sizeof(*what), NULL, 0);
	life_drop(p->life, what);
	life_point();
}

static int keep_take(void *data, struct keeper_custody *what)
{
	struct process *p = data;
	const struct life_entry *e = life_find(p->life, what);

	if (!e)
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

static void on_closed(void *data, const char *reason)
{
	struct process *p = data;

	p->over = true;
	p->life->anchor->closed = true;
	snprintf(p->life->anchor->reason, VTEST_REASON_MAX, "%s", reason);
}

static void put_slot(struct process *p, uint32_t kind, uint32_t slot, int fd)
{
	const struct keeper_custody what = {.kind = kind, .index = slot};
	keep_put(p, &what, fd);
}

static int begin_journal(struct process *p, unsigned slot)
{
	cleanup_close int fd = -1;

	if (p->life->no_journal)
		return 0;
	int err = journal_create(p->life->limit, &fd, &p->journal);
	if (!err)
		put_slot(p, KEEPER_CUSTODY_JOURNAL, slot, fd);
	device_set_journal(&p->dev, p->journal);
	return err;
}

int process_image(struct process *p)
{
	struct life_anchor *anchor = p->life->anchor;
	cleanup_close int fd = memfd_create("image", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	unsigned slot = !(anchor->current & 1);
	struct state_writer *w;

	p->image_wanted = false;
	life_point();
	vtest_freeze(p->vtest);
	device_finish(p->vtest->client, 0);
	int err = state_writer_create(STATE_IMAGE, fd, &w);
	if (err)
		return err;
	state_begin(w, STATE_CLIENT);
	fake_client_save(p->vtest->client, w);
	state_end(w);
	state_begin(w, STATE_CONNECTION);
	vtest_save(p->vtest, w);
	state_end(w);
	err = state_finish(w);
	state_writer_destroy(w);
	if (err)
		return err;
	put_slot(p, KEEPER_CUSTODY_IMAGE, slot, fd);
	struct journal *old = p->journal;
	p->journal = NULL;
	err = begin_journal(p, slot);
	anchor->images++;
	anchor->current = slot | (uint64_t)slot << 8 | ((anchor->current >> 16) + 1) << 16;
	journal_destroy(old);
	life_point();
	vtest_thaw(p->vtest);
	return err;
}

static int load_image(struct process *p, int fd)
{
	struct state_reader *r;
	struct state_section section;
	int err = state_reader_create(fd, &r);

	while (!err && (err = state_next(r, &section)) == 1) {
		if (section.type == STATE_CLIENT)
			err = fake_client_load(&p->dev, r);
		else if (section.type == STATE_CONNECTION)
			err = vtest_load(p->vtest, r);
		else
			err = -EBADMSG;
	}
	if (!err && p->dev.loaded)
		err = -EBADMSG;
	state_reader_destroy(r);
	return err;
}

static int replay(struct process *p)
{
	struct journal_record record;
	int r = journal_begin_replay(p->journal, false);

	device_set_journal(&p->dev, p->journal);
	device_replay_begin(&p->dev);
	while (!r && (r = journal_next(p->journal, &record)) == 1) {
		device_replay_record(&p->dev, &record);
		journal_replaying(p->journal, &record);
		p->life->anchor->records++;
		r = 0;
		/* A connection that ends goes no further; it is closed when thawed. */
		if (p->vtest->state != VTEST_STATE_ENDED)
			(void)vtest_replay(p->vtest, &record);
	}
	if (!r)
		r = device_replay_end(&p->dev);
	journal_end_replay(p->journal);
	return r;
}

static int resume(struct process *p)
{
	struct life *life = p->life;
	uint64_t current = life->anchor->current;
	struct keeper_custody what = {.kind = KEEPER_CUSTODY_IMAGE, .index = current >> 8 & 0xff};
	int err;

	life->anchor->recoveries++;
	vtest_freeze(p->vtest);
	if (what.index == KEEPER_NO_IMAGE) {
		err = vtest_load(p->vtest, NULL);
	} else {
		cleanup_close int fd = keep_take(p, &what);
		err = load_image(p, fd);
	}
	what = (struct keeper_custody){.kind = KEEPER_CUSTODY_JOURNAL, .index = current & 0xff};
	cleanup_close int fd = keep_take(p, &what);
	if (!err && fd >= 0)
		err = journal_open(fd, life->limit, &p->journal);
	if (!err && p->journal)
		err = replay(p);
	if (!err)
		vtest_thaw(p->vtest);
	return err;
}

bool process_start(struct life *life, struct process *p)
{
	static const struct vtest_ops ops = {.closed = on_closed};
	bool fresh = !life->anchor->current;

	*p = (struct process){.life = life, .budget.max_fds = 32768};
	p->keep = (struct frontend_keep){
		p, keep_put, keep_drop, keep_take, keep_journal, keep_image_due};
	fake_device_init(&p->dev);
	p->dev.point = life_point;
	p->err = loop_create(&p->loop);
	if (!p->err && fresh)
		p->err = begin_journal(p, 0);
	if (!p->err && fresh)
		life->anchor->current = 1 << 16 | KEEPER_NO_IMAGE << 8;
	if (!p->err)
		p->err = vtest_create(&p->dev, p->loop, &p->budget,
			fcntl(life->socket, F_DUPFD_CLOEXEC, 0), "test", &ops, p, &p->vtest);
	if (!p->err)
		p->err = vtest_keep(p->vtest, &p->keep, LIFE_CONNECTION);
	if (!p->err && !fresh)
		p->err = resume(p);
	return !p->err;
}

static bool at_random(struct life *life)
{
	if (!life->seed)
		return false;
	life->seed = life->seed * 1664525u + 1013904223u;
	return (life->seed >> 24) < 24;
}

void process_step(struct process *p)
{
	if (p->over)
		return;
	vtest_event(p->vtest, EPOLLIN | EPOLLOUT);
	/* The turn may have ended with the connection. */
	p->life->anchor->history = fake_history(p->vtest->client);
	if (p->over)
		return;
	if (p->image_wanted || at_random(p->life))
		p->err = process_image(p);
}

void process_stop(struct process *p)
{
	vtest_destroy(p->vtest);
	loop_destroy(p->loop);
	journal_destroy(p->journal);
}
