/* SPDX-License-Identifier: Apache-2.0 */
/* What is advised on nodes of many kinds, as their GPUs' facts say. */
#include "control/advise.h"

#include "base/checked.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define NEED(name) (1u << ADVISE_##name)
#define POSSIBLE(n)                                                                                \
	{                                                                                          \
		.possible = true, .offered = true, .fits = (n), .type = "t", .vram_mib = 256       \
	}
#define NOT(why_not)                                                                               \
	{                                                                                          \
		.offered = true, .condition = why_not, .why = "because", .remedy = "mend it",      \
		.forbidding = 1                                                                    \
	}

static const struct advise_gpu soft = {.name = "soft0",
	.soft = true,
	.ways = {[METHOD_EMULATE] = POSSIBLE(8),
		[METHOD_FORWARD] = POSSIBLE(8),
		[METHOD_MEDIATE] = NOT("software"),
		[METHOD_PASSTHROUGH] = NOT("software")}};
/* One with everything. */
static const struct advise_gpu good = {.name = "gpu-03",
	.ways = {[METHOD_EMULATE] = NOT("hardware"),
		[METHOD_FORWARD] = POSSIBLE(16),
		[METHOD_MEDIATE] = POSSIBLE(4),
		[METHOD_PASSTHROUGH] = POSSIBLE(1)}};

static struct advise_gpu gpu_without(enum method method, const char *condition)
{
	struct advise_gpu gpu = good;

	gpu.ways[method] = (struct advise_way)NOT("");
	snprintf(gpu.ways[method].condition, sizeof(gpu.ways[method].condition), "%s", condition);
	return gpu;
}

static struct advice ask(
	const struct advise_gpu *gpus, size_t n, unsigned needs, uint32_t vms, bool windows)
{
	struct advice advice;
	const struct advise_question question = {
		.needs = needs, .vms = vms, .windows = windows, .processes = 100};

	advise(&question, gpus, n, &advice);
	return advice;
}

/* There is one for each method. */
static const struct advise_answer *by(const struct advice *advice, enum method method)
{
	unsigned i = 0;

	while (i < METHOD_COUNT - 1 && advice->answers[i].method != method)
		i++;
	assert_int_equal(advice->answers[i].method, method);
	return &advice->answers[i];
}

static bool objects(const struct advise_answer *answer, const char *condition)
{
	for (size_t i = 0; i < answer->n_against; i++) {
		if (!strcmp(answer->against[i].condition, condition))
			return true;
	}
	return false;
}

/* A node with one good GPU beside soft0: who wins which need. */
static const struct {
	unsigned needs;
	uint32_t vms;
	bool windows;
	enum method best;
	const char *gpu;
} wins[] = {
	{NEED(PERFORMANCE), 1, false, METHOD_PASSTHROUGH, "gpu-03"},
	{NEED(PERFORMANCE), 2, false, METHOD_MEDIATE, "gpu-03"},
	{NEED(PERFORMANCE), 8, false, METHOD_FORWARD, "gpu-03"},
	{NEED(DENSITY), 1, false, METHOD_FORWARD, "gpu-03"},
	{NEED(ISOLATION), 1, false, METHOD_PASSTHROUGH, "gpu-03"},
	{NEED(ISOLATION), 4, false, METHOD_MEDIATE, "gpu-03"},
	{NEED(ISOLATION), 5, false, METHOD_EMULATE, "soft0"},
	{NEED(MIGRATION), 1, false, METHOD_EMULATE, "soft0"},
	{NEED(MIGRATION) | NEED(PERFORMANCE), 10, false, METHOD_FORWARD, "gpu-03"},
	{NEED(NO_HARDWARE), 1, false, METHOD_EMULATE, "soft0"},
	{NEED(NO_HARDWARE) | NEED(PERFORMANCE), 1, false, METHOD_FORWARD, "soft0"},
	{0, 1, false, METHOD_FORWARD, "gpu-03"},
	{0, 4, true, METHOD_MEDIATE, "gpu-03"},
	{NEED(DENSITY), 1, true, METHOD_MEDIATE, "gpu-03"},
};

static void test_who_wins(void **state)
{
	const struct advise_gpu gpus[] = {soft, good};

	for (size_t i = 0; i < ARRAY_SIZE(wins); i++) {
		struct advice a = ask(gpus, 2, wins[i].needs, wins[i].vms, wins[i].windows);
		const struct advise_answer *best = &a.answers[0];
		if (!best->suitable || best->method != wins[i].best ||
			strcmp(gpus[best->gpu].name, wins[i].gpu) != 0)
			fail_msg("%zu: %s on %s, score %u%s", i, method_names[best->method],
				gpus[best->gpu].name, best->score,
				best->suitable ? "" : ", not suitable");
	}
}

