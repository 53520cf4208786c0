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
 *
 * Kept rings (with keep). A request's readable bytes are copied once, journalled and executed from
 * the copy. The order is: mark it in the wire's in-flight queue under the number that its record
 * will have; record it; execute it; mark the journal executed; used entry; used index; unmark. A
 * process that is killed
 *   before the mark       took nothing: the chain is still available;
 *   before the record     left a mark whose number no record has: the chain is taken again and
 *                         executed for the first time;
 *   before the used index left a mark and a record of the same number: the successor executes the
 *                         record (only then does its device have the effects) and returns the chain
 *                         itself, writing the same entry to the same place;
 *   before unmarking      left a used index that the mark's batch explains: it was returned.
 * Recording before marking would not do: a record without a mark looks like a request that was
 * returned, while its chain is available still and would be executed twice. A record's number tells
 * it from an earlier request with the same head. What is read back is the wire's queue, which the
 * front end cannot write; the front end's own region is kept in line with it.
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
	uint64_t ready_ns;    /* requests were left to a later turn then; 0: none were */
	uint64_t in_flight_heads[VIRTQUEUE_MAX_SIZE / 64];
	struct ring_request *requests; /* in flight */
	struct ring_request *spare;    /* small ones, to use again */
	/* inflight tracking */
	struct vhost_user_inflight_queue *tracked; /* the front end's; NULL: not */
	struct vhost_user_inflight_queue *own;     /* the wire's, with keep while started */
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

/* Has its kick fd watched, unless the connection is frozen. */
int ring_watch(struct ring *ring);
void ring_unwatch(struct ring *ring);
/*
 * Takes up a ring that a predecessor served, as the last step before serving: what it left in
 * flight and was not replayed is taken again. -ENOMEM.
 */
int ring_resume(struct ring *ring);
/*
 * In a replay, with nothing in flight: where the ring was. Right for the last time it stops, which
 * is when the front end may still have to be told.
 */
void ring_settle(struct ring *ring);
/*
 * Executes a recorded request. Its response is dropped, unless the chain is in flight under that
 * number: then it is returned by ring_return_deferred().
 */
int ring_replay(struct ring *ring, uint16_t head, uint64_t number, const void *bytes, size_t size);
/* Returns what was completed while the connection was being loaded. */
void ring_return_deferred(struct vhost_user *vu);

/* Is there a request to take, or may one come without a kick? Kicks are asked for. */
bool ring_pending(struct ring *ring);
/* Takes up to `budget` requests; true when there may be more to take now. */
bool ring_serve(struct ring *ring, unsigned budget);
/* Makes a kick, call or error fd (-1: none) non-blocking. */
void ring_fd_ready(int fd);

/* The interpreter is done with a request of any ring. */
void ring_complete(struct virtio_gpu_request *request, uint32_t written);

#endif
