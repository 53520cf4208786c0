/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plans of slices carried out and undone on a constructed tree, by a kernel of our own: it makes
 * and removes mediated devices and virtual functions as the real one does, and refuses what it is
 * told to. What the real one does with the same requests: tests/node/test_mediate.py.
 */
#include "host/change.h"

#include "base/checked.h"
#include "tree.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define UUID   "11111111-2222-4333-8444-555555555555"
#define PF     "0000:41:00.0"
#define VF     "0000:41:00.1"
#define AT     "sys/devices/pci0000:00/"
#define PARENT "sys/devices/virtual/mbochs/"
#define TYPES  PARENT "mdev_supported_types/"

static struct tree tree;

static struct fake {
	struct vfio_kernel ops;
	const char *fails; /* requests whose path ends so */
	int code;
	bool says_yes; /* and does nothing */
	bool no_driver;
	unsigned asked;
} fake;

/* --- the kernel --- */

static bool ends_with(const char *text, const char *end)
{
	size_t n = strlen(text), k = strlen(end);

	return n >= k && !strcmp(text + n - k, end);
}

static void make_mdev(const char *uuid, const char *type)
{
	char path[256], target[256];

	snprintf(path, sizeof(path), PARENT "%s/remove", uuid);
	tree_put(&tree, path, "");
	snprintf(path, sizeof(path), PARENT "%s/mdev_type", uuid);
	snprintf(target, sizeof(target), "../mdev_supported_types/%s", type);
	tree_link(&tree, target, path);
	snprintf(path, sizeof(path), PARENT "%s/iommu_group", uuid);
	tree_link(&tree, "../../../../kernel/iommu_groups/30", path);
	snprintf(path, sizeof(path), PARENT "%s/driver", uuid);
	if (!fake.no_driver)
		tree_link(&tree, "../../../../bus/mdev/drivers/mbochs", path);
	snprintf(path, sizeof(path), "sys/bus/mdev/devices/%s", uuid);
	snprintf(target, sizeof(target), "../../../devices/virtual/mbochs/%s", uuid);
	tree_link(&tree, target, path);
	tree_put(&tree, "dev/vfio/30", "");
}

static void remove_mdev(const char *uuid)
{
	static const char *const parts[] = {"remove", "mdev_type", "iommu_group", "driver", ""};
	char path[256];

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		snprintf(path, sizeof(path), "%s/" PARENT "%s/%s", tree.root, uuid, parts[i]);
		remove(path);
	}
	snprintf(path, sizeof(path), "sys/bus/mdev/devices/%s", uuid);
	tree_delete(&tree, path);
}

static void set_vfs(const char *number)
{
	static const struct tree_pci vf = {
		.address = VF, .vendor = 0x1002, .class = 0x030000, .group = 9};

	int there = pci_open(&tree.roots, VF);

	tree_put(&tree, AT PF "/sriov_numvfs", number);
	if (strcmp(number, "0") != 0) {
		tree_vf(&tree, PF, 0, &vf);
		tree_put(&tree, AT VF "/driver_override", "(null)\n");
	} else if (there >= 0) {
		tree_delete(&tree, AT PF "/virtfn0");
		tree_delete(&tree, "sys/bus/pci/devices/" VF);
	}
	if (there >= 0)
		close(there);
}

static void probe_vf(void)
{
	char text[32] = "";

	int vf = pci_open(&tree.roots, VF);
	assert_true(vf >= 0);
	assert_int_equal(sysfs_read(vf, "driver_override", text, sizeof(text)), 0);
	close(vf);
	if (strcmp(text, "vfio-pci") != 0)
		return;
	tree_link(&tree, "../../../bus/pci/drivers/vfio-pci", AT VF "/driver");
	tree_put(&tree, "dev/vfio/9", "");
}

