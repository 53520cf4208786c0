/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes of a node and their undoing, on a constructed tree with a kernel of our own: cut off at
 * each request, made by somebody else, gone; whose a VFIO file is; the plan of a whole GPU.
 */
#include "host/change.h"

#include "host/plan.h"
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

#define GPU   "0000:03:00.0"
#define SOUND "0000:03:00.1"
#define AT    "sys/devices/pci0000:00/"

static struct tree tree;
static unsigned asked, dies_at; /* 0: never */

static const char *native_of(const char *address)
{
	return strcmp(address, GPU) == 0 ? "amdgpu" : "snd_hda_intel";
}

static void read_file(const char *address, const char *name, char *ret, size_t size)
{
	int dir = pci_open(&tree.roots, address);

	assert_true(dir >= 0);
	assert_int_equal(sysfs_read(dir, name, ret, size), 0);
	close(dir);
}

static void bind_to(const char *address, const char *driver)
{
	char target[128], path[128];

	snprintf(target, sizeof(target), "../../../bus/pci/drivers/%s", driver);
	snprintf(path, sizeof(path), AT "%s/driver", address);
	tree_link(&tree, target, path);
	if (!strcmp(driver, "vfio-pci"))
		tree_put(&tree, "dev/vfio/7", "");
}

static int fake_write(void *data, const char *path, const char *text, unsigned limit_ms)
{
	char address[PCI_ADDRESS_MAX], override[32], file[128];
	const char *at = strstr(path, "/devices/");

	if (dies_at && ++asked >= dies_at)
		return -EINTR;
	snprintf(address, sizeof(address), "%.12s", at ? at + strlen("/devices/") : text);
	if (strstr(path, "/driver_override")) {
		snprintf(file, sizeof(file), AT "%s/driver_override", address);
		tree_put(&tree, file, strcmp(text, "\n") != 0 ? text : "(null)\n");
	} else if (strstr(path, "/driver/unbind")) {
		snprintf(file, sizeof(file), AT "%s/driver", address);
		tree_delete(&tree, file);
	} else {
		read_file(address, "driver_override", override, sizeof(override));
		bind_to(address, strcmp(override, "(null)") != 0 ? override : native_of(address));
	}
	return 0;
}

static const struct vfio_kernel kernel = {.write = fake_write};
static struct change_node node;
static struct change_plan plan;

static int set_up(void **state)
{
	static const struct tree_pci functions[] = {{.address = GPU,
							    .vendor = 0x1002,
							    .class = 0x030000,
							    .driver = "amdgpu",
							    .group = 7},
		{.address = SOUND,
			.vendor = 0x1002,
			.class = 0x040300,
			.driver = "snd_hda_intel",
			.group = 7}};

	asked = dies_at = 0;
	tree_make(&tree);
	tree_vfio(&tree);
	for (size_t i = 0; i < 2; i++) {
		tree_pci(&tree, &functions[i]);
		tree_putf(&tree, "(null)\n", AT "%s/driver_override", functions[i].address);
	}
	node = (struct change_node){.roots = &tree.roots, .kernel = &kernel, .limit_ms = 1000};
	plan = (struct change_plan){.count = 3,
		.list = {{.kind = CHANGE_VFIO,
				 .subject = GPU,
				 .before = "amdgpu",
				 .after = "vfio-pci"},
			{.kind = CHANGE_VFIO,
				.subject = SOUND,
				.before = "snd_hda_intel",
				.after = "vfio-pci"},
			{.kind = CHANGE_OWNER, .subject = GPU}}};
	/* Who runs this may be nobody: then the file can be given to nobody else. */
	snprintf(
		plan.list[2].after, sizeof(plan.list[2].after), "%u:%u:0640", geteuid(), getegid());
	for (size_t i = 0; i < plan.count; i++)
		assert_true(change_valid(&plan.list[i]));
	return 0;
}

static int tear_down(void **state)
{
	tree_remove(&tree);
	return 0;
}

