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
#include "stream/stream.h"

#include <stdbool.h>

/* The commands that made a shader; several sub-contexts' slots may hold it. */
struct shader_text {
	unsigned refs;
	size_t n, room; /* dwords; charged by n */
	uint32_t *dwords;
};

struct stream_object {
	uint8_t type;               /* enum virgl_object; MSAA surfaces are surfaces */
	uint8_t stage;              /* shaders */
	uint32_t total;             /* shaders: bytes of text announced, rounded up to dwords */
	uint32_t received;          /* shaders: bytes of it so far */
	struct shader_text *text;   /* shaders, while clip planes are watched; or NULL */
	uint64_t bytes;             /* charged to the context */
	struct stream_object *next; /* while free */
};

/* What a sub-context's shaders lack of the code for clip planes. */
enum clip_state {
	CLIP_COMPLETE, /* nothing: they are not kept */
	CLIP_WATCHED,  /* kept, and told of the first clip plane */
	CLIP_OWED,     /* clip planes are used, but the text of a shader was still coming then */
};

struct stream_sub_context {
	uint32_t id;
	struct idmap objects; /* handle -> stream_object */
	/* Per stage the shader whose text is still coming; 0: none. It outlives a DESTROY_OBJECT.
	 */
	uint32_t long_shader[VIRGL_STAGES];
	enum clip_state clip;
	/* What is bound, also after its handle was destroyed; kept while clip planes are watched.
	 */
	struct {
		uint32_t handle;
		struct shader_text *text; /* NULL: nothing that was kept */
	} bound[VIRGL_STAGES];
};

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
	bool watch_clip_planes;           /* in sub-contexts made from now on */
	struct stream_pool_block *blocks; /* all memory of objects; given back at the end only */
};

/* The command at hand. */
struct command {
	uint32_t *dw; /* the header */
	uint32_t len; /* dwords after it */
	struct stream_fault *fault;
};

typedef int (*command_handler)(struct stream *stream, struct command *command);

/* Notes why and returns `error`. */
int refuse(struct command *command, int error, const char *reason, uint32_t value);

/* True for lengths min, min + step, ... max. */
static inline bool length_fits(uint32_t len, uint32_t min, uint32_t max, uint32_t step)
{
	return len >= min && len <= max && (step == 1 || (len - min) % step == 0);
}

/* A resource attached to this context, or NULL. */
struct stream_resource *resolve(const struct stream *stream, uint32_t handle);

/* Replaces the handles at those places by the renderer's ids. */
int translate(struct stream *stream, struct command *command, const struct virgl_resources *places);

/* Handle to object of the current sub-context; NULL if there is none or it is of another type. */
struct stream_object *find_object(
	const struct stream *stream, uint32_t handle, enum virgl_object type);

/*
 * Adds an object, or replaces the one of that handle as virglrenderer does, charging `bytes`.
 * The object is zero but for its type. -ENOSPC over a limit, -ENOMEM.
 */
int put_object(struct stream *stream, struct command *command, uint32_t handle,
	enum virgl_object type, uint64_t bytes, struct stream_object **ret);
void free_object(struct stream *stream, struct stream_object *object);
void free_pool(struct stream *stream);

int create_shader(struct stream *stream, struct command *command);

/* Shaders without clip code can all be made again now, which was put off before. */
bool clip_replay_due(const struct stream_sub_context *sub);

/* Clip planes are the business of the stages before rasterisation. */
static inline bool has_clip_code(uint32_t stage)
{
	return stage != VIRGL_STAGE_FRAGMENT && stage != VIRGL_STAGE_COMPUTE;
}

/* Kept shader text, charged to the context until the last user is gone. Append: 0, -ENOSPC over
 * the limit, -ENOMEM. */
int shader_text_append(
	struct stream *stream, struct shader_text **text, const uint32_t *dwords, uint32_t n);
struct shader_text *shader_text_ref(struct shader_text *text);            /* NULL-safe */
void shader_text_unref(struct stream *stream, struct shader_text **text); /* NULL-safe */
void forget_bound_shaders(struct stream *stream, struct stream_sub_context *sub);

int add_sub_context(struct stream *stream, uint32_t id);
void free_sub_context(struct stream *stream, struct stream_sub_context *sub);

#define VIRGL_COMMAND(opcode, name, min, max, step, class, resources, handler)                     \
	int command_##handler(struct stream *stream, struct command *command);
#include "protocol/virgl.def"

#endif
