/* SPDX-License-Identifier: Apache-2.0 */
#include "renderer/virgl/samples.h"

#include "base/checked.h"

#include <epoxy/gl.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What travels. */
enum samples_kind {
	KIND_UINT,
	KIND_INT,
	KIND_FLOAT,
	KIND_DEPTH,
	KIND_STENCIL,
	KIND_STENCIL_BIT,
	KIND_DEPTH_VALUE, /* a float in a colour becomes the depth */
	KIND_DEPTH_ONE,   /* depth 1, colour 1 */
	KIND_COUNT
};

enum samples_shape { SHAPE_2D, SHAPE_MS, SHAPE_MS_ARRAY, SHAPE_COUNT };

struct samples {
	GLuint programs[KIND_COUNT][SHAPE_COUNT]; /* 0: not made yet */
	GLuint framebuffer, vertex_array, sampler;
	bool views, stencil_export;
	/* How the driver makes a float of 24 bits: by division, or by multiplication. */
	enum { DEPTH24_UNKNOWN, DEPTH24_DIVIDES, DEPTH24_MULTIPLIES } depth24;
};

static const struct {
	const char *prefix; /* of the sampler's type */
	const char *extension, *output, *body;
} kinds[KIND_COUNT] = {
	[KIND_UINT] = {"u", "", "out uvec4 color;\n", "color = texel;"},
	[KIND_INT] = {"i", "", "out ivec4 color;\n", "color = texel;"},
	[KIND_FLOAT] = {"", "", "out vec4 color;\n", "color = texel;"},
	[KIND_DEPTH] = {"", "", "", "gl_FragDepth = texel.r;"},
	[KIND_STENCIL] = {"u", "#extension GL_ARB_shader_stencil_export : require\n", "",
		"gl_FragStencilRefARB = int(texel.r);"},
	[KIND_STENCIL_BIT] = {"u", "", "uniform uint bit;\n",
		"if (bit != 0u && (texel.r & bit) == 0u) discard;"},
	[KIND_DEPTH_VALUE] = {"", "", "", "gl_FragDepth = texel.r;"},
	[KIND_DEPTH_ONE] = {"", "", "out vec4 color;\n", "color = vec4(1); gl_FragDepth = 1.0;"},
};

static const struct {
	const char *sampler, *at;
} shapes[SHAPE_COUNT] = {
	[SHAPE_2D] = {"sampler2D", "at, 0"},
	[SHAPE_MS] = {"sampler2DMS", "at, from"},
	[SHAPE_MS_ARRAY] = {"sampler2DMSArray", "ivec3(at, layer), from"},
};

static const char vertex_source[] =
	"#version 150\n"
	"void main() {\n"
	"gl_Position = vec4(gl_VertexID == 1 ? 3 : -1, gl_VertexID == 2 ? 3 : -1, 0, 1);\n"
	"}\n";

int samples_create(struct samples **ret)
{
	if (!epoxy_is_desktop_gl() || epoxy_gl_version() < 33)
		return -ENOTSUP;
	struct samples *s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->views = epoxy_gl_version() >= 43 || epoxy_has_gl_extension("GL_ARB_texture_view");
	s->stencil_export = epoxy_has_gl_extension("GL_ARB_shader_stencil_export");
	glGenFramebuffers(1, &s->framebuffer);
	glGenVertexArrays(1, &s->vertex_array);
	glGenSamplers(1, &s->sampler);
	glSamplerParameteri(s->sampler, GL_TEXTURE_MIN_FILTER, GL_NEAREST);
	glSamplerParameteri(s->sampler, GL_TEXTURE_MAG_FILTER, GL_NEAREST);
	*ret = s;
	return 0;
}

void samples_destroy(struct samples *s)
{
	if (!s)
		return;
	for (unsigned i = 0; i < KIND_COUNT * SHAPE_COUNT; i++)
		glDeleteProgram(s->programs[i / SHAPE_COUNT][i % SHAPE_COUNT]);
	glDeleteSamplers(1, &s->sampler);
	glDeleteVertexArrays(1, &s->vertex_array);
	glDeleteFramebuffers(1, &s->framebuffer);
	free(s);
}

