/* SPDX-License-Identifier: Apache-2.0 */
#include "probe/probe.h"

#include <epoxy/gl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIDE     480 /* pixels of the picture */
#define GRID     48  /* squares a side of the surface */
#define TEXTURE  128
#define DRAWS    32 /* surfaces a frame */
#define WAIT_NS  5000000000ull
#define VERTICES ((GRID + 1) * (GRID + 1))
#define INDICES  (GRID * GRID * 6)

static const char vertex_source[] =
	"#version 330 core\n"
	"layout(location = 0) in vec2 at;\n"
	"uniform mat3 turn;\n"
	"uniform vec4 place;\n"
	"out vec2 uv;\n"
	"out vec3 normal;\n"
	"void main() {\n"
	"	vec2 p = at * 6.2831853;\n"
	"	vec3 n = vec3(cos(p.x) * cos(p.y), sin(p.x) * cos(p.y), sin(p.y));\n"
	"	vec3 v = turn * vec3((1.0 + 0.4 * cos(p.y)) * vec2(cos(p.x), sin(p.x)), 0.4 * "
	"sin(p.y));\n"
	"	normal = turn * n;\n"
	"	uv = at * 8.0;\n"
	"	gl_Position = vec4(v.xy * place.z + place.xy, v.z * 0.2, 1.0);\n"
	"}\n";

static const char fragment_source[] =
	"#version 330 core\n"
	"in vec2 uv;\n"
	"in vec3 normal;\n"
	"uniform sampler2D image;\n"
	"uniform vec4 colour;\n"
	"out vec4 result;\n"
	"void main() {\n"
	"	float light = 0.25 + 0.75 * max(dot(normalize(normal), vec3(0.36, 0.48, 0.8)), "
	"0.0);\n"
	"	result = vec4(texture(image, uv).rgb * colour.rgb * light, 1.0);\n"
	"}\n";

/* The one scene of the one context. */
static struct {
	GLint turn, place, colour;
	GLsync before;
} scene;

static GLuint compile(GLenum kind, const char *source)
{
	GLuint shader = glCreateShader(kind);
	GLint good = 0;

	glShaderSource(shader, 1, &source, NULL);
	glCompileShader(shader);
	glGetShaderiv(shader, GL_COMPILE_STATUS, &good);
	return good ? shader : 0;
}

static int use_program(void)
{
	GLuint program = glCreateProgram(), vertex = compile(GL_VERTEX_SHADER, vertex_source),
	       fragment = compile(GL_FRAGMENT_SHADER, fragment_source);
	GLint good = 0;

	if (vertex && fragment) {
		glAttachShader(program, vertex);
		glAttachShader(program, fragment);
		glLinkProgram(program);
		glGetProgramiv(program, GL_LINK_STATUS, &good);
	}
	if (!good)
		return -1;
	glUseProgram(program);
	scene.turn = glGetUniformLocation(program, "turn");
	scene.place = glGetUniformLocation(program, "place");
	scene.colour = glGetUniformLocation(program, "colour");
	return 0;
}

static void make_surface(void)
{
	static GLfloat at[VERTICES][2];
	static GLushort indices[INDICES];
	GLuint names[3];
	size_t n = 0;

	for (unsigned y = 0; y <= GRID; y++) {
		for (unsigned x = 0; x <= GRID; x++) {
			at[y * (GRID + 1) + x][0] = (float)x / GRID;
			at[y * (GRID + 1) + x][1] = (float)y / GRID;
		}
	}
	for (unsigned y = 0; y < GRID; y++) {
		for (unsigned x = 0; x < GRID; x++) {
			unsigned i = y * (GRID + 1) + x;
			const unsigned square[] = {
				i, i + 1, i + GRID + 1, i + 1, i + GRID + 2, i + GRID + 1};
			for (unsigned k = 0; k < 6; k++)
				indices[n++] = (GLushort)square[k];
		}
	}
	glGenVertexArrays(1, &names[0]);
	glBindVertexArray(names[0]);
	glGenBuffers(2, &names[1]);
	glBindBuffer(GL_ARRAY_BUFFER, names[1]);
	glBufferData(GL_ARRAY_BUFFER, sizeof(at), at, GL_STATIC_DRAW);
	glBindBuffer(GL_ELEMENT_ARRAY_BUFFER, names[2]);
	glBufferData(GL_ELEMENT_ARRAY_BUFFER, sizeof(indices), indices, GL_STATIC_DRAW);
	glEnableVertexAttribArray(0);
	glVertexAttribPointer(0, 2, GL_FLOAT, GL_FALSE, 0, NULL);
}

