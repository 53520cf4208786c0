/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_FRONTEND_VTEST_H
#define VGPU_FRONTEND_VTEST_H

/*
 * Theory of operation
 *
 * One vtest connection: a process or container whose Mesa (virpipe) draws on this vGPU. It speaks
 * protocol versions 0, 2 and 3 as stock Mesa does and calls the device's operations directly. A
 * connection is one device client with one rendering context; a program with several screens or
 * processes opens several connections, and they share nothing but the device.
 *
 * States: NEW until CREATE_RENDERER, then OPEN, then ENDED. In ENDED nothing is read any more and
 * `closed` is called exactly once. The protocol has no error reply, so whatever goes wrong (a
 * malformed message, a quota, a lost context) ends the connection with a reason; Mesa then stops
 * its program with "lost connection". Other connections go on.
 *
 * Where the time of a frame goes is in the round trips, so each costs as few system calls as can
 * be: one receive for many messages, one send for an answer, one page for the many small buffers
 * that Mesa uses as fences. A RESOURCE_CREATE2 that directly follows a SUBMIT_CMD is answered
 * before the submit runs, because the client needs only the descriptor and waits for it; if it is a
 * fence, drawing begins right after the submit and not when the client is heard of again. Who was
 * answered mostly goes on at once, and is waited for awake (linger.h).
 *
 * What a RESOURCE_BUSY_WAIT waits for: shared memory is read and written only inside
 * device_submit() and device_transfer(), so for most resources executed is as good as complete. The
 * exceptions are buffers that stand for completion itself (bind CUSTOM: fences and query results;
 * STAGING, QUERY_BUFFER) and handles nobody knows: for those everything submitted must be complete.
 *
 * A frame (frames_total, and what a type's frame-rate limit limits) is a read-back of a display
 * target; on connections that never made one (off-screen programs), a fence that was waited for.
 *
 * Limits: the constants below and those of protocol/vtest.h. One turn of the loop spends at most
 * VTEST_TURN_NS on one connection, beyond the command that is running.
 *
 * Deliberately not here: blob resources, Venus, DRM sync objects (version 4), accepting
 * connections, logging: the reason given to `closed` is the owner's to log, within its own limit.
 */

#include "base/loop.h"
#include "device/saving.h"

#define VTEST_TURN_NS       4000000u
#define VTEST_MAX_RESOURCES 65536u
#define VTEST_MAX_MAPPINGS  16384u
#define VTEST_POOL_SIZE     32u          /* free small buffers kept */
#define VTEST_POOL_BYTES    4096u        /* what counts as small */
#define VTEST_OUTPUT_MAX    (256u << 10) /* bytes of answers a client may leave unread */
#define VTEST_MAX_SYNCS     4096u
#define VTEST_MAX_WAITS     64u /* unexpired SYNC_WAITs; each holds an eventfd */
#define VTEST_MAX_FENCES    256u
#define VTEST_REASON_MAX    256u
#define VTEST_QUEUED_FDS    16u /* descriptors in answers a client has not read yet */

/*
 * What all connections of a process share of its limits: descriptors, mappings (vm.max_map_count
 * is 65530 by default) and memory for messages beyond each connection's base buffer. Whoever is
 * over it ends, or, where descriptors are only kept to save time, does without.
 */
#define VTEST_ALL_MAPPINGS 32768u
#define VTEST_ALL_BUFFERS  (256ull << 20) /* bytes */

struct vtest_budget {
	uint32_t max_fds; /* the owner's choice, well below the process' limit */
	/* private to the connections; starts as zero */
	uint32_t fds, mappings;
	uint64_t buffers;
};

struct vtest;

struct vtest_ops {
	/*
	 * The connection has ended; "" when the peer closed it. The callee destroys it, then or
	 * later; the connection does not touch itself after this call.
	 */
	void (*closed)(void *data, const char *reason);
};

/*
 * Takes `fd`, a connected stream socket, on success and on failure. `name` is copied; `budget` must
 * outlive the connection.
 */
int vtest_create(struct device *dev, struct loop *loop, struct vtest_budget *budget, int fd,
	const char *name, const struct vtest_ops *ops, void *data, struct vtest **ret);
void vtest_destroy(struct vtest *vtest); /* NULL-safe */

/*
 * ---- state (docs/decisions/0009) ----
 *
 * With `keep`, messages go to the journal before they are executed, bytes are received into and
 * sent from memory that is in custody, and so is what is shared with the client: the connection can
 * be carried on by another process. vtest_keep() is called right after vtest_create(), before the
 * loop runs; `connection` is the keeper's number. 0 or -errno.
 */
struct frontend_keep;
struct journal_record;
struct state_reader;
struct state_writer;

int vtest_keep(struct vtest *v, const struct frontend_keep *keep, uint32_t connection);

/* Nothing is handled any more, nothing is lost; until vtest_thaw(). */
void vtest_freeze(struct vtest *v);
/* Takes a turn as soon as the loop comes round. May call `closed`. */
void vtest_thaw(struct vtest *v);

/*
 * Frozen, all of the device's work complete: is there something only a process can do, of which no
 * byte of the client's will tell? A whole message, answers not sent.
 */
bool vtest_pending(struct vtest *v);

/* Writes the payload of its CONNECTION section. Frozen, and all of the device's work complete. */
void vtest_save(struct vtest *v, struct state_writer *w);
/*
 * Takes up a predecessor's connection: created with the same fd, kept under the same number,
 * frozen. `r` stands in its CONNECTION section; NULL: it came after the image, there was nothing.
 * -EBADMSG and the like: the connection cannot go on.
 */
int vtest_load(struct vtest *v, struct state_reader *r);
/*
 * Executes a record of this connection from the journal, between device_replay_begin() and _end().
 * What the predecessor had answered is not answered again. <0: the connection ends as it would
 * have: further records are refused, and vtest_thaw() calls `closed`, after the last answers.
 */
int vtest_replay(struct vtest *v, const struct journal_record *record);

#endif
