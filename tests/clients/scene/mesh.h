/* SPDX-License-Identifier: Apache-2.0 */
#ifndef SCENE_MESH_H
#define SCENE_MESH_H

#include <stddef.h>
#include <stdint.h>

struct vertex {
	float position[3];
	float normal[3];
};

/* Triangles with 16-bit indices. */
struct mesh {
	struct vertex *vertices; /* owned */
	uint16_t *indices;       /* owned */
	size_t vertex_count, index_count;
};

/* Both return 0 or -ENOMEM. */
int mesh_init_torus(struct mesh *mesh);
int mesh_init_cube(struct mesh *mesh);
void mesh_finish(struct mesh *mesh);

/* Column-major 4x4 matrices, as GL takes them. */
void matrix_multiply(float out[static 16], const float a[static 16], const float b[static 16]);
void matrix_perspective(float out[static 16], float aspect);
/* Rotation by angles in radians about x, then y, then a shift. */
void matrix_place(float out[static 16], float rx, float ry, const float shift[static 3]);

#endif
