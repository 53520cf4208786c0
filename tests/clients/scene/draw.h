/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SCENE_DRAW_H
#define SCENE_DRAW_H

#include <stdint.h>

#include "mesh.h"

/* The pictures there are; each is a lit 3D scene that moves with time. */
enum scene_variant { SCENE_CUBE, SCENE_TORUS, SCENE_VARIANT_COUNT };

struct scene {
	enum scene_variant variant;
	float color[3]; /* 0..1 */
	unsigned program, buffers[2];
	int u_matrix, u_model, u_color;
	struct mesh mesh;
};

/* Needs a current GL ES 2 context. Returns 0 or -errno. */
int scene_init(struct scene *scene, enum scene_variant variant, uint32_t rgb);
void scene_finish(struct scene *scene);

/* Draws the scene at `seconds` into the bound framebuffer. */
void scene_draw(const struct scene *scene, uint32_t width, uint32_t height, float seconds);

#endif
