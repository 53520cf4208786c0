/* SPDX-License-Identifier: Apache-2.0 */
#include "display_socket.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/fdpass.h"

#include "display_state.h"
#include "state/section.h"

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

	int fd;          /* -1: no viewer */
	uint64_t number; /* of the message that brought it */
	struct loop_source *source;
	uint32_t events;
	bool failed; /* sending failed; noticed by the next event */
	bool frozen, holding;

	int timer_fd;
	struct loop_source *timer_source;

	/* the conversation */
	bool ask_features, tell_features, ask_info; /* to be sent */
	bool info_waiting;                          /* somebody waits for the answer */
	bool info_overdue;                          /* the viewer was too slow once */
	uint64_t features;

	struct wire_display *wire;
	int out_fd;
};

/* ---- the wire ---- */

static uint64_t wire_load(const uint64_t *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static void wire_store(uint64_t *word, uint64_t value)
{
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
}

/* The viewer was asked and has not answered. */
static bool wire_open_question(const struct display_socket *s, uint64_t question)
{
	return (wire_load(&s->wire->out) ^ wire_load(&s->wire->in)) & question;
}

/* Bytes of the message that are not sent yet, of *ret_size. */
static size_t wire_unsent(const struct display_socket *s, size_t *ret_size)
{
	uint64_t left = (wire_load(&s->wire->out) >> WIRE_SHIFT) - durable_sent(&s->wire->durable);
	uint32_t size;

	memcpy(&size, s->wire->out_bytes + 8, sizeof(size));
	*ret_size = VHOST_USER_GPU_HEADER_SIZE + (size_t)size;
	return *ret_size <= DISPLAY_MESSAGE_MAX && left <= *ret_size ? (size_t)left : 0;
}

/* The message in out_bytes counts from here on. */
static void wire_commit(struct display_socket *s, size_t size, bool has_fd)
{
	uint64_t flags = wire_load(&s->wire->out) & (WIRE_QUESTIONS | WIRE_TOLD);
	uint64_t end = durable_sent(&s->wire->durable) + size;
	uint32_t request;

	memcpy(&request, s->wire->out_bytes, sizeof(request));
	if (request == VHOST_USER_GPU_GET_PROTOCOL_FEATURES)
		flags ^= WIRE_ASK_FEATURE;
	else if (request == VHOST_USER_GPU_SET_PROTOCOL_FEATURES)
		flags |= WIRE_TOLD;
	else if (request == VHOST_USER_GPU_GET_DISPLAY_INFO)
		flags ^= WIRE_ASK_INFO;
	else if (request == VHOST_USER_GPU_DMABUF_UPDATE)
		flags ^= WIRE_ASK_DMABUF;
	wire_store(&s->wire->out, end << WIRE_SHIFT | flags | (has_fd ? WIRE_HAS_FD : 0));
}

/* Where the bytes begin that were received and not dealt with; they are at most what fits. */
static size_t wire_got(const struct display_socket *s)
{
	uint64_t got =
		durable_received(&s->wire->durable) - (wire_load(&s->wire->in) >> WIRE_SHIFT);
	return got <= sizeof(s->wire->in_bytes) ? (size_t)got : SIZE_MAX;
}

/* The answer in in_bytes is dealt with. */
static void wire_answered(struct display_socket *s, uint64_t question)
{
	uint64_t flags = wire_load(&s->wire->in) & (WIRE_QUESTIONS | WIRE_DMABUF2);
	uint64_t end = durable_received(&s->wire->durable);

	if (s->state.dmabuf2)
		flags |= WIRE_DMABUF2;
	wire_store(&s->wire->in, end << WIRE_SHIFT | (flags ^ question));
}

/* For another viewer; 0: none. Until the last store the wire is nobody's. */
static void wire_reset(struct wire_display *wire, uint64_t number)
{
	wire_store(&wire->socket, 0);
	memset(&wire->durable, 0, sizeof(wire->durable));
	wire_store(&wire->out, 0);
	wire_store(&wire->in, 0);
	wire->shown = 0;
	wire_store(&wire->socket, number << 1);
}

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

static void detach(struct display_socket *s)
{
	if (s->fd < 0)
		return;
	loop_remove(TAKE_PTR(s->source));
	close_fd(&s->fd);
	close_fd(&s->out_fd);
	if (!s->holding)
		wire_store(&s->wire->socket, s->number << 1 | 1);
	s->failed = s->info_overdue = false;
	s->ask_features = s->tell_features = s->ask_info = false;
	display_state_forget(&s->state);
	info_finish(s);
}

static void socket_drop(struct display_socket *s, const char *reason)
{
	detach(s);
	s->ops->detached(s->ops_data, reason);
}

/* ---- sending ---- */

static size_t next_conversation(struct display_socket *s)
{
	uint64_t features = s->features;
	uint8_t *out = s->wire->out_bytes;

	if (s->ask_features) {
		s->ask_features = false;
		return display_message(out, VHOST_USER_GPU_GET_PROTOCOL_FEATURES, NULL, 0);
	}
	if (s->tell_features) {
		s->tell_features = false;
		return display_message(
			out, VHOST_USER_GPU_SET_PROTOCOL_FEATURES, &features, sizeof(features));
	}
	if (s->ask_info) {
		s->ask_info = false;
		return display_message(out, VHOST_USER_GPU_GET_DISPLAY_INFO, NULL, 0);
	}
	return 0;
}

/* Makes the next message; false when there is nothing to say. */
static bool socket_next(struct display_socket *s)
{
	int fd = -1;

	size_t size = next_conversation(s);
	if (!size)
		size = display_next_message(&s->state, s->wire->out_bytes, &fd);
	if (!size)
		return false;
	if (fd >= 0)
		s->out_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	wire_commit(s, size, s->out_fd >= 0);
	s->wire->shown = 0;
	for (unsigned i = 0; i < DISPLAY_MAX_HEADS; i++)
		s->wire->shown |= s->state.head[i].shown ? 1u << i : 0;
	return true;
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
	size_t left, size;

	if (s->fd < 0 || s->failed || s->frozen)
		return;
	while (budget) {
		left = wire_unsent(s, &size);
		if (!left) {
			if (!socket_next(s))
				break;
			budget--;
			continue;
		}
		ssize_t n = durable_send(&s->wire->durable, s->fd,
			s->wire->out_bytes + (size - left), left, s->out_fd);
		if (n < 0) {
			s->failed = n != -EAGAIN;
			break;
		}
		close_fd(&s->out_fd);
	}
	bool more = !budget || wire_unsent(s, &size) || s->failed;
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

static void modes_use(struct display_socket *s, const void *bytes)
{
	struct vhost_user_gpu_display_info info;
	uint32_t heads = MIN(device_heads(s->dev), VHOST_USER_GPU_SCANOUTS);

	memcpy(&info, bytes, sizeof(info));
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
}

static void on_info(struct display_socket *s, const uint8_t *payload)
{
	if (s->ops->modes)
		s->ops->modes(s->ops_data, payload, sizeof(struct vhost_user_gpu_display_info));
	modes_use(s, payload);
	s->info_overdue = false;
	info_finish(s);
}

int display_socket_replay_modes(struct display_socket *s, const void *bytes, size_t size)
{
	if (size != sizeof(struct vhost_user_gpu_display_info))
		return -EBADMSG;
	modes_use(s, bytes);
	return 0;
}

static void on_dmabuf_shown(struct display_socket *s, const uint8_t *payload)
{
	s->state.dmabuf_waiting = false;
}

static const struct {
	uint64_t question;
	void (*handle)(struct display_socket *s, const uint8_t *payload);
} answers[VHOST_USER_GPU_REQUEST_LIMIT] = {
	[VHOST_USER_GPU_GET_PROTOCOL_FEATURES] = {WIRE_ASK_FEATURE, on_features},
	[VHOST_USER_GPU_GET_DISPLAY_INFO] = {WIRE_ASK_INFO, on_info},
	[VHOST_USER_GPU_DMABUF_UPDATE] = {WIRE_ASK_DMABUF, on_dmabuf_shown},
};

/* An answer nobody asked for is an error, like one of the wrong size. */
static const char *socket_handle(struct display_socket *s, uint32_t request, const uint8_t *payload)
{
	uint64_t question = answers[request].question;

	if (!question || !wire_open_question(s, question))
		return "the viewer answered what was not asked";
	answers[request].handle(s, payload);
	wire_answered(s, question);
	return NULL;
}

/*
 * Bytes of the message being received that are known to belong to it, 0 when it is malformed; what
 * is received of its header is copied.
 */
static size_t socket_expected(const struct display_socket *s, size_t got, uint32_t header[3])
{
	if (got < VHOST_USER_GPU_HEADER_SIZE)
		return VHOST_USER_GPU_HEADER_SIZE;
	memcpy(header, s->wire->in_bytes, VHOST_USER_GPU_HEADER_SIZE);
	if (header[0] >= VHOST_USER_GPU_REQUEST_LIMIT || header[1] != VHOST_USER_GPU_FLAG_REPLY ||
		header[2] > VHOST_USER_GPU_MAX_REPLY || header[2] != reply_sizes[header[0]])
		return 0;
	return VHOST_USER_GPU_HEADER_SIZE + header[2];
}

/* Reads towards `end`: NULL to go on, *ret_again false when nothing is there, or why it ends. */
static const char *socket_read(struct display_socket *s, size_t got, size_t end, bool *ret_again)
{
	struct fdpass_fds fds;
	ssize_t n =
		durable_recv(&s->wire->durable, s->fd, s->wire->in_bytes + got, end - got, &fds);
	bool has_fds = n >= 0 && fds.count;

	fdpass_close(&fds);
	*ret_again = n != -EAGAIN;
	if (n == -EAGAIN)
		return NULL;
	if (n <= 0)
		return n == 0 ? "" : "the viewer's socket failed";
	return has_fds ? "the viewer sent file descriptors" : NULL;
}

/* Reads once or handles one answer: NULL to go on, or why the viewer is dropped. */
static const char *socket_receive(struct display_socket *s, bool *ret_again)
{
	uint32_t header[3];
	uint8_t payload[VHOST_USER_GPU_MAX_REPLY];
	size_t got = wire_got(s);
	size_t end = got <= sizeof(s->wire->in_bytes) ? socket_expected(s, got, header) : 0;

	*ret_again = true;
	if (!end || got > end)
		return "the viewer sent a malformed answer";
	if (got < end)
		return socket_read(s, got, end, ret_again);
	memcpy(payload, s->wire->in_bytes + VHOST_USER_GPU_HEADER_SIZE, header[2]);
	return socket_handle(s, header[0], payload);
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

	if (s->fd < 0 || s->failed || s->info_overdue || s->frozen)
		return false;
	if (s->info_waiting)
		return true;
	if (timerfd_settime(s->timer_fd, 0, &wait, NULL) < 0)
		return false;
	s->info_waiting = true;
	s->ask_info = !wire_open_question(s, WIRE_ASK_INFO);
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

int display_socket_create(struct device *dev, struct loop *loop, struct wire_display *wire,
	const struct display_socket_ops *ops, void *data, struct display_socket **ret)
{
	struct display_socket *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return -ENOMEM;
	*s = (struct display_socket){.dev = dev,
		.loop = loop,
		.ops = ops,
		.ops_data = data,
		.fd = -1,
		.out_fd = -1,
		.wire = wire};
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
	detach(s);
	loop_remove(s->timer_source);
	close_fd(&s->timer_fd);
	display_state_finish(&s->state);
	free(s);
}

static int socket_begin(struct display_socket *s)
{
	s->events = EPOLLIN;
	return loop_add_fd(s->loop, s->fd, EPOLLIN, socket_on_event, s, &s->source);
}

int display_socket_attach(struct display_socket *s, int fd, uint64_t number)
{
	detach(s);
	(void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	s->fd = fd;
	s->number = number;
	if (s->holding)
		return 0;
	wire_reset(s->wire, number);
	int err = socket_begin(s);
	if (err) {
		detach(s);
		return err;
	}
	s->ask_features = true;
	display_state_forget(&s->state);
	socket_pump(s);
	return 0;
}

/* ---- state ---- */

void display_socket_use(struct display_socket *s, struct wire_display *wire)
{
	s->wire = wire;
}

void display_socket_freeze(struct display_socket *s)
{
	s->frozen = true;
	loop_remove(TAKE_PTR(s->source));
	info_finish(s);
}

void display_socket_hold(struct display_socket *s)
{
	s->holding = true;
}

/* The viewer that the wire is about: what it was told and asked goes on. */
static void socket_resume(struct display_socket *s)
{
	uint64_t out = wire_load(&s->wire->out), in = wire_load(&s->wire->in);
	size_t size, left = wire_unsent(s, &size);

	s->ask_features = !((out | in) & WIRE_ASK_FEATURE);
	s->state.dmabuf2 = in & WIRE_DMABUF2;
	s->features = s->state.dmabuf2 ? 1ull << VHOST_USER_GPU_PROTOCOL_DMABUF2 : 0;
	s->tell_features = in & WIRE_ASK_FEATURE && !(out & WIRE_TOLD);
	s->state.dmabuf_waiting = wire_open_question(s, WIRE_ASK_DMABUF);
	/* What ended meanwhile has to be said as well. */
	for (unsigned i = 0; i < DISPLAY_MAX_HEADS; i++) {
		struct display_head *head = &s->state.head[i];
		head->cursor_dirty = head->image != NULL;
		if (head->width || !(s->wire->shown >> i & 1))
			continue;
		head->shown = head->mode_dirty = true;
	}
	if (left && left == size && out & WIRE_HAS_FD) /* its descriptor is gone; made anew */
		wire_store(&s->wire->out, durable_sent(&s->wire->durable) << WIRE_SHIFT |
						  (out & (WIRE_QUESTIONS | WIRE_TOLD)));
}

/* Who takes over shows everything again, from what the device shows now. */
static void socket_take_over(struct display_socket *s)
{
	uint64_t told = wire_load(&s->wire->socket);

	s->holding = false;
	device_remove_display(s->dev, s);
	(void)device_add_display(s->dev, &socket_display_ops, s); /* there is room: it was there */
	if (s->fd < 0)
		return;
	display_state_forget(&s->state);
	if (told == (s->number << 1 | 1)) {
		detach(s);
	} else if (told == s->number << 1) {
		socket_resume(s);
	} else {
		wire_reset(s->wire, s->number);
		s->ask_features = true;
	}
}

void display_socket_thaw(struct display_socket *s, bool taken_over)
{
	if (taken_over)
		socket_take_over(s);
	s->frozen = false;
	if (s->fd < 0)
		return;
	if (!s->source && socket_begin(s) < 0) {
		socket_drop(s, "the viewer's socket cannot be watched");
		return;
	}
	if (wire_got(s)) /* received by a predecessor: no event tells of it */
		socket_on_event(s, EPOLLIN);
	else
		socket_pump(s);
}

void display_socket_save(const struct display_socket *s, struct state_writer *w)
{
	uint32_t heads = MIN(device_heads(s->dev), DISPLAY_MAX_HEADS);

	state_put_u32(w, s->fd >= 0);
	state_put_u64(w, s->number);
	state_put_u32(w, heads);
	for (uint32_t i = 0; i < heads; i++) {
		const struct display_head *head = &s->state.head[i];
		struct display_mode mode = device_preferred_mode(s->dev, i);
		state_put_u32(w, mode.enabled);
		state_put_u32(w, mode.width);
		state_put_u32(w, mode.height);
		state_put_u32(w, head->cursor.visible);
		state_put_u32(w, head->cursor.x);
		state_put_u32(w, head->cursor.y);
		state_put_u32(w, head->cursor.hot_x);
		state_put_u32(w, head->cursor.hot_y);
		state_put_u32(w, head->image != NULL);
		if (head->image)
			state_put(w, head->image, DISPLAY_CURSOR_BYTES);
	}
}

static void load_head(struct display_socket *s, uint32_t i, struct state_reader *r)
{
	struct display_mode mode;
	struct display_cursor cursor = {.head = i};

	mode.enabled = state_get_u32(r) != 0;
	mode.width = state_get_u32(r);
	mode.height = state_get_u32(r);
	cursor.visible = state_get_u32(r) != 0;
	cursor.x = state_get_u32(r);
	cursor.y = state_get_u32(r);
	cursor.hot_x = state_get_u32(r);
	cursor.hot_y = state_get_u32(r);
	bool image = state_get_u32(r) != 0;
	const void *pixels = image ? state_take(r, DISPLAY_CURSOR_BYTES) : NULL;
	if (!s || state_bad(r) || i >= device_heads(s->dev))
		return;
	if (mode.width <= DISPLAY_MAX_SIDE && mode.height <= DISPLAY_MAX_SIDE)
		device_set_preferred_mode(s->dev, i, &mode);
	if (pixels)
		display_state_cursor(&s->state, &cursor, pixels);
}

static int load_heads(struct display_socket *s, struct state_reader *r)
{
	uint32_t heads = state_get_u32(r);

	if (heads > DISPLAY_MAX_HEADS)
		return -EBADMSG;
	for (uint32_t i = 0; i < heads; i++)
		load_head(s, i, r);
	return state_bad(r) ? -EBADMSG : 0;
}

int display_socket_load(struct display_socket *s, struct state_reader *r, int fd)
{
	cleanup_close int viewer = fd;
	uint32_t present = state_get_u32(r);
	uint64_t number = state_get_u64(r);

	if (present && viewer >= 0)
		(void)display_socket_attach(s, TAKE_FD(viewer), number);
	return load_heads(s, r);
}

int display_socket_skip(struct state_reader *r)
{
	(void)state_get_u32(r);
	(void)state_get_u64(r);
	return load_heads(NULL, r);
}
