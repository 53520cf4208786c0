/* SPDX-License-Identifier: Apache-2.0 */
#include "renderer/virgl/streamout.h"

#include "renderer/virgl/queries.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/idmap.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUFFERS RENDERER_STREAMOUT_BUFFERS
#define STREAMS RENDERER_STREAMOUT_BUFFERS
#define RING    32u

struct capture_range {
	GLuint buffer; /* 0: nothing bound */
	GLintptr offset;
	GLsizeiptr size;
};

/* One query of ours, and what its count stands for. */
struct capture_count {
	GLuint query;
	uint8_t stream;
	bool generated; /* counts what was generated: written is what had room */
};

struct capture {
	uint32_t id;
	GLuint driver;
	EGLContext context;
	bool begun, counting;
	bool uncounted; /* something was captured that no query counted */
	struct capture_range ranges[BUFFERS];
	uint32_t strides[BUFFERS];
	uint8_t stream_of[BUFFERS];
	uint8_t streams;           /* one more than the highest in use */
	uint64_t room[STREAMS];    /* primitives, since it began here */
	uint64_t written[STREAMS]; /* primitives, of results read */
	unsigned vertices;         /* a primitive */
	struct renderer_streamout carry;
	GLuint full; /* our own buffer */

	/* Begun now, one a stream; then the ring of those that ended. */
	struct capture_count now[STREAMS];
	struct capture_count ring[RING];
	unsigned first, count;
};

struct capture_binding {
	EGLContext context;
	struct capture *capture;
	struct capture_binding *next;
};

static const GLenum written_target = GL_TRANSFORM_FEEDBACK_PRIMITIVES_WRITTEN;

/* Process-wide, as the pointers it stands behind are. */
static struct {
	struct {
		PFNGLGENTRANSFORMFEEDBACKSPROC gen;
		PFNGLDELETETRANSFORMFEEDBACKSPROC delete;
		PFNGLBINDTRANSFORMFEEDBACKPROC bind;
		PFNGLBEGINTRANSFORMFEEDBACKPROC begin;
		PFNGLENDTRANSFORMFEEDBACKPROC end;
		PFNGLPAUSETRANSFORMFEEDBACKPROC pause;
		PFNGLRESUMETRANSFORMFEEDBACKPROC resume;
		PFNGLBINDBUFFERRANGEPROC bind_range;
		PFNGLBINDBUFFERBASEPROC bind_base;
	} gl;
	struct idmap all; /* struct capture */
	uint32_t last_id;
	struct capture_binding *bindings;
	struct capture *last_bound;
	bool strides_known;
} streamout;

/* ---- which object is bound ---- */

static struct capture_binding **binding_here(void)
{
	EGLContext context = eglGetCurrentContext();
	struct capture_binding **at = &streamout.bindings;

	while (*at && (*at)->context != context)
		at = &(*at)->next;
	return at;
}

static struct capture *bound_here(void)
{
	struct capture_binding *b = *binding_here();
	return b ? b->capture : NULL;
}

static void unbind(struct capture_binding **at)
{
	struct capture_binding *b = *at;

	*at = b->next;
	free(b);
}

static void bind_here(struct capture *c)
{
	struct capture_binding **at = binding_here();

	streamout.last_bound = c;
	if (!c && *at) {
		unbind(at);
	} else if (c) {
		if (!*at)
			*at = calloc(1, sizeof(**at));
		if (!*at)
			return;
		(*at)->context = eglGetCurrentContext();
		(*at)->capture = c;
	}
}

/* ---- reading counts ---- */

static void add_written(struct capture *c, const struct capture_count *count, uint64_t primitives)
{
	uint64_t *written = &c->written[count->stream];

	/* In a full one of our own a small vertex fits. */
	uint64_t room = c->room[count->stream];
	if (count->generated || !room)
		primitives = room > *written ? MIN(primitives, room - *written) : 0;
	*written += primitives;
}

/* Waits. */
static uint64_t count_result(GLuint query)
{
	GLuint result = 0;
	queries_driver()->get_uiv(query, GL_QUERY_RESULT, &result);
	return result;
}

static void read_first(struct capture *c)
{
	struct capture_count *count = &c->ring[c->first];

	add_written(c, count, count_result(count->query));
	c->first = (c->first + 1) % RING;
	c->count--;
}

