/* SPDX-License-Identifier: Apache-2.0 */
#include "device/private.h"

#include "base/checked.h"
#include "renderer/format.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SCREEN_PIXEL_BYTES 4u

/* Both of ours, and the one that displays hand on. */
#define SCREEN_COPIES 3u

int device_add_display(struct device *dev, const struct display_ops *ops, void *data)
{
	for (size_t i = 0; i < ARRAY_SIZE(dev->displays); i++) {
		if (dev->displays[i].ops)
			continue;
		dev->displays[i].ops = ops;
		dev->displays[i].data = data;
		for (uint32_t head = 0; head < dev->config.heads; head++) {
			const struct screen *screen = &dev->screens[head];
			if (screen->cursor.visible)
				ops->cursor(data, &screen->cursor, screen->cursor_image);
			if (!screen->resource)
				continue;
			const struct display_rect all = {0, 0, screen->rect.w, screen->rect.h};
			ops->mode(data, head, all.w, all.h);
			ops->update(data, head, &all, screen->pixels, all.w * SCREEN_PIXEL_BYTES);
		}
		return 0;
	}
	return -ENOSPC;
}

void device_remove_display(struct device *dev, void *data)
{
	for (size_t i = 0; i < ARRAY_SIZE(dev->displays); i++) {
		if (dev->displays[i].ops && dev->displays[i].data == data)
			dev->displays[i].ops = NULL;
	}
}

uint32_t device_heads(const struct device *dev)
{
	return dev->config.heads;
}

struct display_mode device_preferred_mode(const struct device *dev, uint32_t head)
{
	return head < dev->config.heads ? dev->screens[head].preferred : (struct display_mode){0};
}

void device_set_preferred_mode(struct device *dev, uint32_t head, const struct display_mode *mode)
{
	if (head >= dev->config.heads)
		return;
	dev->screens[head].preferred = (struct display_mode){
		.enabled = mode->enabled,
		.width = MIN(mode->width, dev->config.max_width),
		.height = MIN(mode->height, dev->config.max_height),
	};
}

static void screen_announce(struct device *dev, uint32_t head, uint32_t width, uint32_t height)
{
	for (size_t i = 0; i < ARRAY_SIZE(dev->displays); i++) {
		if (dev->displays[i].ops)
			dev->displays[i].ops->mode(dev->displays[i].data, head, width, height);
	}
}

static void screen_off(struct device *dev, uint32_t head)
{
	struct screen *screen = &dev->screens[head];

	if (screen->resource)
		screen->resource->scanouts &= ~(1u << head);
	screen->resource = NULL;
	free(screen->pixels);
	free(screen->fresh);
	screen->pixels = screen->fresh = NULL;
	screen->rect = (struct display_rect){0};
	device_uncharge(dev, screen->cost);
	screen->cost = 0;
	screen_announce(dev, head, 0, 0);
}

void screens_forget(struct device *dev, struct resource *res)
{
	for (uint32_t head = 0; res->scanouts; head++) {
		if (res->scanouts & (1u << head))
			screen_off(dev, head);
	}
}

/* A head's own memory, w x h, black. Keeps what is there when the size stays. */
static int screen_resize(
	struct device_client *client, struct screen *screen, uint32_t w, uint32_t h)
{
	struct device *dev = client->device;
	size_t pixels = (size_t)w * h;
	uint64_t cost = (uint64_t)SCREEN_COPIES * SCREEN_PIXEL_BYTES * pixels;

	if (screen->pixels && screen->rect.w == w && screen->rect.h == h)
		return 0;
	int err = cost > screen->cost ? device_charge_for(client, "a screen", cost - screen->cost)
				      : 0;
	if (err < 0)
		return err;
	uint8_t *now = calloc(pixels, SCREEN_PIXEL_BYTES);
	uint8_t *fresh = calloc(pixels, SCREEN_PIXEL_BYTES);
	if (!now || !fresh) {
		free(now);
		free(fresh);
		device_uncharge(dev, cost > screen->cost ? cost - screen->cost : 0);
		return -ENOMEM;
	}
	device_uncharge(dev, cost < screen->cost ? screen->cost - cost : 0);
	screen->cost = cost;
	free(screen->pixels);
	free(screen->fresh);
	screen->pixels = now;
	screen->fresh = fresh;
	return 1;
}

