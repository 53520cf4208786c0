/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_STREAM_SHADOW_H
#define VGPU_STREAM_SHADOW_H

/*
 * The shadow state: objects, and what is bound and set per sub-context. It holds what a fresh
 * context must be told to be like this one, no more: see save.h.
 */

#include "base/idmap.h"
#include "protocol/virgl.h"
#include "stream/stream.h"

#define OBJECT_SMALL 12 /* dwords of most creation commands */

/*
 * An object and the commands that made it. It lives as long as its handle, and longer while it is
 * bound where virglrenderer keeps it too (`gone` then): see drop_handle().
 */
struct stream_object {
	uint32_t handle;
	uint32_t refs;      /* by its handle, and by each place where it is bound */
	uint8_t type;       /* enum virgl_object; MSAA surfaces are surfaces */
	uint8_t stage;      /* shaders */
	bool gone;          /* its handle does not name it any more */
	bool active;        /* queries: begun and not ended */
	bool unnamed;       /* queries: without host_id, in the list of such */
	uint32_t total;     /* shaders: bytes of text announced, in whole dwords */
	uint32_t received;  /* shaders: bytes of it so far */
	uint32_t host_id;   /* queries: the renderer's */
	uint32_t temporary; /* handle in a saved state, if gone */
	uint32_t n, room;   /* dwords */
	uint32_t *dwords;   /* commands with headers, renderer's ids: `small`, or its own */
	struct stream_resource *res; /* what it refers to, or NULL */
	uint64_t bytes;              /* charged to the context */
	uint32_t host;               /* what library and driver make of it, bytes */
	uint64_t made; /* queries: how many were made before; views: bound before, the last time */
	struct stream_object *next, *prev; /* free ones (next), unnamed queries */
	uint32_t small[OBJECT_SMALL];
};

static inline bool is_unfinished(const struct stream_object *object)
{
	return object->type == VIRGL_OBJECT_SHADER && object->received < object->total;
}

/* What a sub-context's shaders lack of the code for clip planes. */
enum clip_state {
	CLIP_COMPLETE, /* nothing */
	CLIP_WATCHED,  /* the code; told of the first clip plane */
	CLIP_OWED,     /* clip planes are used, but the text of a shader was still coming then */
};

/* Part of a buffer: uniform, shader storage, atomic. */
struct bound_range {
	struct stream_resource *res;
	uint32_t offset, size;
};

struct bound_image {
	struct stream_resource *res;
	uint32_t raw[4]; /* format, access, layers, level */
};

struct bound_vertices {
	struct stream_resource *res;
	uint32_t stride, offset;
};

/* What is bound to one stage; a bit in a mask: that slot has a resource. */
struct stream_stage {
	struct stream_object *shader;
	uint32_t views_count;    /* as the library counts; slots from there on are empty */
	uint32_t samplers_count; /* of the last command, wherever it started */
	uint32_t uniforms, buffers, images;
	uint32_t constants_n, constants_room; /* dwords; room is charged */
	uint32_t *constants;
	struct stream_object *sampler[VIRGL_SAMPLERS];
	struct bound_range uniform[VIRGL_UNIFORM_BUFFERS];
	struct bound_range buffer[VIRGL_SHADER_BUFFERS];
	struct bound_image image[VIRGL_SHADER_IMAGES];
	struct stream_object *view[VIRGL_SAMPLER_VIEWS];
};

/* The library makes a transform feedback object for each list of targets and keeps it. */
struct streamout_list {
	struct streamout_list *next;
	uint32_t append; /* as last given; the library ignores it */
	uint32_t n;
	struct stream_object *target[16];
};

enum bindable { BOUND_BLEND, BOUND_RASTERIZER, BOUND_DSA, BOUND_VERTEX_ELEMENTS, BINDABLES };

/* What was drawn to and not yet marked as written. */
enum { DREW_FRAMEBUFFER = 1, DREW_OTHERS = 2 };

#define SINGLES_DWORDS 79 /* of all states that are one command each */

/* Its size is bounded, and their number: only what hangs on it is charged to the context. */
struct stream_sub_context {
	uint32_t id;
	uint32_t drew;
	enum clip_state clip;
	struct idmap objects; /* handle -> stream_object */
	/* Per stage the shader whose text is still coming; 0: none. It outlives its handle. */
	uint32_t long_shader[VIRGL_STAGES];
	struct stream_object *bound[BINDABLES];
	struct {
		bool set;
		uint32_t n;
		struct stream_object *depth, *colour[VIRGL_COLOUR_BUFFERS];
	} framebuffer;
	uint32_t vertices_n;
	struct bound_vertices vertices[VIRGL_VERTEX_BUFFERS];
	struct {
		bool set;
		struct stream_resource *res;
		uint32_t size, offset;
	} index;
	struct stream_stage stages[VIRGL_STAGES];
	uint32_t atomics;
	struct bound_range atomic[VIRGL_ATOMIC_BUFFERS];
	uint64_t singles_set; /* bit per opcode */
	uint32_t singles[SINGLES_DWORDS];
	uint32_t tweaks, tweak[32];
	/* half_z: set while a rasterizer of that kind was bound, which counts for the library. */
	uint32_t viewports, half_z, viewport[VIRGL_VIEWPORTS][6];
	uint32_t scissors, scissor[VIRGL_VIEWPORTS][2];
	struct streamout_list *streamouts, **streamouts_end, *streamout;
	uint32_t streamouts_n;
	struct {
		struct stream_object *query; /* NULL: off */
		uint32_t condition, mode;
	} render_condition;
};

#endif
