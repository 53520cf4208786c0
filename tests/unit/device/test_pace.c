/* SPDX-License-Identifier: Apache-2.0 */
/* The frame-rate limit: what is held back, in which order it is let go, and that nothing is lost.
 */
#include "device/private.h"
#include "fixture.h"

#include "base/clock.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

#define MS  1000000ull
#define FPS 20u

struct done {
	struct device_fence fence;
	unsigned *order, at;
};

static int setup(void **state)
{
	static struct fixture f;
	const struct display_rect rect = {.w = 64, .h = 64};
	struct renderer_resource_desc desc = fixture_texture(64, 64);

	*state = &f;
	assert_int_equal(fixture_start(&f), 0);
	assert_int_equal(pace_init(f.dev, FPS), 0);
	assert_int_equal(device_resource_create(f.client, 1, &desc), 0);
	return device_set_scanout(f.client, 0, 1, &rect);
}

static int teardown(void **state)
{
	fixture_stop(*state);
	return 0;
}

static void flush(struct fixture *f)
{
	const struct display_rect rect = {.w = 64, .h = 64};

	assert_int_equal(device_flush(f->client, 1, &rect), 0);
}

static void fence_done(struct device_fence *fence)
{
	struct done *done = (struct done *)fence;
	done->at = ++*done->order;
}

static void ask(struct fixture *f, struct done *done, unsigned *order)
{
	*done = (struct done){.fence.done = fence_done, .order = order};
	assert_int_equal(device_fence(f->client, 0, &done->fence), 0);
}

static void test_a_screens_frames_are_held_back(void **state)
{
	struct fixture *f = *state;
	struct done first, second, third;
	unsigned order = 0;

	flush(f);
	ask(f, &first, &order);
	assert_int_equal(first.at, 1); /* it came in time */
	assert_int_equal(device_held_ns(f->dev), 0);
	flush(f);
	ask(f, &second, &order);
	ask(f, &third, &order);
	device_poll(f->dev);
	assert_int_equal(second.at, 0);
	uint64_t held = device_held_ns(f->dev);
	assert_in_range(held, 1, 1000 * MS / FPS);
	device_let_go_due(f->dev); /* it is not due */
	device_drain(f->dev);
	assert_int_equal(second.at, 0);
	usleep((useconds_t)(held / 1000 + 1000));
	assert_int_equal(device_held_ns(f->dev), 0);
	device_let_go_due(f->dev);
	assert_int_equal(second.at, 2);
	assert_int_equal(third.at, 3);
	/* Counted they are when they are drawn. */
	assert_int_equal(f->stats.frames_total, 2);
}

/* Who needs everything to be complete gets it: to be saved, or to end. */
static void test_nothing_is_lost(void **state)
{
	struct fixture *f = *state;
	struct done one, two;
	unsigned order = 0;

	flush(f);
	flush(f);
	ask(f, &one, &order);
	assert_int_equal(one.at, 0);
	device_finish_all(f->dev);
	assert_int_equal(one.at, 1);
	flush(f);
	ask(f, &two, &order);
	assert_int_equal(two.at, 0);
	device_client_reset(f->client);
	assert_int_equal(two.at, 2);
}

/* Each is told how long it is not to be served; together they have one limit. */
static void test_clients(void **state)
{
	struct fixture *f = *state;
	struct device_client *other;
	uint64_t sum = 0;

	assert_int_equal(device_client_create(f->dev, "other", &other), 0);
	assert_int_equal(device_client_frame(f->client), 0);
	for (unsigned i = 1; i <= 10; i++) {
		sum = device_client_frame(i % 2 ? other : f->client);
		assert_true(sum <= i * 1000 * MS / FPS && sum + 500 * MS >= i * 1000 * MS / FPS);
	}
	flush(f); /* a screen has a limit of its own */
	assert_int_equal(device_held_ns(f->dev), 0);
}

static void test_without_a_limit(void **state)
{
	struct fixture *f = *state;
	struct done done;
	unsigned order = 0;

	assert_int_equal(pace_init(f->dev, FRAMES_RATE_MAX + 1), -EINVAL);
	assert_int_equal(pace_init(f->dev, 0), 0);
	for (unsigned i = 1; i <= 100; i++) {
		flush(f);
		assert_int_equal(device_client_frame(f->client), 0);
		ask(f, &done, &order);
		assert_int_equal(done.at, i);
	}
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_a_screens_frames_are_held_back),
		TEST(test_nothing_is_lost),
		TEST(test_clients),
		TEST(test_without_a_limit),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
