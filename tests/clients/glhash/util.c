/* SPDX-License-Identifier: Apache-2.0 */
#include "glhash.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const VS_POSITION =
	"layout(location = 0) in vec2 position;\n"
	"out vec2 uv;\n"
	"void main() {\n"
	"	uv = position * (1.0 / 1024.0);\n"
	"	gl_Position = vec4(position * (1.0 / 512.0) - vec2(1.0), 0.0, 1.0);\n"
	"}\n";
const char *const FS_COLOR = "uniform vec4 color;\n"
			     "out vec4 result;\n"
			     "void main() { result = color; }\n";
const char *const FS_TEXTURE = "uniform sampler2D tex;\n"
			       "in vec2 uv;\n"
			       "out vec4 result;\n"
			       "void main() { result = texture(tex, uv); }\n";

void die(const char *format, ...)
{
	va_list args;

	fflush(stdout);
	fprintf(stderr, "%s: ", program_invocation_short_name);
	va_start(args, format);
	/* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): seen only beside other files */
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

/* FNV-1a, 64 bit. */
void hash_bytes(struct glhash *g, const void *bytes, size_t len)
{
	const uint8_t *at = bytes;
	uint64_t hash = g->hash;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ at[i]) * 0x100000001b3u;
	g->hash = hash;
}

void hash_pixels(struct glhash *g, int w, int h, GLenum format, GLenum type, size_t texel)
{
	size_t size = (size_t)w * (size_t)h * texel;
	/* What a read-back that wrote nothing would leave behind is not zero. */
	uint8_t *pixels = malloc(size);

	if (!pixels)
		die("out of memory");
	memset(pixels, 0xa5, size);
	glPixelStorei(GL_PACK_ALIGNMENT, 1);
	glReadPixels(0, 0, w, h, format, type, pixels);
	hash_bytes(g, pixels, size);
	free(pixels);
}

void hash_frame(struct glhash *g)
{
	glBindFramebuffer(GL_FRAMEBUFFER, g->fbo);
	hash_pixels(g, g->width, g->height, GL_RGBA, GL_UNSIGNED_BYTE, 4);
}

uint32_t random_u32(struct glhash *g)
{
	/* xorshift32 */
	uint32_t x = g->random;
	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	return g->random = x;
}

int random_below(struct glhash *g, int n)
{
	return (int)(random_u32(g) % (uint32_t)n);
}

static GLuint compile(struct glhash *g, GLenum stage, const char *source)
{
	const char *head = g->gles ? "#version 300 es\nprecision highp float;\n"
				     "precision highp int;\nprecision highp sampler3D;\n"
				     "precision highp sampler2DArray;\n"
				   : "#version 330 core\n";
	const char *sources[] = {head, source};
	GLuint shader = glCreateShader(stage);
	GLint ok = 0;
	char log[512] = "";

	glShaderSource(shader, 2, sources, NULL);
	glCompileShader(shader);
	glGetShaderiv(shader, GL_COMPILE_STATUS, &ok);
	if (!ok) {
		glGetShaderInfoLog(shader, sizeof(log), NULL, log);
		die("shader: %s", log);
	}
	return shader;
}

static GLuint link_program(GLuint program)
{
	GLint ok = 0;
	char log[512] = "";

	glLinkProgram(program);
	glGetProgramiv(program, GL_LINK_STATUS, &ok);
	if (!ok) {
		glGetProgramInfoLog(program, sizeof(log), NULL, log);
		die("program: %s", log);
	}
	return program;
}

GLuint make_program(struct glhash *g, const char *vs, const char *fs)
{
	GLuint program = glCreateProgram();

	glAttachShader(program, compile(g, GL_VERTEX_SHADER, vs));
	glAttachShader(program, compile(g, GL_FRAGMENT_SHADER, fs));
	return link_program(program);
}

GLuint make_program_xfb(struct glhash *g, const char *vs, const char *varying)
{
	GLuint program = glCreateProgram();

	glAttachShader(program, compile(g, GL_VERTEX_SHADER, vs));
	glAttachShader(program,
		compile(g, GL_FRAGMENT_SHADER, "out vec4 r;\nvoid main() { r = vec4(1.0); }\n"));
	glTransformFeedbackVaryings(program, 1, &varying, GL_INTERLEAVED_ATTRIBS);
	return link_program(program);
}

