/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_DEVICE_VIRTIO_GPU_PRIVATE_H
#define VGPU_DEVICE_VIRTIO_GPU_PRIVATE_H

/* What the files of the command interpreter share. */

#include "device/virtio_gpu.h"

#include "base/idmap.h"

#include "protocol/virtio_gpu.h"

/* Where a resource's bytes are, as the driver said it: kept to translate again when memory moves.
 */
struct gpu_backing {
	uint32_t handle;
	uint32_t n;
	uint64_t cost; /* charged to the quota, bytes */
	struct virtio_gpu_mem_entry entries[];
};

struct virtio_gpu {
	struct device *dev;
	struct device_client *client;
	const struct virtio_gpu_transport_ops *ops;
	void *data;
	uint64_t offered, accepted;
	uint32_t num_capsets;
	struct virtio_gpu_request
		*info_waiting; /* GET_DISPLAY_INFO until the viewer has answered */
	struct idmap backings; /* struct gpu_backing by resource */
	uint32_t *submit;      /* grows up to GPU_MAX_SUBMIT, kept */
	size_t submit_size;
};

/* Charged to the quota; NULL when that or the host's memory has no room. The entries are not set.
 */
struct gpu_backing *gpu_new_backing(struct virtio_gpu *gpu, uint32_t handle, uint32_t n);
void gpu_free_backing(struct virtio_gpu *gpu, struct gpu_backing *backing); /* NULL-safe */

/* Finds the memory and gives it to the resource by one of the device's two ways. */
typedef int (*gpu_attach_fn)(
	struct device_client *client, uint32_t handle, const struct iovec *iov, unsigned n);
int gpu_attach(struct virtio_gpu *gpu, const struct gpu_backing *backing, gpu_attach_fn attach);

#endif
