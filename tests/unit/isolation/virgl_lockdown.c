/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The real library through the real stages: libvirglrenderer is initialised between stages 2 and 3,
 * and everything a guest makes it do (contexts, resources, shaders, drawing, transfers) happens
 * after stage 4. Prints TAP, and the milliseconds each step took as comments. Skipped where the
 * machine refuses namespaces or has no EGL.
 */

#include "isolation/isolation.h"

#include "base/checked.h"
#include "base/clock.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <virglrenderer.h>

#define SIDE     64u
#define CONTEXTS 5u

enum { FORMAT_BGRA8 = 1, FORMAT_RGBA32F = 31, FORMAT_R8 = 64 };
enum { TARGET_BUFFER = 0, TARGET_2D = 2 };
enum { CLEAR_COLOR0 = 4, TRIANGLES = 4 };
enum {
	OBJECT_BLEND = 1,
	OBJECT_RASTERIZER,
	OBJECT_DSA,
	OBJECT_SHADER,
	OBJECT_VERTEX_ELEMENTS,
	OBJECT_SURFACE = 8
};
enum {
	CMD_NOP,
	CMD_CREATE,
	CMD_BIND,
	CMD_VIEWPORT = 4,
	CMD_FRAMEBUFFER,
	CMD_VERTEX_BUFFERS,
	CMD_CLEAR,
	CMD_DRAW,
	CMD_BIND_SHADER = 31
};

struct box {
	uint32_t x, y, z, w, h, d;
};

struct stream {
	uint32_t words[1024];
	unsigned count;
};

static double milliseconds(uint64_t since)
{
	return (double)(clock_ns() - since) / 1e6;
}

static void command(
	struct stream *s, uint32_t name, uint32_t object, unsigned n, const uint32_t *words)
{
	s->words[s->count++] = name | object << 8 | n << 16;
	if (n)
		memcpy(s->words + s->count, words, n * sizeof(*words));
	s->count += n;
}

#define COMMAND(s, name, object, ...)                                                              \
	command((s), (name), (object), ARRAY_SIZE(((const uint32_t[]){__VA_ARGS__})),              \
		(const uint32_t[]){__VA_ARGS__})

static uint32_t float_bits(float f)
{
	uint32_t bits;
	memcpy(&bits, &f, sizeof(bits));
	return bits;
}

static void shader(struct stream *s, uint32_t handle, uint32_t type, const char *text)
{
	uint32_t words[128] = {handle, type, (uint32_t)strlen(text) + 1, 300, 0};
	unsigned n = 5 + (unsigned)(strlen(text) + 4) / 4;

	memcpy(words + 5, text, strlen(text));
	command(s, CMD_CREATE, OBJECT_SHADER, n, words);
	COMMAND(s, CMD_BIND_SHADER, 0, handle, type);
}

/* Clears the target to green, then draws a red triangle that covers all of it. */
static void scene(struct stream *s, uint32_t target, uint32_t vertices)
{
	const uint32_t one = float_bits(1), half = float_bits((float)SIDE / 2);

	command(s, CMD_NOP, 0, 0, NULL);
	COMMAND(s, CMD_CREATE, OBJECT_SURFACE, 1, target, FORMAT_BGRA8, 0, 0);
	COMMAND(s, CMD_FRAMEBUFFER, 0, 1, 0, 1);
	COMMAND(s, CMD_CLEAR, 0, CLEAR_COLOR0, 0, one, 0, one, 0, 0, 0);
	COMMAND(s, CMD_CREATE, OBJECT_BLEND, 2, 0, 0, 0xfu << 27, 0, 0, 0, 0, 0, 0, 0);
	COMMAND(s, CMD_BIND, OBJECT_BLEND, 2);
	COMMAND(s, CMD_CREATE, OBJECT_DSA, 3, 0, 0, 0, 0);
	COMMAND(s, CMD_BIND, OBJECT_DSA, 3);
	COMMAND(s, CMD_CREATE, OBJECT_RASTERIZER, 4, 2u | 1u << 29, one, 0, 0, one, 0, 0, 0);
	COMMAND(s, CMD_BIND, OBJECT_RASTERIZER, 4);
	COMMAND(s, CMD_CREATE, OBJECT_VERTEX_ELEMENTS, 5, 0, 0, 0, FORMAT_RGBA32F);
	COMMAND(s, CMD_BIND, OBJECT_VERTEX_ELEMENTS, 5);
	COMMAND(s, CMD_VERTEX_BUFFERS, 0, 16, 0, vertices);
	COMMAND(s, CMD_VIEWPORT, 0, 0, half, half, one, half, half, 0);
	shader(s, 6, 0,
		"VERT\nDCL IN[0]\nDCL OUT[0], POSITION\n  0: MOV OUT[0], IN[0]\n  1: END\n");
	shader(s, 7, 1,
		"FRAG\nDCL OUT[0], COLOR\nIMM[0] FLT32 { 1.0, 0.0, 0.0, 1.0 }\n"
		"  0: MOV OUT[0], IMM[0]\n  1: END\n");
	COMMAND(s, CMD_DRAW, 0, 0, 3, TRIANGLES, 0, 1, 0, 0, 0, 0, 0, 2, 0);
}

static int transfer(bool write, uint32_t resource, uint32_t ctx, struct box box, void *p, size_t n)
{
	struct iovec iov = {p, n};
	struct virgl_box *b = (struct virgl_box *)&box;

	return write ? virgl_renderer_transfer_write_iov(resource, ctx, 0, 0, 0, b, 0, &iov, 1)
		     : virgl_renderer_transfer_read_iov(resource, ctx, 0, 0, 0, b, 0, &iov, 1);
}

