/* SPDX-License-Identifier: Apache-2.0 */
/* What a process says of a GPU's slices becomes types, or nothing; how many are left of one. */
#include "control/slice_types.h"

#include "base/checked.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define GPU "gpu-03:00.0"

static struct type types[PLAN_TYPES_MAX];

static size_t parse(const char *text, size_t max)
{
	json_t *json = json_loads(text, JSON_DECODE_ANY, NULL);
	size_t n = 0;

	assert_non_null(json);
	bool good = slice_types_parse(json, GPU, types, max, &n);
	json_decref(json);
	return good ? n : SIZE_MAX;
}

#define ONE(name, id, vram, most, left)                                                            \
	"{\"name\": \"" name "\", \"id\": \"" id "\", \"vram_mib\": " #vram                        \
	", \"max_instances\": " #most ", \"available\": " #left "}"

static void test_good(void **state)
{
	assert_int_equal(parse("[]", 4), 0);
	assert_int_equal(parse("[" ONE("nvidia-63", "nvidia-63", 1024, 16, 15) ", " ONE(
				       "vf", "vf", 0, 4, 4) "]",
				 4),
		2);
	assert_string_equal(types[0].name, GPU "-nvidia-63");
	assert_string_equal(types[0].gpu, GPU);
	assert_string_equal(types[0].slice, "nvidia-63");
	assert_int_equal(types[0].kind, TYPE_SLICE);
	assert_int_equal(types[0].vram_mib, 1024);
	assert_int_equal(types[0].max_instances, 16);
	assert_int_equal(types[0].available, 15);
	assert_string_equal(types[1].name, GPU "-vf");
	/* A name that would be cut is no name: that type is left out. */
	assert_int_equal(
		parse("[" ONE("a-name-that-is-so-long-that-with-the-gpus-it-does-not-fit-any-more",
			      "x", 1, 1, 1) ", " ONE("vf", "vf", 0, 4, 4) "]",
			4),
		1);
	assert_string_equal(types[0].name, GPU "-vf");
}

static void test_bad(void **state)
{
	static const char *const texts[] = {"{}", "1", "[1]", "[{}]", "[" ONE("", "x", 1, 1, 1) "]",
		"[" ONE("x", "", 1, 1, 1) "]", "[" ONE("a/b", "x", 1, 1, 1) "]",
		"[" ONE("a b", "x", 1, 1, 1) "]", "[" ONE("a", "x", -1, 1, 1) "]",
		"[" ONE("a", "x", 1, -1, 1) "]", "[" ONE("a", "x", 1, 1, -1) "]",
		"[" ONE("a", "x", 1, 4294967296, 1) "]", "[" ONE("a", "x", 1, 1, 4294967296) "]",
		"[" ONE("a", "x", 1, 1, 1) ", " ONE("b", "x", 1, 1, 1) "]"};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		assert_int_equal(parse(texts[i], 1), SIZE_MAX);
}

/* As many as the driver said, and none beside another type, unless the GPU may carry both. */
static void test_available(void **state)
{
	struct gpu gpu = {.name = GPU, .kind = "pci"};
	const struct type type = {.kind = TYPE_SLICE, .max_instances = 4, .available = 3};
	struct gpu_use use = {.vgpus = 1, .of_type = 1};

	assert_int_equal(types_available(&gpu, &type, &use), 3);
	use.vgpus = 2;
	assert_int_equal(types_available(&gpu, &type, &use), 0);
	gpu.mixed = true;
	assert_int_equal(types_available(&gpu, &type, &use), 3);
}

static void test_only_slice(void **state)
{
	struct type list[3] = {{.gpu = GPU, .kind = TYPE_SHARE},
		{.gpu = GPU, .kind = TYPE_SLICE, .name = "vf"}, {.gpu = "x", .kind = TYPE_SLICE}};

	assert_string_equal(types_only_slice(list, 3, GPU)->name, "vf");
	memcpy(list[2].gpu, GPU, sizeof(GPU));
	assert_null(types_only_slice(list, 3, GPU));
	assert_null(types_only_slice(list, 1, GPU));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_available),
		cmocka_unit_test(test_only_slice),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
