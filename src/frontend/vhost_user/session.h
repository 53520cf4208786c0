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
#include "frontend/keep.h"

#include "display_socket.h"
#include "inflight.h"
#include "memory.h"
#include "message.h"
#include "ring.h"
#include "transfer.h"
#include "wire.h"

/* Ring requests taken in one turn of the event loop, and in all before a chain has to wait. */
#define SESSION_RING_BUDGET    32u
#define SESSION_CURSOR_BUDGET  16u
#define SESSION_MAX_IOV        (2u * VIRTQUEUE_MAX_IOV)
#define SESSION_MESSAGE_BUDGET 16u   /* messages handled in one turn */
#define SESSION_DRAIN_MS       5000u /* requests that take longer end the connection */
#define SESSION_POLL_MS        1u    /* while draining, and for rings without a kick fd */

/* Kept requests: of one, and of all in flight, bytes. A command has 16 MiB at most. */
#define SESSION_MAX_COPY    (17u << 20)
#define SESSION_MAX_COPIES  (64u << 20)
#define SESSION_MAX_DROPS   128u /* descriptors kept for messages that may be replayed */
#define SESSION_MESSAGE_FDS 8u   /* numbers of a message's descriptors in custody */

/* Returned by a handler: nothing was done yet; call again when the rings have drained. */
#define SESSION_AGAIN 1

struct vhost_user {
	struct device *dev;
	struct loop *loop;
	const struct vhost_user_ops *ops;
	void *ops_data;
	struct virtio_gpu *gpu;
	struct display_socket *display;

	/* state: state.c */
	const struct frontend_keep *keep; /* NULL: none */
	uint32_t connection;
	struct wire *wire;
	bool wire_shared;
	bool frozen;                /* until vhost_user_thaw() */
	bool loading;               /* from vhost_user_load() until then */
	bool replaying;             /* inside vhost_user_replay() */
	bool quiet;                 /* what is done was done before: nobody is told again */
	bool paused;                /* no room in the journal: until the next thaw */
	const struct journal *full; /* the journal an image was asked for; of that many bytes */
	uint64_t full_at;
	const struct journal
		*saved; /* likewise the one that vhost_user_save() is to make needless */
	uint64_t saved_at;
	bool was_saved;
	uint64_t messages; /* dispatched so far */
	uint64_t numbers;  /* of requests of all rings: the next one's */
	struct ring_request *executing;
	struct ring_request *deferred, **deferred_end; /* completed, to be returned on thaw */
	uint64_t copied;                               /* bytes of kept requests in flight */
	/*
	 * Descriptors of messages since the last image, for a replay: number of each + 1, of those
	 * that a later one takes the place of, and of those that stay.
	 */
	uint64_t held[KEEPER_CUSTODY_SCREEN][KEEPER_MAX_RINGS];
	uint64_t drops[SESSION_MAX_DROPS];
	unsigned n_drops;
	int resumed;     /* of session_resume_input() */
	int inflight_fd; /* the region a predecessor had, -1: none */
	struct keeper_custody inflight_at;
	struct transfer transfer; /* DEVICE_STATE */

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
	bool memory_approved, memory_asked;

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

struct journal *session_journal(struct vhost_user *vu);
/* False: the journal has no room for that many bytes, and nothing is served until it has. */
bool session_has_room(struct vhost_user *vu, size_t size);
/* 0, -EAGAIN: like session_has_room(), -E2BIG: not even an empty journal has. */
int session_record(struct vhost_user *vu, enum journal_kind kind, uint64_t position,
	const struct iovec *parts, unsigned n_parts);
/* What was recorded last is executed. */
void session_executed(struct vhost_user *vu);
/* `now`, or in a replay what it was when the message was executed first. */
bool session_remember(struct vhost_user *vu, bool now);
/* Keeps the descriptors of channel->in, whose handler was called, for a replay. */
void session_keep_fds(struct vhost_user *vu);
/* The message being handled brought what is custody `kind` and `index` from now on; or nothing is.
 */
void session_claim(struct vhost_user *vu, uint32_t kind, uint32_t index);
void session_unclaim(struct vhost_user *vu, uint32_t kind, uint32_t index);
void session_resume_input(struct vhost_user *vu);

void session_unwatch(struct vhost_user *vu);
int session_watch_all(struct vhost_user *vu);
/* A descriptor that does nothing, in place of one that was replaced since. */
int session_stand_in(void);

/* Runs the handler of channel->in and answers: handlers.c. */
void session_dispatch(struct vhost_user *vu);

#endif
