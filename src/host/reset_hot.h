/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_HOST_RESET_HOT_H
#define VGPU_HOST_RESET_HOT_H

/*
 * All functions of a slot or bus at once, by VFIO (VFIO_DEVICE_PCI_HOT_RESET): for those that
 * cannot be reset alone, as most cards with sound on them. VFIO does it for whoever has the groups
 * of all of them open, so nobody else has any of them meanwhile.
 */

#include "host/sysfs.h"

/*
 * 0; -EBUSY: one of them is in use; -EPERM: one is not VFIO's; -ENOENT: no VFIO here; -ENOTTY,
 * -ENODEV: it is not reset so; -ETIMEDOUT; -errno. Waits in the kernel, in a process of its own.
 */
int reset_hot(const struct host_roots *roots, const char *address, unsigned limit_ms);

#endif
