/* SPDX-License-Identifier: Apache-2.0 */
#include "host/inventory.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/parse.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define UNKNOWN_VRAM    1024u /* MiB, where nothing says: integrated GPUs use the node's memory */
#define SOFT_VRAM_LEAST 256u
#define TILES_MAX       8u

/* One reading. Troubles are of interest where one GPU is asked about, not here. */
struct scan {
	const struct host_wanted *wanted;
	struct host_inventory *ret;
	struct sysfs_troubles troubles;
	/* Where render nodes that are no PCI function's own hang, and thus below which function. */
	char (*below)[PATH_MAX];
	size_t n_below;
};

/* The node's memory in MiB; 0 when unknown. */
static uint64_t host_memory_mib(void)
{
	long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
	return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size >> 20 : 0;
}

void host_gpu_name(const char *pci_address, char *ret, size_t size)
{
	bool usual = !strncmp(pci_address, "0000:", 5);

	snprintf(ret, size, "gpu-%s", usual ? pci_address + 5 : pci_address);
}

/* As amdgpu and xe tell it; 0: the driver does not. */
static uint64_t vram_from_driver(int dir)
{
	uint64_t sum = 0, bytes;
	char name[64];

	if (sysfs_number(dir, "mem_info_vram_total", 10, UINT64_MAX, &bytes) == 0)
		return bytes;
	for (unsigned i = 0; i < TILES_MAX; i++) {
		snprintf(name, sizeof(name), "tile%u/physical_vram_size_bytes", i);
		if (sysfs_number(dir, name, 10, UINT64_MAX, &bytes) < 0 ||
			!checked_add(sum, bytes, &sum))
			break;
	}
	return sum;
}

static void set_vram(struct host_gpu *gpu, int dir, const struct pci_device *pci)
{
	uint64_t bytes = dir >= 0 ? vram_from_driver(dir) : 0;
	gpu->vram_told = bytes > 0;

	if (!bytes)
		bytes = pci_vram_window(pci);
	gpu->vram_mib = bytes >> 20 ? bytes >> 20 : UNKNOWN_VRAM;
}

static bool configured(const struct scan *scan, const char *name)
{
	return scan->wanted->configured && scan->wanted->configured(scan->wanted->data, name);
}

/* NULL: it is there already, or there is no room. */
static struct host_gpu *add_gpu(struct scan *scan, const char *name, const char *kind)
{
	struct host_inventory *ret = scan->ret;

	for (size_t i = 0; i < ret->count; i++) {
		if (!strcmp(ret->gpus[i].name, name))
			return NULL;
	}
	if (ret->count == HOST_MAX_GPUS) {
		ret->more = true;
		return NULL;
	}
	struct host_gpu *gpu = &ret->gpus[ret->count++];
	*gpu = (struct host_gpu){.kind = kind};
	snprintf(gpu->name, sizeof(gpu->name), "%.39s", name);
	return gpu;
}

/* --- render nodes --- */

static bool is_render_node(const char *name)
{
	uint64_t number;

	return !strncmp(name, "renderD", 7) && isdigit((unsigned char)name[7]) &&
	       parse_number(name + 7, 10, INT_MAX, &number);
}

static void set_render_node(const struct scan *scan, struct host_gpu *gpu, const char *node)
{
	size_t size = sizeof(gpu->render_node);

	int n = snprintf(gpu->render_node, size, "%s/dri/%s", scan->wanted->roots.dev, node);
	if (n < 0 || (size_t)n >= size)
		gpu->render_node[0] = '\0';
}

static void add_pci(struct scan *scan, const char *address, int dir, const char *node)
{
	struct pci_device pci;
	char name[HOST_GPU_NAME_MAX];

	if (pci_read(&scan->wanted->roots, address, &pci, &scan->troubles) < 0)
		return; /* it just went */
	host_gpu_name(address, name, sizeof(name));
	if (pci.physfn[0] && !configured(scan, name))
		return;
	struct host_gpu *gpu = add_gpu(scan, name, "pci");
	if (!gpu)
		return;
	memcpy(gpu->driver, pci.driver, sizeof(gpu->driver));
	memcpy(gpu->pci_address, pci.address, sizeof(gpu->pci_address));
	if (node)
		set_render_node(scan, gpu, node);
	set_vram(gpu, dir, &pci);
}

/* A render node of another bus, or of virtio, which is a function below a PCI function. */
static void add_other(struct scan *scan, int class_dir, int dir, const char *node)
{
	static const struct pci_device none;
	char name[HOST_GPU_NAME_MAX], path[64], link[64];

	snprintf(name, sizeof(name), "gpu-%.24s", node);
	struct host_gpu *gpu = add_gpu(scan, name, "render");
	if (!gpu)
		return;
	set_render_node(scan, gpu, node);
	set_vram(gpu, dir, &none);
	if (dir < 0)
		return;
	sysfs_link(dir, "driver", gpu->driver, sizeof(gpu->driver));
	snprintf(path, sizeof(path), "%.24s/device", node);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", dir);
	void *grown = reallocarray(scan->below, scan->n_below + 1, sizeof(*scan->below));
	if (!grown)
		return;
	scan->below = grown;
	ssize_t n = readlink(link, scan->below[scan->n_below], PATH_MAX - 1);
	if (n > 0)
		scan->below[scan->n_below++][n] = '\0';
}

