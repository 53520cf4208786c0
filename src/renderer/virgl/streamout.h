/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_RENDERER_VIRGL_STREAMOUT_H
#define VGPU_RENDERER_VIRGL_STREAMOUT_H

/*
 * Theory of operation
 *
 * GL does not tell how much a transform feedback object has captured, and after a cut a new one
 * must go on behind it. So this stands between the library and the driver, as virgl/queries does,
 * and counts: between begin or resume and pause or end a query of our own counts the primitives
 * written. The queries of an object form a ring; a result is read when its place is needed again or
 * somebody asks, so that drawing does not wait. What was written is then that many primitives, of
 * as many vertices as the mode says, of as many bytes as the program's strides say.
 *
 * A driver has one query of a kind active at a time. Where the guest has its own for primitives
 * written, ours counts those generated, of which as many were written as had room; where it has
 * both, the guest's is interrupted and given what ours counted in between (this one waits for the
 * driver).
 *
 * A loaded object captures into what is left of its buffers' ranges. One that is full gets a buffer
 * of our own into which a vertex hardly fits. Draws whose count comes from a capture are counted by
 * the guest (virgl sends the size of the target), so they need nothing here.
 *
 * Not counted: hosts without GL 4.4 or ARB_enhanced_layouts, where no strides can be asked for.
 */

#include "renderer/interface.h"

/* Takes the library's entry points, after queries_install(); a GL context is current. */
void streamout_install(void);
/* Forgets all objects; their contexts are gone. */
void streamout_forget(void);

/*
 * Of the object bound last, in whatever context: none is one that has not begun. They leave any GL
 * context current. -ENOTSUP: it captured what could not be counted.
 */
int streamout_save(struct renderer_streamout *ret);
int streamout_load(const struct renderer_streamout *saved);

#endif
