/* SPDX-License-Identifier: Apache-2.0 */
#include "display_state.h"

#include "base/checked.h"
#include "base/cleanup.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define MODIFIER_LINEAR  0ull
#define MODIFIER_INVALID 0x00ffffffffffffffull

void display_state_init(struct display_state *state)
{
	*state = (struct display_state){0};
	for (unsigned i = 0; i < DISPLAY_MAX_HEADS; i++)
		state->head[i].dmabuf.fd = -1;
}

void display_state_finish(struct display_state *state)
{
	for (unsigned i = 0; i < DISPLAY_MAX_HEADS; i++) {
		free(state->head[i].shadow);
		free(state->head[i].image);
		close_fd(&state->head[i].dmabuf.fd);
	}
}

static struct display_rect head_rect(const struct display_head *head)
{
	return (struct display_rect){0, 0, head->width, head->height};
}

void display_state_forget(struct display_state *state)
{
	state->dmabuf2 = state->dmabuf_waiting = false;
	for (unsigned i = 0; i < DISPLAY_MAX_HEADS; i++) {
		struct display_head *head = &state->head[i];
		bool dmabuf = head->dmabuf.fd >= 0;
		head->shown = head->dmabuf_shown = false;
		head->mode_dirty = head->width && !dmabuf;
		head->damaged = head->shadow && !head->fresh && !dmabuf;
		head->damage = head->dmabuf_damage = head_rect(head);
		head->dmabuf_dirty = head->dmabuf_damaged = dmabuf;
		head->image_dirty = head->image && head->cursor.visible;
		head->cursor_dirty = head->image_dirty;
	}
}

/* ---- changes by the device ---- */

static void head_drop_dmabuf(struct display_head *head)
{
	if (head->dmabuf.fd < 0)
		return;
	close_fd(&head->dmabuf.fd);
	head->dmabuf_damaged = false;
	head->dmabuf_dirty = head->dmabuf_shown;
}

void display_state_mode(
	struct display_state *state, uint32_t index, uint32_t width, uint32_t height)
{
	if (index >= DISPLAY_MAX_HEADS)
		return;
	struct display_head *head = &state->head[index];
	if (!width || !height || width > DISPLAY_MAX_SIDE || height > DISPLAY_MAX_SIDE)
		width = height = 0;
	/* A guest that flips pages sets the same mode for every frame. */
	if (width == head->width && height == head->height)
		return;
	free(TAKE_PTR(head->shadow));
	head->width = width;
	head->height = height;
	head->damaged = head->dmabuf_damaged = false;
	head->mode_dirty = width || head->shown;
	if (!width) {
		head_drop_dmabuf(head);
		return;
	}
	head->shadow = calloc((size_t)width * height, 4);
	head->fresh = true;
}

static bool rect_clip(struct display_rect *rect, const struct display_head *head)
{
	if (rect->x >= head->width || rect->y >= head->height || !rect->w || !rect->h)
		return false;
	rect->w = MIN(rect->w, head->width - rect->x);
	rect->h = MIN(rect->h, head->height - rect->y);
	return true;
}

static void rect_merge(struct display_rect *into, const struct display_rect *rect, bool *valid)
{
	if (!*valid) {
		*into = *rect;
		*valid = true;
		return;
	}
	uint32_t x = MIN(into->x, rect->x), y = MIN(into->y, rect->y);
	uint32_t right = MAX(into->x + into->w, rect->x + rect->w);
	uint32_t bottom = MAX(into->y + into->h, rect->y + rect->h);
	*into = (struct display_rect){x, y, right - x, bottom - y};
}

void display_state_update(struct display_state *state, uint32_t index,
	const struct display_rect *rect, const uint8_t *pixels, uint32_t stride)
{
	if (index >= DISPLAY_MAX_HEADS)
		return;
	struct display_head *head = &state->head[index];
	struct display_rect r = head->fresh ? head_rect(head) : *rect;
	if (!head->shadow || !rect_clip(&r, head))
		return;
	if (head->dmabuf.fd >= 0) { /* pixels again: the whole picture is needed */
		head_drop_dmabuf(head);
		r = head_rect(head);
		head->mode_dirty = true;
	}
	size_t row = (size_t)head->width * 4;
	for (uint32_t y = r.y; y < r.y + r.h; y++)
		memcpy(head->shadow + y * row + (size_t)r.x * 4,
			pixels + (size_t)y * stride + (size_t)r.x * 4, (size_t)r.w * 4);
	head->fresh = false;
	rect_merge(&head->damage, &r, &head->damaged);
}

