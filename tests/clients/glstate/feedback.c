/* SPDX-License-Identifier: Apache-2.0 */

/* Tessellation, geometry shaders and transform feedback. */

#include "glstate.h"

#define VERTICES 64
#define ROOM     4096 /* vertices of 16 bytes in a buffer that is appended to */

static void init_tess(struct state *s)
{
	s->texture[0] = make_storage(GL_RGBA8, 0);
	s->framebuffer[0] = make_framebuffer(s->texture[0], 0, 0, 0);
	s->program[0] = link_stages(&(struct stages){
		.vertex = "uniform int seed;\n"
			  "void main() {\n"
			  "	int v = (gl_VertexID + seed) * 7919;\n"
			  "	gl_Position = vec4(vec2(v % 31, v % 29) / 15.0 - 1.0, 0.0, 1.0);\n"
			  "}\n",
		.control = "layout(vertices = 4) out;\n"
			   "uniform int level;\n"
			   "void main() {\n"
			   "	gl_out[gl_InvocationID].gl_Position =\n"
			   "		gl_in[gl_InvocationID].gl_Position;\n"
			   "	gl_TessLevelInner[0] = gl_TessLevelInner[1] = float(level);\n"
			   "	gl_TessLevelOuter[0] = gl_TessLevelOuter[1] = float(level);\n"
			   "	gl_TessLevelOuter[2] = gl_TessLevelOuter[3] = float(level + 1);\n"
			   "}\n",
		.evaluation = "layout(quads, equal_spacing) in;\n"
			      "void main() {\n"
			      "	gl_Position = mix(mix(gl_in[0].gl_Position, gl_in[1].gl_Position,\n"
			      "		gl_TessCoord.x), mix(gl_in[2].gl_Position,\n"
			      "		gl_in[3].gl_Position, gl_TessCoord.x), gl_TessCoord.y);\n"
			      "}\n",
		.geometry = "layout(triangles) in;\n"
			    "layout(triangle_strip, max_vertices = 6) out;\n"
			    "flat out vec4 shade;\n"
			    "void main() {\n"
			    "	for (int copy = 0; copy < 2; copy++) {\n"
			    "		for (int i = 0; i < 3; i++) {\n"
			    "			shade = vec4(ivec4(gl_PrimitiveIDIn * 5 + copy) &\n"
			    "				ivec4(15, 7, 3, 7)) / 16.0;\n"
			    "			gl_Position = gl_in[i].gl_Position\n"
			    "				* vec4(copy == 0 ? 1.0 : -0.5, 1.0, 1.0, "
			    "1.0);\n"
			    "			EmitVertex();\n"
			    "		}\n"
			    "		EndPrimitive();\n"
			    "	}\n"
			    "}\n",
		.fragment = "flat in vec4 shade;\n"
			    "out vec4 result;\n"
			    "void main() { result = shade; }\n"});
}

static void draw_tess(struct state *s, unsigned frame)
{
	start(s, s->framebuffer[0]);
	use(s->program[0]);
	/* Said once: it must still be known in later frames. */
	if (!frame)
		glPatchParameteri(GL_PATCH_VERTICES, 4);
	uniform_int("seed", random_below(&s->g, 1000));
	uniform_int("level", 1 + (int)(frame % 6));
	glEnable(GL_BLEND);
	glBlendFunc(GL_ONE, GL_ONE_MINUS_SRC_ALPHA);
	glDrawArrays(GL_PATCHES, 0, 8);
	hash_rgba8(s, s->framebuffer[0]);
}

/* array 1 + i reads buffer i; array 0 has no attributes */
static void make_source(struct state *s, unsigned i, unsigned vertices)
{
	uint32_t values[VERTICES * 4];
	GLsizeiptr size = (GLsizeiptr)vertices * 16;

	for (unsigned k = 0; k < VERTICES * 4; k++)
		values[k] = random_u32(&s->g);
	glGenBuffers(1, &s->buffer[i]);
	glGenVertexArrays(1, &s->array[1 + i]);
	glBindVertexArray(s->array[1 + i]);
	glBindBuffer(GL_ARRAY_BUFFER, s->buffer[i]);
	glBufferData(GL_ARRAY_BUFFER, size, NULL, GL_DYNAMIC_COPY);
	for (GLintptr at = 0; at < size; at += (GLintptr)sizeof(values))
		glBufferSubData(GL_ARRAY_BUFFER, at, sizeof(values), values);
	glEnableVertexAttribArray(0);
	glVertexAttribIPointer(0, 4, GL_UNSIGNED_INT, 16, NULL);
}

static void make_mixer(struct state *s)
{
	s->program[0] = link_stages(&(struct stages){
		.vertex = "layout(location = 0) in uvec4 value;\n"
			  "flat out uvec4 mixed;\n"
			  "uniform int number;\n"
			  "void main() {\n"
			  "	mixed = value.yzwx * 1664525u + (value >> 7) + uint(number);\n"
			  "	gl_Position = vec4(vec2(mixed.xy >> 24) / 128.0 - 1.0, 0.0, 1.0);\n"
			  "}\n",
		.fragment = "flat in uvec4 mixed;\n"
			    "out vec4 result;\n"
			    "void main() { result = vec4(mixed >> 28) / 64.0; }\n",
		.captured = {"mixed"}});
	glGenTransformFeedbacks(4, s->feedback);
	s->texture[0] = make_storage(GL_RGBA8, 0);
	s->framebuffer[0] = make_framebuffer(s->texture[0], 0, 0, 0);
}