static void read_all(struct capture *c)
{
	while (c->count)
		read_first(c);
}

/* ---- counting ---- */

static void begin_query(GLenum target, unsigned stream, GLuint query)
{
	if (stream)
		queries_driver()->begin_indexed(target, stream, query);
	else
		queries_driver()->begin(target, query);
}

static void end_query(GLenum target, unsigned stream)
{
	if (stream)
		queries_driver()->end_indexed(target, stream);
	else
		queries_driver()->end(target);
}

static void start_stream(struct capture *c, unsigned stream)
{
	struct capture_count *now = &c->now[stream];
	bool written_taken = queries_is_active(written_target, stream);
	bool generated_taken = queries_is_active(GL_PRIMITIVES_GENERATED, stream);

	/* Streams end in this order, each after the one before it. */
	struct capture_count *place = &c->ring[(c->first + c->count + stream) % RING];
	if (!place->query)
		queries_driver()->gen(1, &place->query);
	*now = (struct capture_count){.query = place->query,
		.stream = (uint8_t)stream,
		.generated = written_taken && !generated_taken};
	if (written_taken && generated_taken)
		queries_interrupt(written_target, stream);
	begin_query(now->generated ? GL_PRIMITIVES_GENERATED : written_target, stream, now->query);
}

static void stop_stream(struct capture *c, unsigned stream)
{
	struct capture_count *now = &c->now[stream];

	end_query(now->generated ? GL_PRIMITIVES_GENERATED : written_target, stream);
	c->ring[(c->first + c->count) % RING] = *now;
	c->count++;
	/* The guest's own stepped aside, if it still is the active one. */
	if (!now->generated && queries_is_active(written_target, stream)) {
		queries_add(written_target, stream, count_result(now->query));
		queries_go_on(written_target, stream);
	}
}

static void start_counting(struct capture *c)
{
	if (!c || c->counting)
		return;
	c->uncounted |= !streamout.strides_known;
	if (c->uncounted)
		return;
	while (c->count + c->streams > RING)
		read_first(c);
	for (unsigned stream = 0; stream < c->streams; stream++)
		start_stream(c, stream);
	c->counting = true;
}

static void stop_counting(struct capture *c)
{
	if (!c || !c->counting)
		return;
	for (unsigned stream = 0; stream < c->streams; stream++)
		stop_stream(c, stream);
	c->counting = false;
}

/* ---- what a program captures ---- */

/* The program of the last vertex stage. */
static GLuint capturing_program(void)
{
	static const GLenum stages[] = {
		GL_GEOMETRY_SHADER, GL_TESS_EVALUATION_SHADER, GL_VERTEX_SHADER};
	GLint program = 0, pipeline = 0;

	glGetIntegerv(GL_CURRENT_PROGRAM, &program);
	if (program)
		return (GLuint)program;
	glGetIntegerv(GL_PROGRAM_PIPELINE_BINDING, &pipeline);
	for (size_t i = 0; pipeline && i < ARRAY_SIZE(stages) && !program; i++)
		glGetProgramPipelineiv((GLuint)pipeline, stages[i], &program);
	return (GLuint)program;
}

static void find_strides(struct capture *c, GLuint program)
{
	static const GLenum properties[] = {GL_BUFFER_BINDING, GL_TRANSFORM_FEEDBACK_BUFFER_STRIDE};
	GLint n = 0, values[2];

	glGetProgramInterfaceiv(program, GL_TRANSFORM_FEEDBACK_BUFFER, GL_ACTIVE_RESOURCES, &n);
	for (GLint i = 0; i < n; i++) {
		values[0] = values[1] = 0;
		glGetProgramResourceiv(program, GL_TRANSFORM_FEEDBACK_BUFFER, (GLuint)i, 2,
			properties, 2, NULL, values);
		if (values[0] >= 0 && (unsigned)values[0] < BUFFERS && values[1] > 0)
			c->strides[values[0]] = (uint32_t)values[1];
	}
}

