/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_TESTS_DEVICE_FIXTURE_H
#define VGPU_TESTS_DEVICE_FIXTURE_H

/*
 * A device on the null renderer with two heads and as much VRAM as a texture of 512 x 512 pixels
 * takes, and a display that counts.
 */

#include "device/device.h"
#include "protocol/stats.h"
#include "renderer/format.h"

/* What a texture of one level takes beside its texels. */
#define FIXTURE_TEXTURE (3072u + 160 + 48)
#define FIXTURE_QUOTA   ((1u << 20) + FIXTURE_TEXTURE)

struct seen_display {
	unsigned modes, updates, cursors;
	struct display_cursor cursor;
	uint32_t width, height;
	struct display_rect last;
	uint32_t first_pixel; /* at the corner of the last update */
};

struct fixture {
	struct vgpu_stats stats;
	struct device *dev;
	struct device_client *client;
	struct seen_display display;
	unsigned notices;
};

static inline void fixture_mode(void *data, uint32_t head, uint32_t width, uint32_t height)
{
	struct seen_display *d = data;
	d->modes++;
	d->width = width;
	d->height = height;
}

static inline void fixture_update(void *data, uint32_t head, const struct display_rect *rect,
	const uint8_t *pixels, uint32_t stride)
{
	struct seen_display *d = data;
	d->updates++;
	d->last = *rect;
	__builtin_memcpy(&d->first_pixel, pixels + (size_t)rect->y * stride + rect->x * 4, 4);
}

static inline void fixture_cursor(
	void *data, const struct display_cursor *cursor, const uint32_t *image)
{
	struct seen_display *d = data;
	d->cursors++;
	d->cursor = *cursor;
}

static inline void fixture_notice(void *data, const char *text)
{
	struct fixture *f = data;
	f->notices++;
}

static const struct display_ops fixture_display = {
	.mode = fixture_mode, .update = fixture_update, .cursor = fixture_cursor};
static const struct device_events fixture_events = {.notice = fixture_notice};

static inline int fixture_start(struct fixture *f)
{
	*f = (struct fixture){0};
	const struct device_config config = {.name = "test",
		.vram_bytes = FIXTURE_QUOTA,
		.heads = 2,
		.max_width = 256,
		.max_height = 256,
		.renderer_ops = renderer_find("null"),
		.stats = &f->stats};
	int err = device_create(&config, &fixture_events, f, &f->dev);
	if (!err)
		err = device_add_display(f->dev, &fixture_display, &f->display);
	if (!err)
		err = device_client_create(f->dev, "client", &f->client);
	return err;
}

static inline void fixture_stop(struct fixture *f)
{
	device_destroy(f->dev);
}

static inline struct renderer_resource_desc fixture_texture(uint32_t w, uint32_t h)
{
	return (struct renderer_resource_desc){.target = PIPE_TEXTURE_2D,
		.format = VIRGL_FORMAT_B8G8R8X8_UNORM,
		.bind = 2,
		.width = w,
		.height = h,
		.depth = 1,
		.array_size = 1};
}

#endif