static int fake_write(void *data, const char *path, const char *text, unsigned limit_ms)
{
	static const char types[] = "/mdev_supported_types/";
	const char *below = path + strlen(tree.root) + 1, *type = strstr(path, types);
	char name[64];

	fake.asked++;
	if (fake.fails && ends_with(path, fake.fails))
		return fake.code;
	if (fake.says_yes)
		return 0;
	if (ends_with(path, "/create")) {
		if (access(path, W_OK) < 0)
			return -errno;
		snprintf(name, sizeof(name), "%.*s", (int)strcspn(type + sizeof(types) - 1, "/"),
			type + sizeof(types) - 1);
		make_mdev(text, name);
	} else if (ends_with(path, "/remove")) {
		remove_mdev(UUID);
	} else if (ends_with(path, "/sriov_numvfs")) {
		set_vfs(text);
	} else if (ends_with(path, "/drivers_probe")) {
		probe_vf();
	} else if (ends_with(path, "/unbind")) {
		tree_delete(&tree, AT VF "/driver");
	} else if (ends_with(path, "/driver_override")) {
		tree_delete(&tree, AT VF "/driver_override");
		tree_put(&tree, AT VF "/driver_override",
			strcmp(text, "\n") != 0 ? text : "(null)\n");
	} else {
		tree_put(&tree, below, text);
	}
	return 0;
}

/* --- the tree --- */

static int set_up(void **state)
{
	static const struct tree_pci pf = {
		.address = PF, .vendor = 0x1002, .class = 0x030000, .driver = "amdgpu", .group = 7};

	tree_make(&tree);
	tree_vfio(&tree);
	tree_pci(&tree, &pf);
	tree_put(&tree, AT PF "/sriov_totalvfs", "4\n");
	tree_put(&tree, AT PF "/sriov_numvfs", "0\n");
	tree_put(&tree, AT PF "/sriov_drivers_autoprobe", "1\n");
	tree_link(&tree, "../../devices/virtual/mbochs", "sys/class/mdev_bus/mbochs");
	tree_put(&tree, TYPES "mbochs-small/create", "");
	tree_put(&tree, TYPES "mbochs-large/create", "");
	tree_put(&tree, "sys/bus/mdev/devices/.keep", "");
	fake = (struct fake){.ops = {.write = fake_write, .data = &fake}};
	return 0;
}

static int tear_down(void **state)
{
	tree_remove(&tree);
	return 0;
}

static struct change_node node(void)
{
	return (struct change_node){.roots = &tree.roots, .kernel = &fake.ops, .limit_ms = 1000};
}

static struct change_plan plan_of(const struct change *list, uint32_t n)
{
	struct change_plan plan = {.count = n};

	memcpy(plan.list, list, n * sizeof(*list));
	for (uint32_t i = 0; i < n; i++)
		assert_true(change_valid(&list[i]));
	return plan;
}

/* Carries it out, or undoes it; the sentence has to be there when it fails. */
static struct change_result act(
	int (*how)(const struct change_node *, const struct change_plan *, struct change_result *),
	const struct change_plan *plan, int code)
{
	struct change_node n = node();
	struct change_result result;

	int r = how(&n, plan, &result);
	if (r != code)
		fail_msg("%d: %s", r, result.sentence);
	assert_int_equal(result.code, code);
	if (r < 0) {
		assert_memory_equal(result.sentence, "delete a: ", 10);
		assert_non_null(strchr(result.sentence, '('));
	}
	return result;
}

static int apply(
	const struct change_node *n, const struct change_plan *plan, struct change_result *ret)
{
	return change_apply(n, plan, "delete a", ret);
}

static int undo(
	const struct change_node *n, const struct change_plan *plan, struct change_result *ret)
{
	return change_undo(n, plan, NULL, "delete a", ret);
}

static void check_says(const struct change_result *result, const char *part)
{
	if (!strstr(result->sentence, part))
		fail_msg("%s", result->sentence);
}

static enum change_verdict look(const struct change *c)
{
	struct change_node n = node();

	return change_look(&n, c, NULL);
}

static const struct change mdev = {
	.kind = CHANGE_MDEV, .subject = "mbochs/mbochs-small/" UUID, .before = "0", .after = "1"};

static const struct change vf_changes[] = {
	{CHANGE_SRIOV_AUTOPROBE, true, PF, "1", "0"},
	{CHANGE_SRIOV_VFS, true, PF, "0", "4"},
	{CHANGE_VFIO, false, VF, "", "vfio-pci"},
};

/* --- tests --- */

static void test_mdev(void **state)
{
	struct change_plan plan = plan_of(&mdev, 1);

	assert_int_equal(look(&mdev), CHANGE_IS_BEFORE);
	assert_int_equal(act(apply, &plan, 0).done, 1);
	assert_int_equal(look(&mdev), CHANGE_IS_AFTER);
	assert_int_equal(act(apply, &plan, 0).done, 0);
	assert_int_equal(fake.asked, 1);
	assert_int_equal(act(undo, &plan, 0).done, 1);
	assert_int_equal(look(&mdev), CHANGE_IS_BEFORE);
	assert_int_equal(act(undo, &plan, 0).done, 0);
	assert_int_equal(fake.asked, 2);
}

