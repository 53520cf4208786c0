/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include "base/checked.h"
#include "renderer/format.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static int child_status(pid_t pid)
{
	int status = 0;

	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int tests_run(const struct test *tests, size_t n)
{
	int failed = 0;

	printf("1..%zu\n", n);
	for (size_t i = 0; i < n; i++) {
		fflush(stdout);
		pid_t pid = fork();
		if (pid == 0) {
			int r = tests[i].run();
			fflush(stdout);
			_exit(r);
		}
		int status = child_status(pid);
		if (status == TEST_SKIP)
			printf("ok %zu - %s # SKIP this machine cannot\n", i + 1, tests[i].name);
		else
			printf("%sok %zu - %s\n", status ? "not " : "", i + 1, tests[i].name);
		failed |= status != 0 && status != TEST_SKIP;
	}
	return failed;
}

static void ignore_fence(void *data, uint64_t id)
{
}

static void ignore_failure(void *data, const char *why)
{
}

int renderer_start(struct renderer_under_test *ret, bool exact_only)
{
	static const struct renderer_events events = {ignore_fence, ignore_failure};
	const struct renderer_config config = {.vram_bytes = 1 << 30, .exact_only = exact_only};

	ret->ops = renderer_find("virgl");
	if (!ret->ops)
		return TEST_SKIP;
	return ret->ops->create(&config, &events, NULL, &ret->r) < 0 ? TEST_SKIP : 0;
}

int in_child(int (*run)(struct renderer_under_test *t, void *argument, void *result),
	void *argument, void *result, size_t size)
{
	void *shared = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (shared == MAP_FAILED)
		return -1;
	memcpy(shared, result, size);
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		struct renderer_under_test t;
		int r = renderer_start(&t, false);
		if (!r)
			r = run(&t, argument, shared);
		if (!r)
			t.ops->destroy(t.r);
		fflush(stdout);
		_exit(r);
	}
	int status = child_status(pid);
	memcpy(result, shared, size);
	munmap(shared, size);
	return status;
}

void stream_put(
	struct stream *s, uint32_t command, uint32_t object, unsigned n, const uint32_t *words)
{
	if (s->count + n + 1 > ARRAY_SIZE(s->words))
		abort();
	s->words[s->count++] = command | object << 8 | n << 16;
	memcpy(&s->words[s->count], words, n * sizeof(*words));
	s->count += n;
}

int stream_run(struct renderer_under_test *t, uint32_t ctx, struct stream *s)
{
	int err = t->ops->submit(t->r, ctx, s->words, s->count, false);
	s->count = 0;
	return err;
}

/* ---- a scene ---- */

static uint32_t float_bits(float f)
{
	uint32_t bits;
	memcpy(&bits, &f, sizeof(bits));
	return bits;
}

/* With `captured`, output 0 goes to buffer 0, four words a vertex. */
static void stream_shader(
	struct stream *s, uint32_t handle, uint32_t stage, const char *tgsi, bool captured)
{
	uint32_t words[256] = {handle, stage, (uint32_t)strlen(tgsi) + 1, 300, 0};
	unsigned at = 5;

	if (captured) {
		words[4] = 1;
		words[at++] = 4;
		at += 3;
		words[at++] = 4u << 10;
		at++;
	}
	memcpy(&words[at], tgsi, strlen(tgsi));
	stream_put(s, 1, 4, at + (unsigned)(strlen(tgsi) + 4) / 4, words);
	PUT(s, 31, 0, handle, stage);
}

int scene_buffer(struct renderer_under_test *t, uint32_t id, uint32_t bind, uint32_t size)
{
	const struct renderer_resource_desc desc = {.target = PIPE_BUFFER,
		.format = VIRGL_FORMAT_R8_UNORM,
		.bind = bind,
		.width = size,
		.height = 1,
		.depth = 1,
		.array_size = 1};
	int err = t->ops->resource_create(t->r, id, &desc);

	if (!err)
		t->ops->context_attach(t->r, 1, id);
	return err;
}

static int scene_resources(struct renderer_under_test *t)
{
	static const struct renderer_resource_desc target = {.target = PIPE_TEXTURE_2D,
		.format = VIRGL_FORMAT_B8G8R8A8_UNORM,
		.bind = 2,
		.width = SCENE_SIDE,
		.height = SCENE_SIDE,
		.depth = 1,
		.array_size = 1};
	static float vertices[SCENE_VERTICES][4] = {{-1, -1, 0, 1}, {3, -1, 0, 1}, {-1, 3, 0, 1}};

	for (unsigned i = 3; i < SCENE_VERTICES; i++) {
		vertices[i][0] = (float)(i * 7 % 16) / 8 - 1;
		vertices[i][1] = (float)(i * 11 % 16) / 8 - 1;
		vertices[i][3] = 1;
	}
	if (t->ops->context_create(t->r, 1, "test") ||
		t->ops->resource_create(t->r, RES_TARGET, &target))
		return -1;
	t->ops->context_attach(t->r, 1, RES_TARGET);
	if (scene_buffer(t, RES_VERTICES, 1u << 4, sizeof(vertices)) ||
		scene_buffer(t, RES_RESULT, 1u << 17, 16))
		return -1;
	return t->ops->content_write(t->r, RES_VERTICES, 0, vertices, sizeof(vertices));
}

