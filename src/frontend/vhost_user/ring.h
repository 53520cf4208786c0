/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_FRONTEND_VHOST_USER_RING_H
#define VGPU_FRONTEND_VHOST_USER_RING_H

/*
 * A virtqueue's life between the front end's messages and the command interpreter.
 *
 *   stopped   parameters may be set; nothing is taken from the ring
 *   started   a kick fd is there (SET_VRING_KICK); requests are taken while it is also enabled, the
 *             guest's memory has been approved and nobody waits for it to drain
 *   broken    the driver broke a rule: nothing is taken or returned until it is stopped and
 *             started anew; the error fd was signalled
 *
 * Draining: the ring takes nothing more, and its owner learns through session_work() when the last
 * request came back.
 */

#include "base/loop.h"
#include "device/virtio_gpu.h"

#include "inflight.h"
#include "virtqueue.h"

struct vhost_user;
struct ring_request;

struct ring {
	struct vhost_user *vu;
	uint32_t index;
	struct virtqueue vq;
	/* from the front end */
	uint16_t num;
	struct vhost_user_vring_addr addr;
	bool have_addr;
	int kick_fd, call_fd, err_fd;
	struct loop_source *kick_source;
	/* state */
	bool started, enabled, broken, draining;
	bool polled;  /* started without a kick fd: looked at by timer */
	bool serving; /* inside ring_serve(): calls wait for its end */
	bool pushed;  /* something was returned and no call was considered yet */
	uint32_t in_flight;
	uint64_t taken_total; /* since the last reset of the device */
	uint64_t in_flight_heads[VIRTQUEUE_MAX_SIZE / 64];
	struct ring_request *requests; /* in flight */
	struct ring_request *spare;    /* small ones, to use again */
	/* inflight tracking */
	struct vhost_user_inflight_queue *tracked; /* NULL: not */
	uint64_t counter;
	uint16_t *resubmit; /* heads a predecessor left; NULL: none */
	unsigned n_resubmit, next_resubmit;
};

void ring_init(struct ring *ring, struct vhost_user *vu, uint32_t index);
/* Requests in flight are dropped when they complete; fds are closed. */
void ring_finish(struct ring *ring);

/* Takes `fd` (-1: polled). -EBUSY, -EINVAL, -EFAULT with a constant *ret_reason. */
int ring_start(struct ring *ring, int fd, const char **ret_reason);
/* Stops it; what is in flight stays so and is not returned to the driver. */
void ring_stop(struct ring *ring);
/* The memory table changed while nothing was in flight: finds the ring's parts anew. */
void ring_remap(struct ring *ring);

/* Takes up to `budget` requests; true when there may be more to take now. */
bool ring_serve(struct ring *ring, unsigned budget);
/* Makes a kick, call or error fd (-1: none) non-blocking. */
void ring_fd_ready(int fd);

/* The interpreter is done with a request of any ring. */
void ring_complete(struct virtio_gpu_request *request, uint32_t written);

#endif
