/* SPDX-License-Identifier: Apache-2.0 */
#include "glstate.h"

#include <stdlib.h>
#include <string.h>

const char *const VS_RECT =
	"uniform vec4 rect;\n"
	"uniform float depth;\n"
	"out vec2 uv;\n"
	"void main() {\n"
	"	vec2 corner = vec2(gl_VertexID & 1, gl_VertexID >> 1);\n"
	"	uv = corner;\n"
	"	gl_Position = vec4(rect.xy + corner * rect.zw, depth * 2.0 - 1.0, 1.0);\n"
	"}\n";
const char *const FS_FLAT = "uniform vec4 color;\n"
			    "out vec4 result;\n"
			    "void main() { result = color; }\n";

static void attach(GLuint program, GLenum stage, const char *source)
{
	const char *sources[] = {"#version 430 core\n", source};
	GLuint shader;
	GLint ok = 0;
	char log[512] = "";

	if (!source)
		return;
	shader = glCreateShader(stage);
	glShaderSource(shader, 2, sources, NULL);
	glCompileShader(shader);
	glGetShaderiv(shader, GL_COMPILE_STATUS, &ok);
	if (!ok) {
		glGetShaderInfoLog(shader, sizeof(log), NULL, log);
		die("shader: %s", log);
	}
	glAttachShader(program, shader);
	glDeleteShader(shader);
}

GLuint link_stages(const struct stages *stages)
{
	GLuint program = glCreateProgram();
	GLsizei captured = 0;
	GLint ok = 0;
	char log[512] = "";

	attach(program, GL_VERTEX_SHADER, stages->vertex);
	attach(program, GL_TESS_CONTROL_SHADER, stages->control);
	attach(program, GL_TESS_EVALUATION_SHADER, stages->evaluation);
	attach(program, GL_GEOMETRY_SHADER, stages->geometry);
	attach(program, GL_FRAGMENT_SHADER, stages->fragment);
	attach(program, GL_COMPUTE_SHADER, stages->compute);
	while (captured < 4 && stages->captured[captured])
		captured++;
	if (captured)
		glTransformFeedbackVaryings(
			program, captured, stages->captured, GL_INTERLEAVED_ATTRIBS);
	glLinkProgram(program);
	glGetProgramiv(program, GL_LINK_STATUS, &ok);
	if (!ok) {
		glGetProgramInfoLog(program, sizeof(log), NULL, log);
		die("program: %s", log);
	}
	return program;
}

static GLint location(const char *name)
{
	GLint program;

	glGetIntegerv(GL_CURRENT_PROGRAM, &program);
	return glGetUniformLocation((GLuint)program, name);
}

void use(GLuint program)
{
	glUseProgram(program);
}

void uniform_int(const char *name, int value)
{
	glUniform1i(location(name), value);
}

void uniform_color(const char *name, uint32_t bits)
{
	glUniform4f(location(name), (float)(bits & 15) / 16.0f, (float)(bits >> 4 & 15) / 16.0f,
		(float)(bits >> 8 & 15) / 16.0f, (float)(bits >> 12 & 15) / 16.0f);
}

void draw_rect(int x, int y, int w, int h, int depth)
{
	glUniform4f(location("rect"), (float)x / 8.0f - 1.0f, (float)y / 8.0f - 1.0f,
		(float)w / 8.0f, (float)h / 8.0f);
	glUniform1f(location("depth"), (float)depth / 64.0f);
	glDrawArrays(GL_TRIANGLE_STRIP, 0, 4);
}

void draw_random_rect(struct state *s, int depth)
{
	int x = random_below(&s->g, 14), y = random_below(&s->g, 14);

	draw_rect(x, y, 1 + random_below(&s->g, 16 - x), 1 + random_below(&s->g, 16 - y), depth);
}

void draw_all(void)
{
	draw_rect(0, 0, 16, 16, 0);
}

GLuint make_storage(GLenum format, int samples)
{
	GLuint texture;

	glGenTextures(1, &texture);
	if (samples) {
		glBindTexture(GL_TEXTURE_2D_MULTISAMPLE, texture);
		glTexStorage2DMultisample(
			GL_TEXTURE_2D_MULTISAMPLE, samples, format, SIDE, SIDE, GL_TRUE);
		return texture;
	}
	glBindTexture(GL_TEXTURE_2D, texture);
	glTexStorage2D(GL_TEXTURE_2D, 1, format, SIDE, SIDE);
	glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_MIN_FILTER, GL_NEAREST);
	glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_MAG_FILTER, GL_NEAREST);
	return texture;
}

