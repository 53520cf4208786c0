/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_HOST_HELD_H
#define VGPU_HOST_HELD_H

/*
 * Is a PCI function in somebody's hands? By a device file that a process has open (DRM, VFIO), or
 * by a driver of the host. True of the moment it was looked at.
 */

#include "host/holder.h"
#include "host/pci.h"

/* Who has one of its device files, or its group's, open. 0, or -errno: -ENODEV: it is not there. */
int held_find(const struct host_roots *roots, const char *address, struct holders *ret);

/*
 * May it be changed under everybody's hands? 0: its driver is none or one of VFIO's, and nobody
 * has it open; -EBUSY: no, by the holders, or, if there are none, by its driver; -errno.
 * `ret_driver` ("" : none) has PCI_DRIVER_MAX bytes and is filled in each case.
 */
int held_check(
	const struct host_roots *roots, const char *address, char *ret_driver, struct holders *ret);

/* "PID 812 (qemu) has /dev/vfio/7 open, and 2 more"; of a count above 0. Returns `ret`. */
const char *held_text(const struct holders *holders, char *ret, size_t size);

#endif