static void check_before(void)
{
	char now[CHANGE_VALUE_MAX];

	for (size_t i = 0; i < 2; i++) {
		read_file(plan.list[i].subject, "driver_override", now, sizeof(now));
		assert_string_equal(now, "(null)");
		assert_int_equal(change_look(&node, &plan.list[i], now), CHANGE_IS_BEFORE);
	}
}

static void test_there_and_back(void **state)
{
	struct change_result r;

	assert_int_equal(change_apply(&node, &plan, "t", &r), 0);
	assert_int_equal(r.done, 3);
	assert_int_equal(change_check(&node, &plan, "t", &r), 0);
	assert_int_equal(change_apply(&node, &plan, "t", &r), 0);
	assert_int_equal(r.done, 0); /* it was all there */
	assert_int_equal(change_undo(&node, &plan, NULL, "t", &r), 0);
	assert_int_equal(r.done, 3);
	assert_int_equal(r.left, 0);
	check_before();
	assert_int_equal(change_undo(&node, &plan, NULL, "t", &r), 0);
	assert_int_equal(r.done, 0);
}

/* Whoever makes the requests is gone from the N-th on, and then another undoes, or goes on. */
static void test_cut_off_anywhere(void **state)
{
	struct change_result r;
	bool reached = true;

	for (unsigned at = 1; reached; at++) {
		for (int undoing = 0; undoing < 2; undoing++) {
			if (undoing)
				assert_int_equal(change_apply(&node, &plan, "t", &r), 0);
			asked = 0;
			dies_at = at;
			if (undoing)
				change_undo(&node, &plan, NULL, "t", &r);
			else
				change_apply(&node, &plan, "t", &r);
			reached = asked >= at;
			dies_at = 0;
			if (at % 2) /* finished first, or undone from there */
				assert_int_equal(change_apply(&node, &plan, "t", &r), 0);
			assert_int_equal(change_undo(&node, &plan, NULL, "t", &r), 0);
			assert_int_equal(r.left, 0);
			check_before();
		}
	}
}

static void test_half_way_is_told_from_others(void **state)
{
	char now[CHANGE_VALUE_MAX];

	tree_put(&tree, AT GPU "/driver_override", "vfio-pci\n");
	assert_int_equal(change_look(&node, &plan.list[0], now), CHANGE_IS_HALF);
	tree_delete(&tree, AT GPU "/driver");
	assert_int_equal(change_look(&node, &plan.list[0], now), CHANGE_IS_HALF);
	bind_to(GPU, "nouveau");
	assert_int_equal(change_look(&node, &plan.list[0], now), CHANGE_IS_OTHER);
	assert_string_equal(now, "nouveau");
	tree_delete(&tree, "sys/bus/pci/devices/" GPU);
	assert_int_equal(change_look(&node, &plan.list[0], now), CHANGE_IS_GONE);
}

static void test_what_others_did_stays(void **state)
{
	struct change_result r;

	assert_int_equal(change_apply(&node, &plan, "t", &r), 0);
	bind_to(SOUND, "pci-stub");
	assert_int_equal(change_check(&node, &plan, "t", &r), -ESTALE);
	assert_non_null(strstr(r.sentence, "the driver of " SOUND " is pci-stub"));
	assert_int_equal(change_undo(&node, &plan, NULL, "t", &r), 0);
	assert_int_equal(r.left, 1);
	assert_non_null(strstr(r.sentence, "pci-stub"));
	assert_int_equal(change_look(&node, &plan.list[0], NULL), CHANGE_IS_BEFORE);
	assert_int_equal(change_look(&node, &plan.list[1], NULL), CHANGE_IS_OTHER);
	assert_int_equal(change_apply(&node, &plan, "t", &r), -ESTALE);
}

