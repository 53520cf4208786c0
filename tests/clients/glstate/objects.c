/* SPDX-License-Identifier: Apache-2.0 */

/* Lives of objects: shared between contexts, deleted while in use, names used again. */

#include "glstate.h"

#define MAX_CONTEXTS 8

/*
 * A texture and a buffer that every context changes in turn. Framebuffers and vertex arrays belong
 * to one context: made when a context first comes by, and kept in `framebuffer`.
 */
static void init_shared(struct state *s)
{
	s->texture[0] = make_storage(GL_RGBA8, 0);
	s->texture[1] = make_texture(&s->g, SIDE, SIDE, GL_NEAREST);
	s->framebuffer[s->context] = make_framebuffer(s->texture[0], 0, 0, 0);
	s->buffer[0] = 0;
	glGenBuffers(1, s->buffer);
	glBindBuffer(GL_SHADER_STORAGE_BUFFER, s->buffer[0]);
	glBufferData(GL_SHADER_STORAGE_BUFFER, SIDE * 4, NULL, GL_DYNAMIC_COPY);
	glClearBufferData(
		GL_SHADER_STORAGE_BUFFER, GL_R32UI, GL_RED_INTEGER, GL_UNSIGNED_INT, NULL);
	s->program[0] = link_stages(&(struct stages){.vertex = VS_RECT,
		.fragment = "uniform sampler2D tex;\n"
			    "layout(std430, binding = 1) buffer A { uint a[64]; };\n"
			    "uniform vec4 color;\n"
			    "out vec4 result;\n"
			    "void main() {\n"
			    "	ivec2 at = ivec2(gl_FragCoord.xy);\n"
			    "	atomicAdd(a[at.x], uint(at.y) + 1u);\n"
			    "	result = texelFetch(tex, at.yx, 0) * 0.5 + color * 0.25;\n"
			    "}\n"});
}

static void draw_shared(struct state *s, unsigned frame)
{
	uint32_t texel = random_u32(&s->g);
	GLuint array;

	if (!s->framebuffer[s->context]) {
		glGenFramebuffers(1, &s->framebuffer[s->context]);
		glBindFramebuffer(GL_FRAMEBUFFER, s->framebuffer[s->context]);
		glFramebufferTexture2D(
			GL_FRAMEBUFFER, GL_COLOR_ATTACHMENT0, GL_TEXTURE_2D, s->texture[0], 0);
	}
	/* A vertex array of another context means nothing here. */
	s->array[0] = 0;
	start(s, s->framebuffer[s->context]);
	array = s->array[0];
	use(s->program[0]);
	glEnable(GL_BLEND);
	glBlendFunc(GL_ONE, GL_ONE_MINUS_SRC_ALPHA);
	glBindBufferBase(GL_SHADER_STORAGE_BUFFER, 1, s->buffer[0]);
	glBindTexture(GL_TEXTURE_2D, s->texture[1]);
	glTexSubImage2D(GL_TEXTURE_2D, 0, random_below(&s->g, SIDE), random_below(&s->g, SIDE), 1,
		1, GL_RGBA, GL_UNSIGNED_BYTE, &texel);
	uniform_color("color", random_u32(&s->g));
	draw_random_rect(s, 0);
	glMemoryBarrier(GL_ALL_BARRIER_BITS);
	hash_rgba8(s, s->framebuffer[s->context]);
	hash_buffer(s, s->buffer[0], SIDE * 4);
	glDeleteVertexArrays(1, &array);
}

static const char *const VS_ATTRIBUTE =
	"layout(location = 0) in vec2 position;\n"
	"void main() { gl_Position = vec4(position * (1.0 / 512.0) - vec2(1.0), 0.0, 1.0); }\n";

static void init_deleted(struct state *s)
{
	s->texture[0] = make_storage(GL_RGBA8, 0);
	s->framebuffer[0] = make_framebuffer(s->texture[0], 0, 0, 0);
	glGenVertexArrays(2, s->array);
}

/*
 * Everything a frame draws with is made in one frame, deleted while it is bound, and drawn with in
 * the next two.
 */
