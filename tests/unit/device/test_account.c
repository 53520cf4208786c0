/* SPDX-License-Identifier: Apache-2.0 */
#include "fixture.h"

#include "base/checked.h"
#include "device/private.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static const uint64_t bounds_us[] = {
#define BOUND(X, us, le) us,
	VGPU_FRAME_TIMES(BOUND, )
#undef BOUND
};
static const char *const bounds_text[] = {
#define BOUND(X, us, le) le,
	VGPU_FRAME_TIMES(BOUND, )
#undef BOUND
};

static void pass_ms(long ms)
{
	const struct timespec wait = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
	nanosleep(&wait, NULL);
}

static int setup(void **state)
{
	static struct fixture fixture;
	*state = &fixture;
	return fixture_start(&fixture);
}

static int teardown(void **state)
{
	fixture_stop(*state);
	return 0;
}

static void test_the_table(void **state)
{
	struct vgpu_stats stats;

	assert_int_equal(ARRAY_SIZE(bounds_us), VGPU_FRAME_TIMES_COUNT);
	for (unsigned i = 0; i < VGPU_FRAME_TIMES_COUNT; i++) {
		assert_true(i == 0 || bounds_us[i] > bounds_us[i - 1]);
		/* Log-spaced: each is 1.4 times the one before, rounded. */
		assert_true(i == 0 || bounds_us[i] * 100 / bounds_us[i - 1] - 138 <= 5);
		assert_true(strtod(bounds_text[i], NULL) * 1e6 == (double)bounds_us[i]);
	}
	assert_ptr_equal(
		vgpu_stats_frames(&stats) + VGPU_FRAME_TIMES_COUNT, &stats.frames_slower_total);
	assert_true(sizeof(stats) <= VGPU_STATS_SIZE);
}

static uint64_t in_buckets(struct fixture *f)
{
	uint64_t n = 0;

	for (unsigned i = 0; i <= VGPU_FRAME_TIMES_COUNT; i++)
		n += vgpu_stats_frames(&f->stats)[i];
	return n;
}

static void test_a_frame_is_in_the_bucket_of_its_time(void **state)
{
	struct fixture *f = *state;

	device_client_frame(f->client);
	assert_int_equal(f->stats.frames_total, 1);
	assert_int_equal(in_buckets(f), 0); /* the first one has no time */
	const long waits[] = {0, 5, 30, 220};
	for (unsigned i = 0; i < ARRAY_SIZE(waits); i++) {
		uint64_t sum = f->stats.frame_time_ns_total;
		uint64_t before[VGPU_FRAME_TIMES_COUNT + 1];
		memcpy(before, vgpu_stats_frames(&f->stats), sizeof(before));
		pass_ms(waits[i]);
		device_client_frame(f->client);
		uint64_t took = f->stats.frame_time_ns_total - sum;
		assert_true(took >= (uint64_t)waits[i] * 1000000);
		for (unsigned b = 0; b <= VGPU_FRAME_TIMES_COUNT; b++) {
			bool above = b == 0 || took > bounds_us[b - 1] * 1000;
			bool below = b == VGPU_FRAME_TIMES_COUNT || took <= bounds_us[b] * 1000;
			assert_int_equal(
				vgpu_stats_frames(&f->stats)[b] - before[b], above && below);
		}
	}
	assert_int_equal(f->stats.frames_total, 5);
	assert_int_equal(in_buckets(f), 4);
}

static void test_an_idle_client_has_no_slow_frame(void **state)
{
	struct fixture *f = *state;

	device_client_frame(f->client);
	pass_ms(VGPU_FRAME_GAP_NS / 1000000 + 50);
	device_client_frame(f->client);
	assert_int_equal(f->stats.frames_total, 2);
	assert_int_equal(in_buckets(f), 0);
	assert_int_equal(f->stats.frame_time_ns_total, 0);
}

