/* SPDX-License-Identifier: Apache-2.0 */
#include "renderer/virgl/capset.h"

#include "base/checked.h"
#include "protocol/virgl_formats.h"

#include <stdio.h>
#include <string.h>

enum capset_kind {
	CAPSET_FORMATS,   /* a bit a format: all of them */
	CAPSET_FLAGS,     /* a bit a feature: all of them */
	CAPSET_SAME_FLAG, /* one bit, `mask`, that changes what guests send: the same */
	CAPSET_MAX,       /* as much or more */
	CAPSET_MIN,       /* as little or less: alignments */
	CAPSET_SIGNED_MIN,
	CAPSET_SIGNED_MAX,
	CAPSET_FLOAT_MIN,
	CAPSET_FLOAT_MAX,
	CAPSET_GLSL, /* a version times 100 */
};

#define FORMAT_WORDS 16u

/* Flags that say what the host is, rather than what it can do. */
#define BITS_HOST_IS_GLES     (1u << 19)
#define BITS_BGRA_IS_EMULATED (1u << 29)
#define BITS_OF_THE_HOST      (BITS_HOST_IS_GLES | BITS_BGRA_IS_EMULATED)
#define BITS2_DIFFERENT_GPU   (1u << 5)
#define BITS2_SCANOUT_GBM     (1u << 8)
#define BITS2_OF_THE_HOST     (BITS2_DIFFERENT_GPU | BITS2_SCANOUT_GBM)

/*
 * Not here, because no guest depends on them: max_version (0), sample_locations (396), the amount
 * of video memory (692), the renderer's name (696), details of video codecs (860).
 */
