/* SPDX-License-Identifier: Apache-2.0 */

/* Textures of which each frame changes a part. */

#include "glstate.h"

#include <stdio.h>

#define LEVELS 6
#define EDGE   32 /* of level 0 */
#define LAYERS 4

struct kind {
	GLenum target;
	const char *sampler, *fetch;  /* GLSL: type of the sampler, coordinates at level `lod` */
	int layers, compressed_block; /* bytes of a block of 4x4, 0: RGBA8 */
	GLenum format;
};

static const struct kind kinds[] = {
	{GL_TEXTURE_2D, "sampler2D", "uv", 1, 0, GL_RGBA8},
	{GL_TEXTURE_CUBE_MAP, "samplerCube", "vec3(uv * 2.0 - 1.0, uv.x - 0.5)", 6, 0, GL_RGBA8},
	{GL_TEXTURE_3D, "sampler3D", "vec3(uv, uv.x)", LAYERS, 0, GL_RGBA8},
	{GL_TEXTURE_2D_ARRAY, "sampler2DArray", "vec3(uv, floor(uv.x * 4.0))", LAYERS, 0, GL_RGBA8},
	{GL_TEXTURE_2D_ARRAY, "sampler2DArray", "vec3(uv, floor(uv.y * 4.0))", LAYERS, 16,
		GL_COMPRESSED_RGBA_S3TC_DXT5_EXT},
	{GL_TEXTURE_2D_ARRAY, "sampler2DArray", "vec3(uv, floor(uv.y * 4.0))", LAYERS, 16,
		GL_COMPRESSED_RGBA_BPTC_UNORM},
	{GL_TEXTURE_2D_ARRAY, "sampler2DArray", "vec3(uv, floor(uv.y * 4.0))", LAYERS, 16,
		GL_COMPRESSED_RG_RGTC2},
};

static GLuint kind_program(const struct kind *kind)
{
	char source[512];
	const char *coordinate = kind->target == GL_TEXTURE_2D ? "vec2" : "vec3";

	if (snprintf(source, sizeof(source),
		    "uniform %s tex;\nin vec2 uv;\nuniform float lod;\nout vec4 result;\n"
		    "%s at() { return %s; }\n"
		    "void main() { result = textureLod(tex, at(), lod); }\n",
		    kind->sampler, coordinate, kind->fetch) >= (int)sizeof(source))
		die("a shader is too long");
	return link_stages(&(struct stages){.vertex = VS_RECT, .fragment = source});
}

static int extent(int level)
{
	int edge = EDGE >> level;

	return edge ? edge : 1;
}

/* Fills a part of a level: a quarter (in blocks for compressed formats), or all of it. */
static void fill(struct state *s, const struct kind *kind, int level, int layer, bool all)
{
	uint32_t texels[EDGE * EDGE];
	int edge = extent(level), unit = kind->compressed_block ? 4 : 1;
	int part = all || edge <= unit ? edge : (edge / 2 + unit - 1) / unit * unit;
	int x = part == edge ? 0 : random_below(&s->g, (edge - part) / unit + 1) * unit;
	int blocks = (part + 3) / 4;

	for (int i = 0; i < part * part || i < blocks * blocks * 4; i++)
		texels[i] = random_u32(&s->g);
	if (kind->compressed_block)
		glCompressedTexSubImage3D(kind->target, level, x, 0, layer, part, part, 1,
			kind->format, blocks * blocks * kind->compressed_block, texels);
	else if (kind->target == GL_TEXTURE_2D)
		glTexSubImage2D(
			kind->target, level, x, 0, part, part, GL_RGBA, GL_UNSIGNED_BYTE, texels);
	else if (kind->target == GL_TEXTURE_CUBE_MAP)
		glTexSubImage2D((GLenum)(GL_TEXTURE_CUBE_MAP_POSITIVE_X + layer), level, x, 0, part,
			part, GL_RGBA, GL_UNSIGNED_BYTE, texels);
	else
		glTexSubImage3D(kind->target, level, x, 0, layer, part, part, 1, GL_RGBA,
			GL_UNSIGNED_BYTE, texels);
}

static int layers_at(const struct kind *kind, int level)
{
	int layers = kind->target == GL_TEXTURE_3D ? kind->layers >> level : kind->layers;

	return layers ? layers : 1;
}

static void init_kind(struct state *s, const struct kind *kind)
{
	glGenTextures(1, &s->texture[0]);
	glBindTexture(kind->target, s->texture[0]);
	if (kind->target == GL_TEXTURE_2D || kind->target == GL_TEXTURE_CUBE_MAP)
		glTexStorage2D(kind->target, LEVELS, kind->format, EDGE, EDGE);
	else
		glTexStorage3D(kind->target, LEVELS, kind->format, EDGE, EDGE, kind->layers);
	for (int level = 0; level < LEVELS; level++)
		for (int layer = 0; layer < layers_at(kind, level); layer++)
			fill(s, kind, level, layer, true);
	s->texture[1] = make_storage(GL_RGBA8, 0);
	s->framebuffer[0] = make_framebuffer(s->texture[1], 0, 0, 0);
	s->program[0] = kind_program(kind);
	glGenSamplers(1, s->sampler);
	glSamplerParameteri(s->sampler[0], GL_TEXTURE_MIN_FILTER, GL_LINEAR_MIPMAP_LINEAR);
	glSamplerParameteri(s->sampler[0], GL_TEXTURE_MAG_FILTER, GL_LINEAR);
	glSamplerParameteri(s->sampler[0], GL_TEXTURE_WRAP_S, GL_MIRRORED_REPEAT);
}

