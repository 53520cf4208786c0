/* SPDX-License-Identifier: Apache-2.0 */
#include "display_socket.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/fdpass.h"

#include "display_state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#define INFO_WAIT_MS 1000u /* a viewer slower than this is answered for */
#define PUMP_BUDGET  64u   /* messages sent in one go: 4 MiB of pixels */

struct display_socket {
	struct device *dev;
	struct loop *loop;
	const struct display_socket_ops *ops;
	void *ops_data;
	struct display_state state;

	int fd; /* -1: no viewer */
	struct loop_source *source;
	uint32_t events;
	bool failed; /* sending failed; noticed by the next event */

	int timer_fd;
	struct loop_source *timer_source;

	/* the conversation */
	bool ask_features, tell_features, ask_info; /* to be sent */
	bool features_asked, info_asked;            /* sent, not answered */
	bool info_waiting;                          /* somebody waits for the answer */
	bool info_overdue;                          /* the viewer was too slow once */
	uint64_t features;

	uint8_t in[VHOST_USER_GPU_HEADER_SIZE + VHOST_USER_GPU_MAX_REPLY];
	size_t got;
	uint8_t out[DISPLAY_MESSAGE_MAX];
	size_t out_len, out_sent;
	int out_fd;
};

static void info_finish(struct display_socket *s)
{
	struct itimerspec off = {0};

	if (!s->info_waiting)
		return;
	s->info_waiting = false;
	(void)timerfd_settime(s->timer_fd, 0, &off, NULL);
	s->ops->info_ready(s->ops_data);
}

void display_socket_abandon_info(struct display_socket *s)
{
	info_finish(s);
}

void display_socket_detach(struct display_socket *s)
{
	if (s->fd < 0)
		return;
	loop_remove(TAKE_PTR(s->source));
	close_fd(&s->fd);
	close_fd(&s->out_fd);
	s->out_len = s->out_sent = s->got = 0;
	s->failed = s->features_asked = s->info_asked = s->info_overdue = false;
	s->ask_features = s->tell_features = s->ask_info = false;
	display_state_forget(&s->state);
	info_finish(s);
}

static void socket_drop(struct display_socket *s, const char *reason)
{
	display_socket_detach(s);
	s->ops->detached(s->ops_data, reason);
}

/* ---- sending ---- */

static size_t next_conversation(struct display_socket *s)
{
	uint64_t features = s->features;

	if (s->ask_features) {
		s->ask_features = false;
		s->features_asked = true;
		return display_message(s->out, VHOST_USER_GPU_GET_PROTOCOL_FEATURES, NULL, 0);
	}
	if (s->tell_features) {
		s->tell_features = false;
		return display_message(
			s->out, VHOST_USER_GPU_SET_PROTOCOL_FEATURES, &features, sizeof(features));
	}
	if (s->ask_info) {
		s->ask_info = false;
		s->info_asked = true;
		return display_message(s->out, VHOST_USER_GPU_GET_DISPLAY_INFO, NULL, 0);
	}
	return 0;
}

/* Makes the next message; false when there is nothing to say. */
static bool socket_next(struct display_socket *s)
{
	int fd = -1;

	s->out_sent = 0;
	s->out_len = next_conversation(s);
	if (!s->out_len)
		s->out_len = display_next_message(&s->state, s->out, &fd);
	if (fd >= 0)
		s->out_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return s->out_len != 0;
}

static void socket_watch(struct display_socket *s, uint32_t events)
{
	if (s->events != events && !loop_set_events(s->source, events))
		s->events = events;
}

/* Sends as much as the socket takes. Called from inside the device: fails only later. */
static void socket_pump(struct display_socket *s)
{
	unsigned budget = PUMP_BUDGET;

	if (s->fd < 0 || s->failed)
		return;
	while (budget) {
		if (s->out_sent == s->out_len) {
			s->out_len = s->out_sent = 0;
			if (!socket_next(s))
				break;
			budget--;
		}
		ssize_t n = fdpass_send(s->fd, s->out + s->out_sent, s->out_len - s->out_sent,
			&s->out_fd, s->out_fd >= 0 ? 1 : 0);
		if (n < 0) {
			s->failed = n != -EAGAIN;
			break;
		}
		close_fd(&s->out_fd);
		s->out_sent += (size_t)n;
	}
	bool more = !budget || s->out_sent < s->out_len || s->failed;
	socket_watch(s, EPOLLIN | (more ? EPOLLOUT : 0u));
}