static void test_no_gpu(void **state)
{
	struct advice a = ask(&soft, 1, NEED(PERFORMANCE), 1, false);

	assert_int_equal(a.answers[0].method, METHOD_FORWARD);
	assert_int_equal(a.answers[1].method, METHOD_EMULATE);
	assert_true(a.answers[1].suitable && !a.answers[2].suitable && !a.answers[3].suitable);
	assert_true(objects(by(&a, METHOD_PASSTHROUGH), "software"));
}

/* Windows on a node without a GPU: nothing accelerates, and that is said of each. */
static void test_windows_without_hardware(void **state)
{
	const struct advise_gpu gpus[] = {soft, good};
	struct advice a = ask(gpus, 2, NEED(NO_HARDWARE), 1, true);

	for (unsigned m = 0; m < METHOD_COUNT; m++) {
		const struct advise_answer *answer = by(&a, m);
		assert_false(answer->suitable);
		assert_true(objects(answer, m == METHOD_EMULATE || m == METHOD_FORWARD
						    ? "no-guest-driver"
						    : "needs-hardware"));
	}
}

/* What the node says stands in the way is what is said, with the way out. */
static void test_nodes_that_cannot(void **state)
{
	static const struct {
		enum method method;
		const char *condition;
	} cannot[] = {{METHOD_PASSTHROUGH, "iommu-missing"}, {METHOD_PASSTHROUGH, "group-shared"},
		{METHOD_PASSTHROUGH, "boot-console"}, {METHOD_MEDIATE, "no-slices"},
		{METHOD_MEDIATE, "mdev-exhausted"}, {METHOD_MEDIATE, "types-exhausted"},
		{METHOD_FORWARD, "render-node-denied"}};

	for (size_t i = 0; i < ARRAY_SIZE(cannot); i++) {
		struct advise_gpu gpus[] = {
			soft, gpu_without(cannot[i].method, cannot[i].condition)};
		/* On soft0 forward is possible. */
		struct advice a = ask(&gpus[1], 1, NEED(PERFORMANCE), 1, false);
		const struct advise_answer *answer = by(&a, cannot[i].method);
		assert_false(answer->suitable);
		assert_true(objects(answer, cannot[i].condition));
		assert_string_equal(answer->against[0].remedy, "mend it");
		assert_true(a.answers[0].suitable);
		a = ask(gpus, 2, NEED(PERFORMANCE), 1, false);
		answer = by(&a, cannot[i].method);
		/* Hardware that lacks something is nearer than software. */
		assert_string_equal(gpus[answer->gpu].name,
			cannot[i].method == METHOD_FORWARD ? "soft0" : "gpu-03");
	}
}

static void test_several_gpus(void **state)
{
	struct advise_gpu gpus[4] = {soft, good, good, good};
	struct advice a;

	snprintf(gpus[2].name, sizeof(gpus[2].name), "gpu-04");
	gpus[3] = gpu_without(METHOD_PASSTHROUGH, "in-use");
	a = ask(gpus, 4, NEED(PERFORMANCE), 2, false);
	const struct advise_answer *answer = &a.answers[0];
	assert_int_equal(answer->method, METHOD_PASSTHROUGH);
	assert_int_equal(answer->fits, 2);
	assert_true(answer->gpus[1] && answer->gpus[2] && !answer->gpus[0] && !answer->gpus[3]);
	a = ask(gpus, 4, NEED(PERFORMANCE), 3, false);
	assert_true(objects(by(&a, METHOD_PASSTHROUGH), "too-few"));
	assert_int_equal(a.answers[0].method, METHOD_MEDIATE);
	assert_int_equal(a.answers[0].fits, 12);
}

static void test_memory_is_counted_once(void **state)
{
	const struct advise_gpu gpus[] = {soft, soft, good};
	const struct advise_question question = {.vms = 10, .processes = 9};
	struct advice a;

	advise(&question, gpus, 3, &a);
	assert_int_equal(by(&a, METHOD_FORWARD)->fits, 9);
	assert_true(objects(by(&a, METHOD_FORWARD), "too-few"));
	assert_int_equal(by(&a, METHOD_MEDIATE)->fits, 4);
}

