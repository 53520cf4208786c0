/* SPDX-License-Identifier: Apache-2.0 */
/* The inventory of constructed nodes, as real ones look and as none should. */
#include "tree.h"

#include "base/checked.h"
#include "host/report.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define DEVICES "sys/devices/pci0000:00/"

static struct tree tree;
static struct host_inventory inventory;
static struct host_facts *facts;

static int set_up(void **state)
{
	tree_make(&tree);
	facts = calloc(1, sizeof(*facts));
	return !facts;
}

static int tear_down(void **state)
{
	free(facts);
	tree_remove(&tree);
	return 0;
}

static bool is_configured(void *data, const char *name)
{
	return !strcmp(data, name);
}

/* `name`: a GPU that is configured; NULL: none. */
static void read_inventory(const char *name)
{
	char configured[64];
	struct host_wanted wanted = {.roots = tree.roots, .data = configured};

	snprintf(configured, sizeof(configured), "%s", name ? name : "");
	wanted.configured = name ? is_configured : NULL;
	host_inventory_read(&inventory, &wanted);
}

static const struct host_gpu *find_gpu(const char *name)
{
	for (size_t i = 0; i < inventory.count; i++) {
		if (!strcmp(inventory.gpus[i].name, name))
			return &inventory.gpus[i];
	}
	return NULL;
}

/* --- nodes as they are --- */

static const struct tree_pci amd = {.address = "0000:03:00.0",
	.vendor = 0x1002,
	.device = 0x73bf,
	.class = 0x030000,
	.driver = "amdgpu",
	.resource = "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
		    "0x00000000e0000000 0x00000000efffffff 0x000000000014220c\n"
		    "0x00000000f0000000 0x00000000f0ffffff 0x0000000000040200\n"
		    "0x000000000000f000 0x000000000000f0ff 0x0000000000040101\n",
	.reset_method = "flr bus\n",
	.group = 7};

static void test_amd(void **state)
{
	tree_pci(&tree, &amd);
	tree_drm(&tree, amd.address, "renderD128");
	tree_drm(&tree, amd.address, "card1");
	const struct host_wanted wanted = {
		.roots = tree.roots, .soft_gpus = 2, .soft_vram_mib = 512};
	host_inventory_read(&inventory, &wanted);
	assert_int_equal(inventory.count, 3);
	assert_string_equal(inventory.gpus[1].name, "soft1");
	assert_int_equal(inventory.gpus[1].vram_mib, 512);
	const struct host_gpu *gpu = &inventory.gpus[2];
	assert_string_equal(gpu->name, "gpu-03:00.0");
	assert_string_equal(gpu->kind, "pci");
	assert_string_equal(gpu->driver, "amdgpu");
	assert_string_equal(gpu->pci_address, "0000:03:00.0");
	assert_non_null(strstr(gpu->render_node, "/dev/dri/renderD128"));
	assert_int_equal(gpu->vram_mib, 256); /* the prefetchable BAR */
	tree_put(&tree, DEVICES "0000:03:00.0/mem_info_vram_total", "8589934592\n");
	read_inventory(NULL);
	assert_int_equal(inventory.gpus[0].vram_mib, 8192); /* the driver knows better */
	assert_true(tree_facts(&tree, "gpu-03:00.0", facts));
	const struct pci_device *pci = &facts->pci;
	assert_int_equal(pci->vendor, 0x1002);
	assert_int_equal(pci->subsystem_vendor, 0x1028);
	assert_int_equal(pci->revision, 0xa1);
	assert_int_equal(pci->bars[1].size, 256 << 20);
	assert_true(pci->bars[1].prefetchable && pci->bars[3].io && !pci->bars[2].prefetchable);
	assert_int_equal(pci->numa_node, -1);
	assert_string_equal(pci->driver_override, "");
	assert_string_equal(pci->reset_methods, "flr bus");
	assert_int_equal(facts->group.number, 7);
	assert_string_equal(facts->group.type, "DMA-FQ");
	assert_false(facts->group.viable); /* amdgpu has it */
	assert_int_equal(facts->drm.n_nodes, 2);
	assert_string_equal(facts->drm.render, "dri/renderD128");
	assert_int_equal(facts->troubles.count, 0);
}