/* The text of a program's geometry shader when it writes several streams, else NULL. */
static char *several_streams(GLuint program)
{
	GLuint shaders[8];
	GLsizei n = 0;

	glGetAttachedShaders(program, ARRAY_SIZE(shaders), &n, shaders);
	for (GLsizei i = 0; i < n; i++) {
		GLint type = 0, len = 0;
		glGetShaderiv(shaders[i], GL_SHADER_TYPE, &type);
		glGetShaderiv(shaders[i], GL_SHADER_SOURCE_LENGTH, &len);
		if (type != GL_GEOMETRY_SHADER || len <= 0)
			continue;
		char *text = calloc(1, (size_t)len + 1);
		if (text)
			glGetShaderSource(shaders[i], len, NULL, text);
		if (text && strstr(text, "EmitStreamVertex("))
			return text;
		free(text);
	}
	return NULL;
}

/* The stream that a variable is declared in: "layout (stream = 1) … name;", or without spaces. */
static unsigned stream_of(const char *text, const char *name)
{
	char end[160];
	static const char start[] = "layout (stream";

	snprintf(end, sizeof(end), " %s;\n", name);
	const char *line = strstr(text, end);
	if (!line)
		return 0;
	while (line > text && line[-1] != '\n')
		line--;
	if (strncmp(line, start, sizeof(start) - 1) != 0)
		return 0;
	line += sizeof(start) - 1;
	unsigned long stream = strtoul(line + strspn(line, " ="), NULL, 10);
	return stream < STREAMS ? (unsigned)stream : 0;
}

static bool uses_other_streams(const char *text)
{
	static const char emit[] = "EmitStreamVertex(";

	for (const char *at = text; (at = strstr(at, emit)); at += sizeof(emit) - 1) {
		if (at[sizeof(emit) - 1] != '0')
			return true;
	}
	return false;
}

static void find_streams(struct capture *c, GLuint program)
{
	static const GLenum property = GL_TRANSFORM_FEEDBACK_BUFFER_INDEX;
	cleanup_free char *text = several_streams(program);
	GLint n = 0;

	c->streams = 1;
	memset(c->stream_of, 0, sizeof(c->stream_of));
	if (!text)
		return;
	glGetProgramInterfaceiv(program, GL_TRANSFORM_FEEDBACK_VARYING, GL_ACTIVE_RESOURCES, &n);
	for (GLint i = 0; i < n; i++) {
		GLint buffer = -1;
		char name[128] = "";
		glGetProgramResourceiv(program, GL_TRANSFORM_FEEDBACK_VARYING, (GLuint)i, 1,
			&property, 1, NULL, &buffer);
		glGetProgramResourceName(program, GL_TRANSFORM_FEEDBACK_VARYING, (GLuint)i,
			sizeof(name), NULL, name);
		unsigned stream = stream_of(text, name);
		if (stream && buffer >= 0 && (unsigned)buffer < BUFFERS) {
			c->stream_of[buffer] = (uint8_t)stream;
			c->streams = (uint8_t)MAX(c->streams, stream + 1);
		}
	}
	/* Other streams than the first, but which variables go there was not understood. */
	c->uncounted |= c->streams == 1 && uses_other_streams(text);
}

static uint64_t range_bytes(const struct capture_range *range)
{
	GLint was = 0;
	GLint64 size = 0;

	if (!range->buffer || range->size)
		return (uint64_t)range->size;
	glGetIntegerv(GL_COPY_READ_BUFFER_BINDING, &was);
	glBindBuffer(GL_COPY_READ_BUFFER, range->buffer);
	glGetBufferParameteri64v(GL_COPY_READ_BUFFER, GL_BUFFER_SIZE, &size);
	glBindBuffer(GL_COPY_READ_BUFFER, (GLuint)was);
	return (uint64_t)MAX(size - range->offset, (GLint64)0);
}

/* Primitives of each stream for which every buffer of the stream has room. */
static void find_room(struct capture *c)
{
	for (unsigned stream = 0; stream < STREAMS; stream++)
		c->room[stream] = UINT64_MAX;
	for (unsigned i = 0; i < BUFFERS; i++) {
		if (!c->strides[i])
			continue;
		uint64_t bytes = c->ranges[i].buffer == c->full ? 0 : range_bytes(&c->ranges[i]);
		uint64_t room = bytes / c->strides[i] / c->vertices;
		c->room[c->stream_of[i]] = MIN(c->room[c->stream_of[i]], room);
	}
}

/* ---- what the library calls ---- */