/* ---- programs ---- */

static void samples_compile(GLuint program, GLenum type, const char *source)
{
	GLuint shader = glCreateShader(type);

	glShaderSource(shader, 1, &source, NULL);
	glCompileShader(shader);
	glAttachShader(program, shader);
	glDeleteShader(shader);
}

/* 0: it does not link. */
static GLuint samples_program(struct samples *s, enum samples_kind kind, enum samples_shape shape)
{
	char source[768];
	GLint linked = 0;

	if (s->programs[kind][shape])
		return s->programs[kind][shape];
	snprintf(source, sizeof(source),
		"#version 150\n%s"
		"uniform %s%s image;\n"
		"uniform int layer, from;\n%s"
		"void main() {\n"
		"ivec2 at = ivec2(gl_FragCoord.xy);\n"
		"%svec4 texel = texelFetch(image, %s);\n"
		"%s\n}\n",
		kinds[kind].extension, kinds[kind].prefix, shapes[shape].sampler,
		kinds[kind].output, kinds[kind].prefix, shapes[shape].at, kinds[kind].body);
	GLuint program = glCreateProgram();
	samples_compile(program, GL_VERTEX_SHADER, vertex_source);
	samples_compile(program, GL_FRAGMENT_SHADER, source);
	glLinkProgram(program);
	glGetProgramiv(program, GL_LINK_STATUS, &linked);
	if (!linked) {
		glDeleteProgram(program);
		return 0;
	}
	s->programs[kind][shape] = program;
	return program;
}

/* ---- what is fetched from ---- */

static enum samples_shape samples_shape(GLenum target)
{
	return target == GL_TEXTURE_2D_MULTISAMPLE_ARRAY ? SHAPE_MS_ARRAY
	       : target == GL_TEXTURE_2D_MULTISAMPLE     ? SHAPE_MS
							 : SHAPE_2D;
}

/* Parameters of a texture that change what a fetch sees; the library sets them for its own. */
struct samples_parameters {
	GLint swizzle[4], mode;
};

static void samples_plain(const struct samples_image *i, GLint mode, struct samples_parameters *old)
{
	static const GLint plain[4] = {GL_RED, GL_GREEN, GL_BLUE, GL_ALPHA};

	glGetTexParameteriv(i->target, GL_TEXTURE_SWIZZLE_RGBA, old->swizzle);
	glTexParameteriv(i->target, GL_TEXTURE_SWIZZLE_RGBA, plain);
	if (!mode)
		return;
	glGetTexParameteriv(i->target, GL_DEPTH_STENCIL_TEXTURE_MODE, &old->mode);
	glTexParameteri(i->target, GL_DEPTH_STENCIL_TEXTURE_MODE, mode);
}

static void samples_put_back(
	const struct samples_image *i, GLint mode, const struct samples_parameters *old)
{
	glTexParameteriv(i->target, GL_TEXTURE_SWIZZLE_RGBA, old->swizzle);
	if (mode)
		glTexParameteri(i->target, GL_DEPTH_STENCIL_TEXTURE_MODE, old->mode);
}

/* ---- what is drawn to ---- */

static bool samples_attach(const struct samples_image *i, const GLenum attachments[2])
{
	for (unsigned a = 0; a < 2 && attachments[a]; a++) {
		if (i->target == GL_TEXTURE_2D_MULTISAMPLE_ARRAY)
			glFramebufferTextureLayer(
				GL_FRAMEBUFFER, attachments[a], i->texture, 0, (GLint)i->layer);
		else
			glFramebufferTexture2D(
				GL_FRAMEBUFFER, attachments[a], i->target, i->texture, 0);
	}
	GLenum draw = attachments[0] == GL_COLOR_ATTACHMENT0 ? GL_COLOR_ATTACHMENT0 : GL_NONE;
	glDrawBuffers(1, &draw);
	return glCheckFramebufferStatus(GL_FRAMEBUFFER) == GL_FRAMEBUFFER_COMPLETE;
}

