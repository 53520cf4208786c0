/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_HOST_SYSFS_WRITE_H
#define VGPU_HOST_SYSFS_WRITE_H

/*
 * Writing to sysfs, which asks a driver to do something and returns when it has. Some requests wait
 * until a device is closed (unbind from VFIO, removal of a mediated device, disabling VFs), inside
 * the kernel, where no signal reaches. So each is made by a process of its own.
 */

#define SYSFS_WRITE_MAX 256u /* bytes of text */

/*
 * Writes `text` at once to a file that exists. 0; -errno as the driver gives it; -ETIMEDOUT: it has
 * not returned after `limit_ms`. Then the request stands, and may be fulfilled at any later time:
 * whoever gave up reads what became of it.
 */
int sysfs_write(const char *path, const char *text, unsigned limit_ms);

#endif
