/* SPDX-License-Identifier: Apache-2.0 */
#include "renderer/format.h"

#include "base/checked.h"

static const struct format_block format_blocks[] = {
#define X(name, number, block_w, block_h, size) [number] = {block_w, block_h, size},
	VIRGL_FORMATS(X)
#undef X
};

struct format_block format_block(uint32_t format)
{
	return format < ARRAY_SIZE(format_blocks) ? format_blocks[format]
						  : (struct format_block){0};
}

static uint32_t format_minify(uint32_t size, uint32_t level)
{
	return MAX(size >> level, 1u);
}

/* Size of a level, in texels; layers in *d for 3D textures, 1 otherwise. */
static void level_size(const struct renderer_resource_desc *desc, uint32_t level, uint32_t *w,
	uint32_t *h, uint32_t *d)
{
	*w = format_minify(desc->width, level);
	*h = format_minify(desc->height, level);
	*d = desc->target == PIPE_TEXTURE_3D ? format_minify(desc->depth, level) : 1;
}

static uint64_t format_blocks_across(uint32_t texels, uint8_t block)
{
	return ((uint64_t)texels + block - 1) / block;
}

/*
 * Drivers pad: llvmpipe gives rows of uncompressed formats a multiple of 64 bytes and levels one of
 * 4 x 4 texels. Without that a texture one texel wide would take hundreds of times its size.
 */
#define FORMAT_ROW_ALIGN    64u
#define FORMAT_TEXELS_ALIGN 4u

static uint64_t format_align(uint64_t n, uint32_t to)
{
	return (n + to - 1) / to * to;
}

static uint64_t format_layer_bytes(const struct renderer_resource_desc *desc,
	struct format_block block, uint32_t w, uint32_t h)
{
	bool lines = desc->target == PIPE_TEXTURE_1D || desc->target == PIPE_TEXTURE_1D_ARRAY;

	if (block.width > 1 || block.height > 1)
		return format_blocks_across(w, block.width) *
		       format_blocks_across(h, block.height) * block.bytes;
	uint64_t row = format_align(w, FORMAT_TEXELS_ALIGN) * block.bytes;
	return format_align(row, FORMAT_ROW_ALIGN) *
	       (lines ? h : format_align(h, FORMAT_TEXELS_ALIGN));
}

#define FORMAT_MAX_SIDE    32768u
#define FORMAT_MAX_LAYERS  16384u
#define FORMAT_MAX_LEVELS  16u
#define FORMAT_MAX_SAMPLES 32u

static bool format_desc_possible(const struct renderer_resource_desc *desc)
{
	if (desc->target >= PIPE_TARGET_COUNT || !desc->width)
		return false;
	if (desc->target == PIPE_BUFFER)
		return desc->height <= 1 && desc->depth <= 1 && desc->array_size <= 1 &&
		       !desc->last_level && desc->nr_samples <= 1;
	return desc->height && desc->depth && desc->array_size && desc->width <= FORMAT_MAX_SIDE &&
	       desc->height <= FORMAT_MAX_SIDE && desc->depth <= FORMAT_MAX_LAYERS &&
	       desc->array_size <= FORMAT_MAX_LAYERS && desc->last_level < FORMAT_MAX_LEVELS &&
	       desc->nr_samples <= FORMAT_MAX_SAMPLES;
}

bool format_resource_size(const struct renderer_resource_desc *desc, uint64_t *ret_bytes)
{
	uint64_t total = 0;

	if (!format_desc_possible(desc))
		return false;
	if (desc->target == PIPE_BUFFER) {
		*ret_bytes = desc->width;
		return true;
	}
	struct format_block block = format_block(desc->format);
	if (!block.bytes)
		return false;
	for (uint32_t level = 0; level <= desc->last_level; level++) {
		uint32_t w, h, d;
		uint64_t bytes;
		level_size(desc, level, &w, &h, &d);
		bytes = format_layer_bytes(desc, block, w, h);
		if (!checked_mul(bytes, (uint64_t)d * desc->array_size, &bytes) ||
			!checked_mul(bytes, MAX(desc->nr_samples, 1u), &bytes) ||
			!checked_add(total, bytes, &total))
			return false;
	}
	*ret_bytes = total;
	return true;
}

/* ---- what the host spends ---- */

/*
 * Beside the texels, measured with virglrenderer 0.10.4 on llvmpipe of Mesa 22.3
 * (tests/unit/device/test_vram.c measures again): records of the library, of the GL and of the
 * driver, for the resource, for each image (a level, or a face of one) and for each layer that was
 * ever transferred.
 */
#define HOST_TEXTURE     3072u
#define HOST_IMAGE       160u
#define HOST_LAYER       48u
#define HOST_BUFFER      1792u
#define HOST_LEVEL_ALIGN 64u
#define HOST_VIEW        1536u
#define HOST_LEAST_MANY  4u /* samples, where there are several */