static bool screen_can_show(
	const struct device *dev, const struct resource *res, const struct display_rect *rect)
{
	return res->desc.target == PIPE_TEXTURE_2D && format_is_screen(res->desc.format) &&
	       res->desc.nr_samples <= 1 && rect->w && rect->h &&
	       rect->w <= dev->config.max_width && rect->h <= dev->config.max_height &&
	       range_inside(rect->x, rect->w, res->desc.width) &&
	       range_inside(rect->y, rect->h, res->desc.height);
}

static bool screen_try_dmabuf(struct device *dev, uint32_t head, const struct resource *res)
{
	struct renderer_dmabuf buf;
	bool taken = false;

	if (!dev->config.dmabuf_scanout ||
		dev->ops->export_dmabuf(dev->renderer, res->stream.id, &buf) < 0)
		return false;
	const struct display_dmabuf shown = {.fd = buf.fd,
		.width = buf.width,
		.height = buf.height,
		.stride = buf.stride,
		.fourcc = buf.fourcc,
		.modifier = buf.modifier,
		.y0_top = buf.y0_top};
	for (size_t i = 0; i < ARRAY_SIZE(dev->displays); i++) {
		if (dev->displays[i].ops && dev->displays[i].ops->dmabuf)
			taken |= dev->displays[i].ops->dmabuf(dev->displays[i].data, head, &shown);
	}
	close(buf.fd);
	return taken;
}

int device_set_scanout(struct device_client *client, uint32_t head, uint32_t handle,
	const struct display_rect *rect)
{
	struct device *dev = client->device;

	if (head >= dev->config.heads)
		return -EINVAL;
	if (!handle) {
		screen_off(dev, head);
		return 0;
	}
	struct resource *res = device_find_resource(client, handle);
	return res ? screen_show(dev, head, res, rect) : -ENOENT;
}

int screen_show(
	struct device *dev, uint32_t head, struct resource *res, const struct display_rect *rect)
{
	struct screen *screen = &dev->screens[head];

	if (!screen_can_show(dev, res, rect))
		return -EINVAL;
	int resized = screen_resize(res->client, screen, rect->w, rect->h);
	if (resized < 0)
		return resized;
	if (screen->resource)
		screen->resource->scanouts &= ~(1u << head);
	screen->resource = res;
	screen->rect = *rect;
	res->scanouts |= 1u << head;
	if (resized)
		screen_announce(dev, head, rect->w, rect->h);
	screen->dmabuf = screen_try_dmabuf(dev, head, res);
	return 0;
}

/* The part of `a` that lies in `b`; empty: w or h is 0. */
static struct display_rect rect_intersect(
	const struct display_rect *a, const struct display_rect *b)
{
	uint64_t x0 = MAX(a->x, b->x), y0 = MAX(a->y, b->y);
	uint64_t x1 = MIN((uint64_t)a->x + a->w, (uint64_t)b->x + b->w);
	uint64_t y1 = MIN((uint64_t)a->y + a->h, (uint64_t)b->y + b->h);

	if (x1 <= x0 || y1 <= y0)
		return (struct display_rect){0};
	return (struct display_rect){
		(uint32_t)x0, (uint32_t)y0, (uint32_t)(x1 - x0), (uint32_t)(y1 - y0)};
}

/* Moves the rows that differ from `fresh` to `pixels`, and shrinks *rect to them. */
static bool screen_take_changes(struct screen *screen, struct display_rect *rect)
{
	size_t stride = (size_t)screen->rect.w * SCREEN_PIXEL_BYTES;
	size_t bytes = (size_t)rect->w * SCREEN_PIXEL_BYTES;
	uint32_t first = rect->h, last = 0;

	for (uint32_t y = 0; y < rect->h; y++) {
		size_t at = (rect->y + y) * stride + (size_t)rect->x * SCREEN_PIXEL_BYTES;
		if (memcmp(screen->pixels + at, screen->fresh + at, bytes) == 0)
			continue;
		memcpy(screen->pixels + at, screen->fresh + at, bytes);
		first = MIN(first, y);
		last = y;
	}
	if (first == rect->h)
		return false;
	rect->h = last - first + 1;
	rect->y += first;
	return true;
}