static void make_nvidia(unsigned vfs)
{
	static const struct tree_pci pf = {.address = "0000:41:00.0",
		.vendor = 0x10de,
		.device = 0x2335,
		.class = 0x030200,
		.driver = "nvidia",
		.group = 30};
	char address[16], number[16];

	tree_pci(&tree, &pf);
	tree_putf(&tree, "16\n", DEVICES "%s/sriov_totalvfs", pf.address);
	snprintf(number, sizeof(number), "%u\n", vfs);
	tree_putf(&tree, number, DEVICES "%s/sriov_numvfs", pf.address);
	tree_putf(&tree, "1\n", DEVICES "%s/sriov_drivers_autoprobe", pf.address);
	for (unsigned i = 0; i < vfs; i++) {
		snprintf(address, sizeof(address), "0000:41:%02x.%u", i / 8 + 1, i % 8);
		const struct tree_pci vf = {.address = address,
			.vendor = 0x10de,
			.device = 0x2335,
			.class = 0x030200,
			.driver = "nvidia",
			.group = (int)(31 + i)};
		tree_vf(&tree, pf.address, i, &vf);
		tree_putf(&tree,
			i ? "ID    : vGPU Name\n1428  : NVIDIA H200X-141C\n1414  : NVIDIA "
			    "H200X-1-18C\n"
			  : "ID    : vGPU Name\n",
			DEVICES "%s/nvidia/creatable_vgpu_types", address);
		tree_putf(&tree, i ? "0\n" : "1414\n", DEVICES "%s/nvidia/current_vgpu_type",
			address);
	}
}

static void test_nvidia_sriov(void **state)
{
	tree_vfio(&tree);
	make_nvidia(12);
	read_inventory(NULL);
	assert_int_equal(inventory.count, 1); /* VFs are slices of it */
	assert_true(tree_facts(&tree, "gpu-41:00.0", facts));
	assert_int_equal(facts->sriov.total_vfs, 16);
	assert_int_equal(facts->sriov.n_vfs, 12);
	assert_string_equal(facts->sriov.vfs[10].address, "0000:41:02.2");
	assert_string_equal(facts->sriov.vfs[10].driver, "nvidia");
	assert_int_equal(facts->vendor.interface, VENDOR_NVIDIA);
	assert_int_equal(facts->vendor.n_types, 2);
	assert_int_equal(facts->vendor.types[0].id, 1414);
	assert_string_equal(facts->vendor.types[0].name, "NVIDIA H200X-1-18C");
	assert_int_equal(facts->vendor.types[0].vfs, 11);
	assert_int_equal(facts->vendor.current[0], 1414);
	assert_int_equal(facts->vendor.in_use, 1);
	assert_true(tree_possible(facts, HOST_MEDIATE));
	assert_non_null(tree_finding(facts, HOST_PASSTHROUGH, "vfs-enabled"));
	/* one that somebody configured is a GPU beside its parent */
	read_inventory("gpu-41:01.3");
	assert_int_equal(inventory.count, 2);
	assert_non_null(find_gpu("gpu-41:01.3"));
}