static void make_and_delete(struct state *s)
{
	static const char *const fragment =
		"uniform sampler2D tex;\n"
		"uniform vec4 color;\n"
		"out vec4 result;\n"
		"void main() {\n"
		"	result = texelFetch(tex, ivec2(gl_FragCoord.xy) & 15, 0) * color;\n"
		"}\n";
	int16_t xy[24];
	GLuint buffer, program, texture;

	random_triangles(&s->g, xy, 4);
	glGenBuffers(1, &buffer);
	glBindVertexArray(s->array[1]);
	glBindBuffer(GL_ARRAY_BUFFER, buffer);
	glBufferData(GL_ARRAY_BUFFER, sizeof(xy), xy, GL_STATIC_DRAW);
	glEnableVertexAttribArray(0);
	glVertexAttribPointer(0, 2, GL_SHORT, GL_FALSE, 4, NULL);
	/* Still bound to attribute 0 of the vertex array. */
	glBindVertexArray(0);
	glDeleteBuffers(1, &buffer);
	program = link_stages(&(struct stages){.vertex = VS_ATTRIBUTE, .fragment = fragment});
	glUseProgram(program);
	glDeleteProgram(program);
	s->program[0] = program;
	/* Of the framebuffer that stays attached to it. */
	texture = make_texture(&s->g, 16, 16, GL_NEAREST);
	s->texture[1] = texture;
}

static void draw_deleted(struct state *s, unsigned frame)
{
	start(s, s->framebuffer[0]);
	if (frame % 3 == 0)
		make_and_delete(s);
	else
		glUseProgram(s->program[1]);
	glBindVertexArray(s->array[1]);
	glBindTexture(GL_TEXTURE_2D, s->texture[1]);
	glEnable(GL_BLEND);
	glBlendFunc(GL_SRC_ALPHA, GL_ONE_MINUS_SRC_ALPHA);
	if (frame % 3 == 0) {
		/* The program that is in use lives on under another one's name. */
		s->program[1] =
			link_stages(&(struct stages){.vertex = VS_ATTRIBUTE, .fragment = FS_FLAT});
	}
	uniform_color("color", random_u32(&s->g));
	glDrawArrays(GL_TRIANGLES, 0, 6);
	if (frame % 3 == 2) {
		glDeleteTextures(1, &s->texture[1]);
		glUseProgram(0);
		glDeleteProgram(s->program[1]);
	}
	hash_rgba8(s, s->framebuffer[0]);
}

/* The target of a framebuffer that stays bound is deleted and lives on through the attachment. */
static void init_attached(struct state *s)
{
	GLuint texture = make_storage(GL_RGBA8, 0), depth;

	glGenFramebuffers(1, s->framebuffer);
	glBindFramebuffer(GL_FRAMEBUFFER, s->framebuffer[0]);
	glFramebufferTexture2D(GL_FRAMEBUFFER, GL_COLOR_ATTACHMENT0, GL_TEXTURE_2D, texture, 0);
	glGenRenderbuffers(1, &depth);
	glBindRenderbuffer(GL_RENDERBUFFER, depth);
	glRenderbufferStorage(GL_RENDERBUFFER, GL_DEPTH24_STENCIL8, SIDE, SIDE);
	glFramebufferRenderbuffer(
		GL_FRAMEBUFFER, GL_DEPTH_STENCIL_ATTACHMENT, GL_RENDERBUFFER, depth);
	glClearColor(0, 0, 0, 0);
	glClearDepth(1.0);
	glClearStencil(0);
	glClear(GL_COLOR_BUFFER_BIT | GL_DEPTH_BUFFER_BIT | GL_STENCIL_BUFFER_BIT);
	/* Names go while another framebuffer is bound, so the attachments stay. */
	glBindFramebuffer(GL_FRAMEBUFFER, 0);
	glDeleteTextures(1, &texture);
	glDeleteRenderbuffers(1, &depth);
	s->program[0] = link_stages(&(struct stages){.vertex = VS_RECT, .fragment = FS_FLAT});
}

static void draw_attached(struct state *s, unsigned frame)
{
	start(s, s->framebuffer[0]);
	use(s->program[0]);
	glEnable(GL_BLEND);
	glEnable(GL_DEPTH_TEST);
	glDepthFunc(frame % 2 ? GL_LESS : GL_GEQUAL);
	for (unsigned i = 0; i < 6; i++) {
		uniform_color("color", random_u32(&s->g) & 0x1313);
		draw_random_rect(s, 24 + 5 * random_below(&s->g, 8));
	}
	hash_rgba8(s, s->framebuffer[0]);
}

const struct series object_series[] = {
	{"shared", true, init_shared, draw_shared},
	{"deleted", false, init_deleted, draw_deleted},
	{"attached", false, init_attached, draw_attached},
};
const unsigned object_series_count = sizeof(object_series) / sizeof(object_series[0]);
