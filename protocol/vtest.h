/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_PROTOCOL_VTEST_H
#define VGPU_PROTOCOL_VTEST_H

/*
 * The vtest protocol: how Mesa's virpipe sends virgl work to another process over a Unix stream
 * socket. Native byte order. A message is {length, id} and a payload; a reply has the same shape
 * and often an id of its own. Versions: 0 (data inside the stream), 2 (data in shared memory made
 * by the server), 3 (server-made handles, capsets, timelines), 4 (DRM sync objects). Version 1 was
 * withdrawn: a client that asks for it gets 0.
 *
 * X(id, NAME, min, max, payload, context, fds, since, handler)
 *   min, max  permitted values of the length field
 *   payload   what follows on the wire, as an enum vtest_payload
 *   context   1: the client's rendering context is created first
 *   fds       descriptors that ride along from the client
 *   since     first protocol version that has it
 *   handler   name of the server's function; `refuse`: known by name and not offered
 */

#include <stdint.h>

#define VTEST_VERSION_MAX 3u /* newest version offered */

#define VTEST_HEADER_SIZE 8u /* bytes */

/* 64 times the largest command buffer Mesa fills (VIRGL_MAX_CMDBUF_DWORDS, 260 KiB). */
#define VTEST_SUBMIT_MAX_DWORDS (4u << 20)
/* Data inside the stream (version 0 only): one level of a 4096x4096 RGBA8 texture. */
#define VTEST_INLINE_MAX        (64u << 20) /* bytes */
#define VTEST_INLINE_MAX_DWORDS (VTEST_INLINE_MAX / 4)
#define VTEST_NAME_MAX          4096u /* bytes */
#define VTEST_WAIT_MAX_SYNCS    64u   /* in one SYNC_WAIT or batch */
#define VTEST_MAX_BATCHES       64u   /* in one SUBMIT_CMD2 */

enum vtest_payload {
	VTEST_PAYLOAD_DWORDS, /* length times four bytes */
	VTEST_PAYLOAD_BYTES,  /* length counts bytes */
	/* The transfer header, then the bytes its size field says; length is their sum rounded up.
	 */
	VTEST_PAYLOAD_INLINE,
	/* The transfer header alone, although length counts data that lies in shared memory. */
	VTEST_PAYLOAD_HEADER_ONLY,
};