void display_state_cursor(
	struct display_state *state, const struct display_cursor *cursor, const uint32_t *image)
{
	if (cursor->head >= DISPLAY_MAX_HEADS)
		return;
	struct display_head *head = &state->head[cursor->head];
	head->cursor = *cursor;
	head->cursor_dirty = true;
	if (!image)
		return;
	if (!head->image)
		head->image = malloc(DISPLAY_CURSOR_BYTES);
	if (!head->image)
		return;
	memcpy(head->image, image, DISPLAY_CURSOR_BYTES);
	head->image_dirty = true;
}

bool display_state_dmabuf(
	struct display_state *state, uint32_t index, const struct display_dmabuf *buf)
{
	if (index >= DISPLAY_MAX_HEADS || !state->head[index].width)
		return false;
	bool plain = buf->modifier == MODIFIER_LINEAR || buf->modifier == MODIFIER_INVALID;
	if (!plain && !state->dmabuf2)
		return false;
	int fd = fcntl(buf->fd, F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return false;
	struct display_head *head = &state->head[index];
	close_fd(&head->dmabuf.fd);
	head->dmabuf = *buf;
	head->dmabuf.fd = fd;
	head->dmabuf_dirty = true;
	head->mode_dirty = head->damaged = false;
	head->fresh = true; /* pixels that come later start from nothing */
	return true;
}

bool display_state_dmabuf_update(
	struct display_state *state, uint32_t index, const struct display_rect *rect)
{
	if (index >= DISPLAY_MAX_HEADS || state->head[index].dmabuf.fd < 0)
		return false;
	struct display_head *head = &state->head[index];
	struct display_rect r = *rect;
	if (rect_clip(&r, head))
		rect_merge(&head->dmabuf_damage, &r, &head->dmabuf_damaged);
	return true;
}

/* ---- messages ---- */

size_t display_message(uint8_t *buf, uint32_t request, const void *payload, size_t size)
{
	uint32_t header[3] = {request, 0, (uint32_t)size};

	memcpy(buf, header, sizeof(header));
	if (size)
		memcpy(buf + sizeof(header), payload, size);
	return sizeof(header) + size;
}

/* The functions below return 0 when their part of the head has nothing to say. */

static size_t next_dmabuf_scanout(
	struct display_state *state, struct display_head *head, uint8_t *buf, int *ret_fd)
{
	const struct display_dmabuf *d = &head->dmabuf;
	struct vhost_user_gpu_dmabuf_scanout message = {
		.scanout = (uint32_t)(head - state->head),
	};
	size_t size = sizeof(message);

	if (!head->dmabuf_dirty)
		return 0;
	head->dmabuf_dirty = false;
	head->dmabuf_shown = d->fd >= 0;
	if (d->fd >= 0) {
		head->shown = true;
		message.width = message.fd_width = d->width;
		message.height = message.fd_height = d->height;
		message.fd_stride = d->stride;
		message.fd_flags = d->y0_top ? VHOST_USER_GPU_DMABUF_Y0_TOP : 0;
		message.fourcc = d->fourcc;
		message.modifier[0] = (uint32_t)d->modifier;
		message.modifier[1] = (uint32_t)(d->modifier >> 32);
		*ret_fd = d->fd;
	}
	if (!state->dmabuf2)
		size -= sizeof(message.modifier);
	return display_message(buf,
		state->dmabuf2 ? VHOST_USER_GPU_DMABUF_SCANOUT2 : VHOST_USER_GPU_DMABUF_SCANOUT,
		&message, size);
}

static size_t next_scanout(
	struct display_state *state, struct display_head *head, uint8_t *buf, int *ret_fd)
{
	struct vhost_user_gpu_scanout message = {
		.scanout = (uint32_t)(head - state->head),
		.width = head->width,
		.height = head->height,
	};

