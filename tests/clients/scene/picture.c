/* SPDX-License-Identifier: Apache-2.0 */
#include "picture.h"

#include <GLES2/gl2.h>
#include <errno.h>
#include <png.h>
#include <stdlib.h>
#include <string.h>

int picture_read(struct picture *picture, uint32_t width, uint32_t height)
{
	uint8_t *rgba = calloc((size_t)width * height, 4);
	uint8_t *rgb = calloc((size_t)width * height, 3);

	if (!rgba || !rgb) {
		free(rgba);
		free(rgb);
		return -ENOMEM;
	}
	glPixelStorei(GL_PACK_ALIGNMENT, 1);
	glReadPixels(0, 0, (GLsizei)width, (GLsizei)height, GL_RGBA, GL_UNSIGNED_BYTE, rgba);
	for (uint32_t y = 0; y < height; y++) {
		const uint8_t *from = rgba + (size_t)(height - 1 - y) * width * 4;
		uint8_t *to = rgb + (size_t)y * width * 3;

		for (uint32_t x = 0; x < width; x++)
			memcpy(to + x * 3, from + x * 4, 3);
	}
	free(rgba);
	*picture = (struct picture){.width = width, .height = height, .rgb = rgb};
	return glGetError() == GL_NO_ERROR ? 0 : -EIO;
}

void picture_finish(struct picture *picture)
{
	free(picture->rgb);
	picture->rgb = NULL;
}

uint32_t picture_crc32(const struct picture *picture)
{
	size_t size = (size_t)picture->width * picture->height * 3;
	uint32_t crc = ~0u;

	for (size_t i = 0; i < size; i++) {
		crc ^= picture->rgb[i];
		for (int bit = 0; bit < 8; bit++)
			crc = (crc >> 1) ^ (crc & 1 ? 0xedb88320u : 0);
	}
	return ~crc;
}

int picture_write_png(const struct picture *picture, const char *path)
{
	png_image image = {
		.version = PNG_IMAGE_VERSION,
		.width = picture->width,
		.height = picture->height,
		.format = PNG_FORMAT_RGB,
		.flags = PNG_IMAGE_FLAG_FAST,
	};

	return png_image_write_to_file(&image, path, 0, picture->rgb, 0, NULL) ? 0 : -EIO;
}
