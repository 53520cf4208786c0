/* SPDX-License-Identifier: Apache-2.0 */
#include "base/attend.h"

#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <time.h>

#include <cmocka.h>

struct event {
	unsigned looks;
	unsigned over_at; /* 0: never */
};

static bool event_over(void *data)
{
	struct event *event = data;
	return ++event->looks == event->over_at;
}

static uint64_t cpu_ns(void)
{
	struct timespec used;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
	return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

static void test_sees_the_end(void **state)
{
	struct attend a = {.busy_ns = 1000000000u, .last_ns = UINT32_MAX, .away = 1000};
	struct event at_once = {.over_at = 1}, soon = {.over_at = 20};

	assert_true(attend(&a, event_over, &at_once));
	assert_int_equal(at_once.looks, 1);
	assert_true(attend(&a, event_over, &soon));
	assert_int_equal(soon.looks, 20);
	assert_int_equal(a.worthwhile.misses, 0);
}

static void test_looking_is_bounded(void **state)
{
	struct attend a = {.busy_ns = 100000, .last_ns = UINT32_MAX, .away = 1000};
	struct event never = {0};
	uint64_t before = cpu_ns();

	assert_false(attend(&a, event_over, &never));
	assert_true(cpu_ns() - before < 20000000);
	assert_true(never.looks > 2);
	assert_int_equal(a.worthwhile.misses, 1);
}

static void test_in_vain_it_is_left_out(void **state)
{
	struct attend a = {.busy_ns = 1000, .last_ns = UINT32_MAX, .away = 1000};
	struct event never = {0}, at_once = {.over_at = 1};
	unsigned asked = 0;

	for (unsigned i = 0; i < 8u << WORTHWHILE_MISSES; i++) {
		never.looks = 0;
		assert_false(attend(&a, event_over, &never));
		asked += never.looks > 0;
	}
	assert_in_range(asked, WORTHWHILE_MISSES, 3 * WORTHWHILE_MISSES);
	while (a.worthwhile.skip)
		assert_false(attend(&a, event_over, &at_once));
	assert_int_equal(at_once.looks, 0);
	/* Once it pays, it is done each time again. */
	assert_true(attend(&a, event_over, &at_once));
	at_once.looks = 0;
	assert_true(attend(&a, event_over, &at_once));
}

static bool dear_over(void *data)
{
	const struct timespec turn = {.tv_nsec = 2000000};

	nanosleep(&turn, NULL);
	return event_over(data);
}

/* Somebody else kept the CPU for a whole turn: not again soon, though it was over then. */
static void test_once_dear_it_is_left_out(void **state)
{
	struct attend a = {
		.busy_ns = 1000000000u, .last_ns = UINT32_MAX, .dear_ns = 1000000, .away = 1000};
	struct event second = {.over_at = 2}, never = {0};

	assert_true(attend(&a, dear_over, &second));
	assert_int_equal(a.worthwhile.skip, (1u << WORTHWHILE_MISSES) - 1);
	assert_false(attend(&a, event_over, &never));
	assert_int_equal(never.looks, 0);
	a = (struct attend){.busy_ns = 1000000000u, .last_ns = UINT32_MAX, .away = 1000};
	second.looks = 0;
	assert_true(attend(&a, dear_over, &second));
	assert_int_equal(a.worthwhile.skip, 0);
}

static bool slow_over(void *data)
{
	unsigned *looks = data;
	const struct timespec long_turn = {.tv_nsec = 10 * ATTEND_AWAY_NS};

	++*looks;
	nanosleep(&long_turn, NULL); /* as if somebody else had the CPU */
	return false;
}

static void test_others_have_the_cpu(void **state)
{
	struct attend a = {.busy_ns = 1000000000u, .last_ns = UINT32_MAX, .away = 3};
	unsigned looks = 0;

	assert_false(attend(&a, slow_over, &looks));
	assert_int_equal(looks, a.away + 1);
}

static bool over_after_a_slow_look(void *data)
{
	return slow_over(data) || *(unsigned *)data == 2;
}

/* Somebody had the CPU until it was over: who sleeps is not worse off. */
static void test_seen_late_is_in_vain(void **state)
{
	struct attend a = {.busy_ns = 1000000000u, .last_ns = ATTEND_AWAY_NS, .away = 3};
	unsigned looks = 0;

	assert_true(attend(&a, over_after_a_slow_look, &looks));
	assert_int_equal(a.worthwhile.misses, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sees_the_end),
		cmocka_unit_test(test_looking_is_bounded),
		cmocka_unit_test(test_in_vain_it_is_left_out),
		cmocka_unit_test(test_once_dear_it_is_left_out),
		cmocka_unit_test(test_others_have_the_cpu),
		cmocka_unit_test(test_seen_late_is_in_vain),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("attend", tests, NULL, NULL);
}