/* One of that UUID which is not ours is neither taken nor removed. */
static void test_mdev_of_others(void **state)
{
	struct change_plan plan = plan_of(&mdev, 1);

	make_mdev(UUID, "mbochs-large");
	assert_int_equal(look(&mdev), CHANGE_IS_OTHER);
	struct change_result result = act(apply, &plan, -ESTALE);
	check_says(&result, "is 1 of type mbochs-large, and should be 0");
	result = act(undo, &plan, 0);
	assert_int_equal(result.left, 1);
	assert_int_equal(fake.asked, 0);
	/* The right type, and a parent that is another. */
	remove_mdev(UUID);
	make_mdev(UUID, "mbochs-small");
	tree_put(&tree, "sys/class/mdev_bus/other/mdev_supported_types/mbochs-small/create", "");
	struct change other = mdev;
	snprintf(other.subject, sizeof(other.subject), "other/mbochs-small/" UUID);
	assert_int_equal(look(&other), CHANGE_IS_OTHER);
	tree_delete(&tree, "sys/class/mdev_bus/mbochs");
	assert_int_equal(look(&mdev), CHANGE_IS_GONE);
}

static void test_mdev_held(void **state)
{
	struct change_plan plan = plan_of(&mdev, 1);

	act(apply, &plan, 0);
	tree_process(&tree, 812, "qemu-system-x86\n", (const char *[]){"/dev/vfio/30", NULL});
	struct change_result result = act(undo, &plan, -EBUSY);
	check_says(&result, "PID 812 (qemu-system-x86) has /dev/vfio/30 open (end that first)");
	assert_int_equal(look(&mdev), CHANGE_IS_AFTER);
	assert_int_equal(fake.asked, 1);
}

/* Its file stays the VM's, too: nothing is undone then. */
static void test_held_stays_whole(void **state)
{
	struct change list[] = {mdev, {.kind = CHANGE_OWNER, .subject = UUID}};

	snprintf(list[1].after, sizeof(list[1].after), "%u:%u:0640", geteuid(), getegid());
	struct change_plan plan = plan_of(list, 2);
	act(apply, &plan, 0);
	tree_process(&tree, 812, "qemu\n", (const char *[]){"/dev/vfio/30", NULL});
	act(undo, &plan, -EBUSY);
	assert_int_equal(look(&plan.list[1]), CHANGE_IS_AFTER);
	tree_delete(&tree, "proc/812/fd/3");
	struct change_result result = act(undo, &plan, 0);
	assert_int_equal(result.done, 2);
	assert_int_equal(result.left, 0);
}

/* Its own file, which kernels from 6.6 have, holds it as well. */
static void test_mdev_held_by_its_own_file(void **state)
{
	struct change_plan plan = plan_of(&mdev, 1);

	act(apply, &plan, 0);
	tree_put(&tree, PARENT UUID "/vfio-dev/vfio3/dev", "");
	tree_process(&tree, 812, "qemu\n", (const char *[]){"/dev/vfio/devices/vfio3", NULL});
	struct change_result result = act(undo, &plan, -EBUSY);
	check_says(&result, "has /dev/vfio/devices/vfio3 open");
}

/* A device that no driver takes is no vGPU, and ours to remove. */
static void test_mdev_without_driver(void **state)
{
	struct change_plan plan = plan_of(&mdev, 1);

	fake.no_driver = true;
	struct change_result result = act(apply, &plan, -EIO);
	check_says(&result, "is 1 without a driver, though the kernel was asked for 1");
	assert_int_equal(look(&mdev), CHANGE_IS_HALF);
	assert_int_equal(act(undo, &plan, 0).done, 1);
	assert_int_equal(look(&mdev), CHANGE_IS_BEFORE);
}

static void test_vf(void **state)
{
	struct change_plan plan = plan_of(vf_changes, 3);

	assert_int_equal(look(&vf_changes[2]), CHANGE_IS_GONE);
	struct change_result result = act(apply, &plan, 0);
	assert_int_equal(result.done, 3);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(look(&vf_changes[i]), CHANGE_IS_AFTER);
	result = act(undo, &plan, 0);
	assert_int_equal(result.done, 3);
	assert_int_equal(result.left, 0);
	assert_int_equal(look(&vf_changes[0]), CHANGE_IS_BEFORE);
	assert_int_equal(look(&vf_changes[1]), CHANGE_IS_BEFORE);
}

