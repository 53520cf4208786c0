/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_PROTOCOL_VHOST_USER_H
#define VGPU_PROTOCOL_VHOST_USER_H

/*
 * The vhost-user protocol as far as a virtio-gpu back end speaks it (QEMU's vhost-user document).
 * Native byte order over a Unix stream socket; fds ride on the first byte of their message.
 */

#include <stdint.h>

#define VHOST_USER_VERSION     1u
#define VHOST_USER_HEADER_SIZE 12u
#define VHOST_USER_MAX_PAYLOAD 512u /* bytes; the largest row below is smaller */
#define VHOST_USER_MAX_FDS     8u
#define VHOST_USER_MAX_REGIONS 8u   /* of one SET_MEM_TABLE */
#define VHOST_USER_MAX_CONFIG  256u /* bytes of config space in one message */

enum vhost_user_flag {
	VHOST_USER_FLAG_VERSION_MASK = 0x3,
	VHOST_USER_FLAG_REPLY = 0x4,
	VHOST_USER_FLAG_NEED_REPLY = 0x8,
};

/* In the 64-bit payload of SET_VRING_KICK, _CALL and _ERR. */
#define VHOST_USER_VRING_INDEX_MASK 0xffu
#define VHOST_USER_VRING_NO_FD      (1u << 8)

/* Feature bits of the transport, beside the device's own. */
#define VIRTIO_BIT_RING_INDIRECT_DESC 28
#define VIRTIO_BIT_RING_EVENT_IDX     29
#define VHOST_USER_BIT_PROTOCOL       30
#define VIRTIO_BIT_VERSION_1          32
/* Not offered, and not to be ignored when a front end acknowledges them all the same. */
#define VIRTIO_BIT_RING_PACKED 34
#define VIRTIO_BIT_IN_ORDER    35

/* X(name, bit). The whole list, so that a refusal can name what was missing. */
#define VHOST_USER_PROTOCOL_FEATURES(X)                                                            \
	X(MQ, 0)                                                                                   \
	X(REPLY_ACK, 3)                                                                            \
	X(BACKEND_REQ, 5)                                                                          \
	X(CONFIG, 9)                                                                               \
	X(INFLIGHT_SHMFD, 12)                                                                      \
	X(RESET_DEVICE, 13)                                                                        \
	X(CONFIGURE_MEM_SLOTS, 15)                                                                 \
	X(DEVICE_STATE, 19)

enum vhost_user_protocol_feature {
	VHOST_USER_PROTOCOL_NONE = 63, /* the row needs no protocol feature */
#define X(name, bit) VHOST_USER_PROTOCOL_##name = (bit),
	VHOST_USER_PROTOCOL_FEATURES(X)
#undef X
};

/*
 * X(name, id, min, max, fds, reply, feature)
 *   min, max  payload bytes
 *   fds       most fds it may carry
 *   reply     ACK: answered only when NEED_REPLY is set and REPLY_ACK was negotiated
 *             OWN: always answered, with the same id
 *   feature   protocol feature that must have been negotiated
 * Requests without a row (logging, post-copy, IOTLB, status, crypto, network) are refused: the
 * features that would allow a front end to send them are not offered. SET_STATUS is left out on
 * purpose: QEMU writes status 0, which means reset, when it merely pauses a guest.
 */