static const struct capset_row {
	uint16_t at, words;
	enum capset_kind kind;
	const char *name;
	uint32_t mask; /* of flags: those that count; 0: all */
} capset_rows[] = {
	{4, FORMAT_WORDS, CAPSET_FORMATS, "for sampling", 0},
	{68, FORMAT_WORDS, CAPSET_FORMATS, "for rendering", 0},
	{132, FORMAT_WORDS, CAPSET_FORMATS, "for depth and stencil", 0},
	{196, FORMAT_WORDS, CAPSET_FORMATS, "for vertices", 0},
	{260, 1, CAPSET_FLAGS, "feature", 0},
	{264, 1, CAPSET_GLSL, "GLSL", 0},
	{268, 1, CAPSET_MAX, "texture array layers", 0},
	{272, 1, CAPSET_MAX, "transform feedback buffers", 0},
	{276, 1, CAPSET_MAX, "dual source render targets", 0},
	{280, 1, CAPSET_MAX, "render targets", 0},
	{284, 1, CAPSET_MAX, "samples", 0},
	{288, 1, CAPSET_FLAGS, "primitive type", 0},
	{292, 1, CAPSET_MAX, "buffer texture size", 0},
	{296, 1, CAPSET_MAX, "uniform blocks", 0},
	{300, 1, CAPSET_MAX, "viewports", 0},
	{304, 1, CAPSET_MAX, "texture gather components", 0},
	{308, 1, CAPSET_FLOAT_MIN, "smallest aliased point", 0},
	{312, 1, CAPSET_FLOAT_MAX, "largest aliased point", 0},
	{316, 1, CAPSET_FLOAT_MIN, "smallest smooth point", 0},
	{320, 1, CAPSET_FLOAT_MAX, "largest smooth point", 0},
	{324, 1, CAPSET_FLOAT_MIN, "narrowest aliased line", 0},
	{328, 1, CAPSET_FLOAT_MAX, "widest aliased line", 0},
	{332, 1, CAPSET_FLOAT_MIN, "narrowest smooth line", 0},
	{336, 1, CAPSET_FLOAT_MAX, "widest smooth line", 0},
	{340, 1, CAPSET_FLOAT_MAX, "texture LOD bias", 0},
	{344, 1, CAPSET_MAX, "geometry output vertices", 0},
	{348, 1, CAPSET_MAX, "geometry output components", 0},
	{352, 1, CAPSET_MAX, "vertex outputs", 0},
	{356, 1, CAPSET_MAX, "vertex attributes", 0},
	{360, 1, CAPSET_MAX, "patch varyings", 0},
	{364, 1, CAPSET_SIGNED_MIN, "texel offset downwards", 0},
	{368, 1, CAPSET_SIGNED_MAX, "texel offset", 0},
	{372, 1, CAPSET_SIGNED_MIN, "gather offset downwards", 0},
	{376, 1, CAPSET_SIGNED_MAX, "gather offset", 0},
	{380, 1, CAPSET_MIN, "buffer texture alignment", 0},
	{384, 1, CAPSET_MIN, "uniform buffer alignment", 0},
	{388, 1, CAPSET_MIN, "shader buffer alignment", 0},
	{CAPSET_BITS_AT, 1, CAPSET_FLAGS, "capability", ~BITS_OF_THE_HOST},
	{CAPSET_BITS_AT, 1, CAPSET_SAME_FLAG, "GLES instead of GL", BITS_HOST_IS_GLES},
	{CAPSET_BITS_AT, 1, CAPSET_SAME_FLAG, "emulated BGRA sRGB", BITS_BGRA_IS_EMULATED},
	{428, 1, CAPSET_MAX, "vertex attribute stride", 0},
	{432, 1, CAPSET_MAX, "shader buffers of fragment and compute", 0},
	{436, 1, CAPSET_MAX, "shader buffers of other stages", 0},
	{440, 1, CAPSET_MAX, "shader images of fragment and compute", 0},
	{444, 1, CAPSET_MAX, "shader images of other stages", 0},
	{448, 1, CAPSET_MAX, "image samples", 0},
	{452, 1, CAPSET_MAX, "compute invocations", 0},
	{456, 1, CAPSET_MAX, "compute shared memory", 0},
	{460, 3, CAPSET_MAX, "compute grid", 0},
	{472, 3, CAPSET_MAX, "compute block", 0},
	{484, 1, CAPSET_MAX, "2D texture size", 0},
	{488, 1, CAPSET_MAX, "3D texture size", 0},
	{492, 1, CAPSET_MAX, "cube texture size", 0},
	{496, 1, CAPSET_MAX, "combined shader buffers", 0},
	{500, 6, CAPSET_MAX, "atomic counters", 0},
	{524, 6, CAPSET_MAX, "atomic counter buffers", 0},
	{548, 1, CAPSET_MAX, "combined atomic counters", 0},
	{552, 1, CAPSET_MAX, "combined atomic counter buffers", 0},
	{556, 1, CAPSET_MAX, "version of the host's features", 0},
	{560, FORMAT_WORDS, CAPSET_FORMATS, "for reading back", 0},
	{624, FORMAT_WORDS, CAPSET_FORMATS, "for a screen", 0},
	{CAPSET_BITS2_AT, 1, CAPSET_FLAGS, "second capability", ~BITS2_OF_THE_HOST},
	{760, 1, CAPSET_FLOAT_MAX, "anisotropy", 0},
	{764, 1, CAPSET_MAX, "texture units", 0},
	{768, FORMAT_WORDS, CAPSET_FORMATS, "with several samples", 0},
	{832, 6, CAPSET_MAX, "constant buffer size", 0},
	{856, 1, CAPSET_MAX, "video codecs", 0},
	{1372, 1, CAPSET_MAX, "uniform block size", 0},
};

static const char *capset_format_name(uint32_t format)
{
	static const char *const names[] = {
#define X(name, number, block_w, block_h, size) [number] = #name,
		VIRGL_FORMATS(X)
#undef X
	};
	return format < ARRAY_SIZE(names) && names[format] ? names[format] : "of an unknown number";
}

static uint32_t capset_word(const uint8_t *capset, size_t size, size_t at)
{
	uint32_t word = 0;

	if (at + sizeof(word) <= size)
		memcpy(&word, capset + at, sizeof(word));
	return word;
}