	if (!head->mode_dirty)
		return 0;
	head->mode_dirty = false;
	head->shown = head->width != 0;
	return display_message(buf, VHOST_USER_GPU_SCANOUT, &message, sizeof(message));
}

static size_t next_dmabuf_update(
	struct display_state *state, struct display_head *head, uint8_t *buf, int *ret_fd)
{
	const struct display_rect *r = &head->dmabuf_damage;
	struct vhost_user_gpu_update message = {
		(uint32_t)(head - state->head), r->x, r->y, r->w, r->h};

	if (!head->dmabuf_damaged || state->dmabuf_waiting)
		return 0;
	head->dmabuf_damaged = false;
	state->dmabuf_waiting = true;
	return display_message(buf, VHOST_USER_GPU_DMABUF_UPDATE, &message, sizeof(message));
}

static size_t next_cursor(
	struct display_state *state, struct display_head *head, uint8_t *buf, int *ret_fd)
{
	struct vhost_user_gpu_cursor_update message = {
		.pos = {(uint32_t)(head - state->head), head->cursor.x, head->cursor.y},
		.hot_x = head->cursor.hot_x,
		.hot_y = head->cursor.hot_y,
	};

	if (!head->cursor_dirty)
		return 0;
	head->cursor_dirty = false;
	if (!head->cursor.visible)
		return display_message(
			buf, VHOST_USER_GPU_CURSOR_POS_HIDE, &message.pos, sizeof(message.pos));
	if (!head->image_dirty)
		return display_message(
			buf, VHOST_USER_GPU_CURSOR_POS, &message.pos, sizeof(message.pos));
	head->image_dirty = false;
	memcpy(message.data, head->image, DISPLAY_CURSOR_BYTES);
	return display_message(buf, VHOST_USER_GPU_CURSOR_UPDATE, &message, sizeof(message));
}

/* The top rows of the damage, as many as one message takes. */
static size_t next_band(
	struct display_state *state, struct display_head *head, uint8_t *buf, int *ret_fd)
{
	struct display_rect *d = &head->damage;

	if (!head->damaged || !head->shadow)
		return 0;
	uint32_t rows = MIN(DISPLAY_BAND_BYTES / (d->w * 4), d->h);
	struct vhost_user_gpu_update message = {
		(uint32_t)(head - state->head), d->x, d->y, d->w, rows};
	size_t at = display_message(buf, VHOST_USER_GPU_UPDATE, &message, sizeof(message));
	uint32_t size = (uint32_t)(sizeof(message) + (size_t)rows * d->w * 4);
	memcpy(buf + 8, &size, sizeof(size));
	for (uint32_t y = d->y; y < d->y + rows; y++) {
		memcpy(buf + at, head->shadow + ((size_t)y * head->width + d->x) * 4,
			(size_t)d->w * 4);
		at += (size_t)d->w * 4;
	}
	d->y += rows;
	d->h -= rows;
	head->damaged = d->h != 0;
	return at;
}

/* In this order: a viewer must know a mode before it gets pixels of it. */
static size_t (*const head_messages[])(
	struct display_state *, struct display_head *, uint8_t *, int *) = {
	next_dmabuf_scanout,
	next_scanout,
	next_cursor,
	next_dmabuf_update,
	next_band,
};

size_t display_next_message(struct display_state *state, uint8_t *buf, int *ret_fd)
{
	*ret_fd = -1;
	for (unsigned i = 0; i < DISPLAY_MAX_HEADS; i++) {
		struct display_head *head = &state->head[(state->next + i) % DISPLAY_MAX_HEADS];
		for (size_t m = 0; m < ARRAY_SIZE(head_messages); m++) {
			size_t size = head_messages[m](state, head, buf, ret_fd);
			if (!size)
				continue;
			state->next = (unsigned)(head - state->head + (head->damaged ? 0 : 1));
			return size;
		}
	}
	return 0;
}
