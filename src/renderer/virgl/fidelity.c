/* SPDX-License-Identifier: Apache-2.0 */
#include "renderer/virgl/fidelity.h"

#include "renderer/format.h"
#include "renderer/virgl/formats_file.h"

#include "base/checked.h"
#include "base/cleanup.h"

#include <epoxy/gl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <virgl/virglrenderer.h>

#define FIDELITY_TRY_ID (CONTENTS_FIRST_ID + 1)
#define FIDELITY_SIDE   8u

enum {
	BIND_DEPTH_STENCIL = 1 << 0,
	BIND_RENDER_TARGET = 1 << 1,
	BIND_SAMPLER_VIEW = 1 << 3,
};

struct fidelity {
	struct contents *contents;
	uint64_t key; /* of this host */
	bool samples_tried;
	bool short_of_memory; /* what was found may say that, and not what the driver can do */
	uint8_t found[FORMATS_COUNT][FORMATS_KINDS]; /* enum formats_found */
	/* What the host stores a format as, for those tried with several samples; 0: not known */
	uint32_t stored_as[FORMATS_COUNT];
};

int fidelity_create(struct contents *contents, struct fidelity **ret)
{
	struct fidelity *f = calloc(1, sizeof(*f));

	if (!f)
		return -ENOMEM;
	f->contents = contents;
	f->key = formats_file_key();
	*ret = f;
	return 0;
}

void fidelity_destroy(struct fidelity *f)
{
	free(f);
}

int fidelity_save(const struct fidelity *f, void *bytes, size_t size)
{
	struct formats_file file;

	if (f->short_of_memory)
		return -ENOMEM;
	if (size < sizeof(file))
		return -ENOBUFS;
	formats_file_write(&file, f->key, f->found);
	memcpy(bytes, &file, sizeof(file));
	return (int)sizeof(file);
}

int fidelity_load(struct fidelity *f, const void *bytes, size_t size)
{
	uint8_t found[FORMATS_COUNT][FORMATS_KINDS];
	int err = formats_file_read(bytes, size, f->key, found);

	for (unsigned i = 0; i < FORMATS_COUNT * FORMATS_KINDS && !err; i++) {
		uint8_t *known = &f->found[i / FORMATS_KINDS][i % FORMATS_KINDS];
		if (*known == FORMATS_NOT_TRIED)
			*known = found[i / FORMATS_KINDS][i % FORMATS_KINDS];
	}
	return err;
}

static enum formats_kind fidelity_kind(const struct renderer_resource_desc *desc)
{
	if (desc->nr_samples > 1)
		return FORMATS_SAMPLES;
	switch (desc->target) {
	case PIPE_TEXTURE_3D:
		return FORMATS_VOLUME;
	case PIPE_TEXTURE_CUBE:
	case PIPE_TEXTURE_1D_ARRAY:
	case PIPE_TEXTURE_2D_ARRAY:
	case PIPE_TEXTURE_CUBE_ARRAY:
		return FORMATS_LAYERS;
	default:
		return FORMATS_FLAT;
	}
}

/* ---- formats in which not every bit pattern is a value, or not every bit has a meaning ---- */

enum pattern {
	PATTERN_ANY,
	PATTERN_HALF,
	PATTERN_FLOAT,
	PATTERN_DOUBLE,
	PATTERN_R11G11B10,
	PATTERN_DEPTH,
	PATTERN_DEPTH_X24,
	PATTERN_X24
};