static void test_intel_xe(void **state)
{
	static const struct tree_pci pf = {.address = "0000:00:02.0",
		.vendor = 0x8086,
		.device = 0xe20b,
		.class = 0x030000,
		.driver = "xe",
		.reset_method = "flr\n",
		.group = 1};
	static const struct tree_pci vf = {.address = "0000:00:02.1",
		.vendor = 0x8086,
		.device = 0xe20b,
		.class = 0x030000,
		.group = 2};
	static const char *const functions[] = {"pf", "vf1", "vf2", "vf10"};

	tree_vfio(&tree);
	tree_pci(&tree, &pf);
	tree_drm(&tree, pf.address, "renderD128");
	tree_put(&tree, DEVICES "0000:00:02.0/sriov_totalvfs", "12\n");
	tree_put(&tree, DEVICES "0000:00:02.0/sriov_numvfs", "1\n");
	tree_put(&tree, DEVICES "0000:00:02.0/sriov_drivers_autoprobe", "0\n");
	tree_put(&tree, DEVICES "0000:00:02.0/tile0/physical_vram_size_bytes", "12884901888\n");
	tree_put(&tree, DEVICES "0000:00:02.0/tile1/physical_vram_size_bytes", "4294967296\n");
	tree_vf(&tree, pf.address, 0, &vf);
	tree_put(&tree, DEVICES "0000:00:02.0/sriov_admin/.bulk_profile/exec_quantum_ms", "");
	for (size_t i = 0; i < ARRAY_SIZE(functions); i++) {
		const char *admin = DEVICES "0000:00:02.0/sriov_admin";
		tree_putf(&tree, "20\n", "%s/%s/profile/exec_quantum_ms", admin, functions[i]);
		tree_putf(
			&tree, "20000\n", "%s/%s/profile/preempt_timeout_us", admin, functions[i]);
		tree_putf(&tree, "low [normal] high\n", "%s/%s/profile/sched_priority", admin,
			functions[i]);
		tree_putf(&tree, "1073741824\n", "%s/%s/profile/vram_quota", admin, functions[i]);
	}
	tree_link(&tree, "../../../0000:00:02.1", DEVICES "0000:00:02.0/sriov_admin/vf1/device");
	assert_true(tree_facts(&tree, "gpu-00:02.0", facts));
	assert_int_equal(facts->gpu.vram_mib, 16384);
	assert_int_equal(facts->vendor.interface, VENDOR_XE);
	assert_int_equal(facts->vendor.n_profiles, 4);
	assert_string_equal(facts->vendor.profiles[3].function, "vf10");
	assert_string_equal(facts->vendor.profiles[1].address, "0000:00:02.1");
	assert_string_equal(facts->vendor.profiles[2].address, "");
	assert_string_equal(facts->vendor.profiles[1].priority, "normal");
	assert_int_equal(facts->vendor.profiles[1].preempt_timeout_us, 20000);
	assert_int_equal(facts->vendor.profiles[1].vram_quota_bytes, 1 << 30);
	assert_true(tree_possible(facts, HOST_MEDIATE));
	assert_null(tree_finding(facts, HOST_MEDIATE, "vfs-autoprobed"));
	assert_int_equal(facts->troubles.count, 0);
}

/* mbochs and mdpy are devices of no bus; types without a description are as they should be. */
static void test_mediated(void **state)
{
	tree_mdev_type(&tree, "mbochs", "mbochs-large", "mbochs large\n",
		"virtual display, 16 MB video memory\n", "4\n");
	tree_mdev_type(&tree, "mbochs", "mbochs-small", "mbochs small\n", NULL, "64\n");
	tree_put(&tree,
		"sys/class/mdev_bus/mbochs/mdev_supported_types/mbochs-small/devices/"
		"83b8f4f2-509f-382f-3c1e-e6bfe0fa1001/uevent",
		"");
	tree_put(&tree, "sys/class/mdev_bus/mbochs/mdev_supported_types/mbochs-small/devices/odd",
		"");
	read_inventory(NULL);
	assert_int_equal(inventory.count, 0); /* nobody says that it is a GPU */
	read_inventory("mdev-mbochs");
	assert_int_equal(inventory.count, 1);
	assert_string_equal(inventory.gpus[0].kind, "mdev");
	const struct host_use use = {.root = true};
	host_facts_read(&tree.roots, &inventory.gpus[0], &use, facts);
	assert_int_equal(facts->mdev.n_types, 2);
	assert_string_equal(facts->mdev.types[0].id, "mbochs-large");
	assert_string_equal(
		facts->mdev.types[0].description, "virtual display, 16 MB video memory");
	assert_string_equal(facts->mdev.types[1].description, "");
	assert_int_equal(facts->mdev.types[1].available, 64);
	assert_int_equal(facts->mdev.n_devices, 1);
	assert_string_equal(facts->mdev.devices[0].type, "mbochs-small");
	assert_true(tree_possible(facts, HOST_MEDIATE));
	assert_false(tree_possible(facts, HOST_FORWARD));
	assert_non_null(tree_finding(facts, HOST_PASSTHROUGH, "not-pci"));
}

