/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_FRONTEND_VHOST_USER_SESSION_H
#define VGPU_FRONTEND_VHOST_USER_SESSION_H

/*
 * Private state of one connection, shared by the files of this folder.
 *
 * Whatever must not happen in the middle of something else (telling the owner that the connection
 * ended, dispatching a message that waited, serving the rest of a ring) is done by session_work(),
 * from the event loop, after session_wake().
 */

#include "vhost_user.h"

#include "base/log.h"

#include "display_socket.h"
#include "inflight.h"
#include "memory.h"
#include "message.h"
#include "ring.h"

/* Ring requests taken in one turn of the event loop, and in all before a chain has to wait. */
#define SESSION_RING_BUDGET    32u
#define SESSION_CURSOR_BUDGET  16u
#define SESSION_MAX_IOV        (2u * VIRTQUEUE_MAX_IOV)
#define SESSION_MESSAGE_BUDGET 16u   /* messages handled in one turn */
#define SESSION_DRAIN_MS       5000u /* requests that take longer end the connection */
#define SESSION_POLL_MS        1u    /* while draining, and for rings without a kick fd */

/* Returned by a handler: nothing was done yet; call again when the rings have drained. */
#define SESSION_AGAIN 1

struct vhost_user {
	struct device *dev;
	struct loop *loop;
	const struct vhost_user_ops *ops;
	void *ops_data;
	struct virtio_gpu *gpu;
	struct display_socket *display;

	struct vu_channel channel;
	struct loop_source *source;
	uint32_t events; /* the socket is watched for */
	int wake_fd, timer_fd;
	struct loop_source *wake_source, *timer_source;
	bool timer_running;

	bool ended, told; /* the connection is over; the owner knows */
	char reason[KEEPER_TEXT_MAX];

	bool waiting;           /* channel.in waits for rings to drain */
	uint64_t wait_until_ms; /* and no longer than this */
	int reply_fd;           /* set by a handler for its reply, or -1 */
	const char *why;        /* set by a handler that fails: a constant text */

	uint64_t features, protocol_features;
	bool features_set;

	struct guest_memory memory;
	uint32_t memory_serial;
	bool memory_approved;

	struct ring rings[KEEPER_MAX_RINGS];
	struct inflight inflight;
	struct virtqueue_chain scratch;
	unsigned iov_in_flight;
	bool starved; /* a chain waits until less is in flight */
	struct log_limit log_limit;
};

/* Ends the connection: nothing more is served; the owner is told from the event loop. */
void session_fail(struct vhost_user *vu, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
/* Has session_work() run soon. */
void session_wake(struct vhost_user *vu);
/* Runs the timer while something needs it. */
void session_update_timer(struct vhost_user *vu);

/* Rings may take requests: memory is there, approved and whole. */
bool session_may_serve(struct vhost_user *vu);
void session_custody(
	struct vhost_user *vu, uint32_t kind, uint32_t index, const uint64_t abc[3], int fd);
void session_release(struct vhost_user *vu, uint32_t kind, uint32_t index);

/* Runs the handler of channel->in and answers: handlers.c. */
void session_dispatch(struct vhost_user *vu);

#endif
