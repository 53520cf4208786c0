/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_DISPLAY_DISPLAY_H
#define VGPU_DISPLAY_DISPLAY_H

/*
 * Where a vGPU's screens go. The device calls these; who shows pixels implements them (the
 * vhost-user GPU socket; the screen memfds behind `vgpuctl screenshot`). Calls never fail upwards
 * and never wait for a viewer: one that does not keep up or goes away loses frames, not the guest.
 * A change of mode may wait for the keeper, which always reads.
 */

#include <stdbool.h>
#include <stdint.h>

#define DISPLAY_MAX_HEADS   16
#define DISPLAY_CURSOR_SIZE 64 /* pixels on each side, as in virtio-gpu */

struct display_rect {
	uint32_t x, y, w, h; /* pixels */
};

struct display_mode {
	bool enabled;
	uint32_t width, height; /* pixels */
};

struct display_cursor {
	uint32_t head;
	uint32_t x, y;
	uint32_t hot_x, hot_y;
	bool visible;
};

struct display_dmabuf {
	int fd; /* the device's; duplicate to keep */
	uint32_t width, height, stride, fourcc;
	uint64_t modifier;
	bool y0_top;
};

struct display_ops {
	/* The head now shows an image of this size; 0 x 0: nothing. */
	void (*mode)(void *data, uint32_t head, uint32_t width, uint32_t height);
	/*
	 * The rectangle changed. `pixels` is the head's whole image in B8G8R8X8 (DRM XRGB8888,
	 * little endian), `stride` bytes a row, valid during the call only.
	 */
	void (*update)(void *data, uint32_t head, const struct display_rect *rect,
		const uint8_t *pixels, uint32_t stride);
	/* `image`: 64 x 64 B8G8R8A8, or NULL when only the position or visibility changed. */
	void (*cursor)(void *data, const struct display_cursor *cursor, const uint32_t *image);
	/* Optional (NULL): takes a dma-buf in place of pixels; false: send pixels after all. */
	bool (*dmabuf)(void *data, uint32_t head, const struct display_dmabuf *buf);
	bool (*dmabuf_update)(void *data, uint32_t head, const struct display_rect *rect);
};

#endif
