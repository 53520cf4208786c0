/* SPDX-License-Identifier: Apache-2.0 */
#include "draw.h"

#include <GLES2/gl2.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>

#define FIELD_SIDE 5 /* cubes along one side of the field */

static const char vertex_source[] = "attribute vec3 position;\n"
				    "attribute vec3 normal;\n"
				    "uniform mat4 matrix;\n"
				    "uniform mat4 model;\n"
				    "varying vec3 v_normal;\n"
				    "void main()\n"
				    "{\n"
				    "	v_normal = mat3(model) * normal;\n"
				    "	gl_Position = matrix * vec4(position, 1.0);\n"
				    "}\n";

static const char fragment_source[] =
	"precision mediump float;\n"
	"uniform vec3 color;\n"
	"varying vec3 v_normal;\n"
	"void main()\n"
	"{\n"
	"	vec3 n = normalize(v_normal);\n"
	"	vec3 light = normalize(vec3(0.4, 0.7, 0.9));\n"
	"	float diffuse = max(dot(n, light), 0.0);\n"
	"	float shine = pow(max(dot(reflect(-light, n), vec3(0.0, 0.0, 1.0)), 0.0), 24.0);\n"
	"	gl_FragColor = vec4(color * (0.2 + 0.8 * diffuse) + vec3(0.5 * shine), 1.0);\n"
	"}\n";

static unsigned compile(GLenum kind, const char *source)
{
	unsigned shader = glCreateShader(kind);
	GLint ok = 0;

	glShaderSource(shader, 1, &source, NULL);
	glCompileShader(shader);
	glGetShaderiv(shader, GL_COMPILE_STATUS, &ok);
	return ok ? shader : 0;
}

static int link_program(struct scene *scene)
{
	unsigned vertex = compile(GL_VERTEX_SHADER, vertex_source);
	unsigned fragment = compile(GL_FRAGMENT_SHADER, fragment_source);
	GLint ok = 0;

	if (!vertex || !fragment)
		return -EIO;
	scene->program = glCreateProgram();
	glAttachShader(scene->program, vertex);
	glAttachShader(scene->program, fragment);
	glBindAttribLocation(scene->program, 0, "position");
	glBindAttribLocation(scene->program, 1, "normal");
	glLinkProgram(scene->program);
	glGetProgramiv(scene->program, GL_LINK_STATUS, &ok);
	scene->u_matrix = glGetUniformLocation(scene->program, "matrix");
	scene->u_model = glGetUniformLocation(scene->program, "model");
	scene->u_color = glGetUniformLocation(scene->program, "color");
	glDeleteShader(vertex);
	glDeleteShader(fragment);
	return ok ? 0 : -EIO;
}

int scene_init(struct scene *scene, enum scene_variant variant, uint32_t rgb)
{
	static int (*const shapes[SCENE_VARIANT_COUNT])(struct mesh *) = {
		[SCENE_CUBE] = mesh_init_cube,
		[SCENE_TORUS] = mesh_init_torus,
	};
	int r;

	*scene = (struct scene){.variant = variant};
	for (int i = 0; i < 3; i++)
		scene->color[i] = (float)(rgb >> (16 - 8 * i) & 0xff) / 255.0f;
	r = shapes[variant](&scene->mesh);
	if (r)
		return r;
	r = link_program(scene);
	if (r)
		return r;
	glGenBuffers(2, scene->buffers);
	glBindBuffer(GL_ARRAY_BUFFER, scene->buffers[0]);
	glBufferData(GL_ARRAY_BUFFER,
		(GLsizeiptr)(scene->mesh.vertex_count * sizeof(struct vertex)),
		scene->mesh.vertices, GL_STATIC_DRAW);
	glBindBuffer(GL_ELEMENT_ARRAY_BUFFER, scene->buffers[1]);
	glBufferData(GL_ELEMENT_ARRAY_BUFFER,
		(GLsizeiptr)(scene->mesh.index_count * sizeof(uint16_t)), scene->mesh.indices,
		GL_STATIC_DRAW);
	return glGetError() == GL_NO_ERROR ? 0 : -EIO;
}

void scene_finish(struct scene *scene)
{
	glDeleteBuffers(2, scene->buffers);
	glDeleteProgram(scene->program);
	mesh_finish(&scene->mesh);
}

static void draw_one(const struct scene *scene, const float view[static 16], float rx, float ry,
	const float shift[static 3], float shade)
{
	float model[16], matrix[16];

	matrix_place(model, rx, ry, shift);
	matrix_multiply(matrix, view, model);
	glUniformMatrix4fv(scene->u_model, 1, GL_FALSE, model);
	glUniformMatrix4fv(scene->u_matrix, 1, GL_FALSE, matrix);
	glUniform3f(scene->u_color, scene->color[0] * shade, scene->color[1] * shade,
		scene->color[2] * shade);
	glDrawElements(GL_TRIANGLES, (GLsizei)scene->mesh.index_count, GL_UNSIGNED_SHORT, NULL);
}

static void draw_torus(const struct scene *scene, const float view[static 16], float seconds)
{
	const float shift[3] = {0, 0, -4.5f};

	draw_one(scene, view, seconds * 1.1f, seconds * 0.7f, shift, 1);
}

static void draw_cubes(const struct scene *scene, const float view[static 16], float seconds)
{
	for (int i = 0; i < FIELD_SIDE * FIELD_SIDE; i++) {
		float x = (float)(i % FIELD_SIDE - FIELD_SIDE / 2);
		float y = (float)(i / FIELD_SIDE - FIELD_SIDE / 2);
		const float shift[3] = {x * 3.4f, y * 3.4f, -17.0f + sinf(seconds + x + y)};

		draw_one(scene, view, seconds + x * 0.5f, seconds * 0.8f + y * 0.5f, shift,
			0.5f + 0.5f * (float)i / (FIELD_SIDE * FIELD_SIDE));
	}
}

void scene_draw(const struct scene *scene, uint32_t width, uint32_t height, float seconds)
{
	static void (*const drawers[SCENE_VARIANT_COUNT])(
		const struct scene *, const float *, float) = {
		[SCENE_CUBE] = draw_cubes,
		[SCENE_TORUS] = draw_torus,
	};
	float view[16];

	matrix_perspective(view, (float)width / (float)height);
	glViewport(0, 0, (GLsizei)width, (GLsizei)height);
	/* The background says whose screen it is even when nothing else is recognisable. */
	glClearColor(0.05f + 0.15f * (1 - scene->color[0]), 0.05f + 0.15f * (1 - scene->color[1]),
		0.05f + 0.15f * (1 - scene->color[2]), 1);
	glClear(GL_COLOR_BUFFER_BIT | GL_DEPTH_BUFFER_BIT);
	glEnable(GL_DEPTH_TEST);
	glUseProgram(scene->program);
	glBindBuffer(GL_ARRAY_BUFFER, scene->buffers[0]);
	glBindBuffer(GL_ELEMENT_ARRAY_BUFFER, scene->buffers[1]);
	glVertexAttribPointer(0, 3, GL_FLOAT, GL_FALSE, sizeof(struct vertex),
		(const void *)offsetof(struct vertex, position));
	glVertexAttribPointer(1, 3, GL_FLOAT, GL_FALSE, sizeof(struct vertex),
		(const void *)offsetof(struct vertex, normal));
	glEnableVertexAttribArray(0);
	glEnableVertexAttribArray(1);
	drawers[scene->variant](scene, view, seconds);
}
