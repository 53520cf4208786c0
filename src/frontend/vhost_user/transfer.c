/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer.h"

#include "session.h"

#include "base/checked.h"
#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/timerfd.h>

#define CHUNK (64u << 10)

void transfer_init(struct transfer *t, struct vhost_user *vu)
{
	*t = (struct transfer){
		.vu = vu, .pipe = -1, .file = -1, .timer_fd = -1, .result = -ENODATA};
}

static void transfer_close(struct transfer *t)
{
	loop_remove(TAKE_PTR(t->source));
	loop_remove(TAKE_PTR(t->timer_source));
	close_fd(&t->pipe);
	close_fd(&t->file);
	close_fd(&t->timer_fd);
}

void transfer_finish(struct transfer *t)
{
	transfer_close(t);
}

bool transfer_busy(const struct transfer *t)
{
	return t->pipe >= 0;
}

static void transfer_done(struct transfer *t, int result)
{
	struct vhost_user *vu = t->vu;

	if (!result && t->loading) {
		result = lseek(t->file, 0, SEEK_SET) < 0
				 ? -errno
				 : vu->ops->state_load(vu->ops_data, t->file);
	}
	t->result = result;
	transfer_close(t);
	session_wake(vu); /* a question how it went may wait */
}

/* A pipe knows no MSG_NOSIGNAL, and whoever reads it may go at any time. */
static ssize_t transfer_write(int fd, const void *bytes, size_t size)
{
	const struct sigaction ignore = {.sa_handler = SIG_IGN};
	struct sigaction was;

	if (sigaction(SIGPIPE, &ignore, &was) < 0)
		return -errno;
	ssize_t n = write(fd, bytes, size);
	int err = errno;
	(void)sigaction(SIGPIPE, &was, NULL);
	return n < 0 ? -err : n;
}

/* 1 more to do, 0 all sent, -errno. */
static int transfer_send(struct transfer *t)
{
	uint8_t bytes[CHUNK];

	if (t->at == t->size)
		return 0;
	if (lseek(t->file, (off_t)t->at, SEEK_SET) < 0)
		return -errno;
	ssize_t n = read(t->file, bytes, MIN(sizeof(bytes), t->size - t->at));
	if (n <= 0)
		return n < 0 ? -errno : -EIO;
	n = transfer_write(t->pipe, bytes, (size_t)n);
	if (n < 0)
		return n == -EAGAIN || n == -EINTR ? 1 : (int)n;
	t->at += (uint64_t)n;
	return 1;
}

static int transfer_receive(struct transfer *t)
{
	uint8_t bytes[CHUNK];
	ssize_t n = read(t->pipe, bytes, sizeof(bytes));

	if (n == 0)
		return 0;
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 1 : -errno;
	if (t->at + (uint64_t)n > TRANSFER_MAX)
		return -EFBIG;
	if (write(t->file, bytes, (size_t)n) != n)
		return -ENOSPC;
	t->at += (uint64_t)n;
	return 1;
}

static void transfer_rearm(const struct transfer *t)
{
	struct itimerspec wait = {.it_value = {.tv_sec = TRANSFER_IDLE_MS / 1000}};
	(void)timerfd_settime(t->timer_fd, 0, &wait, NULL);
}

static void transfer_on_pipe(void *data, uint32_t events)
{
	struct transfer *t = data;
	uint64_t before = t->at;

	int r = t->loading ? transfer_receive(t) : transfer_send(t);
	if (r <= 0)
		transfer_done(t, r);
	else if (t->at != before)
		transfer_rearm(t);
}

static void transfer_on_timer(void *data, uint32_t events)
{
	transfer_done(data, -ETIMEDOUT);
}

static int transfer_watch(struct transfer *t)
{
	struct loop *loop = t->vu->loop;

	t->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (t->timer_fd < 0)
		return -errno;
	transfer_rearm(t);
	int err = loop_add_fd(loop, t->timer_fd, EPOLLIN, transfer_on_timer, t, &t->timer_source);
	if (!err)
		err = loop_add_fd(loop, t->pipe, t->loading ? EPOLLIN : EPOLLOUT, transfer_on_pipe,
			t, &t->source);
	return err;
}

int transfer_begin(struct transfer *t, bool loading, int pipe)
{
	struct vhost_user *vu = t->vu;
	struct stat st;
	int err = 0;

	if (transfer_busy(t)) {
		close(pipe);
		return -EBUSY;
	}
	t->pipe = pipe;
	t->loading = loading;
	t->at = t->size = 0;
	t->result = -ENODATA;
	t->file = memfd_create("vgpu-state", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (t->file < 0 || fcntl(pipe, F_SETFL, fcntl(pipe, F_GETFL) | O_NONBLOCK) < 0)
		err = -errno;
	if (!err && !loading) {
		err = vu->ops->state_save(vu->ops_data, t->file, false);
		if (!err && fstat(t->file, &st) < 0)
			err = -errno;
		t->size = err ? 0 : (uint64_t)st.st_size;
	}
	if (!err)
		err = transfer_watch(t);
	if (err)
		transfer_close(t);
	return err;
}

int transfer_result(struct transfer *t)
{
	int result = transfer_busy(t) ? -EBUSY : t->result;

	if (result != -EBUSY)
		t->result = -ENODATA;
	return result;
}