static int draw_in_context(uint32_t ctx)
{
	static const float triangle[3][4] = {{-1, -1, 0, 1}, {3, -1, 0, 1}, {-1, 3, 0, 1}};
	uint32_t target = ctx * 10 + 1, buffer = ctx * 10 + 2;
	struct virgl_renderer_resource_create_args image = {.handle = target,
		.target = TARGET_2D,
		.format = FORMAT_BGRA8,
		.bind = VIRGL_RES_BIND_RENDER_TARGET,
		.width = SIDE,
		.height = SIDE,
		.depth = 1,
		.array_size = 1};
	struct virgl_renderer_resource_create_args vertices = {.handle = buffer,
		.target = TARGET_BUFFER,
		.format = FORMAT_R8,
		.bind = VIRGL_RES_BIND_VERTEX_BUFFER,
		.width = sizeof(triangle),
		.height = 1,
		.depth = 1,
		.array_size = 1};
	static uint32_t pixels[SIDE * SIDE];
	struct stream stream = {.count = 0};

	if (virgl_renderer_resource_create(&image, NULL, 0) ||
		virgl_renderer_resource_create(&vertices, NULL, 0))
		return 1;
	virgl_renderer_ctx_attach_resource((int)ctx, (int)target);
	virgl_renderer_ctx_attach_resource((int)ctx, (int)buffer);
	struct box bytes = {.w = sizeof(triangle), .h = 1, .d = 1};
	if (transfer(true, buffer, ctx, bytes, (void *)(uintptr_t)triangle, sizeof(triangle)))
		return 2;
	scene(&stream, target, buffer);
	if (virgl_renderer_submit_cmd(stream.words, (int)ctx, (int)stream.count))
		return 3;
	memset(pixels, 0, sizeof(pixels));
	struct box all = {.w = SIDE, .h = SIDE, .d = 1};
	if (transfer(false, target, ctx, all, pixels, sizeof(pixels)))
		return 4;
	for (unsigned i = 0; i < SIDE * SIDE; i++) {
		if (pixels[i] != 0xffff0000u) {
			printf("# context %u: pixel %u is %08x\n", ctx, i, pixels[i]);
			return 5;
		}
	}
	return 0;
}

static void write_fence(void *cookie, uint32_t fence)
{
}

static int start_renderer(void)
{
	static struct virgl_renderer_callbacks callbacks = {.version = 1};
	static char cookie;

	callbacks.write_fence = write_fence;
	if (virgl_renderer_init(
		    &cookie, VIRGL_RENDERER_USE_EGL | VIRGL_RENDERER_USE_SURFACELESS, &callbacks))
		return -1;
	return virgl_renderer_context_create(1, 5, "first");
}

static int after_lock_down(void)
{
	uint64_t at = clock_ns();

	int r = draw_in_context(1);
	printf("# first picture after lock-down: %.2f ms\n", milliseconds(at));
	for (uint32_t ctx = 2; r == 0 && ctx < 2 + CONTEXTS; ctx++) {
		r = virgl_renderer_context_create(ctx, 5, "later");
		if (r == 0)
			r = draw_in_context(ctx);
	}
	for (uint32_t ctx = 2; r == 0 && ctx < 2 + CONTEXTS; ctx++) {
		virgl_renderer_context_destroy(ctx);
		virgl_renderer_resource_unref(ctx * 10 + 1);
		virgl_renderer_resource_unref(ctx * 10 + 2);
	}
	if (r == 0) {
		virgl_renderer_create_fence(1, 0);
		virgl_renderer_poll();
	}
	return r;
}

/* 0 drawn, 77 the machine lacks something, else what failed. */
static int locked_down_life(bool lock)
{
	const struct isolation_config config = {
		.mode = lock ? ISOLATION_STRICT : ISOLATION_OFF,
		.software = true,
		.node_group = ISOLATION_NO_GROUP,
	};
	struct isolation *iso;
	uint64_t at[7] = {clock_ns()};

	int r = isolation_begin(&config, &iso);
	at[1] = clock_ns();
	if (r == 0)
		r = isolation_namespaces(iso);
	at[2] = clock_ns();
	if (r < 0) {
		char text[512];
		isolation_missing(iso, text, sizeof(text));
		printf("# missing: %s\n", text);
		return 77;
	}
	if (start_renderer())
		return 77;
	at[3] = clock_ns();
	r = isolation_filesystem(iso);
	at[4] = clock_ns();
	if (r == 0)
		r = isolation_filter(iso);
	at[5] = clock_ns();
	if (r < 0)
		return 10;
	static const char *const steps[] = {
		"begin", "namespaces", "(renderer)", "filesystem", "filter"};
	for (unsigned i = 0; i < ARRAY_SIZE(steps); i++)
		printf("# %s: %.2f ms\n", steps[i], (double)(at[i + 1] - at[i]) / 1e6);
	return after_lock_down();
}

static void one(unsigned number, const char *what, bool lock)
{
	int status = 0;

	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		int r = locked_down_life(lock);
		fflush(stdout);
		_exit(r);
	}
	if (waitpid(pid, &status, 0) == pid && status == 0)
		printf("ok %u - %s\n", number, what);
	else if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		printf("ok %u - %s # SKIP no namespaces or no EGL on this machine\n", number, what);
	else
		printf("not ok %u - %s # status %#x\n", number, what, (unsigned)status);
}

int main(void)
{
	printf("1..2\n");
	one(1, "draws without lock-down", false);
	one(2, "draws after lock-down", true);
	return 0;
}
