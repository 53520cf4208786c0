/* SPDX-License-Identifier: Apache-2.0 */

/* Scenes about data: textures, uploads, read-back, queries, feedback. */

#include "glhash.h"

#include <stdlib.h>
#include <string.h>

static void draw_quad(struct glhash *g)
{
	glBindVertexArray(g->quad);
	glDrawArrays(GL_TRIANGLE_STRIP, 0, 4);
}

static void init_texture(struct glhash *g)
{
	g->texture[0] = make_texture(g, 64, 32, GL_NEAREST);
	g->program[0] = make_program(g, VS_POSITION, FS_TEXTURE);
}

static void draw_texture(struct glhash *g, unsigned frame)
{
	static const GLint wraps[] = {GL_REPEAT, GL_CLAMP_TO_EDGE, GL_MIRRORED_REPEAT};

	bind_target(g);
	glUseProgram(g->program[0]);
	glBindTexture(GL_TEXTURE_2D, g->texture[0]);
	glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_WRAP_S, wraps[frame % 3]);
	draw_quad(g);
	hash_frame(g);
}

static void init_mipmap(struct glhash *g)
{
	g->texture[0] = make_texture(g, 256, 256, GL_NEAREST);
	glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_MIN_FILTER, GL_NEAREST_MIPMAP_NEAREST);
	glGenerateMipmap(GL_TEXTURE_2D);
	g->program[0] = make_program(g, VS_POSITION, FS_TEXTURE);
}

static void draw_mipmap(struct glhash *g, unsigned frame)
{
	bind_target(g);
	glUseProgram(g->program[0]);
	glBindTexture(GL_TEXTURE_2D, g->texture[0]);
	for (int size = 128; size >= 1; size /= 2) {
		glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_BASE_LEVEL, (GLint)(frame % 3));
		glViewport(0, 0, size, size);
		draw_quad(g);
		glViewport(size, (int)frame % 16, size, size / 2 + 1);
		draw_quad(g);
	}
	hash_frame(g);
}

/* Uploads of part of a texture, from memory and from a pixel buffer. */
static void draw_upload(struct glhash *g, unsigned frame)
{
	uint32_t texels[16 * 16];

	bind_target(g);
	glUseProgram(g->program[0]);
	glBindTexture(GL_TEXTURE_2D, g->texture[0]);
	for (int i = 0; i < 8; i++) {
		int x = random_below(g, 48), y = random_below(g, 16);
		for (int k = 0; k < 256; k++)
			texels[k] = random_u32(g);
		if (i % 2) {
			glBindBuffer(GL_PIXEL_UNPACK_BUFFER, g->buffer[0]);
			glBufferData(
				GL_PIXEL_UNPACK_BUFFER, sizeof(texels), texels, GL_STREAM_DRAW);
			glTexSubImage2D(
				GL_TEXTURE_2D, 0, x, y, 16, 16, GL_RGBA, GL_UNSIGNED_BYTE, NULL);
			glBindBuffer(GL_PIXEL_UNPACK_BUFFER, 0);
		} else {
			glTexSubImage2D(
				GL_TEXTURE_2D, 0, x, y, 16, 16, GL_RGBA, GL_UNSIGNED_BYTE, texels);
		}
		draw_quad(g);
	}
	hash_frame(g);
}

static void init_layers(struct glhash *g)
{
	uint32_t texels[16 * 16 * 8];

	for (int i = 0; i < 16 * 16 * 8; i++)
		texels[i] = random_u32(g);
	glGenTextures(2, g->texture);
	for (unsigned i = 0; i < 2; i++) {
		GLenum target = i ? GL_TEXTURE_3D : GL_TEXTURE_2D_ARRAY;
		glBindTexture(target, g->texture[i]);
		glTexImage3D(target, 0, GL_RGBA8, 16, 16, 8, 0, GL_RGBA, GL_UNSIGNED_BYTE, texels);
		glTexParameteri(target, GL_TEXTURE_MIN_FILTER, GL_NEAREST);
		glTexParameteri(target, GL_TEXTURE_MAG_FILTER, GL_NEAREST);
	}
	g->program[0] = make_program(g, VS_POSITION,
		"uniform sampler2DArray layers;\n"
		"uniform sampler3D volume;\n"
		"uniform int slice;\n"
		"in vec2 uv;\n"
		"out vec4 result;\n"
		"void main() {\n"
		"	ivec3 at = ivec3(ivec2(uv * 16.0), slice);\n"
		"	result = uv.x < 0.5 ? texelFetch(layers, at, 0) : texelFetch(volume, at, "
		"0);\n"
		"}\n");
}

