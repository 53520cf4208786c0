/* SPDX-License-Identifier: Apache-2.0 */
#include "metrics/prometheus.h"

#include "base/checked.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- accounts ---- */

static void test_counters_go_on_and_gauges_follow(void **state)
{
	struct metrics_account a = {0};
	struct vgpu_stats page = {
		.draws_total = 10, .vram_used_bytes = 500, .frames_4375us_total = 3};
	const struct metrics_times times = {.cpu_ns = 100, .delay_ns = 7};

	metrics_account(&a, &page, &times, false);
	assert_int_equal(a.shown.draws_total, 10);
	assert_int_equal(a.shown.vram_used_bytes, 500);
	assert_int_equal(a.shown.frames[0], 3);
	assert_int_equal(a.shown.gpu_time_ns_total, 100);
	assert_int_equal(a.shown.cpu_delay_ns_total, 7);
	page.draws_total = 14;
	page.vram_used_bytes = 20;
	metrics_account(&a, &page, &times, false);
	assert_int_equal(a.shown.draws_total, 14);
	assert_int_equal(a.shown.vram_used_bytes, 20);
	metrics_account(&a, NULL, NULL, false);
	assert_int_equal(a.shown.draws_total, 14);
	assert_int_equal(a.shown.vram_used_bytes, 0);
	assert_int_equal(a.shown.gpu_time_ns_total, 100);
}

static void test_a_counter_that_went_back_goes_on(void **state)
{
	struct metrics_account a = {0};
	struct vgpu_stats page = {.draws_total = 1000};

	metrics_account(&a, &page, NULL, false);
	page.draws_total = 0; /* another keeper's page */
	metrics_account(&a, &page, NULL, false);
	assert_int_equal(a.shown.draws_total, 1000);
	page.draws_total = 5;
	metrics_account(&a, &page, NULL, false);
	assert_int_equal(a.shown.draws_total, 1005);
}

static void test_gpu_time_has_its_source(void **state)
{
	struct metrics_account a = {0};
	struct vgpu_stats page = {.fence_time_ns_total = 40};
	struct metrics_times times = {.cpu_ns = 1000};

	metrics_account(&a, &page, &times, true);
	assert_int_equal(a.shown.gpu_time_ns_total, 40);
	assert_int_equal(a.shown.cpu_time_ns_total, 1000);
	/* Moved to a soft GPU, and back. */
	times.cpu_ns = 1500;
	metrics_account(&a, &page, &times, false);
	assert_int_equal(a.shown.gpu_time_ns_total, 540);
	page.fence_time_ns_total = 50;
	times.cpu_ns = 1600;
	metrics_account(&a, &page, &times, true);
	assert_int_equal(a.shown.gpu_time_ns_total, 550);
}

static void test_a_dip_of_the_kernels_figures_is_not_counted_twice(void **state)
{
	struct metrics_account a = {0};
	struct metrics_times times = {.cpu_ns = 1000};

	metrics_account(&a, NULL, &times, false);
	times.cpu_ns = 10; /* the child was waited for, its parent was not yet */
	metrics_account(&a, NULL, &times, false);
	times.cpu_ns = 1010;
	metrics_account(&a, NULL, &times, false);
	assert_int_equal(a.shown.cpu_time_ns_total, 1010);
	metrics_times_anew(&a);
	times.cpu_ns = 30;
	metrics_account(&a, NULL, &times, false);
	assert_int_equal(a.shown.cpu_time_ns_total, 1040);
}

/* Any bytes at all: what is shown never falls and never leaves its range. */
static void test_a_page_of_random_bytes(void **state)
{
	struct metrics_account a = {0};
	uint64_t seed = 88172645463325252ull;

	for (unsigned round = 0; round < 2000; round++) {
		struct metrics_values before = a.shown;
		struct vgpu_stats page;
		uint64_t words[sizeof(page) / 8];
		for (unsigned i = 0; i < ARRAY_SIZE(words); i++) {
			seed ^= seed << 13;
			seed ^= seed >> 7;
			seed ^= seed << 17;
			words[i] = round % 3 ? seed : seed % 1000;
		}
		memcpy(&page, words, sizeof(page));
		const struct metrics_times times = {words[0], words[1]};
		metrics_account(&a, &page, round % 5 ? &times : NULL, round % 2);
#define CHECK_COUNTER(name) assert_true(a.shown.name >= before.name);
#define CHECK_GAUGE(name)
#define X(name, kind, help)                                                                        \
	CHECK_##kind(name);                                                                        \
	assert_true(a.shown.name <= METRICS_MAX);
		METRICS_TABLE(X)
#undef X
	}
	assert_int_equal(a.shown.draws_total, METRICS_MAX);
}

