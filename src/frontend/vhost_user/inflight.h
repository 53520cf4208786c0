/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_FRONTEND_VHOST_USER_INFLIGHT_H
#define VGPU_FRONTEND_VHOST_USER_INFLIGHT_H

/*
 * The inflight region (vhost-user, "Inflight I/O tracking", split rings): shared memory that
 * outlives this process, where each request taken and not yet returned is marked, so that a
 * successor can take it again. The front end can write it at any time: what is read back is
 * checked, and is worth no more than a hint which available chains to look at.
 */

#include "guard.h"

#include "protocol/keeper.h"
#include "protocol/vhost_user.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct inflight {
	void *map; /* NULL: none */
	size_t map_len;
	struct guard *guard;
	uint8_t *queues;
	uint16_t num_queues, queue_size;
};

/* Allocates a region; *ret_fd is the caller's, *ret_size its bytes. */
int inflight_create(struct inflight *inflight, uint16_t num_queues, uint16_t queue_size,
	int *ret_fd, uint64_t *ret_size);
/* Maps one that came back. `fd` stays the caller's. -EINVAL when the numbers do not fit. */
int inflight_attach(struct inflight *inflight, const struct vhost_user_inflight *message, int fd);
void inflight_finish(struct inflight *inflight);
bool inflight_broken(const struct inflight *inflight);

/* The part of ring `index` for a ring of `num` descriptors; NULL when there is none that large. */
struct vhost_user_inflight_queue *inflight_queue(
	struct inflight *inflight, unsigned index, uint16_t num);

/* All of these take queue NULL as "not tracked". */
void inflight_take(struct vhost_user_inflight_queue *queue, uint16_t head, uint64_t counter);
/* Around virtqueue_push(): before it, and after it with the used index it left. */
void inflight_return_begin(struct vhost_user_inflight_queue *queue, uint16_t head);
void inflight_return_end(struct vhost_user_inflight_queue *queue, uint16_t head, uint16_t used_idx);

/* The request was not taken after all. */
void inflight_untake(struct vhost_user_inflight_queue *queue, uint16_t head);
/* It is marked as taken under that number, and `used_idx` does not cover it yet. */
bool inflight_has(struct vhost_user_inflight_queue *queue, uint16_t num, uint16_t used_idx,
	uint16_t head, uint64_t counter);
/* As if nothing was ever in flight, for a ring that begins. */
void inflight_reset(struct vhost_user_inflight_queue *queue);
/* Makes `to` say what `from` says. */
void inflight_copy(struct vhost_user_inflight_queue *to,
	const struct vhost_user_inflight_queue *from, uint16_t num);

/*
 * After a restart: heads to take again, oldest first, into `heads` (room for `num`); returns how
 * many. *ret_counter is larger than any counter in use.
 */
unsigned inflight_recover(struct vhost_user_inflight_queue *queue, uint16_t num, uint16_t used_idx,
	uint16_t *heads, uint64_t *ret_counter);

#endif
