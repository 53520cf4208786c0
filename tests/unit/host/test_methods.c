/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every condition of the table: a node on which a GPU can be given away or drawn on, changed in one
 * respect at a time, says that and nothing else that it did not say before.
 */
#include "tree.h"

#include "base/checked.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define GPU "sys/devices/pci0000:00/0000:03:00.0/"

static struct host_facts *facts;
static struct tree tree;

static int set_up(void **state)
{
	static const struct tree_pci gpu = {.address = "0000:03:00.0",
		.vendor = 0x1002,
		.device = 0x73bf,
		.class = 0x030000,
		.driver = "amdgpu",
		.resource = "0x00000000e0000000 0x00000000efffffff 0x000000000014220c\n",
		.reset_method = "flr bus\n",
		.group = 7};

	facts = calloc(1, sizeof(*facts));
	tree_make(&tree);
	tree_vfio(&tree);
	tree_pci(&tree, &gpu);
	tree_drm(&tree, gpu.address, "card0");
	tree_drm(&tree, gpu.address, "renderD128");
	return facts ? 0 : -1;
}

static int tear_down(void **state)
{
	tree_remove(&tree);
	free(facts);
	return 0;
}

/* What one change to the node's files is. */
struct step {
	enum { END, WRITE, DELETE, LINK } what;
	const char *path, *text;
};

#define W(path, text)                                                                              \
	{                                                                                          \
		WRITE, path, text                                                                  \
	}
#define D(path)                                                                                    \
	{                                                                                          \
		DELETE, path, NULL                                                                 \
	}
#define L(path, text)                                                                              \
	{                                                                                          \
		LINK, path, text                                                                   \
	}
#define MDEV  "sys/class/mdev_bus/0000:03:00.0/mdev_supported_types/"
#define GROUP "sys/kernel/iommu_groups/7/devices/"
#define OTHER "sys/devices/pci0000:00/0000:04:00.0/"

