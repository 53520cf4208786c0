/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_STREAM_STREAM_H
#define VGPU_STREAM_STREAM_H

/*
 * Theory of operation
 *
 * A guest draws by submitting buffers of virgl commands. This is the one place that understands
 * them: each buffer is walked once, by the table protocol/virgl.def, before the renderer sees it.
 * From that one walk come
 *   - validation: every length, object handle, sub-context and resource handle is checked;
 *   - translation: resource handles as the client names them become the renderer's ids, in place
 *     (vtest protocol 2 clients choose their own handles, and two of them choose the same);
 *   - accounting: commands, draws, bytes;
 *   - the shadow: everything that was made, bound and set, kept to be saved (see save.h), and which
 *     resources were written.
 *
 * What is refused and what is not follows virglrenderer 0.10.4 and 1.3: a command that would put
 * their context in error is refused here, one that they ignore passes (unknown objects in
 * BIND_SHADER, LINK_SHADER, BIND_SAMPLER_STATES, DESTROY_OBJECT, GET_QUERY_RESULT and
 * SET_RENDER_CONDITION; unknown sub-contexts; making an object or sub-context that exists). Beyond
 * that only what would make the library touch memory it should not is refused: see the handlers.
 * Formats, boxes against a resource's real size and shader text are left to the library, which
 * checks them and puts its context in error.
 *
 * Not offered (-ENOTSUP): video (53-61) and PIPE_RESOURCE_CREATE (blob resources). A guest sends
 * them only if the capset allows it, so whoever hands out capsets must leave out video codecs
 * (num_video_caps 0) and, as long as the device offers no blob
 * resources, VIRGL_CAP_ARB_BUFFER_STORAGE. SET_DEBUG_FLAGS becomes a NOP: a guest does not choose
 * what its host logs.
 *
 * A buffer that fails leaves its context lost: the caller must not submit it, nor anything after
 * it. The walk stops at the first bad command; what was already translated is not undone.
 *
 * One struct stream belongs to one virgl context. It does no I/O and logs nothing.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct stream;

/* A resource as streams know it; embedded in the device's own record. */
struct stream_resource {
	uint32_t id;      /* the renderer's; not 0 */
	uint32_t refs;    /* held by objects and bindings of streams; theirs alone to change */
	uint64_t written; /* stream_budget.epoch of the last write */
	/* What a view or surface of it takes of the host's memory, bytes; the device's to set. */
	uint32_t view_bytes;
};

/* TRANSFER3D or COPY_TRANSFER3D. */
struct stream_transfer {
	struct stream_resource *res;
	struct stream_resource *from; /* COPY_TRANSFER3D: whose backing is used; else NULL */
	uint32_t level, stride, layer_stride;
	uint32_t x, y, z, width, height, depth;
	uint64_t offset; /* in the backing */
	bool from_host;  /* from `res` into the backing */
};

/* What the stream needs to know of resources; implemented by the device. */
struct stream_resource_ops {
	/*
	 * A resource attached to this context, or NULL: no such resource. Handle 0 is never asked
	 * for (it means "none" in the protocol). It must stay where it is while it has refs.
	 */
	struct stream_resource *(*resolve)(void *data, uint32_t handle);

	/*
	 * Its refs became 0. The device may still use it otherwise. Comes while commands are being
	 * checked, so the renderer may not have executed yet those that use the resource: destroy
	 * it there only after the next execution. May be NULL.
	 */
	void (*released)(void *data, struct stream_resource *res);

	/*
	 * The guest asks how much video memory there is: the answer goes into the backing of that
	 * resource (six 32-bit numbers, see struct virgl_memory_info of the protocol). The command
	 * itself becomes a NOP: the library would answer for the whole host, and virglrenderer
	 * 0.10.4 writes without looking whether there is a backing. May be NULL: no answer.
	 */
	void (*memory_info)(void *data, uint32_t handle);

	/*
	 * A transfer is about to be passed on. 0: pass it. 1: it was done elsewhere; it becomes a
	 * NOP. -EAGAIN: stop before it: stream_check() returns -EAGAIN with fault->offset, the
	 * caller runs what comes before and calls again there, and is asked again. Another -errno
	 * refuses it. NULL: all are passed.
	 */
	int (*transfer)(void *data, const struct stream_transfer *transfer);
};

/*
 * What several streams share; the owner keeps it until the last of them is gone. Of the host's
 * memory they take `bytes`, `host`, and of `driver` what exceeds `driver_free`; the sum is
 * stream_budget_total(), and a command that would raise it beyond max_total is refused. The costs
 * in `host` are measured ones: see the table in objects.c.
 */
