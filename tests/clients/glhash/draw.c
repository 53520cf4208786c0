/* SPDX-License-Identifier: Apache-2.0 */

/* Scenes about drawing: primitives, tests, blending, attributes. */

#include "glhash.h"

#define TRIANGLES 64

static void init_triangles(struct glhash *g)
{
	int16_t xy[TRIANGLES * 6];

	random_triangles(g, xy, TRIANGLES);
	g->array[0] = make_positions(g, g->buffer[0], xy, TRIANGLES * 3);
	g->program[0] = make_program(g, VS_POSITION, FS_COLOR);
}

static void draw_flat(struct glhash *g, unsigned frame)
{
	bind_target(g);
	glUseProgram(g->program[0]);
	glBindVertexArray(g->array[0]);
	for (int i = 0; i < TRIANGLES; i++) {
		set_color(g->program[0], random_u32(g));
		glDrawArrays(GL_TRIANGLES, 3 * i, 3);
	}
	hash_frame(g);
}

static void draw_blend(struct glhash *g, unsigned frame)
{
	static const GLenum factors[][2] = {{GL_ONE, GL_ONE},
		{GL_SRC_ALPHA, GL_ONE_MINUS_SRC_ALPHA}, {GL_DST_COLOR, GL_ZERO},
		{GL_ZERO, GL_ONE_MINUS_SRC_COLOR}};
	static const GLenum equations[] = {GL_FUNC_ADD, GL_FUNC_REVERSE_SUBTRACT, GL_MIN, GL_MAX};

	bind_target(g);
	glUseProgram(g->program[0]);
	glBindVertexArray(g->array[0]);
	glEnable(GL_BLEND);
	for (int i = 0; i < TRIANGLES; i++) {
		const GLenum *f = factors[(unsigned)i / 4 % 4];
		glBlendFunc(f[0], f[1]);
		glBlendEquation(equations[(i + (int)frame) % 4]);
		set_color(g->program[0], random_u32(g));
		glDrawArrays(GL_TRIANGLES, 3 * i, 3);
	}
	glDisable(GL_BLEND);
	hash_frame(g);
}

static void draw_scissor(struct glhash *g, unsigned frame)
{
	bind_target(g);
	glUseProgram(g->program[0]);
	glBindVertexArray(g->quad);
	glEnable(GL_SCISSOR_TEST);
	for (int i = 0; i < 100; i++) {
		glScissor(random_below(g, g->width), random_below(g, g->height),
			random_below(g, g->width / 2), random_below(g, g->height / 2));
		if (i % 2) {
			glClearColor((float)(i % 16) / 16.0f, 0.5f, 0.25f, 1.0f);
			glClear(GL_COLOR_BUFFER_BIT);
			continue;
		}
		glViewport(random_below(g, 32), random_below(g, 32), g->width / 2, g->height / 2);
		glColorMask(i % 3 != 0, i % 5 != 0, 1, 1);
		set_color(g->program[0], random_u32(g));
		glDrawArrays(GL_TRIANGLE_STRIP, 0, 4);
	}
	glColorMask(1, 1, 1, 1);
	glDisable(GL_SCISSOR_TEST);
	hash_frame(g);
}

static void init_depth(struct glhash *g)
{
	init_triangles(g);
	/* Constant depth for each triangle: sixteenths, so that equal and less are both exercised.
	 */
	g->program[1] = make_program(g,
		"layout(location = 0) in vec2 position;\n"
		"uniform vec4 color;\n"
		"void main() {\n"
		"	gl_Position = vec4(position * (1.0 / 512.0) - vec2(1.0),\n"
		"		color.a * 2.0 - 1.0, 1.0);\n"
		"}\n",
		FS_COLOR);
}

static void draw_depth(struct glhash *g, unsigned frame)
{
	static const GLenum functions[] = {GL_LESS, GL_LEQUAL, GL_GREATER, GL_EQUAL, GL_NOTEQUAL};

	bind_target(g);
	glUseProgram(g->program[1]);
	glBindVertexArray(g->array[0]);
	glEnable(GL_DEPTH_TEST);
	for (int i = 0; i < TRIANGLES; i++) {
		glDepthFunc(functions[((unsigned)i / 8 + frame) % 5]);
		glDepthMask(i % 3 != 0);
		set_color(g->program[1], random_u32(g));
		glDrawArrays(GL_TRIANGLES, 3 * i, 3);
	}
	glDepthMask(1);
	glDisable(GL_DEPTH_TEST);
	hash_frame(g);
}