static const struct change {
	const char *condition;
	enum host_method method;
	bool forbids;
	const char *says;
	struct step steps[6];
} changes[] = {
	{"unreadable", HOST_PASSTHROUGH, true, "iommu_group: it says what cannot be",
		{L(GPU "iommu_group", "../../../kernel/iommu_groups/none")}},
	{"unreadable", HOST_MEDIATE, true, "sriov_totalvfs: it is a folder",
		{W(GPU "sriov_totalvfs/x", "")}},
	{"power-error", HOST_FORWARD, true, "does not answer",
		{W(GPU "power/runtime_status", "error\n")}},
	{"no-driver", HOST_FORWARD, true, "no driver",
		{D(GPU "driver"), D(GPU "drm"), D("sys/class/drm/renderD128"),
			D("sys/class/drm/card0")}},
	{"only-driver", HOST_FORWARD, true, "only the driver snd_dummy",
		{D(GPU "driver"), D(GPU "drm"), D("sys/class/drm/renderD128"),
			D("sys/class/drm/card0"), W(GPU "driver_override", "snd_dummy\n")}},
	{"set-aside", HOST_FORWARD, true, "vfio-pci keeps it",
		{L(GPU "driver", "../../../bus/pci/drivers/vfio-pci"), D(GPU "drm"),
			D("sys/class/drm/renderD128"), D("sys/class/drm/card0")}},
	{"no-render-node", HOST_FORWARD, true, "driver bochs-drm gives it no render node",
		{L(GPU "driver", "../../../bus/pci/drivers/bochs-drm"),
			D("sys/class/drm/renderD128"), D(GPU "drm/renderD128")}},
	{"render-node-missing", HOST_FORWARD, true, "renderD128 is not there",
		{D("dev/dri/renderD128")}},
	{"no-slices", HOST_MEDIATE, true, "no SR-IOV", {{END}}},
	{"pf-undriven", HOST_MEDIATE, true, "need its driver",
		{W(GPU "sriov_totalvfs", "4\n"), W(GPU "sriov_numvfs", "0\n"), D(GPU "driver"),
			D("sys/class/drm/renderD128")}},
	{"pf-on-vfio", HOST_MEDIATE, true, "with the driver vfio-pci",
		{W(GPU "sriov_totalvfs", "4\n"), W(GPU "sriov_numvfs", "0\n"),
			L(GPU "driver", "../../../bus/pci/drivers/vfio-pci"),
			D("sys/class/drm/renderD128")}},
	{"vfs-not-enabled", HOST_MEDIATE, false, "none of its 4",
		{W(GPU "sriov_totalvfs", "4\n"), W(GPU "sriov_numvfs", "0\n")}},
	{"vfs-autoprobed", HOST_MEDIATE, false, "as soon as",
		{W(GPU "sriov_totalvfs", "4\n"), W(GPU "sriov_numvfs", "0\n"),
			W(GPU "sriov_drivers_autoprobe", "1\n")}},
	{"mdev-exhausted", HOST_MEDIATE, true, "there are 1",
		{W(MDEV "small/available_instances", "0\n"),
			W(MDEV "small/devices/83b8f4f2-509f-382f-3c1e-e6bfe0fa1001/x", "")}},
	{"types-exhausted", HOST_MEDIATE, true, "1 of them have one",
		{W(GPU "sriov_totalvfs", "1\n"), W(GPU "sriov_numvfs", "1\n"),
			L(GPU "virtfn0", "../0000:03:00.1"),
			W("sys/bus/pci/devices/0000:03:00.1/nvidia/creatable_vgpu_types",
				"ID    : vGPU Name\n"),
			W("sys/bus/pci/devices/0000:03:00.1/nvidia/current_vgpu_type", "1414\n")}},
	{"iommu-missing", HOST_PASSTHROUGH, true, "firmware shows no IOMMU",
		{D("sys/kernel/iommu_groups/7"), D(GPU "iommu_group"),
			D("sys/firmware/acpi/tables/DMAR")}},
	{"iommu-disabled", HOST_PASSTHROUGH, true, "started with intel_iommu=off",
		{D("sys/kernel/iommu_groups/7"), D(GPU "iommu_group"),
			W("proc/cmdline", "quiet intel_iommu=on intel_iommu=off")}},
	{"iommu-unused", HOST_PASSTHROUGH, true, "kernel does not use it",
		{D("sys/kernel/iommu_groups/7"), D(GPU "iommu_group")}},
	{"no-group", HOST_PASSTHROUGH, true, "behind none",
		{D(GPU "iommu_group"), D(GROUP "0000:03:00.0")}},
	{"no-interrupt-remapping", HOST_PASSTHROUGH, true, "EPERM",
		{W("sys/class/iommu/dmar0/intel-iommu/ecap", "f050d2\n")}},
	{"group-shared", HOST_PASSTHROUGH, true, "7 is shared with 0000:04:00.0 (ahci)",
		{W(OTHER "class", "0x010601\n"), L(OTHER "driver", "../x/ahci"),
			L(GROUP "0000:04:00.0", "../../../../devices/pci0000:00/0000:04:00.0")}},
	{"group-unknown", HOST_PASSTHROUGH, true, "group 7",
		{D("sys/kernel/iommu_groups/7/devices")}},
	{"companions", HOST_PASSTHROUGH, false, "0000:03:00.1 (snd_hda_intel)",
		{W(GROUP "0000:03:00.1/class", "0x040300\n"),
			L(GROUP "0000:03:00.1/driver", "../x/snd_hda_intel")}},
	{"boot-console", HOST_PASSTHROUGH, true, "(fb0)",
		{W("sys/class/vtconsole/vtcon1/name", "(M) frame buffer device\n"),
			W("sys/class/vtconsole/vtcon1/bind", "1\n"), W(GPU "graphics/fb0/name", ""),
			L("sys/class/graphics/fb0/device", "../../../0000:03:00.0")}},
	{"boot-vga", HOST_PASSTHROUGH, false, "ROM", {W(GPU "boot_vga", "1\n")}},
	{"in-use", HOST_PASSTHROUGH, true, "PID 812 (Xorg) has /dev/dri/card0 open",
		{W("proc/812/comm", "Xorg\n"), L("proc/812/fd/5", "/dev/dri/card0")}},
	{"in-use", HOST_PASSTHROUGH, true, "PID 90 (qemu-system-x86) has /dev/vfio/7 open",
		{W("proc/90/comm", "qemu-system-x86\n"), L("proc/90/fd/17", "/dev/vfio/7")}},
	{"in-use", HOST_PASSTHROUGH, true, "/dev/nvidia3 open",
		{W("proc/driver/nvidia/gpus/0000:03:00.0/information",
			 "Model: \t\t NVIDIA A40\nDevice Minor: \t 3\n"),
			W("proc/91/comm", "cuda\n"), L("proc/91/fd/17", "/dev/nvidia3")}},
	{"holders-unknown", HOST_PASSTHROUGH, false, "may not look",
		{W("proc/7/fd", "this is no folder")}},
	{"vfs-enabled", HOST_PASSTHROUGH, true, "2 of its virtual functions",
		{W(GPU "sriov_totalvfs", "4\n"), W(GPU "sriov_numvfs", "2\n")}},
	{"mdevs-exist", HOST_PASSTHROUGH, true, "on it: 1",
		{W(MDEV "small/available_instances", "1\n"),
			W(MDEV "small/devices/83b8f4f2-509f-382f-3c1e-e6bfe0fa1001/x", "")}},
	{"no-reset", HOST_PASSTHROUGH, false, "cannot be reset", {W(GPU "reset_method", "\n")}},
	{"vfio-missing", HOST_PASSTHROUGH, true, "kernel 6.12.0-test has no vfio-pci",
		{D("sys/bus/pci/drivers/vfio-pci"),
			W("lib/modules/6.12.0-test/modules.dep",
				"kernel/drivers/vfio/pci/vfio-pci-core.ko: x\n"
				"kernel/vfio.ko: kernel/vfio-pci.ko\n")}},
	{"vfio-not-loaded", HOST_PASSTHROUGH, true, "not loaded",
		{D("sys/bus/pci/drivers/vfio-pci"),
			W("lib/modules/6.12.0-test/modules.dep",
				"kernel/drivers/vfio/pci/vfio-pci.ko.xz: kernel/x.ko\n")}},
	{"vfio-no-iommu-driver", HOST_PASSTHROUGH, true, "vfio_iommu_type1",
		{D("sys/module/vfio_iommu_type1")}},
};

