/* SPDX-License-Identifier: Apache-2.0 */
#include "renderer/virgl/queries.h"

#include "base/checked.h"
#include "base/idmap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct query {
	uint32_t id;
	GLuint driver; /* its name in `context` */
	EGLContext context;
	GLenum target; /* 0: not begun here yet */
	GLuint index;
	enum renderer_query_state state;
	bool carried; /* `carry` counts */
	bool counted; /* the driver's has a part in the result */
	uint64_t carry;
	struct query *next_active;
};

/* A condition that we decided, in place of the driver. */
struct condition {
	EGLContext context;
	GLuint nothing; /* the query that counted nothing; 0: drawn without a condition */
	struct condition *next;
};

/* Process-wide, as the pointers it stands behind are. */
static struct {
	struct queries_gl gl;
	struct idmap all; /* struct query */
	uint32_t last_id, told_id;
	struct query *active;
	struct condition *conditions;
} queries;

const struct queries_gl *queries_driver(void)
{
	return &queries.gl;
}

/* ---- the driver's part ---- */

static void driver_begin(GLenum target, GLuint index, GLuint name)
{
	if (index)
		queries.gl.begin_indexed(target, index, name);
	else
		queries.gl.begin(target, name);
}

static void driver_end(GLenum target, GLuint index)
{
	if (index)
		queries.gl.end_indexed(target, index);
	else
		queries.gl.end(target);
}

/* The buffer bound for results; 0: none, or there is no such binding. */
static GLuint result_buffer(void)
{
	GLint buffer = 0;

	if (epoxy_is_desktop_gl() &&
		(epoxy_gl_version() >= 44 || epoxy_has_gl_extension("GL_ARB_query_buffer_object")))
		glGetIntegerv(GL_QUERY_BUFFER_BINDING, &buffer);
	return (GLuint)buffer;
}

/* Waits. A buffer bound for results would get it instead. */
static uint64_t driver_result(GLuint name)
{
	GLuint buffer = result_buffer();
	GLuint64 wide = 0;
	GLuint narrow = 0;

	if (buffer)
		glBindBuffer(GL_QUERY_BUFFER, 0);
	if (queries.gl.get_ui64v)
		queries.gl.get_ui64v(name, GL_QUERY_RESULT, &wide);
	else
		queries.gl.get_uiv(name, GL_QUERY_RESULT, &narrow);
	if (buffer)
		glBindBuffer(GL_QUERY_BUFFER, buffer);
	return wide + narrow;
}

static bool is_predicate(GLenum target)
{
	return target == GL_ANY_SAMPLES_PASSED || target == GL_ANY_SAMPLES_PASSED_CONSERVATIVE ||
	       target == GL_TRANSFORM_FEEDBACK_OVERFLOW_ARB ||
	       target == GL_TRANSFORM_FEEDBACK_STREAM_OVERFLOW_ARB;
}

static uint64_t with_carry(const struct query *q, uint64_t counted)
{
	return is_predicate(q->target) ? q->carry || counted : q->carry + counted;
}

/* The driver's query of an active one ends and its count goes into the carry. */
static void carry_on(struct query *q)
{
	driver_end(q->target, q->index);
	q->carry = with_carry(q, driver_result(q->driver));
	q->carried = true;
}

static struct query *active_query(GLenum target, GLuint index)
{
	EGLContext context = eglGetCurrentContext();

	for (struct query *q = queries.active; q; q = q->next_active) {
		if (q->target == target && q->index == index && q->context == context)
			return q;
	}
	return NULL;
}

static void not_active(const struct query *gone)
{
	for (struct query **q = &queries.active; *q; q = &(*q)->next_active) {
		if (*q == gone) {
			*q = gone->next_active;
			return;
		}
	}
}

/* ---- what the library calls ---- */

static void gen_queries(GLsizei n, GLuint *ret_names)
{
	for (GLsizei i = 0; i < n; i++) {
		struct query *q = calloc(1, sizeof(*q));

		ret_names[i] = 0;
		if (!q)
			continue;
		q->context = eglGetCurrentContext();
		do {
			q->id = ++queries.last_id;
		} while (!q->id || idmap_get(&queries.all, q->id));
		if (idmap_add(&queries.all, q->id, q) < 0) {
			free(q);
			continue;
		}
		queries.gl.gen(1, &q->driver);
		ret_names[i] = q->id;
	}
}

