/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_DEVICE_VIRTIO_GPU_H
#define VGPU_DEVICE_VIRTIO_GPU_H

/*
 * The virtio-gpu command interpreter (virtio 1.2, section 5.7) over one device client: what a
 * transport (vhost-user, later vfio-user) feeds with requests from the control and cursor queues.
 * Each command is one row of protocol/virtio_gpu.def.
 *
 * A request is answered exactly once, at once or later (fences, display info), by ops.complete,
 * possibly before virtio_gpu_request() returns. Every request is answered: malformed ones with
 * VIRTIO_GPU_RESP_ERR_*.
 */

#include "device/device.h"

enum virtio_gpu_queue { VIRTIO_GPU_CONTROL_QUEUE, VIRTIO_GPU_CURSOR_QUEUE };

/* One descriptor chain. Embedded in the transport's own ring element. */
struct virtio_gpu_request {
	const struct iovec *out; /* device-readable; guest memory */
	unsigned n_out;
	const struct iovec *in; /* device-writable; guest memory */
	unsigned n_in;
	/* private to the interpreter from request to completion */
	struct device_fence fence;
	struct virtio_gpu *gpu;
	struct virtio_gpu_request *next;
	uint32_t flags, ring_idx, ctx_id;
	uint64_t fence_id;
	uint32_t response_len; /* bytes already written to `in` */
};

struct virtio_gpu_transport_ops {
	/*
	 * Guest-physical range to host memory: fills up to `max` entries and returns how many, or
	 * -EFAULT when any of it lies outside guest memory, -E2BIG when `max` is too small.
	 */
	int (*translate)(void *data, uint64_t gpa, uint64_t len, struct iovec *iov, unsigned max);
	/* `written` bytes of the request's `in` list are valid. The request is the transport's
	 * again. */
	void (*complete)(void *data, struct virtio_gpu_request *request, uint32_t written);
	/*
	 * The guest asks for GET_DISPLAY_INFO: a transport whose viewer decides modes starts asking
	 * it and later calls virtio_gpu_display_info_ready(); returns false to answer from
	 * device_preferred_mode() at once. May be NULL.
	 */
	bool (*query_display_info)(void *data);
};

struct virtio_gpu;

int virtio_gpu_create(struct device *dev, const struct virtio_gpu_transport_ops *ops, void *data,
	struct virtio_gpu **ret);
void virtio_gpu_destroy(struct virtio_gpu *gpu); /* NULL-safe; completes pending requests */

/* Device feature bits offered, without VIRTIO_F_* and ring features: VIRGL, EDID, RESOURCE_UUID… */
uint64_t virtio_gpu_features(const struct virtio_gpu *gpu);
/* The driver's choice; commands of features not negotiated are refused. */
void virtio_gpu_set_features(struct virtio_gpu *gpu, uint64_t features);

/* struct virtio_gpu_config; reads and writes beyond it are refused with -EINVAL. */
int virtio_gpu_config_read(const struct virtio_gpu *gpu, uint32_t offset, void *buf, uint32_t len);
int virtio_gpu_config_write(struct virtio_gpu *gpu, uint32_t offset, const void *buf, uint32_t len);

/* Executes one request. */
void virtio_gpu_request(
	struct virtio_gpu *gpu, enum virtio_gpu_queue queue, struct virtio_gpu_request *request);
void virtio_gpu_display_info_ready(struct virtio_gpu *gpu);

/* Guest reset: all of the guest's resources, contexts and scanouts end. Pending requests complete.
 */
void virtio_gpu_reset(struct virtio_gpu *gpu);

/*
 * The guest-memory map changes. Call _begin while the old mapping is still valid, _end when the new
 * one is: backings are re-translated from the guest-physical addresses the driver gave.
 */
void virtio_gpu_memory_change_begin(struct virtio_gpu *gpu);
void virtio_gpu_memory_change_end(struct virtio_gpu *gpu);

/*
 * State: what the driver chose, its backings as guest addresses, and which client of the device is
 * the guest. Loading takes the place of virtio_gpu_create()'s empty client; guest memory must be
 * mapped by then, no byte of it is changed. -EBADMSG, -ENOENT: there is no such client, -ENOMEM.
 *
 * Requests that are replayed are given to virtio_gpu_request() with `out` in private memory and,
 * where the guest has its answer, with n_in 0: nothing is written then.
 */
struct state_reader;
struct state_writer;
void virtio_gpu_save(struct virtio_gpu *gpu, struct state_writer *w);
int virtio_gpu_load(struct virtio_gpu *gpu, struct state_reader *r);

#endif
