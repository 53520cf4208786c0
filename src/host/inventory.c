/* SPDX-License-Identifier: Apache-2.0 */
#include "host/inventory.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/parse.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PREFETCHABLE    0x2000u /* IORESOURCE_PREFETCH in sysfs' `resource` */
#define PCI_BARS        6
#define UNKNOWN_VRAM    1024u /* MiB, where nothing says: integrated GPUs use the node's memory */
#define SOFT_VRAM_LEAST 256u

/* The node's memory in MiB; 0 when unknown. */
static uint64_t host_memory_mib(void)
{
	long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
	return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size >> 20 : 0;
}

static uint64_t vram_from_driver(const char *device_dir)
{
	char path[1024], text[64];
	uint64_t bytes;

	snprintf(path, sizeof(path), "%s/mem_info_vram_total", device_dir);
	cleanup_fclose FILE *f = fopen(path, "re");
	return f && fgets(text, sizeof(text), f) && parse_number(text, 10, UINT64_MAX, &bytes)
		       ? bytes
		       : 0;
}

/* The largest prefetchable BAR: the window onto a discrete GPU's memory. */
static uint64_t vram_from_bars(const char *device_dir)
{
	char path[1024], text[128];
	uint64_t start, end, flags, largest = 0;

	snprintf(path, sizeof(path), "%s/resource", device_dir);
	cleanup_fclose FILE *f = fopen(path, "re");
	for (int i = 0; f && i < PCI_BARS && fgets(text, sizeof(text), f); i++) {
		const char *at = text;
		if (parse_next(&at, 16, UINT64_MAX, &start) &&
			parse_next(&at, 16, UINT64_MAX, &end) &&
			parse_next(&at, 16, UINT64_MAX, &flags) && end > start &&
			(flags & PREFETCHABLE) && end - start + 1 > largest)
			largest = end - start + 1;
	}
	return largest;
}

/* The last part of what a symbolic link in `dir` points to; "" when there is none. */
static void link_name(const char *dir, const char *name, char *ret, size_t size)
{
	char path[1024], target[PATH_MAX];

	ret[0] = '\0';
	snprintf(path, sizeof(path), "%s/%s", dir, name);
	ssize_t n = readlink(path, target, sizeof(target) - 1);
	if (n <= 0)
		return;
	target[n] = '\0';
	const char *slash = strrchr(target, '/');
	snprintf(ret, size, "%.*s", (int)size - 1, slash ? slash + 1 : target);
}

static void gpu_from_node(
	struct host_gpu *gpu, const char *sys_dir, const char *dev_dir, const char *node)
{
	char device_dir[512], bus[32], address[32];

	*gpu = (struct host_gpu){.kind = "render"};
	snprintf(device_dir, sizeof(device_dir), "%.400s/class/drm/%.24s/device", sys_dir, node);
	link_name(device_dir, "driver", gpu->driver, sizeof(gpu->driver));
	link_name(device_dir, "subsystem", bus, sizeof(bus));
	snprintf(gpu->render_node, sizeof(gpu->render_node), "%s/%.24s", dev_dir, node);
	snprintf(gpu->name, sizeof(gpu->name), "gpu-%.24s", node);
	if (!strcmp(bus, "pci")) {
		char class_dir[512];
		snprintf(class_dir, sizeof(class_dir), "%.400s/class/drm/%.24s", sys_dir, node);
		link_name(class_dir, "device", address, sizeof(address));
		const char *shown = strncmp(address, "0000:", 5) ? address : address + 5;
		gpu->kind = "pci";
		snprintf(gpu->pci_address, sizeof(gpu->pci_address), "%.15s", address);
		snprintf(gpu->name, sizeof(gpu->name), "gpu-%s", shown);
	}
	uint64_t bytes = vram_from_driver(device_dir);
	if (!bytes)
		bytes = vram_from_bars(device_dir);
	gpu->vram_mib = bytes >> 20 ? bytes >> 20 : UNKNOWN_VRAM;
}

static int is_render_node(const struct dirent *entry)
{
	return !strncmp(entry->d_name, "renderD", 7);
}

void host_inventory_read(struct host_inventory *ret, const char *sys_dir, const char *dev_dir,
	unsigned soft_gpus, uint64_t soft_vram_mib)
{
	char path[1024];
	struct dirent **nodes = NULL;

	ret->count = 0;
	if (!soft_vram_mib && soft_gpus)
		soft_vram_mib = MAX(host_memory_mib() / 2 / soft_gpus, SOFT_VRAM_LEAST);
	for (unsigned i = 0; i < soft_gpus && ret->count < HOST_MAX_GPUS; i++) {
		struct host_gpu *gpu = &ret->gpus[ret->count++];
		*gpu = (struct host_gpu){
			.kind = "soft", .driver = "llvmpipe", .vram_mib = soft_vram_mib};
		snprintf(gpu->name, sizeof(gpu->name), "soft%u", i);
	}
	snprintf(path, sizeof(path), "%s/class/drm", sys_dir);
	int n = scandir(path, &nodes, is_render_node, alphasort);
	for (int i = 0; i < n; i++) {
		if (ret->count < HOST_MAX_GPUS)
			gpu_from_node(&ret->gpus[ret->count++], sys_dir, dev_dir, nodes[i]->d_name);
		free(nodes[i]);
	}
	free(nodes);
}