struct stream_budget {
	uint32_t max_sub_contexts;  /* besides each stream's sub-context 0 */
	uint64_t max_bytes;         /* of objects and of kept text */
	uint64_t max_total;         /* the owner's to change */
	uint64_t sub_context_bytes; /* of `driver`, for each sub-context */
	uint64_t driver_free;
	uint32_t sub_contexts; /* now */
	uint64_t bytes;        /* now: what commands carried */
	uint64_t host;         /* now: what library and driver make of it, and our records */
	uint64_t driver;       /* now: sub-contexts, and what the owner adds */
	uint64_t epoch;        /* what resources that are written to get; the owner's to raise */
};

static inline uint64_t stream_budget_total(const struct stream_budget *b)
{
	return b->bytes + b->host + (b->driver > b->driver_free ? b->driver - b->driver_free : 0);
}

/* All of these are sums of what fits into memory, far from overflow. */
static inline bool stream_budget_fits(
	const struct stream_budget *b, uint64_t less, uint64_t more, uint64_t driver)
{
	struct stream_budget then = *b;

	then.host = then.host + more - less;
	then.driver += driver;
	return stream_budget_total(&then) <= b->max_total;
}

/* A context's allowance; 0 is not a special value. */
struct stream_limits {
	uint32_t max_sub_contexts; /* besides sub-context 0, which always exists */
	uint32_t max_objects;      /* over all sub-contexts */
	uint64_t max_object_bytes; /* sum of what creation commands carry; of kept bytes as much */
};

/* Sums since creation. */
struct stream_counters {
	uint64_t buffers;
	uint64_t commands;
	uint64_t query_results; /* times a query's result was asked for */
	uint64_t draws;         /* DRAW_VBO, LAUNCH_GRID, CLEAR, BLIT and their kin */
	uint64_t bytes;         /* of command stream */
	uint32_t objects;       /* now, also those without handle that are still bound */
	uint64_t object_bytes;  /* now */
	uint64_t kept_bytes;    /* now: text of shaders, constants */
};

/* Why and where a buffer was refused; `reason` is a constant string for people. */
struct stream_fault {
	const char *reason;
	const char *command; /* name, or NULL when the opcode is unknown */
	uint32_t opcode;
	size_t offset;  /* in dwords, of the command's header */
	uint32_t value; /* the offending handle, length or index */
};

/* `budget` may be NULL: the stream's own limits are all. */
int stream_create(const struct stream_limits *limits, struct stream_budget *budget,
	const struct stream_resource_ops *ops, void *ops_data, struct stream **ret);
void stream_destroy(struct stream *stream); /* NULL-safe */

/*
 * Checks and translates one submitted buffer. `dwords` must be private memory that no guest can
 * change meanwhile. Returns 0; -EINVAL malformed, -ENOENT unknown handle, -ENOSPC over a limit,
 * -ENOTSUP a command this device does not offer; *fault is then filled in (may be NULL). -ERESTART
 * and -EAGAIN are no refusals: see stream_watch_clip_planes() and stream_resource_ops.transfer.
 */
int stream_check(struct stream *stream, uint32_t *dwords, size_t n, struct stream_fault *fault);

/*
 * Clip planes. Translated shaders are faster without the code for clip planes that the guest does
 * not use; who leaves that code out must hear of the first guest that does. While watching,
 * stream_check() stops before a command that turns a clip plane on: -ERESTART, fault->offset says
 * where. The caller runs what comes before, sees to it that no further shader is translated without
 * that code, calls stream_replay_shaders(), and goes on there. Other sub-contexts, which use no
 * clip planes, keep their shaders until they do.
 */
void stream_watch_clip_planes(struct stream *stream, bool watch);

typedef int (*stream_emit_fn)(void *data, uint32_t *dwords, size_t n);

/*
 * Emits commands that create every geometry-stage shader of the current sub-context again, and bind
 * those that are bound. While the text of one is still coming nothing can be created:
 * stream_check() then stops once more when it is whole. Returns 0, -ENOMEM, or what `emit` returned
 * below 0.
 */
int stream_replay_shaders(struct stream *stream, stream_emit_fn emit, void *data);

const struct stream_counters *stream_counters(const struct stream *stream);

/* Name of an opcode for traces, or "UNKNOWN". */
const char *stream_command_name(uint32_t opcode);

#endif
