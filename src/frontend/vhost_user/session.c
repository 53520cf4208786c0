/* SPDX-License-Identifier: Apache-2.0 */
#include "session.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

void session_wake(struct vhost_user *vu)
{
	uint64_t one = 1;

	if (write(vu->wake_fd, &one, sizeof(one)) < 0)
		return; /* the counter is full: it is awake */
}

static void session_on_socket(void *data, uint32_t events);

void session_unwatch(struct vhost_user *vu)
{
	loop_remove(TAKE_PTR(vu->source));
	for (unsigned i = 0; i < KEEPER_MAX_RINGS; i++)
		ring_unwatch(&vu->rings[i]);
}

int session_watch_all(struct vhost_user *vu)
{
	for (unsigned i = 0; i < KEEPER_MAX_RINGS; i++)
		(void)ring_watch(&vu->rings[i]); /* what cannot be watched never kicked */
	if (vu->source)
		return 0;
	vu->events = EPOLLIN;
	return loop_add_fd(vu->loop, vu->channel.fd, EPOLLIN, session_on_socket, vu, &vu->source);
}

void session_fail(struct vhost_user *vu, const char *format, ...)
{
	va_list args;

	if (vu->ended)
		return;
	vu->ended = true;
	va_start(args, format);
	vsnprintf(vu->reason, sizeof(vu->reason), format, args);
	va_end(args);
	session_unwatch(vu);
	session_wake(vu);
}

bool session_may_serve(struct vhost_user *vu)
{
	return !vu->ended && vu->memory_approved && !vu->frozen && !vu->paused;
}

void session_custody(
	struct vhost_user *vu, uint32_t kind, uint32_t index, const uint64_t abc[3], int fd)
{
	struct keeper_custody custody = {
		.kind = kind, .index = index, .a = abc[0], .b = abc[1], .c = abc[2]};

	if (!vu->keep) {
		vu->ops->custody(vu->ops_data, &custody, fd);
		return;
	}
	if (vu->keep->journal(vu->keep->data))
		session_claim(vu, kind, index);
	if (!vu->quiet && vu->keep->put(vu->keep->data, &custody, fd) < 0)
		session_fail(vu, "a descriptor cannot be kept");
}

void session_release(struct vhost_user *vu, uint32_t kind, uint32_t index)
{
	struct keeper_custody custody = {.kind = kind, .index = index};

	if (!vu->keep) {
		vu->ops->release(vu->ops_data, &custody);
		return;
	}
	session_unclaim(vu, kind, index);
	if (!vu->quiet)
		vu->keep->drop(vu->keep->data, &custody);
}

void session_update_timer(struct vhost_user *vu)
{
	bool need = vu->waiting && !vu->ended && !vu->frozen;
	struct itimerspec spec = {0};

	for (unsigned i = 0; i < KEEPER_MAX_RINGS; i++)
		need = need ||
		       (vu->rings[i].polled && vu->rings[i].started && !vu->ended && !vu->frozen);
	if (need == vu->timer_running)
		return;
	if (need)
		spec.it_value.tv_nsec = spec.it_interval.tv_nsec = SESSION_POLL_MS * 1000000;
	if (timerfd_settime(vu->timer_fd, 0, &spec, NULL) == 0)
		vu->timer_running = need;
}

/* ---- the socket ---- */

/* Handles what has arrived, within a budget; true when there may be more. */
static bool session_read(struct vhost_user *vu)
{
	unsigned budget = SESSION_MESSAGE_BUDGET;

	while (budget-- && !vu->ended && !vu->waiting && !vu->paused &&
		!vu_channel_busy(&vu->channel)) {
		const char *reason;
		int r = vu_channel_receive(&vu->channel, &reason);
		if (r == 0)
			return false;
		if (r < 0) {
			session_fail(vu, "%s", reason);
			return false;
		}
		session_dispatch(vu);
		if (!vu->ended && vu_channel_flush(&vu->channel) < 0)
			session_fail(vu, "%s", "");
	}
	return true;
}

