/* SPDX-License-Identifier: Apache-2.0 */
#include "tree.h"

#include <ftw.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define BUS "sys/devices/pci0000:00"

static void make_folders(const char *path)
{
	char part[PATH_MAX];

	snprintf(part, sizeof(part), "%s", path);
	for (char *p = part + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		mkdir(part, 0755);
		*p = '/';
	}
}

static void absolute(const struct tree *tree, const char *path, char ret[PATH_MAX])
{
	snprintf(ret, PATH_MAX, "%s/%s", tree->root, path);
	make_folders(ret);
}

void tree_make(struct tree *tree)
{
	static const char *const folders[] = {"sys/bus/pci/devices/", "sys/bus/pci/drivers/",
		"sys/class/drm/", "sys/kernel/iommu_groups/", "proc/", "dev/dri/", "lib/modules/"};
	char path[PATH_MAX];

	*tree = (struct tree){.root = "/tmp/vgpu-host-XXXXXX"};
	assert_non_null(mkdtemp(tree->root));
	for (size_t i = 0; i < sizeof(folders) / sizeof(*folders); i++)
		absolute(tree, folders[i], path);
	snprintf(tree->sys, sizeof(tree->sys), "%s/sys", tree->root);
	snprintf(tree->proc, sizeof(tree->proc), "%s/proc", tree->root);
	snprintf(tree->dev, sizeof(tree->dev), "%s/dev", tree->root);
	snprintf(tree->modules, sizeof(tree->modules), "%s/lib/modules", tree->root);
	tree->roots = (struct host_roots){tree->sys, tree->proc, tree->dev, tree->modules};
	tree_put(tree, "proc/cmdline", "BOOT_IMAGE=/vmlinuz root=/dev/sda1 quiet\n");
	tree_put(tree, "proc/sys/kernel/osrelease", "6.12.0-test\n");
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	return remove(path);
}

