/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include "base/checked.h"
#include "base/clock.h"
#include "renderer/format.h"

#include <epoxy/gl.h>
#include <errno.h>
#include <virgl/virglrenderer.h>

/* VIRGL_BIND_* */
enum { DEPTH_STENCIL = 1, RENDER_TARGET = 2, SAMPLER_VIEW = 8 };

#define SIDE 32u

static const uint32_t all_formats[] = {
#define X(name, number, w, h, bytes) number,
	VIRGL_FORMATS(X)
#undef X
};

static const char *format_name(uint32_t format)
{
	static const char *const names[] = {
#define X(name, number, w, h, bytes) [number] = #name,
		VIRGL_FORMATS(X)
#undef X
	};
	return format < ARRAY_SIZE(names) ? names[format] : NULL;
}

/* ---- the matrix ---- */

/* What a software GPU must be exact in, or it could not offer GL 4.3. */
static const uint32_t needed[] = {VIRGL_FORMAT_B8G8R8A8_UNORM, VIRGL_FORMAT_B8G8R8X8_UNORM,
	VIRGL_FORMAT_R8G8B8A8_UNORM, VIRGL_FORMAT_R8_UNORM, VIRGL_FORMAT_R8G8_UNORM,
	VIRGL_FORMAT_R8G8B8A8_SRGB, VIRGL_FORMAT_R10G10B10A2_UNORM, VIRGL_FORMAT_R16_FLOAT,
	VIRGL_FORMAT_R16G16B16A16_FLOAT, VIRGL_FORMAT_R32G32B32A32_FLOAT,
	VIRGL_FORMAT_R32G32B32A32_SINT, VIRGL_FORMAT_R8G8B8A8_UINT, VIRGL_FORMAT_R16_SNORM,
	VIRGL_FORMAT_R11G11B10_FLOAT, VIRGL_FORMAT_Z16_UNORM, VIRGL_FORMAT_Z24X8_UNORM,
	VIRGL_FORMAT_S8_UINT_Z24_UNORM, VIRGL_FORMAT_Z32_FLOAT, VIRGL_FORMAT_Z32_FLOAT_S8X24_UINT};

static int test_matrix(void)
{
	static const struct {
		uint32_t target, depth, layers, samples;
		const char *name;
	} kinds[] = {{PIPE_TEXTURE_2D, 1, 1, 0, "2D"}, {PIPE_TEXTURE_3D, 4, 1, 0, "3D"},
		{PIPE_TEXTURE_2D_ARRAY, 1, 2, 0, "array"}, {PIPE_TEXTURE_2D, 1, 1, 4, "4 samples"}};
	struct renderer_under_test t;
	int r = renderer_start(&t, false);

	if (r)
		return r;
	for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++) {
		unsigned exact = 0;
		uint64_t at = clock_ns();
		struct renderer_resource_desc d = {.target = kinds[k].target,
			.width = 8,
			.height = 8,
			.depth = kinds[k].depth,
			.array_size = kinds[k].layers,
			.nr_samples = kinds[k].samples};
		for (size_t i = 0; i < ARRAY_SIZE(all_formats); i++) {
			d.format = all_formats[i];
			enum renderer_fidelity f = t.ops->fidelity(t.r, &d);
			exact += f == RENDERER_EXACT;
			if (f == RENDERER_LOSSY)
				printf("# %s of %s: lossy\n", kinds[k].name, format_name(d.format));
		}
		printf("# %s: %u formats exact, found in %.1f ms\n", kinds[k].name, exact,
			(double)(clock_ns() - at) / 1e6);
		for (size_t i = 0; i < ARRAY_SIZE(needed); i++) {
			bool depth_volume = kinds[k].depth > 1 && i >= ARRAY_SIZE(needed) - 5;
			d.format = needed[i];
			if (depth_volume)
				continue;
			if (t.ops->fidelity(t.r, &d) != RENDERER_EXACT)
				printf("# %s\n", format_name(needed[i]));
			CHECK(t.ops->fidelity(t.r, &d) == RENDERER_EXACT);
		}
	}
	t.ops->destroy(t.r);
	return 0;
}

/* ---- shapes ---- */

static int round_trip(
	struct renderer_under_test *t, uint32_t id, const struct renderer_resource_desc *desc)
{
	struct format_content_part p;
	uint8_t *want, *got;

