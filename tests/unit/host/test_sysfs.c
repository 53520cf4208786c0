/* SPDX-License-Identifier: Apache-2.0 */
/* Reading with bounds: whatever lies there, a value or a reason comes back, and soon. */
#include "tree.h"

#include "base/checked.h"
#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static struct tree tree;
static int folder = -1;
static int read_error; /* what reading a file gives; 0: what is in it */

ssize_t __real_read(int fd, void *buf, size_t size);
ssize_t __wrap_read(int fd, void *buf, size_t size);

ssize_t __wrap_read(int fd, void *buf, size_t size)
{
	if (!read_error)
		return __real_read(fd, buf, size);
	errno = read_error;
	return -1;
}

static int set_up(void **state)
{
	tree_make(&tree);
	folder = sysfs_open(AT_FDCWD, tree.root);
	return folder < 0;
}

static int tear_down(void **state)
{
	close_fd(&folder);
	tree_remove(&tree);
	read_error = 0;
	return 0;
}

static int put_bytes(const char *name, const void *bytes, size_t n)
{
	cleanup_close int fd = openat(folder, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	return fd >= 0 && write(fd, bytes, n) == (ssize_t)n ? 0 : -1;
}

static void test_values(void **state)
{
	char text[16];
	uint64_t number;

	tree_put(&tree, "a", "  vfio-pci \t\n\n");
	assert_int_equal(sysfs_read(folder, "a", text, sizeof(text)), 0);
	assert_string_equal(text, "  vfio-pci");
	tree_put(&tree, "a", "");
	assert_int_equal(sysfs_read(folder, "a", text, sizeof(text)), 0);
	assert_string_equal(text, "");
	assert_int_equal(sysfs_read(folder, "none", text, sizeof(text)), -ENOENT);
	tree_put(&tree, "a", "0x10de\n");
	assert_int_equal(sysfs_number(folder, "a", 16, 0xffff, &number), 0);
	assert_int_equal(number, 0x10de);
	assert_int_equal(sysfs_number(folder, "a", 16, 0xfff, &number), -EBADMSG);
	for (const char **p = (const char *[]){"", "\n", "-1\n", "4 4\n", "4x",
		     "99999999999999999999", "+4", "0x\n", NULL};
		*p; p++) {
		tree_put(&tree, "a", *p);
		assert_int_equal(sysfs_number(folder, "a", 10, UINT64_MAX, &number), -EBADMSG);
	}
}

static void test_what_is_no_value(void **state)
{
	static char huge[1 << 20];
	char text[64];

	memset(huge, 'x', sizeof(huge) - 1);
	assert_int_equal(put_bytes("huge", huge, sizeof(huge) - 1), 0);
	assert_int_equal(sysfs_read(folder, "huge", text, sizeof(text)), -EFBIG);
	assert_string_equal(text, "");
	assert_int_equal(put_bytes("nul", "a\0b", 3), 0);
	assert_int_equal(sysfs_read(folder, "nul", text, sizeof(text)), -EINVAL);
	assert_string_equal(text, "");
	tree_put(&tree, "folder/x", "");
	assert_int_equal(sysfs_read(folder, "folder", text, sizeof(text)), -EISDIR);
	tree_link(&tree, "nul", "link");
	assert_int_equal(sysfs_read(folder, "link", text, sizeof(text)), -ELOOP);
	/* these two would wait for ever, or never end */
	assert_int_equal(mkfifoat(folder, "fifo", 0644), 0);
	assert_int_equal(sysfs_read(folder, "fifo", text, sizeof(text)), -EINVAL);
	tree_link(&tree, "/dev", "dev-link");
	assert_int_equal(sysfs_read(folder, "dev-link/zero", text, sizeof(text)), -EINVAL);
	/* exactly full is too much: the end must be seen */
	assert_int_equal(put_bytes("full", huge, sizeof(text)), 0);
	assert_int_equal(sysfs_read(folder, "full", text, sizeof(text)), -EFBIG);
	assert_int_equal(put_bytes("fits", huge, sizeof(text) - 1), 0);
	assert_int_equal(sysfs_read(folder, "fits", text, sizeof(text)), 0);
	assert_int_equal(put_bytes("odd", "a\x1b[31m\xff\x7f", 8), 0);
	assert_int_equal(sysfs_read(folder, "odd", text, sizeof(text)), 0);
	assert_string_equal(text, "a?[31m??");
}

static void test_a_driver_that_refuses(void **state)
{
	static const int codes[] = {
		EIO, ENODEV, ENXIO, EACCES, EBUSY, ETIMEDOUT, EOPNOTSUPP, EINVAL};
	struct sysfs_troubles troubles = {0};
	char text[64], name[16];

	tree_put(&tree, "a", "text");
	for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
		read_error = codes[i];
		snprintf(name, sizeof(name), "a%zu", i);
		tree_put(&tree, name, "text");
		sysfs_want(folder, name, text, sizeof(text), &troubles);
		read_error = 0;
		assert_string_equal(text, "");
		assert_true(sysfs_troubled(&troubles, name));
		assert_int_equal(troubles.list[i].code, -codes[i]);
		/* people read a sentence, not a number */
		assert_string_not_equal(sysfs_why(-codes[i]), "");
		assert_string_not_equal(sysfs_remedy(-codes[i]), "");
	}
	assert_string_not_equal(sysfs_why(-EIO), sysfs_why(-EACCES));
	assert_string_equal(sysfs_why(-12345), sysfs_why(-EXDEV)); /* the row for all others */
	/* what is not there is no trouble, and one file is one trouble */
	size_t count = troubles.count;
	sysfs_want(folder, "none", text, sizeof(text), &troubles);
	sysfs_trouble(&troubles, "a0", -EIO);
	assert_int_equal(troubles.count, count);
	for (unsigned i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "many%u", i);
		sysfs_trouble(&troubles, name, -EIO);
	}
	assert_int_equal(troubles.count, SYSFS_TROUBLES_MAX);
}

