/* SPDX-License-Identifier: Apache-2.0 */

/* The display socket's conversation with a viewer that is prompt, slow, silent or hostile. */

#include "front.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/fdpass.h"

#include "protocol/vhost_user_gpu.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

struct viewer {
	int fd;
	uint8_t *payload;
	uint32_t request, size;
	int got_fd;
	uint8_t *picture; /* built from SCANOUT and UPDATE as QEMU does */
	uint32_t width, height;
	unsigned scanouts, updates;
};

static void viewer_open(struct front *f, struct viewer *v)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	front_send(f, VHOST_USER_GPU_SET_SOCKET, 0, NULL, 0, &pair[1], 1);
	close(pair[1]);
	*v = (struct viewer){.fd = pair[0], .got_fd = -1};
	front_spin(f);
	assert_false(f->closed);
}

static void viewer_close(struct viewer *v)
{
	close_fd(&v->fd);
	close_fd(&v->got_fd);
	free(v->payload);
	free(v->picture);
	*v = (struct viewer){.fd = -1, .got_fd = -1};
}

static bool viewer_read(struct front *f, struct viewer *v, void *buf, size_t size)
{
	size_t at = 0;
	struct fdpass_fds fds;

	for (unsigned idle = 0; at < size;) {
		ssize_t n = fdpass_recv(v->fd, (uint8_t *)buf + at, size - at, MSG_DONTWAIT, &fds);
		if (n == -EAGAIN && idle++ < 3) {
			front_spin(f);
			continue;
		}
		if (n <= 0) {
			assert_int_equal(at, 0);
			return false;
		}
		idle = 0;
		at += (size_t)n;
		int fd = fdpass_take(&fds);
		if (fd >= 0) {
			close_fd(&v->got_fd);
			v->got_fd = fd;
		}
		fdpass_close(&fds);
	}
	return true;
}

/* The next message; false when there is none. Builds the picture on the way. */
static bool viewer_next(struct front *f, struct viewer *v)
{
	uint32_t header[3];

	if (!viewer_read(f, v, header, sizeof(header)))
		return false;
	assert_int_equal(header[1], 0);
	assert_true(header[2] <= 20 + 65536);
	v->request = header[0];
	v->size = header[2];
	v->payload = realloc(v->payload, v->size + 1);
	if (v->size)
		assert_true(viewer_read(f, v, v->payload, v->size));
	if (v->request == VHOST_USER_GPU_SCANOUT) {
		struct vhost_user_gpu_scanout s;
		assert_int_equal(v->size, sizeof(s));
		memcpy(&s, v->payload, sizeof(s));
		v->scanouts++;
		v->width = s.width;
		v->height = s.height;
		free(v->picture);
		v->picture = calloc((size_t)s.width * s.height + 1, 4);
	} else if (v->request == VHOST_USER_GPU_UPDATE) {
		struct vhost_user_gpu_update u;
		memcpy(&u, v->payload, sizeof(u));
		assert_int_equal(v->size, sizeof(u) + u.width * u.height * 4);
		assert_non_null(v->picture);
		if (!v->picture) /* for the analyser, which does not know that assertions end a test
				  */
			return false;
		assert_true(u.x + u.width <= v->width && u.y + u.height <= v->height);
		for (uint32_t y = 0; y < u.height; y++)
			memcpy(v->picture + ((u.y + y) * v->width + u.x) * 4,
				v->payload + sizeof(u) + y * u.width * 4, u.width * 4);
		v->updates++;
	}
	return true;
}

static void viewer_expect(struct front *f, struct viewer *v, uint32_t request)
{
	assert_true(viewer_next(f, v));
	assert_int_equal(v->request, request);
}

static void viewer_answer(struct viewer *v, uint32_t request, const void *payload, uint32_t size)
{
	uint8_t buf[12 + 1024];
	uint32_t header[3] = {request, VHOST_USER_GPU_FLAG_REPLY, size};

	memcpy(buf, header, 12);
	if (size)
		memcpy(buf + 12, payload, size);
	assert_int_equal(send(v->fd, buf, 12 + size, 0), 12 + size);
}