void tree_delete(struct tree *tree, const char *path)
{
	char full[PATH_MAX];

	snprintf(full, sizeof(full), "%s/%s", tree->root, path);
	assert_int_equal(nftw(full, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

void tree_remove(struct tree *tree)
{
	assert_int_equal(nftw(tree->root, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

void tree_put(struct tree *tree, const char *path, const char *text)
{
	char full[PATH_MAX];

	absolute(tree, path, full);
	FILE *f = fopen(full, "we");
	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

void tree_putf(struct tree *tree, const char *text, const char *format, ...)
{
	char path[PATH_MAX];
	va_list args;

	va_start(args, format);
	/* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): it was started in the line above */
	vsnprintf(path, sizeof(path), format, args);
	va_end(args);
	tree_put(tree, path, text);
}

void tree_link(struct tree *tree, const char *target, const char *path)
{
	char full[PATH_MAX];

	absolute(tree, path, full);
	unlink(full);
	assert_int_equal(symlink(target, full), 0);
}

static void linkf(struct tree *tree, const char *target, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void linkf(struct tree *tree, const char *target, const char *format, ...)
{
	char path[PATH_MAX];
	va_list args;

	va_start(args, format);
	/* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): it was started in the line above */
	vsnprintf(path, sizeof(path), format, args);
	va_end(args);
	tree_link(tree, target, path);
}

static void put_hex(struct tree *tree, const char *address, const char *name, unsigned value)
{
	char text[32];

	snprintf(text, sizeof(text), "0x%04x\n", value);
	tree_putf(tree, text, BUS "/%s/%s", address, name);
}

void tree_pci(struct tree *tree, const struct tree_pci *pci)
{
	const char *a = pci->address;
	char text[PATH_MAX];

	put_hex(tree, a, "vendor", pci->vendor);
	put_hex(tree, a, "device", pci->device);
	put_hex(tree, a, "subsystem_vendor", 0x1028);
	put_hex(tree, a, "subsystem_device", 0x0001);
	snprintf(text, sizeof(text), "0x%06x\n", pci->class);
	tree_putf(tree, text, BUS "/%s/class", a);
	tree_putf(tree, "0xa1\n", BUS "/%s/revision", a);
	tree_putf(tree, "(null)\n", BUS "/%s/driver_override", a);
	tree_putf(tree, "-1\n", BUS "/%s/numa_node", a);
	tree_putf(tree, "D0\n", BUS "/%s/power_state", a);
	tree_putf(tree, "active\n", BUS "/%s/power/runtime_status", a);
	tree_putf(tree, pci->resource ? pci->resource : "0x0 0x0 0x0\n", BUS "/%s/resource", a);
	if (pci->class >> 16 == 3)
		tree_putf(tree, pci->boot_vga ? "1\n" : "0\n", BUS "/%s/boot_vga", a);
	if (pci->reset_method)
		tree_putf(tree, pci->reset_method, BUS "/%s/reset_method", a);
	snprintf(text, sizeof(text), "../../../devices/pci0000:00/%s", a);
	linkf(tree, text, "sys/bus/pci/devices/%s", a);
	linkf(tree, "../../../bus/pci", BUS "/%s/subsystem", a);
	if (pci->driver) {
		tree_putf(tree, "", "sys/bus/pci/drivers/%s/bind", pci->driver);
		snprintf(text, sizeof(text), "../../../bus/pci/drivers/%s", pci->driver);
		linkf(tree, text, BUS "/%s/driver", a);
	}
	if (pci->group) {
		snprintf(text, sizeof(text), "../../../kernel/iommu_groups/%d", pci->group);
		linkf(tree, text, BUS "/%s/iommu_group", a);
		tree_putf(tree, "DMA-FQ\n", "sys/kernel/iommu_groups/%d/type", pci->group);
		snprintf(text, sizeof(text), "../../../../devices/pci0000:00/%s", a);
		linkf(tree, text, "sys/kernel/iommu_groups/%d/devices/%s", pci->group, a);
	}
}

void tree_drm(struct tree *tree, const char *address, const char *name)
{
	char text[PATH_MAX];

	tree_putf(tree, "226:0\n", BUS "/%s/drm/%s/dev", address, name);
	snprintf(text, sizeof(text), "../../devices/pci0000:00/%s/drm/%s", address, name);
	linkf(tree, text, "sys/class/drm/%s", name);
	/* `device` is a link to the function, whose name is the address. */
	snprintf(text, sizeof(text), "../../../%s", address);
	linkf(tree, text, BUS "/%s/drm/%s/device", address, name);
	tree_putf(tree, "", "dev/dri/%s", name);
}

void tree_vf(struct tree *tree, const char *pf, unsigned number, const struct tree_pci *vf)
{
	char text[PATH_MAX];

	tree_pci(tree, vf);
	snprintf(text, sizeof(text), "../%s", pf);
	linkf(tree, text, BUS "/%s/physfn", vf->address);
	snprintf(text, sizeof(text), "../%s", vf->address);
	linkf(tree, text, BUS "/%s/virtfn%u", pf, number);
}

void tree_mdev_type(struct tree *tree, const char *parent, const char *id, const char *name,
	const char *description, const char *available)
{
	char at[256];

	snprintf(at, sizeof(at), "sys/class/mdev_bus/%.80s/mdev_supported_types/%.80s", parent, id);
	if (name)
		tree_putf(tree, name, "%s/name", at);
	if (description)
		tree_putf(tree, description, "%s/description", at);
	tree_putf(tree, available, "%s/available_instances", at);
	tree_putf(tree, "vfio-pci\n", "%s/device_api", at);
	tree_putf(tree, "", "%s/create", at);
	tree_putf(tree, "", "%s/devices/.keep", at);
}

void tree_process(struct tree *tree, unsigned pid, const char *comm, const char *const *files)
{
	tree_putf(tree, comm, "proc/%u/comm", pid);
	linkf(tree, "/dev/null", "proc/%u/fd/0", pid);
	for (unsigned i = 0; files[i]; i++)
		linkf(tree, files[i], "proc/%u/fd/%u", pid, i + 3);
}

void tree_vfio(struct tree *tree)
{
	tree_put(tree, "sys/bus/pci/drivers/vfio-pci/bind", "");
	tree_put(tree, "sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts", "N\n");
	tree_put(tree, "sys/module/vfio_pci/parameters/enable_sriov", "N\n");
	tree_put(tree, "sys/firmware/acpi/tables/DMAR", "");
	tree_put(tree, "sys/class/iommu/dmar0/intel-iommu/ecap", "f050da\n");
}

bool tree_facts(struct tree *tree, const char *name, struct host_facts *facts)
{
	static struct host_inventory inventory;
	const struct host_wanted wanted = {.roots = tree->roots, .soft_gpus = 1};
	const struct host_use use = {.root = true, .offered = 3};

	host_inventory_read(&inventory, &wanted);
	for (size_t i = 0; i < inventory.count; i++) {
		if (strcmp(inventory.gpus[i].name, name) != 0)
			continue;
		host_facts_read(&tree->roots, &inventory.gpus[i], &use, facts);
		return true;
	}
	return false;
}

const struct host_finding *tree_finding(
	const struct host_facts *facts, enum host_method method, const char *condition)
{
	static struct host_judgement judgement;

	host_method_judge(facts, method, &judgement);
	for (size_t i = 0; i < judgement.n_findings; i++) {
		if (!strcmp(judgement.findings[i].condition, condition))
			return &judgement.findings[i];
	}
	return NULL;
}

bool tree_possible(const struct host_facts *facts, enum host_method method)
{
	struct host_judgement judgement;

	host_method_judge(facts, method, &judgement);
	return judgement.possible;
}
