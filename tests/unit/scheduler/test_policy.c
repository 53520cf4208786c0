/* SPDX-License-Identifier: Apache-2.0 */
/* Entitlements, the division of what there is, clocks that step, and the frame-rate limit. */
#include "base/checked.h"
#include "random.h"
#include "scheduler/frames.h"
#include "scheduler/policy.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define SECOND_NS (1000ull * SCHED_MS)

static void test_names(void **state)
{
	assert_int_equal(sched_policy_from_name("best-effort"), SCHED_BEST_EFFORT);
	assert_int_equal(sched_policy_from_name("equal-share"), SCHED_EQUAL_SHARE);
	assert_int_equal(sched_policy_from_name("fixed-share"), SCHED_FIXED_SHARE);
	assert_int_equal(sched_policy_from_name("fair"), SCHED_POLICY_COUNT);
	assert_int_equal(sched_policy_from_name(""), SCHED_POLICY_COUNT);
}

static void test_out_of_range(void **state)
{
	static const struct sched_gpu bad_gpus[] = {{SCHED_POLICY_COUNT, 0},
		{(enum sched_policy) - 1, 0}, {SCHED_EQUAL_SHARE, SCHED_SLICE_MAX_MS + 1},
		{SCHED_EQUAL_SHARE, UINT32_MAX}};
	static const struct sched_vgpu bad_vgpus[] = {
		{0, 1}, {SCHED_WEIGHT_MAX + 1, 1}, {1, 0}, {1, SCHED_WHOLE + 1}};
	const struct sched_gpu gpu = {SCHED_EQUAL_SHARE, 0};
	const struct sched_vgpu good = {1, 1};
	struct sched_entitlement ret = {7, 7, 7};

	for (size_t i = 0; i < ARRAY_SIZE(bad_gpus); i++)
		assert_int_equal(sched_entitle(&bad_gpus[i], &good, 1, &ret), -EINVAL);
	for (size_t i = 0; i < ARRAY_SIZE(bad_vgpus); i++)
		assert_int_equal(sched_entitle(&gpu, &bad_vgpus[i], 1, &ret), -EINVAL);
	assert_int_equal(sched_entitle(&gpu, &good, SCHED_VGPUS_MAX + 1, &ret), -EINVAL);
	assert_int_equal(ret.weight, 7);
	assert_int_equal(sched_check_gpu(&gpu), 0);
}

static void test_slices_by_number(void **state)
{
	struct sched_gpu gpu = {SCHED_EQUAL_SHARE, 0};

	assert_int_equal(sched_slice_ns(&gpu, 1), 2 * SCHED_MS);
	assert_int_equal(sched_slice_ns(&gpu, 8), 2 * SCHED_MS);
	assert_int_equal(sched_slice_ns(&gpu, 9), 1 * SCHED_MS);
	gpu.slice_ms = 30;
	assert_int_equal(sched_slice_ns(&gpu, 9), 30 * SCHED_MS);
}

static void test_entitlements(void **state)
{
	static const struct sched_vgpu vgpus[] = {{100, 250000}, {200, 250000}, {100, 125000}};
	struct sched_entitlement e[3];

	assert_int_equal(sched_entitle(&(struct sched_gpu){SCHED_BEST_EFFORT, 0}, vgpus, 3, e), 0);
	assert_int_equal(e[1].share, 0);
	assert_int_equal(e[1].cap, SCHED_WHOLE);
	assert_int_equal(sched_entitle(&(struct sched_gpu){SCHED_EQUAL_SHARE, 0}, vgpus, 3, e), 0);
	assert_int_equal(e[0].share, 250000);
	assert_int_equal(e[1].share, 500000);
	assert_int_equal(e[1].cap, SCHED_WHOLE);
	assert_int_equal(sched_entitle(&(struct sched_gpu){SCHED_FIXED_SHARE, 0}, vgpus, 3, e), 0);
	assert_int_equal(e[1].share, 250000);
	assert_int_equal(e[2].cap, 125000);
	assert_int_equal(sched_share_of(8), 125000);
	assert_int_equal(sched_share_of(0), SCHED_WHOLE);
}