/* While a reply is on its way out or a message waits, the socket is not read. */
static void session_watch(struct vhost_user *vu)
{
	if (!vu->source)
		return;
	bool deaf = vu->waiting || vu->paused;
	uint32_t events = vu_channel_busy(&vu->channel) ? (uint32_t)EPOLLOUT : deaf ? 0 : EPOLLIN;
	if (events != vu->events && !loop_set_events(vu->source, events))
		vu->events = events;
	session_update_timer(vu);
}

static void session_on_socket(void *data, uint32_t events)
{
	struct vhost_user *vu = data;

	bool unsent = vu_channel_flush(&vu->channel) < 0;
	if (unsent || ((vu->waiting || vu->paused) && events & (EPOLLHUP | EPOLLERR)))
		session_fail(vu, "%s", "");
	else
		(void)session_read(vu);
	session_watch(vu);
}

/* ---- deferred work ---- */

static bool session_serve_rings(struct vhost_user *vu)
{
	static const unsigned budgets[KEEPER_MAX_RINGS] = {
		[VIRTIO_GPU_CONTROL_QUEUE] = SESSION_RING_BUDGET,
		[VIRTIO_GPU_CURSOR_QUEUE] = SESSION_CURSOR_BUDGET,
	};
	bool more = false;

	for (unsigned i = 0; i < KEEPER_MAX_RINGS && !vu->ended; i++)
		more = ring_serve(&vu->rings[i], budgets[i]) || more;
	return more;
}

static void session_work(void *data, uint32_t events)
{
	struct vhost_user *vu = data;
	uint64_t count;

	if (read(vu->wake_fd, &count, sizeof(count)) < 0 || vu->frozen)
		return;
	if (vu->waiting && !vu->ended && !vu->paused) {
		session_dispatch(vu);
		if (!vu->ended && vu_channel_flush(&vu->channel) < 0)
			session_fail(vu, "%s", "");
	}
	bool read = vu->channel.got && !vu->ended && !vu->waiting && !vu->paused;
	if (read && session_read(vu)) /* a predecessor received it, or there was no room for it */
		session_wake(vu);
	if (session_serve_rings(vu))
		session_wake(vu);
	session_watch(vu);
	if (vu->ended && !vu->told) {
		vu->told = true;
		vu->ops->closed(vu->ops_data, vu->reason); /* may have destroyed vu */
	}
}

static void session_on_timer(void *data, uint32_t events)
{
	struct vhost_user *vu = data;
	uint64_t count;

	if (read(vu->timer_fd, &count, sizeof(count)) < 0 || vu->ended || vu->frozen)
		return;
	if (vu->waiting) {
		device_poll(vu->dev);
		if (clock_ms() > vu->wait_until_ms)
			session_fail(vu, "requests in flight did not finish in time");
	}
	for (unsigned i = 0; i < KEEPER_MAX_RINGS; i++) {
		if (vu->rings[i].polled)
			session_wake(vu);
	}
}

/* ---- what the interpreter and the display call ---- */

static int transport_translate(
	void *data, uint64_t gpa, uint64_t len, struct iovec *iov, unsigned max)
{
	struct vhost_user *vu = data;
	return guest_memory_translate(&vu->memory, gpa, len, iov, max);
}

static void transport_complete(void *data, struct virtio_gpu_request *request, uint32_t written)
{
	ring_complete(request, written);
}

static bool transport_query_display_info(void *data)
{
	struct vhost_user *vu = data;
	return !vu->loading && display_socket_query_info(vu->display);
}

static const struct virtio_gpu_transport_ops transport_ops = {
	.translate = transport_translate,
	.complete = transport_complete,
	.query_display_info = transport_query_display_info,
};

static void display_on_info(void *data)
{
	struct vhost_user *vu = data;
	virtio_gpu_display_info_ready(vu->gpu);
}

static void display_on_detached(void *data, const char *reason)
{
	struct vhost_user *vu = data;

	session_release(vu, KEEPER_CUSTODY_GPU_SOCKET, 0);
	if (*reason)
		log_limited(&vu->log_limit, LOG_LEVEL_WARNING, "display ended: %s", reason);
}