static void draw_stencil(struct glhash *g, unsigned frame)
{
	static const GLenum operations[] = {GL_INCR_WRAP, GL_DECR_WRAP, GL_INVERT, GL_REPLACE};

	bind_target(g);
	glUseProgram(g->program[0]);
	glBindVertexArray(g->array[0]);
	glEnable(GL_STENCIL_TEST);
	glColorMask(0, 0, 0, 0);
	for (int i = 0; i < TRIANGLES; i++) {
		glStencilFunc(i % 7 ? GL_ALWAYS : GL_LESS, i, 0xff);
		glStencilOp(GL_KEEP, GL_INCR, operations[((unsigned)i + frame) % 4]);
		glDrawArrays(GL_TRIANGLES, 3 * i, 3);
	}
	glColorMask(1, 1, 1, 1);
	glStencilOp(GL_KEEP, GL_KEEP, GL_KEEP);
	glBindVertexArray(g->quad);
	for (int bit = 0; bit < 8; bit++) {
		glStencilFunc(GL_EQUAL, 0xff, 1u << bit);
		set_color(g->program[0], random_u32(g));
		glDrawArrays(GL_TRIANGLE_STRIP, 0, 4);
	}
	glDisable(GL_STENCIL_TEST);
	hash_frame(g);
}

static void init_smooth(struct glhash *g)
{
	struct {
		int16_t x, y;
		uint8_t rgba[4];
	} vertices[30];

	for (int i = 0; i < 30; i++) {
		vertices[i].x = (int16_t)random_below(g, 1024);
		vertices[i].y = (int16_t)random_below(g, 1024);
		for (int k = 0; k < 4; k++)
			vertices[i].rgba[k] = (uint8_t)random_u32(g);
	}
	glGenVertexArrays(1, g->array);
	glBindVertexArray(g->array[0]);
	glBindBuffer(GL_ARRAY_BUFFER, g->buffer[0]);
	glBufferData(GL_ARRAY_BUFFER, sizeof(vertices), vertices, GL_STATIC_DRAW);
	glEnableVertexAttribArray(0);
	glEnableVertexAttribArray(1);
	glVertexAttribPointer(0, 2, GL_SHORT, GL_FALSE, 8, NULL);
	glVertexAttribPointer(1, 4, GL_UNSIGNED_BYTE, GL_TRUE, 8, (void *)4);
	g->program[0] = make_program(g,
		"layout(location = 0) in vec2 position;\n"
		"layout(location = 1) in vec4 tint;\n"
		"out vec4 shade;\n"
		"void main() {\n"
		"	shade = tint;\n"
		"	gl_Position = vec4(position * (1.0 / 512.0) - vec2(1.0), 0.0, 1.0);\n"
		"}\n",
		"in vec4 shade;\nout vec4 result;\nvoid main() { result = shade; }\n");
}

static void draw_smooth(struct glhash *g, unsigned frame)
{
	bind_target(g);
	glUseProgram(g->program[0]);
	glBindVertexArray(g->array[0]);
	glDrawArrays(GL_TRIANGLES, (GLint)(frame % 3), 27);
	hash_frame(g);
}

static void init_instanced(struct glhash *g)
{
	static const int16_t corners[] = {0, 0, 20, 0, 0, 20, 20, 20};
	int16_t places[400];

	for (int i = 0; i < 400; i++)
		places[i] = (int16_t)random_below(g, 1000);
	g->array[0] = make_positions(g, g->buffer[0], corners, 4);
	glBindBuffer(GL_ARRAY_BUFFER, g->buffer[1]);
	glBufferData(GL_ARRAY_BUFFER, sizeof(places), places, GL_STATIC_DRAW);
	glEnableVertexAttribArray(1);
	glVertexAttribPointer(1, 2, GL_SHORT, GL_FALSE, 4, NULL);
	glVertexAttribDivisor(1, 1);
	g->program[0] = make_program(g,
		"layout(location = 0) in vec2 position;\n"
		"layout(location = 1) in vec2 place;\n"
		"flat out int instance;\n"
		"void main() {\n"
		"	instance = gl_InstanceID;\n"
		"	gl_Position = vec4((position + place) * (1.0 / 512.0) - vec2(1.0), 0.0, "
		"1.0);\n"
		"}\n",
		"flat in int instance;\n"
		"out vec4 result;\n"
		"void main() {\n"
		"	result = vec4(ivec4(instance, instance >> 2, instance >> 4, 15) & "
		"ivec4(15)) / 16.0;\n"
		"}\n");
}

