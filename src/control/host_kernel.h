/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_HOST_KERNEL_H
#define VGPU_CONTROL_HOST_KERNEL_H

/*
 * How requests get to the kernel: written to sysfs, each by a process of its own
 * (host/sysfs_write.h), between two kill points of the tests.
 *
 * A constructed tree has no kernel that would react. Where it has a socket named `kernel`
 * (SOCK_SEQPACKET), a test stands behind that: a request is one packet, the file's path and the
 * text with a NUL between them, and the answer is one packet, a number in text: 0 or -errno.
 */

#include "control/vgpud.h"

#define HOST_KERNEL_SOCKET "kernel"

/* Sets d->kernel, by the roots that were chosen. */
void host_kernel_open(struct vgpud *d, const char *root);

#endif
