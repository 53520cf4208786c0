/* SPDX-License-Identifier: Apache-2.0 */

/* Series whose colour, depth and stencil planes are never cleared after the first frame. */

#include "glstate.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const char *const FS_DEPTH_BITS =
	"uniform sampler2D tex;\n"
	"out uint result;\n"
	"void main() {\n"
	"	result = floatBitsToUint(texelFetch(tex, ivec2(gl_FragCoord.xy), 0).r);\n"
	"}\n";

static void init_blend(struct state *s)
{
	s->texture[0] = make_storage(GL_RGBA8, 0);
	s->framebuffer[0] = make_framebuffer(s->texture[0], 0, 0, 0);
	s->program[0] = link_stages(&(struct stages){.vertex = VS_RECT, .fragment = FS_FLAT});
}

static void draw_blend(struct state *s, unsigned frame)
{
	static const GLenum factors[][2] = {{GL_ONE, GL_ONE},
		{GL_SRC_ALPHA, GL_ONE_MINUS_SRC_ALPHA}, {GL_DST_COLOR, GL_SRC_COLOR},
		{GL_CONSTANT_COLOR, GL_ONE_MINUS_CONSTANT_ALPHA}};
	static const GLenum equations[] = {
		GL_FUNC_ADD, GL_FUNC_REVERSE_SUBTRACT, GL_FUNC_SUBTRACT, GL_MAX};

	start(s, s->framebuffer[0]);
	use(s->program[0]);
	glEnable(GL_BLEND);
	/* Set once: later frames need what the first one set. */
	if (!frame)
		glBlendColor(0.25f, 0.5f, 0.125f, 0.75f);
	for (unsigned i = 0; i < 12; i++) {
		const GLenum *f = factors[(i + frame) % COUNT(factors)];
		glBlendFunc(f[0], f[1]);
		glBlendEquation(equations[random_below(&s->g, COUNT(equations))]);
		glColorMask(i % 3 != 0, i % 5 != 0, 1, i % 2);
		uniform_color("color", random_u32(&s->g));
		draw_random_rect(s, 0);
	}
	hash_rgba8(s, s->framebuffer[0]);
}

/* texture 0: colour, 1: depth, 2: depth as bits; framebuffer 0 and 1 */
static void init_planes(struct state *s, GLenum color, GLenum depth, GLenum attachment)
{
	s->texture[0] = make_storage(color, 0);
	s->texture[1] = make_storage(depth, 0);
	s->texture[2] = make_storage(GL_R32UI, 0);
	s->framebuffer[0] = make_framebuffer(s->texture[0], attachment, s->texture[1], 0);
	s->framebuffer[1] = make_framebuffer(s->texture[2], 0, 0, 0);
	s->program[0] = link_stages(&(struct stages){.vertex = VS_RECT, .fragment = FS_FLAT});
	s->program[1] = link_stages(&(struct stages){.vertex = VS_RECT, .fragment = FS_DEPTH_BITS});
}

static void init_z24(struct state *s)
{
	init_planes(s, GL_RGBA8, GL_DEPTH_COMPONENT24, GL_DEPTH_ATTACHMENT);
}

static void init_z16(struct state *s)
{
	init_planes(s, GL_RGBA8, GL_DEPTH_COMPONENT16, GL_DEPTH_ATTACHMENT);
}

static void init_z32f(struct state *s)
{
	init_planes(s, GL_RGBA16F, GL_DEPTH_COMPONENT32F, GL_DEPTH_ATTACHMENT);
}

static void init_z24s8(struct state *s)
{
	init_planes(s, GL_RGBA8, GL_DEPTH24_STENCIL8, GL_DEPTH_STENCIL_ATTACHMENT);
}

static void init_z32fs8(struct state *s)
{
	init_planes(s, GL_RGBA8, GL_DEPTH32F_STENCIL8, GL_DEPTH_STENCIL_ATTACHMENT);
}

static void hash_depth(struct state *s)
{
	start(s, s->framebuffer[1]);
	use(s->program[1]);
	glBindTexture(GL_TEXTURE_2D, s->texture[1]);
	draw_all();
	hash_u32(s, s->framebuffer[1]);
}

static void draw_depth(struct state *s, unsigned frame)
{
	static const GLenum tests[] = {GL_LESS, GL_EQUAL, GL_GREATER, GL_LEQUAL, GL_NOTEQUAL};

	start(s, s->framebuffer[0]);
	use(s->program[0]);
	glEnable(GL_DEPTH_TEST);
	glEnable(GL_BLEND);
	for (unsigned i = 0; i < 15; i++) {
		glDepthFunc(tests[(i + frame) % COUNT(tests)]);
		glDepthMask(i % 3 != 1);
		uniform_color("color", random_u32(&s->g) & 0x1111);
		/* Few depths, so that a fragment is often as deep as one of an earlier frame. */
		draw_random_rect(s, 24 + 5 * random_below(&s->g, 8));
	}
	hash_pixels(&s->g, SIDE, SIDE, GL_RGBA, GL_FLOAT, 16);
	hash_depth(s);
}