#define BIND_CUSTOM  (1u << 17)
#define BIND_STAGING (1u << 19)
#define HOST_MEMORY  1024u /* of a buffer that is no GL object */

static uint32_t host_samples(uint32_t asked)
{
	uint32_t samples = HOST_LEAST_MANY;

	if (asked <= 1)
		return 1;
	while (samples < asked)
		samples *= 2;
	return samples;
}

/* Two texels in four bytes are stored as two of four by newer drivers (Mesa 25). */
static struct format_block host_block(uint32_t format)
{
	struct format_block block = format_block(format);

	if (block.width == 2 && block.height == 1)
		block.width = 1;
	return block;
}

static uint32_t host_faces(const struct renderer_resource_desc *desc)
{
	return desc->target == PIPE_TEXTURE_CUBE ? 6 : 1;
}

static uint64_t host_layers(const struct renderer_resource_desc *desc, uint32_t depth)
{
	return desc->target == PIPE_TEXTURE_3D ? depth : MAX(desc->array_size, host_faces(desc));
}

/* The faces of a cube are transferred as layers, and each image has room for those up to it. */
static uint64_t host_level_overhead(const struct renderer_resource_desc *desc, uint64_t layers)
{
	uint32_t faces = host_faces(desc);

	return faces * HOST_IMAGE + HOST_LAYER * (faces > 1 ? faces * (faces + 1u) / 2 : layers);
}

static uint64_t host_buffer_bytes(const struct renderer_resource_desc *desc)
{
	/* Staging memory is the guest's alone. */
	if (desc->bind == BIND_STAGING)
		return HOST_MEMORY;
	return (uint64_t)desc->width + (desc->bind == BIND_CUSTOM ? HOST_MEMORY : HOST_BUFFER);
}

bool format_host_bytes(const struct renderer_resource_desc *desc, uint64_t *ret_bytes)
{
	uint64_t total = HOST_TEXTURE;

	if (!format_desc_possible(desc))
		return false;
	if (desc->target == PIPE_BUFFER) {
		*ret_bytes = host_buffer_bytes(desc);
		return true;
	}
	struct format_block block = host_block(desc->format);
	if (!block.bytes)
		return false;
	for (uint32_t level = 0; level <= desc->last_level; level++) {
		uint32_t w, h, d;
		uint64_t bytes;
		level_size(desc, level, &w, &h, &d);
		uint64_t layers = host_layers(desc, d);
		bytes = format_layer_bytes(desc, block, w, h);
		if (!checked_mul(bytes, layers * host_samples(desc->nr_samples), &bytes) ||
			!checked_add(format_align(bytes, HOST_LEVEL_ALIGN),
				host_level_overhead(desc, layers), &bytes) ||
			!checked_add(total, bytes, &total))
			return false;
	}
	*ret_bytes = total;
	return true;
}

uint32_t format_host_view_bytes(const struct renderer_resource_desc *desc)
{
	if (desc->target == PIPE_BUFFER)
		return 0;
	return HOST_VIEW + (desc->last_level + 1u) * host_faces(desc) * HOST_IMAGE;
}

bool format_box_inside(
	const struct renderer_resource_desc *desc, uint32_t level, const struct renderer_box *box)
{
	uint32_t w, h, d;

	if (level > desc->last_level)
		return false;
	if (desc->target == PIPE_BUFFER)
		return range_inside(box->x, box->w, desc->width) && box->y == 0 && box->z == 0 &&
		       box->h <= 1 && box->d <= 1;
	level_size(desc, level, &w, &h, &d);
	if (desc->target != PIPE_TEXTURE_3D)
		d = desc->array_size;
	if (desc->target == PIPE_TEXTURE_1D_ARRAY && box->h > 1) /* layers given as y */
		h = desc->array_size;
	return range_inside(box->x, box->w, w) && range_inside(box->y, box->h, h) &&
	       range_inside(box->z, box->d, d);
}

bool format_box_bytes(const struct renderer_resource_desc *desc, uint32_t level,
	const struct renderer_box *box, uint32_t stride, uint32_t layer_stride, uint64_t *ret_bytes)
{
	uint64_t row, rows, pitch, layer;
	uint32_t w, h, d;

	if (desc->target == PIPE_BUFFER) {
		*ret_bytes = box->w;
		return true;
	}
	struct format_block block = format_block(desc->format);
	if (!block.bytes)
		return false;
	row = format_blocks_across(box->w, block.width) * block.bytes;
	rows = format_blocks_across(box->h, block.height);
	if (!row || !rows || !box->d) {
		*ret_bytes = 0;
		return true;
	}
	if (stride && stride < row)
		return false;
	level_size(desc, level, &w, &h, &d);
	pitch = stride ? stride : format_blocks_across(w, block.width) * block.bytes;
	if (layer_stride && layer_stride < pitch * rows)
		return false;
	layer = layer_stride ? layer_stride : pitch * format_blocks_across(h, block.height);
	if (!checked_mul(layer, box->d - 1u, &layer))
		return false;
	return checked_add(layer, pitch * (rows - 1) + row, ret_bytes);
}