	CHECK(t->ops->resource_create(t->r, id, desc) == 0);
	for (uint32_t part = 0; format_content_part(desc, part, &p); part++) {
		want = malloc(p.bytes);
		fill_random(want, p.bytes, part + 1);
		for (size_t i = 3; desc->format == VIRGL_FORMAT_Z24X8_UNORM && i < p.bytes; i += 4)
			want[i] = 0;
		CHECK(t->ops->content_write(t->r, id, part, want, p.bytes) == 0);
		free(want);
	}
	for (uint32_t part = 0; format_content_part(desc, part, &p); part++) {
		want = malloc(p.bytes);
		got = malloc(p.bytes);
		fill_random(want, p.bytes, part + 1);
		for (size_t i = 3; desc->format == VIRGL_FORMAT_Z24X8_UNORM && i < p.bytes; i += 4)
			want[i] = 0;
		CHECK(t->ops->content_read(t->r, id, part, got, p.bytes) == 0);
		CHECK(memcmp(want, got, p.bytes) == 0);
		CHECK(t->ops->content_read(t->r, id, part, got, p.bytes - 1) < 0);
		free(want);
		free(got);
	}
	CHECK(glGetError() == GL_NO_ERROR);
	t->ops->resource_destroy(t->r, id);
	return 0;
}

static int test_shapes(void)
{
	static const struct {
		uint32_t target, height, depth, layers, levels, samples;
	} shapes[] = {
		{PIPE_TEXTURE_1D, 1, 1, 1, 4, 0},
		{PIPE_TEXTURE_2D, 20, 1, 1, 5, 0},
		{PIPE_TEXTURE_3D, 20, 12, 1, 3, 0},
		{PIPE_TEXTURE_CUBE, 32, 1, 6, 3, 0},
		{PIPE_TEXTURE_RECT, 20, 1, 1, 0, 0},
		{PIPE_TEXTURE_1D_ARRAY, 1, 1, 3, 4, 0},
		{PIPE_TEXTURE_2D_ARRAY, 20, 1, 3, 4, 0},
		{PIPE_TEXTURE_CUBE_ARRAY, 32, 1, 12, 2, 0},
		{PIPE_TEXTURE_2D, 20, 1, 1, 0, 4},
		{PIPE_TEXTURE_2D_ARRAY, 20, 1, 3, 0, 4},
	};
	static const uint32_t formats[] = {VIRGL_FORMAT_B8G8R8A8_UNORM, VIRGL_FORMAT_R32G32_UINT,
		VIRGL_FORMAT_R8_SINT, VIRGL_FORMAT_B5G6R5_UNORM, VIRGL_FORMAT_Z24X8_UNORM,
		VIRGL_FORMAT_S8_UINT_Z24_UNORM, VIRGL_FORMAT_R8G8B8A8_SRGB, VIRGL_FORMAT_DXT5_RGBA};
	struct renderer_under_test t;
	int r = renderer_start(&t, false);

	if (r)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(shapes) * ARRAY_SIZE(formats); i++) {
		size_t s = i / ARRAY_SIZE(formats);
		uint32_t format = formats[i % ARRAY_SIZE(formats)], target = shapes[s].target;
		bool depth = format == VIRGL_FORMAT_Z24X8_UNORM ||
			     format == VIRGL_FORMAT_S8_UINT_Z24_UNORM;
		if (depth && target == PIPE_TEXTURE_3D)
			continue;
		if (format == VIRGL_FORMAT_DXT5_RGBA &&
			(shapes[s].samples || target == PIPE_TEXTURE_1D ||
				target == PIPE_TEXTURE_1D_ARRAY || target == PIPE_TEXTURE_3D ||
				target == PIPE_TEXTURE_RECT))
			continue;
		struct renderer_resource_desc d = {.target = target,
			.format = format,
			.bind = SAMPLER_VIEW | (depth                      ? DEPTH_STENCIL
						       : shapes[s].samples ? RENDER_TARGET
									   : 0),
			.width = 32,
			.height = shapes[s].height,
			.depth = shapes[s].depth,
			.array_size = shapes[s].layers,
			.last_level = shapes[s].levels,
			.nr_samples = shapes[s].samples};
		r = round_trip(&t, 1, &d);
		if (r) {
			printf("# target %u, %s\n", target, format_name(format));
			return r;
		}
	}
	t.ops->destroy(t.r);
	return 0;
}

