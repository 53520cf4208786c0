/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the stream pass costs per command: a frame as Mesa encodes one (bindings, constants,
 * vertex buffers, one draw, over and over), checked again and again. Prints the best of several
 * rounds and the middle one, and the same for replacing objects. Each again with its record in a
 * journal, and for a frame of one draw, as simple programs have them. An argument names a recording
 * (see tests/golden) to be checked instead.
 */
#include "base/checked.h"
#include "base/idmap.h"
#include "protocol/virgl.h"
#include "state/journal.h"
#include "stream/stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { DRAWS = 200, ROUNDS = 201, RESOURCES = 4096, HEAD = 1024 };

static struct idmap resources;

static struct stream_resource *resolve(void *data, uint32_t handle)
{
	return idmap_get(&resources, handle);
}

static const struct stream_resource_ops ops = {resolve};
static const struct stream_limits limits = {16, 1u << 20, 1ull << 30};

struct words {
	uint32_t dw[DRAWS * 128 + HEAD];
	size_t n;
};

static void put(
	struct words *to, uint32_t opcode, uint32_t type, const uint32_t *payload, uint32_t n)
{
	to->dw[to->n++] = VIRGL_HEADER(opcode, type, n);
	memcpy(&to->dw[to->n], payload, n * sizeof(*payload));
	to->n += n;
}