static void draw_layers(struct glhash *g, unsigned frame)
{
	uint32_t texel = random_u32(g);

	bind_target(g);
	glUseProgram(g->program[0]);
	set_int(g->program[0], "layers", 0);
	set_int(g->program[0], "volume", 1);
	set_int(g->program[0], "slice", (int)(frame % 8));
	glActiveTexture(GL_TEXTURE1);
	glBindTexture(GL_TEXTURE_3D, g->texture[1]);
	glActiveTexture(GL_TEXTURE0);
	glBindTexture(GL_TEXTURE_2D_ARRAY, g->texture[0]);
	glTexSubImage3D(GL_TEXTURE_2D_ARRAY, 0, 3, 3, (GLint)(frame % 8), 1, 1, 1, GL_RGBA,
		GL_UNSIGNED_BYTE, &texel);
	draw_quad(g);
	hash_frame(g);
}

static void init_fbo_chain(struct glhash *g)
{
	g->texture[2] = make_texture(g, 128, 128, GL_NEAREST);
	glGenFramebuffers(2, g->framebuffer);
	for (unsigned i = 0; i < 2; i++) {
		g->texture[i] = make_texture(g, 128, 128, GL_NEAREST);
		glBindFramebuffer(GL_FRAMEBUFFER, g->framebuffer[i]);
		glFramebufferTexture2D(
			GL_FRAMEBUFFER, GL_COLOR_ATTACHMENT0, GL_TEXTURE_2D, g->texture[i], 0);
	}
	/* Each pass moves the picture by whole texels and mixes bits, so nothing is rounded. */
	g->program[0] = make_program(g, VS_POSITION,
		"uniform sampler2D tex;\n"
		"uniform int step;\n"
		"out vec4 result;\n"
		"void main() {\n"
		"	ivec2 at = ivec2(gl_FragCoord.xy);\n"
		"	ivec4 a = ivec4(texelFetch(tex, (at + step) & 127, 0) * 255.0 + 0.5);\n"
		"	ivec4 b = ivec4(texelFetch(tex, (at * 3 + step) & 127, 0) * 255.0 + 0.5);\n"
		"	result = vec4((a.yzwx ^ b) & 255) / 255.0;\n"
		"}\n");
	g->program[1] = make_program(g, VS_POSITION, FS_TEXTURE);
}

static void draw_fbo_chain(struct glhash *g, unsigned frame)
{
	glUseProgram(g->program[0]);
	glViewport(0, 0, 128, 128);
	for (unsigned i = 0; i < 12; i++) {
		glBindFramebuffer(GL_FRAMEBUFFER, g->framebuffer[(i + 1) % 2]);
		glBindTexture(GL_TEXTURE_2D, g->texture[i % 2]);
		set_int(g->program[0], "step", (int)(i + frame));
		draw_quad(g);
	}
	bind_target(g);
	glUseProgram(g->program[1]);
	glBindTexture(GL_TEXTURE_2D, g->texture[0]);
	draw_quad(g);
	hash_frame(g);
}

struct format {
	GLenum internal, format, type;
	unsigned texel;
};