static void test_a_hand_made_binding_is_not_undone(void **state)
{
	struct change_result r;

	bind_to(GPU, "vfio-pci");
	strcpy(plan.list[0].before, "vfio-pci");
	change_plan_settle(&node, &plan);
	assert_string_not_equal(plan.list[2].before, "");
	assert_int_equal(change_apply(&node, &plan, "t", &r), 0);
	assert_int_equal(change_undo(&node, &plan, NULL, "t", &r), 0);
	char now[CHANGE_VALUE_MAX];
	change_look(&node, &plan.list[0], now);
	assert_string_equal(now, "vfio-pci");
	change_look(&node, &plan.list[2], now);
	assert_string_equal(now, plan.list[2].before);
}

static void test_one_that_had_no_driver_has_none_again(void **state)
{
	struct change_result r;
	char now[CHANGE_VALUE_MAX] = "?";

	tree_delete(&tree, AT SOUND "/driver");
	plan.list[1].before[0] = '\0';
	assert_int_equal(change_apply(&node, &plan, "t", &r), 0);
	assert_int_equal(change_undo(&node, &plan, NULL, "t", &r), 0);
	assert_int_equal(change_look(&node, &plan.list[1], now), CHANGE_IS_BEFORE);
	assert_string_equal(now, "");
}

static void test_the_file_is_no_link(void **state)
{
	char target[128];
	struct stat before, after;
	struct change_result r;

	tree_put(&tree, "secret", "x");
	snprintf(target, sizeof(target), "%s/secret", tree.root);
	chmod(target, 0600);
	assert_int_equal(stat(target, &before), 0);
	bind_to(GPU, "vfio-pci");
	tree_delete(&tree, "dev/vfio/7");
	tree_link(&tree, target, "dev/vfio/7");
	struct change_plan owner = {.count = 1, .list = {plan.list[2]}};
	assert_true(change_apply(&node, &owner, "t", &r) < 0);
	assert_int_equal(stat(target, &after), 0);
	assert_int_equal(after.st_mode, before.st_mode);
}

static void is_half(const char *path, const struct change *c, gid_t gid, mode_t mode)
{
	assert_int_equal(chown(path, 1234, gid), 0);
	assert_int_equal(chmod(path, mode), 0);
	assert_int_equal(change_look(&node, c, NULL), CHANGE_IS_HALF);
}

/* Its user may change its mode and its group, and is to have it no more or as planned all the same:
 * where there was no file before, where there was one that was somebody's, and his own already. */
static void test_what_its_user_did_to_the_file(void **state)
{
	static const struct {
		mode_t mode;
		gid_t gid;
	} did[] = {{0666, 1235}, {0, 1235}, {0600, 4321}, {04660, 4321}, {0600, 0}};
	static const char *const befores[] = {"", "77:78:0600", "1234:1235:0660"};
	struct change_plan owner = {.count = 1, .list = {plan.list[2]}};
	struct change *c = owner.list;
	char path[128], now[CHANGE_VALUE_MAX];
	struct change_result r;

	if (geteuid() != 0)
		skip();
	bind_to(GPU, "vfio-pci");
	snprintf(path, sizeof(path), "%s/dev/vfio/7", tree.root);
	strcpy(c->after, "1234:1235:0600");
	for (size_t i = 0; i < sizeof(befores) / sizeof(*befores); i++) {
		snprintf(c->before, sizeof(c->before), "%s", befores[i]);
		for (size_t k = 0; k < sizeof(did) / sizeof(*did); k++) {
			is_half(path, c, did[k].gid, did[k].mode);
			assert_int_equal(change_apply(&node, &owner, "t", &r), 0);
			change_look(&node, c, now);
			assert_string_equal(now, c->after);
			is_half(path, c, did[k].gid, did[k].mode);
			assert_int_equal(change_undo(&node, &owner, NULL, "t", &r), 0);
			assert_int_equal(r.left, 0);
			change_look(&node, c, now);
			assert_string_equal(now, c->before[0] ? c->before : "0:0:0600");
		}
	}
	/* Another's is left, and so is the kernel's own. */
	assert_int_equal(chown(path, 99, 1235), 0);
	snprintf(c->before, sizeof(c->before), "77:78:0600");
	assert_int_equal(change_look(&node, c, now), CHANGE_IS_OTHER);
	assert_int_equal(chown(path, 0, 0), 0);
	assert_int_equal(chmod(path, 0600), 0);
	c->before[0] = '\0';
	assert_int_equal(change_look(&node, c, now), CHANGE_IS_BEFORE);
}

