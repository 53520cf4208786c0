/* SPDX-License-Identifier: Apache-2.0 */
/* Drivers are asked by a thread of its own, and one that hangs keeps nobody waiting. */
#include "base/clock.h"
#include "control/slice_usage.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define MS      1000000ull
#define LIMIT_S 10

/* The driver, instead of host/drm_usage.c: what a process used is the number of its descriptor. */
bool __wrap_drm_usage_read(const struct drm_usage *usage, uint64_t *ret_ns);

static struct {
	bool hangs, asked; /* atomic */
} driver;

struct told {
	uint32_t id;
	uint64_t used_ns; /* atomic; 0: nothing yet */
};

static void pass(void)
{
	nanosleep(&(struct timespec){.tv_nsec = MS}, NULL);
}

bool __wrap_drm_usage_read(const struct drm_usage *usage, uint64_t *ret_ns)
{
	__atomic_store_n(&driver.asked, true, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&driver.hangs, __ATOMIC_SEQ_CST))
		pass();
	*ret_ns = (uint64_t)usage->fds[0];
	return true;
}

static void on_told(void *data, uint32_t id, uint64_t used_ns)
{
	struct told *told = data;

	assert_int_equal(id, told->id);
	__atomic_store_n(&told->used_ns, used_ns, __ATOMIC_SEQ_CST);
}

static struct drm_usage usage_make(void)
{
	struct drm_usage usage = {.fds = {open("/dev/null", O_RDONLY | O_CLOEXEC)}, .n = 1};

	assert_true(usage.fds[0] > 0);
	return usage;
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

/* Asks until an answer comes. */
static uint64_t ask(struct slice_usage *u, struct told *told)
{
	uint64_t end = clock_ns() + LIMIT_S * 1000 * MS, used = 0;

	__atomic_store_n(&told->used_ns, 0, __ATOMIC_SEQ_CST);
	slice_usage_ask(u);
	while (!used && clock_ns() < end) {
		pass();
		used = __atomic_load_n(&told->used_ns, __ATOMIC_SEQ_CST);
	}
	return used;
}

static void hang(bool hangs)
{
	__atomic_store_n(&driver.asked, false, __ATOMIC_SEQ_CST);
	__atomic_store_n(&driver.hangs, hangs, __ATOMIC_SEQ_CST);
}

static void until_asked(struct slice_usage *u)
{
	uint64_t end = clock_ns() + LIMIT_S * 1000 * MS;

	slice_usage_ask(u);
	while (!__atomic_load_n(&driver.asked, __ATOMIC_SEQ_CST) && clock_ns() < end)
		pass();
	assert_true(__atomic_load_n(&driver.asked, __ATOMIC_SEQ_CST));
}

static void test_answers(void **state)
{
	struct drm_usage one = usage_make(), other = usage_make(), none = {0};
	struct told told = {.id = 7};
	struct slice_usage *u;

	hang(false);
	assert_int_equal(slice_usage_create(on_told, &told, &u), 0);
	assert_int_equal(slice_usage_set(u, 7, &one), 0);
	assert_int_equal(ask(u, &told), one.fds[0]);
	assert_int_equal(slice_usage_set(u, 7, &other), 0);
	assert_false(is_open(one.fds[0]));
	assert_int_equal(ask(u, &told), other.fds[0]);
	assert_int_equal(slice_usage_set(u, 7, &none), 0);
	assert_false(is_open(other.fds[0]));
	slice_usage_destroy(u);
	slice_usage_destroy(NULL);
	slice_usage_ask(NULL);
}

static void test_a_driver_that_hangs(void **state)
{
	struct drm_usage one = usage_make(), other = usage_make();
	struct told told = {.id = 7};
	struct slice_usage *u;

	hang(true);
	assert_int_equal(slice_usage_create(on_told, &told, &u), 0);
	assert_int_equal(slice_usage_set(u, 7, &one), 0);
	until_asked(u);
	uint64_t began = clock_ns();
	assert_int_equal(slice_usage_set(u, 7, &other), 0);
	slice_usage_ask(u);
	assert_true(clock_ns() - began < 500 * MS);
	/* It is in the driver's hands until that answers, which nobody wants to know any more. */
	assert_true(is_open(one.fds[0]));
	hang(false);
	assert_int_equal(ask(u, &told), other.fds[0]);
	assert_false(is_open(one.fds[0]));
	slice_usage_destroy(u);
}

static void test_one_that_hangs_for_ever(void **state)
{
	struct drm_usage one = usage_make();
	struct told told = {.id = 7};
	static struct slice_usage *volatile left_behind; /* for a leak check to find */
	struct slice_usage *u;

	hang(true);
	assert_int_equal(slice_usage_create(on_told, &told, &u), 0);
	assert_int_equal(slice_usage_set(u, 7, &one), 0);
	until_asked(u);
	left_behind = u;
	uint64_t began = clock_ns();
	slice_usage_destroy(u);
	assert_true(clock_ns() - began < 3000 * MS);
	hang(false);
	for (unsigned i = 0; i < 1000 && is_open(one.fds[0]); i++)
		pass();
	assert_false(is_open(one.fds[0]));
	assert_int_equal(told.used_ns, 0);
	assert_non_null(left_behind);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_a_driver_that_hangs),
		cmocka_unit_test(test_one_that_hangs_for_ever),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