/* What a viewer wants is told to the guest: a successor must know it as well. */
static void display_on_modes(void *data, const void *bytes, size_t size)
{
	struct vhost_user *vu = data;
	const struct iovec part = {(void *)(uintptr_t)bytes, size};

	/* Without room it is forgotten by a successor, which asks again when the guest does. */
	if (vu->keep && session_record(vu, JOURNAL_DISPLAY, vu->messages, &part, 1) == 0)
		session_executed(vu);
}

static const struct display_socket_ops display_ops_here = {
	.modes = display_on_modes,
	.info_ready = display_on_info,
	.detached = display_on_detached,
};

void vhost_user_memory_verdict(struct vhost_user *vu, uint32_t serial, bool ok, const char *reason)
{
	if (vu->ended)
		return;
	if (!ok) {
		session_fail(vu, "%s", reason && *reason ? reason : "guest memory was refused");
		return;
	}
	if (serial != vu->memory_serial)
		return; /* of a table that is no longer the last one */
	vu->memory_approved = true;
	vu->memory_asked = false;
	session_wake(vu);
}

/* ---- create, destroy ---- */

static int session_open_fds(struct vhost_user *vu)
{
	vu->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	vu->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (vu->wake_fd < 0 || vu->timer_fd < 0)
		return -errno;
	int err = loop_add_fd(vu->loop, vu->wake_fd, EPOLLIN, session_work, vu, &vu->wake_source);
	if (!err)
		err = loop_add_fd(
			vu->loop, vu->timer_fd, EPOLLIN, session_on_timer, vu, &vu->timer_source);
	if (!err)
		err = loop_add_fd(
			vu->loop, vu->channel.fd, EPOLLIN, session_on_socket, vu, &vu->source);
	vu->events = EPOLLIN;
	return err;
}

int vhost_user_create(struct device *dev, struct loop *loop, int fd,
	const struct vhost_user_ops *ops, void *data, struct vhost_user **ret)
{
	cleanup_close int socket = fd;
	struct vhost_user *vu = calloc(1, sizeof(*vu));

	if (!vu)
		return -ENOMEM;
	vu->dev = dev;
	vu->loop = loop;
	vu->ops = ops;
	vu->ops_data = data;
	vu->wake_fd = vu->timer_fd = vu->reply_fd = -1;
	vu->log_limit = (struct log_limit)LOG_LIMIT_INIT;
	vu->inflight_fd = -1;
	vu->deferred_end = &vu->deferred;
	transfer_init(&vu->transfer, vu);
	guest_memory_init(&vu->memory);
	vu->wire = wire_create_private();
	vu_channel_init(&vu->channel, TAKE_FD(socket), vu->wire ? &vu->wire->socket : NULL);
	for (unsigned i = 0; i < KEEPER_MAX_RINGS; i++)
		ring_init(&vu->rings[i], vu, i);
	int err = vu->wire ? virtio_gpu_create(dev, &transport_ops, vu, &vu->gpu) : -ENOMEM;
	if (!err)
		err = display_socket_create(
			dev, loop, &vu->wire->display, &display_ops_here, vu, &vu->display);
	if (!err)
		err = session_open_fds(vu);
	if (err) {
		vhost_user_destroy(vu);
		return err;
	}
	*ret = vu;
	return 0;
}

void vhost_user_destroy(struct vhost_user *vu)
{
	if (!vu)
		return;
	vu->ended = vu->told = true; /* what completes from here on is dropped */
	vu->loading = false;
	transfer_finish(&vu->transfer);
	session_unwatch(vu);
	loop_remove(vu->wake_source);
	loop_remove(vu->timer_source);
	/* Pending requests still write to the guest: its memory goes last. */
	virtio_gpu_destroy(vu->gpu);
	display_socket_destroy(vu->display);
	ring_return_deferred(vu);
	for (unsigned i = 0; i < KEEPER_MAX_RINGS; i++)
		ring_finish(&vu->rings[i]);
	inflight_finish(&vu->inflight);
	guest_memory_finish(&vu->memory);
	vu_channel_finish(&vu->channel);
	wire_destroy(vu->wire, vu->wire_shared);
	close_fd(&vu->inflight_fd);
	close_fd(&vu->reply_fd);
	close_fd(&vu->wake_fd);
	close_fd(&vu->timer_fd);
	free(vu->scratch.iov);
	free(vu);
}
