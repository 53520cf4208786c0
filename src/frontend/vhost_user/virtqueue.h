/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_FRONTEND_VHOST_USER_VIRTQUEUE_H
#define VGPU_FRONTEND_VHOST_USER_VIRTQUEUE_H

/*
 * The device side of a split virtqueue (virtio 1.2, section 2.7) in memory the driver can change
 * at any time. Knows descriptors and indices; ring lifecycle and fds are elsewhere.
 *
 * A rule the driver breaks is reported once as -EPROTO with a constant text; the caller then stops
 * using the queue. Every value is read from guest memory once. Chains: an avail index may not be
 * more than the queue size ahead, a chain has at most as many descriptors as its table, readable
 * ones first, none empty, all inside guest memory, 4 GiB in all; one indirect table, at the end of
 * the chain.
 */

#include "memory.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#define VIRTQUEUE_MAX_SIZE  1024u  /* descriptors; a power of two */
#define VIRTQUEUE_MAX_TABLE 32768u /* descriptors of an indirect table */
/* Entries of one gathered chain: a descriptor adds one more for each region border it crosses. */
#define VIRTQUEUE_MAX_IOV (VIRTQUEUE_MAX_TABLE + VIRTQUEUE_MAX_SIZE + KEEPER_MAX_MEMORY)

struct virtqueue_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags;
	uint16_t next;
};

enum virtqueue_desc_flag {
	VIRTQUEUE_DESC_NEXT = 1,
	VIRTQUEUE_DESC_WRITE = 2,
	VIRTQUEUE_DESC_INDIRECT = 4,
};

struct virtqueue_used {
	uint32_t id;
	uint32_t len;
};

struct virtqueue {
	uint16_t num; /* 0: not mapped */
	bool event_idx, indirect;
	uint16_t last_avail; /* next avail entry to take */
	uint16_t used_idx;   /* next used entry to write */
	uint16_t signalled;  /* used index at the last call, when signalled_valid */
	bool signalled_valid;
	/* guest memory */
	uint64_t *desc;
	uint16_t *avail;
	uint16_t *used;
};

/* A gathered chain: n_out readable entries, then n_in writable ones. Zero-initialise. */
struct virtqueue_chain {
	struct iovec *iov; /* grows as needed; free() at the end */
	unsigned capacity;
	unsigned n_out, n_in;
	uint16_t head;
};

/*
 * Maps the three parts, given by the front end's own addresses; last_avail must be set. -EINVAL for
 * a bad size or alignment, -EFAULT when a part is not inside one memory region.
 */
int virtqueue_map(struct virtqueue *vq, struct guest_memory *mem, uint16_t num, uint64_t desc_uva,
	uint64_t avail_uva, uint64_t used_uva);
void virtqueue_unmap(struct virtqueue *vq);

/*
 * Gathers the next available chain without taking it: 1, or 0 when there is none, -ENOMEM, or
 * -EPROTO with *ret_reason.
 */
int virtqueue_peek(struct virtqueue *vq, struct guest_memory *mem, struct virtqueue_chain *chain,
	const char **ret_reason);
void virtqueue_advance(struct virtqueue *vq);
/* Gathers the chain at a known head: 1, -ENOMEM or -EPROTO. */
int virtqueue_gather(struct virtqueue *vq, struct guest_memory *mem, uint16_t head,
	struct virtqueue_chain *chain, const char **ret_reason);

/* Puts an entry into the used ring and shows it to the driver. */
void virtqueue_push(struct virtqueue *vq, uint16_t head, uint32_t written);
/* Whether the driver wants a call for what was pushed since the last time this said so. */
bool virtqueue_should_call(struct virtqueue *vq);
/* Asks for kicks; true when there is work already and no kick may come for it. */
bool virtqueue_enable_kicks(struct virtqueue *vq);
void virtqueue_disable_kicks(struct virtqueue *vq);

/* The used index that the driver sees. */
uint16_t virtqueue_shown(const struct virtqueue *vq);
/* True when nothing was ever put into the used ring of this driver's queue. */
bool virtqueue_untouched(const struct virtqueue *vq);

#endif
