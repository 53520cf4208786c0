/* SPDX-License-Identifier: Apache-2.0 */
#include "control/render.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "protocol/screen.h"

#include <errno.h>
#include <png.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SCREEN_TRIES 8

struct limits {
	uint32_t width, height;
};

static int read_header(int fd, const struct limits *limits, struct vgpu_screen *ret)
{
	if (pread(fd, ret, sizeof(*ret), 0) != (ssize_t)sizeof(*ret))
		return -EPROTO;
	if (ret->magic != VGPU_SCREEN_MAGIC || ret->version != VGPU_SCREEN_VERSION)
		return -EPROTO;
	if (!ret->width || !ret->height)
		return -ENODATA;
	if (ret->width > VGPU_SCREEN_MAX_SIDE || ret->height > VGPU_SCREEN_MAX_SIDE ||
		ret->width > limits->width || ret->height > limits->height)
		return -EPROTO;
	return 0;
}

static int read_pixels(int fd, uint8_t *pixels, size_t size)
{
	for (size_t done = 0; done < size;) {
		ssize_t n = pread(
			fd, pixels + done, size - done, (off_t)(VGPU_SCREEN_PIXELS_OFFSET + done));
		if (n <= 0)
			return n < 0 ? -errno : -EPROTO;
		done += (size_t)n;
	}
	return 0;
}

/*
 * One picture that was not written to while it was read. A screen that changes all the time gives
 * the last attempt, torn as a glance at a moving screen is; `pixels` is malloc'd.
 */
static int read_screen(
	int fd, const struct limits *limits, struct vgpu_screen *ret, uint8_t **ret_pixels)
{
	cleanup_free uint8_t *pixels = NULL;
	struct vgpu_screen before = {0}, after = {0};
	struct stat file;

	/* Only of a file is a read sure to end. */
	if (fstat(fd, &file) < 0 || !S_ISREG(file.st_mode))
		return -EPROTO;
	int r = read_header(fd, limits, ret);
	if (r < 0)
		return r;
	size_t size = (size_t)ret->width * ret->height * 4;
	if (!range_inside(VGPU_SCREEN_PIXELS_OFFSET, size, (uint64_t)file.st_size))
		return -EPROTO;
	pixels = malloc(size);
	if (!pixels)
		return -ENOMEM;
	for (int i = 0; i < SCREEN_TRIES; i++) {
		r = read_header(fd, limits, &before);
		if (r == 0)
			r = read_pixels(fd, pixels, size);
		if (r == 0)
			r = read_header(fd, limits, &after);
		if (r < 0)
			return r;
		if (before.sequence == after.sequence && !(before.sequence & 1))
			break;
	}
	*ret_pixels = TAKE_PTR(pixels);
	return 0;
}

int render_png(int screen_fd, uint32_t max_width, uint32_t max_height, void **ret, size_t *ret_size)
{
	const struct limits limits = {max_width, max_height};
	struct vgpu_screen screen;
	cleanup_free uint8_t *pixels = NULL;
	png_image image = {.version = PNG_IMAGE_VERSION};
	png_alloc_size_t size = 0;

	int r = read_screen(screen_fd, &limits, &screen, &pixels);
	if (r < 0)
		return r;
	/* X is not alpha: drop it, in place. */
	size_t n = (size_t)screen.width * screen.height;
	for (size_t i = 0; i < n; i++)
		memmove(pixels + 3 * i, pixels + 4 * i, 3);
	image.width = screen.width;
	image.height = screen.height;
	image.format = PNG_FORMAT_BGR;
	image.flags = PNG_IMAGE_FLAG_FAST;
	size = PNG_IMAGE_PNG_SIZE_MAX(image);
	cleanup_free void *png = malloc(size);
	if (!png)
		return -ENOMEM;
	if (!png_image_write_to_memory(&image, png, &size, 0, pixels, 0, NULL))
		return -EIO;
	*ret = TAKE_PTR(png);
	*ret_size = size;
	return 0;
}