static void take_step(const struct step *step)
{
	switch (step->what) {
	case WRITE:
		tree_put(&tree, step->path, step->text);
		break;
	case DELETE:
		tree_delete(&tree, step->path);
		break;
	case LINK:
		tree_link(&tree, step->text, step->path);
		break;
	case END:
		break;
	}
}

/* Sets of findings as bits of the table's rows. */
static uint64_t findings(enum host_method method)
{
	uint64_t set = 0;

	for (size_t i = 0; host_condition_name(i); i++) {
		if (tree_finding(facts, method, host_condition_name(i)))
			set |= 1ull << i;
	}
	return set;
}

static void test_each_change(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
		const struct change *c = &changes[i];
		assert_true(tree_facts(&tree, "gpu-03:00.0", facts));
		uint64_t before = findings(c->method);
		for (size_t k = 0; k < ARRAY_SIZE(c->steps); k++)
			take_step(&c->steps[k]);
		assert_true(tree_facts(&tree, "gpu-03:00.0", facts));
		const struct host_finding *f = tree_finding(facts, c->method, c->condition);
		if (!f || f->forbids != c->forbids || !strstr(f->text, c->says) ||
			tree_possible(facts, c->method) == c->forbids)
			fail_msg("%s (row %zu): %s", c->condition, i, f ? f->text : "not found");
		if (c->steps[0].what != END)
			assert_int_not_equal(findings(c->method), before);
		assert_null(strstr(f->text, "{}"));
		assert_null(strstr(f->remedy, "{}"));
		tear_down(NULL);
		set_up(NULL);
	}
}

