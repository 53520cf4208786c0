/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_FRONTEND_VTEST_INTERNAL_H
#define VGPU_FRONTEND_VTEST_INTERNAL_H

/* Shared by the parts of one connection; every function returns 0 or -errno. */

#include "base/idmap.h"
#include "frontend/vtest/vtest.h"
#include "protocol/vtest.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VTEST_CONTEXT 1u /* the device's handle of the one context a connection has */

enum vtest_state { VTEST_STATE_NEW, VTEST_STATE_OPEN, VTEST_STATE_ENDED };

/* Received bytes not yet handled: buf[start..end). `start` is kept a multiple of four. */
struct vtest_input {
	uint8_t *buf;
	size_t capacity, start, end;
	bool eof;
};

struct vtest_message;

/* Answers the socket had no room for, in order. */
struct vtest_output {
	struct vtest_message *first, **last;
	size_t bytes;
	unsigned count, fds;
};

struct vtest_shm {
	void *map;
	size_t size; /* mapped, bytes */
	int fd;      /* -1: given away for good, not poolable */
	bool shared; /* the connection's fence page */
};

struct vtest_resource {
	uint32_t handle;
	uint32_t bind;
	bool is_fence;        /* the buffer Mesa makes for each fence */
	bool counted;         /* a frame, once the fence was waited for */
	struct vtest_shm shm; /* .map NULL: none */
};

struct vtest_sync;
struct vtest_wait;
struct vtest_submit_fence;

struct vtest {
	struct device *dev;
	struct vtest_budget *budget;
	struct device_client *client;
	struct loop_source *source;
	uint32_t epoll_events;
	int fd;
	const struct vtest_ops *ops;
	void *data;

	enum vtest_state state;
	char reason[VTEST_REASON_MAX];
	uint32_t version;
	bool has_context;
	uint32_t capset;
	char name[64]; /* what the client calls itself */

	struct vtest_input in;
	struct vtest_output out;
	bool create_done; /* the next message is a RESOURCE_CREATE2 that was answered already */

	struct idmap resources; /* struct vtest_resource */
	uint32_t next_handle;
	uint32_t mappings;
	struct vtest_shm fence_page; /* .map NULL: not made yet */
	struct vtest_shm pool[VTEST_POOL_SIZE];
	unsigned pool_count;
	unsigned pool_fds; /* descriptors of small buffers, in use and in the pool */

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

int vtest_set_events(struct vtest *v, uint32_t epoll_events);

/* ---- input ---- */

/* Receives once. 1: something came; 0: nothing there now, or the peer is gone (in.eof). */
int vtest_input_receive(struct vtest *v, size_t need);

/*
 * Looks at the message at byte `at` of the unhandled input. 1: it is whole, *ret_id, *ret_payload
 * and *ret_size are set; 0: more is needed, *ret_size says how many bytes in all, as far as known.
 */
int vtest_input_peek(
	struct vtest *v, size_t at, uint32_t *ret_id, uint8_t **ret_payload, size_t *ret_size);
void vtest_input_consume(struct vtest *v, size_t bytes);
void vtest_input_finish(struct vtest *v);

/* Memory for messages, of all connections. -ENOMEM over the budget. */
int vtest_buffers_charge(struct vtest *v, uint64_t bytes);
void vtest_buffers_uncharge(struct vtest *v, uint64_t bytes);

/* ---- output ---- */

/* Sends, or queues what the socket does not take. `fd` (or -1) stays the caller's. */
int vtest_send(struct vtest *v, const void *buf, size_t len, int fd);
/* A header {len, id} and `n` dwords of payload in one piece; `len` need not be n. */
int vtest_reply(struct vtest *v, uint32_t len, uint32_t id, const uint32_t *dwords, size_t n);
int vtest_output_flush(struct vtest *v);
void vtest_output_finish(struct vtest *v);

/* ---- session ---- */

/* Creates the rendering context unless there is one. */
int vtest_need_context(struct vtest *v, uint32_t capset);

/* ---- resources and waiting ---- */

/* Answers a RESOURCE_CREATE2 ahead of its turn. 1: done; 0: leave it to its turn. */
int vtest_resource_create_early(struct vtest *v, const void *payload);
void vtest_resources_finish(struct vtest *v);
/* Waits until everything submitted is complete. */
void vtest_finish_work(struct vtest *v);

int vtest_shm_get(struct vtest *v, size_t size, struct vtest_shm *ret);
/* The one page behind all of the connection's fence buffers. */
int vtest_shm_get_fence(struct vtest *v, struct vtest_shm *ret);
/* The client has the descriptor, or it is queued; it is kept only where it will be used again. */
void vtest_shm_sent(struct vtest *v, struct vtest_shm *shm);
void vtest_shm_put(struct vtest *v, struct vtest_shm *shm);
void vtest_shm_finish(struct vtest *v);

void vtest_syncs_finish(struct vtest *v);

/* ---- handlers, one a row of the table ---- */

#define X(id, name, min, max, payload, context, fds, since, handler)                               \
	int vtest_on_##handler(struct vtest *v, void *payload_, size_t size);
VTEST_COMMANDS(X)
#undef X

#endif