/* Before kernel 6.8, NVIDIA's VFs are parents, each of one device. */
static void test_mediated_on_vfs(void **state)
{
	make_nvidia(2);
	tree_delete(&tree, DEVICES "0000:41:01.0/nvidia");
	tree_delete(&tree, DEVICES "0000:41:01.1/nvidia");
	tree_mdev_type(
		&tree, "0000:41:01.0", "nvidia-558", "GRID A40-1Q\n", "num_heads=4\n", "1\n");
	tree_mdev_type(
		&tree, "0000:41:01.1", "nvidia-558", "GRID A40-1Q\n", "num_heads=4\n", "1\n");
	assert_true(tree_facts(&tree, "gpu-41:00.0", facts));
	assert_int_equal(facts->mdev.n_parents, 2);
	assert_int_equal(facts->mdev.n_types, 1);
	assert_int_equal(facts->mdev.types[0].available, 2);
	assert_int_equal(facts->vendor.interface, VENDOR_NONE);
	assert_true(tree_possible(facts, HOST_MEDIATE)); /* and needs no IOMMU for it */
}

/* A laptop: the firmware's screen and the console, which simpledrm took over, on the one GPU. */
static void test_a_laptop(void **state)
{
	static const struct tree_pci igpu = {.address = "0000:00:02.0",
		.vendor = 0x8086,
		.device = 0x46a6,
		.class = 0x030000,
		.driver = "i915",
		.reset_method = "flr pm\n",
		.group = 1,
		.boot_vga = true};
	static const char *const files[] = {"/dev/dri/card0", NULL};

	tree_vfio(&tree);
	tree_pci(&tree, &igpu);
	tree_drm(&tree, igpu.address, "card0");
	tree_drm(&tree, igpu.address, "renderD128");
	tree_put(&tree, DEVICES "0000:00:02.0/drm/card0/card0-eDP-1/status", "connected\n");
	tree_put(&tree, DEVICES "0000:00:02.0/drm/card0/card0-DP-1/status", "disconnected\n");
	tree_put(&tree, "sys/class/vtconsole/vtcon0/name", "(S) dummy device\n");
	tree_put(&tree, "sys/class/vtconsole/vtcon0/bind", "0\n");
	tree_put(&tree, "sys/class/vtconsole/vtcon1/name", "(M) frame buffer device\n");
	tree_put(&tree, "sys/class/vtconsole/vtcon1/bind", "1\n");
	tree_link(&tree, "../../../simple-framebuffer.0", "sys/class/graphics/fb0/device");
	tree_process(&tree, 1234, "gnome-shell\n", files);
	assert_true(tree_facts(&tree, "gpu-00:02.0", facts));
	assert_true(facts->pci.boot_vga);
	assert_string_equal(facts->drm.console, "fb0");
	assert_int_equal(facts->drm.screens, 1);
	assert_int_equal(facts->holders.total, 1);
	assert_true(facts->holders.complete);
	assert_string_equal(facts->holders.list[0].comm, "gnome-shell");
	assert_true(tree_possible(facts, HOST_FORWARD));
	assert_non_null(tree_finding(facts, HOST_PASSTHROUGH, "boot-console"));
	assert_non_null(tree_finding(facts, HOST_PASSTHROUGH, "in-use"));
	/* with two cards it is on the one that the firmware used, whatever came first */
	static const struct tree_pci second = {.address = "0000:01:00.0", .class = 0x030200};
	tree_pci(&tree, &second);
	tree_link(&tree, "../../../0000:01:00.0", "sys/class/graphics/fb0/device");
	tree_link(
		&tree, "../../../devices/pci0000:00/0000:00:02.0", "sys/class/graphics/fb1/device");
	assert_true(tree_facts(&tree, "gpu-00:02.0", facts));
	assert_string_equal(facts->drm.console, "fb1");
	assert_true(tree_facts(&tree, "gpu-01:00.0", facts));
	assert_string_equal(facts->drm.console, "");
	/* and where the firmware used none, on the first */
	tree_put(&tree, DEVICES "0000:00:02.0/boot_vga", "0\n");
	assert_true(tree_facts(&tree, "gpu-01:00.0", facts));
	assert_string_equal(facts->drm.console, "fb0");
	assert_true(tree_facts(&tree, "gpu-00:02.0", facts));
	assert_string_equal(facts->drm.console, "");
	tree_put(&tree, DEVICES "0000:00:02.0/boot_vga", "1\n");
	/* the console let go: what is left is the user's session */
	tree_put(&tree, "sys/class/vtconsole/vtcon1/bind", "0\n");
	assert_true(tree_facts(&tree, "gpu-00:02.0", facts));
	assert_null(tree_finding(facts, HOST_PASSTHROUGH, "boot-console"));
	assert_non_null(tree_finding(facts, HOST_PASSTHROUGH, "boot-vga"));
}