/* VFs that another vGPU, or somebody else, has stay enabled. */
static void test_vfs_stay(void **state)
{
	static const bool keep[] = {true, true, false};
	struct change_plan plan = plan_of(vf_changes, 3), pf = plan_of(vf_changes, 2);
	struct change_node n = node();
	struct change_result result;

	act(apply, &plan, 0);
	assert_int_equal(change_undo(&n, &plan, keep, "delete a", &result), 0);
	assert_int_equal(result.done, 1);
	assert_int_equal(look(&vf_changes[1]), CHANGE_IS_AFTER);
	tree_link(&tree, "../../../bus/pci/drivers/amdgpu", AT VF "/driver");
	result = act(undo, &pf, 0);
	assert_int_equal(result.left, 1);
	check_says(&result, "VF " VF " has the driver amdgpu, which vgpud did not give it");
	assert_int_equal(look(&vf_changes[1]), CHANGE_IS_AFTER);
	tree_process(&tree, 77, "vmm\n", (const char *[]){"/dev/vfio/9", NULL});
	result = act(undo, &pf, 0);
	check_says(&result, "VF " VF ": PID 77 (vmm) has /dev/vfio/9 open");
	assert_int_equal(look(&vf_changes[1]), CHANGE_IS_AFTER);
}

static void test_nvidia(void **state)
{
	static const struct change type = {
		.kind = CHANGE_NVIDIA_TYPE, .subject = VF, .before = "0", .after = "1414"};
	struct change_plan plan = plan_of(&type, 1);

	set_vfs("4");
	assert_int_equal(look(&type), CHANGE_IS_GONE); /* its driver is not loaded */
	tree_put(&tree, AT VF "/nvidia/current_vgpu_type", "0\n");
	act(apply, &plan, 0);
	assert_int_equal(look(&type), CHANGE_IS_AFTER);
	tree_process(&tree, 5, "qemu\n", (const char *[]){"/dev/vfio/9", NULL});
	struct change_result result = act(undo, &plan, -EBUSY);
	check_says(&result, "take away the vGPU on " VF ": PID 5 (qemu)");
	tree_delete(&tree, "proc/5/fd/3");
	act(undo, &plan, 0);
	assert_int_equal(look(&type), CHANGE_IS_BEFORE);
	tree_put(&tree, AT VF "/nvidia/current_vgpu_type", "1428\n");
	assert_int_equal(look(&type), CHANGE_IS_OTHER);
	assert_int_equal(act(undo, &plan, 0).left, 1);
}

static void test_xe(void **state)
{
	static const char file[] = AT PF "/sriov_admin/vf1/profile/exec_quantum_ms";
	static const struct change profile = {.kind = CHANGE_XE_PROFILE,
		.subject = PF "/vf1/exec_quantum_ms",
		.before = "0",
		.after = "10"};
	static const struct change priority = {.kind = CHANGE_XE_PROFILE,
		.subject = PF "/pf/sched_priority",
		.before = "low",
		.after = "high"};
	struct change_plan plan = plan_of(&profile, 1);

	assert_int_equal(look(&profile), CHANGE_IS_GONE);
	tree_put(&tree, file, "0\n");
	act(apply, &plan, 0);
	assert_int_equal(look(&profile), CHANGE_IS_AFTER);
	tree_put(&tree, file, "12\n"); /* rounded by the driver */
	assert_int_equal(look(&profile), CHANGE_IS_AFTER);
	tree_put(&tree, file, "20\n");
	assert_int_equal(look(&profile), CHANGE_IS_OTHER);
	tree_put(&tree, file, "9\n");
	assert_int_equal(look(&profile), CHANGE_IS_OTHER);
	tree_put(&tree, file, "10\n");
	act(undo, &plan, 0);
	assert_int_equal(look(&profile), CHANGE_IS_BEFORE);
	tree_put(&tree, AT PF "/sriov_admin/pf/profile/sched_priority", "low normal [high]\n");
	assert_true(change_valid(&priority));
	assert_int_equal(look(&priority), CHANGE_IS_AFTER);
}

