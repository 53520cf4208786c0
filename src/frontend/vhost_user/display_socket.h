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
 *
 * A viewer never sees half a message of a process that died: the message on its way out, the bytes
 * received and what was asked and not answered are in the wire, so a successor sends the rest of it
 * and then the whole screens once more. While frozen nothing is sent or received.
 */

#include "base/loop.h"
#include "device/device.h"

#include "wire.h"

struct display_socket;
struct state_reader;
struct state_writer;

struct display_socket_ops {
	/* The modes asked for by display_socket_query_info() are known, or nobody will tell. */
	void (*info_ready)(void *data);
	/* The viewer went away or broke the protocol. Not called when we let go of it. */
	void (*detached)(void *data, const char *reason);
	/* The viewer's modes, about to be used: for display_socket_replay_modes(). May be NULL. */
	void (*modes)(void *data, const void *bytes, size_t size);
};

/* `wire` stays the caller's. */
int display_socket_create(struct device *dev, struct loop *loop, struct wire_display *wire,
	const struct display_socket_ops *ops, void *data, struct display_socket **ret);
void display_socket_destroy(struct display_socket *socket); /* NULL-safe */

/*
 * Takes `fd`, a stream socket, also on failure. A viewer that was there is replaced. `number`: of
 * the message that brought it, other for each.
 */
int display_socket_attach(struct display_socket *socket, int fd, uint64_t number);

/* Asks the viewer for its modes; false when there is nobody to ask. */
bool display_socket_query_info(struct display_socket *socket);
/* Somebody waits for what the viewer has not answered: gives up and calls info_ready. */
void display_socket_abandon_info(struct display_socket *socket);

/* Before anything was shown: what counts is in `wire`, perhaps a predecessor's. */
void display_socket_use(struct display_socket *socket, struct wire_display *wire);
/* Nothing is sent or received; who waits for the viewer is answered. */
void display_socket_freeze(struct display_socket *socket);
/* From freezing to thawing: viewers are attached as a predecessor had them. */
void display_socket_hold(struct display_socket *socket);
void display_socket_thaw(struct display_socket *socket, bool taken_over);

void display_socket_save(const struct display_socket *socket, struct state_writer *w);
/* Takes `fd` (negative: none). -EBADMSG. */
int display_socket_load(struct display_socket *socket, struct state_reader *r, int fd);
/* Reads over what display_socket_save() wrote. */
int display_socket_skip(struct state_reader *r);
int display_socket_replay_modes(struct display_socket *socket, const void *bytes, size_t size);

#endif