/* --- a device's own file --- */

#define OWN AT GPU "/vfio-dev/vfio3"

static struct change_plan own_plan(void)
{
	struct change_plan own = {.count = 1, .list = {plan.list[2]}};

	own.list[0].kind = CHANGE_CDEV;
	assert_true(change_valid(&own.list[0]));
	return own;
}

static mode_t mode_of(const char *file)
{
	char path[128];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", tree.root, file);
	assert_int_equal(stat(path, &st), 0);
	return st.st_mode & 07777u;
}

/* From 6.1 on VFIO's devices have a folder, and without CONFIG_VFIO_DEVICE_CDEV no number. */
static void test_a_kernel_without_own_files(void **state)
{
	static const char *const there[] = {"", OWN "/uevent", AT GPU "/vfio-dev/other/dev"};
	struct change_plan own = own_plan();
	struct change_result r;
	char now[CHANGE_VALUE_MAX];

	/* One of that name is not this device's. */
	tree_put(&tree, "dev/vfio/devices/vfio3", "");
	mode_t before = mode_of("dev/vfio/devices/vfio3");
	for (size_t i = 0; i < sizeof(there) / sizeof(*there); i++) {
		if (there[i][0])
			tree_put(&tree, there[i], "");
		change_plan_settle(&node, &own);
		assert_string_equal(own.list[0].before, "");
		assert_int_equal(change_look(&node, &own.list[0], now), CHANGE_IS_AFTER);
		assert_string_equal(now, "");
		assert_int_equal(change_apply(&node, &own, "t", &r), 0);
		assert_int_equal(change_check(&node, &own, "t", &r), 0);
		assert_int_equal(change_undo(&node, &own, NULL, "t", &r), 0);
		assert_int_equal(r.done + r.left, 0);
		if (there[i][0])
			tree_delete(&tree, AT GPU "/vfio-dev");
	}
	assert_int_equal(mode_of("dev/vfio/devices/vfio3"), before);
}

static void test_its_own_file_there_and_back(void **state)
{
	struct change_plan own = own_plan();
	struct change_result r;

	tree_put(&tree, OWN "/dev", "511:3\n");
	assert_int_equal(change_apply(&node, &own, "t", &r), 0); /* no such file yet */
	assert_int_equal(r.done, 0);
	tree_put(&tree, "dev/vfio/devices/vfio3", "");
	tree_put(&tree, "dev/vfio/devices/vfio4", "");
	mode_t other = mode_of("dev/vfio/devices/vfio4");
	assert_int_equal(change_apply(&node, &own, "t", &r), 0);
	assert_int_equal(r.done, 1);
	assert_int_equal(mode_of("dev/vfio/devices/vfio3"), 0640);
	assert_int_equal(change_check(&node, &own, "t", &r), 0);
	assert_int_equal(change_undo(&node, &own, NULL, "t", &r), 0);
	assert_int_equal(r.done, 1);
	assert_int_equal(mode_of("dev/vfio/devices/vfio3"), 0600);
	assert_int_equal(mode_of("dev/vfio/devices/vfio4"), other);
}

