/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_FRONTEND_VTEST_INTERNAL_H
#define VGPU_FRONTEND_VTEST_INTERNAL_H

/* Shared by the parts of one connection; every function returns 0 or -errno. */

#include "base/durable.h"
#include "base/idmap.h"
#include "frontend/keep.h"
#include "frontend/vtest/linger.h"
#include "frontend/vtest/vtest.h"
#include "protocol/vtest.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Descriptors of small buffers kept open, in use or free; beyond it they are not pooled. */
#define VTEST_POOL_MAX_FDS (4 * VTEST_POOL_SIZE)

#define VTEST_CONTEXT 1u /* the device's handle of the one context a connection has */

enum vtest_state { VTEST_STATE_NEW, VTEST_STATE_OPEN, VTEST_STATE_ENDED };
/* The first page of the memory that bytes are received into; the ring follows it. See input.c. */
struct vtest_wire {
	uint32_t magic, version;
	uint64_t capacity; /* of the ring, bytes */
	uint64_t zero_at;  /* the byte at the ring's start is this one of the stream */
	struct durable durable;
};

/* What came in and is not handled yet; `received` and `consumed` count bytes of the connection. */
struct vtest_input {
	struct vtest_wire *wire; /* NULL: nothing was received yet */
	uint8_t *ring;           /* `capacity` bytes, mapped twice, back to back */
	size_t capacity;
	size_t start; /* of the first byte that is not consumed */
	uint64_t received, consumed;
	bool foreign; /* `wire` is a predecessor's: nothing but `ring` counts until it is adopted */
	bool eof;
};

struct vtest_message;

/* Answers that are not sent yet, in order. */
struct vtest_output {
	struct vtest_message *first, **last;
	size_t bytes;
	unsigned count, fds;
	unsigned pending;      /* loaded messages that still need their descriptor */
	uint64_t produced;     /* bytes of answers since the connection began */
	uint64_t sent_already; /* as many of them a predecessor has sent */
};

/* A descriptor that rides with an answer, and its name in custody. */
struct vtest_pass {
	int fd;
	uint32_t kind; /* enum keeper_custody_kind */
	uint64_t number;
};

struct vtest_shm {
	void *map;
	size_t size; /* mapped, bytes */
	uint64_t number;
	int fd;      /* -1: given away for good, not poolable */
	bool shared; /* the connection's fence page */
};

struct vtest_resource {
	uint32_t handle;
	uint32_t bind;
	uint32_t backing;     /* bytes of shm that the device was given */
	bool is_fence;        /* the buffer Mesa makes for each fence */
	bool counted;         /* a frame, once the fence was waited for */
	struct vtest_shm shm; /* .map NULL: none */
};

struct vtest_sync {
	uint32_t id;
	unsigned refs;
	uint64_t value;
};

struct vtest_point {
	struct vtest_sync *sync; /* a reference; NULL: reached */
	uint64_t value;
};

struct vtest_wait {
	struct vtest_wait *next;
	int fd;
	uint64_t number;
	uint64_t until_ms; /* UINT64_MAX: for ever */
	unsigned missing;  /* points that must still be reached */
	unsigned n;
	struct vtest_point points[];
};

struct vtest {
	struct device *dev;
	struct vtest_budget *budget;
	struct device_client *client;
	struct loop *loop;
	struct loop_source *source; /* NULL while frozen */
	uint32_t epoll_events;
	int fd;
	const struct vtest_ops *ops;
	void *data;

	enum vtest_state state;
	char reason[VTEST_REASON_MAX];
	uint32_t version, capset;
	bool has_context;
	char name[64]; /* what the client calls itself */

	const struct frontend_keep *keep; /* NULL: the connection ends with the process */
	uint32_t connection;              /* the keeper's number */
	bool frozen;
	uint64_t ready_ns; /* work was left to a later turn then; 0: none was */
	bool image_due;    /* the process wants to make one before the next message */
	uint64_t hold_ns;  /* a frame came too soon: it is not served for so long */
	bool held;         /* until pace_source, of pace_fd, says so */
	int pace_fd;
	struct loop_source *pace_source; /* NULL: none yet */
	bool waiting;             /* the journal has no room: nothing is handled until thawed */
	const void *full_journal; /* that had no room for the message at hand, never looked into */
	uint64_t full_bytes;      /* what it had */
	unsigned full_tries;
	bool replaying;       /* a record is run again, */
	bool replay_executed; /* whose effects on the outside are done */