/* ---- text ---- */

static const char *print(const struct metrics_vgpu *vgpus, size_t n)
{
	static char text[65536];
	FILE *out = fmemopen(text, sizeof(text), "w");

	metrics_print(out, vgpus, n);
	assert_int_equal(fclose(out), 0);
	return text;
}

static void assert_has(const char *text, const char *line)
{
	const char *at = strstr(text, line);

	if (!at || (at != text && at[-1] != '\n'))
		fail_msg("no line begins with: %s", line);
}

static void test_base_units_and_labels(void **state)
{
	const struct metrics_values values = {.gpu_time_ns_total = 12345678901,
		.vram_used_bytes = 77,
		.draws_total = METRICS_MAX};
	const struct metrics_vgpu vgpu = {.name = "a\"b\\c\nd\xff",
		.gpu = "soft0",
		.type = "t",
		.method = "forward",
		.state = "ready",
		.values = &values,
		.moves_total = 3};
	const char *text = print(&vgpu, 1);

	assert_has(text, "vgpud_gpu_time_seconds_total{vgpu=\"a\\\"b\\\\c\\nd?\"} 12.345678901\n");
	assert_has(text, "# TYPE vgpud_gpu_time_seconds_total counter\n");
	assert_has(text, "# TYPE vgpud_vram_used_bytes gauge\n");
	assert_has(text, "vgpud_draws_total{vgpu=\"a\\\"b\\\\c\\nd?\"} 9223372036854775807\n");
	assert_has(text, "vgpud_moves_total{vgpu=\"a\\\"b\\\\c\\nd?\"} 3\n");
	assert_null(strstr(text, "_ns_"));
}

static void test_the_histogram_is_cumulative(void **state)
{
	struct metrics_values values = {
		.frames = {[0] = 1, [1] = 2, [12] = 4}, .frame_time_ns_total = 1500000000};
	const struct metrics_vgpu vgpu = {"a", "g", "t", "m", "s", &values, 0, 0, 0, 0};
	const char *text = print(&vgpu, 1);

	assert_has(text, "vgpud_frame_time_seconds_bucket{vgpu=\"a\",le=\"0.004375\"} 1\n");
	assert_has(text, "vgpud_frame_time_seconds_bucket{vgpu=\"a\",le=\"0.00625\"} 3\n");
	assert_has(text, "vgpud_frame_time_seconds_bucket{vgpu=\"a\",le=\"0.2\"} 3\n");
	assert_has(text, "vgpud_frame_time_seconds_bucket{vgpu=\"a\",le=\"+Inf\"} 7\n");
	assert_has(text, "vgpud_frame_time_seconds_count{vgpu=\"a\"} 7\n");
	assert_has(text, "vgpud_frame_time_seconds_sum{vgpu=\"a\"} 1.500000000\n");
	/* Buckets of any size: the sum stays in range. */
	for (unsigned i = 0; i < ARRAY_SIZE(values.frames); i++)
		values.frames[i] = METRICS_MAX;
	text = print(&vgpu, 1);
	assert_has(text, "vgpud_frame_time_seconds_count{vgpu=\"a\"} 9223372036854775807\n");
}

static void test_no_vgpu_at_all(void **state)
{
	const char *text = print(NULL, 0);

	assert_has(text, "# TYPE vgpud_frame_time_seconds histogram\n");
	assert_null(strchr(text, '{'));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counters_go_on_and_gauges_follow),
		cmocka_unit_test(test_a_counter_that_went_back_goes_on),
		cmocka_unit_test(test_gpu_time_has_its_source),
		cmocka_unit_test(test_a_dip_of_the_kernels_figures_is_not_counted_twice),
		cmocka_unit_test(test_a_page_of_random_bytes),
		cmocka_unit_test(test_base_units_and_labels),
		cmocka_unit_test(test_the_histogram_is_cumulative),
		cmocka_unit_test(test_no_vgpu_at_all),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
