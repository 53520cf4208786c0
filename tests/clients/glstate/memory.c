/* SPDX-License-Identifier: Apache-2.0 */

/* Buffers that shaders read and write: uniform and storage blocks, images, counters; indirect. */

#include "glstate.h"

#define WORDS 256

static GLuint make_buffer(struct state *s, GLenum target, unsigned words)
{
	uint32_t values[WORDS * 4];
	GLuint buffer;

	for (unsigned i = 0; i < words; i++)
		values[i] = random_u32(&s->g);
	glGenBuffers(1, &buffer);
	glBindBuffer(target, buffer);
	glBufferData(target, (GLsizeiptr)words * 4, values, GL_DYNAMIC_DRAW);
	return buffer;
}

static void init_ubo(struct state *s)
{
	s->texture[0] = make_storage(GL_R32UI, 0);
	s->framebuffer[0] = make_framebuffer(s->texture[0], 0, 0, 0);
	s->buffer[0] = make_buffer(s, GL_UNIFORM_BUFFER, WORDS);
	s->buffer[1] = make_buffer(s, GL_UNIFORM_BUFFER, WORDS);
	s->program[0] = link_stages(&(struct stages){.vertex = VS_RECT,
		.fragment = "layout(std140, binding = 1) uniform A { uvec4 a[16]; };\n"
			    "layout(std140, binding = 3) uniform B { uvec4 b[16]; };\n"
			    "out uint result;\n"
			    "void main() {\n"
			    "	uvec2 at = uvec2(gl_FragCoord.xy);\n"
			    "	result = a[at.x & 15u][at.y & 3u] * 3u + b[at.y & 15u][at.x >> "
			    "4];\n"
			    "}\n"});
}

static void draw_ubo(struct state *s, unsigned frame)
{
	uint32_t words[8];

	start(s, s->framebuffer[0]);
	use(s->program[0]);
	for (unsigned i = 0; i < 8; i++)
		words[i] = random_u32(&s->g);
	glBindBuffer(GL_UNIFORM_BUFFER, s->buffer[frame % 2]);
	glBufferSubData(GL_UNIFORM_BUFFER, 32 * random_below(&s->g, WORDS / 8), 32, words);
	glBindBufferRange(GL_UNIFORM_BUFFER, 1, s->buffer[0], 256 * (GLintptr)(frame % 4), 256);
	glBindBufferRange(GL_UNIFORM_BUFFER, 3, s->buffer[1], 256 * (GLintptr)(frame / 2 % 4), 256);
	draw_all();
	hash_u32(s, s->framebuffer[0]);
}

static void init_ssbo(struct state *s)
{
	s->texture[0] = make_storage(GL_R32UI, 0);
	s->framebuffer[0] = make_framebuffer(s->texture[0], 0, 0, 0);
	s->buffer[0] = make_buffer(s, GL_SHADER_STORAGE_BUFFER, WORDS);
	s->buffer[1] = make_buffer(s, GL_SHADER_STORAGE_BUFFER, WORDS);
	s->program[0] = link_stages(&(struct stages){.vertex = VS_RECT,
		.fragment = "layout(std430, binding = 2) buffer A { uint a[256]; };\n"
			    "uniform int number;\n"
			    "out uint result;\n"
			    "void main() {\n"
			    "	uvec2 at = uvec2(gl_FragCoord.xy);\n"
			    "	uint i = (at.x * 5u + at.y * 11u) & 255u;\n"
			    "	atomicAdd(a[i], at.x * uint(number));\n"
			    "	result = i;\n"
			    "}\n"});
	s->program[1] = link_stages(&(struct stages){
		.compute = "layout(local_size_x = 32) in;\n"
			   "layout(std430, binding = 2) readonly buffer A { uint a[]; };\n"
			   "layout(std430, binding = 4) buffer B { uint b[]; };\n"
			   "uniform int number;\n"
			   "shared uint words[32];\n"
			   "void main() {\n"
			   "	uint i = gl_GlobalInvocationID.x;\n"
			   "	words[gl_LocalInvocationID.x] = a[i] ^ uint(number);\n"
			   "	barrier();\n"
			   "	b[i + 1u] = b[i + 1u] * 1664525u\n"
			   "		+ words[31u - gl_LocalInvocationID.x];\n"
			   "	atomicXor(b[0], i * 7u + uint(number));\n"
			   "}\n"});
}

static void draw_ssbo(struct state *s, unsigned frame)
{
	start(s, s->framebuffer[0]);
	glBindBufferBase(GL_SHADER_STORAGE_BUFFER, 2, s->buffer[0]);
	glBindBufferBase(GL_SHADER_STORAGE_BUFFER, 4, s->buffer[1]);
	use(s->program[0]);
	uniform_int("number", (int)frame + 3);
	draw_all();
	glMemoryBarrier(GL_ALL_BARRIER_BITS);
	use(s->program[1]);
	uniform_int("number", random_below(&s->g, 1 << 20));
	glDispatchCompute(1 + frame % 7, 1, 1);
	glMemoryBarrier(GL_ALL_BARRIER_BITS);
	hash_buffer(s, s->buffer[0], WORDS * 4);
	hash_buffer(s, s->buffer[1], WORDS * 4);
}