int scene_make(struct renderer_under_test *t)
{
	const uint32_t one = float_bits(1), half = float_bits((float)SCENE_SIDE / 2);
	struct stream s = {.count = 0};

	if (scene_resources(t))
		return -1;
	PUT(&s, 1, 8, 1, RES_TARGET, VIRGL_FORMAT_B8G8R8A8_UNORM, 0, 0);
	PUT(&s, 5, 0, 1, 0, 1);
	PUT(&s, 1, 1, 2, 0, 0, 0xfu << 27, 0, 0, 0, 0, 0, 0, 0);
	PUT(&s, 2, 1, 2);
	PUT(&s, 1, 3, 3, 0, 0, 0, 0);
	PUT(&s, 2, 3, 3);
	PUT(&s, 1, 2, 4, 2u | 1u << 29, one, 0, 0, one, 0, 0, 0);
	PUT(&s, 2, 2, 4);
	PUT(&s, 1, 5, 5, 0, 0, 0, VIRGL_FORMAT_R32G32B32A32_FLOAT);
	PUT(&s, 2, 5, 5);
	PUT(&s, 6, 0, 16, 0, RES_VERTICES);
	PUT(&s, 4, 0, 0, half, half, one, half, half, 0);
	stream_shader(&s, 6, 0,
		"VERT\nDCL IN[0]\nDCL OUT[0], POSITION\n  0: MOV OUT[0], IN[0]\n  1: END\n", true);
	stream_shader(&s, 7, 1,
		"FRAG\nDCL OUT[0], COLOR\nIMM[0] FLT32 { 1.0, 0.0, 0.0, 1.0 }\n"
		"  0: MOV OUT[0], IMM[0]\n  1: END\n",
		false);
	scene_clear(&s);
	return stream_run(t, 1, &s);
}

void scene_draw(struct stream *s, uint32_t first, uint32_t count, uint32_t primitive)
{
	PUT(s, 8, 0, first, count, primitive, 0, 1, 0, 0, 0, 0, 0, UINT32_MAX, 0);
}

void scene_clear(struct stream *s)
{
	PUT(s, 7, 0, 4, 0, 0, 0, 0, 0, 0, 0);
}

unsigned scene_pixels(struct renderer_under_test *t)
{
	static uint32_t pixels[SCENE_SIDE * SCENE_SIDE];
	unsigned n = 0;

	t->ops->finish(t->r);
	if (t->ops->content_read(t->r, RES_TARGET, 0, pixels, sizeof(pixels)))
		return UINT32_MAX;
	for (size_t i = 0; i < ARRAY_SIZE(pixels); i++)
		n += pixels[i] != 0;
	return n;
}

void query_make(struct stream *s, uint32_t handle, uint32_t type)
{
	PUT(s, 1, 9, handle, type, 0, RES_RESULT);
}

void query_begin(struct stream *s, uint32_t handle)
{
	PUT(s, 19, 0, handle);
}

void query_end(struct stream *s, uint32_t handle)
{
	PUT(s, 20, 0, handle);
}

uint64_t query_answer(struct renderer_under_test *t, struct stream *s, uint32_t handle)
{
	struct {
		uint32_t state, size;
		uint64_t result;
	} answer = {0};

	if (t->ops->content_write(t->r, RES_RESULT, 0, &answer, sizeof(answer)))
		return UINT64_MAX;
	PUT(s, 21, 0, handle, 1);
	int err = t->ops->submit(t->r, 1, s->words, s->count, true);
	s->count = 0;
	t->ops->finish(t->r);
	if (err || t->ops->content_read(t->r, RES_RESULT, 0, &answer, sizeof(answer)) ||
		answer.state != 1)
		return UINT64_MAX;
	return answer.result;
}

void fill_random(void *bytes, size_t size, uint32_t seed)
{
	uint8_t *p = bytes;
	uint32_t state = seed * 0x9e3779b9u + 1;

	for (size_t i = 0; i < size; i++) {
		state = state * 1664525u + 1013904223u;
		p[i] = (uint8_t)(state >> 24);
	}
}