static void test_not_offered(void **state)
{
	struct advise_gpu gpu = good;
	struct advice a;

	gpu.ways[METHOD_MEDIATE].offered = false;
	a = ask(&gpu, 1, NEED(PERFORMANCE), 2, false);
	assert_int_equal(a.answers[0].method, METHOD_FORWARD);
	assert_true(objects(by(&a, METHOD_MEDIATE), "not-offered"));
}

struct lines {
	char text[4096];
};

static void add_line(void *data, const char *line)
{
	struct lines *lines = data;
	size_t n = strlen(lines->text);

	snprintf(lines->text + n, sizeof(lines->text) - n, "%s\n", line);
}

static void test_commands(void **state)
{
	struct advise_gpu gpus[] = {soft, good, good};
	const struct advise_question two = {.needs = NEED(PERFORMANCE), .vms = 2, .processes = 9},
				     many = {.needs = NEED(ISOLATION) | NEED(NO_HARDWARE),
					     .vms = 8,
					     .processes = 99};
	struct lines lines = {0};
	struct advice a;

	snprintf(gpus[2].name, sizeof(gpus[2].name), "gpu-04");
	advise(&two, gpus, 3, &a);
	advise_commands(&two, gpus, 3, &a.answers[0], add_line, &lines);
	assert_string_equal(lines.text, "vgpuctl gpu mode gpu-03 passthrough\n"
					"vgpuctl create vgpu1 --gpu gpu-03 --method passthrough\n"
					"vgpuctl libvirt attach DOMAIN1 vgpu1\n"
					"vgpuctl gpu mode gpu-04 passthrough\n"
					"vgpuctl create vgpu2 --gpu gpu-04 --method passthrough\n"
					"vgpuctl libvirt attach DOMAIN2 vgpu2\n");
	lines = (struct lines){0};
	advise(&many, gpus, 1, &a);
	advise_commands(&many, gpus, 1, &a.answers[0], add_line, &lines);
	assert_non_null(strstr(lines.text, "gpu policy soft0 fixed-share\n"));
	assert_non_null(strstr(lines.text, "create vgpu8 --gpu soft0 --type t --method emulate\n"));
	lines = (struct lines){0};
	advise_commands(&many, gpus, 1, by(&a, METHOD_PASSTHROUGH), add_line, &lines);
	assert_string_equal(lines.text, "");
}

/* Scores are within their bounds for every question, and suitable answers come first. */
static void test_all_questions(void **state)
{
	const struct advise_gpu gpus[] = {soft, good, gpu_without(METHOD_PASSTHROUGH, "in-use")};

	for (unsigned needs = 0; needs < 1u << ADVISE_NEED_COUNT; needs++) {
		for (uint32_t vms = 1; vms <= 40; vms += 3) {
			struct advice a = ask(gpus, 3, needs, vms, vms % 2);
			unsigned seen = 0;
			for (unsigned i = 0; i < METHOD_COUNT; i++) {
				const struct advise_answer *answer = &a.answers[i];
				seen |= 1u << answer->method;
				assert_true(answer->score <= 100);
				assert_int_equal(answer->suitable, answer->n_against == 0);
				assert_true(
					i == 0 || !answer->suitable || a.answers[i - 1].suitable);
				for (unsigned c = 0; c < CRITERION_COUNT; c++)
					assert_true(answer->criteria[c].text[0] &&
						    answer->criteria[c].score <= ADVISE_SCORE_MAX);
			}
			assert_int_equal(seen, (1u << METHOD_COUNT) - 1);
		}
	}
}

static void test_names(void **state)
{
	for (unsigned need = 0; need < ADVISE_NEED_COUNT; need++)
		assert_int_equal(advise_need_from_name(advise_need_names[need]), need);
	assert_int_equal(advise_need_from_name("speed"), ADVISE_NEED_COUNT);
	assert_int_equal(advise_need_from_name(""), ADVISE_NEED_COUNT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_who_wins),
		cmocka_unit_test(test_no_gpu),
		cmocka_unit_test(test_windows_without_hardware),
		cmocka_unit_test(test_nodes_that_cannot),
		cmocka_unit_test(test_several_gpus),
		cmocka_unit_test(test_memory_is_counted_once),
		cmocka_unit_test(test_not_offered),
		cmocka_unit_test(test_commands),
		cmocka_unit_test(test_all_questions),
		cmocka_unit_test(test_names),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("advise", tests, NULL, NULL);
}