static int test_buffers(void)
{
	static const uint32_t binds[] = {
		0, 1u << 4, 1u << 5, 1u << 6, 1u << 8, 1u << 11, 1u << 14, 1u << 15, 1u << 17};
	struct renderer_resource_desc d = {.target = PIPE_BUFFER,
		.format = VIRGL_FORMAT_R8_UNORM,
		.width = 1001,
		.height = 1,
		.depth = 1,
		.array_size = 1};
	struct renderer_under_test t;
	uint8_t bytes[1001] = {0};
	struct iovec iov = {bytes, sizeof(bytes)};
	int r = renderer_start(&t, false);

	if (r)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(binds); i++) {
		d.bind = binds[i];
		r = round_trip(&t, 1, &d);
		if (r)
			return r;
	}
	d.bind = 1u << 19;
	CHECK(t.ops->resource_create(t.r, 1, &d) == 0);
	CHECK(t.ops->content_read(t.r, 1, 0, bytes, sizeof(bytes)) == -ENODATA);
	d.bind = 1u << 17;
	CHECK(t.ops->resource_create(t.r, 2, &d) == 0);
	CHECK(t.ops->resource_attach_iov(t.r, 2, &iov, 1) == 0);
	CHECK(t.ops->content_read(t.r, 2, 0, bytes, sizeof(bytes)) == -ENODATA);
	CHECK(t.ops->content_read(t.r, 3, 0, bytes, sizeof(bytes)) == -ENOENT);
	t.ops->destroy(t.r);
	return 0;
}

/* Every depth of 24 bits there is, in one resource with several samples. */
static int test_all_depths(void)
{
	enum { W = 2048, H = 2048 };
	const struct renderer_resource_desc d = {.target = PIPE_TEXTURE_2D,
		.format = VIRGL_FORMAT_S8_UINT_Z24_UNORM,
		.bind = DEPTH_STENCIL | SAMPLER_VIEW,
		.width = W,
		.height = H,
		.depth = 1,
		.array_size = 1,
		.nr_samples = 4};
	struct renderer_under_test t;
	uint32_t *words = malloc(W * H * 4);
	int r = renderer_start(&t, false);

	if (r)
		return r;
	CHECK(t.ops->resource_create(t.r, 1, &d) == 0);
	for (uint32_t s = 0; s < 4; s++) {
		for (uint32_t i = 0; i < W * H; i++)
			words[i] = (s << 22 | i) << 8 | ((i * 7 + s) & 0xff);
		CHECK(t.ops->content_write(t.r, 1, s, words, W * H * 4) == 0);
	}
	for (uint32_t s = 0; s < 4; s++) {
		CHECK(t.ops->content_read(t.r, 1, s, words, W * H * 4) == 0);
		for (uint32_t i = 0; i < W * H; i++)
			CHECK(words[i] == ((s << 22 | i) << 8 | ((i * 7 + s) & 0xff)));
	}
	t.ops->destroy(t.r);
	return 0;
}

/* ---- what was drawn, not written ---- */

static const char sampled_vertex[] =
	"#version 150\n"
	"flat out vec4 tint;\n"
	"void main() {\n"
	"int n = gl_VertexID / 3, k = gl_VertexID % 3;\n"
	"float a = float(n) * 2.4 + float(k) * 2.1, l = 0.3 + 0.05 * float(n % 13);\n"
	"gl_Position = vec4(l * cos(a) + 0.1 * float(n % 5 - 2), l * sin(a), sin(a * 3.0), 1);\n"
	"tint = fract(vec4(0.37, 0.71, 0.13, 0.59) * float(n + 1));\n"
	"}\n";
static const char sampled_fragment[] = "#version 150\n"
				       "flat in vec4 tint;\n"
				       "out vec4 color;\n"
				       "void main() { color = tint; }\n";

#define SAMPLED_VERTICES 90
#define SAMPLED_COUNTS   6

static GLuint resource_texture(uint32_t id)
{
	struct virgl_renderer_resource_info info = {0};
	virgl_renderer_resource_get_info((int)id, &info);
	return info.tex_id;
}

