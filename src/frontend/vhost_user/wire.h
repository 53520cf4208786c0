/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_FRONTEND_VHOST_USER_WIRE_H
#define VGPU_FRONTEND_VHOST_USER_WIRE_H

/*
 * What a connection must not lose when its process is killed between two instructions: where both
 * sockets stand, the bytes received and not yet dealt with, the message on its way out, and which
 * requests are in flight. With keep it is a memfd in custody, else ordinary memory; everything else
 * of the connection is in the image and the journal.
 *
 * Each change that matters is one store: what is prepared before it does not count, what follows
 * from it can be derived from it again. The previous owner may have been taken over: every number
 * is checked when it is taken up, and what is parsed is copied first.
 */

#include "base/durable.h"

#include "display_state.h"
#include "inflight.h"

#include "protocol/vhost_user.h"
#include "protocol/vhost_user_gpu.h"

#define WIRE_MESSAGE_MAX (VHOST_USER_HEADER_SIZE + VHOST_USER_MAX_PAYLOAD)
#define WIRE_RING_SIZE   1024u /* descriptors: of the largest ring */

struct wire_reply {
	uint64_t position; /* of the message it answers: bytes received by its end */
	uint64_t end;      /* bytes sent in all when it is out */
	uint32_t size;
	uint32_t has_fd; /* the inflight region's goes with it */
	uint8_t bytes[WIRE_MESSAGE_MAX];
};

struct wire_socket {
	struct durable durable;
	/* at << 8 | before << 4 | after: fds of the message, before and after bytes beyond `at` */
	uint64_t fds;
	struct wire_reply reply[2];
	uint32_t current; /* the reply that counts */
	uint32_t pad;
	uint8_t in[WIRE_MESSAGE_MAX]; /* begins with the message that is not dealt with */
};

/*
 * Each direction is one word: bytes in all << 8 | flags. A question is open while its bit differs
 * in the two words.
 */
#define WIRE_SHIFT       8
#define WIRE_ASK_FEATURE 0x01u
#define WIRE_ASK_INFO    0x02u
#define WIRE_ASK_DMABUF  0x04u
#define WIRE_QUESTIONS   0x07u
#define WIRE_TOLD        0x10u /* out: SET_PROTOCOL_FEATURES */
#define WIRE_HAS_FD      0x20u /* out: a descriptor goes with the message */
#define WIRE_DMABUF2     0x10u /* in: the viewer offered DMABUF2 */

struct wire_display {
	struct durable durable;
	uint64_t socket; /* number of the GPU_SET_SOCKET << 1; | 1: that viewer is gone; 0: none */
	uint64_t out;    /* when the message in out_bytes is out (its size is in its header) */
	uint64_t in;     /* up to where answers were dealt with; in_bytes begins there */
	uint32_t shown;  /* bit per head: the viewer was told of an image on it */
	uint32_t pad;
	uint8_t in_bytes[VHOST_USER_GPU_HEADER_SIZE + VHOST_USER_GPU_MAX_REPLY];
	uint8_t out_bytes[DISPLAY_MESSAGE_MAX];
};

struct wire_ring {
	_Alignas(64) struct vhost_user_inflight_queue queue; /* .features: see ring_resume() */
	struct vhost_user_inflight_desc desc[WIRE_RING_SIZE];
};

struct wire {
	uint32_t magic, version;
	struct wire_socket socket;
	struct wire_display display;
	struct wire_ring ring[KEEPER_MAX_RINGS];
};

struct wire *wire_create_private(void);
/* A new one: a sealed memfd, now the caller's, and its mapping. */
int wire_create(int *ret_fd, struct wire **ret);
/* A predecessor's; `fd` stays the caller's. -EBADMSG when it cannot be one. */
int wire_open(int fd, struct wire **ret);
void wire_destroy(struct wire *wire, bool shared); /* NULL-safe */

#endif
