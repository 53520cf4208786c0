/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_PROTOCOL_VIRTIO_GPU_H
#define VGPU_PROTOCOL_VIRTIO_GPU_H

/*
 * The commands of a virtio-gpu (virtio 1.2, section 5.7.6.7) that this device answers:
 * X(NAME, structure of the request, queue, feature, handler).
 *
 * Requests shorter than their structure, on the wrong queue, or of a feature the driver did not
 * accept, are refused before the handler runs. NONE: no feature needed. Numbers and structures are
 * the kernel's own <linux/virtio_gpu.h>.
 */

#include <linux/virtio_gpu.h>

/* clang-format off */
#define VIRTIO_GPU_COMMANDS(X)                                                                         \
	X(GET_DISPLAY_INFO, virtio_gpu_ctrl_hdr, CONTROL, NONE, get_display_info)                      \
	X(RESOURCE_CREATE_2D, virtio_gpu_resource_create_2d, CONTROL, NONE, resource_create_2d)        \
	X(RESOURCE_UNREF, virtio_gpu_resource_unref, CONTROL, NONE, resource_unref)                    \
	X(SET_SCANOUT, virtio_gpu_set_scanout, CONTROL, NONE, set_scanout)                             \
	X(RESOURCE_FLUSH, virtio_gpu_resource_flush, CONTROL, NONE, resource_flush)                    \
	X(TRANSFER_TO_HOST_2D, virtio_gpu_transfer_to_host_2d, CONTROL, NONE, transfer_to_host_2d)     \
	X(RESOURCE_ATTACH_BACKING, virtio_gpu_resource_attach_backing, CONTROL, NONE, attach_backing)  \
	X(RESOURCE_DETACH_BACKING, virtio_gpu_resource_detach_backing, CONTROL, NONE, detach_backing)  \
	X(GET_CAPSET_INFO, virtio_gpu_get_capset_info, CONTROL, VIRGL, get_capset_info)                \
	X(GET_CAPSET, virtio_gpu_get_capset, CONTROL, VIRGL, get_capset)                               \
	X(GET_EDID, virtio_gpu_cmd_get_edid, CONTROL, EDID, get_edid)                                  \
	X(RESOURCE_ASSIGN_UUID, virtio_gpu_resource_assign_uuid, CONTROL, RESOURCE_UUID, assign_uuid)  \
	X(CTX_CREATE, virtio_gpu_ctx_create, CONTROL, VIRGL, ctx_create)                               \
	X(CTX_DESTROY, virtio_gpu_ctx_destroy, CONTROL, VIRGL, ctx_destroy)                            \
	X(CTX_ATTACH_RESOURCE, virtio_gpu_ctx_resource, CONTROL, VIRGL, ctx_attach_resource)           \
	X(CTX_DETACH_RESOURCE, virtio_gpu_ctx_resource, CONTROL, VIRGL, ctx_detach_resource)           \
	X(RESOURCE_CREATE_3D, virtio_gpu_resource_create_3d, CONTROL, VIRGL, resource_create_3d)       \
	X(TRANSFER_TO_HOST_3D, virtio_gpu_transfer_host_3d, CONTROL, VIRGL, transfer_to_host_3d)       \
	X(TRANSFER_FROM_HOST_3D, virtio_gpu_transfer_host_3d, CONTROL, VIRGL, transfer_from_host_3d)   \
	X(SUBMIT_3D, virtio_gpu_cmd_submit, CONTROL, VIRGL, submit_3d)                                 \
	X(UPDATE_CURSOR, virtio_gpu_update_cursor, CURSOR, NONE, update_cursor)                        \
	X(MOVE_CURSOR, virtio_gpu_update_cursor, CURSOR, NONE, move_cursor)
/* clang-format on */

#endif