static void clear_color(GLuint texture, GLenum target)
{
	static const GLuint zero[4];
	GLint type = 0;

	glBindTexture(target, texture);
	glGetTexLevelParameteriv(target, 0, GL_TEXTURE_RED_TYPE, &type);
	if (type == GL_UNSIGNED_INT) {
		glClearBufferuiv(GL_COLOR, 0, zero);
	} else {
		glClearColor(0, 0, 0, 0);
		glClear(GL_COLOR_BUFFER_BIT);
	}
}

GLuint make_framebuffer(GLuint color, GLenum attachment, GLuint other, int samples)
{
	GLenum target = samples ? GL_TEXTURE_2D_MULTISAMPLE : GL_TEXTURE_2D;
	GLuint framebuffer;

	glGenFramebuffers(1, &framebuffer);
	glBindFramebuffer(GL_FRAMEBUFFER, framebuffer);
	glFramebufferTexture2D(GL_FRAMEBUFFER, GL_COLOR_ATTACHMENT0, target, color, 0);
	if (other)
		glFramebufferTexture2D(GL_FRAMEBUFFER, attachment, target, other, 0);
	if (glCheckFramebufferStatus(GL_FRAMEBUFFER) != GL_FRAMEBUFFER_COMPLETE)
		die("a target is incomplete");
	glDisable(GL_SCISSOR_TEST);
	glColorMask(1, 1, 1, 1);
	glDepthMask(1);
	glStencilMask(0xff);
	clear_color(color, target);
	if (other) {
		glClearDepth(0.75);
		glClearStencil(0x11);
		glClear(GL_DEPTH_BUFFER_BIT | GL_STENCIL_BUFFER_BIT);
	}
	return framebuffer;
}

void start(struct state *s, GLuint framebuffer)
{
	static const GLenum off[] = {GL_BLEND, GL_DEPTH_TEST, GL_STENCIL_TEST, GL_SCISSOR_TEST,
		GL_RASTERIZER_DISCARD, GL_PRIMITIVE_RESTART, GL_PROGRAM_POINT_SIZE, GL_SAMPLE_MASK,
		GL_SAMPLE_SHADING, GL_CULL_FACE};

	glBindFramebuffer(GL_FRAMEBUFFER, framebuffer);
	glViewport(0, 0, SIDE, SIDE);
	for (unsigned i = 0; i < sizeof(off) / sizeof(off[0]); i++)
		glDisable(off[i]);
	glColorMask(1, 1, 1, 1);
	glDepthMask(1);
	glStencilMask(0xff);
	glBlendEquation(GL_FUNC_ADD);
	glBlendFunc(GL_ONE, GL_ONE);
	for (unsigned i = 0; i < 8; i++)
		glBindSampler(i, 0);
	glActiveTexture(GL_TEXTURE0);
	if (!s->array[0])
		glGenVertexArrays(1, s->array);
	glBindVertexArray(s->array[0]);
}

void hash_rgba8(struct state *s, GLuint framebuffer)
{
	glBindFramebuffer(GL_FRAMEBUFFER, framebuffer);
	hash_pixels(&s->g, SIDE, SIDE, GL_RGBA, GL_UNSIGNED_BYTE, 4);
}

void hash_u32(struct state *s, GLuint framebuffer)
{
	glBindFramebuffer(GL_FRAMEBUFFER, framebuffer);
	hash_pixels(&s->g, SIDE, SIDE, GL_RED_INTEGER, GL_UNSIGNED_INT, 4);
}

void hash_buffer(struct state *s, GLuint buffer, size_t size)
{
	void *bytes = malloc(size);

	if (!bytes)
		die("out of memory");
	memset(bytes, 0xa5, size);
	glBindBuffer(GL_COPY_READ_BUFFER, buffer);
	glGetBufferSubData(GL_COPY_READ_BUFFER, 0, (GLsizeiptr)size, bytes);
	hash_bytes(&s->g, bytes, size);
	free(bytes);
}
