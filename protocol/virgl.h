/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_PROTOCOL_VIRGL_H
#define VGPU_PROTOCOL_VIRGL_H

/*
 * Numbers of the virgl protocol: what virgl.def's rows are made of, and the sizes of the host
 * library's fixed tables, which no command may index beyond. A command is one header dword
 * (opcode 8 bits, object type 8 bits, length 16 bits in dwords after the header) and its payload.
 */

#include <stdint.h>

#define VIRGL_HEADER(opcode, type, len)                                                            \
	((uint32_t)(opcode) | (uint32_t)(type) << 8 | (uint32_t)(len) << 16)
#define VIRGL_HEADER_OPCODE(header) ((header)&0xffu)
#define VIRGL_HEADER_TYPE(header)   ((header) >> 8 & 0xffu)
#define VIRGL_HEADER_LENGTH(header) ((header) >> 16)
#define VIRGL_HEADER_LENGTH_MAX     0xffffu

/* Where a command carries resource handles; count 0: nowhere. */
struct virgl_resources {
	uint8_t first;  /* dword; the header is dword 0 */
	uint8_t stride; /* dwords */
	uint8_t count;
	uint8_t may_be_none; /* handle 0 means "none" */
};

enum virgl_command {
#define VIRGL_COMMAND(opcode, name, ...) VIRGL_##name = (opcode),
#include "protocol/virgl.def"
	VIRGL_COMMANDS = 64,
};

enum virgl_object {
#define VIRGL_OBJECT(type, name, ...) VIRGL_OBJECT_##name = (type),
#include "protocol/virgl.def"
	VIRGL_OBJECTS = 12,
};

enum virgl_class {
	VIRGL_CLASS_NONE,
	VIRGL_CLASS_CREATE,
	VIRGL_CLASS_BIND,
	VIRGL_CLASS_DESTROY,
	VIRGL_CLASS_STATE,
	VIRGL_CLASS_DRAW,
	VIRGL_CLASS_TRANSFER,
	VIRGL_CLASS_QUERY,
	VIRGL_CLASS_RESULT, /* asks for the result of a query */
	VIRGL_CLASS_CONTEXT,
	VIRGL_CLASS_RESOURCE,
	VIRGL_CLASS_HINT,
	VIRGL_CLASS_VIDEO,
	VIRGL_CLASSES,
};

enum {
	VIRGL_STAGE_FRAGMENT = 1,
	VIRGL_STAGE_COMPUTE = 5,
	VIRGL_STAGES = 6, /* vertex, fragment, geometry, tess control, tess evaluation, compute */

	VIRGL_COLOUR_BUFFERS = 8,
	VIRGL_VIEWPORTS = 16,
	VIRGL_VERTEX_BUFFERS = 32,
	VIRGL_SAMPLER_VIEWS = 128,
	VIRGL_SAMPLERS = 32,
	VIRGL_UNIFORM_BUFFERS = 32,
	VIRGL_SHADER_BUFFERS = 32,
	VIRGL_SHADER_IMAGES = 32,
	VIRGL_ATOMIC_BUFFERS = 32,
	VIRGL_LEVELS = 16,
	VIRGL_FORMATS = 322, /* in 0.10.4; later libraries have more, none of them for images */

	VIRGL_SO_BUFFERS = 4,
	VIRGL_SO_OUTPUTS = 64,
	VIRGL_SO_VARYINGS = 160, /* with the skip and next-buffer marks between them */

	VIRGL_TRANSFER_TO_HOST = 1,
	VIRGL_TRANSFER_FROM_HOST = 2,
	VIRGL_COPY_TRANSFER_FROM_HOST = 2, /* a bit of its flags */
};

/* The only kind of query that is not begun. */
#define VIRGL_QUERY_TIMESTAMP 2u

/* In a rasterizer's first word: depth is clipped to 0..1. */
#define VIRGL_RASTERIZER_HALF_Z 4u

/* Dword 3 of a shader: its text's length in bytes, or with this bit a further part's offset. */
#define VIRGL_SHADER_CONTINUES 0x80000000u

/* Mesa gives up beyond this; its texts are far shorter. */
#define VIRGL_SHADER_TEXT_MAX (32u << 20)

#endif
