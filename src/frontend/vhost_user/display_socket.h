/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_FRONTEND_VHOST_USER_DISPLAY_SOCKET_H
#define VGPU_FRONTEND_VHOST_USER_DISPLAY_SOCKET_H

/*
 * The screens of a vGPU shown through the vhost-user-gpu socket: a display of the device that a
 * viewer (QEMU's console) can be attached to, exchanged at and detached from at any time.
 *
 * Nothing is queued. What the viewer should see is kept as state (mode, a copy of the pixels, the
 * damaged rectangle, the cursor), and messages are made from it when the socket has room; a viewer
 * that does not read makes damage merge. So memory is bounded by the heads' sizes, and a viewer
 * that comes later gets the whole picture.
 *
 * QEMU's vhost-user-vga shows its own VGA picture until the first SCANOUT of any size arrives and
 * again after a reset: a head that never showed anything sends nothing. UPDATE before SCANOUT would
 * crash QEMU, which the order of making messages excludes. GET_EDID is not used: the device makes
 * its EDID from the preferred mode, which is what QEMU is asked for.
 *
 * Anything unexpected from the viewer ends that socket and nothing else.
 */

#include "base/loop.h"
#include "device/device.h"

struct display_socket;

struct display_socket_ops {
	/* The modes asked for by display_socket_query_info() are known, or nobody will tell. */
	void (*info_ready)(void *data);
	/* The viewer went away or broke the protocol. Not called for display_socket_detach(). */
	void (*detached)(void *data, const char *reason);
};

int display_socket_create(struct device *dev, struct loop *loop,
	const struct display_socket_ops *ops, void *data, struct display_socket **ret);
void display_socket_destroy(struct display_socket *socket); /* NULL-safe */

/* Takes `fd`, a stream socket, also on failure. A viewer that was there is replaced. */
int display_socket_attach(struct display_socket *socket, int fd);
void display_socket_detach(struct display_socket *socket);

/* Asks the viewer for its modes; false when there is nobody to ask. */
bool display_socket_query_info(struct display_socket *socket);
/* Somebody waits for what the viewer has not answered: gives up and calls info_ready. */
void display_socket_abandon_info(struct display_socket *socket);

#endif
