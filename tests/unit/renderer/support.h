/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_TESTS_RENDERER_SUPPORT_H
#define VGPU_TESTS_RENDERER_SUPPORT_H

/*
 * Tests of the virgl renderer on the software GPU. The library allows one renderer a process, so
 * every test, and every renderer a state goes over to, runs in a child of its own.
 */

#include "renderer/interface.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct test {
	const char *name;
	int (*run)(void); /* in a child: 0, TEST_SKIP, or the line that failed */
};

#define TEST_SKIP 77

/* Prints TAP; what main() returns. */
int tests_run(const struct test *tests, size_t n);

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			printf("# %s:%d: %s\n", __FILE__, __LINE__, #condition);                   \
			return 1;                                                                  \
		}                                                                                  \
	} while (0)

struct renderer_under_test {
	const struct renderer_ops *ops;
	struct renderer *r;
};

/* 0; TEST_SKIP: no EGL here. */
int renderer_start(struct renderer_under_test *ret, bool exact_only);

/*
 * Runs it in a process of its own, with its own renderer; what it writes into `result` (of `size`
 * bytes) comes back.
 */
int in_child(int (*run)(struct renderer_under_test *t, void *argument, void *result),
	void *argument, void *result, size_t size);

struct stream {
	uint32_t words[4096];
	unsigned count;
};

/* Commands are VIRGL_CCMD_*, objects VIRGL_OBJECT_* or 0. */
void stream_put(
	struct stream *s, uint32_t command, uint32_t object, unsigned n, const uint32_t *words);
int stream_run(struct renderer_under_test *t, uint32_t ctx, struct stream *s); /* and empties it */

#define PUT(s, command, object, ...)                                                               \
	stream_put(s, command, object, sizeof((uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t),       \
		(const uint32_t[]){__VA_ARGS__})

/*
 * Context 1 with a pipeline that draws in one colour: resource
 * RES_TARGET is SCENE_SIDE pixels wide and high, RES_VERTICES holds a triangle that covers all of
 * it and then SCENE_VERTICES - 3 others. Positions are captured where something is bound for that.
 */
enum { RES_TARGET = 1, RES_VERTICES, RES_RESULT, RES_CAPTURE, RES_BUFFER };
#define SCENE_SIDE     64u
#define SCENE_VERTICES 48u

int scene_make(struct renderer_under_test *t);
int scene_buffer(struct renderer_under_test *t, uint32_t id, uint32_t bind, uint32_t size);
/* Vertices from `first`; primitive types are PIPE_PRIM_* (points 0, triangles 4). */
void scene_draw(struct stream *s, uint32_t first, uint32_t count, uint32_t primitive);
void scene_clear(struct stream *s);
/* How many pixels are not black. */
unsigned scene_pixels(struct renderer_under_test *t);

enum { QUERY_SAMPLES = 0, QUERY_ANY = 1, QUERY_GENERATED = 5, QUERY_EMITTED = 6 };
void query_make(struct stream *s, uint32_t handle, uint32_t type);
void query_begin(struct stream *s, uint32_t handle);
void query_end(struct stream *s, uint32_t handle);
/* Runs the stream so far, asks and waits; UINT64_MAX: no answer. */
uint64_t query_answer(struct renderer_under_test *t, struct stream *s, uint32_t handle);

/* Words that are different for every seed. */
void fill_random(void *bytes, size_t size, uint32_t seed);

#endif
