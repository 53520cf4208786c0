/* SPDX-License-Identifier: Apache-2.0 */
#include "control/child.h"

#include "base/checked.h"
#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define FIRST_ROOM 4096u

struct child {
	struct children *children;
	sd_event_source *io, *timer, *end; /* end: of the process */
	int fd, pidfd;
	pid_t pid;
	char *output;
	size_t len, room;
	child_done done; /* NULL: it was called */
	void *data;
};

/* Calls `done`, once. The process is ended, if it still runs. */
static void child_finish(struct child *child, bool complete)
{
	child_done done = child->done;
	json_t *result = NULL;

	if (!done)
		return;
	child->done = NULL;
	if (complete && child->len)
		result = json_loadb(child->output, child->len, 0, NULL);
	child->io = sd_event_source_disable_unref(child->io);
	child->timer = sd_event_source_disable_unref(child->timer);
	close_fd(&child->fd);
	kill(child->pid, SIGKILL); /* not waited for yet, so still its pid */
	sd_event_source_set_enabled(child->end, SD_EVENT_ON);
	done(child->data, result);
}

static int on_end(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct child *child = data;

	waitpid(child->pid, NULL, 0);
	child->children->running--;
	sd_event_source_disable_unref(child->end);
	close_fd(&child->pidfd);
	free(child->output);
	free(child);
	return 0;
}

/* More room, or false: it says too much. */
static bool child_grow(struct child *child)
{
	size_t more = MAX(child->room * 2, (size_t)FIRST_ROOM);
	char *grown = more <= CHILD_OUTPUT_MAX ? realloc(child->output, more) : NULL;

	if (!grown)
		return false;
	child->output = grown;
	child->room = more;
	return true;
}

static int on_output(sd_event_source *source, int fd, uint32_t events, void *data)
{
	struct child *child = data;

	if (child->len == child->room && !child_grow(child)) {
		child_finish(child, false);
		return 0;
	}
	ssize_t n = read(fd, child->output + child->len, child->room - child->len);
	if (n > 0)
		child->len += (size_t)n;
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		child_finish(child, n == 0);
	return 0;
}

static int on_timeout(sd_event_source *source, uint64_t usec, void *data)
{
	child_finish(data, false);
	return 0;
}

static _Noreturn void child_main(pid_t parent, int fd, child_work work, const void *data)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		_exit(1);
	/* It may outlive vgpud in a driver that hangs: with nothing of vgpud's, above all no lock.
	 */
	if (fd > 3)
		close_range(3, (unsigned)fd - 1, 0);
	close_range((unsigned)fd + 1, UINT_MAX, 0);
	json_t *json = work(data);
	char *text = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);
	size_t len = text ? strlen(text) : 0;
	while (len) {
		ssize_t n = write(fd, text, len);
		if (n < 0)
			_exit(1);
		text += n;
		len -= (size_t)n;
	}
	/* What it started may go on and still have this: a request that the kernel keeps. */
	shutdown(fd, SHUT_RDWR);
	_exit(0);
}

static int child_watch(struct child *child, sd_event *event, uint32_t limit_ms)
{
	child->pidfd = (int)syscall(SYS_pidfd_open, child->pid, 0);
	if (child->pidfd < 0)
		return -errno;
	int r = sd_event_add_io(event, &child->end, child->pidfd, EPOLLIN, on_end, child);
	if (r >= 0)
		r = sd_event_add_io(event, &child->io, child->fd, EPOLLIN, on_output, child);
	if (r >= 0)
		r = sd_event_add_time_relative(event, &child->timer, CLOCK_MONOTONIC,
			limit_ms * 1000ull, 0, on_timeout, child);
	/* Its end is no news until what it wrote has been read. */
	return r >= 0 ? sd_event_source_set_enabled(child->end, SD_EVENT_OFF) : r;
}

static void child_abandon(struct child *child)
{
	if (child->pid > 0) {
		kill(child->pid, SIGKILL);
		waitpid(child->pid, NULL, 0);
	}
	sd_event_source_disable_unref(child->end);
	sd_event_source_disable_unref(child->io);
	close_fd(&child->pidfd);
	close_fd(&child->fd);
	free(child);
}

int child_start(struct children *children, sd_event *event, child_work work, const void *work_data,
	uint32_t limit_ms, child_done done, void *done_data)
{
	int ends[2];

	if (children->running >= CHILDREN_MAX)
		return -EAGAIN;
	struct child *child = calloc(1, sizeof(*child));
	if (!child)
		return -ENOMEM;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) {
		int r = -errno;
		free(child);
		return r;
	}
	*child = (struct child){
		.children = children, .fd = ends[0], .pidfd = -1, .done = done, .data = done_data};
	pid_t parent = getpid();
	child->pid = fork();
	if (child->pid == 0)
		child_main(parent, ends[1], work, work_data);
	int r = child->pid < 0 ? -errno : 0;
	close(ends[1]);
	if (r == 0)
		r = child_watch(child, event, limit_ms);
	if (r < 0) {
		child_abandon(child);
		return r;
	}
	children->running++;
	return 0;
}