static void delete_queries(GLsizei n, const GLuint *names)
{
	for (GLsizei i = 0; i < n; i++) {
		struct query *q = idmap_remove(&queries.all, names[i]);
		if (!q)
			continue;
		not_active(q);
		/* In another context the name is another's. */
		if (q->context == eglGetCurrentContext())
			queries.gl.delete(1, &q->driver);
		free(q);
	}
}

static void begin_query_indexed(GLenum target, GLuint index, GLuint name)
{
	struct query *q = idmap_get(&queries.all, name);

	if (!q)
		return;
	not_active(q);
	q->target = target;
	q->index = index;
	q->state = RENDERER_QUERY_ACTIVE;
	q->carried = false;
	q->counted = true;
	q->carry = 0;
	q->next_active = queries.active;
	queries.active = q;
	driver_begin(target, index, q->driver);
}

static void begin_query(GLenum target, GLuint name)
{
	begin_query_indexed(target, 0, name);
}

static void end_query_indexed(GLenum target, GLuint index)
{
	struct query *q = active_query(target, index);

	driver_end(target, index);
	if (!q)
		return;
	not_active(q);
	q->state = RENDERER_QUERY_ENDED;
}

static void end_query(GLenum target)
{
	end_query_indexed(target, 0);
}

static void query_counter(GLuint name, GLenum target)
{
	struct query *q = idmap_get(&queries.all, name);

	if (!q)
		return;
	q->target = target;
	q->state = RENDERER_QUERY_ENDED;
	q->carried = false;
	q->counted = true;
	q->carry = 0;
	queries.gl.counter(q->driver, target);
}

/* ---- results ---- */

/* False: there is none yet, and nobody waits for it. */
static bool carried_result(const struct query *q, GLenum what, uint64_t *ret)
{
	GLuint available = 1;

	if (q->counted && what != GL_QUERY_RESULT) {
		GLuint buffer = result_buffer();
		if (buffer)
			glBindBuffer(GL_QUERY_BUFFER, 0);
		queries.gl.get_uiv(q->driver, GL_QUERY_RESULT_AVAILABLE, &available);
		if (buffer)
			glBindBuffer(GL_QUERY_BUFFER, buffer);
	}
	if (what == GL_QUERY_RESULT_AVAILABLE) {
		*ret = available;
		return true;
	}
	if (!available)
		return false;
	*ret = with_carry(q, q->counted ? driver_result(q->driver) : 0);
	return true;
}

/* Into memory, or into the buffer bound for results, where the address is an offset. */
static void give_result(void *where, const void *value, size_t size)
{
	if (result_buffer())
		glBufferSubData(GL_QUERY_BUFFER, (GLintptr)where, (GLsizeiptr)size, value);
	else
		memcpy(where, value, size);
}

/* One for each width: what does not fit is the largest that does. */
#define GET_QUERY_OBJECT(function, type, driver_function, largest)                                 \
	static void function(GLuint name, GLenum what, type *where)                                \
	{                                                                                          \
		const struct query *q = idmap_get(&queries.all, name);                             \
		uint64_t result;                                                                   \
		if (q && !q->carried) {                                                            \
			queries.gl.driver_function(q->driver, what, where);                        \
		} else if (q && carried_result(q, what, &result)) {                                \
			type value = (type)MIN(result, (uint64_t)(largest));                       \
			give_result(where, &value, sizeof(value));                                 \
		}                                                                                  \
	}

GET_QUERY_OBJECT(get_query_object_iv, GLint, get_iv, INT32_MAX)
GET_QUERY_OBJECT(get_query_object_uiv, GLuint, get_uiv, UINT32_MAX)
GET_QUERY_OBJECT(get_query_object_i64v, GLint64, get_i64v, INT64_MAX)
GET_QUERY_OBJECT(get_query_object_ui64v, GLuint64, get_ui64v, UINT64_MAX)

/* ---- conditions ---- */