/* clang-format off */
#define VTEST_COMMANDS(X) \
	X( 1, GET_CAPS,              0, 0, DWORDS, 0, 0, 0, get_caps) \
	X( 2, RESOURCE_CREATE,      10, 10, DWORDS, 1, 0, 0, resource_create) \
	X( 3, RESOURCE_UNREF,        1, 1, DWORDS, 1, 0, 0, resource_unref) \
	X( 4, TRANSFER_GET,         11, 11, DWORDS, 1, 0, 0, transfer_get) \
	X( 5, TRANSFER_PUT,         11, 11 + VTEST_INLINE_MAX_DWORDS, INLINE, 1, 0, 0, transfer_put) \
	X( 6, SUBMIT_CMD,            0, VTEST_SUBMIT_MAX_DWORDS, DWORDS, 1, 0, 0, submit_cmd) \
	X( 7, RESOURCE_BUSY_WAIT,    2, 2, DWORDS, 0, 0, 0, busy_wait) \
	X( 8, CREATE_RENDERER,       0, VTEST_NAME_MAX, BYTES, 0, 0, 0, create_renderer) \
	X( 9, GET_CAPS2,             0, 0, DWORDS, 0, 0, 0, get_caps2) \
	X(10, PING_PROTOCOL_VERSION, 0, 0, DWORDS, 0, 0, 0, ping) \
	X(11, PROTOCOL_VERSION,      1, 1, DWORDS, 0, 0, 0, protocol_version) \
	X(12, RESOURCE_CREATE2,     11, 11, DWORDS, 1, 0, 2, resource_create2) \
	X(13, TRANSFER_GET2,        10, 10, DWORDS, 1, 0, 2, transfer_get2) \
	X(14, TRANSFER_PUT2,        10, UINT32_MAX, HEADER_ONLY, 1, 0, 2, transfer_put2) \
	X(15, GET_PARAM,             1, 1, DWORDS, 0, 0, 3, get_param) \
	X(16, GET_CAPSET,            2, 2, DWORDS, 0, 0, 3, get_capset) \
	X(17, CONTEXT_INIT,          1, 1, DWORDS, 0, 0, 3, context_init) \
	X(18, RESOURCE_CREATE_BLOB,  6, 6, DWORDS, 1, 0, 3, refuse) \
	X(19, SYNC_CREATE,           2, 2, DWORDS, 1, 0, 3, sync_create) \
	X(20, SYNC_UNREF,            1, 1, DWORDS, 1, 0, 3, sync_unref) \
	X(21, SYNC_READ,             1, 1, DWORDS, 1, 0, 3, sync_read) \
	X(22, SYNC_WRITE,            3, 3, DWORDS, 1, 0, 3, sync_write) \
	X(23, SYNC_WAIT,             2, 2 + 3 * VTEST_WAIT_MAX_SYNCS, DWORDS, 1, 0, 3, sync_wait) \
	X(24, SUBMIT_CMD2,           1, VTEST_SUBMIT_MAX_DWORDS, DWORDS, 1, 0, 3, submit_cmd2) \
	X(25, DRM_SYNC_CREATE,       0, UINT32_MAX, DWORDS, 0, 0, 4, refuse) \
	X(26, DRM_SYNC_DESTROY,      0, UINT32_MAX, DWORDS, 0, 0, 4, refuse) \
	X(27, DRM_SYNC_HANDLE_TO_FD, 0, UINT32_MAX, DWORDS, 0, 0, 4, refuse) \
	X(28, DRM_SYNC_FD_TO_HANDLE, 0, UINT32_MAX, DWORDS, 0, 1, 4, refuse) \
	X(29, DRM_SYNC_IMPORT_SYNC_FILE, 0, UINT32_MAX, DWORDS, 0, 1, 4, refuse) \
	X(30, DRM_SYNC_EXPORT_SYNC_FILE, 0, UINT32_MAX, DWORDS, 0, 0, 4, refuse) \
	X(31, DRM_SYNC_WAIT,         0, UINT32_MAX, DWORDS, 0, 0, 4, refuse) \
	X(32, DRM_SYNC_RESET,        0, UINT32_MAX, DWORDS, 0, 0, 4, refuse) \
	X(33, DRM_SYNC_SIGNAL,       0, UINT32_MAX, DWORDS, 0, 0, 4, refuse) \
	X(34, DRM_SYNC_TIMELINE_SIGNAL, 0, UINT32_MAX, DWORDS, 0, 0, 4, refuse) \
	X(35, DRM_SYNC_TIMELINE_WAIT, 0, UINT32_MAX, DWORDS, 0, 0, 4, refuse) \
	X(36, DRM_SYNC_QUERY,        0, UINT32_MAX, DWORDS, 0, 0, 4, refuse) \
	X(37, DRM_SYNC_TRANSFER,     0, UINT32_MAX, DWORDS, 0, 0, 4, refuse) \
	X(38, RESOURCE_EXPORT_FD,    0, UINT32_MAX, DWORDS, 0, 0, 4, refuse)
/* clang-format on */

enum vtest_command_id {
#define X(id, name, min, max, payload, context, fds, since, handler) VTEST_##name = id,
	VTEST_COMMANDS(X)
#undef X
		VTEST_COMMAND_LIMIT /* one past the last id */
};

/* RESOURCE_CREATE and RESOURCE_CREATE2; the latter ends with the size of its shared memory. */
struct vtest_resource_create {
	uint32_t handle; /* 0 since version 3: the server chooses */
	uint32_t target, format, bind;
	uint32_t width, height, depth, array_size;
	uint32_t last_level, nr_samples;
	uint32_t data_size; /* RESOURCE_CREATE2 only; 0: no shared memory */
};

/* TRANSFER_GET, TRANSFER_PUT */
struct vtest_transfer {
	uint32_t handle, level, stride, layer_stride;
	uint32_t x, y, z, width, height, depth;
	uint32_t data_size;
};

/* TRANSFER_GET2, TRANSFER_PUT2 */
struct vtest_transfer2 {
	uint32_t handle, level;
	uint32_t x, y, z, width, height, depth;
	uint32_t data_size; /* not used: the box says it */
	uint32_t offset;    /* into the shared memory, bytes */
};

#define VTEST_BUSY_WAIT_FLAG_WAIT 1u

#define VTEST_PARAM_MAX_TIMELINE_COUNT 1u
#define VTEST_MAX_TIMELINE_COUNT       64u

#define VTEST_SYNC_WAIT_FLAG_ANY 1u

#define VTEST_SUBMIT_FLAG_RING_IDX 1u

/* One batch of SUBMIT_CMD2; batches lie VTEST_BATCH_DWORDS apart, after the count. */
struct vtest_batch {
	uint32_t flags;
	uint32_t cmd_offset, cmd_size;    /* dwords, from the start of the payload */
	uint32_t sync_offset, sync_count; /* {id, value low, value high} each */
	uint32_t ring_idx;
};
#define VTEST_BATCH_DWORDS 8u

#endif