GLuint make_texture(struct glhash *g, int w, int h, GLenum filter)
{
	uint32_t *texels = malloc((size_t)w * (size_t)h * 4);
	GLuint texture;

	if (!texels)
		die("out of memory");
	for (int i = 0; i < w * h; i++)
		texels[i] = random_u32(g);
	glGenTextures(1, &texture);
	glBindTexture(GL_TEXTURE_2D, texture);
	glTexImage2D(GL_TEXTURE_2D, 0, GL_RGBA8, w, h, 0, GL_RGBA, GL_UNSIGNED_BYTE, texels);
	glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_MIN_FILTER, (GLint)filter);
	glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_MAG_FILTER, (GLint)filter);
	free(texels);
	return texture;
}

GLuint make_positions(struct glhash *g, GLuint buffer, const int16_t *xy, int n)
{
	GLuint array;

	glGenVertexArrays(1, &array);
	glBindVertexArray(array);
	glBindBuffer(GL_ARRAY_BUFFER, buffer);
	glBufferData(GL_ARRAY_BUFFER, (GLsizeiptr)n * 4, xy, GL_STATIC_DRAW);
	glEnableVertexAttribArray(0);
	glVertexAttribPointer(0, 2, GL_SHORT, GL_FALSE, 4, NULL);
	return array;
}

void random_triangles(struct glhash *g, int16_t *xy, int n_triangles)
{
	for (int i = 0; i < n_triangles * 6; i++)
		xy[i] = (int16_t)random_below(g, 1024);
}

void set_int(GLuint program, const char *name, int value)
{
	glUniform1i(glGetUniformLocation(program, name), value);
}

void set_color(GLuint program, uint32_t rgba)
{
	/* Sixteenths are exact in every format used here. */
	glUniform4f(glGetUniformLocation(program, "color"), (float)(rgba & 15) / 16.0f,
		(float)(rgba >> 4 & 15) / 16.0f, (float)(rgba >> 8 & 15) / 16.0f,
		(float)(rgba >> 12 & 15) / 16.0f);
}

void make_target(struct glhash *g)
{
	static const int16_t corners[] = {0, 0, 1024, 0, 0, 1024, 1024, 1024};
	GLuint buffer;

	glGenTextures(1, &g->color);
	glBindTexture(GL_TEXTURE_2D, g->color);
	glTexStorage2D(GL_TEXTURE_2D, 1, GL_RGBA8, g->width, g->height);
	glGenRenderbuffers(1, &g->depth);
	glBindRenderbuffer(GL_RENDERBUFFER, g->depth);
	glRenderbufferStorage(GL_RENDERBUFFER, GL_DEPTH24_STENCIL8, g->width, g->height);
	glGenFramebuffers(1, &g->fbo);
	glBindFramebuffer(GL_FRAMEBUFFER, g->fbo);
	glFramebufferTexture2D(GL_FRAMEBUFFER, GL_COLOR_ATTACHMENT0, GL_TEXTURE_2D, g->color, 0);
	glFramebufferRenderbuffer(
		GL_FRAMEBUFFER, GL_DEPTH_STENCIL_ATTACHMENT, GL_RENDERBUFFER, g->depth);
	if (glCheckFramebufferStatus(GL_FRAMEBUFFER) != GL_FRAMEBUFFER_COMPLETE)
		die("the target is incomplete");
	glGenBuffers(1, &buffer);
	g->quad = make_positions(g, buffer, corners, 4);
	glGenBuffers(4, g->buffer);
}

void bind_target(struct glhash *g)
{
	glBindFramebuffer(GL_FRAMEBUFFER, g->fbo);
	glViewport(0, 0, g->width, g->height);
	glClearColor(0.25f, 0.5f, 0.75f, 1.0f);
	glClear(GL_COLOR_BUFFER_BIT | GL_DEPTH_BUFFER_BIT | GL_STENCIL_BUFFER_BIT);
}

void free_objects(struct glhash *g)
{
	for (unsigned i = 0; i < 4; i++)
		glDeleteProgram(g->program[i]);
	glDeleteTextures(4, g->texture);
	glDeleteBuffers(4, g->buffer);
	glDeleteVertexArrays(2, g->array);
	glDeleteFramebuffers(2, g->framebuffer);
	glDeleteRenderbuffers(2, g->renderbuffer);
	glDeleteQueries(1, &g->query);
	glDeleteFramebuffers(1, &g->fbo);
	glDeleteTextures(1, &g->color);
	glDeleteRenderbuffers(1, &g->depth);
	glDeleteVertexArrays(1, &g->quad);
}