	struct vtest_input in;
	struct vtest_output out;
	struct vtest_linger linger;
	/* Where in the stream a RESOURCE_CREATE2 lies that was answered already; 0: none. */
	uint64_t early_at;
	bool frame_ends;                 /* the fence behind the submit at hand was made already */
	struct vtest_resource *answered; /* by the message at hand, with its descriptor */

	struct idmap resources; /* struct vtest_resource */
	uint32_t next_handle, mappings;
	struct vtest_shm fence_page; /* .map NULL: not made yet */
	struct vtest_shm pool[VTEST_POOL_SIZE];
	unsigned pool_count;
	unsigned pool_fds;                /* descriptors of small buffers, in use and in the pool */
	unsigned pool_max;                /* beyond so many they are not pooled */
	uint64_t next_shared, next_event; /* names in custody */

	/* Work given to the device, counted, and how much of it is known to be complete. */
	uint64_t work, work_done;
	struct device_fence busy_fence;
	bool busy_fence_armed;
	uint64_t busy_fence_work;
	bool display_frames; /* frames are display-target read-backs */

	struct idmap syncs; /* struct vtest_sync */
	uint32_t next_sync;
	struct vtest_wait *waits;
	unsigned wait_count;
	unsigned fence_count; /* struct vtest_submit_fence in flight */
};

/* One row of the command table. `payload` is dword-aligned, private and `size` bytes long. */
struct vtest_command {
	const char *name;
	uint32_t min, max;
	enum vtest_payload payload;
	bool context;
	unsigned fds;
	uint32_t since;
	int (*handler)(struct vtest *v, void *payload, size_t size);
};

/* NULL: no such command. */
const struct vtest_command *vtest_command(uint32_t id);

/* ---- connection ---- */

/* The loop's callback; also what tests and the fuzzer call to make a connection take a turn. */
void vtest_event(void *data, uint32_t epoll_events);

