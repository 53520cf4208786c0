/* SPDX-License-Identifier: Apache-2.0 */
/* KSM on constructed trees: what is read, what is written, and what is refused with which words. */
#include "host/ksm.h"
#include "tree.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB 1048576ull
#define AT  "sys/kernel/mm/ksm/"

static struct tree tree;
static struct ksm ksm;
static struct error err;

static int set_up(void **state)
{
	tree_make(&tree);
	return 0;
}

static int tear_down(void **state)
{
	tree_remove(&tree);
	return 0;
}

static void put(const char *run, const char *shared, const char *sharing)
{
	tree_put(&tree, AT "run", run);
	tree_put(&tree, AT "pages_to_scan", "100\n");
	tree_put(&tree, AT "sleep_millisecs", "20\n");
	tree_put(&tree, AT "pages_shared", shared);
	tree_put(&tree, AT "pages_sharing", sharing);
	tree_put(&tree, AT "merge_across_nodes", "1\n");
}

static int set(enum ksm_run run, uint64_t available)
{
	return ksm_switch(&tree.roots, &vfio_kernel_real, run, available, 100 * MIB, "overcommit",
		&ksm, &err);
}

static void test_read(void **state)
{
	put("1\n", "300\n", "512\n");
	ksm_read(&tree.roots, &ksm);
	assert_int_equal(ksm.code, 0);
	assert_int_equal(ksm.run, KSM_RUNNING);
	assert_int_equal(ksm.pages_to_scan, 100);
	assert_int_equal(ksm.pages_shared, 300);
	assert_int_equal(ksm.merge_across_nodes, 1);
	assert_int_equal(ksm.use_zero_pages, KSM_UNSAID);
	assert_int_equal(ksm_saved_bytes(&ksm), 512ull * (uint64_t)sysconf(_SC_PAGESIZE));
	tree_put(&tree, AT "pages_sharing", "18446744073709551614\n");
	ksm_read(&tree.roots, &ksm);
	assert_int_equal(ksm_saved_bytes(&ksm), 0);
	tree_put(&tree, AT "run", "perhaps\n");
	ksm_read(&tree.roots, &ksm);
	assert_int_equal(ksm.code, -EBADMSG);
}

static void test_none(void **state)
{
	ksm_read(&tree.roots, &ksm);
	assert_int_equal(ksm.code, -ENOENT);
	assert_int_equal(set(KSM_RUNNING, 0), -ENOENT);
	assert_string_equal(
		err.text, "overcommit: this kernel has no KSM (use one built with CONFIG_KSM)");
}

static void test_on_and_off(void **state)
{
	put("0\n", "0\n", "0\n");
	assert_int_equal(set(KSM_RUNNING, 0), 0);
	assert_int_equal(ksm.run, KSM_RUNNING);
	assert_int_equal(set(KSM_RUNNING, 0), 0); /* again */
	assert_int_equal(set(KSM_UNMERGED, 100 * MIB), 0);
	assert_int_equal(ksm.run, KSM_UNMERGED);
}

/* 256 MiB saved and 100 to stay free need 356. */
static void test_unmerging_needs_memory(void **state)
{
	put("1\n", "0\n", "65536\n");
	assert_int_equal(set(KSM_UNMERGED, 355 * MIB), -EBUSY);
	assert_string_equal(err.text,
		"overcommit: KSM saves 256 MiB, which would be needed again, and of 355 MiB "
		"available 100 shall stay free (end a VM, or add memory or swap)");
	ksm_read(&tree.roots, &ksm);
	assert_int_equal(ksm.run, KSM_RUNNING);
	assert_int_equal(set(KSM_UNMERGED, 356 * MIB), 0);
	/* Stopping without unmerging needs nothing. */
	put("1\n", "0\n", "65536\n");
	assert_int_equal(set(KSM_STOPPED, 0), 0);
}

/* The kernel took the write and does something else. */
static void test_does_not_show(void **state)
{
	put("1\n", "0\n", "0\n");
	char path[256];
	snprintf(path, sizeof(path), "%s/" AT "run", tree.root);
	unlink(path);
	assert_int_equal(symlink("/dev/null", path), 0);
	assert_int_equal(set(KSM_RUNNING, 0), -ELOOP);
	unlink(path);
	assert_int_equal(mkdir(path, 0755), 0);
	assert_int_equal(set(KSM_RUNNING, 0), -EISDIR);
	rmdir(path);
}

static void test_not_root(void **state)
{
	bool root = geteuid() == 0;

	put("0\n", "0\n", "0\n");
	char path[256];
	snprintf(path, sizeof(path), "%s/" AT "run", tree.root);
	assert_int_equal(chmod(path, 0444), 0);
	assert_int_equal(chmod(tree.root, 0755), 0);
	assert_int_equal(root ? seteuid(65534) : 0, 0);
	int r = set(KSM_RUNNING, 0);
	assert_int_equal(root ? seteuid(0) : 0, 0);
	assert_int_equal(r, -EACCES);
	assert_string_equal(err.text,
		"overcommit: /sys/kernel/mm/ksm/run: vgpud's user may not (run vgpud as root)");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_read, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_none, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_on_and_off, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_unmerging_needs_memory, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_does_not_show, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_not_root, set_up, tear_down),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("ksm", tests, NULL, NULL);
}