static void viewer_negotiate(struct front *f, struct viewer *v, uint64_t features)
{
	viewer_expect(f, v, VHOST_USER_GPU_GET_PROTOCOL_FEATURES);
	viewer_answer(v, VHOST_USER_GPU_GET_PROTOCOL_FEATURES, &features, 8);
	front_spin(f);
	/* The picture that is there already does not wait for the answer. */
	do
		assert_true(viewer_next(f, v));
	while (v->request != VHOST_USER_GPU_SET_PROTOCOL_FEATURES);
	uint64_t chosen;
	memcpy(&chosen, v->payload, 8);
	assert_int_equal(chosen, features & 2);
}

static uint8_t *picture(uint32_t w, uint32_t h, uint8_t seed)
{
	uint8_t *p = malloc((size_t)w * h * 4);
	for (size_t i = 0; i < (size_t)w * h * 4; i++)
		p[i] = (uint8_t)(seed + i * 7 + i / 251);
	return p;
}

static void show(struct front *f, const struct display_rect *r, const uint8_t *p, uint32_t w)
{
	f->dev.display->update(f->dev.display_data, 0, r, p, w * 4);
}

static void test_picture_arrives(void **state)
{
	struct front *f = *state;
	struct viewer v;
	uint32_t w = 640, h = 480;
	cleanup_free uint8_t *p = picture(w, h, 3);

	viewer_open(f, &v);
	viewer_negotiate(f, &v, 0x3);
	assert_false(viewer_next(f, &v)); /* nothing before the guest shows something */
	f->dev.display->mode(f->dev.display_data, 0, 0, 0);
	assert_false(viewer_next(f, &v));
	f->dev.display->mode(f->dev.display_data, 0, w, h);
	show(f, &(struct display_rect){0, 0, w, h}, p, w);
	viewer_expect(f, &v, VHOST_USER_GPU_SCANOUT);
	while (viewer_next(f, &v))
		assert_int_equal(v.request, VHOST_USER_GPU_UPDATE);
	assert_memory_equal(v.picture, p, w * h * 4);
	/* A part, and one that hangs over the edge. */
	memset(p + 4 * (w * 10 + 20), 0xab, 400);
	show(f, &(struct display_rect){20, 10, 100, 1}, p, w);
	show(f, &(struct display_rect){600, 470, 1000, 0xffffffff}, p, w);
	show(f, &(struct display_rect){w, 0, 1, 1}, p, w);
	while (viewer_next(f, &v))
		;
	assert_memory_equal(v.picture, p, w * h * 4);
	/* The same mode again is a page flip; off is off. */
	f->dev.display->mode(f->dev.display_data, 0, w, h);
	assert_false(viewer_next(f, &v));
	f->dev.display->mode(f->dev.display_data, 0, 0, 0);
	viewer_expect(f, &v, VHOST_USER_GPU_SCANOUT);
	assert_int_equal(v.width, 0);
	f->dev.display->mode(f->dev.display_data, 99, 10, 10);
	f->dev.display->mode(f->dev.display_data, 0, 100000, 10);
	viewer_close(&v);
}

static void test_viewer_that_stops_reading(void **state)
{
	struct front *f = *state;
	struct viewer v;
	uint32_t w = 1024, h = 768;
	uint8_t *p = picture(w, h, 0);
	struct display_rect all = {0, 0, w, h};

	viewer_open(f, &v);
	viewer_negotiate(f, &v, 0);
	f->dev.display->mode(f->dev.display_data, 0, w, h);
	for (unsigned frame = 1; frame <= 100; frame++) { /* 300 MB that nobody reads */
		free(p);
		p = picture(w, h, (uint8_t)frame);
		show(f, &all, p, w);
		f->dev.display->cursor(f->dev.display_data,
			&(struct display_cursor){.x = frame, .visible = true}, NULL);
	}
	/* The guest goes on meanwhile. */
	front_start(f, 0);
	front_request(f, 0, 0, 1);
	front_kick(f, 0);
	assert_int_equal(front_used_idx(f, 0), 1);
	/* When it reads again it gets the last picture, in not much more than one frame. */
	unsigned messages = 0, cursors = 0;
	while (viewer_next(f, &v)) {
		messages++;
		cursors += v.request == VHOST_USER_GPU_CURSOR_POS;
	}
	assert_true(messages < 120);
	assert_true(cursors >= 1 && cursors <= 20);
	assert_memory_equal(v.picture, p, (size_t)w * h * 4);
	free(p);
	viewer_close(&v);
}