/* Renders integers into integer targets and reads each back in its own format. */
static void draw_formats(struct glhash *g, unsigned frame)
{
	static const struct format formats[] = {
		{GL_R32UI, GL_RED_INTEGER, GL_UNSIGNED_INT, 4},
		{GL_RG16UI, GL_RG_INTEGER, GL_UNSIGNED_SHORT, 4},
		{GL_RGBA8UI, GL_RGBA_INTEGER, GL_UNSIGNED_BYTE, 4},
		{GL_RGBA32UI, GL_RGBA_INTEGER, GL_UNSIGNED_INT, 16},
		{GL_RGB10_A2UI, GL_RGBA_INTEGER, GL_UNSIGNED_INT_2_10_10_10_REV, 4},
	};

	glUseProgram(g->program[0]);
	for (unsigned i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
		const struct format *f = &formats[i];
		GLuint texture, framebuffer;
		glGenTextures(1, &texture);
		glBindTexture(GL_TEXTURE_2D, texture);
		glTexStorage2D(GL_TEXTURE_2D, 1, f->internal, 61, 37);
		glGenFramebuffers(1, &framebuffer);
		glBindFramebuffer(GL_FRAMEBUFFER, framebuffer);
		glFramebufferTexture2D(
			GL_FRAMEBUFFER, GL_COLOR_ATTACHMENT0, GL_TEXTURE_2D, texture, 0);
		if (glCheckFramebufferStatus(GL_FRAMEBUFFER) != GL_FRAMEBUFFER_COMPLETE)
			die("format 0x%x is not renderable", f->internal);
		glViewport(0, 0, 61, 37);
		set_int(g->program[0], "seed", (int)(frame * 7 + i));
		draw_quad(g);
		hash_pixels(g, 61, 37, f->format, f->type, f->texel);
		glDeleteFramebuffers(1, &framebuffer);
		glDeleteTextures(1, &texture);
	}
}

static void init_formats(struct glhash *g)
{
	g->program[0] = make_program(g, VS_POSITION,
		"uniform int seed;\n"
		"out uvec4 result;\n"
		"void main() {\n"
		"	uint v = uint(gl_FragCoord.x) * 7u + uint(gl_FragCoord.y) * 131u + "
		"uint(seed);\n"
		"	result = uvec4(v, v * 3u, v ^ 85u, v >> 1) & uvec4(255u, 255u, 255u, 3u);\n"
		"}\n");
}

static void init_xfb(struct glhash *g)
{
	int32_t values[256];

	for (int i = 0; i < 256; i++)
		values[i] = (int32_t)random_u32(g);
	g->program[0] = make_program_xfb(g,
		"layout(location = 0) in ivec4 value;\n"
		"flat out ivec4 mixed;\n"
		"void main() {\n"
		"	mixed = value.yzwx * 3 ^ (value >> 5);\n"
		"	gl_Position = vec4(0.0);\n"
		"}\n",
		"mixed");
	glGenVertexArrays(1, g->array);
	glBindVertexArray(g->array[0]);
	glBindBuffer(GL_ARRAY_BUFFER, g->buffer[0]);
	glBufferData(GL_ARRAY_BUFFER, sizeof(values), values, GL_STATIC_DRAW);
	glEnableVertexAttribArray(0);
	glVertexAttribIPointer(0, 4, GL_INT, 16, NULL);
	glBindBuffer(GL_TRANSFORM_FEEDBACK_BUFFER, g->buffer[1]);
	glBufferData(GL_TRANSFORM_FEEDBACK_BUFFER, sizeof(values), values, GL_STREAM_READ);
	glGenQueries(1, &g->query);
}

static void draw_xfb(struct glhash *g, unsigned frame)
{
	GLuint written = 0;

	glUseProgram(g->program[0]);
	glBindVertexArray(g->array[0]);
	glEnable(GL_RASTERIZER_DISCARD);
	glBindBufferBase(GL_TRANSFORM_FEEDBACK_BUFFER, 0, g->buffer[1]);
	glBeginQuery(GL_TRANSFORM_FEEDBACK_PRIMITIVES_WRITTEN, g->query);
	glBeginTransformFeedback(GL_POINTS);
	glDrawArrays(GL_POINTS, (GLint)(frame % 8), 32);
	glDrawArrays(GL_POINTS, 0, 8);
	glEndTransformFeedback();
	glEndQuery(GL_TRANSFORM_FEEDBACK_PRIMITIVES_WRITTEN);
	glDisable(GL_RASTERIZER_DISCARD);
	glGetQueryObjectuiv(g->query, GL_QUERY_RESULT, &written);
	hash_bytes(g, &written, sizeof(written));
	void *map = glMapBufferRange(GL_TRANSFORM_FEEDBACK_BUFFER, 0, 40 * 16, GL_MAP_READ_BIT);
	if (!map)
		die("mapping the feedback buffer failed");
	hash_bytes(g, map, 40 * 16);
	glUnmapBuffer(GL_TRANSFORM_FEEDBACK_BUFFER);
}