static void test_shared_groups(void **state)
{
	static const struct tree_pci others[] = {
		{.address = "0000:00:01.0", .class = 0x060400, .driver = "pcieport", .group = 7},
		{.address = "0000:03:00.1",
			.class = 0x040300,
			.driver = "snd_hda_intel",
			.group = 7},
		{.address = "0000:04:00.0", .class = 0x020000, .driver = "e1000e", .group = 7},
		{.address = "0000:05:00.0", .class = 0x0c0330, .group = 7},
		{.address = "0000:06:00.0", .class = 0x010802, .driver = "vfio-pci", .group = 7},
	};
	static const enum iommu_role roles[] = {
		IOMMU_BRIDGE, IOMMU_SELF, IOMMU_COMPANION, IOMMU_FOREIGN, IOMMU_FREE, IOMMU_VFIO};

	tree_vfio(&tree);
	tree_pci(&tree, &amd);
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		tree_pci(&tree, &others[i]);
	assert_true(tree_facts(&tree, "gpu-03:00.0", facts));
	assert_int_equal(facts->group.n_members, ARRAY_SIZE(roles));
	for (size_t i = 0; i < ARRAY_SIZE(roles); i++)
		assert_int_equal(facts->group.members[i].role, roles[i]);
	assert_non_null(strstr(tree_finding(facts, HOST_PASSTHROUGH, "group-shared")->text,
		"0000:04:00.0 (e1000e)"));
	/* all let go: viable as VFIO sees it */
	tree_delete(&tree, DEVICES "0000:03:00.0/driver");
	tree_delete(&tree, DEVICES "0000:03:00.1/driver");
	tree_delete(&tree, DEVICES "0000:04:00.0/driver");
	assert_true(tree_facts(&tree, "gpu-03:00.0", facts));
	assert_true(facts->group.viable);
	assert_true(tree_possible(facts, HOST_PASSTHROUGH));
}

