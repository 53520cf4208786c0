/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_STREAM_INTERNAL_H
#define VGPU_STREAM_INTERNAL_H

/*
 * What the files of the stream share. Each command's handler gets its payload with the length
 * already checked against the table; after it returns 0 the resource handles that the table names
 * are translated. A handler refuses by returning refuse(...).
 */

#include "base/idmap.h"
#include "protocol/virgl.h"
#include "stream/shadow.h"
#include "stream/stream.h"

#include <stdbool.h>

struct stream_pool_block;

struct stream {
	struct stream_limits limits;
	struct stream_budget *budget, own_budget; /* shared, or its own */
	const struct stream_resource_ops *ops;
	void *ops_data;
	struct stream_counters counters;
	uint32_t seed;
	struct idmap sub_contexts; /* id -> stream_sub_context; 0 is always there */
	struct stream_sub_context *current;
	struct stream_object *free_objects;
	struct stream_object *unnamed, *unnamed_last; /* queries, in the order made */
	uint64_t queries_made, queries_named, views_bound;
	bool watch_clip_planes;           /* in sub-contexts made from now on */
	struct stream_pool_block *blocks; /* all memory of objects; given back at the end only */
};

/* The command at hand. */
struct command {
	uint32_t *dw; /* the header */
	uint32_t len; /* dwords after it */
	struct stream_fault *fault;
	struct stream_resource *res[32]; /* what translate() found at the places it was given */
};

typedef int (*command_handler)(struct stream *stream, struct command *command);

/* Notes why and returns `error`. */
static inline int refuse(struct command *command, int error, const char *reason, uint32_t value)
{
	command->fault->reason = reason;
	command->fault->value = value;
	return error;
}

/* True for lengths min, min + step, ... max. */
static inline bool length_fits(uint32_t len, uint32_t min, uint32_t max, uint32_t step)
{
	return len >= min && len <= max && (step == 1 || (len - min) % step == 0);
}

/* A resource attached to this context, or NULL. */
struct stream_resource *resolve(const struct stream *stream, uint32_t handle);

/* Replaces the handles at those places by the renderer's ids; command->res has the resources. */
int translate(struct stream *stream, struct command *command, const struct virgl_resources *places);

/* Handle to object of the current sub-context; NULL if there is none or it is of another type. */
struct stream_object *find_object(
	const struct stream *stream, uint32_t handle, enum virgl_object type);

/*
 * Adds an object, or replaces the one of that handle as virglrenderer does, charging `bytes`.
 * The object is zero but for its type and handle. -ENOSPC over a limit, -ENOMEM.
 */
int put_object(struct stream *stream, struct command *command, enum virgl_object type,
	uint64_t bytes, struct stream_object **ret);
/* Charges what the host makes of something. -ENOSPC over the budget. */
int charge_host(struct stream *stream, uint64_t bytes);
void uncharge_host(struct stream *stream, uint64_t bytes);
/*
 * Appends a command to those that made the object. `charged`: as kept bytes. 0, -ENOSPC over the
 * limit, -ENOMEM.
 */
int keep_command(struct stream *stream, struct stream_object *object, const uint32_t *dwords,
	uint32_t n, bool charged);
/* The handle does not name it any more; its entry in the map is the caller's to remove. */
void drop_handle(
	struct stream *stream, struct stream_sub_context *sub, struct stream_object *object);
void free_object(struct stream *stream, struct stream_object *object);
void free_pool(struct stream *stream);

/* Binds `object` (NULL: nothing) to that place. */
static inline void bind_object(
	struct stream *stream, struct stream_object **place, struct stream_object *object)
{
	struct stream_object *old = *place;

	if (old == object)
		return;
	if (object)
		object->refs++;
	*place = object;
	if (old && !--old->refs)
		free_object(stream, old);
}

/* The same for resources. */
static inline void bind_resource(
	struct stream *stream, struct stream_resource **place, struct stream_resource *res)
{
	struct stream_resource *old = *place;

	if (old == res)
		return;
	if (res)
		res->refs++;
	*place = res;
	if (old && !--old->refs && stream->ops->released)
		stream->ops->released(stream->ops_data, old);
}

/* Bytes of what is kept besides objects' own. -ENOSPC over a limit. */
int charge_kept(struct stream *stream, uint64_t bytes);
void uncharge_kept(struct stream *stream, uint64_t bytes);

/* ---- what is bound and set (shadow.c, streamout.c, query.c) ---- */

/* Notes what an accepted and translated command changes. May refuse for want of room. */
int shadow_apply(struct stream *stream, struct command *command, uint32_t opcode);
void shadow_release(struct stream *stream, struct stream_sub_context *sub);

static inline void mark_written(const struct stream *stream, struct stream_resource *res)
{
	res->written = stream->budget->epoch;
}

/* Marks what is bound for writing, if anything was drawn. */
void mark_framebuffer(struct stream *stream, struct stream_sub_context *sub);
void mark_others(struct stream *stream, struct stream_sub_context *sub);

static inline void mark_drawn(struct stream *stream, struct stream_sub_context *sub)
{
	if (sub->drew & DREW_FRAMEBUFFER)
		mark_framebuffer(stream, sub);
	if (sub->drew & DREW_OTHERS)
		mark_others(stream, sub);
}

/* Where the state of a command that is one state by itself is kept; n 0: it is none. */
struct single_state {
	uint8_t at, n;
};
extern const struct single_state single_states[VIRGL_COMMANDS];

int apply_streamout(struct stream *stream, struct command *command);
void mark_streamout(struct stream *stream, const struct stream_sub_context *sub);
/* Every list with that target (NULL: every list) ends. */
void drop_streamouts(
	struct stream *stream, struct stream_sub_context *sub, const struct stream_object *target);

void query_made(struct stream *stream, struct stream_object *query);
void query_gone(struct stream *stream, struct stream_object *query);
int apply_begin_query(struct stream *stream, struct command *command);
int apply_end_query(struct stream *stream, struct command *command);
int apply_query_result(struct stream *stream, struct command *command);
int apply_query_result_qbo(struct stream *stream, struct command *command);
int apply_render_condition(struct stream *stream, struct command *command);

int create_shader(struct stream *stream, struct command *command);

/* Shaders without clip code can all be made again now, which was put off before. */
bool clip_replay_due(const struct stream_sub_context *sub);

/* Clip planes are the business of the stages before rasterisation. */
static inline bool has_clip_code(uint32_t stage)
{
	return stage != VIRGL_STAGE_FRAGMENT && stage != VIRGL_STAGE_COMPUTE;
}

int add_sub_context(struct stream *stream, uint32_t id);
void free_sub_context(struct stream *stream, struct stream_sub_context *sub);

#define VIRGL_COMMAND(opcode, name, min, max, step, class, resources, handler)                     \
	int command_##handler(struct stream *stream, struct command *command);
#include "protocol/virgl.def"

#endif
