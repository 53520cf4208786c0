/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_FRONTEND_VTEST_H
#define VGPU_FRONTEND_VTEST_H

/*
 * One vtest connection: a process or container whose Mesa (virpipe) draws on this vGPU. Speaks
 * protocol versions 2 and 3 as stock Mesa does, and calls the device's operations directly.
 */

#include "base/loop.h"
#include "device/device.h"

struct vtest;

struct vtest_ops {
	/* The connection has ended and the caller should destroy it; "" when the peer closed it. */
	void (*closed)(void *data, const char *reason);
};

/* Takes `fd`, a connected stream socket, on success and on failure. */
int vtest_create(struct device *dev, struct loop *loop, int fd, const char *name,
	const struct vtest_ops *ops, void *data, struct vtest **ret);
void vtest_destroy(struct vtest *vtest); /* NULL-safe */

#endif
