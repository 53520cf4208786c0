/* SPDX-License-Identifier: Apache-2.0 */

/* Guest memory: tables, the keeper's verdict, files that are cut short. */

#include "front.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static uint64_t add(struct front *f, uint64_t gpa, uint64_t size, uint64_t uva, uint64_t offset)
{
	struct vhost_user_mem_reg reg = {.region = {gpa, size, uva, offset}};
	return front_ack(f, VHOST_USER_ADD_MEM_REG, &reg, 40, f->memory_fd);
}

static uint64_t rem(struct front *f, uint64_t gpa, uint64_t size, uint64_t uva)
{
	struct vhost_user_mem_reg reg = {.region = {gpa, size, uva, 0}};
	return front_ack(f, VHOST_USER_REM_MEM_REG, &reg, 40, -1);
}

static void test_regions_are_checked(void **state)
{
	struct front *f = *state;

	front_negotiate(f, 0);
	assert_int_equal(add(f, 0, 0x10000, FRONT_UVA, 0), 0);
	assert_int_not_equal(add(f, 0x8000, 0x10000, FRONT_UVA + 0x100000, 0), 0); /* gpa overlap */
	assert_int_not_equal(add(f, 0x20000, 0x10000, FRONT_UVA + 0x8000, 0), 0);  /* uva overlap */
	assert_int_not_equal(add(f, 0x20000, 0, FRONT_UVA + 0x100000, 0), 0);
	assert_int_not_equal(add(f, 0x20001, 0x1000, FRONT_UVA + 0x100000, 0), 0);
	assert_int_not_equal(add(f, 0x20000, 0x1001, FRONT_UVA + 0x100000, 0), 0);
	assert_int_not_equal(add(f, 0x20000, 0x1000, FRONT_UVA + 0x100010, 0), 0);
	assert_int_not_equal(add(f, 0x20000, 0x1000, FRONT_UVA + 0x100000, 8), 0);
	assert_int_not_equal(add(f, 0x20000, 2 * FRONT_MEMORY, FRONT_UVA + 0x100000, 0),
		0); /* file is shorter */
	assert_int_not_equal(add(f, 0x20000, 0x1000, FRONT_UVA + 0x100000, FRONT_MEMORY), 0);
	assert_int_not_equal(
		add(f, 0x20000, 0x1000, FRONT_UVA + 0x100000, 0x7ffffffffffff000ull), 0);
	assert_int_not_equal(add(f, 0xfffffffffffff000ull, 0x2000, FRONT_UVA + 0x100000, 0), 0);
	assert_int_not_equal(add(f, 0x20000, 0x2000, 0xfffffffffffff000ull, 0), 0);
	assert_int_equal(f->custody[KEEPER_CUSTODY_MEMORY], 1);
	assert_int_equal(add(f, 0x10000, 0x10000, FRONT_UVA + 0x10000, 0x10000), 0);

	assert_int_not_equal(rem(f, 0x10000, 0x8000, FRONT_UVA + 0x10000), 0);
	assert_int_equal(rem(f, 0x10000, 0x10000, FRONT_UVA + 0x10000), 0);
	assert_int_not_equal(rem(f, 0x10000, 0x10000, FRONT_UVA + 0x10000), 0);
	assert_int_equal(f->released[KEEPER_CUSTODY_MEMORY], 1);
	/* The place is free again. */
	assert_int_equal(add(f, 0x10000, 0x10000, FRONT_UVA + 0x10000, 0x10000), 0);
	assert_false(f->closed);
}

static void test_slots_are_limited(void **state)
{
	struct front *f = *state;

	front_negotiate(f, 0);
	for (unsigned i = 0; i < KEEPER_MAX_MEMORY; i++)
		assert_int_equal(add(f, i * 0x1000, 0x1000, FRONT_UVA + i * 0x1000, 0), 0);
	assert_int_not_equal(add(f, 0x100000, 0x1000, FRONT_UVA + 0x100000, 0), 0);
}

