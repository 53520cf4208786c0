/* SPDX-License-Identifier: Apache-2.0 */

/*
 * All that is made of sysfs and procfs, whatever they say. The input is a row of changes to a
 * constructed node: a path of the table below, what lies there from now on (a file, a link,
 * nothing) and its 16-bit length and text. After each input the node is as it was.
 */

#include "base/checked.h"
#include "host/aer.h"
#include "host/methods.h"
#include "host/report.h"
#include "host/scrub.h"

#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

#define PF "sys/bus/pci/devices/0000:03:00.0/"
#define VF "sys/bus/pci/devices/0000:03:00.1/"

static const struct {
	const char *path, *text; /* text: of a file; ">TARGET": a link; NULL: nothing at first */
} places[] = {
	{PF "vendor", "0x10de\n"},
	{PF "device", "0x2335\n"},
	{PF "class", "0x030000\n"},
	{PF "resource", "0x00000000e0000000 0x00000000efffffff 0x000000000014220c\n"},
	{PF "boot_vga", "1\n"},
	{PF "reset_method", "flr bus\n"},
	{PF "driver", ">../../drivers/nvidia"},
	{PF "driver_override", "(null)\n"},
	{PF "numa_node", "-1\n"},
	{PF "aer_dev_fatal", "Undefined 0\nMalfTLP 1\nTOTAL_ERR_FATAL 1\n"},
	{PF "aer_dev_correctable", NULL},
	{PF "power_state", "D0\n"},
	{PF "power/runtime_status", "active\n"},
	{PF "mem_info_vram_total", NULL},
	{PF "physfn", NULL},
	{PF "iommu_group", ">../../../../kernel/iommu_groups/7"},
	{PF "sriov_totalvfs", "16\n"},
	{PF "sriov_numvfs", "1\n"},
	{PF "sriov_drivers_autoprobe", "1\n"},
	{PF "virtfn0", ">../0000:03:00.1"},
	{PF "virtfn1", NULL},
	{PF "sriov_admin/pf/profile/sched_priority", NULL},
	{PF "sriov_admin/vf1/profile/exec_quantum_ms", NULL},
	{PF "sriov_admin/vf1/device", NULL},
	{PF "drm/card0/card0-DP-1/status", "connected\n"},
	{PF "graphics/fb0/name", "drm\n"},
	{VF "class", "0x030000\n"},
	{VF "physfn", ">../0000:03:00.0"},
	{VF "nvidia/creatable_vgpu_types", "ID    : vGPU Name\n1414  : NVIDIA H200X-1-18C\n"},
	{VF "nvidia/current_vgpu_type", "0\n"},
	{"sys/class/drm/renderD128/device", ">../../../bus/pci/devices/0000:03:00.0"},
	{PF "subsystem", ">../../../../bus/pci"},
	{"sys/kernel/iommu_groups/7/devices/0000:03:00.0",
		">../../../../bus/pci/devices/0000:03:00.0"},
	{"sys/kernel/iommu_groups/7/devices/0000:04:00.0/driver", ">../x/ahci"},
	{"sys/kernel/iommu_groups/7/devices/0000:04:00.0/class", "0x010601\n"},
	{"sys/kernel/iommu_groups/7/type", "DMA\n"},
	{"sys/class/iommu/dmar0/intel-iommu/ecap", "f050da\n"},
	{"sys/class/mdev_bus/0000:03:00.0/mdev_supported_types/a/name", "a name\n"},
	{"sys/class/mdev_bus/0000:03:00.0/mdev_supported_types/a/description", "words\n"},
	{"sys/class/mdev_bus/0000:03:00.0/mdev_supported_types/a/available_instances", "4\n"},
	{"sys/class/vtconsole/vtcon1/name", "(M) frame buffer device\n"},
	{"sys/class/vtconsole/vtcon1/bind", "1\n"},
	{"sys/class/graphics/fb0/device", ">../../../0000:03:00.0"},
	{"sys/module/vfio_pci/parameters/enable_sriov", "N\n"},
	{"proc/cmdline", "quiet intel_iommu=on\n"},
	{"proc/sys/kernel/osrelease", "6.12.0\n"},
	{"proc/driver/nvidia/gpus/0000:03:00.0/information", "Device Minor: \t 0\n"},
	{"proc/812/comm", "Xorg\n"},
	{"proc/812/fd/5", ">/dev/dri/card0"},
	{"lib/modules/6.12.0/modules.dep", "kernel/vfio-pci.ko: kernel/vfio.ko\n"},
};