/* Byte of B, G, R, A within each pixel, lowest address first; 4: there is none, it reads as 0xff.
 */
static const struct {
	uint32_t format;
	uint8_t b, g, r, a;
} format_screens[] = {
	{VIRGL_FORMAT_B8G8R8A8_UNORM, 0, 1, 2, 3},
	{VIRGL_FORMAT_B8G8R8X8_UNORM, 0, 1, 2, 4},
	{VIRGL_FORMAT_A8R8G8B8_UNORM, 3, 2, 1, 0},
	{VIRGL_FORMAT_X8R8G8B8_UNORM, 3, 2, 1, 4},
	{VIRGL_FORMAT_R8G8B8A8_UNORM, 2, 1, 0, 3},
	{VIRGL_FORMAT_R8G8B8X8_UNORM, 2, 1, 0, 4},
	{VIRGL_FORMAT_A8B8G8R8_UNORM, 1, 2, 3, 0},
	{VIRGL_FORMAT_X8B8G8R8_UNORM, 1, 2, 3, 4},
	{VIRGL_FORMAT_B8G8R8A8_SRGB, 0, 1, 2, 3},
	{VIRGL_FORMAT_B8G8R8X8_SRGB, 0, 1, 2, 4},
	{VIRGL_FORMAT_R8G8B8A8_SRGB, 2, 1, 0, 3},
	{VIRGL_FORMAT_R8G8B8X8_SRGB, 2, 1, 0, 4},
};

bool format_is_screen(uint32_t format)
{
	for (size_t i = 0; i < ARRAY_SIZE(format_screens); i++) {
		if (format_screens[i].format == format)
			return true;
	}
	return false;
}

void format_to_bgra(uint32_t format, uint32_t *pixels, size_t n)
{
	size_t row = 0;

	while (row < ARRAY_SIZE(format_screens) && format_screens[row].format != format)
		row++;
	if (row == ARRAY_SIZE(format_screens) ||
		(format_screens[row].b == 0 && format_screens[row].a == 3))
		return;
	for (size_t i = 0; i < n; i++) {
		uint8_t p[5];
		__builtin_memcpy(p, &pixels[i], 4);
		p[4] = 0xff;
		pixels[i] = (uint32_t)p[format_screens[row].b] |
			    (uint32_t)p[format_screens[row].g] << 8 |
			    (uint32_t)p[format_screens[row].r] << 16 |
			    (uint32_t)p[format_screens[row].a] << 24;
	}
}

/* ---- contents as they are saved ---- */

static uint32_t format_level_layers(const struct renderer_resource_desc *desc, uint32_t level)
{
	switch (desc->target) {
	case PIPE_TEXTURE_3D:
		return format_minify(desc->depth, level);
	case PIPE_TEXTURE_CUBE:
		return 6;
	case PIPE_TEXTURE_1D_ARRAY:
	case PIPE_TEXTURE_2D_ARRAY:
	case PIPE_TEXTURE_CUBE_ARRAY:
		return desc->array_size;
	default:
		return 1;
	}
}

static bool format_content_possible(const struct renderer_resource_desc *desc)
{
	return format_desc_possible(desc) &&
	       (desc->target == PIPE_BUFFER || format_block(desc->format).bytes);
}

uint32_t format_content_parts(const struct renderer_resource_desc *desc)
{
	uint32_t parts = 0;

	if (!format_content_possible(desc))
		return 0;
	/* At most 16 levels of 16384 layers of 32 samples. */
	for (uint32_t level = 0; level <= desc->last_level; level++)
		parts += format_level_layers(desc, level) * MAX(desc->nr_samples, 1u);
	return parts;
}

bool format_content_part(
	const struct renderer_resource_desc *desc, uint32_t part, struct format_content_part *ret)
{
	uint32_t samples = MAX(desc->nr_samples, 1u), level = 0, w, h, d;

	if (!format_content_possible(desc))
		return false;
	if (desc->target == PIPE_BUFFER) {
		*ret = (struct format_content_part){
			.width = desc->width, .height = 1, .bytes = desc->width};
		return part == 0;
	}
	while (part >= format_level_layers(desc, level) * samples) {
		part -= format_level_layers(desc, level) * samples;
		if (++level > desc->last_level)
			return false;
	}
	struct format_block block = format_block(desc->format);
	level_size(desc, level, &w, &h, &d);
	if (desc->target == PIPE_TEXTURE_1D || desc->target == PIPE_TEXTURE_1D_ARRAY)
		h = 1;
	*ret = (struct format_content_part){
		.level = level,
		.layer = part / samples,
		.sample = part % samples,
		.width = w,
		.height = h,
		.bytes = format_blocks_across(w, block.width) *
			 format_blocks_across(h, block.height) * block.bytes,
	};
	return true;
}
