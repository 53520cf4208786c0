/* SPDX-License-Identifier: Apache-2.0 */

/* Targets of four samples, never cleared after the first frame, each sample looked at. */

#include "glstate.h"

#define SAMPLES 4

static const char *const FS_NUMBER = "uniform int number;\n"
				     "out uint result;\n"
				     "void main() {\n"
				     "	result = uint(number) * 2654435761u + uint(gl_SampleID);\n"
				     "}\n";
/* Shows sample `number` of what `tex` is. */
static const char *const FS_SAMPLE = "uniform sampler2DMS tex;\n"
				     "uniform int number;\n"
				     "out uint result;\n"
				     "void main() {\n"
				     "	vec4 t = texelFetch(tex, ivec2(gl_FragCoord.xy), number);\n"
				     "	result = packUnorm4x8(t);\n"
				     "}\n";
static const char *const FS_SAMPLE_DEPTH =
	"uniform sampler2DMS tex;\n"
	"uniform int number;\n"
	"out uint result;\n"
	"void main() {\n"
	"	result = floatBitsToUint(texelFetch(tex, ivec2(gl_FragCoord.xy), number).r);\n"
	"}\n";
static const char *const FS_SAMPLE_INTEGER =
	"uniform usampler2DMS tex;\n"
	"uniform int number;\n"
	"out uint result;\n"
	"void main() { result = texelFetch(tex, ivec2(gl_FragCoord.xy), number).r; }\n";

/* Edges that cut through pixels. */
static const char *const VS_TRIANGLE =
	"uniform int seed;\n"
	"uniform float depth;\n"
	"void main() {\n"
	"	int v = (seed + gl_VertexID * 7919) * 31;\n"
	"	gl_Position = vec4(vec2(v % 113, v % 127) / 56.0 - 1.0, depth * 2.0 - 1.0, 1.0);\n"
	"}\n";

static void draw_triangle(struct state *s, int depth)
{
	GLint program;

	glGetIntegerv(GL_CURRENT_PROGRAM, &program);
	uniform_int("seed", random_below(&s->g, 100000));
	glUniform1f(glGetUniformLocation((GLuint)program, "depth"), (float)depth / 64.0f);
	glDrawArrays(GL_TRIANGLES, 0, 3);
}

/* texture 0: colour, 1: depth and stencil, 2: one sample of them; framebuffers 0 and 1 */
static void init_target(struct state *s, GLenum color, GLenum depth, GLenum attachment)
{
	s->texture[0] = make_storage(color, SAMPLES);
	s->texture[1] = depth ? make_storage(depth, SAMPLES) : 0;
	s->texture[2] = make_storage(GL_R32UI, 0);
	s->texture[3] = make_storage(GL_RGBA8, 0);
	s->framebuffer[0] = make_framebuffer(s->texture[0], attachment, s->texture[1], SAMPLES);
	s->framebuffer[1] = make_framebuffer(s->texture[2], 0, 0, 0);
	s->framebuffer[2] = make_framebuffer(s->texture[3], 0, 0, 0);
	s->program[0] = link_stages(&(struct stages){.vertex = VS_TRIANGLE, .fragment = FS_FLAT});
	s->program[1] = link_stages(&(struct stages){.vertex = VS_RECT, .fragment = FS_SAMPLE});
	s->program[2] =
		link_stages(&(struct stages){.vertex = VS_RECT, .fragment = FS_SAMPLE_DEPTH});
	s->program[4] = link_stages(&(struct stages){.vertex = VS_RECT, .fragment = FS_FLAT});
}

static void init_color(struct state *s)
{
	init_target(s, GL_RGBA8, 0, 0);
}

static void init_integer(struct state *s)
{
	init_target(s, GL_R32UI, 0, 0);
	s->program[0] = link_stages(&(struct stages){.vertex = VS_TRIANGLE, .fragment = FS_NUMBER});
	s->program[1] =
		link_stages(&(struct stages){.vertex = VS_RECT, .fragment = FS_SAMPLE_INTEGER});
}

static void init_depth(struct state *s)
{
	init_target(s, GL_RGBA8, GL_DEPTH_COMPONENT24, GL_DEPTH_ATTACHMENT);
}

static void init_depth_float(struct state *s)
{
	init_target(s, GL_RGBA8, GL_DEPTH_COMPONENT32F, GL_DEPTH_ATTACHMENT);
}

static void init_stencil(struct state *s)
{
	init_target(s, GL_RGBA8, GL_DEPTH24_STENCIL8, GL_DEPTH_STENCIL_ATTACHMENT);
}