/* Each request that fails, and what people read. */
static const struct {
	enum change_kind kind;
	bool undo;
	const char *fails;
	int code;
	const char *says;
} sayings[] = {
	{CHANGE_MDEV, false, "/create", EEXIST, "of that UUID is there already"},
	{CHANGE_MDEV, false, "/create", ENOSPC, "types may share one pool"},
	{CHANGE_MDEV, false, "/create", EUSERS, "as many as it can have"},
	{CHANGE_MDEV, false, "/create", ENOENT, "offers no such type"},
	{CHANGE_MDEV, false, "/create", EINVAL, "refuses the UUID or the type"},
	{CHANGE_MDEV, false, "/create", EACCES, "run vgpud as root"},
	{CHANGE_MDEV, false, "/create", EROFS, "sysfs is read-only here"},
	{CHANGE_MDEV, false, "/create", ETIMEDOUT, "does not come to an end"},
	{CHANGE_MDEV, true, "/remove", ETIMEDOUT, "the request stands"},
	{CHANGE_MDEV, true, "/remove", EAGAIN, "it is in use"},
	{CHANGE_SRIOV_VFS, false, "/sriov_numvfs", ENOENT, "it has no driver"},
	{CHANGE_SRIOV_VFS, false, "/sriov_numvfs", ERANGE, "fewer virtual functions"},
	{CHANGE_SRIOV_VFS, false, "/sriov_numvfs", EBUSY, "changes it only from 0"},
	{CHANGE_SRIOV_VFS, false, "/sriov_numvfs", ENOMEM, "pci=realloc"},
	{CHANGE_SRIOV_VFS, false, "/sriov_numvfs", EINVAL, "refuses that number"},
	{CHANGE_SRIOV_VFS, false, "/sriov_numvfs", EIO, "does not enable them"},
	{CHANGE_SRIOV_VFS, false, "/sriov_numvfs", ETIMEDOUT, "does not come to an end"},
	{CHANGE_SRIOV_VFS, true, "/sriov_numvfs", ETIMEDOUT, "opened one meanwhile"},
	{CHANGE_SRIOV_VFS, true, "/sriov_numvfs", EBUSY, "one of them is in use"},
	{CHANGE_SRIOV_VFS, true, "/sriov_numvfs", EPERM, "with a virtual machine"},
	{CHANGE_SRIOV_AUTOPROBE, false, "_autoprobe", ENOENT, "does not offer it"},
	{CHANGE_SRIOV_AUTOPROBE, true, "_autoprobe", EACCES, "run vgpud as root"},
	{CHANGE_NVIDIA_TYPE, false, "/current_vgpu_type", EINVAL, "creatable_vgpu_types"},
	{CHANGE_NVIDIA_TYPE, false, "/current_vgpu_type", ENOSPC, "no room for another"},
	{CHANGE_NVIDIA_TYPE, false, "/current_vgpu_type", EIO, "nvidia-vgpu-mgr"},
	{CHANGE_NVIDIA_TYPE, false, "/current_vgpu_type", EEXIST, "has a type already"},
	{CHANGE_NVIDIA_TYPE, true, "/current_vgpu_type", EBUSY, "end the VM that has it"},
	{CHANGE_NVIDIA_TYPE, true, "/current_vgpu_type", ETIMEDOUT, "does not come to an end"},
	{CHANGE_XE_PROFILE, false, "/exec_quantum_ms", EINVAL, "does not take that value"},
	{CHANGE_XE_PROFILE, false, "/exec_quantum_ms", EPERM, "hardware or firmware"},
	{CHANGE_XE_PROFILE, false, "/exec_quantum_ms", EOPNOTSUPP, "only the PF's"},
	{CHANGE_XE_PROFILE, true, "/exec_quantum_ms", EIO, "its firmware refuses it"},
};

static void test_sayings(void **state)
{
	const struct change list[] = {mdev, vf_changes[0], vf_changes[1],
		{.kind = CHANGE_NVIDIA_TYPE, .subject = VF, .before = "0", .after = "1414"},
		{.kind = CHANGE_XE_PROFILE,
			.subject = PF "/vf1/exec_quantum_ms",
			.before = "0",
			.after = "10"}};
	bool undone_first = false;

	for (size_t i = 0; i < ARRAY_SIZE(sayings); i++) {
		size_t k = 0;
		while (list[k].kind != sayings[i].kind)
			k++;
		struct change_plan plan = plan_of(&list[k], 1);
		if (list[k].kind == CHANGE_NVIDIA_TYPE) {
			set_vfs("4");
			tree_put(&tree, AT VF "/nvidia/current_vgpu_type", "0\n");
		}
		tree_put(&tree, AT PF "/sriov_admin/vf1/profile/exec_quantum_ms", "0\n");
		fake.fails = NULL;
		if (sayings[i].undo)
			act(apply, &plan, 0);
		fake.fails = sayings[i].fails;
		fake.code = -sayings[i].code;
		struct change_result result =
			act(sayings[i].undo ? undo : apply, &plan, -sayings[i].code);
		check_says(&result, sayings[i].says);
		fake.fails = NULL;
		act(undo, &plan, 0);
		set_vfs("0");
		undone_first |= sayings[i].undo;
	}
	assert_true(undone_first);
}

