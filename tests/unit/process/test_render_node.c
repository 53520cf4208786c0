/* SPDX-License-Identifier: Apache-2.0 */
#include "process/render_node.h"

#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	return remove(path);
}

static void folder(const char *root, const char *below)
{
	char path[256];

	snprintf(path, sizeof(path), "%s%s", root, below);
	for (char *at = path + strlen(root); (at = strchr(at + 1, '/'));) {
		*at = '\0';
		mkdir(path, 0700);
		*at = '/';
	}
	assert_int_equal(mkdir(path, 0700), 0);
}

static void test_it_is_found_by_its_address(void **state)
{
	static const char gpu[] = "/sys/bus/pci/devices/0000:03:00.0";
	char root[] = "/tmp/vgnXXXXXX", path[128], name[128], wanted[128], ret[RENDER_NODE_MAX];

	assert_non_null(mkdtemp(root));
	snprintf(name, sizeof(name), "%s/pci:0000:03:00.0", root);
	assert_int_equal(render_node_find(name, ret), -ENODEV);
	folder(root, gpu);
	assert_int_equal(render_node_find(name, ret), -ENOENT);
	folder(root, "/sys/bus/pci/devices/0000:03:00.0/drm");
	assert_int_equal(render_node_find(name, ret), -ENOENT);
	folder(root, "/sys/bus/pci/devices/0000:03:00.0/drm/card0");
	folder(root, "/sys/bus/pci/devices/0000:03:00.0/drm/renderD128");
	assert_int_equal(render_node_find(name, ret), 0);
	snprintf(wanted, sizeof(wanted), "%s/dev/dri/renderD128", root);
	assert_string_equal(ret, wanted);
	/* its driver let go and took it again, while another one came */
	snprintf(path, sizeof(path), "%s%s/drm/renderD128", root, gpu);
	assert_int_equal(remove(path), 0);
	folder(root, "/sys/bus/pci/devices/0000:03:00.0/drm/renderD129");
	assert_int_equal(render_node_find(name, ret), 0);
	snprintf(wanted, sizeof(wanted), "%s/dev/dri/renderD129", root);
	assert_string_equal(ret, wanted);
	assert_int_equal(nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

static void test_names(void **state)
{
	static const char *const wrong[] = {"", "renderD128", "pci:", "/pci:", "pci:../../../etc",
		"pci:0000:03:00.0/../x", "pci:..", "pci:00000000000000000000:03:00.0", "x/pci"};
	char ret[RENDER_NODE_MAX];

	assert_int_equal(render_node_find("/dev/dri/renderD7", ret), 0);
	assert_string_equal(ret, "/dev/dri/renderD7");
	assert_int_equal(render_node_find("pci:ffff:ff:1f.7", ret), -ENODEV);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(render_node_find(wrong[i], ret), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_it_is_found_by_its_address),
		cmocka_unit_test(test_names),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
