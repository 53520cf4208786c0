/* SPDX-License-Identifier: Apache-2.0 */

/* Queries that are open over frames, asked late, and decide whether later frames draw. */

#include "glstate.h"

static void hash_query(struct state *s, GLuint query)
{
	GLuint64 value = 0xa5a5;

	glGetQueryObjectui64v(query, GL_QUERY_RESULT, &value);
	hash_bytes(&s->g, &value, sizeof(value));
}

static void init_target(struct state *s)
{
	s->texture[0] = make_storage(GL_RGBA8, 0);
	s->framebuffer[0] = make_framebuffer(s->texture[0], 0, 0, 0);
	s->program[0] = link_stages(&(struct stages){.vertex = VS_RECT, .fragment = FS_FLAT});
	glGenQueries(8, s->query);
}

/*
 * Counts over four frames; asked four frames after it ended. What the other series of this context
 * draw in the meantime counts too.
 */
static void draw_open(struct state *s, unsigned frame)
{
	unsigned slot = frame / 4 % 8;

	start(s, s->framebuffer[0]);
	use(s->program[0]);
	uniform_color("color", random_u32(&s->g));
	if (frame % 4 == 0)
		glBeginQuery(GL_SAMPLES_PASSED, s->query[slot]);
	draw_random_rect(s, 0);
	if (frame % 4 == 3)
		glEndQuery(GL_SAMPLES_PASSED);
	draw_random_rect(s, 0);
	if (frame % 4 == 3 && frame >= 7)
		hash_query(s, s->query[(slot + 7) % 8]);
	hash_rgba8(s, s->framebuffer[0]);
}

/* Whether anything passed decides about drawing in the next three frames. */
static void draw_condition(struct state *s, unsigned frame)
{
	unsigned slot = frame % 8;
	bool passes = random_below(&s->g, 2);

	start(s, s->framebuffer[0]);
	use(s->program[0]);
	uniform_color("color", random_u32(&s->g));
	glEnable(GL_BLEND);
	glBeginQuery(GL_ANY_SAMPLES_PASSED, s->query[slot]);
	if (passes)
		draw_random_rect(s, 0);
	glEndQuery(GL_ANY_SAMPLES_PASSED);
	for (unsigned ago = 1; ago < 4 && ago <= frame; ago++) {
		glBeginConditionalRender(s->query[(slot + 8 - ago) % 8], GL_QUERY_WAIT);
		uniform_color("color", random_u32(&s->g) & 0x3333);
		draw_random_rect(s, 0);
		glEndConditionalRender();
	}
	hash_rgba8(s, s->framebuffer[0]);
}

static void init_primitives(struct state *s)
{
	init_target(s);
	s->program[0] = link_stages(
		&(struct stages){.vertex = "flat out uint number;\n"
					   "void main() {\n"
					   "	number = uint(gl_VertexID);\n"
					   "	gl_Position = vec4(0.0, 0.0, 0.0, 1.0);\n"
					   "}\n",
			.fragment = FS_FLAT,
			.captured = {"number"}});
	glGenBuffers(1, s->buffer);
	glBindBuffer(GL_TRANSFORM_FEEDBACK_BUFFER, s->buffer[0]);
	glBufferData(GL_TRANSFORM_FEEDBACK_BUFFER, 240, NULL, GL_DYNAMIC_COPY);
	glGenTransformFeedbacks(1, s->feedback);
}

/* Two queries open over three frames; the buffer has less room than is generated. */
static void draw_primitives(struct state *s, unsigned frame)
{
	unsigned slot = frame / 3 % 4;

	start(s, s->framebuffer[0]);
	use(s->program[0]);
	if (frame % 3 == 0) {
		glBeginQuery(GL_PRIMITIVES_GENERATED, s->query[slot]);
		glBeginQuery(GL_TRANSFORM_FEEDBACK_PRIMITIVES_WRITTEN, s->query[4 + slot]);
	}
	glEnable(GL_RASTERIZER_DISCARD);
	glBindTransformFeedback(GL_TRANSFORM_FEEDBACK, s->feedback[0]);
	glBindBufferBase(GL_TRANSFORM_FEEDBACK_BUFFER, 0, s->buffer[0]);
	glBeginTransformFeedback(GL_POINTS);
	glDrawArrays(GL_POINTS, 0, 20 + random_below(&s->g, 100));
	glEndTransformFeedback();
	glBindTransformFeedback(GL_TRANSFORM_FEEDBACK, 0);
	if (frame % 3 == 2) {
		glEndQuery(GL_PRIMITIVES_GENERATED);
		glEndQuery(GL_TRANSFORM_FEEDBACK_PRIMITIVES_WRITTEN);
	}
	if (frame % 3 == 2 && frame >= 5) {
		hash_query(s, s->query[(slot + 3) % 4]);
		hash_query(s, s->query[4 + (slot + 3) % 4]);
	}
	hash_buffer(s, s->buffer[0], 240);
}

const struct series query_series[] = {
	{"query-open", false, init_target, draw_open},
	{"query-condition", false, init_target, draw_condition},
	{"query-primitives", false, init_primitives, draw_primitives},
};
const unsigned query_series_count = sizeof(query_series) / sizeof(query_series[0]);