static void scan_render_nodes(struct scan *scan, int sys)
{
	cleanup_names struct sysfs_names names = {0};
	char path[SYSFS_NAME_MAX + 16], bus[16], address[PCI_ADDRESS_MAX];

	cleanup_close int class_dir = sysfs_open(sys, "class/drm");
	if (class_dir < 0 || sysfs_list(class_dir, ".", &names) < 0)
		return;
	for (size_t i = 0; i < names.count; i++) {
		const char *node = names.name[i];
		if (!is_render_node(node))
			continue;
		snprintf(path, sizeof(path), "%s/device", node);
		cleanup_close int dir = sysfs_open(class_dir, path);
		bool pci = dir >= 0 && sysfs_link(dir, "subsystem", bus, sizeof(bus)) == 0 &&
			   !strcmp(bus, "pci") &&
			   sysfs_link(class_dir, path, address, sizeof(address)) == 0 &&
			   pci_address_valid(address);
		if (pci)
			add_pci(scan, address, dir, node);
		else
			add_other(scan, class_dir, dir, node);
	}
}

/* --- PCI functions without a render node --- */

/* virtio's render node belongs to a device of its own below the function. */
static bool has_node_below(const struct scan *scan, const char *address)
{
	char part[PCI_ADDRESS_MAX + 2];

	snprintf(part, sizeof(part), "/%s/", address);
	for (size_t i = 0; i < scan->n_below; i++) {
		if (strstr(scan->below[i], part))
			return true;
	}
	return false;
}

static void scan_pci(struct scan *scan, int sys)
{
	cleanup_names struct sysfs_names names = {0};
	struct sysfs_troubles none = {0};
	struct pci_device pci;

	if (sysfs_list(sys, "bus/pci/devices", &names) < 0)
		return;
	scan->ret->more |= names.more;
	for (size_t i = 0; i < names.count; i++) {
		const char *address = names.name[i];
		uint64_t class;
		cleanup_close int dir = pci_open(&scan->wanted->roots, address);
		if (dir < 0 || sysfs_number(dir, "class", 16, 0xffffff, &class) < 0 ||
			(!pci_is_display((uint32_t) class) &&
				!pci_is_accelerator((uint32_t) class)))
			continue;
		if (pci_read(&scan->wanted->roots, address, &pci, &none) == 0 && pci_is_gpu(&pci) &&
			!has_node_below(scan, address))
			add_pci(scan, address, dir, NULL);
	}
}

static void scan_mdev_parents(struct scan *scan, int sys)
{
	static const struct pci_device none;
	cleanup_names struct sysfs_names names = {0};
	char name[HOST_GPU_NAME_MAX], path[SYSFS_NAME_MAX + 16];

	if (!scan->wanted->configured || sysfs_list(sys, "class/mdev_bus", &names) < 0)
		return;
	for (size_t i = 0; i < names.count; i++) {
		int n = snprintf(name, sizeof(name), "mdev-%s", names.name[i]);
		if (pci_address_valid(names.name[i]) || (size_t)n >= sizeof(name) ||
			!configured(scan, name))
			continue;
		struct host_gpu *gpu = add_gpu(scan, name, "mdev");
		if (!gpu)
			continue;
		snprintf(path, sizeof(path), "class/mdev_bus/%s", names.name[i]);
		cleanup_close int dir = sysfs_open(sys, path);
		if (dir >= 0)
			sysfs_link(dir, "driver", gpu->driver, sizeof(gpu->driver));
		set_vram(gpu, -1, &none);
	}
}

void host_inventory_read(struct host_inventory *ret, const struct host_wanted *wanted)
{
	struct scan scan = {.wanted = wanted, .ret = ret};
	uint64_t soft_mib = wanted->soft_vram_mib;
	char name[HOST_GPU_NAME_MAX];

	ret->count = 0;
	ret->more = false;
	if (!soft_mib && wanted->soft_gpus)
		soft_mib = MAX(host_memory_mib() / 2 / wanted->soft_gpus, SOFT_VRAM_LEAST);
	for (unsigned i = 0; i < wanted->soft_gpus; i++) {
		snprintf(name, sizeof(name), "soft%u", i);
		struct host_gpu *gpu = add_gpu(&scan, name, "soft");
		if (!gpu)
			break;
		snprintf(gpu->driver, sizeof(gpu->driver), "llvmpipe");
		gpu->vram_mib = soft_mib;
	}
	cleanup_close int sys = sysfs_open(AT_FDCWD, wanted->roots.sys);
	if (sys < 0)
		return;
	scan_render_nodes(&scan, sys);
	scan_pci(&scan, sys);
	scan_mdev_parents(&scan, sys);
	free(scan.below);
}
