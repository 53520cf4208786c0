/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_FRONTEND_VHOST_USER_DISPLAY_STATE_H
#define VGPU_FRONTEND_VHOST_USER_DISPLAY_STATE_H

/*
 * What each head should show, and which of it the viewer has not been told yet. Pure state: the
 * device's display calls change it, display_next_message() turns it into wire messages.
 */

#include "display/display.h"

#include "protocol/vhost_user_gpu.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DISPLAY_BAND_BYTES 65536u /* most pixel bytes of one UPDATE message */
#define DISPLAY_MAX_SIDE   16384u /* pixels: one row fills a band */
/* of a cursor's image */
#define DISPLAY_CURSOR_BYTES (DISPLAY_CURSOR_SIZE * DISPLAY_CURSOR_SIZE * sizeof(uint32_t))
#define DISPLAY_MESSAGE_MAX                                                                        \
	(VHOST_USER_GPU_HEADER_SIZE + sizeof(struct vhost_user_gpu_update) + DISPLAY_BAND_BYTES)

struct display_head {
	uint32_t width, height; /* 0: off */
	bool mode_dirty;
	bool shown; /* this viewer was told of an image on this head */
	/* pixels */
	uint8_t *shadow; /* width * height * 4; NULL: off or no memory */
	bool fresh;      /* nothing was copied since the mode was set */
	bool damaged;
	struct display_rect damage;
	/* dma-buf in place of pixels */
	struct display_dmabuf dmabuf; /* fd -1: none; the fd is a duplicate */
	bool dmabuf_dirty, dmabuf_shown, dmabuf_damaged;
	struct display_rect dmabuf_damage;
	/* cursor */
	struct display_cursor cursor;
	uint32_t *image; /* 64 x 64; NULL: never set */
	bool cursor_dirty, image_dirty;
};

struct display_state {
	struct display_head head[DISPLAY_MAX_HEADS];
	unsigned next;       /* head that comes first in the next round */
	bool dmabuf2;        /* DMABUF_SCANOUT2 was negotiated */
	bool dmabuf_waiting; /* a DMABUF_UPDATE was not acknowledged yet */
};

void display_state_init(struct display_state *state);
void display_state_finish(struct display_state *state);
/* A new viewer: it knows nothing yet. */
void display_state_forget(struct display_state *state);

void display_state_mode(
	struct display_state *state, uint32_t head, uint32_t width, uint32_t height);
void display_state_update(struct display_state *state, uint32_t head,
	const struct display_rect *rect, const uint8_t *pixels, uint32_t stride);
void display_state_cursor(
	struct display_state *state, const struct display_cursor *cursor, const uint32_t *image);
bool display_state_dmabuf(
	struct display_state *state, uint32_t head, const struct display_dmabuf *buf);
bool display_state_dmabuf_update(
	struct display_state *state, uint32_t head, const struct display_rect *rect);

/*
 * Writes the next message the viewer should get into `buf` (DISPLAY_MESSAGE_MAX bytes), and a fd to
 * pass with it or -1 (the state's) into *ret_fd. Returns its bytes, 0 when there is nothing to say.
 */
size_t display_next_message(struct display_state *state, uint8_t *buf, int *ret_fd);

/* Builds a message from its parts; returns its bytes. */
size_t display_message(uint8_t *buf, uint32_t request, const void *payload, size_t size);

#endif