static void init_query(struct glhash *g)
{
	int16_t xy[96];

	random_triangles(g, xy, 16);
	g->array[0] = make_positions(g, g->buffer[0], xy, 48);
	g->program[0] = make_program(g, VS_POSITION, FS_COLOR);
	glGenQueries(1, &g->query);
}

static void draw_query(struct glhash *g, unsigned frame)
{
	GLenum target = g->gles ? GL_ANY_SAMPLES_PASSED : GL_SAMPLES_PASSED;

	bind_target(g);
	glUseProgram(g->program[0]);
	glBindVertexArray(g->array[0]);
	for (int i = 0; i < 8; i++) {
		GLuint passed = 0;
		glBeginQuery(target, g->query);
		set_color(g->program[0], random_u32(g));
		glDrawArrays(GL_TRIANGLES, 6 * i, i % 3 == 2 ? 0 : 6);
		glEndQuery(target);
		glGetQueryObjectuiv(g->query, GL_QUERY_RESULT, &passed);
		hash_bytes(g, &passed, sizeof(passed));
	}
	hash_frame(g);
}

/* A vertex buffer rewritten by mapping while earlier draws from it are still queued. */
static void draw_stream(struct glhash *g, unsigned frame)
{
	bind_target(g);
	glUseProgram(g->program[0]);
	glBindVertexArray(g->array[0]);
	glBindBuffer(GL_ARRAY_BUFFER, g->buffer[0]);
	for (int i = 0; i < 24; i++) {
		GLbitfield flags = GL_MAP_WRITE_BIT;
		flags |= i % 3 == 1 ? (GLbitfield)GL_MAP_INVALIDATE_BUFFER_BIT
				    : (GLbitfield)GL_MAP_INVALIDATE_RANGE_BIT;
		int16_t *xy = glMapBufferRange(GL_ARRAY_BUFFER, 0, 96, flags);
		if (!xy)
			die("mapping a vertex buffer failed");
		random_triangles(g, xy, 8);
		glUnmapBuffer(GL_ARRAY_BUFFER);
		set_color(g->program[0], random_u32(g));
		glDrawArrays(GL_TRIANGLES, 0, 24);
	}
	hash_frame(g);
}

static void init_mrt(struct glhash *g)
{
	static const GLenum buffers[] = {GL_COLOR_ATTACHMENT0, GL_COLOR_ATTACHMENT1};

	glGenFramebuffers(1, g->framebuffer);
	glBindFramebuffer(GL_FRAMEBUFFER, g->framebuffer[0]);
	for (unsigned i = 0; i < 2; i++) {
		g->texture[i] = make_texture(g, 100, 60, GL_NEAREST);
		glFramebufferTexture2D(GL_FRAMEBUFFER, buffers[i], GL_TEXTURE_2D, g->texture[i], 0);
	}
	glDrawBuffers(2, buffers);
	g->program[0] = make_program(g, VS_POSITION,
		"uniform int seed;\n"
		"layout(location = 0) out vec4 a;\n"
		"layout(location = 1) out vec4 b;\n"
		"void main() {\n"
		"	ivec2 at = ivec2(gl_FragCoord.xy) + seed;\n"
		"	a = vec4(ivec4(at, at.yx) & 255) / 255.0;\n"
		"	b = vec4(ivec4(at.x ^ at.y, at, 255) & 255) / 255.0;\n"
		"}\n");
}

static void draw_mrt(struct glhash *g, unsigned frame)
{
	glBindFramebuffer(GL_FRAMEBUFFER, g->framebuffer[0]);
	glViewport(0, 0, 100, 60);
	glUseProgram(g->program[0]);
	set_int(g->program[0], "seed", (int)frame);
	draw_quad(g);
	for (unsigned i = 0; i < 2; i++) {
		glReadBuffer(GL_COLOR_ATTACHMENT0 + i);
		hash_pixels(g, 100, 60, GL_RGBA, GL_UNSIGNED_BYTE, 4);
	}
}