#define PUT(to, opcode, type, ...)                                                                 \
	put(to, opcode, type, (uint32_t[]){__VA_ARGS__},                                           \
		sizeof((uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t))

static void put_objects(struct words *to)
{
	for (uint32_t i = 0; i < 32; i++) {
		uint32_t blend[11] = {1 + i}, dsa[5] = {100 + i}, rasterizer[9] = {200 + i};
		put(to, VIRGL_CREATE_OBJECT, VIRGL_OBJECT_BLEND, blend, 11);
		put(to, VIRGL_CREATE_OBJECT, VIRGL_OBJECT_DSA, dsa, 5);
		put(to, VIRGL_CREATE_OBJECT, VIRGL_OBJECT_RASTERIZER, rasterizer, 9);
		PUT(to, VIRGL_CREATE_OBJECT, VIRGL_OBJECT_SAMPLER_VIEW, 300 + i, 1 + i, 1, 0, 0, 0);
		PUT(to, VIRGL_CREATE_OBJECT, VIRGL_OBJECT_SURFACE, 400 + i, 1 + i, 1, 0, 0);
		PUT(to, VIRGL_CREATE_OBJECT, VIRGL_OBJECT_VERTEX_ELEMENTS, 500 + i, 0, 0, 0, 1);
	}
}

static void put_draw(struct words *to, uint32_t i)
{
	uint32_t constants[34] = {i & 1}, draw[12] = {0, 36, 4}, s = i % 32;

	PUT(to, VIRGL_BIND_OBJECT, VIRGL_OBJECT_BLEND, 1 + s);
	PUT(to, VIRGL_BIND_OBJECT, VIRGL_OBJECT_DSA, 100 + s);
	PUT(to, VIRGL_BIND_OBJECT, VIRGL_OBJECT_RASTERIZER, 200 + s);
	PUT(to, VIRGL_BIND_OBJECT, VIRGL_OBJECT_VERTEX_ELEMENTS, 500 + s);
	PUT(to, VIRGL_SET_SAMPLER_VIEWS, 0, 1, 0, 300 + s, 300 + (s ^ 1));
	PUT(to, VIRGL_BIND_SAMPLER_STATES, 0, 1, 0, 7, 8);
	put(to, VIRGL_SET_CONSTANT_BUFFER, 0, constants, 34);
	PUT(to, VIRGL_SET_UNIFORM_BUFFER, 0, 0, 1, 0, 256, 1 + s * 7 % RESOURCES);
	PUT(to, VIRGL_SET_VERTEX_BUFFERS, 0, 32, 0, 1 + i % RESOURCES, 16, 0, 2 + i % 1000);
	PUT(to, VIRGL_SET_INDEX_BUFFER, 0, 1 + i * 3 % RESOURCES, 2, 0);
	put(to, VIRGL_DRAW_VBO, 0, draw, 12);
}

static void put_frame(struct words *to, uint32_t draws)
{
	PUT(to, VIRGL_SET_SUB_CTX, 0, 0);
	PUT(to, VIRGL_SET_FRAMEBUFFER_STATE, 0, 1, 401, 400);
	PUT(to, VIRGL_SET_VIEWPORT_STATE, 0, 0, 1, 2, 3, 4, 5, 6);
	PUT(to, VIRGL_CLEAR, 0, 1, 2, 3, 4, 5, 6, 7, 8);
	for (uint32_t i = 0; i < draws; i++)
		put_draw(to, i);
	PUT(to, VIRGL_BLIT, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0);
}

static double now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

/* ---- the journal ---- */

enum { JOURNAL_BYTES = 512 << 20, JOURNAL_NEW_AT = 64 << 20 };

/* As a device process does: an empty one from time to time, so its pages are new ones. */
static struct journal *fresh_journal(struct journal *old)
{
	int fd;

	if (old && journal_bytes(old) < JOURNAL_NEW_AT)
		return old;
	journal_destroy(old);
	if (journal_create(JOURNAL_BYTES, &fd, &old) < 0)
		exit(1);
	close(fd);
	return old;
}

/* ---- measuring ---- */

/* Checks copies of the buffer, since checking translates in place; the copy is not timed. */
static void measure(
	const char *what, struct stream *stream, const struct words *words, bool journalled)
{
	struct journal *journal = NULL;
	double ns[ROUNDS];
	uint32_t *dw = malloc(words->n * sizeof(*dw));
	uint64_t commands = 0;

	for (int i = 0; dw && i < ROUNDS; i++) {
		struct stream_fault fault;
		uint64_t before = stream_counters(stream)->commands;
		memcpy(dw, words->dw, words->n * sizeof(*dw));
		if (journalled)
			journal = fresh_journal(journal);
		const struct iovec bytes = {dw, words->n * sizeof(*dw)};
		double start = now_ns();
		if (journal_record(journal, JOURNAL_VTEST, 1, 0, &bytes, 1) < 0)
			exit(1);
		int r = stream_check(stream, dw, words->n, &fault);
		journal_executed(journal);
		ns[i] = now_ns() - start;
		commands = stream_counters(stream)->commands - before;
		if (r < 0) {
			fprintf(stderr, "%s: %s\n", fault.command, fault.reason);
			exit(1);
		}
	}
	free(dw);
	journal_destroy(journal);
	if (!commands)
		return;
	qsort(ns, ROUNDS, sizeof(*ns), by_size);
	printf("%-14s %-10s %7llu commands %8zu dwords: best %.1f, median %.1f ns/command\n", what,
		journalled ? "journalled" : "", (unsigned long long)commands, words->n,
		ns[0] / (double)commands, ns[ROUNDS / 2] / (double)commands);
}

static struct stream_resource *resolve_any(void *data, uint32_t handle)
{
	struct stream_resource *res = idmap_get(&resources, handle);

	if (res)
		return res;
	res = calloc(1, sizeof(*res));
	if (!res || idmap_add(&resources, handle, res) < 0)
		exit(1);
	res->id = handle;
	return res;
}

static int replay(const char *path)
{
	static const struct stream_resource_ops any = {resolve_any};
	struct stream *stream;
	uint32_t head[2];
	double ns = 0;
	FILE *file = fopen(path, "rbe");

	if (!file || stream_create(&limits, NULL, &any, NULL, &stream) < 0)
		return 1;
	while (fread(head, sizeof(head), 1, file) == 1) {
		uint32_t *dw = malloc((size_t)head[1] * 4);
		if (!dw || fread(dw, 4, head[1], file) != head[1])
			return 1;
		double start = now_ns();
		int r = stream_check(stream, dw, head[1], NULL);
		ns += now_ns() - start;
		free(dw);
		if (r < 0)
			return 1;
	}
	const struct stream_counters *c = stream_counters(stream);
	printf("%llu submissions, %llu commands: %.1f ns/command\n", (unsigned long long)c->buffers,
		(unsigned long long)c->commands, ns / (double)c->commands);
	stream_destroy(stream);
	fclose(file);
	return 0;
}

int main(int argc, char **argv)
{
	static struct words objects, frame, small;
	const struct {
		const char *what;
		struct words *words;
	} rows[] = {{"objects", &objects}, {"frame", &frame}, {"one draw", &small}};
	struct stream *stream;

	idmap_init(&resources, 12345);
	if (argc > 1)
		return replay(argv[1]);
	for (uint32_t i = 1; i <= RESOURCES; i++)
		resolve_any(NULL, i)->id = i + 100000;
	if (stream_create(&limits, NULL, &ops, NULL, &stream) < 0)
		return 1;
	put_objects(&objects);
	put_frame(&frame, DRAWS);
	put_frame(&small, 1);
	for (size_t i = 0; i < 2 * ARRAY_SIZE(rows); i++)
		measure(rows[i / 2].what, stream, rows[i / 2].words, i % 2);
	stream_destroy(stream);
	return 0;
}
