/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_PROCESS_RENDER_NODE_H
#define VGPU_PROCESS_RENDER_NODE_H

/*
 * Which device file a GPU has now. The number of a DRM render node is given anew each time a driver
 * takes the device, and may by then be another GPU's; its PCI address is always its own. A command
 * line outlives many device processes, so it names the address.
 */

#include <stddef.h>

#define RENDER_NODE_PCI "pci:" /* before the address */
#define RENDER_NODE_MAX 256

/*
 * `name` is a path, taken as it is; or "pci:ADDRESS"; or "ROOT/pci:ADDRESS", where the node's sys
 * and dev are below ROOT. 0; -ENODEV: there is no such function; -ENOENT: its driver gives it no
 * render node; -EINVAL: it is none of these.
 */
int render_node_find(const char *name, char ret[static RENDER_NODE_MAX]);

#endif