static const struct {
	uint32_t format;
	enum pattern pattern;
} patterns[] = {
	{VIRGL_FORMAT_R16_FLOAT, PATTERN_HALF},
	{VIRGL_FORMAT_R16G16_FLOAT, PATTERN_HALF},
	{VIRGL_FORMAT_R16G16B16_FLOAT, PATTERN_HALF},
	{VIRGL_FORMAT_R16G16B16A16_FLOAT, PATTERN_HALF},
	{VIRGL_FORMAT_R16G16B16X16_FLOAT, PATTERN_HALF},
	{VIRGL_FORMAT_A16_FLOAT, PATTERN_HALF},
	{VIRGL_FORMAT_L16_FLOAT, PATTERN_HALF},
	{VIRGL_FORMAT_L16A16_FLOAT, PATTERN_HALF},
	{VIRGL_FORMAT_I16_FLOAT, PATTERN_HALF},
	{VIRGL_FORMAT_R16A16_FLOAT, PATTERN_HALF},
	{VIRGL_FORMAT_R32_FLOAT, PATTERN_FLOAT},
	{VIRGL_FORMAT_R32G32_FLOAT, PATTERN_FLOAT},
	{VIRGL_FORMAT_R32G32B32_FLOAT, PATTERN_FLOAT},
	{VIRGL_FORMAT_R32G32B32A32_FLOAT, PATTERN_FLOAT},
	{VIRGL_FORMAT_R32G32B32X32_FLOAT, PATTERN_FLOAT},
	{VIRGL_FORMAT_A32_FLOAT, PATTERN_FLOAT},
	{VIRGL_FORMAT_L32_FLOAT, PATTERN_FLOAT},
	{VIRGL_FORMAT_L32A32_FLOAT, PATTERN_FLOAT},
	{VIRGL_FORMAT_I32_FLOAT, PATTERN_FLOAT},
	{VIRGL_FORMAT_R32A32_FLOAT, PATTERN_FLOAT},
	{VIRGL_FORMAT_R64_FLOAT, PATTERN_DOUBLE},
	{VIRGL_FORMAT_R64G64_FLOAT, PATTERN_DOUBLE},
	{VIRGL_FORMAT_R64G64B64_FLOAT, PATTERN_DOUBLE},
	{VIRGL_FORMAT_R64G64B64A64_FLOAT, PATTERN_DOUBLE},
	{VIRGL_FORMAT_R11G11B10_FLOAT, PATTERN_R11G11B10},
	{VIRGL_FORMAT_Z32_FLOAT, PATTERN_DEPTH},
	{VIRGL_FORMAT_Z32_FLOAT_S8X24_UINT, PATTERN_DEPTH_X24},
	{VIRGL_FORMAT_Z24X8_UNORM, PATTERN_X24},
};

static enum pattern pattern_of(uint32_t format)
{
	for (size_t i = 0; i < ARRAY_SIZE(patterns); i++) {
		if (patterns[i].format == format)
			return patterns[i].pattern;
	}
	return PATTERN_ANY;
}

/* Takes NaN and infinity out of the words whose bits `exponent` are all ones. */
static void no_nans(uint32_t *words, size_t n, const uint32_t exponents[], size_t n_exponents)
{
	for (size_t i = 0; i < n; i++) {
		for (size_t e = 0; e < n_exponents; e++) {
			if ((words[i] & exponents[e]) == exponents[e])
				words[i] &= ~(exponents[e] & -exponents[e]);
		}
	}
}

static float depth_value(uint32_t random)
{
	return (float)(random >> 8) / 16777215.0f;
}

static void pattern_fix(enum pattern pattern, uint32_t *words, size_t n)
{
	static const uint32_t half[] = {0x7c00u, 0x7c000000u}, single[] = {0x7f800000u},
			      twice[] = {0x7ff00000u},
			      small[] = {0x1fu << 6, 0x1fu << 17, 0x1fu << 27};

	switch (pattern) {
	case PATTERN_HALF:
		no_nans(words, n, half, ARRAY_SIZE(half));
		break;
	case PATTERN_FLOAT:
		no_nans(words, n, single, ARRAY_SIZE(single));
		break;
	case PATTERN_DOUBLE:
		no_nans(words, n, twice, ARRAY_SIZE(twice));
		break;
	case PATTERN_R11G11B10:
		no_nans(words, n, small, ARRAY_SIZE(small));
		break;
	case PATTERN_X24:
		for (size_t i = 0; i < n; i++)
			words[i] &= 0xffffffu;
		break;
	case PATTERN_DEPTH:
	case PATTERN_DEPTH_X24:
		for (size_t i = 0; i < n; i++) {
			float depth = depth_value(words[i]);
			if (pattern == PATTERN_DEPTH_X24 && i % 2)
				words[i] &= 0xffu;
			else
				memcpy(&words[i], &depth, sizeof(depth));
		}
		break;
	case PATTERN_ANY:
		break;
	}
}

/* What a part is filled with: different in each; all ones, zero and random bits in all. */
static void pattern_make(uint32_t format, uint32_t part, void *bytes, size_t size)
{
	uint32_t *words = bytes, state = 0x9e3779b9u * (part + 1);
	size_t n = size / sizeof(*words);

	for (size_t i = 0; i < n; i++) {
		state = state * 1664525u + 1013904223u;
		words[i] = state ^ state >> 15;
	}
	for (size_t i = 0; i < MIN(n, (size_t)4); i++)
		words[(part + i * 5) % n] = i % 2 ? UINT32_MAX : i / 2;
	pattern_fix(pattern_of(format), words, n);
}

/* Bits without a meaning may come back as anything. */
static bool pattern_same(uint32_t format, void *got, const void *want, size_t size)
{
	enum pattern pattern = pattern_of(format);

	for (size_t i = 0; i < size / 4; i++) {
		uint32_t *word = (uint32_t *)got + i;
		if (pattern == PATTERN_X24)
			*word &= 0xffffffu;
		else if (pattern == PATTERN_DEPTH_X24 && i % 2)
			*word &= 0xffu;
	}
	return memcmp(got, want, size) == 0;
}

