/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What nobody wrote by hand: random commands, which must do no harm, and what Mesa really sent,
 * of which nothing may be refused.
 */
#include "support.h"

#include "base/checked.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUFFERS = 100000, DWORDS_MAX = 48 };

static uint64_t next_random(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

/* A number a guest might choose to do harm, or one that is right. */
static uint32_t next_dword(uint64_t *seed)
{
	static const uint32_t interesting[] = {0, 1, 2, 3, 4, 5, 6, 8, 16, 31, 32, 33, 64, 127, 128,
		322, 0x7fffffff, 0x80000000, 0x80000004, 0xfffffffc, 0xffffffff};
	uint64_t random = next_random(seed);

	switch (random & 3) {
	case 0:
		return RES(random >> 8 & 15);
	case 1:
		return 1 + (random >> 8 & 15);
	case 2:
		return interesting[(random >> 8) % ARRAY_SIZE(interesting)];
	default:
		return (uint32_t)(random >> 32);
	}
}

static const uint8_t shortest[VIRGL_COMMANDS] = {
#define VIRGL_COMMAND(opcode, name, min, ...) [opcode] = (min),
#include "protocol/virgl.def"
};

/* Mostly commands of a right length, so that the walk gets somewhere. */
static size_t fill(uint64_t *seed, uint32_t *dw, size_t n)
{
	size_t at = 0;

	while (at < n) {
		uint64_t random = next_random(seed);
		uint32_t opcode = random % (VIRGL_COMMANDS + 1);
		size_t len = random >> 16 & 31;
		if (random >> 30 & 3 && opcode < VIRGL_COMMANDS && opcode != VIRGL_CREATE_OBJECT)
			len = shortest[opcode];
		if (at + 1 + len > n && random >> 60)
			len = n - at - 1;
		dw[at++] = VIRGL_HEADER(opcode, random >> 8 & 15, len);
		while (len-- && at < n)
			dw[at++] = next_dword(seed);
	}
	return at;
}

/* What follows a bad command is tried as well. Returns how many buffers passed whole: 0 or 1. */
static unsigned try_buffer(struct stream *stream, uint32_t *dw, size_t n)
{
	bool whole = true;

	for (size_t at = 0; at < n;) {
		struct stream_fault fault = {.offset = SIZE_MAX};
		int r = stream_check(stream, dw + at, n - at, &fault);
		assert_true(r <= 0);
		if (r == 0)
			break;
		assert_true(fault.offset < n - at);
		whole = false;
		uint32_t header = dw[at + fault.offset];
		at += fault.offset + 1 + VIRGL_HEADER_LENGTH(header);
	}
	return whole;
}

static void test_random_commands_do_no_harm(void **state)
{
	uint64_t seed = 0x9e3779b97f4a7c15u;
	struct stream *stream = NULL;
	unsigned passed = 0;

	for (unsigned i = 0; i < BUFFERS; i++) {
		if (i % 1000 == 0) {
			stream_destroy(stream);
			stream = new_stream_with_objects();
		}
		/* Of its exact size, so that a sanitizer sees what lies beyond. */
		size_t n = next_random(&seed) % DWORDS_MAX;
		uint32_t *dw = malloc(n * sizeof(*dw) + !n);
		assert_non_null(dw);
		fill(&seed, dw, n);
		passed += try_buffer(stream, dw, n);
		free(dw);
	}
	/* Neither nothing nor everything. */
	assert_in_range(passed, BUFFERS / 100, BUFFERS / 2);
	assert_true(stream_counters(stream)->commands > 100);
	assert_true(stream_counters(stream)->objects <= test_limits.max_objects);
	print_message("# %u passed whole; the last stream: %llu commands\n", passed,
		(unsigned long long)stream_counters(stream)->commands);
	stream_destroy(stream);
}

/* A recording: per submission {context, dwords, the dwords}. Returns how many there were. */
static unsigned replay(FILE *file, struct stream *stream)
{
	uint32_t head[2];
	unsigned submissions = 0;

	for (; fread(head, sizeof(head), 1, file) == 1; submissions++) {
		uint32_t *dw = malloc(head[1] * sizeof(*dw));
		struct stream_fault fault;
		assert_non_null(dw);
		assert_int_equal(fread(dw, sizeof(*dw), head[1], file), head[1]);
		if (stream_check(stream, dw, head[1], &fault) < 0)
			fail_msg("submission %u refused: %s at %zu: %s (%u)", submissions,
				fault.command ? fault.command : "?", fault.offset, fault.reason,
				fault.value);
		free(dw);
	}
	return submissions;
}

static void replay_path(const char *path, unsigned at_least)
{
	static const struct stream_limits limits = {64, 1u << 16, 64u << 20};
	struct any_resources any = {.add = 1000000};
	struct stream *stream;
	FILE *file = fopen(path, "rbe");

	assert_non_null(file);
	assert_int_equal(stream_create(&limits, NULL, &any_resource_ops, &any, &stream), 0);
	unsigned submissions = replay(file, stream);
	const struct stream_counters *counters = stream_counters(stream);
	print_message("# %u submissions, %llu commands, %llu draws, %u objects, %u resources\n",
		submissions, (unsigned long long)counters->commands,
		(unsigned long long)counters->draws, counters->objects, any.resolved);
	assert_true(submissions >= at_least);
	assert_true(counters->draws > 0 && any.resolved > 0);
	stream_destroy(stream);
	any_resources_finish(&any);
	fclose(file);
}

static void test_recordings_of_mesa_pass(void **state)
{
	replay_path(GOLDEN_DIR "/virgl-glmark2.bin", 11);
	replay_path(GOLDEN_DIR "/virgl-gl43.bin", 10);
	/* Others, too large to keep here: see the README beside it. */
	if (getenv("VGPU_RECORDING"))
		replay_path(getenv("VGPU_RECORDING"), 1);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random_commands_do_no_harm),
		cmocka_unit_test(test_recordings_of_mesa_pass),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