static void samples_detach(const GLenum attachments[2])
{
	for (unsigned a = 0; a < 2 && attachments[a]; a++)
		glFramebufferTexture2D(GL_FRAMEBUFFER, attachments[a], GL_TEXTURE_2D, 0, 0);
}

/* One pass; what is attached, and stencil tests, are the caller's. */
static int samples_draw(struct samples *s, enum samples_kind kind, const struct samples_image *src,
	const struct samples_image *dst, GLuint bit)
{
	GLuint program = samples_program(s, kind, samples_shape(src->target));

	if (!program)
		return -ENOTSUP;
	glUseProgram(program);
	glUniform1i(glGetUniformLocation(program, "layer"), (GLint)src->layer);
	glUniform1i(glGetUniformLocation(program, "from"), (GLint)src->sample);
	if (kind == KIND_STENCIL_BIT)
		glUniform1ui(glGetUniformLocation(program, "bit"), bit);
	if (dst->target != GL_TEXTURE_2D) {
		glEnable(GL_SAMPLE_MASK);
		glSampleMaski(0, 1u << dst->sample);
	} else {
		glDisable(GL_SAMPLE_MASK);
	}
	glDrawArrays(GL_TRIANGLES, 0, 3);
	return 0;
}

static int samples_draw_stencil(
	struct samples *s, const struct samples_image *src, const struct samples_image *dst)
{
	int err = 0;

	glEnable(GL_STENCIL_TEST);
	glStencilFunc(GL_ALWAYS, 0, 0xff);
	glStencilOp(GL_REPLACE, GL_REPLACE, GL_REPLACE);
	glStencilMask(0xff);
	if (s->stencil_export) {
		err = samples_draw(s, KIND_STENCIL, src, dst, 0);
	} else {
		err = samples_draw(s, KIND_STENCIL_BIT, src, dst, 0);
		for (unsigned bit = 0; bit < 8 && !err; bit++) {
			glStencilFunc(GL_ALWAYS, 0xff, 0xff);
			glStencilMask(1u << bit);
			err = samples_draw(s, KIND_STENCIL_BIT, src, dst, 1u << bit);
		}
	}
	glStencilMask(0xff);
	glDisable(GL_STENCIL_TEST);
	return err;
}

/* Source bound, destination attached, drawn, and both let go of. */
static int samples_pass(struct samples *s, enum samples_kind kind, const struct samples_image *src,
	const struct samples_image *dst, const GLenum attachments[2])
{
	GLint mode = kind == KIND_STENCIL ? GL_STENCIL_INDEX
		     : kind == KIND_DEPTH ? GL_DEPTH_COMPONENT
					  : 0;
	struct samples_parameters old;
	int err = -ENOTSUP;

	glBindTexture(src->target, src->texture);
	samples_plain(src, mode, &old);
	if (samples_attach(dst, attachments)) {
		if (kind == KIND_DEPTH) {
			glEnable(GL_DEPTH_TEST);
			glDepthFunc(GL_ALWAYS);
		}
		err = kind == KIND_STENCIL ? samples_draw_stencil(s, src, dst)
					   : samples_draw(s, kind, src, dst, 0);
		glDisable(GL_DEPTH_TEST);
	}
	samples_detach(attachments);
	samples_put_back(src, mode, &old);
	glBindTexture(src->target, 0);
	return err;
}

/* ---- colour ---- */

static const GLenum color_attachments[2] = {GL_COLOR_ATTACHMENT0};

/* 0: there can be none. */
static GLuint samples_view(const struct samples_image *i, unsigned bytes)
{
	static const struct {
		unsigned bytes;
		GLenum format;
	} formats[] = {
		{1, GL_R8UI}, {2, GL_R16UI}, {4, GL_R32UI}, {8, GL_RG32UI}, {16, GL_RGBA32UI}};
	GLint immutable = 0;
	GLuint view = 0;

	glBindTexture(i->target, i->texture);
	glGetTexParameteriv(i->target, GL_TEXTURE_IMMUTABLE_FORMAT, &immutable);
	glBindTexture(i->target, 0);
	for (size_t row = 0; immutable && row < ARRAY_SIZE(formats); row++) {
		if (formats[row].bytes != bytes)
			continue;
		GLenum target =
			i->target == GL_TEXTURE_2D ? GL_TEXTURE_2D : GL_TEXTURE_2D_MULTISAMPLE;
		glGenTextures(1, &view);
		glTextureView(view, target, i->texture, formats[row].format, 0, 1, i->layer, 1);
		if (glGetError() != GL_NO_ERROR) {
			glDeleteTextures(1, &view);
			view = 0;
		}
	}
	return view;
}

