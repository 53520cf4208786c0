/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_TESTS_DEVICE_VRAM_SUPPORT_H
#define VGPU_TESTS_DEVICE_VRAM_SUPPORT_H

/*
 * A device on the virgl renderer, the software GPU below it, and what this process really spends.
 * The library allows one renderer a process, so each test runs in a child of its own.
 */

#include "device/private.h"
#include "renderer/format.h"

#include <stdio.h>
#include <unistd.h>

/* In place of cmocka's, which would go on with the next test in the child. */
#define MUST(condition)                                                                            \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);            \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

struct vram {
	struct vgpu_stats stats;
	struct device *dev;
	struct device_client *client;
	uint32_t words[65536]; /* commands for context 1 */
	unsigned count;
};

/* With context 1. Ends the process with status 77 where there is no EGL. */
struct vram *vram_start(uint64_t vram_bytes);

/* Runs the test in a child; skips where it ended with 77. */
void vram_in_child(void (*test)(void));

#define PUT(v, command, object, ...)                                                               \
	vram_put(v, command, object, sizeof((uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t),         \
		(const uint32_t[]){__VA_ARGS__})
void vram_put(struct vram *v, uint32_t command, uint32_t object, unsigned n, const uint32_t *words);
int vram_run(struct vram *v); /* what was put; and waits for the driver */

/* A texture or buffer attached to context 1. */
int vram_resource(struct vram *v, uint32_t handle, const struct renderer_resource_desc *desc);
/* Every byte of it becomes `value`; false: the driver takes none. */
bool vram_fill(struct vram *v, uint32_t handle, uint8_t value);

/* A shader of stage 0 or 1 (vertex, fragment) that is different for each `number`. */
void vram_shader(struct vram *v, uint32_t handle, uint32_t stage, unsigned number, unsigned steps);
/* A pipeline that draws: shaders 10 and 11 are bound, and a target of 64 x 64. */
void vram_pipeline(struct vram *v);
void vram_draw(struct vram *v);

struct vram_cost {
	uint64_t charged;
	uint64_t heap; /* in use: what was allocated and not freed, bytes */
	uint64_t rss;
};
struct vram_cost vram_now(const struct vram *v);

#endif