static void make_texture(void)
{
	static GLubyte pixels[TEXTURE][TEXTURE][4];
	GLuint name;

	for (unsigned y = 0; y < TEXTURE; y++) {
		for (unsigned x = 0; x < TEXTURE; x++) {
			const GLubyte pixel[4] = {(GLubyte)(x * 2), (GLubyte)((x ^ y) * 2),
				(GLubyte)(255 - y * 2), 255};
			memcpy(pixels[y][x], pixel, 4);
		}
	}
	glGenTextures(1, &name);
	glBindTexture(GL_TEXTURE_2D, name);
	glTexImage2D(
		GL_TEXTURE_2D, 0, GL_RGBA8, TEXTURE, TEXTURE, 0, GL_RGBA, GL_UNSIGNED_BYTE, pixels);
	glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_MIN_FILTER, GL_NEAREST);
	glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_MAG_FILTER, GL_NEAREST);
}

static int make_target(void)
{
	GLuint names[2], frame;

	glGenRenderbuffers(2, names);
	glGenFramebuffers(1, &frame);
	glBindFramebuffer(GL_FRAMEBUFFER, frame);
	glBindRenderbuffer(GL_RENDERBUFFER, names[0]);
	glRenderbufferStorage(GL_RENDERBUFFER, GL_RGBA8, SIDE, SIDE);
	glFramebufferRenderbuffer(GL_FRAMEBUFFER, GL_COLOR_ATTACHMENT0, GL_RENDERBUFFER, names[0]);
	glBindRenderbuffer(GL_RENDERBUFFER, names[1]);
	glRenderbufferStorage(GL_RENDERBUFFER, GL_DEPTH_COMPONENT24, SIDE, SIDE);
	glFramebufferRenderbuffer(GL_FRAMEBUFFER, GL_DEPTH_ATTACHMENT, GL_RENDERBUFFER, names[1]);
	glViewport(0, 0, SIDE, SIDE);
	return glCheckFramebufferStatus(GL_FRAMEBUFFER) == GL_FRAMEBUFFER_COMPLETE ? 0 : -1;
}

int probe_scene_begin(void)
{
	if (make_target() < 0 || use_program() < 0) {
		fputs("vgpu-probe: the scene cannot be made\n", stderr);
		return -1;
	}
	make_surface();
	make_texture();
	glEnable(GL_DEPTH_TEST);
	glEnable(GL_CULL_FACE);
	return glGetError() == GL_NO_ERROR ? 0 : -1;
}

static void draw(unsigned number)
{
	glClearColor(0.1f, 0.1f, 0.2f, 1);
	glClear(GL_COLOR_BUFFER_BIT | GL_DEPTH_BUFFER_BIT);
	for (unsigned i = 0; i < DRAWS; i++) {
		float a = (float)(number * 3 + i * 11) * 0.0174533f, s = sinf(a), c = cosf(a);
		const GLfloat turn[9] = {c, s * s, -s * c, 0, c, s, s, -s * c, c * c};
		glUniformMatrix3fv(scene.turn, 1, GL_FALSE, turn);
		unsigned column = i % 8, row = i / 8;
		glUniform4f(scene.place, (float)column * 0.25f - 0.875f, (float)row * 0.5f - 0.75f,
			0.16f, 0);
		glUniform4f(scene.colour, (float)(i % 3 + 1) / 3, (float)(i % 5 + 1) / 5,
			(float)(i % 7 + 1) / 7, 1);
		glDrawElements(GL_TRIANGLES, INDICES, GL_UNSIGNED_SHORT, NULL);
	}
}

void probe_frame(unsigned number)
{
	draw(number);
	GLsync now = glFenceSync(GL_SYNC_GPU_COMMANDS_COMPLETE, 0);
	glFlush();
	if (scene.before) {
		glClientWaitSync(scene.before, GL_SYNC_FLUSH_COMMANDS_BIT, WAIT_NS);
		glDeleteSync(scene.before);
	}
	scene.before = now;
}

void probe_finish(void)
{
	glFinish();
}

uint64_t probe_still(void)
{
	static GLubyte pixels[SIDE * SIDE * 4];
	uint64_t hash = 0xcbf29ce484222325u;

	draw(7);
	memset(pixels, 0xa5, sizeof(pixels));
	glReadPixels(0, 0, SIDE, SIDE, GL_RGBA, GL_UNSIGNED_BYTE, pixels);
	for (size_t i = 0; i < sizeof(pixels); i++)
		hash = (hash ^ pixels[i]) * 0x100000001b3u;
	return hash;
}