static void test_only_files_can_be_memory(void **state)
{
	struct front *f = *state;
	struct vhost_user_mem_reg reg = {.region = {0, 0x1000, FRONT_UVA, 0}};

	front_negotiate(f, 0);
	assert_int_not_equal(front_ack(f, VHOST_USER_ADD_MEM_REG, &reg, 40, f->call[0]), 0);
	assert_int_not_equal(front_ack(f, VHOST_USER_ADD_MEM_REG, &reg, 40, f->socket), 0);
	assert_int_not_equal(front_ack(f, VHOST_USER_ADD_MEM_REG, &reg, 40, -1), 0);
}

/* What was refused for a region that is taken away again gets another chance. */
static void test_removing_a_region_asks_again(void **state)
{
	struct front *f = *state;

	front_negotiate(f, 0);
	assert_int_equal(add(f, 0, 0x10000, FRONT_UVA, 0), 0);
	uint32_t serial = f->serial;
	assert_int_equal(rem(f, 0, 0x10000, FRONT_UVA), 0);
	assert_int_equal(f->serial, serial + 1);
}

static void test_nothing_is_served_before_the_verdict(void **state)
{
	struct front *f = *state;

	f->silent_keeper = true;
	front_start(f, 0);
	front_request(f, 0, 0, 1);
	front_kick(f, 0);
	assert_int_equal(f->dev.requests, 0);
	vhost_user_memory_verdict(f->vu, f->serial - 1, true, "");
	front_spin(f);
	assert_int_equal(f->dev.requests, 0);
	vhost_user_memory_verdict(f->vu, f->serial, true, "");
	front_spin(f);
	assert_int_equal(f->dev.requests, 1);
	assert_int_equal(front_used_idx(f, 0), 1);
}

static void test_refused_memory_ends_the_connection(void **state)
{
	struct front *f = *state;

	f->refuse_memory = true;
	front_negotiate(f, 0);
	struct vhost_user_mem_reg reg = {.region = {0, 0x1000, FRONT_UVA, 0}};
	front_send(f, VHOST_USER_ADD_MEM_REG, 0, &reg, 40, &f->memory_fd, 1);
	front_expect_closed(f, "taken by another");
}

/* A new table while the rings run: requests in flight finish first, then the rings go on. */
static void test_table_is_replaced_under_running_rings(void **state)
{
	struct front *f = *state;
	struct vhost_user_mem_table table = {.count = 2,
		.regions = {{FRONT_GPA, FRONT_MEMORY, FRONT_UVA, 0},
			{0, 0x1000, FRONT_UVA + 0x10000000, 0}}};
	int fds[2] = {f->memory_fd, f->memory_fd};
	struct front_message m;

	front_start(f, 0);
	f->dev.hold = true;
	front_request(f, 0, 0, 1);
	front_kick(f, 0);
	assert_int_equal(f->dev.requests, 1);
	front_send(f, VHOST_USER_SET_MEM_TABLE, VHOST_USER_FLAG_NEED_REPLY, &table, 8 + 64, fds, 2);
	front_spin(f);
	assert_false(front_receive(f, &m)); /* it waits */
	front_request(f, 0, 1, 2);
	front_kick(f, 0);
	assert_int_equal(f->dev.requests, 1);      /* and so does the ring */
	assert_int_equal(f->dev.changes_begun, 1); /* the first table */
	f->dev.hold = false;
	fake_release(&f->dev, 1);
	front_spin(f);
	assert_true(front_receive(f, &m));
	assert_int_equal(m.payload[0], 0);
	assert_int_equal(f->dev.changes_begun, 2);
	assert_int_equal(f->dev.changes_ended, 2);
	assert_int_equal(f->dev.requests, 2);
	assert_int_equal(front_used_idx(f, 0), 2);
	/* The region that stayed kept its custody. */
	assert_int_equal(f->custody[KEEPER_CUSTODY_MEMORY], 2);
	assert_int_equal(f->released[KEEPER_CUSTODY_MEMORY], 0);
}