static int screen_flush(struct device *dev, uint32_t head, const struct display_rect *damage)
{
	struct screen *screen = &dev->screens[head];
	struct display_rect part = rect_intersect(damage, &screen->rect);
	uint32_t stride = screen->rect.w * SCREEN_PIXEL_BYTES;

	if (!part.w)
		return 0;
	const struct renderer_box box = {part.x, part.y, 0, part.w, part.h, 1};
	part.x -= screen->rect.x;
	part.y -= screen->rect.y;
	int err = dev->ops->read_pixels(dev->renderer, screen->resource->stream.id, &box,
		screen->fresh + (size_t)part.y * stride + (size_t)part.x * SCREEN_PIXEL_BYTES,
		stride);
	if (err < 0)
		return err;
	if (!screen_take_changes(screen, &part))
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(dev->displays); i++) {
		const struct display_ops *ops = dev->displays[i].ops;
		if (!ops)
			continue;
		if (screen->dmabuf && ops->dmabuf_update &&
			ops->dmabuf_update(dev->displays[i].data, head, &part))
			continue;
		ops->update(dev->displays[i].data, head, &part, screen->pixels, stride);
	}
	return 0;
}

int screen_refresh(struct device *dev, uint32_t head)
{
	return screen_flush(dev, head, &dev->screens[head].rect);
}

int device_flush(struct device_client *client, uint32_t handle, const struct display_rect *rect)
{
	struct device *dev = client->device;
	int err = 0;

	device_enter(dev);
	struct resource *res = device_find_resource(client, handle);
	if (!res)
		return -ENOENT;
	if (!range_inside(rect->x, rect->w, res->desc.width) ||
		!range_inside(rect->y, rect->h, res->desc.height))
		return -EINVAL;
	for (uint32_t head = 0; head < dev->config.heads; head++) {
		if (!(res->scanouts & (1u << head)))
			continue;
		int r = screen_flush(dev, head, rect);
		if (r < 0)
			err = r;
		pace_screen(dev, &dev->screens[head]);
	}
	return err;
}

int device_cursor(struct device_client *client, uint32_t handle,
	const struct display_cursor *cursor, bool image)
{
	struct device *dev = client->device;
	uint32_t pixels[DISPLAY_CURSOR_SIZE * DISPLAY_CURSOR_SIZE];
	struct display_cursor shown = *cursor;
	bool have_image = false;

	if (cursor->head >= dev->config.heads)
		return -EINVAL;
	if (image && handle) {
		static const struct renderer_box box = {
			0, 0, 0, DISPLAY_CURSOR_SIZE, DISPLAY_CURSOR_SIZE, 1};
		const struct resource *res = device_find_resource(client, handle);
		if (!res)
			return -ENOENT;
		if (res->desc.width != DISPLAY_CURSOR_SIZE ||
			res->desc.height != DISPLAY_CURSOR_SIZE ||
			!format_is_screen(res->desc.format))
			return -EINVAL;
		int err = dev->ops->read_pixels(dev->renderer, res->stream.id, &box, pixels,
			DISPLAY_CURSOR_SIZE * SCREEN_PIXEL_BYTES);
		if (err < 0)
			return err;
		have_image = true;
	}
	shown.visible = image ? handle != 0 : cursor->visible;
	return screen_set_cursor(dev, &shown, have_image ? pixels : NULL);
}

int screen_set_cursor(
	struct device *dev, const struct display_cursor *cursor, const uint32_t *image)
{
	const size_t bytes = sizeof(uint32_t) * DISPLAY_CURSOR_SIZE * DISPLAY_CURSOR_SIZE;
	struct screen *screen = &dev->screens[cursor->head];

	if (image && !screen->cursor_image && !(screen->cursor_image = malloc(bytes)))
		return -ENOMEM;
	if (image)
		memcpy(screen->cursor_image, image, bytes);
	screen->cursor = *cursor;
	for (size_t i = 0; i < ARRAY_SIZE(dev->displays); i++) {
		if (dev->displays[i].ops)
			dev->displays[i].ops->cursor(dev->displays[i].data, cursor, image);
	}
	return 0;
}