static float capset_float(uint32_t word)
{
	float value;
	memcpy(&value, &word, sizeof(value));
	return value;
}

static unsigned lowest_bit(uint32_t word)
{
	return (unsigned)__builtin_ctz(word);
}

/* Word `n` of a row. */
static bool word_covers(const struct capset_row *row, unsigned n, uint32_t saved, uint32_t here,
	char *why, size_t size)
{
	uint32_t missing = saved & ~here & (row->mask ? row->mask : UINT32_MAX);
	bool ok = false;

	switch (row->kind) {
	case CAPSET_FORMATS:
		if (missing)
			snprintf(why, size, "format %s %s",
				capset_format_name(n * 32 + lowest_bit(missing)), row->name);
		return !missing;
	case CAPSET_FLAGS:
		if (missing)
			snprintf(why, size, "%s %u", row->name, lowest_bit(missing));
		return !missing;
	case CAPSET_SAME_FLAG:
		if ((saved ^ here) & row->mask)
			snprintf(why, size, "%s is %s", row->name,
				saved & row->mask ? "not here" : "only here");
		return !((saved ^ here) & row->mask);
	case CAPSET_GLSL:
		if (saved > here)
			snprintf(why, size, "GLSL %u.%02u (it has %u.%02u)", saved / 100,
				saved % 100, here / 100, here % 100);
		return saved <= here;
	case CAPSET_FLOAT_MIN:
	case CAPSET_FLOAT_MAX:
		ok = row->kind == CAPSET_FLOAT_MIN ? capset_float(here) <= capset_float(saved)
						   : capset_float(here) >= capset_float(saved);
		if (!ok)
			snprintf(why, size, "%s %g (it has %g)", row->name,
				(double)capset_float(saved), (double)capset_float(here));
		return ok;
	case CAPSET_SIGNED_MIN:
	case CAPSET_SIGNED_MAX:
		ok = row->kind == CAPSET_SIGNED_MIN ? (int32_t)here <= (int32_t)saved
						    : (int32_t)here >= (int32_t)saved;
		if (!ok)
			snprintf(why, size, "%s %d (it has %d)", row->name, (int32_t)saved,
				(int32_t)here);
		return ok;
	case CAPSET_MAX:
	case CAPSET_MIN:
		ok = row->kind == CAPSET_MIN ? here <= saved : here >= saved;
		if (!ok)
			snprintf(why, size, "%s %u (it has %u)", row->name, saved, here);
		return ok;
	}
	return false;
}

bool capset_covers(const void *saved, size_t saved_size, const void *here, size_t here_size,
	char *why, size_t why_size)
{
	for (size_t i = 0; i < ARRAY_SIZE(capset_rows); i++) {
		const struct capset_row *row = &capset_rows[i];

		for (unsigned n = 0; n < row->words; n++) {
			size_t at = row->at + n * sizeof(uint32_t);
			/* What the guest was never told cannot be missed. */
			if (at + sizeof(uint32_t) > saved_size)
				break;
			if (!word_covers(row, n, capset_word(saved, saved_size, at),
				    capset_word(here, here_size, at), why, why_size))
				return false;
		}
	}
	return true;
}

void capset_keep_exact(void *capset, size_t size, capset_exact *exact, void *data)
{
	static const struct {
		uint16_t at;
		bool many;
	} masks[] = {{4, false}, {68, false}, {132, false}, {560, false}, {768, true}};
	const size_t video_at = 856;
	uint8_t *bytes = capset;

	for (size_t i = 0; i < ARRAY_SIZE(masks); i++) {
		/* Format 0 is none, and stands for framebuffers without any. */
		for (uint32_t format = 1; format < FORMAT_WORDS * 32; format++) {
			size_t at = masks[i].at + format / 8;
			if (at < size && bytes[at] >> format % 8 & 1 &&
				!exact(data, format, masks[i].many))
				bytes[at] &= (uint8_t) ~(1u << format % 8);
		}
	}
	if (video_at + sizeof(uint32_t) <= size)
		memset(bytes + video_at, 0, sizeof(uint32_t));
}
