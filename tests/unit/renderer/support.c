/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include "base/checked.h"

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
			printf("ok %zu - %s # SKIP no EGL on this machine\n", i + 1, tests[i].name);
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

void stream_shader(struct stream *s, uint32_t handle, uint32_t stage, const char *tgsi)
{
	uint32_t words[256] = {handle, stage, (uint32_t)strlen(tgsi) + 1, 300, 0};
	size_t n = (strlen(tgsi) + 4) / 4;

	if (n + 5 > ARRAY_SIZE(words))
		abort();
	memcpy(&words[5], tgsi, strlen(tgsi));
	stream_put(s, 1, 4, (unsigned)n + 5, words);
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
