/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_DEVICE_DEVICE_H
#define VGPU_DEVICE_DEVICE_H

/*
 * Theory of operation
 *
 * The device is one vGPU's data plane: resources, their backing, contexts, fences, scanouts, cursor
 * and quota. It has no sockets and no GL. Frontends call it; it calls the stream pass and the
 * renderer below, and displays through an interface.
 *
 * Whoever uses the vGPU is a *client*: the virtual machine (one), or one vtest connection (many).
 * A client names resources and contexts by its own 32-bit handles; the device gives each a renderer
 * id that is unique over all clients, so clients never meet. All clients of one device belong to
 * one tenant (the vGPU's binding) and share its quota.
 *
 * A context that breaks a rule is *lost*: what it submits is answered with an error, its fences
 * complete in their turn like any other, its memory is freed when its owner destroys it, and
 * everybody else goes on.
 *
 * Every number that comes in through this interface is hostile. All calls are from one thread and
 * return 0 or -errno: -ENOENT unknown handle, -EEXIST handle taken, -EINVAL bad argument, -ENOMEM
 * over quota or host out of memory, -ENOSPC too many objects, -EIO the context is lost.
 *
 * Deliberately not here: rings and guest addresses (frontend/vhost_user), wire formats other than
 * virtio-gpu's own commands (device/virtio_gpu.h), policy about who may bind (control, keeper).
 */

#include "display/display.h"
#include "renderer/interface.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct device;
struct device_client;
struct device_loader;
struct journal;
struct journal_record;
struct state_reader;
struct state_section;
struct state_writer;
struct vgpu_stats;

/* Who says when the driver may be given work. */
struct device_gate {
	void *data;
	/*
	 * Work is about to be given; returns when it may be. Until then it blocks, and may call
	 * device_drain().
	 */
	void (*enter)(void *data);
};

struct device_config {
	const char *name;    /* of the vGPU, for log lines */
	uint64_t vram_bytes; /* quota over everything that costs host memory */
	uint32_t heads;      /* 1..DISPLAY_MAX_HEADS */
	uint32_t max_width, max_height;
	const struct renderer_ops *renderer_ops;
	const char *render_node;  /* NULL: software */
	uint32_t max_fps;         /* of a screen, of all clients together; 0: no limit */
	bool dmabuf_scanout;      /* opt-in */
	bool plain_shaders;       /* see struct renderer_config */
	bool exact_only;          /* likewise: method emulate */
	struct vgpu_stats *stats; /* shared page, not owned; never NULL */
	/* Bytes of memory that are this process's alone, 0: not known; NULL: nobody knows. */
	uint64_t (*memory)(void *data);
	void *memory_data;
};

/* Things worth telling an operator; notices are rate-limited by the device. May be NULL. */
struct device_events {
	void (*notice)(void *data, const char *text);
	/* The host's driver failed: fences will not complete, and the process should end. */
	void (*failed)(void *data);
};

int device_create(const struct device_config *config, const struct device_events *events,
	void *events_data, struct device **ret);
void device_destroy(struct device *dev); /* NULL-safe; destroys all clients */

/* What a device may be told after its renderer has started; see struct device_config. */
struct device_late_config {
	const char *name; /* copied */
	uint64_t vram_bytes;
	uint32_t heads;
	uint32_t max_width, max_height;
	uint32_t max_fps;
};
/* Before the first client, or after the last (-EBUSY); -EINVAL: out of range, nothing changed. */
int device_configure(struct device *dev, const struct device_late_config *late);

/* GL renderer string of the host's driver. */
const char *device_renderer_description(struct device *dev);

/*
 * What the renderer found out about formats, for the next process on this host, and what one before
 * found: see renderer_ops.
 */
int device_fidelity_save(struct device *dev, void *bytes, size_t size);
int device_fidelity_load(struct device *dev, const void *bytes, size_t size);

/* Readable when device_poll() has work; -1: call it by timer while fences are pending. */
int device_poll_fd(struct device *dev);
/* Retires fences; their callbacks run inside. */
void device_poll(struct device *dev);
bool device_fences_pending(const struct device *dev);
/* Without waiting: is everything that the driver was given complete? Asks it to say so when not. */
bool device_settled(struct device *dev);
/*
 * Completions are held back for so many ns more, as the frame-rate limit says; 0: none are. Then,
 * or whenever, those that are due are let go.
 */
uint64_t device_held_ns(const struct device *dev);
void device_let_go_due(struct device *dev);
/* Blocks until the driver has done all it was given. Callbacks run but for those held back. */
void device_drain(struct device *dev);
/* From now on. `gate` (NULL: work may be given at any time) stays the caller's. */
void device_set_gate(struct device *dev, const struct device_gate *gate);

/* ---- clients ---- */

/* `name` is copied, for people. */
int device_client_create(struct device *dev, const char *name, struct device_client **ret);
/*
 * Ends all of its contexts and resources. The callbacks of pending fences run first, although their
 * work may not be complete. NULL-safe.
 */
void device_client_destroy(struct device_client *client);
/* The same, but the client stays: a virtio reset, or a vtest renderer created anew. */
void device_client_reset(struct device_client *client);

/*
 * Memory that the front end keeps for a client because the client asked for it (shared memory, not
 * messages) takes up the quota, too: -ENOMEM when it has no room. The front end gives back exactly
 * what it took, also after the client's end.
 */