/* Each bit of the stencil plane becomes a bit of red. */
static void hash_stencil(struct state *s)
{
	GLint color = glGetUniformLocation(s->program[0], "color");

	glStencilMask(0);
	glStencilOp(GL_KEEP, GL_KEEP, GL_KEEP);
	glDisable(GL_DEPTH_TEST);
	glEnable(GL_BLEND);
	glBlendFunc(GL_ONE, GL_ONE);
	glColorMask(1, 0, 0, 0);
	glClearColor(0, 0, 0, 0);
	glClear(GL_COLOR_BUFFER_BIT);
	for (int bit = 0; bit < 8; bit++) {
		glStencilFunc(GL_EQUAL, 0xff, 1u << bit);
		glUniform4f(color, (float)(1 << bit) / 255.0f, 0, 0, 0);
		draw_all();
	}
	glColorMask(1, 1, 1, 1);
	hash_rgba8(s, s->framebuffer[0]);
}

static void draw_stencil(struct state *s, unsigned frame)
{
	static const GLenum operations[] = {GL_INCR_WRAP, GL_DECR_WRAP, GL_INVERT, GL_REPLACE};
	static const GLenum tests[] = {GL_ALWAYS, GL_LESS, GL_NOTEQUAL, GL_GEQUAL};

	start(s, s->framebuffer[0]);
	use(s->program[0]);
	glEnable(GL_DEPTH_TEST);
	glDepthFunc(GL_LEQUAL);
	glEnable(GL_STENCIL_TEST);
	for (unsigned i = 0; i < 15; i++) {
		glStencilFunc(tests[(i + frame) % COUNT(tests)], random_below(&s->g, 256), 0xff);
		glStencilOp(GL_INVERT, operations[i % 4], operations[(i + frame) % 4]);
		glStencilMask(i % 4 ? 0xff : 0x3c);
		uniform_color("color", random_u32(&s->g));
		draw_random_rect(s, 24 + 5 * random_below(&s->g, 8));
	}
	hash_rgba8(s, s->framebuffer[0]);
	hash_stencil(s);
	hash_depth(s);
}

static void init_points(struct state *s)
{
	s->texture[0] = make_storage(GL_RGBA8, 0);
	s->framebuffer[0] = make_framebuffer(s->texture[0], 0, 0, 0);
	s->texture[1] = make_texture(&s->g, 16, 16, GL_NEAREST);
	s->program[0] = link_stages(&(struct stages){
		.vertex = "uniform int seed;\n"
			  "void main() {\n"
			  "	int v = gl_VertexID * 37 + seed;\n"
			  "	gl_Position = vec4(vec2(v % 31, v % 29) / 16.0 - 0.9, 0.0, 1.0);\n"
			  "	gl_PointSize = float(3 + v % 14);\n"
			  "}\n",
		.fragment = "uniform sampler2D tex;\n"
			    "out vec4 result;\n"
			    "void main() { result = texture(tex, gl_PointCoord) * 0.25; }\n"});
	for (unsigned i = 0; i < 2; i++) {
		glGenSamplers(1, &s->sampler[i]);
		glSamplerParameteri(s->sampler[i], GL_TEXTURE_WRAP_S,
			i ? GL_MIRRORED_REPEAT : GL_CLAMP_TO_BORDER);
		glSamplerParameteri(s->sampler[i], GL_TEXTURE_MIN_FILTER, GL_NEAREST);
		glSamplerParameteri(
			s->sampler[i], GL_TEXTURE_MAG_FILTER, i ? GL_NEAREST : GL_LINEAR);
	}
}

static void draw_points(struct state *s, unsigned frame)
{
	start(s, s->framebuffer[0]);
	use(s->program[0]);
	glEnable(GL_PROGRAM_POINT_SIZE);
	glPointParameteri(GL_POINT_SPRITE_COORD_ORIGIN, frame % 2 ? GL_LOWER_LEFT : GL_UPPER_LEFT);
	glEnable(GL_BLEND);
	glBlendFunc(GL_ONE, GL_ONE_MINUS_SRC_ALPHA);
	glBindTexture(GL_TEXTURE_2D, s->texture[1]);
	glBindSampler(0, s->sampler[frame % 2]);
	uniform_int("seed", random_below(&s->g, 10000));
	glDrawArrays(GL_POINTS, 0, 24);
	hash_rgba8(s, s->framebuffer[0]);
}

const struct series raster_series[] = {
	{"blend", false, init_blend, draw_blend},
	{"z16", false, init_z16, draw_depth},
	{"z24x8", false, init_z24, draw_depth},
	{"z32f", false, init_z32f, draw_depth},
	{"z24s8", false, init_z24s8, draw_stencil},
	{"z32fs8", false, init_z32fs8, draw_stencil},
	{"points", false, init_points, draw_points},
};
const unsigned raster_series_count = COUNT(raster_series);
