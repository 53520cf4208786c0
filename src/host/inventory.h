/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_HOST_INVENTORY_H
#define VGPU_HOST_INVENTORY_H

/*
 * The GPUs of this node: as many software GPUs as asked for, every DRM render node the kernel
 * shows, and every PCI function that is a GPU and has none, because another driver (vfio-pci, or
 * one for screens alone) or no driver holds it.
 *
 * A virtual function (SR-IOV) is a slice of its parent and shown there; it is a GPU of its own only
 * if its name is among those configured. So is a parent of mediated devices that is no PCI
 * function: nothing tells whether it is a GPU.
 *
 * Reading it opens no device and takes milliseconds; what else is known of a GPU: host/facts.h.
 */

#include "host/pci.h"

#define HOST_GPU_NAME_MAX 40
#define HOST_MAX_GPUS     64
#define HOST_NODE_MAX     128

struct host_gpu {
	/* softN, gpu-BB:DD.F (with its domain, unless 0000), gpu-renderDN, mdev-PARENT: stable over
	 * reboots */
	char name[HOST_GPU_NAME_MAX];
	const char *kind; /* "soft", "pci", "render" (a render node not on PCI) or "mdev" */
	char driver[PCI_DRIVER_MAX];       /* "" : none */
	char pci_address[PCI_ADDRESS_MAX]; /* "" : none */
	char render_node[HOST_NODE_MAX];   /* "" : none */
	uint64_t vram_mib;
	bool vram_told; /* by its driver; else it is what its window shows, or a guess */
};

struct host_inventory {
	struct host_gpu gpus[HOST_MAX_GPUS];
	size_t count;
	bool more; /* there are more GPUs than fit */
};

struct host_wanted {
	struct host_roots roots;
	unsigned soft_gpus;
	uint64_t soft_vram_mib; /* of each; 0: half of the node's memory, shared among them */
	/* Is a GPU of that name configured? May be NULL: none is. */
	bool (*configured)(void *data, const char *name);
	void *data;
};

void host_inventory_read(struct host_inventory *ret, const struct host_wanted *wanted);

/* "gpu-" and the address, without the domain if that is 0000. */
void host_gpu_name(const char *pci_address, char *ret, size_t size);

#endif