static int samples_copy_bits(struct samples *s, const struct samples_image *src,
	const struct samples_image *dst, unsigned bytes)
{
	struct samples_image from = *src, to = *dst;
	int err = -ENOTSUP;

	if (!s->views)
		return -ENOTSUP;
	from.texture = samples_view(src, bytes);
	to.texture = samples_view(dst, bytes);
	from.layer = to.layer = 0;
	from.target = src->target == GL_TEXTURE_2D ? GL_TEXTURE_2D : GL_TEXTURE_2D_MULTISAMPLE;
	to.target = dst->target == GL_TEXTURE_2D ? GL_TEXTURE_2D : GL_TEXTURE_2D_MULTISAMPLE;
	if (from.texture && to.texture)
		err = samples_pass(s, KIND_UINT, &from, &to, color_attachments);
	glDeleteTextures(1, &from.texture);
	glDeleteTextures(1, &to.texture);
	return err;
}

static GLint samples_level_parameter(const struct samples_image *i, GLenum name)
{
	GLint value = 0;

	glBindTexture(i->target, i->texture);
	glGetTexLevelParameteriv(i->target, 0, name, &value);
	glBindTexture(i->target, 0);
	return value;
}

static int samples_copy_color(struct samples *s, const struct samples_image *src,
	const struct samples_image *dst, unsigned bytes)
{
	int err = samples_copy_bits(s, src, dst, bytes);

	if (err != -ENOTSUP)
		return err;
	GLint type = samples_level_parameter(src, GL_TEXTURE_RED_TYPE);
	if (type == GL_NONE)
		type = samples_level_parameter(src, GL_TEXTURE_ALPHA_TYPE);
	enum samples_kind kind = type == GL_UNSIGNED_INT ? KIND_UINT
				 : type == GL_INT        ? KIND_INT
							 : KIND_FLOAT;
	return samples_pass(s, kind, src, dst, color_attachments);
}

static int samples_copy_depth_stencil(struct samples *s, const struct samples_image *src,
	const struct samples_image *dst, bool depth, bool stencil)
{
	const GLenum attachments[2] = {depth ? GL_DEPTH_ATTACHMENT : GL_STENCIL_ATTACHMENT,
		depth && stencil ? GL_STENCIL_ATTACHMENT : 0};
	int err = 0;

	if (stencil && epoxy_gl_version() < 43 &&
		!epoxy_has_gl_extension("GL_ARB_stencil_texturing"))
		return -ENOTSUP;
	if (depth)
		err = samples_pass(s, KIND_DEPTH, src, dst, attachments);
	if (stencil && !err)
		err = samples_pass(s, KIND_STENCIL, src, dst, attachments);
	return err;
}

static void samples_begin(struct samples *s, uint32_t width, uint32_t height)
{
	for (unsigned i = 0; i < 16 && glGetError() != GL_NO_ERROR; i++)
		;
	glBindFramebuffer(GL_FRAMEBUFFER, s->framebuffer);
	glBindVertexArray(s->vertex_array);
	glActiveTexture(GL_TEXTURE0);
	glBindSampler(0, s->sampler);
	glDisable(GL_DITHER);
	glViewport(0, 0, (GLsizei)width, (GLsizei)height);
}

static int samples_end(int err)
{
	glUseProgram(0);
	glBindFramebuffer(GL_FRAMEBUFFER, 0);
	return glGetError() != GL_NO_ERROR && !err ? -EIO : err;
}