static bool is_inverted(GLenum mode)
{
	return mode == GL_QUERY_WAIT_INVERTED || mode == GL_QUERY_NO_WAIT_INVERTED ||
	       mode == GL_QUERY_BY_REGION_WAIT_INVERTED ||
	       mode == GL_QUERY_BY_REGION_NO_WAIT_INVERTED;
}

/* The current context's, taken out; NULL: its conditions are the driver's. */
static struct condition *take_condition(void)
{
	EGLContext context = eglGetCurrentContext();

	for (struct condition **at = &queries.conditions; *at; at = &(*at)->next) {
		struct condition *c = *at;
		if (c->context == context) {
			*at = c->next;
			return c;
		}
	}
	return NULL;
}

/* A query that has counted nothing; the guest's own of that kind steps aside. */
static GLuint count_nothing(void)
{
	static const GLenum alike[] = {
		GL_SAMPLES_PASSED, GL_ANY_SAMPLES_PASSED, GL_ANY_SAMPLES_PASSED_CONSERVATIVE};
	GLuint name = 0;

	for (size_t i = 0; i < ARRAY_SIZE(alike); i++)
		queries_interrupt(alike[i], 0);
	queries.gl.gen(1, &name);
	queries.gl.begin(GL_ANY_SAMPLES_PASSED, name);
	queries.gl.end(GL_ANY_SAMPLES_PASSED);
	for (size_t i = 0; i < ARRAY_SIZE(alike); i++)
		queries_go_on(alike[i], 0);
	return name;
}

static void begin_conditional_render(GLuint name, GLenum mode)
{
	const struct query *q = idmap_get(&queries.all, name);

	free(take_condition());
	if (!q)
		return;
	/* What counts only from here on decides alone while nothing was carried. */
	if (!q->carried || (q->counted && !q->carry)) {
		queries.gl.begin_conditional(q->driver, mode);
		return;
	}
	struct condition *c = calloc(1, sizeof(*c));
	if (!c)
		return;
	c->context = eglGetCurrentContext();
	if ((q->carry != 0) == is_inverted(mode)) {
		c->nothing = count_nothing();
		queries.gl.begin_conditional(c->nothing, GL_QUERY_WAIT);
	}
	c->next = queries.conditions;
	queries.conditions = c;
}

static void end_conditional_render(void)
{
	struct condition *c = take_condition();

	if (!c || c->nothing)
		queries.gl.end_conditional();
	if (c && c->nothing)
		queries.gl.delete(1, &c->nothing);
	free(c);
}

/* ---- for streamout ---- */

bool queries_is_active(GLenum target, GLuint index)
{
	return queries.active && active_query(target, index);
}

void queries_interrupt(GLenum target, GLuint index)
{
	struct query *q = active_query(target, index);
	if (q)
		carry_on(q);
}

void queries_go_on(GLenum target, GLuint index)
{
	struct query *q = active_query(target, index);
	if (q)
		driver_begin(target, index, q->driver);
}

void queries_add(GLenum target, GLuint index, uint64_t count)
{
	struct query *q = active_query(target, index);
	if (q)
		q->carry = with_carry(q, count);
}

/* ---- state ---- */

unsigned queries_made(uint32_t *ret_ids, unsigned max)
{
	unsigned n = 0;

	/* Names rise, so order is that of their making; deleted ones are told too. */
	while (n < max && queries.told_id != queries.last_id)
		ret_ids[n++] = ++queries.told_id;
	return n;
}

static int make_its_context_current(const struct query *q)
{
	EGLDisplay display = eglGetCurrentDisplay();

	if (eglGetCurrentContext() == q->context)
		return 0;
	return eglMakeCurrent(display, EGL_NO_SURFACE, EGL_NO_SURFACE, q->context) ? 0 : -EIO;
}

int queries_save(uint32_t id, struct renderer_query *ret)
{
	struct query *q = idmap_get(&queries.all, id);
	struct renderer_query saved = {0};

	if (!q)
		return -ENOENT;
	saved.state = q->state;
	if (q->state == RENDERER_QUERY_ENDED && !q->counted) {
		saved.value = q->carry;
	} else if (q->state != RENDERER_QUERY_UNUSED) {
		int err = make_its_context_current(q);
		if (err)
			return err;
		if (q->state == RENDERER_QUERY_ACTIVE) {
			carry_on(q);
			driver_begin(q->target, q->index, q->driver);
			saved.value = q->carry;
		} else {
			saved.value = driver_result(q->driver);
			if (q->carried)
				saved.value = with_carry(q, saved.value);
		}
	}
	*ret = saved;
	return 0;
}

