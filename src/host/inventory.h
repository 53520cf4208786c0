/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_HOST_INVENTORY_H
#define VGPU_HOST_INVENTORY_H

/*
 * The GPUs of this node: every DRM render node the kernel shows, and as many software GPUs as asked
 * for. Read once; reading it never opens a device.
 */

#include <stddef.h>
#include <stdint.h>

#define HOST_GPU_NAME_MAX 40
#define HOST_MAX_GPUS     64

struct host_gpu {
	char name[HOST_GPU_NAME_MAX]; /* softN, gpu-BB:DD.F, gpu-renderDN: stable over reboots */
	const char *kind;             /* "soft", "pci" or "render" (a render node not on PCI) */
	char driver[32];
	char pci_address[16]; /* "" : none */
	char render_node[64]; /* "" : none */
	uint64_t vram_mib;
};

struct host_inventory {
	struct host_gpu gpus[HOST_MAX_GPUS];
	size_t count;
};

/*
 * `sys_dir` is where sysfs is mounted, `dev_dir` where render nodes are ("/sys", "/dev/dri").
 * `soft_vram_mib` 0: half of the node's memory, shared among the soft GPUs.
 */
void host_inventory_read(struct host_inventory *ret, const char *sys_dir, const char *dev_dir,
	unsigned soft_gpus, uint64_t soft_vram_mib);

#endif