static void init_image(struct state *s)
{
	s->texture[0] = make_storage(GL_R32UI, 0);
	s->framebuffer[0] = make_framebuffer(s->texture[0], 0, 0, 0);
	s->texture[1] = make_storage(GL_RGBA8, 0);
	s->framebuffer[1] = make_framebuffer(s->texture[1], 0, 0, 0);
	s->buffer[0] = make_buffer(s, GL_ATOMIC_COUNTER_BUFFER, 16);
	s->program[0] = link_stages(&(struct stages){.vertex = VS_RECT,
		.fragment = "layout(r32ui, binding = 1) uniform uimage2D image;\n"
			    "layout(binding = 0, offset = 8) uniform atomic_uint counter;\n"
			    "uniform int number;\n"
			    "uniform vec4 color;\n"
			    "out vec4 result;\n"
			    "void main() {\n"
			    "	ivec2 at = (ivec2(gl_FragCoord.xy) * number + 7) & 63;\n"
			    "	imageAtomicAdd(image, at, uint(number) * 40503u);\n"
			    "	imageAtomicXor(image, at.yx ^ 1, 0u);\n"
			    "	atomicCounterIncrement(counter);\n"
			    "	result = color;\n"
			    "}\n"});
}

static void draw_image(struct state *s, unsigned frame)
{
	start(s, s->framebuffer[1]);
	use(s->program[0]);
	glBindImageTexture(1, s->texture[0], 0, GL_FALSE, 0, GL_READ_WRITE, GL_R32UI);
	glBindBufferBase(GL_ATOMIC_COUNTER_BUFFER, 0, s->buffer[0]);
	glEnable(GL_BLEND);
	for (int i = 0; i < 3; i++) {
		uniform_int("number", 1 + 2 * random_below(&s->g, 100));
		uniform_color("color", random_u32(&s->g) & 0x1111);
		draw_random_rect(s, 0);
	}
	glMemoryBarrier(GL_ALL_BARRIER_BITS);
	hash_u32(s, s->framebuffer[0]);
	hash_rgba8(s, s->framebuffer[1]);
	hash_buffer(s, s->buffer[0], 64);
}

/* A compute shader writes what the next indirect dispatch and draws take as their sizes. */
static void init_indirect(struct state *s)
{
	static const uint32_t first[16] = {1, 1, 1, 0, 3, 1, 0, 0, 6, 1, 0, 0, 0};
	uint16_t indices[64];

	for (unsigned i = 0; i < 64; i++)
		indices[i] = i % 8 == 7 ? 0xffff : (uint16_t)random_below(&s->g, 200);
	s->texture[0] = make_storage(GL_RGBA8, 0);
	s->framebuffer[0] = make_framebuffer(s->texture[0], 0, 0, 0);
	glGenBuffers(3, s->buffer);
	glBindBuffer(GL_DRAW_INDIRECT_BUFFER, s->buffer[0]);
	glBufferData(GL_DRAW_INDIRECT_BUFFER, sizeof(first), first, GL_DYNAMIC_DRAW);
	glGenVertexArrays(1, s->array);
	glBindVertexArray(s->array[0]);
	glBindBuffer(GL_ELEMENT_ARRAY_BUFFER, s->buffer[1]);
	glBufferData(GL_ELEMENT_ARRAY_BUFFER, sizeof(indices), indices, GL_STATIC_DRAW);
	s->program[0] = link_stages(&(struct stages){
		.compute = "layout(local_size_x = 1) in;\n"
			   "layout(std430, binding = 0) buffer A { uint a[16]; };\n"
			   "uniform int number;\n"
			   "void main() {\n"
			   "	a[15] = a[15] * 22695477u + uint(number);\n"
			   "	a[0] = 1u + (a[15] >> 20) % 3u;\n"
			   "	a[4] = 3u + (a[15] >> 16) % 9u;\n"
			   "	a[5] = 1u + (a[15] >> 24) % 4u;\n"
			   "	a[8] = 12u + (a[15] >> 12) % 30u;\n"
			   "	a[9] = 1u + (a[15] >> 8) % 3u;\n"
			   "	a[11] = (a[15] >> 4) % 50u;\n"
			   "}\n"});
	s->program[1] = link_stages(&(struct stages){
		.vertex = "void main() {\n"
			  "	int v = (gl_VertexID + gl_InstanceID * 100) * 7919;\n"
			  "	gl_Position = vec4(vec2(v % 31, v % 29) / 15.0 - 1.0, 0.0, 1.0);\n"
			  "}\n",
		.fragment = FS_FLAT});
}

static void draw_indirect(struct state *s, unsigned frame)
{
	start(s, s->framebuffer[0]);
	use(s->program[0]);
	uniform_int("number", (int)frame);
	glBindBufferBase(GL_SHADER_STORAGE_BUFFER, 0, s->buffer[0]);
	glBindBuffer(GL_DISPATCH_INDIRECT_BUFFER, s->buffer[0]);
	glDispatchCompute(1, 1, 1);
	glMemoryBarrier(GL_ALL_BARRIER_BITS);
	use(s->program[1]);
	glEnable(GL_BLEND);
	glBlendFunc(GL_SRC_ALPHA, GL_ONE_MINUS_SRC_ALPHA);
	glEnable(GL_PRIMITIVE_RESTART);
	glPrimitiveRestartIndex(0xffff);
	glBindBuffer(GL_DRAW_INDIRECT_BUFFER, s->buffer[0]);
	uniform_color("color", random_u32(&s->g));
	glDrawArraysIndirect(GL_TRIANGLES, (const void *)16);
	uniform_color("color", random_u32(&s->g));
	glDrawElementsIndirect(GL_TRIANGLE_STRIP, GL_UNSIGNED_SHORT, (const void *)32);
	hash_rgba8(s, s->framebuffer[0]);
	hash_buffer(s, s->buffer[0], 64);
}

const struct series memory_series[] = {
	{"ubo", false, init_ubo, draw_ubo},
	{"ssbo", false, init_ssbo, draw_ssbo},
	{"image", false, init_image, draw_image},
	{"indirect", false, init_indirect, draw_indirect},
};
const unsigned memory_series_count = sizeof(memory_series) / sizeof(memory_series[0]);