int samples_copy(struct samples *s, const struct samples_image *src,
	const struct samples_image *dst, uint32_t width, uint32_t height, unsigned bytes)
{
	int err;

	samples_begin(s, width, height);
	bool depth = samples_level_parameter(src, GL_TEXTURE_DEPTH_SIZE) > 0;
	bool stencil = samples_level_parameter(src, GL_TEXTURE_STENCIL_SIZE) > 0;
	if (depth || stencil)
		err = samples_copy_depth_stencil(s, src, dst, depth, stencil);
	else
		err = samples_copy_color(s, src, dst, bytes);
	return samples_end(err);
}

/* ---- depth of 24 bits ---- */

#define DEPTH24_MAX 0xffffffu

static struct samples_image flat_texture(GLenum format, uint32_t width, uint32_t height,
	GLenum layout, GLenum type, const void *bytes)
{
	struct samples_image flat = {.target = GL_TEXTURE_2D};

	glGenTextures(1, &flat.texture);
	glBindTexture(GL_TEXTURE_2D, flat.texture);
	glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_MAX_LEVEL, 0);
	glPixelStorei(GL_UNPACK_ALIGNMENT, 4);
	glTexImage2D(GL_TEXTURE_2D, 0, (GLint)format, (GLsizei)width, (GLsizei)height, 0, layout,
		type, bytes);
	glBindTexture(GL_TEXTURE_2D, 0);
	return flat;
}

/* Fetches a sample's depth, or colour, as floats into memory. */
static int fetch_floats(struct samples *s, const struct samples_image *src, uint32_t width,
	uint32_t height, float *values)
{
	struct samples_image flat = flat_texture(GL_R32F, width, height, GL_RED, GL_FLOAT, NULL);
	struct samples_parameters old;
	bool depth = samples_level_parameter(src, GL_TEXTURE_DEPTH_SIZE) > 0;
	bool stencil = samples_level_parameter(src, GL_TEXTURE_STENCIL_SIZE) > 0;
	GLint mode = depth && stencil ? GL_DEPTH_COMPONENT : 0;
	int err = -ENOTSUP;

	glBindTexture(src->target, src->texture);
	samples_plain(src, mode, &old);
	if (samples_attach(&flat, color_attachments)) {
		err = samples_draw(s, KIND_FLOAT, src, &flat, 0);
		glPixelStorei(GL_PACK_ALIGNMENT, 4);
		glReadPixels(0, 0, (GLsizei)width, (GLsizei)height, GL_RED, GL_FLOAT, values);
	}
	samples_detach(color_attachments);
	samples_put_back(src, mode, &old);
	glBindTexture(src->target, 0);
	glDeleteTextures(1, &flat.texture);
	return err;
}

/* The last but two of all depths tells one way from the other. */
static int depth24_find_way(struct samples *s)
{
	const uint32_t depth = 0xfffffdu << 8 | 0xff;
	struct samples_image flat = flat_texture(
		GL_DEPTH_COMPONENT24, 1, 1, GL_DEPTH_COMPONENT, GL_UNSIGNED_INT, &depth);
	float value = 0;

	int err = fetch_floats(s, &flat, 1, 1, &value);
	glDeleteTextures(1, &flat.texture);
	if (!err)
		s->depth24 = value == (float)(0xfffffdu / (double)DEPTH24_MAX) ? DEPTH24_DIVIDES
									       : DEPTH24_MULTIPLIES;
	return err;
}

/* The driver's float back to what it was made of. 1.0 may stand for the last two. */
static uint32_t depth24_of(const struct samples *s, float value)
{
	const float factor = (float)(1.0 / DEPTH24_MAX);
	double scaled = (double)value * DEPTH24_MAX + 0.5;
	uint32_t depth = scaled <= 0 ? 0 : scaled >= DEPTH24_MAX ? DEPTH24_MAX : (uint32_t)scaled;

	if (s->depth24 != DEPTH24_MULTIPLIES)
		return depth;
	for (uint32_t down = 0; down <= 3 && down <= depth; down++) {
		if ((float)(depth - down) * factor == value)
			return depth - down;
	}
	return depth;
}

/*
 * Says of each depth that was fetched as 1 whether it is the last or the last but one: depth 1 is
 * drawn over it, where it is equal, into a colour.
 */