static void test_its_own_file_is_no_link(void **state)
{
	struct change_plan own = own_plan();
	struct change_result r;

	tree_put(&tree, OWN "/dev", "511:3\n");
	tree_put(&tree, "secret", "x");
	tree_put(&tree, "elsewhere/vfio3", "x");
	mode_t secret = mode_of("secret"), elsewhere = mode_of("elsewhere/vfio3");
	tree_link(&tree, "../../../secret", "dev/vfio/devices/vfio3");
	assert_true(change_apply(&node, &own, "t", &r) < 0);
	tree_delete(&tree, "dev/vfio/devices");
	tree_link(&tree, "../../elsewhere", "dev/vfio/devices");
	assert_true(change_apply(&node, &own, "t", &r) < 0);
	assert_int_equal(mode_of("secret"), secret);
	assert_int_equal(mode_of("elsewhere/vfio3"), elsewhere);
}

static void test_malformed(void **state)
{
	static const struct change bad[] = {
		{.kind = CHANGE_KIND_COUNT, .subject = GPU, .before = "a", .after = "vfio-pci"},
		{.kind = CHANGE_VFIO, .subject = "../../x", .before = "a", .after = "vfio-pci"},
		{.kind = CHANGE_VFIO, .subject = GPU, .before = "a/b", .after = "vfio-pci"},
		{.kind = CHANGE_VFIO, .subject = GPU, .before = "a", .after = "amdgpu"},
		{.kind = CHANGE_OWNER, .subject = GPU, .after = "0:0:4755"},
		{.kind = CHANGE_OWNER, .subject = GPU, .after = "0:0:0666"},
		{.kind = CHANGE_OWNER, .subject = GPU, .after = "0:0"},
		{.kind = CHANGE_OWNER, .subject = GPU, .after = " 0:0:0600"},
		{.kind = CHANGE_OWNER, .subject = GPU, .after = "4294967295:0:0600"},
		{.kind = CHANGE_OWNER, .subject = "7", .after = "0:0:0600"},
		{.kind = CHANGE_CDEV, .subject = "vfio3", .after = "0:0:0600"},
		{.kind = CHANGE_CDEV, .subject = GPU, .after = ""},
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_false(change_valid(&bad[i]));
	for (int i = 0; i < CHANGE_KIND_COUNT; i++)
		assert_int_equal(change_kind_from_word(change_kind_word(i)), i);
	assert_int_equal(change_kind_from_word("x"), CHANGE_KIND_COUNT);
}

static void test_plan_of_a_whole_gpu(void **state)
{
	struct host_facts *facts = calloc(1, sizeof(*facts));
	const struct plan_owner owner = {1000, 1001, 0660};
	struct change_plan made;
	struct error err;

	assert_true(tree_facts(&tree, "gpu-03:00.0", facts));
	facts->use.root = true;
	assert_int_equal(plan_passthrough(facts, &owner, "t", &made, &err), 0);
	assert_int_equal(made.count, 5);
	assert_string_equal(made.device, GPU);
	assert_string_equal(made.list[1].before, "snd_hda_intel");
	assert_string_equal(made.list[2].after, "1000:1001:0660");
	for (size_t i = 3; i < made.count; i++) {
		assert_int_equal(made.list[i].kind, CHANGE_CDEV);
		assert_string_equal(made.list[i].subject, i == 3 ? GPU : SOUND);
		assert_string_equal(made.list[i].after, "1000:1001:0660");
	}
	for (size_t i = 0; i < made.count; i++)
		assert_true(change_valid(&made.list[i]));
	facts->sriov.num_vfs = 2;
	assert_int_equal(plan_passthrough(facts, &owner, "t", &made, &err), -EBUSY);
	assert_non_null(strstr(err.text, "virtual functions are enabled"));
	free(facts);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		T(test_there_and_back),
		T(test_cut_off_anywhere),
		T(test_half_way_is_told_from_others),
		T(test_what_others_did_stays),
		T(test_a_hand_made_binding_is_not_undone),
		T(test_one_that_had_no_driver_has_none_again),
		T(test_the_file_is_no_link),
		T(test_what_its_user_did_to_the_file),
		T(test_a_kernel_without_own_files),
		T(test_its_own_file_there_and_back),
		T(test_its_own_file_is_no_link),
		T(test_malformed),
		T(test_plan_of_a_whole_gpu),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
