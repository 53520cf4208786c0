/* SPDX-License-Identifier: Apache-2.0 */

/* Common pixel formats as eight bits a channel; depth and single channels as grey. */

#include "cli/inspect.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "protocol/virgl_formats.h"

#include <errno.h>
#include <png.h>
#include <stdlib.h>
#include <string.h>

#define SIDE_MAX 32768u

/* How one channel is stored. */
enum channel { UNORM8, UNORM16, FLOAT16, FLOAT32, UNORM_BITS, DEPTH_UNORM24, DEPTH_UNORM32 };

struct layout {
	enum channel channel;
	uint8_t bytes;     /* a pixel */
	const char *order; /* where red, green, blue and alpha are: "BGRA"; X: nothing; L: grey */
	uint8_t bits[4];   /* UNORM_BITS: of each in that order, from the lowest */
	uint8_t low;       /* depth: its lowest bit */
};

#define R(name, ...) [FORMAT_##name] = {__VA_ARGS__}

enum {
#define X(name, number, ...) FORMAT_##name = (number),
	VIRGL_FORMATS(X)
#undef X
};

/* clang-format off */
static const struct layout layouts[] = {
	R(B8G8R8A8_UNORM, UNORM8, 4, "BGRA"), R(B8G8R8X8_UNORM, UNORM8, 4, "BGRX"),
	R(A8R8G8B8_UNORM, UNORM8, 4, "ARGB"), R(X8R8G8B8_UNORM, UNORM8, 4, "XRGB"),
	R(R8G8B8A8_UNORM, UNORM8, 4, "RGBA"), R(R8G8B8X8_UNORM, UNORM8, 4, "RGBX"),
	R(A8B8G8R8_UNORM, UNORM8, 4, "ABGR"), R(X8B8G8R8_UNORM, UNORM8, 4, "XBGR"),
	R(B8G8R8A8_SRGB, UNORM8, 4, "BGRA"), R(B8G8R8X8_SRGB, UNORM8, 4, "BGRX"),
	R(A8R8G8B8_SRGB, UNORM8, 4, "ARGB"), R(X8R8G8B8_SRGB, UNORM8, 4, "XRGB"),
	R(R8G8B8A8_SRGB, UNORM8, 4, "RGBA"), R(R8G8B8_UNORM, UNORM8, 3, "RGB"),
	R(A8B8G8R8_SRGB, UNORM8, 4, "ABGR"), R(X8B8G8R8_SRGB, UNORM8, 4, "XBGR"),
	R(R8G8B8_SRGB, UNORM8, 3, "RGB"), R(R8G8_UNORM, UNORM8, 2, "RG"),
	R(R8_UNORM, UNORM8, 1, "L"), R(L8_UNORM, UNORM8, 1, "L"), R(A8_UNORM, UNORM8, 1, "L"),
	R(I8_UNORM, UNORM8, 1, "L"), R(L8_SRGB, UNORM8, 1, "L"), R(L8A8_UNORM, UNORM8, 2, "LA"),
	R(S8_UINT, UNORM8, 1, "L"),
	R(R16_UNORM, UNORM16, 2, "L"), R(L16_UNORM, UNORM16, 2, "L"),
	R(R16G16_UNORM, UNORM16, 4, "RG"), R(R16G16B16_UNORM, UNORM16, 6, "RGB"),
	R(R16G16B16A16_UNORM, UNORM16, 8, "RGBA"),
	R(R16_FLOAT, FLOAT16, 2, "L"), R(R16G16_FLOAT, FLOAT16, 4, "RG"),
	R(R16G16B16_FLOAT, FLOAT16, 6, "RGB"), R(R16G16B16A16_FLOAT, FLOAT16, 8, "RGBA"),
	R(R32_FLOAT, FLOAT32, 4, "L"), R(R32G32_FLOAT, FLOAT32, 8, "RG"),
	R(R32G32B32_FLOAT, FLOAT32, 12, "RGB"), R(R32G32B32A32_FLOAT, FLOAT32, 16, "RGBA"),
	R(B5G6R5_UNORM, UNORM_BITS, 2, "BGR", {5, 6, 5}),
	R(B5G5R5A1_UNORM, UNORM_BITS, 2, "BGRA", {5, 5, 5, 1}),
	R(B5G5R5X1_UNORM, UNORM_BITS, 2, "BGRX", {5, 5, 5, 1}),
	R(B4G4R4A4_UNORM, UNORM_BITS, 2, "BGRA", {4, 4, 4, 4}),
	R(B4G4R4X4_UNORM, UNORM_BITS, 2, "BGRX", {4, 4, 4, 4}),
	R(R10G10B10A2_UNORM, UNORM_BITS, 4, "RGBA", {10, 10, 10, 2}),
	R(B10G10R10A2_UNORM, UNORM_BITS, 4, "BGRA", {10, 10, 10, 2}),
	R(Z16_UNORM, UNORM16, 2, "L"), R(Z32_FLOAT, FLOAT32, 4, "L"),
	R(Z32_FLOAT_S8X24_UINT, FLOAT32, 8, "L"), R(Z32_UNORM, DEPTH_UNORM32, 4, "L"),
	R(Z24_UNORM_S8_UINT, DEPTH_UNORM24, 4, "L"), R(Z24X8_UNORM, DEPTH_UNORM24, 4, "L"),
	R(S8_UINT_Z24_UNORM, DEPTH_UNORM24, 4, "L", .low = 8),
	R(X8Z24_UNORM, DEPTH_UNORM24, 4, "L", .low = 8),
};