static int depth24_tell_ones(struct samples *s, const struct samples_image *src, uint32_t width,
	uint32_t height, uint32_t *depths)
{
	struct samples_image ones = {.target = GL_TEXTURE_2D_MULTISAMPLE, .sample = src->sample};
	const GLenum attachments[2] = {GL_DEPTH_ATTACHMENT};
	const GLfloat black[4] = {0};
	size_t n = (size_t)width * height;
	float *values = calloc(n, sizeof(*values));
	int err = -ENOTSUP;

	if (!values)
		return -ENOMEM;
	GLint count = samples_level_parameter(src, GL_TEXTURE_SAMPLES);
	glGenTextures(1, &ones.texture);
	glBindTexture(ones.target, ones.texture);
	glTexImage2DMultisample(
		ones.target, count, GL_R8, (GLsizei)width, (GLsizei)height, GL_TRUE);
	glBindTexture(ones.target, 0);
	if (samples_attach(src, attachments) && samples_attach(&ones, color_attachments)) {
		glClearBufferfv(GL_COLOR, 0, black);
		glEnable(GL_DEPTH_TEST);
		glDepthFunc(GL_EQUAL);
		glDepthMask(GL_FALSE);
		struct samples_image nothing = {.target = GL_TEXTURE_2D};
		err = samples_draw(s, KIND_DEPTH_ONE, &nothing, &ones, 0);
		glDepthMask(GL_TRUE);
		glDisable(GL_DEPTH_TEST);
	}
	samples_detach(attachments);
	samples_detach(color_attachments);
	if (!err)
		err = fetch_floats(s, &ones, width, height, values);
	for (size_t i = 0; i < n && !err; i++) {
		if (depths[i] >= DEPTH24_MAX - 1)
			depths[i] = values[i] > 0.5f ? DEPTH24_MAX : DEPTH24_MAX - 1;
	}
	glDeleteTextures(1, &ones.texture);
	free(values);
	return err;
}

int samples_depth24_read(struct samples *s, const struct samples_image *src, uint32_t width,
	uint32_t height, uint32_t *ret_depths)
{
	size_t n = (size_t)width * height;
	bool ambiguous = false;
	int err = 0;

	samples_begin(s, width, height);
	if (s->depth24 == DEPTH24_UNKNOWN)
		err = depth24_find_way(s);
	if (!err)
		/* As bits: they are looked at one by one below. */
		err = fetch_floats(s, src, width, height, (void *)ret_depths);
	for (size_t i = 0; i < n && !err; i++) {
		float value;
		memcpy(&value, &ret_depths[i], sizeof(value));
		ret_depths[i] = depth24_of(s, value);
		ambiguous |= value >= 1.0f;
	}
	if (!err && ambiguous && s->depth24 == DEPTH24_MULTIPLIES)
		err = depth24_tell_ones(s, src, width, height, ret_depths);
	return samples_end(err);
}

int samples_depth24_write(struct samples *s, const struct samples_image *dst, uint32_t width,
	uint32_t height, const uint32_t *depths)
{
	const GLenum attachments[2] = {GL_DEPTH_ATTACHMENT};
	size_t n = (size_t)width * height;
	float *values = calloc(n, sizeof(*values));
	int err = -ENOTSUP;

	if (!values)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		values[i] = (float)((depths[i] & DEPTH24_MAX) / (double)DEPTH24_MAX);
	samples_begin(s, width, height);
	struct samples_image flat = flat_texture(GL_R32F, width, height, GL_RED, GL_FLOAT, values);
	glBindTexture(GL_TEXTURE_2D, flat.texture);
	if (samples_attach(dst, attachments)) {
		glEnable(GL_DEPTH_TEST);
		glDepthFunc(GL_ALWAYS);
		err = samples_draw(s, KIND_DEPTH_VALUE, &flat, dst, 0);
		glDisable(GL_DEPTH_TEST);
	}
	samples_detach(attachments);
	glDeleteTextures(1, &flat.texture);
	free(values);
	return samples_end(err);
}