/* ---- receiving ---- */

static const uint32_t reply_sizes[VHOST_USER_GPU_REQUEST_LIMIT] = {
#define X(name, id, reply) [id] = (reply),
	VHOST_USER_GPU_MESSAGES(X)
#undef X
};

static void on_features(struct display_socket *s, const uint8_t *payload)
{
	uint64_t offered;

	memcpy(&offered, payload, sizeof(offered));
	s->features = offered & (1ull << VHOST_USER_GPU_PROTOCOL_DMABUF2);
	s->state.dmabuf2 = s->features != 0;
	s->tell_features = true;
}

static void on_info(struct display_socket *s, const uint8_t *payload)
{
	struct vhost_user_gpu_display_info info;
	uint32_t heads = MIN(device_heads(s->dev), VHOST_USER_GPU_SCANOUTS);

	memcpy(&info, payload, sizeof(info));
	for (uint32_t i = 0; i < heads; i++) {
		struct display_mode mode = {
			.enabled = info.mode[i].enabled != 0,
			.width = info.mode[i].width,
			.height = info.mode[i].height,
		};
		bool sane = mode.width && mode.height && mode.width <= DISPLAY_MAX_SIDE &&
			    mode.height <= DISPLAY_MAX_SIDE;
		if (sane || !mode.enabled)
			device_set_preferred_mode(s->dev, i, &mode);
	}
	s->info_overdue = false;
	info_finish(s);
}

/* An answer nobody asked for is an error, like one of the wrong size. */
static const char *socket_handle(struct display_socket *s, uint32_t request, const uint8_t *payload)
{
	if (request == VHOST_USER_GPU_GET_PROTOCOL_FEATURES && s->features_asked) {
		s->features_asked = false;
		on_features(s, payload);
	} else if (request == VHOST_USER_GPU_GET_DISPLAY_INFO && s->info_asked) {
		s->info_asked = false;
		on_info(s, payload);
	} else if (request == VHOST_USER_GPU_DMABUF_UPDATE && s->state.dmabuf_waiting) {
		s->state.dmabuf_waiting = false;
	} else {
		return "the viewer answered what was not asked";
	}
	return NULL;
}

/* Bytes of the message being received that are known to belong to it; 0 when it is malformed. */
static size_t socket_expected(const struct display_socket *s)
{
	uint32_t header[3];

	if (s->got < VHOST_USER_GPU_HEADER_SIZE)
		return VHOST_USER_GPU_HEADER_SIZE;
	memcpy(header, s->in, sizeof(header));
	if (header[0] >= VHOST_USER_GPU_REQUEST_LIMIT || header[1] != VHOST_USER_GPU_FLAG_REPLY ||
		header[2] > VHOST_USER_GPU_MAX_REPLY || header[2] != reply_sizes[header[0]])
		return 0;
	return VHOST_USER_GPU_HEADER_SIZE + header[2];
}

/* Reads and handles at most one answer: NULL to go on, or why the viewer is dropped. */
static const char *socket_receive(struct display_socket *s, bool *ret_again)
{
	uint32_t request;
	struct fdpass_fds fds;
	size_t end = socket_expected(s);

	*ret_again = false;
	ssize_t n = fdpass_recv(s->fd, s->in + s->got, end - s->got, MSG_DONTWAIT, &fds);
	bool has_fds = n >= 0 && fds.count;
	fdpass_close(&fds);
	if (n == -EAGAIN)
		return NULL;
	if (n <= 0)
		return n == 0 ? "" : "the viewer's socket failed";
	if (has_fds)
		return "the viewer sent file descriptors";
	*ret_again = true;
	s->got += (size_t)n;
	end = socket_expected(s);
	if (!end)
		return "the viewer sent a malformed answer";
	if (s->got < end)
		return NULL;
	s->got = 0;
	memcpy(&request, s->in, sizeof(request));
	return socket_handle(s, request, s->in + VHOST_USER_GPU_HEADER_SIZE);
}

