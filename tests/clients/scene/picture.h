/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SCENE_PICTURE_H
#define SCENE_PICTURE_H

#include <stdint.h>

/* What is in the bound framebuffer, 8-bit RGB, top row first, no padding. */
struct picture {
	uint32_t width, height; /* pixels */
	uint8_t *rgb;           /* owned; width * height * 3 bytes */
};

/* Reads the bound framebuffer. Returns 0 or -errno. */
int picture_read(struct picture *picture, uint32_t width, uint32_t height);
void picture_finish(struct picture *picture);

/* CRC-32 (that of zlib and PNG) of the bytes of rgb. */
uint32_t picture_crc32(const struct picture *picture);

/* Returns 0 or -errno. */
int picture_write_png(const struct picture *picture, const char *path);

#endif
