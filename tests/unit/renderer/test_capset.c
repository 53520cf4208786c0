/* SPDX-License-Identifier: Apache-2.0 */
#include "renderer/virgl/capset.h"

#include "support.h"

#include "base/checked.h"
#include "base/clock.h"
#include "protocol/virgl_formats.h"

#define SIZE_V1 308u
#define SIZE_V2 1376u

/* What only the offsets of the protocol's structures tell. */
enum { SAMPLER = 4, RENDER = 68, DEPTH = 132, VERTEX = 196, BSET = 260, GLSL = 264, MANY = 768 };

static void put(uint8_t *capset, size_t at, uint32_t word)
{
	memcpy(capset + at, &word, sizeof(word));
}

static uint32_t get(const uint8_t *capset, size_t at)
{
	uint32_t word;
	memcpy(&word, capset + at, sizeof(word));
	return word;
}

static bool has(const uint8_t *capset, size_t mask, uint32_t format)
{
	return capset[mask + format / 8] >> format % 8 & 1;
}

static void set(uint8_t *capset, size_t mask, uint32_t format)
{
	capset[mask + format / 8] |= (uint8_t)(1u << format % 8);
}

static int test_what_is_missing(void)
{
	const float wide = 8.0f, narrow = 4.0f;
	uint32_t wide_bits, narrow_bits;
	memcpy(&wide_bits, &wide, 4);
	memcpy(&narrow_bits, &narrow, 4);
	const struct {
		size_t at;
		uint32_t saved, here;
		const char *why; /* NULL: covered */
	} rows[] = {
		{0, 2, 1, NULL},
		{SAMPLER, 1u << 30, 0, "format R32G32B32_FLOAT for sampling"},
		{SAMPLER, 0, 1u << 30, NULL},
		{RENDER + 4, 1u << 7, 1u << 6, "format R32G32B32A32_USCALED for rendering"},
		{VERTEX, 2, 0, "format B8G8R8A8_UNORM for vertices"},
		{BSET, 1u << 13, 1u << 12, "feature 13"},
		{GLSL, 460, 330, "GLSL 4.60 (it has 3.30)"},
		{GLSL, 330, 460, NULL},
		{284, 4, 2, "samples 4 (it has 2)"},
		{328, wide_bits, narrow_bits, "widest aliased line 8 (it has 4)"},
		{324, wide_bits, narrow_bits, NULL},
		{324, narrow_bits, wide_bits, "narrowest aliased line 4 (it has 8)"},
		{364, (uint32_t)-32, (uint32_t)-8, "texel offset downwards -32 (it has -8)"},
		{364, (uint32_t)-8, (uint32_t)-32, NULL},
		{384, 16, 256, "uniform buffer alignment 16 (it has 256)"},
		{384, 256, 16, NULL},
		{CAPSET_BITS_AT, 1u << 7, 0, "capability 7"},
		{CAPSET_BITS_AT, 0, 1u << 19, "GLES instead of GL is only here"},
		{CAPSET_BITS_AT, 1u << 19, 0, "GLES instead of GL is not here"},
		{396, 1, 2, NULL},
		{468, 65535, 65534, "compute grid 65535 (it has 65534)"},
		{CAPSET_BITS2_AT, 1u << 8, 0, NULL},
		{CAPSET_BITS2_AT, 1u << 10, 0, "second capability 10"},
		{CAPSET_VIDEO_MEMORY_AT, 4096, 64, NULL},
		{700, 5, 6, NULL},
		{MANY, 2, 0, "format B8G8R8A8_UNORM with several samples"},
		{852, 65536, 4096, "constant buffer size 65536 (it has 4096)"},
		{1372, 65536, 16384, "uniform block size 65536 (it has 16384)"},
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		uint8_t saved[SIZE_V2] = {0}, here[SIZE_V2] = {0};
		char why[128] = "";
		put(saved, rows[i].at, rows[i].saved);
		put(here, rows[i].at, rows[i].here);
		bool covers =
			capset_covers(saved, sizeof(saved), here, sizeof(here), why, sizeof(why));
		if (covers != !rows[i].why || (rows[i].why && strcmp(why, rows[i].why) != 0))
			printf("# row %zu: %d %s\n", i, covers, why);
		CHECK(covers == !rows[i].why);
		CHECK(!rows[i].why || strcmp(why, rows[i].why) == 0);
	}
	return 0;
}

static int test_sizes_differ(void)
{
	uint8_t saved[SIZE_V2] = {0}, here[SIZE_V2] = {0};
	char why[8] = "";

	CHECK(capset_covers(saved, 0, here, 0, why, sizeof(why)));
	put(saved, 1372, 7);
	CHECK(capset_covers(saved, SIZE_V1, here, SIZE_V2, why, sizeof(why)));
	CHECK(capset_covers(saved, 1374, here, SIZE_V2, why, sizeof(why)));
	CHECK(!capset_covers(saved, SIZE_V2, here, SIZE_V1, why, sizeof(why)));
	CHECK(strlen(why) < sizeof(why));
	return 0;
}