static void test_cursor(void **state)
{
	struct front *f = *state;
	struct viewer v;
	uint32_t image[64 * 64];
	struct vhost_user_gpu_cursor_update *up;

	viewer_open(f, &v);
	viewer_negotiate(f, &v, 0);
	for (unsigned i = 0; i < 64 * 64; i++)
		image[i] = i;
	struct display_cursor c = {.x = 5, .y = 6, .hot_x = 7, .hot_y = 8, .visible = true};
	f->dev.display->cursor(f->dev.display_data, &c, image);
	viewer_expect(f, &v, VHOST_USER_GPU_CURSOR_UPDATE);
	assert_int_equal(v.size, sizeof(*up));
	up = (struct vhost_user_gpu_cursor_update *)v.payload;
	assert_int_equal(up->pos.x, 5);
	assert_int_equal(up->hot_y, 8);
	assert_memory_equal(up->data, image, sizeof(image));
	c.x = 50;
	f->dev.display->cursor(f->dev.display_data, &c, NULL);
	viewer_expect(f, &v, VHOST_USER_GPU_CURSOR_POS);
	assert_int_equal(v.size, 12);
	c.visible = false;
	f->dev.display->cursor(f->dev.display_data, &c, NULL);
	viewer_expect(f, &v, VHOST_USER_GPU_CURSOR_POS_HIDE);
	c.head = 99;
	f->dev.display->cursor(f->dev.display_data, &c, image);
	assert_false(viewer_next(f, &v));
	viewer_close(&v);
}

static void test_viewer_is_exchanged(void **state)
{
	struct front *f = *state;
	struct viewer v;
	uint32_t w = 64, h = 32;
	cleanup_free uint8_t *p = picture(w, h, 9);

	f->dev.display->mode(f->dev.display_data, 0, w, h); /* nobody looks yet */
	show(f, &(struct display_rect){0, 0, w, h}, p, w);
	viewer_open(f, &v);
	viewer_negotiate(f, &v, 0);
	while (viewer_next(f, &v))
		;
	assert_memory_equal(v.picture, p, w * h * 4);
	assert_int_equal(f->custody[KEEPER_CUSTODY_GPU_SOCKET], 1);
	viewer_close(&v);
	front_spin(f);
	assert_int_equal(f->released[KEEPER_CUSTODY_GPU_SOCKET], 1);
	assert_false(f->closed);
	p[0] ^= 0xff;
	show(f, &(struct display_rect){0, 0, 1, 1}, p, w);
	viewer_open(f, &v);
	viewer_negotiate(f, &v, 0);
	while (viewer_next(f, &v))
		;
	assert_memory_equal(v.picture, p, w * h * 4);
	/* Replaced while it is there. */
	struct viewer other;
	viewer_open(f, &other);
	assert_false(viewer_next(f, &v));
	viewer_negotiate(f, &other, 0);
	while (viewer_next(f, &other))
		;
	assert_memory_equal(other.picture, p, w * h * 4);
	viewer_close(&other);
	viewer_close(&v);
}

static void ask(struct front *f)
{
	f->dev.ask_info = true;
	front_request(f, 0, f->dev.requests % 8, 1);
	front_kick(f, 0);
}