static void test_gpus_without_a_render_node(void **state)
{
	static const struct tree_pci devices[] = {
		{.address = "0000:01:00.0",
			.vendor = 0x10de,
			.class = 0x030000,
			.driver = "vfio-pci"},
		{.address = "0000:02:00.0", .vendor = 0x1a03, .class = 0x030000, .driver = "ast"},
		{.address = "0000:04:00.0", .vendor = 0x1002, .class = 0x120000},
		{.address = "0000:05:00.0", .vendor = 0x8086, .class = 0x120000},
		{.address = "0000:06:00.0",
			.vendor = 0x8086,
			.class = 0x020000,
			.driver = "e1000e"},
		{.address = "10000:01:00.0", .vendor = 0x10de, .class = 0x030200},
	};

	for (size_t i = 0; i < ARRAY_SIZE(devices); i++)
		tree_pci(&tree, &devices[i]);
	read_inventory(NULL);
	assert_int_equal(inventory.count, 4);
	assert_string_equal(find_gpu("gpu-01:00.0")->driver, "vfio-pci");
	assert_string_equal(find_gpu("gpu-02:00.0")->render_node, "");
	assert_string_equal(find_gpu("gpu-04:00.0")->driver, "");
	assert_non_null(find_gpu("gpu-10000:01:00.0"));
}

/* virtio's render node hangs below the PCI function, which is no second GPU. */
static void test_virtio(void **state)
{
	static const struct tree_pci pci = {.address = "0000:00:03.0",
		.vendor = 0x1af4,
		.class = 0x038000,
		.driver = "virtio-pci"};

	tree_pci(&tree, &pci);
	tree_put(&tree, DEVICES "0000:00:03.0/virtio0/drm/renderD128/dev", "226:128\n");
	tree_link(&tree, "../../../../../bus/virtio", DEVICES "0000:00:03.0/virtio0/subsystem");
	tree_link(&tree, "../x/virtio_gpu", DEVICES "0000:00:03.0/virtio0/driver");
	tree_link(&tree, "../../../virtio0", DEVICES "0000:00:03.0/virtio0/drm/renderD128/device");
	tree_link(&tree, "../../devices/pci0000:00/0000:00:03.0/virtio0/drm/renderD128",
		"sys/class/drm/renderD128");
	read_inventory(NULL);
	assert_int_equal(inventory.count, 1);
	assert_string_equal(inventory.gpus[0].name, "gpu-renderD128");
	assert_string_equal(inventory.gpus[0].kind, "render");
	assert_string_equal(inventory.gpus[0].driver, "virtio_gpu");
}

/* --- nodes as none should be --- */

static void test_absurd_contents(void **state)
{
	static const char *const files[] = {"vendor", "device", "class", "resource", "boot_vga",
		"reset_method", "power_state", "driver_override", "numa_node", "sriov_totalvfs",
		"mem_info_vram_total", "revision", "power/runtime_status"};
	static const char *const texts[] = {"", "\n\n\n", "-1", "0xffffffffffffffffffffffff",
		"99999999999999999999999", "%s%n", "\xff\xfe\x01", "0x0 0x0\n0x0",
		"0xffffffffffffffff 0x0 0xffffffffffffffff\n0x0 0xffffffffffffffff 0x2200\n"};
	char *large = malloc(100001);

	assert_non_null(large);
	memset(large, '9', 100000);
	large[100000] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		for (size_t t = 0; t <= ARRAY_SIZE(texts); t++) {
			tree_pci(&tree, &amd);
			tree_drm(&tree, amd.address, "renderD128");
			tree_putf(&tree, t < ARRAY_SIZE(texts) ? texts[t] : large,
				DEVICES "0000:03:00.0/%s", files[i]);
			assert_true(tree_facts(&tree, "gpu-03:00.0", facts));
			json_t *report = host_report(facts);
			assert_non_null(report);
			json_decref(report);
		}
		tree_delete(&tree, DEVICES "0000:03:00.0");
	}
	free(large);
}

