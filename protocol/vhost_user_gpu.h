/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_PROTOCOL_VHOST_USER_GPU_H
#define VGPU_PROTOCOL_VHOST_USER_GPU_H

/*
 * The second socket of vhost-user-gpu, over which the back end shows its screens (QEMU's
 * vhost-user-gpu document). Here the back end asks and the front end answers.
 */

#include <stdint.h>

#define VHOST_USER_GPU_HEADER_SIZE 12u
#define VHOST_USER_GPU_FLAG_REPLY  0x4u
#define VHOST_USER_GPU_MAX_REPLY   1088u /* bytes: no answer of the protocol is larger */
#define VHOST_USER_GPU_SCANOUTS    16u

enum vhost_user_gpu_protocol_feature {
	VHOST_USER_GPU_PROTOCOL_EDID = 0,
	VHOST_USER_GPU_PROTOCOL_DMABUF2 = 1,
};

/* X(name, id, reply bytes): NO_REPLY for requests that are not answered. */
#define VHOST_USER_GPU_NO_REPLY 0xffffffffu
#define VHOST_USER_GPU_MESSAGES(X)                                                                 \
	X(GET_PROTOCOL_FEATURES, 1, 8)                                                             \
	X(SET_PROTOCOL_FEATURES, 2, VHOST_USER_GPU_NO_REPLY)                                       \
	X(GET_DISPLAY_INFO, 3, 408)                                                                \
	X(CURSOR_POS, 4, VHOST_USER_GPU_NO_REPLY)                                                  \
	X(CURSOR_POS_HIDE, 5, VHOST_USER_GPU_NO_REPLY)                                             \
	X(CURSOR_UPDATE, 6, VHOST_USER_GPU_NO_REPLY)                                               \
	X(SCANOUT, 7, VHOST_USER_GPU_NO_REPLY)                                                     \
	X(UPDATE, 8, VHOST_USER_GPU_NO_REPLY)                                                      \
	X(DMABUF_SCANOUT, 9, VHOST_USER_GPU_NO_REPLY)                                              \
	X(DMABUF_UPDATE, 10, 0)                                                                    \
	X(GET_EDID, 11, 1056)                                                                      \
	X(DMABUF_SCANOUT2, 12, VHOST_USER_GPU_NO_REPLY)

enum vhost_user_gpu_request {
#define X(name, id, reply) VHOST_USER_GPU_##name = (id),
	VHOST_USER_GPU_MESSAGES(X)
#undef X
		VHOST_USER_GPU_REQUEST_LIMIT
};

struct vhost_user_gpu_cursor_pos {
	uint32_t scanout, x, y;
};

struct vhost_user_gpu_cursor_update {
	struct vhost_user_gpu_cursor_pos pos;
	uint32_t hot_x, hot_y;
	uint32_t data[64 * 64]; /* B8G8R8A8 */
};

struct vhost_user_gpu_scanout {
	uint32_t scanout, width, height; /* 0 x 0: off */
};

/* UPDATE: pixels follow, width * 4 bytes a row. DMABUF_UPDATE: this alone. */
struct vhost_user_gpu_update {
	uint32_t scanout, x, y, width, height;
};

#define VHOST_USER_GPU_DMABUF_Y0_TOP 1u

/* With a fd: what the head shows from now on. Without: no dma-buf any more. */
struct vhost_user_gpu_dmabuf_scanout {
	uint32_t scanout, x, y, width, height;
	uint32_t fd_width, fd_height, fd_stride, fd_flags;
	uint32_t fourcc;
	uint32_t modifier[2]; /* DMABUF_SCANOUT2 only: low, high */
};

/* struct virtio_gpu_resp_display_info. */
struct vhost_user_gpu_display_info {
	uint8_t header[24];
	struct {
		uint32_t x, y, width, height;
		uint32_t enabled;
		uint32_t flags;
	} mode[VHOST_USER_GPU_SCANOUTS];
};

_Static_assert(sizeof(struct vhost_user_gpu_display_info) == 408, "wire size");
_Static_assert(sizeof(struct vhost_user_gpu_dmabuf_scanout) == 48, "wire size");
_Static_assert(sizeof(struct vhost_user_gpu_cursor_update) == 20 + 16384, "wire size");

#endif
