/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_STREAM_SAVE_H
#define VGPU_STREAM_SAVE_H

/*
 * A stream's state, saved as two virgl streams in a canonical order: A makes the sub-contexts and
 * all objects, B binds and sets everything. Resources have the renderer's ids in there. Loading is
 * giving both, buffer by buffer and in this order, to stream_check() of a fresh stream (whose
 * resolve() then looks ids up instead of the client's handles) and on to the renderer, minding
 * -ERESTART as always. The handles are then those of before, and saving again gives the same A and
 * B: for what is bound although its handle is gone, A uses handles that nobody has, and B takes
 * them away again.
 *
 * B begins the queries that were active and ends with what renders conditionally, so what is known
 * of the queries that have ended is best loaded between A and B, of the active ones after B.
 *
 * Not kept: LINK_SHADER (a hint), that a query was active which was destroyed so, and what a view
 * that is not bound any more set on its texture, and the number of samples by which the library
 * divided SET_MIN_SAMPLES (it is given again with the framebuffer of now). Nothing here is called
 * while commands are being checked.
 */

#include "stream/stream.h"

/* No buffer is longer: one command at most, or several that fit together. */
#define STREAM_SAVE_DWORDS 65536u

/* Both return 0, -ENOMEM, or what `emit` returned below 0. */
int stream_save_objects(struct stream *stream, stream_emit_fn emit, void *data);
int stream_save_bindings(struct stream *stream, stream_emit_fn emit, void *data);

/*
 * Whether a stream of the same limits can load it. Only one that has every object it may is in the
 * way: a few more are needed for a moment.
 */
bool stream_saveable(const struct stream *stream, char *why, size_t size);

/*
 * Queries made by stream_check() that have no id yet, also those that are gone; naming gives ids
 * to the first `n` in the order they were made. -EINVAL: there are not so many.
 */
unsigned stream_queries_unnamed(const struct stream *stream);
int stream_name_queries(struct stream *stream, const uint32_t *host_ids, unsigned n);

/* Every query there is, in the order in which A makes them; host_id 0: it was not named. 0,
 * -ENOMEM. */
typedef void (*stream_query_fn)(void *data, uint32_t sub_ctx, uint32_t handle, uint32_t type,
	bool active, uint32_t host_id);
int stream_each_query(struct stream *stream, stream_query_fn fn, void *data);

/*
 * For each list of stream-output targets that the library has an object for, in an order that is
 * the same after loading: emits what selects it, in one buffer, and calls visit(index). At the end
 * emits what selects what was selected before, also after an error. 0, -ENOMEM, or what `emit` or
 * `visit` returned below 0. What is emitted is for the renderer, not for stream_check().
 */
int stream_walk_streamout(struct stream *stream, stream_emit_fn emit, void *emit_data,
	int (*visit)(void *data, uint32_t index), void *data);

#endif