static void test_absurd_links(void **state)
{
	tree_pci(&tree, &amd);
	tree_drm(&tree, amd.address, "renderD128");
	tree_put(&tree, DEVICES "0000:03:00.0/sriov_totalvfs", "65536\n");
	tree_link(&tree, "../0000:03:00.0", DEVICES "0000:03:00.0/physfn");
	assert_false(tree_facts(&tree, "gpu-03:00.0", facts)); /* it is its own VF */
	tree_link(&tree, "/dev/null", DEVICES "0000:03:00.0/physfn");
	tree_delete(&tree, DEVICES "0000:03:00.0/physfn");
	tree_put(&tree, DEVICES "0000:03:00.0/sriov_totalvfs", "65535\n");
	tree_put(&tree, DEVICES "0000:03:00.0/sriov_numvfs", "9\n");
	tree_link(&tree, "../../../../etc", DEVICES "0000:03:00.0/virtfn0");
	tree_link(&tree, "virtfn1", DEVICES "0000:03:00.0/virtfn1"); /* itself */
	tree_link(&tree, "iommu_group", DEVICES "0000:03:00.0/iommu_group");
	tree_put(&tree, DEVICES "0000:03:00.0/driver/x", ""); /* a folder, no link */
	assert_true(tree_facts(&tree, "gpu-03:00.0", facts));
	assert_int_equal(facts->sriov.n_vfs, 0);
	assert_int_equal(facts->group.number, -1);
	assert_true(facts->troubles.count > 0);
	assert_false(tree_possible(facts, HOST_PASSTHROUGH));
}