int device_client_charge(struct device_client *client, uint64_t bytes);
void device_uncharge(struct device *dev, uint64_t bytes);
/* So much was deleted that it is worth the time to return it to the node; and does that. */
bool device_trim_due(const struct device *dev);
void device_trim(struct device *dev);
/* Its guest does nothing: gives back what the driver can make again; see renderer_ops.rest. */
void device_rest(struct device *dev, bool compiler);

/* ---- capabilities ---- */

int device_capset_info(struct device *dev, unsigned index, struct renderer_capset *ret);
int device_capset_get(struct device *dev, uint32_t id, uint32_t version, void *buf, size_t size);

/* ---- resources ---- */

/* `handle` must not be 0. -ENOMEM when it does not fit the quota. */
int device_resource_create(
	struct device_client *client, uint32_t handle, const struct renderer_resource_desc *desc);
int device_resource_destroy(struct device_client *client, uint32_t handle);

/*
 * Gives the resource its guest-side bytes. `iov` (n entries) is copied; the memory it points at
 * must stay mapped until detached. -EEXIST when there is a backing already.
 */
int device_resource_attach_backing(
	struct device_client *client, uint32_t handle, const struct iovec *iov, unsigned n);
int device_resource_detach_backing(struct device_client *client, uint32_t handle);
/* Detaches the backing of every resource of the client: its memory map is about to change. */
void device_client_detach_all_backing(struct device_client *client);

/* A stable random UUID for the resource (virtio RESOURCE_ASSIGN_UUID). */
int device_resource_uuid(struct device_client *client, uint32_t handle, uint8_t ret_uuid[16]);

enum device_transfer_direction { DEVICE_TO_HOST, DEVICE_FROM_HOST };

/*
 * Moves a box between the resource and its backing, or between it and t->iov when t->n_iov is not
 * 0. t->ctx_id and t->resource_id are the client's handles. Bounds are checked against the resource
 * and the scatter list.
 */
int device_transfer(struct device_client *client, enum device_transfer_direction direction,
	const struct renderer_transfer *t);

/* ---- contexts ---- */

/* `capset` 0: the default (virgl). `name` (not terminated, any bytes) is for people. */
int device_context_create(struct device_client *client, uint32_t ctx, uint32_t capset,
	const char *name, size_t name_len);
int device_context_destroy(struct device_client *client, uint32_t ctx);
int device_context_attach(struct device_client *client, uint32_t ctx, uint32_t handle);
int device_context_detach(struct device_client *client, uint32_t ctx, uint32_t handle);

/*
 * Runs a command buffer. `dwords` is private to the caller and is changed in place (handles are
 * translated). -EIO: the context was lost before, or is now.
 */
int device_submit(struct device_client *client, uint32_t ctx, uint32_t *dwords, size_t n);
bool device_context_lost(struct device_client *client, uint32_t ctx);
/*
 * The client finished a frame without flushing a screen (vtest); counted in frames_total. Returns
 * for how many ns the client is not to be served, where the type limits frames.
 */
uint64_t device_client_frame(struct device_client *client);
/* Work of a client was ready for so long and not executed; see protocol/stats.h. */
void device_waited(struct device *dev, uint64_t ns);

/* ---- fences ---- */

/*
 * Completes when everything the context (0: every context of the client) was given before is done.
 * The caller owns the struct and keeps it until `done` ran or the client is destroyed or reset
 * (which runs it). `done` may be called before device_fence() returns.
 */
struct device_fence {
	void (*done)(struct device_fence *fence);
	/* private to the device */
	uint64_t id;
	struct device_client *client;
	struct device_fence *next;
};

int device_fence(struct device_client *client, uint32_t ctx, struct device_fence *fence);

/* Nothing follows soon that would be drawn with what was submitted: the driver may begin. */
void device_start_drawing(struct device_client *client);
/* Blocks until all work of the context (0: of the client) is complete, and runs due callbacks. */
void device_finish(struct device_client *client, uint32_t ctx);
/* The same for all clients. */
void device_finish_all(struct device *dev);

/* ---- screens ---- */

/* At most two displays: the keeper's screen memfds and the frontend's viewer. -ENOSPC. */
int device_add_display(struct device *dev, const struct display_ops *ops, void *data);
void device_remove_display(struct device *dev, void *data);

uint32_t device_heads(const struct device *dev);
/* What the head should show: set by the viewer, by default the type's resolution. */
struct display_mode device_preferred_mode(const struct device *dev, uint32_t head);
void device_set_preferred_mode(struct device *dev, uint32_t head, const struct display_mode *mode);
/* Builds a valid E-EDID 1.4 base block (128 bytes) for the head's preferred mode. */
size_t device_edid(const struct device *dev, uint32_t head, uint8_t *buf, size_t size);

/* Shows `rect` of the resource on a head; handle 0 switches the head off. */
int device_set_scanout(struct device_client *client, uint32_t head, uint32_t handle,
	const struct display_rect *rect);
/* The resource's rectangle changed: every head that shows it is updated. */
int device_flush(struct device_client *client, uint32_t handle, const struct display_rect *rect);
/* handle 0 hides the cursor; `image` false: position only. */
int device_cursor(struct device_client *client, uint32_t handle,
	const struct display_cursor *cursor, bool image);

#endif