/* ---- trying ---- */

static bool is_depth_stencil(uint32_t format)
{
	return (format >= VIRGL_FORMAT_Z16_UNORM && format <= VIRGL_FORMAT_S8_UINT) ||
	       format == VIRGL_FORMAT_Z32_FLOAT_S8X24_UINT || format == VIRGL_FORMAT_X24S8_UINT ||
	       format == VIRGL_FORMAT_S8X24_UINT || format == VIRGL_FORMAT_X32_S8X24_UINT;
}

static int try_create(const struct renderer_resource_desc *desc)
{
	struct virgl_renderer_resource_create_args args = {
		.handle = FIDELITY_TRY_ID,
		.target = desc->target,
		.format = desc->format,
		.bind = desc->bind,
		.width = desc->width,
		.height = desc->height,
		.depth = desc->depth,
		.array_size = desc->array_size,
		.nr_samples = desc->nr_samples,
	};
	virgl_renderer_force_ctx_0();
	glGetError();
	if (virgl_renderer_resource_create(&args, NULL, 0))
		return -EINVAL;
	/* The library does not see that GL made no storage. */
	if (glGetError() == GL_NO_ERROR)
		return 0;
	virgl_renderer_resource_unref(FIDELITY_TRY_ID);
	return -EINVAL;
}

/*
 * Of many samples all are tried with the first format, and then the last one: that samples keep
 * apart is the driver's matter, not the format's.
 */
static bool try_this_part(
	const struct fidelity *f, const struct renderer_resource_desc *desc, uint32_t part)
{
	return desc->nr_samples <= 1 || !f->samples_tried || part == desc->nr_samples - 1;
}

static enum formats_found try_parts(
	struct fidelity *f, const struct renderer_resource_desc *desc, uint8_t *want, uint8_t *got)
{
	struct format_content_part p;

	for (uint32_t part = 0; format_content_part(desc, part, &p); part++) {
		if (!try_this_part(f, desc, part))
			continue;
		pattern_make(desc->format, part, want, p.bytes);
		if (contents_write(f->contents, FIDELITY_TRY_ID, desc, part, want, p.bytes) < 0)
			return FORMATS_UNREADABLE;
	}
	for (uint32_t part = 0; format_content_part(desc, part, &p); part++) {
		if (!try_this_part(f, desc, part))
			continue;
		pattern_make(desc->format, part, want, p.bytes);
		if (contents_read(f->contents, FIDELITY_TRY_ID, desc, part, got, p.bytes) < 0)
			return FORMATS_UNREADABLE;
		if (!pattern_same(desc->format, got, want, p.bytes))
			return FORMATS_LOSSY;
	}
	f->samples_tried |= desc->nr_samples > 1;
	return FORMATS_EXACT;
}

static enum formats_found fidelity_try(
	struct fidelity *f, uint32_t format, enum formats_kind kind, uint32_t samples)
{
	static const uint32_t targets[] = {
		[FORMATS_FLAT] = PIPE_TEXTURE_2D,
		[FORMATS_VOLUME] = PIPE_TEXTURE_3D,
		[FORMATS_LAYERS] = PIPE_TEXTURE_2D_ARRAY,
		[FORMATS_SAMPLES] = PIPE_TEXTURE_2D,
	};
	struct renderer_resource_desc desc = {
		.target = targets[kind],
		.format = format,
		.width = FIDELITY_SIDE,
		.height = FIDELITY_SIDE,
		.depth = kind == FORMATS_VOLUME ? 2 : 1,
		.array_size = kind == FORMATS_LAYERS ? 2 : 1,
		.nr_samples = kind == FORMATS_SAMPLES ? samples : 0,
	};
	struct format_content_part p;

	desc.bind = BIND_SAMPLER_VIEW;
	if (is_depth_stencil(format))
		desc.bind |= BIND_DEPTH_STENCIL;
	else if (kind == FORMATS_SAMPLES)
		desc.bind |= BIND_RENDER_TARGET;
	if (!format_content_part(&desc, 0, &p))
		return FORMATS_IMPOSSIBLE;
	cleanup_free uint8_t *bytes = malloc(p.bytes * 2);
	if (!bytes) {
		f->short_of_memory = true;
		return FORMATS_UNREADABLE;
	}
	if (try_create(&desc) < 0)
		return FORMATS_IMPOSSIBLE;
	enum formats_found found = try_parts(f, &desc, bytes, bytes + p.bytes);
	virgl_renderer_resource_unref(FIDELITY_TRY_ID);
	return found;
}

