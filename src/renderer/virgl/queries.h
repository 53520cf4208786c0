/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_RENDERER_VIRGL_QUERIES_H
#define VGPU_RENDERER_VIRGL_QUERIES_H

/*
 * Theory of operation
 *
 * GL does not tell how far a query is that still counts, and lets nobody set one. So this stands
 * between the library and the driver: what the library takes for a query object is a carry and a
 * driver's query, and its result is both together: counts are added, predicates or'ed. To save an
 * active one, the driver's is ended, read, added to the carry, and begun again; to load one is to
 * set its carry. A carry that decides conditional rendering decides it as the saved query would
 * have: drawn without a condition, or under a query that is known to have counted nothing.
 *
 * Timestamps are carried as they are and times elapsed are added: the first of another machine's
 * clock, the second without the time in between. Both are inexact by nature.
 *
 * Queries without a carry pass straight through. The names given to the library are our own, and
 * unique over the process, while drivers give each GL context its own.
 *
 * The library calls GL through libepoxy's function pointers, and those are the process': so is
 * this. Everything here is called by the thread that owns the library.
 */

#include "renderer/interface.h"

#include <epoxy/egl.h>
#include <epoxy/gl.h>

/* The driver's own entry points, for whoever stands where the library's were replaced. */
struct queries_gl {
	PFNGLGENQUERIESPROC gen;
	PFNGLDELETEQUERIESPROC delete;
	PFNGLBEGINQUERYPROC begin;
	PFNGLENDQUERYPROC end;
	PFNGLBEGINQUERYINDEXEDPROC begin_indexed; /* NULL: only index 0 */
	PFNGLENDQUERYINDEXEDPROC end_indexed;
	PFNGLQUERYCOUNTERPROC counter;
	PFNGLGETQUERYOBJECTIVPROC get_iv;
	PFNGLGETQUERYOBJECTUIVPROC get_uiv;
	PFNGLGETQUERYOBJECTI64VPROC get_i64v;
	PFNGLGETQUERYOBJECTUI64VPROC get_ui64v;
	PFNGLBEGINCONDITIONALRENDERPROC begin_conditional;
	PFNGLENDCONDITIONALRENDERPROC end_conditional;
};

/* Takes the library's entry points; a GL context is current. Again is no harm. */
void queries_install(void);
/* Forgets all queries; their contexts are gone. */
void queries_forget(void);

const struct queries_gl *queries_driver(void);

/* As in struct renderer_ops. These leave any GL context current. */
unsigned queries_made(uint32_t *ret_ids, unsigned max);
int queries_save(uint32_t id, struct renderer_query *ret);
int queries_load(uint32_t id, const struct renderer_query *saved);

/* Is a query of that target and index active in the current context? */
bool queries_is_active(GLenum target, GLuint index);

/*
 * Ends it in the driver for a while, so that another query can take its place; what it counted so
 * far is read, which waits for the driver. To be begun again by queries_go_on().
 */
void queries_interrupt(GLenum target, GLuint index);
void queries_go_on(GLenum target, GLuint index);
/* Adds to its result what was counted for it meanwhile. */
void queries_add(GLenum target, GLuint index, uint64_t count);

#endif
