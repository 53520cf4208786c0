/* SPDX-License-Identifier: Apache-2.0 */
#include "base/loop.h"

#include "base/checked.h"
#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#define LOOP_BATCH 32

struct loop_source {
	struct loop *loop;
	int fd;
	bool removed;
	loop_fd_fn fn;
	void *data;
	struct loop_source *next;
};

struct loop {
	int epoll_fd;
	bool quit;
	int status;
	struct loop_source *sources;
	bool have_removed;
	loop_idle_fn idle_fn;
	void *idle_data;
	loop_fn woken_fn; /* NULL: none */
	void *woken_data;
	loop_fn timer_fn;
	void *timer_data;
	uint64_t timer_at_ms;
	uint64_t woken_ns;
};

int loop_create(struct loop **ret)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	if (!loop)
		return -ENOMEM;
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0) {
		int err = -errno;
		free(loop);
		return err;
	}
	*ret = loop;
	return 0;
}

void loop_destroy(struct loop *loop)
{
	if (!loop)
		return;
	while (loop->sources) {
		struct loop_source *source = loop->sources;
		loop->sources = source->next;
		free(source);
	}
	close(loop->epoll_fd);
	free(loop);
}

int loop_add_fd(struct loop *loop, int fd, uint32_t events, loop_fd_fn fn, void *data,
	struct loop_source **ret)
{
	struct loop_source *source = calloc(1, sizeof(*source));
	if (!source)
		return -ENOMEM;
	*source = (struct loop_source){.loop = loop, .fd = fd, .fn = fn, .data = data};
	struct epoll_event event = {.events = events, .data.ptr = source};
	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
		int err = -errno;
		free(source);
		return err;
	}
	source->next = loop->sources;
	loop->sources = source;
	if (ret)
		*ret = source;
	return 0;
}

int loop_set_events(struct loop_source *source, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = source};
	return epoll_ctl(source->loop->epoll_fd, EPOLL_CTL_MOD, source->fd, &event) < 0 ? -errno
											: 0;
}

void loop_remove(struct loop_source *source)
{
	if (!source || source->removed)
		return;
	source->removed = true;
	source->loop->have_removed = true;
	epoll_ctl(source->loop->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
}

static void loop_reap(struct loop *loop)
{
	if (!loop->have_removed)
		return;
	loop->have_removed = false;
	for (struct loop_source **at = &loop->sources; *at;) {
		struct loop_source *source = *at;
		if (source->removed) {
			*at = source->next;
			free(source);
		} else {
			at = &source->next;
		}
	}
}

void loop_set_idle(struct loop *loop, loop_idle_fn fn, void *data)
{
	loop->idle_fn = fn;
	loop->idle_data = data;
}

void loop_set_woken(struct loop *loop, loop_fn fn, void *data)
{
	loop->woken_fn = fn;
	loop->woken_data = data;
}

static void loop_run_woken(struct loop *loop)
{
	loop_fn fn = loop->woken_fn;

	loop->woken_fn = NULL;
	if (fn)
		fn(loop->woken_data);
}

void loop_set_timer(struct loop *loop, uint64_t delay_ms, loop_fn fn, void *data)
{
	loop->timer_fn = fn;
	loop->timer_data = data;
	loop->timer_at_ms = clock_ms() + delay_ms;
}

static int loop_timeout(const struct loop *loop)
{
	if (!loop->timer_fn)
		return -1;
	uint64_t now = clock_ms();
	if (now >= loop->timer_at_ms)
		return 0;
	return (int)MIN(loop->timer_at_ms - now, 3600000u);
}

static void loop_run_timer(struct loop *loop)
{
	if (!loop->timer_fn || clock_ms() < loop->timer_at_ms)
		return;
	loop_run_woken(loop);
	loop_fn fn = loop->timer_fn;
	loop->timer_fn = NULL;
	if (fn)
		fn(loop->timer_data);
}

int loop_run(struct loop *loop)
{
	struct epoll_event events[LOOP_BATCH];

	while (!loop->quit) {
		bool more = loop->idle_fn && loop->idle_fn(loop->idle_data);
		if (loop->quit)
			break;
		int n = epoll_wait(
			loop->epoll_fd, events, LOOP_BATCH, more ? 0 : loop_timeout(loop));
		if (n < 0 && errno != EINTR)
			return -errno;
		loop->woken_ns = clock_ns();
		if (more)
			loop_run_woken(loop);
		for (int i = 0; i < n; i++) {
			struct loop_source *source = events[i].data.ptr;
			/* Before each: one of this batch may have asked for it. */
			loop_run_woken(loop);
			if (!source->removed)
				source->fn(source->data, events[i].events);
		}
		loop_run_timer(loop);
		loop_reap(loop);
	}
	loop->quit = false;
	return loop->status;
}

bool loop_ready(const struct loop *loop)
{
	struct pollfd set = {.fd = loop->epoll_fd, .events = POLLIN};

	return poll(&set, 1, 0) != 0;
}

uint64_t loop_woken_ns(const struct loop *loop)
{
	return loop->woken_ns;
}

void loop_quit(struct loop *loop, int status)
{
	loop->quit = true;
	loop->status = status;
}