/* clang-format off */
#define VHOST_USER_MESSAGES(X)                                                                     \
	X(GET_FEATURES, 1, 0, 0, 0, OWN, NONE)                                                     \
	X(SET_FEATURES, 2, 8, 8, 0, ACK, NONE)                                                     \
	X(SET_OWNER, 3, 0, 0, 0, ACK, NONE)                                                        \
	X(RESET_OWNER, 4, 0, 0, 0, ACK, NONE)                                                      \
	X(SET_MEM_TABLE, 5, 8, 8 + 32 * VHOST_USER_MAX_REGIONS, VHOST_USER_MAX_FDS, ACK, NONE)     \
	X(SET_VRING_NUM, 8, 8, 8, 0, ACK, NONE)                                                    \
	X(SET_VRING_ADDR, 9, 40, 40, 0, ACK, NONE)                                                 \
	X(SET_VRING_BASE, 10, 8, 8, 0, ACK, NONE)                                                  \
	X(GET_VRING_BASE, 11, 8, 8, 0, OWN, NONE)                                                  \
	X(SET_VRING_KICK, 12, 8, 8, 1, ACK, NONE)                                                  \
	X(SET_VRING_CALL, 13, 8, 8, 1, ACK, NONE)                                                  \
	X(SET_VRING_ERR, 14, 8, 8, 1, ACK, NONE)                                                   \
	X(GET_PROTOCOL_FEATURES, 15, 0, 0, 0, OWN, NONE)                                           \
	X(SET_PROTOCOL_FEATURES, 16, 8, 8, 0, ACK, NONE)                                           \
	X(GET_QUEUE_NUM, 17, 0, 0, 0, OWN, MQ)                                                     \
	X(SET_VRING_ENABLE, 18, 8, 8, 0, ACK, NONE)                                                \
	X(SET_BACKEND_REQ_FD, 21, 0, 8, 1, ACK, BACKEND_REQ)                                       \
	X(GET_CONFIG, 24, 12, 12 + VHOST_USER_MAX_CONFIG, 0, OWN, CONFIG)                          \
	X(SET_CONFIG, 25, 12, 12 + VHOST_USER_MAX_CONFIG, 0, ACK, CONFIG)                          \
	X(GET_INFLIGHT_FD, 31, 20, 24, 0, OWN, INFLIGHT_SHMFD)                                     \
	X(SET_INFLIGHT_FD, 32, 20, 24, 1, ACK, INFLIGHT_SHMFD)                                     \
	X(GPU_SET_SOCKET, 33, 0, 8, 1, ACK, NONE)                                                  \
	X(RESET_DEVICE, 34, 0, 0, 0, ACK, RESET_DEVICE)                                            \
	X(GET_MAX_MEM_SLOTS, 36, 0, 0, 0, OWN, CONFIGURE_MEM_SLOTS)                                \
	X(ADD_MEM_REG, 37, 40, 40, 1, ACK, CONFIGURE_MEM_SLOTS)                                    \
	X(REM_MEM_REG, 38, 40, 40, 1, ACK, CONFIGURE_MEM_SLOTS)                                    \
	X(SET_DEVICE_STATE_FD, 42, 8, 8, 1, OWN, DEVICE_STATE)                                     \
	X(CHECK_DEVICE_STATE, 43, 0, 0, 0, OWN, DEVICE_STATE)
/* clang-format on */

enum vhost_user_request {
#define X(name, id, min, max, fds, reply, feature) VHOST_USER_##name = (id),
	VHOST_USER_MESSAGES(X)
#undef X
		VHOST_USER_REQUEST_LIMIT = 64
};

struct vhost_user_vring_state {
	uint32_t index;
	uint32_t num;
};

struct vhost_user_vring_addr {
	uint32_t index;
	uint32_t flags;
	uint64_t desc, used, avail; /* addresses in the front end's own address space */
	uint64_t log;
};

struct vhost_user_region {
	uint64_t gpa;
	uint64_t size;
	uint64_t uva;    /* where the front end has it mapped */
	uint64_t offset; /* in the file */
};

struct vhost_user_mem_table {
	uint32_t count;
	uint32_t pad;
	struct vhost_user_region regions[VHOST_USER_MAX_REGIONS];
};

struct vhost_user_mem_reg {
	uint64_t pad;
	struct vhost_user_region region;
};

struct vhost_user_config {
	uint32_t offset;
	uint32_t size;
	uint32_t flags;
	uint8_t data[VHOST_USER_MAX_CONFIG];
};

/* 20 bytes on the wire by the document, 24 as QEMU sends it. */
struct vhost_user_inflight {
	uint64_t mmap_size;
	uint64_t mmap_offset;
	uint16_t num_queues;
	uint16_t queue_size;
	uint32_t pad;
};

enum vhost_user_state_direction { VHOST_USER_STATE_SAVE, VHOST_USER_STATE_LOAD };
enum vhost_user_state_phase { VHOST_USER_STATE_STOPPED };

/* The answer: an error code of 8 bits, and whether the front end's own descriptor is used. */
#define VHOST_USER_STATE_NO_FD (1u << 8)

struct vhost_user_state {
	uint32_t direction, phase;
};

/* The inflight region of one split ring: this header, then one entry a descriptor. */
struct vhost_user_inflight_queue {
	uint64_t features;
	uint16_t version; /* 1; 0: not initialised */
	uint16_t desc_num;
	uint16_t last_batch_head;
	uint16_t used_idx;
};

struct vhost_user_inflight_desc {
	uint8_t inflight;
	uint8_t pad[5];
	uint16_t next;
	uint64_t counter;
};

_Static_assert(sizeof(struct vhost_user_vring_addr) == 40, "wire size");
_Static_assert(sizeof(struct vhost_user_mem_table) == 8 + 32 * VHOST_USER_MAX_REGIONS, "wire size");
_Static_assert(sizeof(struct vhost_user_mem_reg) == 40, "wire size");
_Static_assert(sizeof(struct vhost_user_inflight) == 24, "wire size");
_Static_assert(sizeof(struct vhost_user_inflight_queue) == 16, "wire size");
_Static_assert(sizeof(struct vhost_user_inflight_desc) == 16, "wire size");

#endif
