/* SPDX-License-Identifier: Apache-2.0 */
#include "mesh.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TORUS_RINGS 48u
#define TORUS_SIDES 24u

static int allocate(struct mesh *mesh, size_t vertices, size_t indices)
{
	*mesh = (struct mesh){
		.vertices = calloc(vertices, sizeof(struct vertex)),
		.indices = calloc(indices, sizeof(uint16_t)),
		.vertex_count = vertices,
		.index_count = indices,
	};
	if (mesh->vertices && mesh->indices)
		return 0;
	mesh_finish(mesh);
	return -ENOMEM;
}

int mesh_init_torus(struct mesh *mesh)
{
	const float tau = 6.2831853f, tube = 0.45f;
	size_t at = 0;

	if (allocate(mesh, TORUS_RINGS * TORUS_SIDES, TORUS_RINGS * TORUS_SIDES * 6))
		return -ENOMEM;
	for (unsigned r = 0; r < TORUS_RINGS; r++) {
		for (unsigned s = 0; s < TORUS_SIDES; s++) {
			float u = tau * (float)r / TORUS_RINGS, v = tau * (float)s / TORUS_SIDES;
			float n[3] = {cosf(u) * cosf(v), sinf(u) * cosf(v), sinf(v)};
			struct vertex *vertex = &mesh->vertices[r * TORUS_SIDES + s];

			memcpy(vertex->normal, n, sizeof(n));
			vertex->position[0] = cosf(u) + tube * n[0];
			vertex->position[1] = sinf(u) + tube * n[1];
			vertex->position[2] = tube * n[2];

			unsigned r1 = (r + 1) % TORUS_RINGS, s1 = (s + 1) % TORUS_SIDES;
			unsigned corner[6] = {
				r * TORUS_SIDES + s,
				r1 * TORUS_SIDES + s,
				r1 * TORUS_SIDES + s1,
				r1 * TORUS_SIDES + s1,
				r * TORUS_SIDES + s1,
				r * TORUS_SIDES + s,
			};
			for (unsigned i = 0; i < 6; i++)
				mesh->indices[at++] = (uint16_t)corner[i];
		}
	}
	return 0;
}

int mesh_init_cube(struct mesh *mesh)
{
	static const float corner[4][2] = {{-1, -1}, {1, -1}, {1, 1}, {-1, 1}};
	static const uint16_t order[6] = {0, 1, 2, 2, 3, 0};

	if (allocate(mesh, 24, 36))
		return -ENOMEM;
	for (unsigned face = 0; face < 6; face++) {
		unsigned axis = face / 2;
		float side = face % 2 ? 1.0f : -1.0f;

		for (unsigned c = 0; c < 4; c++) {
			struct vertex *vertex = &mesh->vertices[face * 4 + c];

			vertex->normal[axis] = side;
			vertex->position[axis] = side;
			vertex->position[(axis + 1) % 3] = corner[c][0] * side;
			vertex->position[(axis + 2) % 3] = corner[c][1];
		}
		for (unsigned i = 0; i < 6; i++)
			mesh->indices[face * 6 + i] = (uint16_t)(face * 4 + order[i]);
	}
	return 0;
}

void mesh_finish(struct mesh *mesh)
{
	free(mesh->vertices);
	free(mesh->indices);
	*mesh = (struct mesh){0};
}

void matrix_multiply(float out[static 16], const float a[static 16], const float b[static 16])
{
	for (int column = 0; column < 4; column++) {
		for (int row = 0; row < 4; row++) {
			float sum = 0;

			for (int i = 0; i < 4; i++)
				sum += a[i * 4 + row] * b[column * 4 + i];
			out[column * 4 + row] = sum;
		}
	}
}

void matrix_perspective(float out[static 16], float aspect)
{
	const float near = 1.0f, far = 40.0f, scale = 1.8f;

	memset(out, 0, 16 * sizeof(float));
	out[0] = scale / aspect;
	out[5] = scale;
	out[10] = (far + near) / (near - far);
	out[11] = -1;
	out[14] = 2 * far * near / (near - far);
}

void matrix_place(float out[static 16], float rx, float ry, const float shift[static 3])
{
	const float cx = cosf(rx), sx = sinf(rx), cy = cosf(ry), sy = sinf(ry);
	const float placed[16] = {
		cy,
		0,
		-sy,
		0, /* x axis */
		sx * sy,
		cx,
		sx * cy,
		0, /* y axis */
		cx * sy,
		-sx,
		cx * cy,
		0, /* z axis */
		shift[0],
		shift[1],
		shift[2],
		1,
	};

	memcpy(out, placed, sizeof(placed));
}