static void gen_transform_feedbacks(GLsizei n, GLuint *ret_names)
{
	for (GLsizei i = 0; i < n; i++) {
		struct capture *c = calloc(1, sizeof(*c));

		ret_names[i] = 0;
		if (!c)
			continue;
		c->context = eglGetCurrentContext();
		c->streams = 1;
		do {
			c->id = ++streamout.last_id;
		} while (!c->id || idmap_get(&streamout.all, c->id));
		if (idmap_add(&streamout.all, c->id, c) < 0) {
			free(c);
			continue;
		}
		streamout.gl.gen(1, &c->driver);
		ret_names[i] = c->id;
	}
}

static void capture_forget(struct capture *c)
{
	struct capture_binding **at = &streamout.bindings;

	while (*at) {
		if ((*at)->capture == c)
			unbind(at);
		else
			at = &(*at)->next;
	}
	if (streamout.last_bound == c)
		streamout.last_bound = NULL;
	free(c);
}

static void delete_transform_feedbacks(GLsizei n, const GLuint *names)
{
	for (GLsizei i = 0; i < n; i++) {
		struct capture *c = idmap_remove(&streamout.all, names[i]);
		if (!c)
			continue;
		if (c->context == eglGetCurrentContext()) {
			for (unsigned q = 0; q < RING; q++) {
				if (c->ring[q].query)
					queries_driver()->delete (1, &c->ring[q].query);
			}
			streamout.gl.delete(1, &c->driver);
			if (c->full)
				glDeleteBuffers(1, &c->full);
		}
		capture_forget(c);
	}
}

static void bind_transform_feedback(GLenum target, GLuint name)
{
	struct capture *c = idmap_get(&streamout.all, name);

	streamout.gl.bind(target, c ? c->driver : 0);
	bind_here(c);
}

static void begin_transform_feedback(GLenum mode)
{
	struct capture *c = bound_here();

	if (c && streamout.strides_known) {
		GLuint program = capturing_program();
		/* What it captured before is overwritten from here on, unless it was loaded. */
		read_all(c);
		if (c->begun)
			memset(&c->carry, 0, sizeof(c->carry));
		memset(c->written, 0, sizeof(c->written));
		memset(c->strides, 0, sizeof(c->strides));
		c->vertices = mode == GL_TRIANGLES ? 3 : mode == GL_LINES ? 2 : 1;
		if (program) {
			find_strides(c, program);
			find_streams(c, program);
		}
		find_room(c);
	}
	streamout.gl.begin(mode);
	if (c)
		c->begun = true;
	start_counting(c);
}

static void end_transform_feedback(void)
{
	stop_counting(bound_here());
	streamout.gl.end();
}

static void pause_transform_feedback(void)
{
	stop_counting(bound_here());
	streamout.gl.pause();
}

static void resume_transform_feedback(void)
{
	streamout.gl.resume();
	start_counting(bound_here());
}

static void note_range(GLuint index, GLuint buffer, GLintptr offset, GLsizeiptr size)
{
	struct capture *c = bound_here();
	if (c && index < BUFFERS)
		c->ranges[index] = (struct capture_range){buffer, offset, size};
}

static void bind_buffer_range(
	GLenum target, GLuint index, GLuint buffer, GLintptr offset, GLsizeiptr size)
{
	streamout.gl.bind_range(target, index, buffer, offset, size);
	if (target == GL_TRANSFORM_FEEDBACK_BUFFER)
		note_range(index, buffer, offset, size);
}

static void bind_buffer_base(GLenum target, GLuint index, GLuint buffer)
{
	streamout.gl.bind_base(target, index, buffer);
	if (target == GL_TRANSFORM_FEEDBACK_BUFFER)
		note_range(index, buffer, 0, 0);
}

/* ---- state ---- */

static int make_its_context_current(const struct capture *c)
{
	EGLDisplay display = eglGetCurrentDisplay();

	if (eglGetCurrentContext() == c->context)
		return 0;
	return eglMakeCurrent(display, EGL_NO_SURFACE, EGL_NO_SURFACE, c->context) ? 0 : -EIO;
}

int streamout_save(struct renderer_streamout *ret)
{
	struct capture *c = streamout.last_bound;

	*ret = (struct renderer_streamout){0};
	if (!c)
		return 0;
	if (c->uncounted)
		return -ENOTSUP;
	*ret = c->carry;
	ret->begun |= c->begun;
	if (!c->begun)
		return 0;
	int err = make_its_context_current(c);
	if (err)
		return err;
	read_all(c);
	for (unsigned i = 0; i < BUFFERS; i++) {
		uint64_t vertices = c->written[c->stream_of[i]] * c->vertices;
		ret->bytes[i] += vertices * c->strides[i];
		ret->vertices[i] += c->written[i] * c->vertices;
	}
	return 0;
}