int queries_load(uint32_t id, const struct renderer_query *saved)
{
	struct query *q = idmap_get(&queries.all, id);

	if (!q)
		return -ENOENT;
	if (saved->state == RENDERER_QUERY_UNUSED)
		return 0;
	if (saved->state > RENDERER_QUERY_ENDED ||
		(saved->state == RENDERER_QUERY_ACTIVE) != (q->state == RENDERER_QUERY_ACTIVE))
		return -EINVAL;
	q->carry = saved->value;
	q->carried = true;
	q->counted = saved->state == RENDERER_QUERY_ACTIVE;
	q->state = saved->state;
	return 0;
}

/* ---- standing in between ---- */

static void *driver_function(const char *name, const char *other)
{
	void *function = (void *)eglGetProcAddress(name);
	return function ? function : (void *)eglGetProcAddress(other);
}

static void queries_find_driver(struct queries_gl *gl)
{
#define FIND(field, name, other) *(void **)&gl->field = driver_function(name, other)
	FIND(gen, "glGenQueries", "glGenQueriesARB");
	FIND(delete, "glDeleteQueries", "glDeleteQueriesARB");
	FIND(begin, "glBeginQuery", "glBeginQueryARB");
	FIND(end, "glEndQuery", "glEndQueryARB");
	FIND(begin_indexed, "glBeginQueryIndexed", "glBeginQueryIndexed");
	FIND(end_indexed, "glEndQueryIndexed", "glEndQueryIndexed");
	FIND(counter, "glQueryCounter", "glQueryCounterEXT");
	FIND(get_iv, "glGetQueryObjectiv", "glGetQueryObjectivEXT");
	FIND(get_uiv, "glGetQueryObjectuiv", "glGetQueryObjectuivARB");
	FIND(get_i64v, "glGetQueryObjecti64v", "glGetQueryObjecti64vEXT");
	FIND(get_ui64v, "glGetQueryObjectui64v", "glGetQueryObjectui64vEXT");
	FIND(begin_conditional, "glBeginConditionalRender", "glBeginConditionalRenderNV");
	FIND(end_conditional, "glEndConditionalRender", "glEndConditionalRenderNV");
#undef FIND
}

void queries_install(void)
{
	struct queries_gl *gl = &queries.gl;

	queries_find_driver(gl);
	/* All of them or none: the library's names are ours from here on. */
	if (!gl->gen || !gl->delete || !gl->begin || !gl->end || !gl->get_uiv)
		return;
	epoxy_glGenQueries = gen_queries;
	epoxy_glDeleteQueries = delete_queries;
	epoxy_glBeginQuery = begin_query;
	epoxy_glEndQuery = end_query;
	epoxy_glBeginQueryIndexed = begin_query_indexed;
	epoxy_glEndQueryIndexed = end_query_indexed;
	epoxy_glQueryCounter = query_counter;
	epoxy_glGetQueryObjectiv = get_query_object_iv;
	epoxy_glGetQueryObjectuiv = get_query_object_uiv;
	epoxy_glGetQueryObjecti64v = get_query_object_i64v;
	epoxy_glGetQueryObjectui64v = get_query_object_ui64v;
	epoxy_glBeginConditionalRender = begin_conditional_render;
	epoxy_glBeginConditionalRenderNV = begin_conditional_render;
	epoxy_glEndConditionalRender = end_conditional_render;
	epoxy_glEndConditionalRenderNV = end_conditional_render;
}

void queries_forget(void)
{
	uint32_t cursor = 0, id;

	while (idmap_next(&queries.all, &cursor, &id)) {
		free(idmap_remove(&queries.all, id));
		cursor = 0;
	}
	idmap_finish(&queries.all);
	while (queries.conditions) {
		struct condition *c = queries.conditions;
		queries.conditions = c->next;
		free(c);
	}
	queries.all = (struct idmap){0};
	queries.active = NULL;
	queries.told_id = queries.last_id;
}