static void socket_on_event(void *data, uint32_t events)
{
	struct display_socket *s = data;
	const char *reason = s->failed ? "the viewer's socket failed" : NULL;
	bool again = true;

	while (!reason && again && s->fd >= 0)
		reason = socket_receive(s, &again);
	if (reason)
		socket_drop(s, reason);
	else
		socket_pump(s);
}

static void socket_on_timer(void *data, uint32_t events)
{
	struct display_socket *s = data;
	uint64_t count;

	if (read(s->timer_fd, &count, sizeof(count)) < 0)
		return;
	s->info_overdue = true;
	info_finish(s);
}

bool display_socket_query_info(struct display_socket *s)
{
	struct itimerspec wait = {.it_value = {.tv_sec = INFO_WAIT_MS / 1000}};

	if (s->fd < 0 || s->failed || s->info_overdue)
		return false;
	if (s->info_waiting)
		return true;
	if (timerfd_settime(s->timer_fd, 0, &wait, NULL) < 0)
		return false;
	s->info_waiting = true;
	s->ask_info = !s->info_asked;
	socket_pump(s);
	return true;
}

/* ---- the device's display ---- */

static void display_on_mode(void *data, uint32_t head, uint32_t width, uint32_t height)
{
	struct display_socket *s = data;
	display_state_mode(&s->state, head, width, height);
	socket_pump(s);
}

static void display_on_update(void *data, uint32_t head, const struct display_rect *rect,
	const uint8_t *pixels, uint32_t stride)
{
	struct display_socket *s = data;
	display_state_update(&s->state, head, rect, pixels, stride);
	socket_pump(s);
}

static void display_on_cursor(
	void *data, const struct display_cursor *cursor, const uint32_t *image)
{
	struct display_socket *s = data;
	display_state_cursor(&s->state, cursor, image);
	socket_pump(s);
}

static bool display_on_dmabuf(void *data, uint32_t head, const struct display_dmabuf *buf)
{
	struct display_socket *s = data;
	if (s->fd < 0 || !display_state_dmabuf(&s->state, head, buf))
		return false;
	socket_pump(s);
	return true;
}

static bool display_on_dmabuf_update(void *data, uint32_t head, const struct display_rect *rect)
{
	struct display_socket *s = data;
	if (s->fd < 0 || !display_state_dmabuf_update(&s->state, head, rect))
		return false;
	socket_pump(s);
	return true;
}

static const struct display_ops socket_display_ops = {
	.mode = display_on_mode,
	.update = display_on_update,
	.cursor = display_on_cursor,
	.dmabuf = display_on_dmabuf,
	.dmabuf_update = display_on_dmabuf_update,
};

int display_socket_create(struct device *dev, struct loop *loop,
	const struct display_socket_ops *ops, void *data, struct display_socket **ret)
{
	struct display_socket *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return -ENOMEM;
	*s = (struct display_socket){
		.dev = dev, .loop = loop, .ops = ops, .ops_data = data, .fd = -1, .out_fd = -1};
	display_state_init(&s->state);
	s->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (s->timer_fd < 0) {
		err = -errno;
		goto fail_free;
	}
	err = loop_add_fd(loop, s->timer_fd, EPOLLIN, socket_on_timer, s, &s->timer_source);
	if (err)
		goto fail_timer;
	err = device_add_display(dev, &socket_display_ops, s);
	if (err)
		goto fail_source;
	*ret = s;
	return 0;

fail_source:
	loop_remove(s->timer_source);
fail_timer:
	close_fd(&s->timer_fd);
fail_free:
	free(s);
	return err;
}

void display_socket_destroy(struct display_socket *s)
{
	if (!s)
		return;
	device_remove_display(s->dev, s);
	s->info_waiting = false;
	display_socket_detach(s);
	loop_remove(s->timer_source);
	close_fd(&s->timer_fd);
	display_state_finish(&s->state);
	free(s);
}

int display_socket_attach(struct display_socket *s, int fd)
{
	display_socket_detach(s);
	(void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	int err = loop_add_fd(s->loop, fd, EPOLLIN, socket_on_event, s, &s->source);
	if (err) {
		close(fd);
		return err;
	}
	s->fd = fd;
	s->events = EPOLLIN;
	s->ask_features = true;
	display_state_forget(&s->state);
	socket_pump(s);
	return 0;
}