static void hash_samples(struct state *s, GLuint texture, GLuint program)
{
	for (int i = 0; i < SAMPLES; i++) {
		start(s, s->framebuffer[1]);
		use(program);
		uniform_int("number", i);
		glBindTexture(GL_TEXTURE_2D_MULTISAMPLE, texture);
		draw_all();
		hash_u32(s, s->framebuffer[1]);
	}
}

static void draw_color(struct state *s, unsigned frame)
{
	start(s, s->framebuffer[0]);
	use(s->program[0]);
	glEnable(GL_BLEND);
	glBlendFunc(GL_SRC_ALPHA, GL_ONE_MINUS_SRC_ALPHA);
	for (unsigned i = 0; i < 6; i++) {
		if (i == 3) {
			glEnable(GL_SAMPLE_MASK);
			glSampleMaski(0, 1 + (frame + i) % 14);
		}
		uniform_color("color", random_u32(&s->g));
		draw_triangle(s, 0);
	}
	glDisable(GL_SAMPLE_MASK);
	hash_samples(s, s->texture[0], s->program[1]);
	glBindFramebuffer(GL_READ_FRAMEBUFFER, s->framebuffer[0]);
	glBindFramebuffer(GL_DRAW_FRAMEBUFFER, s->framebuffer[2]);
	glBlitFramebuffer(0, 0, SIDE, SIDE, 0, 0, SIDE, SIDE, GL_COLOR_BUFFER_BIT, GL_NEAREST);
	hash_rgba8(s, s->framebuffer[2]);
}

static void draw_integer(struct state *s, unsigned frame)
{
	start(s, s->framebuffer[0]);
	use(s->program[0]);
	for (unsigned i = 0; i < 4; i++) {
		uniform_int("number", random_below(&s->g, 1 << 30));
		draw_triangle(s, 0);
	}
	hash_samples(s, s->texture[0], s->program[1]);
}

static void draw_depth(struct state *s, unsigned frame)
{
	static const GLenum tests[] = {GL_LESS, GL_GREATER, GL_EQUAL, GL_LEQUAL};

	start(s, s->framebuffer[0]);
	use(s->program[0]);
	glEnable(GL_DEPTH_TEST);
	for (unsigned i = 0; i < 8; i++) {
		glDepthFunc(tests[(i + frame) % 4]);
		glDepthMask(i % 4 != 2);
		uniform_color("color", random_u32(&s->g));
		draw_triangle(s, 24 + 5 * random_below(&s->g, 8));
	}
	hash_samples(s, s->texture[0], s->program[1]);
	hash_samples(s, s->texture[1], s->program[2]);
}

/* Each bit of every sample's stencil becomes a bit of its red. */
static void show_stencil(struct state *s)
{
	GLint color = glGetUniformLocation(s->program[4], "color");

	use(s->program[4]);
	glDisable(GL_DEPTH_TEST);
	glStencilMask(0);
	glStencilOp(GL_KEEP, GL_KEEP, GL_KEEP);
	glEnable(GL_BLEND);
	glColorMask(1, 0, 0, 0);
	glClearColor(0, 0, 0, 0);
	glClear(GL_COLOR_BUFFER_BIT);
	for (int bit = 0; bit < 8; bit++) {
		glStencilFunc(GL_EQUAL, 0xff, 1u << bit);
		glUniform4f(color, (float)(1 << bit) / 255.0f, 0, 0, 0);
		draw_all();
	}
	glColorMask(1, 1, 1, 1);
}

static void draw_stencil(struct state *s, unsigned frame)
{
	static const GLenum operations[] = {GL_INCR_WRAP, GL_INVERT, GL_REPLACE, GL_DECR_WRAP};

	start(s, s->framebuffer[0]);
	use(s->program[0]);
	glEnable(GL_DEPTH_TEST);
	glDepthFunc(GL_LEQUAL);
	glEnable(GL_STENCIL_TEST);
	for (unsigned i = 0; i < 8; i++) {
		glStencilFunc(i % 2 ? GL_ALWAYS : GL_LESS, random_below(&s->g, 256), 0xff);
		glStencilOp(GL_KEEP, operations[i % 4], operations[(i + frame) % 4]);
		uniform_color("color", random_u32(&s->g));
		draw_triangle(s, 24 + 5 * random_below(&s->g, 8));
	}
	show_stencil(s);
	hash_samples(s, s->texture[0], s->program[1]);
	hash_samples(s, s->texture[1], s->program[2]);
}

const struct series multisample_series[] = {
	{"msaa-color", false, init_color, draw_color},
	{"msaa-integer", false, init_integer, draw_integer},
	{"msaa-z24", false, init_depth, draw_depth},
	{"msaa-z32f", false, init_depth_float, draw_depth},
	{"msaa-stencil", false, init_stencil, draw_stencil},
};
const unsigned multisample_series_count =
	sizeof(multisample_series) / sizeof(multisample_series[0]);
