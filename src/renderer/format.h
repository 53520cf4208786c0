/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_RENDERER_FORMAT_H
#define VGPU_RENDERER_FORMAT_H

/*
 * Arithmetic on pixel formats: what a resource costs, where a box lies in memory, and the order of
 * the bytes of the formats a screen can show.
 */

#include "renderer/interface.h"

#include "protocol/virgl_formats.h"

enum {
	PIPE_BUFFER = 0,
	PIPE_TEXTURE_1D = 1,
	PIPE_TEXTURE_2D = 2,
	PIPE_TEXTURE_3D = 3,
	PIPE_TEXTURE_CUBE = 4,
	PIPE_TEXTURE_RECT = 5,
	PIPE_TEXTURE_1D_ARRAY = 6,
	PIPE_TEXTURE_2D_ARRAY = 7,
	PIPE_TEXTURE_CUBE_ARRAY = 8,
	PIPE_TARGET_COUNT
};

struct format_block {
	uint8_t width, height; /* texels; 0: unknown format */
	uint8_t bytes;
};

/* All-zero for a number that is no format. */
struct format_block format_block(uint32_t format);

/*
 * Bytes of all levels, layers and samples, with the padding that a software driver gives them.
 * False: the description is not a possible resource. States that were saved depend on this sum;
 * what a quota is charged is format_host_bytes().
 */
bool format_resource_size(const struct renderer_resource_desc *desc, uint64_t *ret_bytes);

/*
 * What a resource takes of the host's memory when all of it is in use: its texels as a software
 * driver lays them out, with the samples it really has, and the records that library and driver
 * keep of it. At least 0.9 of what was measured for every shape and format, so that a quota by it
 * is a limit. False: as above.
 */
bool format_host_bytes(const struct renderer_resource_desc *desc, uint64_t *ret_bytes);

/* The same for a view of a texture, with other levels, layers or format than its own. */
uint32_t format_host_view_bytes(const struct renderer_resource_desc *desc);

/* True when the box lies inside that level (layers of arrays and cubes count as z). */
bool format_box_inside(
	const struct renderer_resource_desc *desc, uint32_t level, const struct renderer_box *box);

/*
 * Bytes a transfer of the box touches, from its first to its last, in memory laid out with those
 * strides; 0: those of the level itself. False when it overflows or a stride is too small.
 */
bool format_box_bytes(const struct renderer_resource_desc *desc, uint32_t level,
	const struct renderer_box *box, uint32_t stride, uint32_t layer_stride,
	uint64_t *ret_bytes);

/* True for the eight 32-bit formats a screen or cursor can have (virtio 1.2, 5.7.6.8). */
bool format_is_screen(uint32_t format);

/* Converts `n` pixels in place from a screen format to B8G8R8A8 order. */
void format_to_bgra(uint32_t format, uint32_t *pixels, size_t n);

/*
 * Contents as they are saved: a resource is a list of parts, and each part is one layer, face or
 * slice of one level and, with several samples, of one sample; rows top to bottom as the transfer
 * API orders them, without padding. Buffers are one part.
 */
struct format_content_part {
	uint32_t level;
	uint32_t layer;         /* array layer, cube face, slice of a 3D texture */
	uint32_t sample;        /* 0 when there is one */
	uint32_t width, height; /* texels */
	uint64_t bytes;
};

/* 0: no such format or shape. */
uint32_t format_content_parts(const struct renderer_resource_desc *desc);
/* False past the last one. */
bool format_content_part(
	const struct renderer_resource_desc *desc, uint32_t part, struct format_content_part *ret);

#endif