static void init_pingpong(struct state *s)
{
	make_mixer(s);
	make_source(s, 0, VERTICES);
	make_source(s, 1, VERTICES);
}

static void draw_pingpong(struct state *s, unsigned frame)
{
	unsigned from = frame % 2;

	start(s, s->framebuffer[0]);
	use(s->program[0]);
	uniform_int("number", (int)frame);
	glEnable(GL_RASTERIZER_DISCARD);
	glBindTransformFeedback(GL_TRANSFORM_FEEDBACK, s->feedback[from]);
	glBindBufferBase(GL_TRANSFORM_FEEDBACK_BUFFER, 0, s->buffer[!from]);
	glBindVertexArray(s->array[1 + from]);
	glBeginTransformFeedback(GL_POINTS);
	glDrawArrays(GL_POINTS, 0, VERTICES);
	glEndTransformFeedback();
	glBindTransformFeedback(GL_TRANSFORM_FEEDBACK, 0);
	hash_buffer(s, s->buffer[!from], VERTICES * 16);
}

/* Capturing begins in a frame, is paused and resumed in the next ones, and ends in a later one. */
static void init_paused(struct state *s)
{
	make_mixer(s);
	make_source(s, 0, VERTICES);
	make_source(s, 1, ROOM);
}

static void draw_paused(struct state *s, unsigned frame)
{
	unsigned phase = frame % 12;

	start(s, s->framebuffer[0]);
	glEnable(GL_RASTERIZER_DISCARD);
	glBindTransformFeedback(GL_TRANSFORM_FEEDBACK, s->feedback[0]);
	use(s->program[0]);
	uniform_int("number", (int)frame);
	glBindVertexArray(s->array[1]);
	if (phase == 0) {
		glBindBufferRange(GL_TRANSFORM_FEEDBACK_BUFFER, 0, s->buffer[1],
			16 * (GLintptr)(frame % 5), 16 * 600);
		glBeginTransformFeedback(GL_POINTS);
	} else {
		glResumeTransformFeedback();
	}
	/* In the end more than there is room for. */
	glDrawArrays(GL_POINTS, random_below(&s->g, 8), 20 + random_below(&s->g, 36));
	if (phase % 3 == 1)
		glDrawArrays(GL_POINTS, 0, 8);
	if (phase == 11)
		glEndTransformFeedback();
	else
		glPauseTransformFeedback();
	/* Drawn while it is paused, from what was captured before. */
	if (phase != 11) {
		glDisable(GL_RASTERIZER_DISCARD);
		glEnable(GL_BLEND);
		glDrawArrays(GL_POINTS, 0, 16);
	}
	glBindTransformFeedback(GL_TRANSFORM_FEEDBACK, 0);
	hash_rgba8(s, s->framebuffer[0]);
	if (phase == 11)
		hash_buffer(s, s->buffer[1], ROOM * 16);
}

/* Draws as many vertices as were captured three frames ago; the number is nowhere but there. */
static void init_drawn(struct state *s)
{
	make_mixer(s);
	make_source(s, 0, VERTICES);
	make_source(s, 1, VERTICES);
	glGenBuffers(4, &s->buffer[4]);
	for (unsigned i = 4; i < 8; i++) {
		glBindBuffer(GL_ARRAY_BUFFER, s->buffer[i]);
		glBufferData(GL_ARRAY_BUFFER, VERTICES * 16, NULL, GL_DYNAMIC_COPY);
	}
	s->program[1] = link_stages(&(struct stages){
		.vertex = "layout(location = 0) in uvec4 value;\n"
			  "void main() {\n"
			  "	gl_Position = vec4(vec2(value.xy >> 24) / 128.0 - 1.0, 0.0, 1.0);\n"
			  "}\n",
		.fragment = FS_FLAT});
}

static void draw_drawn(struct state *s, unsigned frame)
{
	unsigned into = frame % 4, from = (frame + 1) % 4;

	start(s, s->framebuffer[0]);
	use(s->program[0]);
	uniform_int("number", (int)frame);
	glEnable(GL_RASTERIZER_DISCARD);
	glBindTransformFeedback(GL_TRANSFORM_FEEDBACK, s->feedback[into]);
	glBindBufferBase(GL_TRANSFORM_FEEDBACK_BUFFER, 0, s->buffer[4 + into]);
	glBindVertexArray(s->array[1]);
	glBeginTransformFeedback(GL_POINTS);
	glDrawArrays(GL_POINTS, 0, 5 + random_below(&s->g, 50));
	glEndTransformFeedback();
	glBindTransformFeedback(GL_TRANSFORM_FEEDBACK, 0);
	glDisable(GL_RASTERIZER_DISCARD);
	if (frame >= 3) {
		use(s->program[1]);
		glEnable(GL_BLEND);
		uniform_color("color", random_u32(&s->g) & 0x3333);
		glBindVertexArray(s->array[2]);
		glBindBuffer(GL_ARRAY_BUFFER, s->buffer[4 + from]);
		glVertexAttribIPointer(0, 4, GL_UNSIGNED_INT, 16, NULL);
		glDrawTransformFeedback(GL_POINTS, s->feedback[from]);
	}
	hash_rgba8(s, s->framebuffer[0]);
	hash_buffer(s, s->buffer[4 + from], VERTICES * 16);
}

const struct series feedback_series[] = {
	{"tess", false, init_tess, draw_tess},
	{"xfb", false, init_pingpong, draw_pingpong},
	{"xfb-paused", false, init_paused, draw_paused},
	{"xfb-drawn", false, init_drawn, draw_drawn},
};
const unsigned feedback_series_count = sizeof(feedback_series) / sizeof(feedback_series[0]);