static void test_too_much_promised(void **state)
{
	static const struct sched_vgpu vgpus[] = {{1, SCHED_WHOLE}, {1, SCHED_WHOLE / 2}};
	struct sched_entitlement e[2];

	assert_int_equal(sched_entitle(&(struct sched_gpu){SCHED_FIXED_SHARE, 0}, vgpus, 2, e), 0);
	assert_int_equal(e[0].cap, 666666);
	assert_int_equal(e[1].cap, 333333);
}

/* Nobody gets more than it wants, nothing wanted is left, and who lacks something has its part. */
static void test_division(void **state)
{
	uint64_t seed = 20261122;

	for (int round = 0; round < 5000; round++) {
		size_t n = random_in(&seed, 1, SCHED_VGPUS_MAX);
		uint64_t wants[SCHED_VGPUS_MAX], got[SCHED_VGPUS_MAX], wanted = 0, given = 0;
		uint64_t amount = random_in(&seed, 0, 1000000000), weight_sum = 0;
		uint32_t weights[SCHED_VGPUS_MAX];
		for (size_t i = 0; i < n; i++) {
			weights[i] = (uint32_t)random_in(&seed, 1, SCHED_WEIGHT_MAX);
			wants[i] = random_in(&seed, 0, 3) ? random_in(&seed, 0, 50000000) : 0;
			wanted += wants[i];
			weight_sum += weights[i];
		}
		sched_divide(amount, weights, wants, n, got);
		for (size_t i = 0; i < n; i++) {
			assert_true(got[i] <= wants[i]);
			if (got[i] < wants[i])
				assert_true(got[i] >= amount * weights[i] / weight_sum);
			given += got[i];
		}
		assert_true(given <= MIN(amount, wanted));
		assert_true(given + n >= MIN(amount, wanted));
	}
}

static void test_clock_steps(void **state)
{
	struct sched_time time = {0};

	assert_int_equal(sched_time_pass(&time, 5 * SECOND_NS), 0);
	assert_int_equal(sched_time_pass(&time, 5 * SECOND_NS + 7), 7);
	assert_int_equal(sched_time_pass(&time, 3), 0);
	assert_int_equal(sched_time_pass(&time, 10), 7);
	assert_int_equal(sched_time_pass(&time, UINT64_MAX), SCHED_STEP_MAX_NS);
	assert_int_equal(sched_time_pass(&time, 0), 0);
	assert_int_equal(time.passed, 14 + SCHED_STEP_MAX_NS);
}

/* Frames drawn in 1 to 30 ms; how many are let go in 30 s. */
static unsigned run_frames(uint32_t rate, uint64_t *seed, uint64_t step_at, int64_t step)
{
	struct frames frames;
	uint64_t now = 0;
	unsigned n = 0;

	assert_int_equal(frames_init(&frames, rate), 0);
	while (now < 30 * SECOND_NS) {
		now += random_in(seed, 1, 30) * SCHED_MS;
		uint64_t clock = now + 3600 * SECOND_NS + (now > step_at ? (uint64_t)step : 0);
		now += frames_hold_ns(&frames, clock);
		n++;
	}
	return n;
}

static void test_frame_rate(void **state)
{
	static const uint32_t rates[] = {1, 15, 24, 30, 50};
	struct frames frames;
	uint64_t seed = 1;

	assert_int_equal(frames_init(&frames, FRAMES_RATE_MAX + 1), -EINVAL);
	for (size_t i = 0; i < ARRAY_SIZE(rates); i++) {
		unsigned n = run_frames(rates[i], &seed, UINT64_MAX, 0);
		assert_in_range(n, rates[i] * 30 * 97 / 100, rates[i] * 30 + 2);
	}
	assert_true(run_frames(0, &seed, UINT64_MAX, 0) > 1800);
	/* A clock set back holds no frame for as long; one set forward lets two go at once. */
	unsigned back = run_frames(30, &seed, 10 * SECOND_NS, -(int64_t)(3000 * SECOND_NS));
	assert_in_range(back, 880, 902);
	unsigned on = run_frames(30, &seed, 10 * SECOND_NS, 3000 * SECOND_NS);
	assert_in_range(on, 880, 904);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_out_of_range),
		cmocka_unit_test(test_slices_by_number),
		cmocka_unit_test(test_entitlements),
		cmocka_unit_test(test_too_much_promised),
		cmocka_unit_test(test_division),
		cmocka_unit_test(test_clock_steps),
		cmocka_unit_test(test_frame_rate),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