/* What comes from vgpud, not from files. */
static void test_what_vgpud_says(void **state)
{
	assert_true(tree_facts(&tree, "gpu-03:00.0", facts));
	facts->use = (struct host_use){.root = false, .vgpus = 1, .method = "forward"};
	assert_non_null(
		strstr(tree_finding(facts, HOST_PASSTHROUGH, "carries-vgpus")->text, "1 vGPU,"));
	assert_non_null(tree_finding(facts, HOST_PASSTHROUGH, "not-root"));
	assert_non_null(strstr(tree_finding(facts, HOST_MEDIATE, "other-method")->text,
		"1 vGPU of method forward"));
	assert_true(tree_possible(facts, HOST_FORWARD));
	assert_non_null(tree_finding(facts, HOST_EMULATE, "other-method"));
	facts->use.mixed = true;
	assert_null(tree_finding(facts, HOST_EMULATE, "other-method"));
	assert_non_null(tree_finding(facts, HOST_MEDIATE, "other-method"));
	facts->use.kept = "forward";
	assert_null(tree_finding(facts, HOST_FORWARD, "kept-for-other"));
	assert_string_equal(tree_finding(facts, HOST_PASSTHROUGH, "kept-for-other")->remedy,
		"vgpuctl gpu mode gpu-03:00.0 any");
	facts->render_access = -13;
	assert_non_null(tree_finding(facts, HOST_FORWARD, "render-node-denied"));
	facts->vanished = true;
	assert_non_null(tree_finding(facts, HOST_FORWARD, "vanished"));
}

static void test_a_soft_gpu(void **state)
{
	assert_true(tree_facts(&tree, "soft0", facts));
	assert_true(tree_possible(facts, HOST_EMULATE));
	assert_true(tree_possible(facts, HOST_FORWARD));
	assert_non_null(tree_finding(facts, HOST_MEDIATE, "software"));
	assert_non_null(tree_finding(facts, HOST_PASSTHROUGH, "software"));
}

static void test_the_node_as_it_should_be(void **state)
{
	assert_true(tree_facts(&tree, "gpu-03:00.0", facts));
	assert_true(tree_possible(facts, HOST_PASSTHROUGH));
	assert_true(tree_possible(facts, HOST_FORWARD));
	assert_int_equal(findings(HOST_PASSTHROUGH) | findings(HOST_FORWARD), 0);
	assert_non_null(tree_finding(facts, HOST_EMULATE, "hardware"));
	assert_false(tree_possible(facts, HOST_EMULATE));
}

/* A row that no test has seen is one that may never hold. */
static void test_no_condition_is_left_out(void **state)
{
	static const char *const others[] = {"vanished", "software", "hardware", "not-pci",
		"other-method", "carries-vgpus", "kept-for-other", "render-node-denied",
		"not-root"};

	for (size_t i = 0; host_condition_name(i); i++) {
		bool seen = false;
		for (size_t k = 0; k < ARRAY_SIZE(changes); k++)
			seen |= !strcmp(changes[k].condition, host_condition_name(i));
		for (size_t k = 0; k < ARRAY_SIZE(others); k++)
			seen |= !strcmp(others[k], host_condition_name(i));
		if (!seen)
			fail_msg("no test sees %s", host_condition_name(i));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_each_change, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_what_vgpud_says, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_soft_gpu, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_the_node_as_it_should_be, set_up, tear_down),
		cmocka_unit_test(test_no_condition_is_left_out),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