static const char *const format_names[] = {
#define X(name, number, ...) [number] = #name,
	VIRGL_FORMATS(X)
#undef X
};
/* clang-format on */

const char *inspect_format_name(uint32_t format)
{
	if (format >= ARRAY_SIZE(format_names) || !format_names[format])
		return "?";
	return format_names[format];
}

static uint8_t of_float(float value)
{
	/* NaN is not greater than anything. */
	return value > 0 ? (uint8_t)(value < 1 ? value * 255 + 0.5f : 255) : 0;
}

static uint8_t of_half(uint16_t half)
{
	uint32_t exponent = half >> 10 & 31, mantissa = half & 1023;

	if (half & 0x8000)
		return 0;
	if (exponent == 31)
		return mantissa ? 0 : 255;
	float value = (float)(exponent ? mantissa | 1024 : mantissa) / 1024;
	for (uint32_t e = exponent ? exponent : 1; e < 15; e++)
		value /= 2;
	return exponent > 15 ? 255 : of_float(value);
}

static uint8_t read_channel(const struct layout *l, const uint8_t *pixel, unsigned index)
{
	uint32_t word = 0;
	uint16_t half = 0;
	float real = 0;
	unsigned low = 0;

	switch (l->channel) {
	case UNORM8:
		return pixel[index];
	case UNORM16:
		return pixel[2 * index + 1];
	case FLOAT16:
		memcpy(&half, pixel + 2 * index, 2);
		return of_half(half);
	case FLOAT32:
		memcpy(&real, pixel + 4 * index, 4);
		return of_float(real);
	case UNORM_BITS:
		memcpy(&word, pixel, l->bytes);
		for (unsigned i = 0; i < index; i++)
			low += l->bits[i];
		uint32_t most = (1u << l->bits[index]) - 1;
		return (uint8_t)((word >> low & most) * 255 / most);
	case DEPTH_UNORM24:
		memcpy(&word, pixel, 4);
		return (uint8_t)(word >> (l->low + 16));
	case DEPTH_UNORM32:
		return pixel[3];
	}
	return 0;
}

static void convert(const struct layout *l, const uint8_t *pixel, uint8_t *rgba)
{
	static const char names[] = "RGBA";

	rgba[0] = rgba[1] = rgba[2] = 0;
	rgba[3] = 255;
	for (unsigned i = 0; l->order[i]; i++) {
		const char *to = strchr(names, l->order[i]);
		if (to)
			rgba[to - names] = read_channel(l, pixel, i);
		else if (l->order[i] == 'L')
			rgba[0] = rgba[1] = rgba[2] = read_channel(l, pixel, i);
	}
}

int inspect_write_png(const struct picture *p, const char *path)
{
	const struct layout *l = p->format < ARRAY_SIZE(layouts) ? &layouts[p->format] : NULL;

	if (!l || !l->bytes)
		return -ENOTSUP;
	if (!p->width || !p->height || p->width > SIDE_MAX || p->height > SIDE_MAX ||
		p->size != (uint64_t)p->width * p->height * l->bytes)
		return -EINVAL;
	size_t n = (size_t)p->width * p->height;
	cleanup_free uint8_t *rgba = malloc(4 * n);
	if (!rgba)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		convert(l, p->bytes + i * l->bytes, rgba + 4 * i);
	png_image image = {.version = PNG_IMAGE_VERSION,
		.width = p->width,
		.height = p->height,
		.format = PNG_FORMAT_RGBA,
		.flags = PNG_IMAGE_FLAG_FAST};
	return png_image_write_to_file(&image, path, 0, rgba, 0, NULL) ? 0 : -EIO;
}