/* A range behind what it holds, or one of our own in place of a full one. */
static int advance(struct capture *c, unsigned index, uint64_t bytes)
{
	struct capture_range *range = &c->ranges[index];
	uint64_t size = range_bytes(range);

	if (!range->buffer || !bytes)
		return 0;
	if (bytes > size || bytes % 4)
		return -EINVAL;
	if (bytes < size) {
		*range = (struct capture_range){
			range->buffer, range->offset + (GLintptr)bytes, (GLsizeiptr)(size - bytes)};
	} else {
		if (!c->full) {
			glGenBuffers(1, &c->full);
			glBindBuffer(GL_TRANSFORM_FEEDBACK_BUFFER, c->full);
			glBufferData(GL_TRANSFORM_FEEDBACK_BUFFER, 4, NULL, GL_STREAM_COPY);
			glBindBuffer(GL_TRANSFORM_FEEDBACK_BUFFER, 0);
		}
		*range = (struct capture_range){c->full, 0, 4};
	}
	streamout.gl.bind_range(
		GL_TRANSFORM_FEEDBACK_BUFFER, index, range->buffer, range->offset, range->size);
	return 0;
}

int streamout_load(const struct renderer_streamout *saved)
{
	struct capture *c = streamout.last_bound;

	if (!saved->begun)
		return 0;
	if (!c)
		return -ENOENT;
	if (c->begun)
		return -EBUSY;
	int err = make_its_context_current(c);
	if (err)
		return err;
	streamout.gl.bind(GL_TRANSFORM_FEEDBACK, c->driver);
	for (unsigned i = 0; i < BUFFERS && !err; i++)
		err = advance(c, i, saved->bytes[i]);
	struct capture *now = bound_here();
	streamout.gl.bind(GL_TRANSFORM_FEEDBACK, now ? now->driver : 0);
	if (!err)
		c->carry = *saved;
	return err;
}

/* ---- standing in between ---- */

void streamout_install(void)
{
#define FIND(field, name) *(void **)&streamout.gl.field = (void *)eglGetProcAddress(name)
	FIND(gen, "glGenTransformFeedbacks");
	FIND(delete, "glDeleteTransformFeedbacks");
	FIND(bind, "glBindTransformFeedback");
	FIND(begin, "glBeginTransformFeedback");
	FIND(end, "glEndTransformFeedback");
	FIND(pause, "glPauseTransformFeedback");
	FIND(resume, "glResumeTransformFeedback");
	FIND(bind_range, "glBindBufferRange");
	FIND(bind_base, "glBindBufferBase");
#undef FIND
	if (!streamout.gl.gen || !streamout.gl.delete || !streamout.gl.bind ||
		!streamout.gl.begin || !streamout.gl.end || !streamout.gl.pause ||
		!streamout.gl.resume || !streamout.gl.bind_range || !streamout.gl.bind_base)
		return;
	streamout.strides_known =
		epoxy_is_desktop_gl() &&
		(epoxy_gl_version() >= 44 || epoxy_has_gl_extension("GL_ARB_enhanced_layouts"));
	epoxy_glGenTransformFeedbacks = gen_transform_feedbacks;
	epoxy_glDeleteTransformFeedbacks = delete_transform_feedbacks;
	epoxy_glBindTransformFeedback = bind_transform_feedback;
	epoxy_glBeginTransformFeedback = begin_transform_feedback;
	epoxy_glEndTransformFeedback = end_transform_feedback;
	epoxy_glPauseTransformFeedback = pause_transform_feedback;
	epoxy_glResumeTransformFeedback = resume_transform_feedback;
	epoxy_glBindBufferRange = bind_buffer_range;
	epoxy_glBindBufferBase = bind_buffer_base;
}

void streamout_forget(void)
{
	uint32_t cursor = 0, id;

	while (idmap_next(&streamout.all, &cursor, &id)) {
		capture_forget(idmap_remove(&streamout.all, id));
		cursor = 0;
	}
	idmap_finish(&streamout.all);
	streamout.all = (struct idmap){0};
}