static void draw_kind(struct state *s, const struct kind *kind, unsigned frame)
{
	int level = (int)(frame % LEVELS);

	start(s, s->framebuffer[0]);
	use(s->program[0]);
	glBindTexture(kind->target, s->texture[0]);
	fill(s, kind, level, random_below(&s->g, layers_at(kind, level)), false);
	if (frame % 2)
		glBindSampler(0, s->sampler[0]);
	glEnable(GL_BLEND);
	glBlendFunc(GL_ONE, GL_ONE_MINUS_SRC_ALPHA);
	for (int i = 0; i < 4; i++) {
		glUniform1f(glGetUniformLocation(s->program[0], "lod"),
			(float)((frame + (unsigned)i) % (2 * LEVELS)) * 0.5f);
		draw_rect(i % 2 * 8, i / 2 * 8, 8, 8, 0);
	}
	hash_rgba8(s, s->framebuffer[0]);
}

#define KIND(name, number)                                                                         \
	static void init_##name(struct state *s)                                                   \
	{                                                                                          \
		init_kind(s, &kinds[number]);                                                      \
	}                                                                                          \
	static void draw_##name(struct state *s, unsigned frame)                                   \
	{                                                                                          \
		draw_kind(s, &kinds[number], frame);                                               \
	}
KIND(mip, 0)
KIND(cube, 1)
KIND(volume, 2)
KIND(array, 3)
KIND(dxt5, 4)
KIND(bptc, 5)
KIND(rgtc, 6)

/* The picture of each frame is drawn from that of the last one, and its mipmaps are made anew. */
static void init_chain(struct state *s)
{
	for (unsigned i = 0; i < 2; i++) {
		s->texture[i] = make_texture(&s->g, SIDE, SIDE, GL_NEAREST);
		glGenerateMipmap(GL_TEXTURE_2D);
		glGenFramebuffers(1, &s->framebuffer[i]);
		glBindFramebuffer(GL_FRAMEBUFFER, s->framebuffer[i]);
		glFramebufferTexture2D(
			GL_FRAMEBUFFER, GL_COLOR_ATTACHMENT0, GL_TEXTURE_2D, s->texture[i], 0);
	}
	s->program[0] = link_stages(&(struct stages){.vertex = VS_RECT,
		.fragment = "uniform sampler2D tex;\n"
			    "uniform int number;\n"
			    "out vec4 result;\n"
			    "void main() {\n"
			    "	ivec2 at = ivec2(gl_FragCoord.xy);\n"
			    "	ivec4 a = ivec4(texelFetch(tex, at, 0) * 255.0 + 0.5);\n"
			    "	ivec4 b = ivec4(texelFetch(tex, (at * 3 + number) % 32, 1) * "
			    "255.0\n"
			    "		+ 0.5);\n"
			    "	result = vec4((a.yzwx ^ b) & 255) / 255.0;\n"
			    "}\n"});
}

static void draw_chain(struct state *s, unsigned frame)
{
	unsigned to = frame % 2;

	start(s, s->framebuffer[to]);
	use(s->program[0]);
	uniform_int("number", (int)frame);
	glBindTexture(GL_TEXTURE_2D, s->texture[!to]);
	draw_all();
	glBindTexture(GL_TEXTURE_2D, s->texture[to]);
	glCopyTexSubImage2D(GL_TEXTURE_2D, 0, 8, 8, 0, 0, 4, 4);
	glGenerateMipmap(GL_TEXTURE_2D);
	glCopyImageSubData(s->texture[to], GL_TEXTURE_2D, 2, 0, 0, 0, s->texture[!to],
		GL_TEXTURE_2D, 0, 16, 16, 0, 8, 8, 1);
	hash_rgba8(s, s->framebuffer[to]);
}

const struct series texture_series[] = {
	{"mip", false, init_mip, draw_mip},
	{"cube", false, init_cube, draw_cube},
	{"volume", false, init_volume, draw_volume},
	{"array", false, init_array, draw_array},
	{"dxt5", false, init_dxt5, draw_dxt5},
	{"bptc", false, init_bptc, draw_bptc},
	{"rgtc", false, init_rgtc, draw_rgtc},
	{"chain", false, init_chain, draw_chain},
};
const unsigned texture_series_count = sizeof(texture_series) / sizeof(texture_series[0]);