static char root[] = "/tmp/vgpu-fuzz-XXXXXX";
static struct host_roots roots;
static char paths[4][64];

static void make_folders(char *path)
{
	for (char *p = path + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		mkdir(path, 0755);
		*p = '/';
	}
}

static void put(const char *place, char kind, const char *text, size_t size)
{
	char path[PATH_MAX], target[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", root, place);
	unlink(path);
	if (kind == 'f') {
		int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
		if (fd >= 0) {
			(void)!write(fd, text, size);
			close(fd);
		}
	} else if (kind == 'l') {
		size_t n = MIN(size, sizeof(target) - 1);
		memcpy(target, text, n);
		target[n] = '\0';
		/* Not out of the tree: what is there is none of ours. */
		if (target[0] != '/' || !strncmp(target, "/dev/", 5))
			(void)!symlink(target, path);
	}
}

static void restore(size_t i)
{
	const char *text = places[i].text;

	if (!text)
		put(places[i].path, '-', "", 0);
	else if (text[0] == '>')
		put(places[i].path, 'l', text + 1, strlen(text + 1));
	else
		put(places[i].path, 'f', text, strlen(text));
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	return remove(path);
}

static void remove_root(void)
{
	nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static const char *const folders[] = {"sys", "proc", "dev", "lib/modules"};
	char path[PATH_MAX];

	if (!mkdtemp(root) || atexit(remove_root) != 0)
		abort();
	for (size_t i = 0; i < ARRAY_SIZE(folders); i++)
		snprintf(paths[i], sizeof(paths[i]), "%s/%s", root, folders[i]);
	roots = (struct host_roots){paths[0], paths[1], paths[2], paths[3]};
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		snprintf(path, sizeof(path), "%s/%s", root, places[i].path);
		make_folders(path);
		restore(i);
	}
	return 0;
}

static bool configured(void *data, const char *name)
{
	return true;
}

/* What is decided by it when it changes hands. */
static void look_at_hardware(void)
{
	static const struct aer_counters none;
	static struct aer_counters counters;
	struct sysfs_troubles troubles = {0};
	char text[AER_TEXT_MAX];
	struct pci_device pci;
	const char *beyond;

	aer_read(&roots, "0000:03:00.0", &counters);
	aer_difference(&none, &counters, text, sizeof(text));
	aer_difference(&counters, &none, text, sizeof(text));
	if (pci_read(&roots, "0000:03:00.0", &pci, &troubles) < 0)
		return;
	int bar = scrub_window(&pci, &beyond);
	if (bar >= 0 && !pci.bars[bar].prefetchable)
		abort(); /* registers would be written */
}

static void look(void)
{
	static struct host_inventory inventory;
	static struct host_facts facts;
	const struct host_wanted wanted = {
		.roots = roots, .soft_gpus = 1, .configured = configured};
	const struct host_use use = {.root = true, .vgpus = 1, .method = "forward"};

	host_inventory_read(&inventory, &wanted);
	for (size_t i = 0; i < inventory.count; i++) {
		host_facts_read(&roots, &inventory.gpus[i], &use, &facts);
		json_t *report = host_report(&facts);
		char *text = report ? json_dumps(report, 0) : NULL;
		if (!text)
			abort(); /* something in it is no JSON */
		free(text);
		json_decref(report);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct vendor vendor;
	static struct aer_counters counters;
	bool changed[ARRAY_SIZE(places)] = {false};

	/* The one text that is more than a number or a word, by itself too. */
	char *text = calloc(1, size + 1);
	if (!text)
		return 0;
	memcpy(text, data, size);
	vendor = (struct vendor){0};
	vendor_parse_nvidia(text, size % SRIOV_VFS_MAX, &vendor);
	counters = (struct aer_counters){0};
	aer_parse(text, size ? data[0] % AER_SEVERITY_COUNT : AER_FATAL, &counters);
	free(text);
	while (size >= 4) {
		size_t i = data[0] % ARRAY_SIZE(places);
		size_t n = MIN((size_t)(data[2] | data[3] << 8), size - 4);
		put(places[i].path, "fl-f"[data[1] & 3], (const char *)data + 4, n);
		changed[i] = true;
		data += 4 + n;
		size -= 4 + n;
	}
	look();
	look_at_hardware();
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		if (changed[i])
			restore(i);
	}
	return 0;
}