static void test_links(void **state)
{
	char text[16], target[64] = "../";

	tree_link(&tree, "../../../bus/pci/drivers/vfio-pci", "driver");
	assert_int_equal(sysfs_link(folder, "driver", text, sizeof(text)), 0);
	assert_string_equal(text, "vfio-pci");
	tree_link(&tree, "alone", "driver");
	assert_int_equal(sysfs_link(folder, "driver", text, sizeof(text)), 0);
	assert_string_equal(text, "alone");
	memset(target + 3, 'x', 32);
	tree_link(&tree, target, "driver");
	assert_int_equal(sysfs_link(folder, "driver", text, sizeof(text)), -EFBIG);
	assert_string_equal(text, "");
	tree_put(&tree, "file", "");
	assert_int_equal(sysfs_link(folder, "file", text, sizeof(text)), -EINVAL);
}

static void test_lists(void **state)
{
	cleanup_names struct sysfs_names names = {0};
	char path[160];

	for (unsigned i = 0; i < 40; i++) {
		snprintf(path, sizeof(path), "list/virtfn%u", i);
		tree_put(&tree, path, "");
	}
	assert_int_equal(sysfs_list(folder, "list", &names), 0);
	assert_int_equal(names.count, 40);
	assert_false(names.more);
	assert_string_equal(names.name[2], "virtfn2"); /* by value, not by letter */
	assert_string_equal(names.name[10], "virtfn10");
	sysfs_names_free(&names);
	memcpy(path, "list/", 5);
	memset(path + 5, 'n', 100);
	path[105] = '\0';
	tree_put(&tree, path, "");
	tree_put(&tree, "list/with\nnewline", "");
	assert_int_equal(sysfs_list(folder, "list", &names), 0);
	assert_int_equal(names.count, 40);
	assert_true(names.more);
	sysfs_names_free(&names);
	assert_int_equal(sysfs_list(folder, "none", &names), -ENOENT);
	assert_int_equal(sysfs_list(folder, "list/virtfn1", &names), -ENOTDIR);
	assert_null(names.name);
}

static void test_too_long_a_list(void **state)
{
	cleanup_names struct sysfs_names names = {0};
	char path[64];

	assert_int_equal(mkdirat(folder, "list", 0755), 0);
	for (unsigned i = 0; i < SYSFS_LIST_MAX + 5; i++) {
		snprintf(path, sizeof(path), "list/%u", i);
		assert_int_equal(mknodat(folder, path, S_IFREG | 0644, 0), 0);
	}
	assert_int_equal(sysfs_list(folder, "list", &names), 0);
	assert_int_equal(names.count, SYSFS_LIST_MAX);
	assert_true(names.more);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_values, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_what_is_no_value, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_driver_that_refuses, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_links, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_lists, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_too_long_a_list, set_up, tear_down),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