static void test_each_client_and_each_screen_has_its_own_frames(void **state)
{
	struct fixture *f = *state;
	struct renderer_resource_desc desc = fixture_texture(64, 64);
	const struct display_rect rect = {.w = 64, .h = 64};
	struct device_client *other;

	assert_int_equal(device_client_create(f->dev, "other", &other), 0);
	device_client_frame(f->client);
	device_client_frame(other);
	assert_int_equal(in_buckets(f), 0);
	assert_int_equal(device_resource_create(f->client, 1, &desc), 0);
	assert_int_equal(device_set_scanout(f->client, 0, 1, &rect), 0);
	assert_int_equal(device_set_scanout(f->client, 1, 1, &rect), 0);
	assert_int_equal(device_flush(f->client, 1, &rect), 0); /* both heads, once each */
	assert_int_equal(f->stats.frames_total, 4);
	assert_int_equal(in_buckets(f), 0);
	assert_int_equal(device_flush(f->client, 1, &rect), 0);
	assert_int_equal(in_buckets(f), 2);
}

/* ---- time by fences ---- */

static void submit(struct fixture *f)
{
	uint32_t nop[] = {0};

	assert_int_equal(device_submit(f->client, 1, nop, 1), 0);
}

static void fence_done(struct device_fence *fence)
{
}

static int setup_node(void **state)
{
	static char node[] = "/dev/dri/renderD128";
	int err = setup(state);
	struct fixture *f = *state;

	if (!err)
		err = device_context_create(f->client, 1, 0, "", 0);
	f->dev->config.render_node = node; /* the null renderer never looks at it */
	return err;
}

static void test_a_render_node_is_measured_by_fences(void **state)
{
	struct fixture *f = *state;

	submit(f);
	submit(f); /* one fence is behind the first, the second is measured after it */
	assert_int_equal(f->stats.fence_time_ns_total, 0);
	pass_ms(5);
	device_poll(f->dev);
	uint64_t first = f->stats.fence_time_ns_total;
	assert_true(first >= 5000000);
	pass_ms(5);
	device_poll(f->dev);
	assert_true(f->stats.fence_time_ns_total >= first + 5000000);
	/* Now it is idle. */
	first = f->stats.fence_time_ns_total;
	pass_ms(5);
	device_poll(f->dev);
	assert_int_equal(f->stats.fence_time_ns_total, first);
	submit(f);
	device_finish_all(f->dev);
	assert_true(f->stats.fence_time_ns_total - first < 5000000);
}

static void test_clients_fences_are_measured_once(void **state)
{
	struct fixture *f = *state;
	struct device_fence fences[2] = {{.done = fence_done}, {.done = fence_done}};

	submit(f);
	assert_int_equal(device_fence(f->client, 0, &fences[0]), 0);
	submit(f);
	assert_int_equal(device_fence(f->client, 0, &fences[1]), 0);
	pass_ms(5);
	device_finish_all(f->dev);
	assert_in_range(f->stats.fence_time_ns_total, 5000000, 9000000000);
	assert_int_equal(f->stats.fences_total, 2);
	assert_false(f->dev->working_since);
}

static void test_a_soft_gpu_has_no_fence_of_ours(void **state)
{
	struct fixture *f = *state;

	f->dev->config.render_node = NULL;
	submit(f);
	assert_int_equal(f->dev->fence_last, 0);
	pass_ms(2);
	device_finish_all(f->dev);
	assert_int_equal(f->stats.fence_time_ns_total, 0);
}

static void test_waiting_adds_up(void **state)
{
	struct fixture *f = *state;

	device_waited(f->dev, 5);
	device_waited(f->dev, 7);
	assert_int_equal(f->stats.wait_time_ns_total, 12);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_table),
		cmocka_unit_test_setup_teardown(
			test_a_frame_is_in_the_bucket_of_its_time, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_an_idle_client_has_no_slow_frame, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_each_client_and_each_screen_has_its_own_frames, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_a_render_node_is_measured_by_fences, setup_node, teardown),
		cmocka_unit_test_setup_teardown(
			test_clients_fences_are_measured_once, setup_node, teardown),
		cmocka_unit_test_setup_teardown(
			test_a_soft_gpu_has_no_fence_of_ours, setup_node, teardown),
		cmocka_unit_test_setup_teardown(test_waiting_adds_up, setup, teardown),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
