/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_FRONTEND_VHOST_USER_H
#define VGPU_FRONTEND_VHOST_USER_H

/*
 * One vhost-user connection of a VM monitor (QEMU, libvirt's QEMU): the back end of virtio-gpu.
 * Messages, fds, guest memory and rings end here; commands go to device/virtio_gpu.h. Follows the
 * vhost-user and vhost-user-gpu protocol documents of QEMU.
 */

#include "base/loop.h"
#include "device/device.h"

#include "protocol/keeper.h"

struct vhost_user;

/* Towards the process that keeps what must outlive this one. Calls do not block. */
struct vhost_user_ops {
	/* The keeper gets a duplicate of `fd`; `custody` as in protocol/keeper.h. */
	void (*custody)(void *data, const struct keeper_custody *custody, int fd);
	void (*release)(void *data, const struct keeper_custody *custody);
	/* All regions of a new memory table were given; vhost_user_memory_verdict() will follow. */
	void (*memory_done)(void *data, uint32_t serial);
	/* The connection has ended and the caller should destroy it; "" when the peer closed it. */
	void (*closed)(void *data, const char *reason);
};

/* Takes `fd`, a connected stream socket, on success and on failure. */
int vhost_user_create(struct device *dev, struct loop *loop, int fd,
	const struct vhost_user_ops *ops, void *data, struct vhost_user **ret);
/* NULL-safe. Rings stop, the guest's memory is unmapped; the device keeps nothing of the guest. */
void vhost_user_destroy(struct vhost_user *vu);

void vhost_user_memory_verdict(struct vhost_user *vu, uint32_t serial, bool ok, const char *reason);

#endif