static void test_modes_come_from_the_viewer(void **state)
{
	struct front *f = *state;
	struct viewer v;
	struct vhost_user_gpu_display_info info = {.mode = {{0, 0, 1280, 720, 1, 0}}};

	f->dev.heads = 2;
	front_start(f, 0);
	ask(f); /* no viewer: answered at once */
	assert_int_equal(front_used_idx(f, 0), 1);
	viewer_open(f, &v);
	ask(f);
	assert_int_equal(front_used_idx(f, 0), 1);
	/* The answer to the features may come after later messages. */
	viewer_expect(f, &v, VHOST_USER_GPU_GET_PROTOCOL_FEATURES);
	viewer_expect(f, &v, VHOST_USER_GPU_GET_DISPLAY_INFO);
	ask(f); /* a second one asks nothing more */
	assert_false(viewer_next(f, &v));
	info.mode[1].enabled = 1; /* enabled, of no size: not believed */
	viewer_answer(&v, VHOST_USER_GPU_GET_DISPLAY_INFO, &info, sizeof(info));
	front_spin(f);
	assert_int_equal(front_used_idx(f, 0), 3);
	assert_int_equal(f->dev.preferred[0].width, 1280);
	assert_int_equal(f->dev.preferred[0].height, 720);
	assert_true(f->dev.preferred[0].enabled);
	assert_false(f->dev.preferred[1].enabled);
	viewer_close(&v);
}

static void test_silent_viewer_costs_a_second(void **state)
{
	struct front *f = *state;
	struct viewer v;

	front_start(f, 0);
	viewer_open(f, &v);
	uint64_t from = clock_ms();
	ask(f);
	front_wait_change(f, &front_used_ring(f, 0)[1], 0);
	assert_true(clock_ms() - from >= 900);
	ask(f); /* and only once */
	assert_int_equal(front_used_idx(f, 0), 2);
	/* The late answer is believed all the same. */
	struct vhost_user_gpu_display_info info = {.mode = {{0, 0, 800, 600, 1, 0}}};
	viewer_answer(&v, VHOST_USER_GPU_GET_DISPLAY_INFO, &info, sizeof(info));
	front_spin(f);
	assert_int_equal(f->dev.preferred[0].width, 800);
	viewer_close(&v);
}

static void test_viewer_goes_while_asked(void **state)
{
	struct front *f = *state;
	struct viewer v;

	front_start(f, 0);
	viewer_open(f, &v);
	ask(f);
	assert_int_equal(front_used_idx(f, 0), 0);
	viewer_close(&v);
	front_spin(f);
	assert_int_equal(front_used_idx(f, 0), 1);
}

/* QEMU stops the device while it owes an answer: it waits for us and will not give one. */
static void test_stop_while_the_viewer_is_asked(void **state)
{
	struct front *f = *state;
	struct viewer v;

	front_start(f, 0);
	viewer_open(f, &v);
	ask(f);
	assert_int_equal(front_used_idx(f, 0), 0);
	assert_int_equal(front_stop_ring(f, 0), 1);
	assert_int_equal(front_used_idx(f, 0), 1);
	viewer_close(&v);
}

static void test_hostile_viewer_ends_its_socket_only(void **state)
{
	struct front *f = *state;
	static const struct {
		uint32_t header[3];
		bool with_fd;
	} bad[] = {
		{{VHOST_USER_GPU_GET_PROTOCOL_FEATURES, 4, 7}, false},
		{{VHOST_USER_GPU_GET_PROTOCOL_FEATURES, 0, 8}, false},
		{{VHOST_USER_GPU_GET_PROTOCOL_FEATURES, 4, 0xffffffff}, false},
		{{VHOST_USER_GPU_SCANOUT, 4, 0xffffffff}, false},
		{{VHOST_USER_GPU_DMABUF_UPDATE, 4, 0}, false}, /* not asked */
		{{99, 4, 8}, false},
		{{VHOST_USER_GPU_GET_PROTOCOL_FEATURES, 4, 8}, true},
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct viewer v;
		unsigned released = f->released[KEEPER_CUSTODY_GPU_SOCKET];
		viewer_open(f, &v);
		viewer_expect(f, &v, VHOST_USER_GPU_GET_PROTOCOL_FEATURES);
		assert_int_equal(
			fdpass_send(v.fd, bad[i].header, 12, &f->memory_fd, bad[i].with_fd ? 1 : 0),
			12);
		front_spin(f);
		assert_int_equal(f->released[KEEPER_CUSTODY_GPU_SOCKET], released + 1);
		assert_false(f->closed);
		viewer_close(&v);
	}
}

