/* SPDX-License-Identifier: Apache-2.0 */
/* The node's memory as an account: what fits, what does not, and no sum that wraps. */
#include "control/ledger.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MIB (1ull << 20)

static struct ledger ledger;
static struct error err;

static void begin(uint64_t physical, uint64_t available, uint64_t keep_free)
{
	ledger_finish(&ledger);
	ledger_init(&ledger, &(struct ledger_node){physical, available, keep_free});
}

static int put(
	enum ledger_kind kind, bool reserves, const char *name, uint64_t bytes, uint64_t missing)
{
	struct ledger_entry entry = {
		.kind = kind, .reserves = reserves, .bytes = bytes, .missing = missing};

	snprintf(entry.name, sizeof(entry.name), "%s", name);
	return ledger_put(&ledger, &entry);
}

static int fits(const char *name, uint64_t bytes, uint64_t missing)
{
	return ledger_fits(&ledger, name, bytes, missing, "reserve", &err);
}

static void test_sums(void **state)
{
	begin(1000 * MIB, 800 * MIB, 100 * MIB);
	assert_int_equal(put(LEDGER_VM, false, "plain", 700 * MIB, 0), 0);
	assert_int_equal(put(LEDGER_VGPU, true, "vgpu", 200 * MIB, 50 * MIB), 0);
	assert_int_equal(put(LEDGER_PASSTHROUGH, true, "pt", 200 * MIB, 0), 0);
	assert_int_equal(ledger.known, 1100 * MIB);
	assert_int_equal(ledger.reserved, 400 * MIB);
	assert_int_equal(ledger.missing, 50 * MIB);
	assert_int_equal(ledger_overcommitted(&ledger), 100 * MIB);
	/* Replaced, also by another kind. */
	assert_int_equal(put(LEDGER_VGPU, true, "vgpu", 200 * MIB, 0), 0);
	assert_int_equal(put(LEDGER_VM, false, "pt", 20 * MIB, 0), 0);
	assert_int_equal(ledger.n, 3);
	assert_int_equal(ledger.known, 920 * MIB);
	assert_int_equal(ledger.reserved, 200 * MIB);
	assert_int_equal(ledger.missing, 0);
	assert_int_equal(ledger_overcommitted(&ledger), 0);
	ledger_drop(&ledger, "nobody");
	ledger_drop(&ledger, "plain");
	ledger_drop(&ledger, "vgpu");
	ledger_drop(&ledger, "pt");
	assert_int_equal(ledger.n + ledger.known + ledger.reserved, 0);
	assert_null(ledger_find(&ledger, "pt"));
}

static void test_physical_memory_ends_it(void **state)
{
	begin(1000 * MIB, 1000 * MIB, 100 * MIB);
	assert_int_equal(put(LEDGER_VGPU, true, "a", 500 * MIB, 0), 0);
	assert_int_equal(fits("b", 400 * MIB, 0), 0);
	assert_int_equal(fits("b", 401 * MIB, 0), -ENOMEM);
	assert_non_null(strstr(err.text, "reserve: its 401 MiB, 500 MiB reserved by others and 100 "
					 "MiB to stay free are more than the node's 1000 MiB"));
	/* What it has already is its own. */
	assert_int_equal(fits("a", 900 * MIB, 0), 0);
	/* Who is only known does not count here. */
	assert_int_equal(put(LEDGER_VM, false, "c", 5000 * MIB, 0), 0);
	assert_int_equal(fits("b", 400 * MIB, 0), 0);
}

static void test_available_memory_ends_it(void **state)
{
	begin(1000 * MIB, 300 * MIB, 100 * MIB);
	assert_int_equal(fits("b", 800 * MIB, 200 * MIB), 0); /* it is resident mostly */
	assert_int_equal(fits("b", 800 * MIB, 201 * MIB), -ENOMEM);
	assert_non_null(strstr(err.text, "201 MiB of its 800 are not resident yet"));
	/* What is promised and not there yet counts against those who come later. */
	assert_int_equal(put(LEDGER_VGPU, true, "a", 150 * MIB, 150 * MIB), 0);
	assert_int_equal(fits("b", 60 * MIB, 60 * MIB), -ENOMEM);
	assert_non_null(strstr(err.text, "150 MiB are promised to others"));
	assert_int_equal(fits("b", 50 * MIB, 50 * MIB), 0);
	assert_int_equal(fits("a", 200 * MIB, 200 * MIB), 0);
}

static void test_reserve(void **state)
{
	begin(1000 * MIB, 1000 * MIB, 100 * MIB);
	assert_int_equal(
		ledger_reserve(&ledger, LEDGER_PASSTHROUGH, "pt", 600 * MIB, "start pt", &err), 0);
	assert_int_equal(
		ledger_reserve(&ledger, LEDGER_MEDIATED, "m", 400 * MIB, "start m", &err), -ENOMEM);
	assert_int_equal(strncmp(err.text, "start m: ", 9), 0);
	assert_null(ledger_find(&ledger, "m"));
	assert_int_equal(ledger_find(&ledger, "pt")->missing, 600 * MIB);
	assert_int_equal(ledger_reserve(&ledger, LEDGER_MEDIATED, "", MIB, "start", &err), -EINVAL);
}

static void test_nothing_wraps(void **state)
{
	begin(UINT64_MAX, UINT64_MAX, 0);
	assert_int_equal(put(LEDGER_VM, false, "a", UINT64_MAX, 0), 0);
	assert_int_equal(put(LEDGER_VM, false, "b", 1, 0), -EOVERFLOW);
	assert_int_equal(ledger.n, 1);
	assert_int_equal(put(LEDGER_VM, false, "a", 5, 0), 0);
	assert_int_equal(put(LEDGER_VGPU, true, "b", UINT64_MAX - 5, 0), 0);
	assert_int_equal(fits("c", UINT64_MAX, 0), -ENOMEM);
	assert_int_equal(fits("c", 5, 0), 0);
	begin(1000, 1000, 10);
	assert_int_equal(fits("c", UINT64_MAX, UINT64_MAX), -ENOMEM);
	assert_int_equal(fits("c", 10, UINT64_MAX), -ENOMEM);
	assert_int_equal(put(LEDGER_VGPU, true, "c", 10, 11), -EINVAL);
	assert_int_equal(put(LEDGER_VM, false, "c", 10, 1), -EINVAL);
	assert_int_equal(put(LEDGER_KIND_COUNT, false, "c", 10, 0), -EINVAL);
	assert_int_equal(put(LEDGER_VM, false, "", 10, 0), -EINVAL);
}

static void test_many(void **state)
{
	char name[32];

	begin(1000 * MIB, 1000 * MIB, 0);
	for (int i = 0; i < LEDGER_ENTRIES_MAX; i++) {
		snprintf(name, sizeof(name), "vm%d", i);
		assert_int_equal(put(LEDGER_VM, false, name, MIB, 0), 0);
	}
	assert_int_equal(put(LEDGER_VM, false, "more", MIB, 0), -ENOSPC);
	assert_int_equal(put(LEDGER_VM, false, "vm7", 2 * MIB, 0), 0);
	assert_int_equal(ledger.known, (LEDGER_ENTRIES_MAX + 1) * MIB);
	ledger_finish(&ledger);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sums),
		cmocka_unit_test(test_physical_memory_ends_it),
		cmocka_unit_test(test_available_memory_ends_it),
		cmocka_unit_test(test_reserve),
		cmocka_unit_test(test_nothing_wraps),
		cmocka_unit_test(test_many),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("ledger", tests, NULL, NULL);
}
