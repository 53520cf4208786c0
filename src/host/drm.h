/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_HOST_DRM_H
#define VGPU_HOST_DRM_H

/*
 * What the kernel offers of a GPU to programs: its DRM, accelerator and NVIDIA device files, its
 * screens, and whether the text console is on it.
 */

#include "host/sysfs.h"

#define DRM_NODES_MAX 16
#define DRM_NODE_MAX  32

struct drm {
	char nodes[DRM_NODES_MAX][DRM_NODE_MAX]; /* below /dev: "dri/card0", "dri/renderD128" */
	size_t n_nodes;
	char render[DRM_NODE_MAX];  /* one of them; "" : it cannot draw without a screen */
	char console[DRM_NODE_MAX]; /* the frame buffer on which the kernel's console is: "fb0" */
	uint32_t screens;           /* that are plugged in */
};

/*
 * `dir`: the folder of the device. `pci_address`: "" when it is none. `boot_vga`: the firmware's
 * frame buffer (efifb, vesafb, simpledrm) is on it, if there is one.
 */
void drm_read(const struct host_roots *roots, int dir, const char *pci_address, bool boot_vga,
	struct drm *ret, struct sysfs_troubles *troubles);

#endif