static void init_blit(struct glhash *g)
{
	init_query(g);
	glGenRenderbuffers(2, g->renderbuffer);
	glGenFramebuffers(2, g->framebuffer);
	for (unsigned i = 0; i < 2; i++) {
		glBindRenderbuffer(GL_RENDERBUFFER, g->renderbuffer[i]);
		glRenderbufferStorageMultisample(
			GL_RENDERBUFFER, i ? 4 : 0, GL_RGBA8, g->width, g->height);
		glBindFramebuffer(GL_FRAMEBUFFER, g->framebuffer[i]);
		glFramebufferRenderbuffer(
			GL_FRAMEBUFFER, GL_COLOR_ATTACHMENT0, GL_RENDERBUFFER, g->renderbuffer[i]);
		if (glCheckFramebufferStatus(GL_FRAMEBUFFER) != GL_FRAMEBUFFER_COMPLETE)
			die("the blit source is incomplete");
	}
}

static void draw_blit_from(struct glhash *g, unsigned source, bool flip)
{
	int w = g->width, h = g->height;

	glBindFramebuffer(GL_FRAMEBUFFER, g->framebuffer[source]);
	glViewport(0, 0, w, h);
	glClearColor(0.5f, 0.25f, 0.75f, 1.0f);
	glClear(GL_COLOR_BUFFER_BIT);
	glUseProgram(g->program[0]);
	glBindVertexArray(g->array[0]);
	set_color(g->program[0], random_u32(g));
	glDrawArrays(GL_TRIANGLES, 0, 48);
	glBindFramebuffer(GL_READ_FRAMEBUFFER, g->framebuffer[source]);
	glBindFramebuffer(GL_DRAW_FRAMEBUFFER, g->fbo);
	if (flip)
		glBlitFramebuffer(0, 0, w, h, w, h, 0, 0, GL_COLOR_BUFFER_BIT, GL_NEAREST);
	else
		glBlitFramebuffer(0, 0, w, h, 0, 0, w, h, GL_COLOR_BUFFER_BIT, GL_NEAREST);
	hash_frame(g);
}

static void draw_blit(struct glhash *g, unsigned frame)
{
	draw_blit_from(g, 0, frame % 2);
}

static void draw_msaa(struct glhash *g, unsigned frame)
{
	draw_blit_from(g, 1, false);
}

/* One texel of the previous frame goes into the next: a frame that is lost shows in all later. */
static void draw_feedback(struct glhash *g, unsigned frame)
{
	uint32_t texel = 0;

	draw_fbo_chain(g, frame);
	glReadPixels(random_below(g, g->width), random_below(g, g->height), 1, 1, GL_RGBA,
		GL_UNSIGNED_BYTE, &texel);
	glBindTexture(GL_TEXTURE_2D, g->texture[0]);
	glTexSubImage2D(GL_TEXTURE_2D, 0, random_below(g, 128), random_below(g, 128), 1, 1, GL_RGBA,
		GL_UNSIGNED_BYTE, &texel);
}

const struct glhash_scene glhash_data_scenes[] = {
	{"texture", false, init_texture, draw_texture},
	{"mipmap", false, init_mipmap, draw_mipmap},
	{"upload", false, init_texture, draw_upload},
	{"layers", false, init_layers, draw_layers},
	{"fbo-chain", false, init_fbo_chain, draw_fbo_chain},
	{"feedback", false, init_fbo_chain, draw_feedback},
	{"formats", false, init_formats, draw_formats},
	{"mrt", false, init_mrt, draw_mrt},
	{"blit", false, init_blit, draw_blit},
	{"msaa", false, init_blit, draw_msaa},
	{"stream", false, init_query, draw_stream},
	{"xfb", false, init_xfb, draw_xfb},
	{"query", false, init_query, draw_query},
};
const unsigned glhash_data_scene_count = sizeof(glhash_data_scenes) / sizeof(glhash_data_scenes[0]);