/* GL's internal format; 0: it cannot be told. */
static uint32_t stored_as(uint32_t format)
{
	const struct renderer_resource_desc desc = {
		.target = PIPE_TEXTURE_2D,
		.format = format,
		.bind = BIND_SAMPLER_VIEW | (is_depth_stencil(format) ? BIND_DEPTH_STENCIL : 0),
		.width = 1,
		.height = 1,
		.depth = 1,
		.array_size = 1,
	};
	struct virgl_renderer_resource_info info = {0};
	GLint stored = 0;

	if (try_create(&desc) < 0)
		return 0;
	virgl_renderer_resource_get_info(FIDELITY_TRY_ID, &info);
	glBindTexture(GL_TEXTURE_2D, info.tex_id);
	glGetTexLevelParameteriv(GL_TEXTURE_2D, 0, GL_TEXTURE_INTERNAL_FORMAT, &stored);
	glBindTexture(GL_TEXTURE_2D, 0);
	virgl_renderer_resource_unref(FIDELITY_TRY_ID);
	return (uint32_t)stored;
}

/* Of one sample. */
static enum formats_found single_find(struct fidelity *f, uint32_t format, enum formats_kind kind)
{
	uint8_t *found = &f->found[format][kind];

	if (*found == FORMATS_NOT_TRIED)
		*found = (uint8_t)fidelity_try(f, format, kind, 0);
	return *found;
}

/*
 * Of several samples: formats that the host stores alike differ only in how the library transfers
 * one sample of them, and that is tried by itself.
 */
static enum formats_found samples_try(struct fidelity *f, uint32_t format, uint32_t samples)
{
	uint32_t stored = stored_as(format);

	for (uint32_t other = 0; stored && other < FORMATS_COUNT; other++) {
		if (f->stored_as[other] == stored &&
			single_find(f, format, FORMATS_FLAT) == FORMATS_EXACT &&
			single_find(f, other, FORMATS_FLAT) == FORMATS_EXACT)
			return f->found[other][FORMATS_SAMPLES];
	}
	enum formats_found found = fidelity_try(f, format, FORMATS_SAMPLES, samples);
	if (found != FORMATS_IMPOSSIBLE)
		f->stored_as[format] = stored;
	return found;
}

static enum formats_found fidelity_find(
	struct fidelity *f, uint32_t format, enum formats_kind kind, uint32_t samples)
{
	uint8_t *found = &f->found[format][kind];

	if (kind != FORMATS_SAMPLES)
		return single_find(f, format, kind);
	if (*found == FORMATS_NOT_TRIED)
		*found = (uint8_t)samples_try(f, format, samples);
	return *found;
}

enum renderer_fidelity fidelity_of(struct fidelity *f, const struct renderer_resource_desc *desc)
{
	/* Buffers are bytes wherever they are. */
	if (desc->target == PIPE_BUFFER)
		return RENDERER_EXACT;
	if (desc->format >= FORMATS_COUNT)
		return RENDERER_UNREADABLE;
	switch (fidelity_find(f, desc->format, fidelity_kind(desc), desc->nr_samples)) {
	case FORMATS_EXACT:
		return RENDERER_EXACT;
	case FORMATS_LOSSY:
		return RENDERER_LOSSY;
	default:
		return RENDERER_UNREADABLE;
	}
}

/* Stencil that is sampled alone: nothing is stored so, it is a look at a depth and stencil format.
 */
static uint32_t fidelity_seen_through(uint32_t format)
{
	switch (format) {
	case VIRGL_FORMAT_X24S8_UINT:
		return VIRGL_FORMAT_S8_UINT_Z24_UNORM;
	case VIRGL_FORMAT_X32_S8X24_UINT:
		return VIRGL_FORMAT_Z32_FLOAT_S8X24_UINT;
	default:
		return format;
	}
}

bool fidelity_format_exact(struct fidelity *f, uint32_t format, bool many)
{
	const uint32_t usual_samples = 4;

	format = fidelity_seen_through(format);
	if (format >= FORMATS_COUNT)
		return false;
	if (many)
		return fidelity_find(f, format, FORMATS_SAMPLES, usual_samples) == FORMATS_EXACT;
	for (enum formats_kind kind = FORMATS_FLAT; kind <= FORMATS_LAYERS; kind++) {
		enum formats_found found = fidelity_find(f, format, kind, 0);
		if (found != FORMATS_EXACT && (found != FORMATS_IMPOSSIBLE || kind == FORMATS_FLAT))
			return false;
	}
	return true;
}