static GLuint sampled_program(void)
{
	const char *sources[] = {sampled_vertex, sampled_fragment};
	const GLenum types[] = {GL_VERTEX_SHADER, GL_FRAGMENT_SHADER};
	GLuint program = glCreateProgram();

	for (unsigned i = 0; i < 2; i++) {
		GLuint shader = glCreateShader(types[i]);
		glShaderSource(shader, 1, &sources[i], NULL);
		glCompileShader(shader);
		glAttachShader(program, shader);
	}
	glLinkProgram(program);
	return program;
}

static void sampled_bind(uint32_t color, uint32_t depth)
{
	GLuint framebuffer, vertex_array;

	glGenFramebuffers(1, &framebuffer);
	glBindFramebuffer(GL_FRAMEBUFFER, framebuffer);
	glFramebufferTexture2D(GL_FRAMEBUFFER, GL_COLOR_ATTACHMENT0, GL_TEXTURE_2D_MULTISAMPLE,
		resource_texture(color), 0);
	glFramebufferTexture2D(GL_FRAMEBUFFER, GL_DEPTH_STENCIL_ATTACHMENT,
		GL_TEXTURE_2D_MULTISAMPLE, resource_texture(depth), 0);
	glGenVertexArrays(1, &vertex_array);
	glBindVertexArray(vertex_array);
	glUseProgram(sampled_program());
	glViewport(0, 0, SIDE, SIDE);
}

static void sampled_draw(void)
{
	const GLfloat black[4] = {0};

	glClearBufferfv(GL_COLOR, 0, black);
	glClearBufferfi(GL_DEPTH_STENCIL, 0, 1.0f, 0);
	glEnable(GL_DEPTH_TEST);
	glDepthFunc(GL_LESS);
	glEnable(GL_STENCIL_TEST);
	glStencilFunc(GL_ALWAYS, 0, 0xff);
	glStencilOp(GL_KEEP, GL_INCR, GL_INCR);
	glDrawArrays(GL_TRIANGLES, 0, SAMPLED_VERTICES);
}

/* How many samples of the scene are equal in depth, and how many have each stencil value. */
static void sampled_count(GLuint counts[SAMPLED_COUNTS])
{
	GLuint query;

	glGenQueries(1, &query);
	glDepthMask(GL_FALSE);
	glStencilOp(GL_KEEP, GL_KEEP, GL_KEEP);
	for (unsigned i = 0; i < SAMPLED_COUNTS; i++) {
		glDepthFunc(i ? GL_ALWAYS : GL_EQUAL);
		glStencilFunc(i ? GL_EQUAL : GL_ALWAYS, (GLint)i, 0xff);
		glBeginQuery(GL_SAMPLES_PASSED, query);
		glDrawArrays(GL_TRIANGLES, 0, SAMPLED_VERTICES);
		glEndQuery(GL_SAMPLES_PASSED);
		glGetQueryObjectuiv(query, GL_QUERY_RESULT, &counts[i]);
	}
	glDepthMask(GL_TRUE);
	glDisable(GL_DEPTH_TEST);
	glDisable(GL_STENCIL_TEST);
}

static void sampled_resolve(uint32_t color, uint32_t *pixels)
{
	GLuint framebuffers[2], texture;

	glGenFramebuffers(2, framebuffers);
	glGenTextures(1, &texture);
	glBindTexture(GL_TEXTURE_2D, texture);
	glTexStorage2D(GL_TEXTURE_2D, 1, GL_RGBA8, SIDE, SIDE);
	glBindFramebuffer(GL_READ_FRAMEBUFFER, framebuffers[0]);
	glFramebufferTexture2D(GL_READ_FRAMEBUFFER, GL_COLOR_ATTACHMENT0, GL_TEXTURE_2D_MULTISAMPLE,
		resource_texture(color), 0);
	glBindFramebuffer(GL_DRAW_FRAMEBUFFER, framebuffers[1]);
	glFramebufferTexture2D(
		GL_DRAW_FRAMEBUFFER, GL_COLOR_ATTACHMENT0, GL_TEXTURE_2D, texture, 0);
	glBlitFramebuffer(0, 0, SIDE, SIDE, 0, 0, SIDE, SIDE, GL_COLOR_BUFFER_BIT, GL_NEAREST);
	glBindFramebuffer(GL_READ_FRAMEBUFFER, framebuffers[1]);
	glReadPixels(0, 0, SIDE, SIDE, GL_RGBA, GL_UNSIGNED_BYTE, pixels);
	glDeleteTextures(1, &texture);
	glDeleteFramebuffers(2, framebuffers);
}

