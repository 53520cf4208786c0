/* SPDX-License-Identifier: Apache-2.0 */
#include "process/stash.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

static int numbered_fd(unsigned number)
{
	int fd = eventfd(number, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_true(fd >= 0);
	return fd;
}

static uint64_t number_of(int fd)
{
	uint64_t number = 0;
	assert_int_equal(read(fd, &number, sizeof(number)), sizeof(number));
	close(fd);
	return number;
}

static void put(struct stash *stash, uint32_t kind, uint32_t index, uint64_t a, unsigned number)
{
	const struct keeper_custody what = {.kind = kind, .index = index, .a = a, .b = number};
	assert_int_equal(stash_put(stash, &what, numbered_fd(number)), 0);
}

static void test_found_by_kind_index_and_key(void **state)
{
	struct stash stash = {0};
	struct keeper_custody what;

	for (unsigned i = 1; i <= 200; i++)
		put(&stash, KEEPER_CUSTODY_SHARED, i % 7, i, i);
	put(&stash, KEEPER_CUSTODY_KICK, 1, 0, 500);
	put(&stash, KEEPER_CUSTODY_WIRE, 3, 0, 501);
	for (unsigned i = 200; i >= 1; i--) {
		what = (struct keeper_custody){
			.kind = KEEPER_CUSTODY_SHARED, .index = i % 7, .a = i};
		int fd = stash_take(&stash, &what);
		assert_int_equal(what.b, i);
		assert_int_equal(number_of(fd), i);
		assert_int_equal(stash_take(&stash, &what), -ENOENT);
	}
	what = (struct keeper_custody){.kind = KEEPER_CUSTODY_SHARED, .index = 1, .a = 2};
	assert_int_equal(stash_take(&stash, &what), -ENOENT);
	/* Where a kind has no key, what was asked for says nothing of `a`. */
	what = (struct keeper_custody){.kind = KEEPER_CUSTODY_KICK, .index = 1, .a = 99};
	assert_int_equal(number_of(stash_take(&stash, &what)), 500);
	what = (struct keeper_custody){.kind = KEEPER_CUSTODY_WIRE, .index = 3};
	assert_int_equal(number_of(stash_dup(&stash, &what)), 501);
	stash_finish(&stash);
}

static void test_what_nobody_took_is_closed(void **state)
{
	struct stash stash = {0};
	const struct keeper_custody what = {.kind = KEEPER_CUSTODY_CALL};
	int fd = numbered_fd(1);

	assert_int_equal(stash_put(&stash, &what, fd), 0);
	struct keeper_custody asked = what;
	int copy = stash_dup(&stash, &asked);
	assert_true(copy >= 0 && copy != fd);
	stash_finish(&stash);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	assert_int_equal(number_of(copy), 1);
	assert_int_equal(stash_take(&stash, &asked), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_found_by_kind_index_and_key),
		cmocka_unit_test(test_what_nobody_took_is_closed),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