static bool only_even(void *data, uint32_t format, bool many)
{
	return format % 2 == 0 && !(many && format == 4);
}

static int test_only_exact_formats_stay(void)
{
	uint8_t capset[SIZE_V2];

	memset(capset, 0xff, sizeof(capset));
	capset_keep_exact(capset, sizeof(capset), only_even, NULL);
	CHECK(has(capset, SAMPLER, 4) && !has(capset, SAMPLER, 5) && has(capset, RENDER, 4));
	CHECK(!has(capset, DEPTH, 511) && has(capset, VERTEX, 5));
	CHECK(has(capset, MANY, 0) && !has(capset, MANY, 4) && has(capset, MANY, 6));
	CHECK(get(capset, 856) == 0 && get(capset, GLSL) == UINT32_MAX);
	memset(capset, 0xff, sizeof(capset));
	capset_keep_exact(capset, SIZE_V1, only_even, NULL);
	CHECK(!has(capset, SAMPLER, 5) && has(capset, MANY, 5) && get(capset, 856) == UINT32_MAX);
	return 0;
}

/* ---- on this host ---- */

static int test_of_a_software_gpu(void)
{
	static const uint32_t needed[] = {VIRGL_FORMAT_B8G8R8A8_UNORM, VIRGL_FORMAT_R8G8B8A8_SRGB,
		VIRGL_FORMAT_R10G10B10A2_UNORM, VIRGL_FORMAT_R32G32B32A32_FLOAT,
		VIRGL_FORMAT_R32G32B32A32_UINT, VIRGL_FORMAT_R16G16_SNORM, VIRGL_FORMAT_R8_SINT,
		VIRGL_FORMAT_R9G9B9E5_FLOAT, VIRGL_FORMAT_R11G11B10_FLOAT, VIRGL_FORMAT_RGTC2_UNORM,
		VIRGL_FORMAT_BPTC_RGBA_UNORM, VIRGL_FORMAT_Z24X8_UNORM,
		VIRGL_FORMAT_S8_UINT_Z24_UNORM, VIRGL_FORMAT_Z32_FLOAT_S8X24_UINT};
	uint8_t all[SIZE_V2], exact[SIZE_V2];
	struct renderer_under_test t;
	char why[128] = "";
	uint64_t at = clock_ns();
	int r = renderer_start(&t, true);

	if (r)
		return r;
	double started = (double)(clock_ns() - at) / 1e6;
	at = clock_ns();
	CHECK(t.ops->capset_get(t.r, CAPSET_VIRGL2, 2, exact, sizeof(exact)) == 0);
	printf("# created in %.1f ms, capset of exact formats in %.1f ms\n", started,
		(double)(clock_ns() - at) / 1e6);
	for (size_t i = 0; i < ARRAY_SIZE(needed); i++) {
		if (!has(exact, SAMPLER, needed[i]))
			printf("# format %u\n", needed[i]);
		CHECK(has(exact, SAMPLER, needed[i]));
	}
	CHECK(has(exact, RENDER, VIRGL_FORMAT_B8G8R8A8_UNORM));
	CHECK(has(exact, MANY, VIRGL_FORMAT_S8_UINT_Z24_UNORM));
	CHECK(has(exact, MANY, VIRGL_FORMAT_B8G8R8A8_UNORM) && has(exact, MANY, 0));
	CHECK(!has(exact, MANY, VIRGL_FORMAT_Z32_UNORM));
	CHECK(get(exact, GLSL) >= 430 && get(exact, 856) == 0);
	CHECK(t.ops->capset_covers(t.r, CAPSET_VIRGL2, 2, exact, sizeof(exact), why, sizeof(why)) ==
		0);
	/* A host of everything has more, and says what an exact one lacks. */
	memcpy(all, exact, sizeof(all));
	set(all, MANY, VIRGL_FORMAT_Z32_UNORM);
	CHECK(t.ops->capset_covers(t.r, CAPSET_VIRGL2, 2, all, sizeof(all), why, sizeof(why)) < 0);
	CHECK(strcmp(why, "format Z32_UNORM with several samples") == 0);
	t.ops->destroy(t.r);
	return 0;
}

static int test_all_is_offered_otherwise(void)
{
	uint8_t all[SIZE_V2];
	struct renderer_under_test t;
	int r = renderer_start(&t, false);

	if (r)
		return r;
	CHECK(t.ops->capset_get(t.r, CAPSET_VIRGL2, 2, all, sizeof(all)) == 0);
	CHECK(has(all, MANY, VIRGL_FORMAT_Z32_UNORM));
	t.ops->destroy(t.r);
	return 0;
}

int main(void)
{
	static const struct test tests[] = {
		{"what is missing is said", test_what_is_missing},
		{"sets of different sizes", test_sizes_differ},
		{"only exact formats stay", test_only_exact_formats_stay},
		{"a software GPU offers enough", test_of_a_software_gpu},
		{"and all of it otherwise", test_all_is_offered_otherwise},
	};
	return tests_run(tests, ARRAY_SIZE(tests));
}