static void draw_instanced(struct glhash *g, unsigned frame)
{
	bind_target(g);
	glUseProgram(g->program[0]);
	glBindVertexArray(g->array[0]);
	glDrawArraysInstanced(GL_TRIANGLE_STRIP, 0, 4, 100 + (GLsizei)(frame * 13 % 100));
	hash_frame(g);
}

static void init_indexed(struct glhash *g)
{
	uint16_t indices[300];

	init_triangles(g);
	for (int i = 0; i < 300; i++)
		indices[i] = i % 13 == 12 ? 0xffff : (uint16_t)random_below(g, TRIANGLES * 3 - 16);
	glBindVertexArray(g->array[0]);
	glBindBuffer(GL_ELEMENT_ARRAY_BUFFER, g->buffer[1]);
	glBufferData(GL_ELEMENT_ARRAY_BUFFER, sizeof(indices), indices, GL_STATIC_DRAW);
}

static void draw_indexed(struct glhash *g, unsigned frame)
{
	bind_target(g);
	glUseProgram(g->program[0]);
	glBindVertexArray(g->array[0]);
	glEnable(g->gles ? GL_PRIMITIVE_RESTART_FIXED_INDEX : GL_PRIMITIVE_RESTART);
	if (!g->gles)
		glPrimitiveRestartIndex(0xffff);
	for (int i = 0; i < 4; i++) {
		set_color(g->program[0], random_u32(g));
		glDrawElements(i % 2 ? GL_TRIANGLE_STRIP : GL_TRIANGLE_FAN, 60, GL_UNSIGNED_SHORT,
			(void *)(uintptr_t)(i * 130 + (int)(frame % 5) * 2));
	}
	glDisable(g->gles ? GL_PRIMITIVE_RESTART_FIXED_INDEX : GL_PRIMITIVE_RESTART);
	hash_frame(g);
}

static void draw_lines(struct glhash *g, unsigned frame)
{
	bind_target(g);
	glUseProgram(g->program[0]);
	glBindVertexArray(g->array[0]);
	for (int i = 0; i < 20; i++) {
		set_color(g->program[0], random_u32(g));
		glDrawArrays(i % 2 ? GL_LINES : GL_POINTS, 6 * i, 6);
	}
	hash_frame(g);
}

static void init_ubo(struct glhash *g)
{
	init_triangles(g);
	g->program[1] = make_program(g, VS_POSITION,
		"layout(std140) uniform Block { ivec4 rows[16]; };\n"
		"uniform int row;\n"
		"out vec4 result;\n"
		"void main() { result = vec4(rows[row] & ivec4(15)) / 16.0; }\n");
	glUniformBlockBinding(g->program[1], glGetUniformBlockIndex(g->program[1], "Block"), 2);
	glBindBuffer(GL_UNIFORM_BUFFER, g->buffer[1]);
	glBufferData(GL_UNIFORM_BUFFER, 4096, NULL, GL_DYNAMIC_DRAW);
}

static void draw_ubo(struct glhash *g, unsigned frame)
{
	int32_t rows[64];

	bind_target(g);
	glUseProgram(g->program[1]);
	glBindVertexArray(g->array[0]);
	glBindBuffer(GL_UNIFORM_BUFFER, g->buffer[1]);
	for (int i = 0; i < 16; i++) {
		for (int k = 0; k < 64; k++)
			rows[k] = (int32_t)random_u32(g);
		glBufferSubData(GL_UNIFORM_BUFFER, (i % 8) * 512, sizeof(rows), rows);
		glBindBufferRange(GL_UNIFORM_BUFFER, 2, g->buffer[1], (i % 8) * 512, sizeof(rows));
		set_int(g->program[1], "row", i);
		glDrawArrays(GL_TRIANGLES, 12 * i, 12);
	}
	hash_frame(g);
}

const struct glhash_scene glhash_draw_scenes[] = {
	{"flat", false, init_triangles, draw_flat},
	{"blend", false, init_triangles, draw_blend},
	{"scissor", false, init_triangles, draw_scissor},
	{"depth", false, init_depth, draw_depth},
	{"stencil", false, init_triangles, draw_stencil},
	{"smooth", false, init_smooth, draw_smooth},
	{"instanced", false, init_instanced, draw_instanced},
	{"indexed", false, init_indexed, draw_indexed},
	{"lines", true, init_triangles, draw_lines},
	{"ubo", false, init_ubo, draw_ubo},
};
const unsigned glhash_draw_scene_count = sizeof(glhash_draw_scenes) / sizeof(glhash_draw_scenes[0]);