static void test_answer_in_pieces(void **state)
{
	struct front *f = *state;
	struct viewer v;
	uint32_t answer[5] = {VHOST_USER_GPU_GET_PROTOCOL_FEATURES, 4, 8, 2, 0};

	viewer_open(f, &v);
	viewer_expect(f, &v, VHOST_USER_GPU_GET_PROTOCOL_FEATURES);
	for (size_t i = 0; i < sizeof(answer); i++) {
		assert_int_equal(send(v.fd, (uint8_t *)answer + i, 1, 0), 1);
		front_spin(f);
	}
	viewer_expect(f, &v, VHOST_USER_GPU_SET_PROTOCOL_FEATURES);
	viewer_close(&v);
}

static void test_dmabuf(void **state)
{
	struct front *f = *state;
	const struct display_ops *d = f->dev.display;
	void *data = f->dev.display_data;
	struct viewer v;
	struct vhost_user_gpu_dmabuf_scanout s;
	struct display_dmabuf buf = {f->memory_fd, 64, 32, 256, 0x34325258, 0x1234567812ull, true};
	struct display_rect r = {0, 0, 64, 32};
	cleanup_free uint8_t *p = picture(64, 32, 1);

	d->mode(data, 0, 64, 32);
	assert_false(d->dmabuf(data, 0, &buf)); /* nobody to show it to */
	viewer_open(f, &v);
	assert_false(d->dmabuf(data, 0, &buf)); /* its layout cannot be told yet */
	viewer_negotiate(f, &v, 0x3);
	assert_int_equal(v.scanouts, 1);
	assert_true(d->dmabuf(data, 0, &buf));
	viewer_expect(f, &v, VHOST_USER_GPU_DMABUF_SCANOUT2);
	assert_int_equal(v.size, 48);
	memcpy(&s, v.payload, sizeof(s));
	assert_int_equal(s.fd_stride, 256);
	assert_int_equal(s.modifier[0], 0x34567812);
	assert_int_equal(s.modifier[1], 0x12);
	assert_int_equal(s.fd_flags, VHOST_USER_GPU_DMABUF_Y0_TOP);
	assert_true(v.got_fd >= 0);
	/* One update at a time is on its way. */
	assert_true(d->dmabuf_update(data, 0, &r));
	assert_true(d->dmabuf_update(data, 0, &r));
	assert_true(d->dmabuf_update(data, 0, &r));
	viewer_expect(f, &v, VHOST_USER_GPU_DMABUF_UPDATE);
	assert_false(viewer_next(f, &v));
	viewer_answer(&v, VHOST_USER_GPU_DMABUF_UPDATE, NULL, 0);
	viewer_expect(f, &v, VHOST_USER_GPU_DMABUF_UPDATE);
	assert_false(viewer_next(f, &v));
	/* Back to pixels. */
	d->update(data, 0, &(struct display_rect){1, 1, 1, 1}, p, 256);
	close_fd(&v.got_fd);
	viewer_expect(f, &v, VHOST_USER_GPU_DMABUF_SCANOUT2);
	assert_int_equal(v.got_fd, -1);
	viewer_expect(f, &v, VHOST_USER_GPU_SCANOUT);
	viewer_expect(f, &v, VHOST_USER_GPU_UPDATE);
	assert_memory_equal(v.picture, p, 64 * 32 * 4);
	assert_false(d->dmabuf_update(data, 0, &r));
	viewer_close(&v);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, front_setup, front_teardown)
	const struct CMUnitTest tests[] = {
		T(test_picture_arrives),
		T(test_viewer_that_stops_reading),
		T(test_cursor),
		T(test_viewer_is_exchanged),
		T(test_modes_come_from_the_viewer),
		T(test_silent_viewer_costs_a_second),
		T(test_viewer_goes_while_asked),
		T(test_stop_while_the_viewer_is_asked),
		T(test_hostile_viewer_ends_its_socket_only),
		T(test_answer_in_pieces),
		T(test_dmabuf),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