/* Notes why the connection ends (the first reason wins) and returns `err`. */
int vtest_fail(struct vtest *v, int err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* ---- input ---- */

/* Receives once. 1: something came; 0: nothing there now, or the peer is gone (in.eof). */
int vtest_input_receive(struct vtest *v);

/*
 * What message do `have` bytes begin with? 1: it is whole, *ret_id and *ret_size (header included)
 * are set; 0: more is needed.
 */
int vtest_message_parse(
	struct vtest *v, const uint8_t *bytes, size_t have, uint32_t *ret_id, size_t *ret_size);
/* The message at byte `at` of the unhandled input; *ret_message points at its header. */
int vtest_input_peek(
	struct vtest *v, size_t at, uint32_t *ret_id, uint8_t **ret_message, size_t *ret_size);
static inline size_t vtest_input_left(const struct vtest_input *in)
{
	return (size_t)(in->received - in->consumed);
}
void vtest_input_consume(struct vtest *v, size_t bytes);
/* Makes the wire, for the totals so far, unless there is one. */
int vtest_input_open(struct vtest *v);
/* A predecessor's wire: takes `fd` and reads the totals, once. -EBADMSG. */
int vtest_input_load(struct vtest *v, int fd, uint64_t *ret_sent);
/* Copies what is not consumed of a predecessor's wire to a new one, and that into custody. */
int vtest_input_adopt(struct vtest *v);
void vtest_input_finish(struct vtest *v);

/* Memory for messages, of all connections. -ENOMEM over the budget. */
int vtest_buffers_charge(struct vtest *v, uint64_t bytes);
void vtest_buffers_uncharge(struct vtest *v, uint64_t bytes);

/* ---- output ---- */

/*
 * Queues an answer; vtest_answer() sends it. `pass` (NULL: none) stays the caller's and must stay
 * open until then. What a predecessor has sent already is dropped.
 */
int vtest_send(struct vtest *v, const void *buf, size_t len, const struct vtest_pass *pass);
/* The descriptor of the answer queued last is the queue's from now on; false: there is none. */
bool vtest_send_owns(struct vtest *v, int fd);
/* The message at hand is executed: sends what was queued, and holds on to what was not taken. */
int vtest_answer(struct vtest *v);
/* A header {len, id} and `n` dwords of payload in one piece; `len` need not be n. */
int vtest_reply(struct vtest *v, uint32_t len, uint32_t id, const uint32_t *dwords, size_t n);
int vtest_output_flush(struct vtest *v);
/* Is a descriptor still to be sent? Then it leaves custody after that, by itself. */
bool vtest_output_holds(struct vtest *v, uint32_t kind, uint64_t number);
/* Gives a loaded message its descriptor (duplicated), if one waits for it. */
int vtest_output_give(struct vtest *v, uint32_t kind, uint64_t number, int fd);
/* What no one gave is taken out of custody. */
int vtest_output_take(struct vtest *v);
void vtest_output_save(struct vtest *v, struct state_writer *w);
int vtest_output_load(struct vtest *v, struct state_reader *r);
void vtest_output_finish(struct vtest *v);

/* ---- what outlives the process ---- */

/* Puts the message into the journal. 1: there, or there is no journal; 0: no room, `waiting`. */
int vtest_record(struct vtest *v, enum journal_kind kind, uint64_t position, uint64_t early_at,
	const void *bytes, size_t size);
void vtest_executed(struct vtest *v);
/* Custody; without `keep` they do nothing, and nothing is found (-ENOENT). */
int vtest_put(struct vtest *v, uint32_t kind, uint64_t number, uint64_t size, int fd);
void vtest_drop(struct vtest *v, uint32_t kind, uint64_t number);
int vtest_take(struct vtest *v, uint32_t kind, uint64_t number);
/* Is this a record whose effects on the outside are done? Then they are not done again. */
static inline bool vtest_done_before(const struct vtest *v)
{
	return v->replaying && v->replay_executed;
}
void vtest_count_frame(struct vtest *v);
/* Runs one message; `message` is private and `size` bytes long. */
int vtest_run(struct vtest *v, uint32_t id, void *message, size_t size);
/* Ends the connection for the reason noted. */
void vtest_end(struct vtest *v);

/* Creates the rendering context unless there is one. */
int vtest_need_context(struct vtest *v, uint32_t capset);
int vtest_pace_hold(struct vtest *v); /* it is not served from here on, for hold_ns */
void vtest_pace_finish(struct vtest *v);

/* ---- resources and waiting ---- */

/* Answers a RESOURCE_CREATE2 ahead of its turn. 1: done; 0: leave it to its turn. */
int vtest_resource_create_early(struct vtest *v, const void *payload);
void vtest_resources_save(struct vtest *v, struct state_writer *w);
int vtest_resources_load(struct vtest *v, struct state_reader *r);
void vtest_resources_finish(struct vtest *v);

int vtest_shm_get(struct vtest *v, size_t size, struct vtest_shm *ret);
/* The one page behind all of the connection's fence buffers. */
int vtest_shm_get_fence(struct vtest *v, struct vtest_shm *ret);
/* The client has the descriptor, or it is queued; it is kept only where it will be used again. */
void vtest_shm_sent(struct vtest *v, struct vtest_shm *shm);
void vtest_shm_put(struct vtest *v, struct vtest_shm *shm);
void vtest_shm_save(struct vtest *v, struct state_writer *w);
int vtest_shm_load(struct vtest *v, struct state_reader *r);
/* One resource's; `pooled`: its descriptor is kept. */
int vtest_shm_restore(
	struct vtest *v, uint64_t number, size_t size, bool pooled, struct vtest_shm *ret);
void vtest_shm_finish(struct vtest *v);

void vtest_syncs_save(struct vtest *v, struct state_writer *w);
int vtest_syncs_load(struct vtest *v, struct state_reader *r);
void vtest_syncs_finish(struct vtest *v);

/* ---- handlers, one a row of the table ---- */

#define X(id, name, min, max, payload, context, fds, since, handler)                               \
	int vtest_on_##handler(struct vtest *v, void *payload_, size_t size);
VTEST_COMMANDS(X)
#undef X

#endif
