/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_FRONTEND_VHOST_USER_H
#define VGPU_FRONTEND_VHOST_USER_H

/*
 * Theory of operation
 *
 * One vhost-user connection of a VM monitor (QEMU, libvirt's QEMU): the back end of virtio-gpu.
 * Messages, fds, guest memory and rings end here; commands go to device/virtio_gpu.h. Follows the
 * vhost-user and vhost-user-gpu documents of QEMU; one object a connection. Without keep nothing
 * survives it but what the keeper has in custody and what the inflight region says; with keep the
 * connection is carried on by another process (state.c).
 *
 *   message         the wire: whole messages with their fds, never blocking
 *   handlers        what each request means; answers and acknowledgements
 *   memory, guard   the guest's memory; files cut short under it
 *   virtqueue, ring descriptors and indices; a ring's life
 *   inflight        requests taken and not returned, for a successor
 *   display_*       the second socket, over which QEMU gets pixels
 *   wire, state     what outlives the process, and how a successor goes on
 *   image           the connection's section of an image
 *   transfer        the whole state over a pipe of the front end
 *
 * Trust. The front end and, through it, the guest are hostile. What breaks the message protocol
 * ends the connection with one reason; what breaks a ring stops that ring until the front end
 * starts it anew; what breaks the display protocol ends the display. Refusals that the front end
 * can hear of (REPLY_ACK) are answered and change nothing else. Guest memory can change and even
 * vanish at any moment: values are read once, and a truncated file becomes zeros and the end of
 * the connection (guard).
 *
 * Memory and rings. After each addition to the memory table the keeper is told of every new region
 * and must approve before any ring is served. Whatever takes mappings away waits until no request
 * is in flight, without blocking: the message is held, the rings take nothing more, and the
 * device is polled, for 5 s at most; so do GET_VRING_BASE and RESET_DEVICE.
 *
 * What QEMU does that the documents do not tell. GPU_SET_SOCKET comes before SET_FEATURES, anew at
 * each start of the device, and the viewer's answers may come only after later messages here. A
 * paused guest is stopped with GET_VRING_BASE and started with the same base: its resources must
 * survive. A guest's reset is RESET_DEVICE since QEMU 8.2; before, it is known from the driver's
 * empty rings. The memory table survives both. While the firmware draws through VGA QEMU shows
 * that itself (vhost-user-vga), as long as no SCANOUT came since the last reset, so none is sent
 * before the guest sets one; a reset brings VGA back with no help from here.
 *
 * Deliberately not here: packed rings, IOTLB, dirty logging and post-copy (QEMU does not migrate a
 * virgl device), status messages, host notifiers.
 */

#include "base/loop.h"
#include "device/saving.h"

#include "protocol/keeper.h"

struct vhost_user;

/*
 * Towards the process that keeps what must outlive this one. Calls do not block. A custody of the
 * same kind and index takes the place of the one before.
 */
struct vhost_user_ops {
	/* The keeper gets a duplicate of `fd`; `custody` as in protocol/keeper.h. */
	void (*custody)(void *data, const struct keeper_custody *custody, int fd);
	void (*release)(void *data, const struct keeper_custody *custody);
	/*
	 * All regions of a new memory table were given; vhost_user_memory_verdict() will follow,
	 * possibly from inside this call.
	 */
	void (*memory_done)(void *data, uint32_t serial);
	/*
	 * The connection has ended and the caller should destroy it, at once if it likes; "" when
	 * the peer closed it. Called once, from the event loop.
	 */
	void (*closed)(void *data, const char *reason);
	/*
	 * Optional, both or neither: the whole device in a state file, for a VM monitor that
	 * migrates (vhost-user DEVICE_STATE), in the empty memfd `fd`, which stays the front end's.
	 * The rings are stopped. `dry`: only whether it could be done. 0 or -errno. Whoever loads
	 * gives the CONNECTION section to vhost_user_load_device(), and keeps what was loaded: it
	 * is in no journal.
	 */
	int (*state_save)(void *data, int fd, bool dry);
	int (*state_load)(void *data, int fd);
};

/*
 * Takes `fd`, a connected stream socket, on success and on failure, and adds a display to the
 * device. The process has called guard_install_sigbus_handler() before. `ops` must outlive the
 * connection.
 */
int vhost_user_create(struct device *dev, struct loop *loop, int fd,
	const struct vhost_user_ops *ops, void *data, struct vhost_user **ret);
/* NULL-safe. Rings stop, the guest's memory is unmapped; the device keeps nothing of the guest. */
void vhost_user_destroy(struct vhost_user *vu);

/* `ok` false ends the connection with `reason`. Verdicts on tables since replaced are ignored. */
void vhost_user_memory_verdict(struct vhost_user *vu, uint32_t serial, bool ok, const char *reason);

/*
 * ---- state (docs/decisions/0009) ----
 *
 * With `keep`, messages and requests go to the journal before they are executed, and whatever the
 * connection needs is in custody: it can be carried on by another process. Called right after
 * vhost_user_create(), before the loop runs; `connection` is the keeper's number. 0 or -errno.
 */
struct frontend_keep;
struct journal_record;
struct state_reader;
struct state_writer;

int vhost_user_keep(struct vhost_user *vu, const struct frontend_keep *keep, uint32_t connection);

/* Nothing is taken from rings or sockets any more, nothing is lost; until vhost_user_thaw(). */
void vhost_user_freeze(struct vhost_user *vu);
void vhost_user_thaw(struct vhost_user *vu);

/*
 * Frozen, all of the device's work complete: is there something only a process can do, of which no
 * kick and no byte will tell? When not, every ring that runs has asked for kicks.
 */
bool vhost_user_pending(struct vhost_user *vu);

/* Writes the payload of its CONNECTION section. Frozen, and all of the device's work complete. */
void vhost_user_save(struct vhost_user *vu, struct state_writer *w);
/*
 * Takes up a predecessor's connection: created with the same fd, kept under the same number,
 * frozen. `r` stands in its CONNECTION section; NULL: it came after the image, there was nothing.
 */
int vhost_user_load(struct vhost_user *vu, struct state_reader *r);
/*
 * Takes only the guest's device out of a CONNECTION section, for a connection that its front end
 * has set up itself: memory is there, no ring runs.
 */
int vhost_user_load_device(struct vhost_user *vu, struct state_reader *r);
/* Executes a record of this connection, between device_replay_begin() and _end(). */
int vhost_user_replay(struct vhost_user *vu, const struct journal_record *record);

#endif