/* A kernel that says yes and does nothing is not believed. */
static void test_yes_is_not_enough(void **state)
{
	struct change_plan plan = plan_of(&mdev, 1), vfs = plan_of(vf_changes, 2);

	fake.says_yes = true;
	struct change_result result = act(apply, &plan, -EIO);
	check_says(&result, "though the kernel was asked for 1");
	act(apply, &vfs, -EIO);
}

/* Rows as the store could have them after somebody wrote to it. */
static void test_malformed(void **state)
{
	static const struct change bad[] = {
		{CHANGE_MDEV, false, "mbochs/mbochs-small/" UUID, "0", "0"},
		{CHANGE_MDEV, false, "mbochs/mbochs-small/" UUID, "2", "1"},
		{CHANGE_MDEV, false, "mbochs/mbochs-small/11111111", "0", "1"},
		{CHANGE_MDEV, false, "mbochs/a/b/" UUID, "0", "1"},
		{CHANGE_MDEV, false, "../mbochs-small/" UUID, "0", "1"},
		{CHANGE_MDEV, false, "mbochs/../" UUID, "0", "1"},
		{CHANGE_MDEV, false, "/x/" UUID, "0", "1"},
		{CHANGE_MDEV, false, "a b/x/" UUID, "0", "1"},
		{CHANGE_MDEV, false, "a/x/ABCDEFAB-2222-4333-8444-555555555555", "0", "1"},
		{CHANGE_MDEV, false, UUID, "0", "1"},
		{CHANGE_SRIOV_VFS, false, PF, "0", "0"},
		{CHANGE_SRIOV_VFS, false, PF, "2", "4"},
		{CHANGE_SRIOV_VFS, false, PF, "0", "65536"},
		{CHANGE_SRIOV_VFS, false, PF, "0", "04"},
		{CHANGE_SRIOV_VFS, false, "../x", "0", "4"},
		{CHANGE_SRIOV_AUTOPROBE, false, PF, "0", "2"},
		{CHANGE_SRIOV_AUTOPROBE, false, "41:00.0", "0", "1"},
		{CHANGE_NVIDIA_TYPE, false, VF, "0", "0"},
		{CHANGE_NVIDIA_TYPE, false, VF, "0", "-1"},
		{CHANGE_NVIDIA_TYPE, false, VF, "", "4"},
		{CHANGE_XE_PROFILE, false, PF "/vf0/exec_quantum_ms", "0", "4"},
		{CHANGE_XE_PROFILE, false, PF "/vf1/../exec_quantum_ms", "0", "4"},
		{CHANGE_XE_PROFILE, false, PF "/vf1/stop", "0", "1"},
		{CHANGE_XE_PROFILE, false, PF "/xx/exec_quantum_ms", "0", "4"},
		{CHANGE_XE_PROFILE, false, PF "/vf1/exec_quantum_ms", "0", "4294967296"},
		{CHANGE_XE_PROFILE, false, PF "/pf/sched_priority", "low", "highest"},
		{CHANGE_XE_PROFILE, false, "pf/sched_priority", "low", "high"},
		{CHANGE_XE_PROFILE, false, PF "/vf65536/exec_quantum_ms", "0", "4"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (change_valid(&bad[i]))
			fail_msg("%s %s>%s", bad[i].subject, bad[i].before, bad[i].after);
	}
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		T(test_mdev),
		T(test_mdev_of_others),
		T(test_mdev_held),
		T(test_held_stays_whole),
		T(test_mdev_held_by_its_own_file),
		T(test_mdev_without_driver),
		T(test_vf),
		T(test_vfs_stay),
		T(test_nvidia),
		T(test_xe),
		T(test_sayings),
		T(test_yes_is_not_enough),
		T(test_malformed),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
