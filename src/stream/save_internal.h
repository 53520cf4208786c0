/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_STREAM_SAVE_INTERNAL_H
#define VGPU_STREAM_SAVE_INTERNAL_H

/* What the two halves of saving share. */

#include "base/cleanup.h"
#include "stream/internal.h"
#include "stream/save.h"

#include <stdlib.h>

/* Commands on their way out. An error is kept, and nothing is emitted after it. */
struct save_out {
	stream_emit_fn emit;
	void *data;
	int error;
	size_t n;
	uint32_t *dw;                              /* STREAM_SAVE_DWORDS */
	const struct stream_sub_context *selected; /* by save_select() */
};

int save_begin(struct save_out *out, stream_emit_fn emit, void *data); /* 0, -ENOMEM */
void save_flush(struct save_out *out);
int save_end(struct save_out *out); /* flushes; the first error */

/* A command's payload, `len` dwords to be written. */
uint32_t *save_put(struct save_out *out, uint32_t opcode, uint32_t type, uint32_t len);
void save_put1(struct save_out *out, uint32_t opcode, uint32_t type, uint32_t value);

/* SET_SUB_CTX, unless it is selected. */
void save_select(struct save_out *out, const struct stream_sub_context *sub);

/* In the order in which everything is saved. The caller frees the array. 0, -ENOMEM. */
int save_sort_sub_contexts(
	const struct stream *stream, struct stream_sub_context ***ret, uint32_t *ret_n);
int save_sort_objects(
	const struct stream_sub_context *sub, struct stream_object ***ret, uint32_t *ret_n);

/* Views, surfaces, shaders and the like are bound at so many places of a sub-context at most. */
#define SAVE_PLACES                                                                                \
	(BINDABLES + 1 + VIRGL_COLOUR_BUFFERS + VIRGL_STAGES * (1 + VIRGL_SAMPLER_VIEWS))

/* What is bound although its handle is gone; each has got a temporary handle. */
struct save_gone {
	uint32_t next; /* further handles nobody has, downwards */
	uint32_t n;
	struct stream_object *object[SAVE_PLACES];
};

void save_find_gone(const struct stream_sub_context *sub, struct save_gone *gone);
uint32_t save_unused_handle(const struct stream_sub_context *sub, struct save_gone *gone);

/* One half of what is saved, of all sub-contexts. 0, or why it cannot be: then nothing counts. */
typedef int (*save_part)(struct save_out *out, struct stream *stream,
	struct stream_sub_context *const *subs, uint32_t n, struct save_gone *gone);
int save_all(struct stream *stream, stream_emit_fn emit, void *data, save_part part);

static inline uint32_t save_handle(const struct stream_object *object)
{
	if (!object)
		return 0;
	return object->gone ? object->temporary : object->handle;
}

/* A stage's views from slot `start` on, the first one or none in its place. */
void save_put_views(struct save_out *out, const struct stream_stage *s, uint32_t stage,
	uint32_t start, bool without_first);
/* Makes the views bound last that were. 0, -ENOMEM. */
int save_views_again(struct save_out *out, struct stream_sub_context *const *subs, uint32_t n);

/* Viewports set while a rasterizer of the other kind of depth range was bound than now. */
uint32_t save_viewports_of_other_range(const struct stream_sub_context *sub);

#endif