static int copy_parts(struct renderer_under_test *t, const struct renderer_resource_desc *d,
	uint32_t from, uint32_t to, uint32_t damage)
{
	struct format_content_part p;
	bool differ = false;
	uint32_t first[SIDE * SIDE], bytes[SIDE * SIDE];

	for (uint32_t part = 0; format_content_part(d, part, &p); part++) {
		CHECK(p.bytes == sizeof(bytes));
		CHECK(t->ops->content_read(t->r, from, part, bytes, sizeof(bytes)) == 0);
		if (part == 0)
			memcpy(first, bytes, sizeof(first));
		differ |= memcmp(first, bytes, sizeof(first)) != 0;
		for (size_t i = 0; i < ARRAY_SIZE(bytes); i++)
			bytes[i] ^= damage;
		CHECK(t->ops->content_write(t->r, to, part, bytes, sizeof(bytes)) == 0);
	}
	CHECK(differ); /* edges went through pixels */
	return 0;
}

/*
 * GL itself compares what was drawn with what was carried over: depth tested for equality, stencil
 * values counted, colours resolved.
 */
static int sampled_compare(bool damage, bool *ret_same)
{
	struct renderer_resource_desc color = {.target = PIPE_TEXTURE_2D,
		.format = VIRGL_FORMAT_B8G8R8A8_UNORM,
		.bind = RENDER_TARGET | SAMPLER_VIEW,
		.width = SIDE,
		.height = SIDE,
		.depth = 1,
		.array_size = 1,
		.nr_samples = 4};
	struct renderer_resource_desc depth = color;
	static uint32_t pixels[2][SIDE * SIDE];
	GLuint counts[2][SAMPLED_COUNTS];
	struct renderer_under_test t;
	int r = renderer_start(&t, false);

	depth.format = VIRGL_FORMAT_S8_UINT_Z24_UNORM;
	depth.bind = DEPTH_STENCIL | SAMPLER_VIEW;
	if (r)
		return r;
	for (uint32_t id = 1; id <= 2; id++) {
		CHECK(t.ops->resource_create(t.r, id, &color) == 0);
		CHECK(t.ops->resource_create(t.r, id + 10, &depth) == 0);
	}
	virgl_renderer_force_ctx_0();
	sampled_bind(1, 11);
	sampled_draw();
	sampled_count(counts[0]);
	sampled_bind(1, 11);
	sampled_draw();
	sampled_resolve(1, pixels[0]);
	glFinish();
	r = copy_parts(&t, &color, 1, 2, damage ? 0x40 : 0);
	if (!r)
		r = copy_parts(&t, &depth, 11, 12, damage ? 0x101 : 0);
	if (r)
		return r;
	virgl_renderer_force_ctx_0();
	sampled_resolve(2, pixels[1]);
	sampled_bind(2, 12);
	glEnable(GL_DEPTH_TEST);
	glEnable(GL_STENCIL_TEST);
	sampled_count(counts[1]);
	CHECK(counts[0][0] > 0 && counts[0][1] > 0 && counts[0][2] > 0 && counts[0][3] > 0);
	CHECK(glGetError() == GL_NO_ERROR);
	*ret_same = memcmp(pixels[0], pixels[1], sizeof(pixels[0])) == 0;
	if (damage)
		*ret_same |= counts[0][0] == counts[1][0] || counts[0][2] == counts[1][2];
	else
		*ret_same &= memcmp(counts[0], counts[1], sizeof(counts[0])) == 0;
	t.ops->destroy(t.r);
	return 0;
}

static int test_drawn(void)
{
	bool same = false;
	int r = sampled_compare(false, &same);

	if (!r)
		CHECK(same);
	return r;
}

static int test_drawn_and_damaged(void)
{
	bool same = true;
	int r = sampled_compare(true, &same);

	if (!r)
		CHECK(!same);
	return r;
}

int main(void)
{
	static const struct test tests[] = {
		{"formats are tried", test_matrix},
		{"every shape comes back", test_shapes},
		{"every buffer comes back", test_buffers},
		{"every depth of 24 bits comes back", test_all_depths},
		{"what was drawn with several samples comes back", test_drawn},
		{"and a damaged bit of it is seen", test_drawn_and_damaged},
	};
	return tests_run(tests, ARRAY_SIZE(tests));
}