static void test_names_that_are_no_addresses(void **state)
{
	static const char *const names[] = {"", "0000:03:00", "0000:03:00.8", "0000:03:20.0",
		"000:03:00.0", "0000:03:00.0x", "../../etc", "0000:GG:00.0", "000000000:03:00.0",
		"0000:3:00.0", "0000:03:00.0/..", "0000:03:0A.0"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		assert_false(pci_address_valid(names[i]));
	assert_true(pci_address_valid("0000:03:1f.7"));
	assert_true(pci_address_valid("10000:e1:00.0"));
	assert_true(pci_same_slot("0000:03:00.0", "0000:03:00.1"));
	assert_false(pci_same_slot("0000:03:00.0", "0000:03:01.0"));
	tree_put(&tree, "sys/class/drm/renderD", "");
	tree_put(&tree, "sys/class/drm/renderDx", "");
	tree_put(&tree, "sys/class/drm/renderD-1", "");
	tree_put(&tree, "sys/bus/pci/devices/nonsense/class", "0x030000\n");
	read_inventory(NULL);
	assert_int_equal(inventory.count, 0);
}

static void test_too_many(void **state)
{
	char address[16];

	for (unsigned i = 0; i < HOST_MAX_GPUS + 6; i++) {
		snprintf(address, sizeof(address), "0000:%02x:00.0", i + 1);
		const struct tree_pci pci = {.address = address, .class = 0x030000};
		tree_pci(&tree, &pci);
	}
	read_inventory(NULL);
	assert_int_equal(inventory.count, HOST_MAX_GPUS);
	assert_true(inventory.more);
}

static void test_a_device_that_went(void **state)
{
	struct host_gpu gpu = {.name = "gpu-03:00.0", .kind = "pci", .pci_address = "0000:03:00.0"};
	const struct host_use use = {.root = true};

	host_facts_read(&tree.roots, &gpu, &use, facts);
	assert_true(facts->vanished);
	assert_false(tree_possible(facts, HOST_PASSTHROUGH));
	json_t *report = host_report(facts);
	assert_true(json_is_null(json_object_get(report, "pci")));
	json_decref(report);
	struct host_roots nowhere = {"/nowhere", "/nowhere", "/nowhere", "/nowhere"};
	host_facts_read(&nowhere, &gpu, &use, facts);
	assert_true(facts->vanished);
}

/* --- parts --- */

static void test_vendor_texts(void **state)
{
	static struct vendor vendor;
	char word[16];

	vendor_parse_nvidia("ID    : vGPU Name\n 558 : NVIDIA A40-1Q  \n0 : none\n:\n5\n6 :\n7 :x\n"
			    "-8 : y\n99999999999 : z\n\n558:again",
		0, &vendor);
	vendor_parse_nvidia("558 : NVIDIA A40-1Q", 63, &vendor);
	assert_int_equal(vendor.n_types, 2);
	assert_int_equal(vendor.types[0].on, 1ull << 63 | 1);
	assert_string_equal(vendor.types[0].name, "NVIDIA A40-1Q");
	assert_int_equal(vendor.types[0].vfs, 2);
	assert_int_equal(vendor.types[1].id, 7);
	vendor_parse_choice("low [normal] high", word, sizeof(word));
	assert_string_equal(word, "normal");
	vendor_parse_choice("high", word, sizeof(word));
	assert_string_equal(word, "high");
	for (const char **p =
			(const char *[]){"low normal", "[low", "", "[waytoolongforthis]", NULL};
		*p; p++) {
		vendor_parse_choice(*p, word, sizeof(word));
		assert_string_equal(word, "");
	}
}

static void test_uuids(void **state)
{
	assert_true(mdev_uuid_valid("83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"));
	assert_false(mdev_uuid_valid("83b8f4f2-509f-382f-3c1e-e6bfe0fa100"));
	assert_false(mdev_uuid_valid("83b8f4f2-509f-382f-3c1e-e6bfe0fa100g"));
	assert_false(mdev_uuid_valid("83b8f4f2+509f-382f-3c1e-e6bfe0fa1001"));
	assert_true(iommu_driver_is_vfio("vfio-pci"));
	assert_true(iommu_driver_is_vfio("nvgrace-gpu-vfio-pci"));
	assert_true(iommu_driver_is_vfio("mlx5_vfio_pci"));
	assert_false(iommu_driver_is_vfio("nvidia"));
}

static void check_fields(const json_t *object, const char *const *names)
{
	for (; *names; names++) {
		if (!json_object_get(object, *names))
			fail_msg("%s is documented and not there", *names);
	}
}

#define NAME(name, type, meaning) #name,

static void test_documented_fields_are_there(void **state)
{
	tree_vfio(&tree);
	make_nvidia(2);
	tree_mdev_type(&tree, "0000:41:00.0", "nvidia-558", "GRID A40-1Q\n", "x\n", "1\n");
	assert_true(tree_facts(&tree, "gpu-41:00.0", facts));
	json_t *report = host_report(facts);
	check_fields(report, (const char *const[]){REPORT_GPU_FIELDS(NAME) NULL});
	check_fields(json_object_get(report, "pci"),
		(const char *const[]){REPORT_PCI_FIELDS(NAME) NULL});
	check_fields(json_object_get(report, "iommu"),
		(const char *const[]){REPORT_IOMMU_FIELDS(NAME) NULL});
	check_fields(json_object_get(report, "sriov"),
		(const char *const[]){REPORT_SRIOV_FIELDS(NAME) NULL});
	check_fields(json_object_get(report, "mdev"),
		(const char *const[]){REPORT_MDEV_FIELDS(NAME) NULL});
	check_fields(json_object_get(report, "vendor"),
		(const char *const[]){REPORT_VENDOR_FIELDS(NAME) NULL});
	for (size_t i = 0; i < HOST_METHOD_COUNT; i++)
		check_fields(json_array_get(json_object_get(report, "methods"), i),
			(const char *const[]){REPORT_METHOD_FIELDS(NAME) NULL});
	json_decref(report);
}

#define T(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {T(test_amd), T(test_nvidia_sriov), T(test_intel_xe),
		T(test_mediated), T(test_mediated_on_vfs), T(test_a_laptop), T(test_shared_groups),
		T(test_gpus_without_a_render_node), T(test_virtio), T(test_absurd_contents),
		T(test_absurd_links), T(test_names_that_are_no_addresses), T(test_too_many),
		T(test_a_device_that_went), T(test_vendor_texts), T(test_uuids),
		T(test_documented_fields_are_there)};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