static int translate(struct front *f, uint64_t gpa, uint64_t len)
{
	uint64_t range[2] = {gpa, len};

	front_request(f, 0, 0, 1);
	memcpy(f->memory + FRONT_DATA + 8, range, sizeof(range));
	front_kick(f, 0);
	return f->dev.translated;
}

static void test_backings_are_translated(void **state)
{
	struct front *f = *state;

	front_start(f, 0);
	/* Regions that touch: three entries for a range over all of them. */
	assert_int_equal(add(f, FRONT_GPA + FRONT_MEMORY, 0x1000, FRONT_UVA + 0x10000000, 0), 0);
	assert_int_equal(
		add(f, FRONT_GPA + FRONT_MEMORY + 0x1000, 0x1000, FRONT_UVA + 0x20000000, 0), 0);
	assert_int_equal(translate(f, FRONT_GPA, FRONT_MEMORY), 1);
	assert_int_equal(translate(f, FRONT_GPA + 8, FRONT_MEMORY), 2);
	assert_int_equal(translate(f, FRONT_GPA, FRONT_MEMORY + 0x2000), 3);
	assert_int_equal(translate(f, FRONT_GPA, FRONT_MEMORY + 0x2001), -EFAULT);
	assert_int_equal(translate(f, FRONT_GPA - 1, 1), -EFAULT);
	assert_int_equal(translate(f, FRONT_GPA, UINT64_MAX), -EFAULT);
	assert_int_equal(translate(f, UINT64_MAX, 1), -EFAULT);
	assert_int_equal(translate(f, FRONT_GPA, 0), 0);
	for (unsigned i = 2; i < 6; i++)
		assert_int_equal(add(f, FRONT_GPA + FRONT_MEMORY + i * 0x1000, 0x1000,
					 FRONT_UVA + 0x10000000 * (i + 1), 0),
			0);
	assert_int_equal(translate(f, FRONT_GPA + FRONT_MEMORY, 0x6000), -E2BIG);
}

static void test_ring_loses_its_memory(void **state)
{
	struct front *f = *state;

	front_start(f, 0);
	assert_int_equal(rem(f, FRONT_GPA, FRONT_MEMORY, FRONT_UVA), 0);
	assert_int_equal(front_events(f->err[0]), 1);
	front_kick(f, 0);
	assert_false(f->closed);
	assert_int_equal(front_stop_ring(f, 0), 0);
}

static void test_file_is_cut_short_under_the_rings(void **state)
{
	struct front *f = *state;

	guard_install_sigbus_handler(); /* cmocka's own came after the fixture's */
	front_start(f, 0);
	front_request(f, 0, 0, 1);
	assert_int_equal(ftruncate(f->memory_fd, 0), 0);
	uint64_t one = 1;
	assert_int_equal(write(f->kick[0], &one, 8), 8);
	front_expect_closed(f, "cut short");
}

static void test_file_is_cut_short_under_the_data(void **state)
{
	struct front *f = *state;

	guard_install_sigbus_handler(); /* cmocka's own came after the fixture's */
	front_start(f, 0);
	front_request(f, 0, 0, 1);
	assert_int_equal(ftruncate(f->memory_fd, FRONT_DATA), 0);
	uint64_t one = 1;
	assert_int_equal(write(f->kick[0], &one, 8), 8);
	front_expect_closed(f, "cut short");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, front_setup, front_teardown)
	const struct CMUnitTest tests[] = {
		T(test_regions_are_checked),
		T(test_slots_are_limited),
		T(test_only_files_can_be_memory),
		T(test_removing_a_region_asks_again),
		T(test_nothing_is_served_before_the_verdict),
		T(test_refused_memory_ends_the_connection),
		T(test_table_is_replaced_under_running_rings),
		T(test_backings_are_translated),
		T(test_ring_loses_its_memory),
		T(test_file_is_cut_short_under_the_rings),
		T(test_file_is_cut_short_under_the_data),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
