/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include "base/checked.h"

#include <errno.h>

#define VERTEX_BYTES 16u
#define CAPTURE_MAX  2048u

enum { TARGET = 30, COUNTER = 20, OTHER };
enum { POINTS = 0, LINES = 1, TRIANGLES = 4 };

/* What is drawn before the cut and after it, and where it is captured. */
struct capture_case {
	uint32_t offset, size;
	uint32_t primitive, before, after; /* vertices */
	unsigned draws;                    /* each way */
	bool emitted, generated;           /* the guest counts itself */
};

struct handed_over {
	struct renderer_streamout saved;
	uint8_t cut[CAPTURE_MAX], end[CAPTURE_MAX];
	uint64_t emitted, generated; /* of the guest's own */
	bool load;
};

static int target_make(struct renderer_under_test *t, const struct capture_case *c)
{
	struct stream s = {.count = 0};

	CHECK(scene_make(t) == 0);
	CHECK(scene_buffer(t, RES_CAPTURE, 1u << 11, CAPTURE_MAX) == 0);
	PUT(&s, 1, 10, TARGET, RES_CAPTURE, c->offset, c->size);
	PUT(&s, 25, 0, 0, TARGET);
	query_make(&s, COUNTER, QUERY_EMITTED);
	query_make(&s, OTHER, QUERY_GENERATED);
	CHECK(stream_run(t, 1, &s) == 0);
	return 0;
}

static int capture_draw(
	struct renderer_under_test *t, const struct capture_case *c, uint32_t first, uint32_t count)
{
	struct stream s = {.count = 0};

	for (unsigned i = 0; i < c->draws; i++)
		scene_draw(&s, first, count, c->primitive);
	CHECK(stream_run(t, 1, &s) == 0);
	return 0;
}

static int capture_read(struct renderer_under_test *t, uint8_t *bytes)
{
	t->ops->finish(t->r);
	return t->ops->content_read(t->r, RES_CAPTURE, 0, bytes, CAPTURE_MAX);
}

static int save(struct renderer_under_test *t, void *argument, void *result)
{
	const struct capture_case *c = argument;
	struct handed_over *h = result;
	struct stream s = {.count = 0};

	CHECK(target_make(t, c) == 0);
	if (c->generated)
		query_begin(&s, OTHER);
	if (c->emitted)
		query_begin(&s, COUNTER);
	if (s.count)
		CHECK(stream_run(t, 1, &s) == 0);
	CHECK(capture_draw(t, c, 0, c->before) == 0);
	CHECK(capture_read(t, h->cut) == 0);
	PUT(&s, 25, 0, 0, TARGET);
	CHECK(stream_run(t, 1, &s) == 0);
	CHECK(t->ops->streamout_save(t->r, 1, &h->saved) == 0);
	CHECK(capture_draw(t, c, 3, c->after) == 0);
	CHECK(capture_read(t, h->end) == 0);
	if (c->emitted) {
		query_end(&s, COUNTER);
		h->emitted = query_answer(t, &s, COUNTER);
	}
	if (c->generated) {
		query_end(&s, OTHER);
		h->generated = query_answer(t, &s, OTHER);
	}
	return 0;
}

static int go_on(struct renderer_under_test *t, void *argument, void *result)
{
	const struct capture_case *c = argument;
	struct handed_over *h = result;
	struct renderer_streamout again;

	CHECK(target_make(t, c) == 0);
	CHECK(t->ops->content_write(t->r, RES_CAPTURE, 0, h->cut, CAPTURE_MAX) == 0);
	if (h->load) {
		CHECK(t->ops->streamout_load(t->r, 1, &h->saved) == 0);
		CHECK(t->ops->streamout_save(t->r, 1, &again) == 0);
		CHECK(again.begun && again.bytes[0] == h->saved.bytes[0]);
		CHECK(again.vertices[0] == h->saved.vertices[0]);
	}
	CHECK(capture_draw(t, c, 3, c->after) == 0);
	CHECK(capture_read(t, h->end) == 0);
	CHECK(t->ops->streamout_save(t->r, 1, &h->saved) == 0);
	return 0;
}

static const struct {
	struct capture_case c;
	uint64_t vertices; /* captured before the cut */
} cases[] = {
	{{0, CAPTURE_MAX, TRIANGLES, 6, 9, 1}, 6},
	{{0, CAPTURE_MAX, POINTS, 5, 7, 3}, 15},
	{{64, 1024, LINES, 4, 6, 2}, 8},
	{{0, CAPTURE_MAX, POINTS, 1, 1, 60}, 60}, /* around the ring */
	{{0, 160, TRIANGLES, 6, 9, 1}, 6},        /* runs full after the cut */
	{{0, 160, TRIANGLES, 9, 9, 2}, 9},        /* had no room before the cut */
	{{0, 48, POINTS, 3, 3, 2}, 3},            /* full to the last byte */
	{{16, 160, TRIANGLES, 6, 9, 2, .emitted = true}, 9},
	{{0, CAPTURE_MAX, TRIANGLES, 6, 9, 2, .emitted = true, .generated = true}, 12},
	{{0, CAPTURE_MAX, POINTS, 6, 9, 2, .generated = true}, 12},
};

static int test_goes_on(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct capture_case c = cases[i].c;
		static struct handed_over first, second;
		memset(&first, 0, sizeof(first));
		int r = in_child(save, &c, &first, sizeof(first));
		if (r) {
			printf("# case %zu\n", i);
			return r;
		}
		if (first.saved.vertices[0] != cases[i].vertices)
			printf("# case %zu: %llu vertices\n", i,
				(unsigned long long)first.saved.vertices[0]);
		CHECK(first.saved.begun && first.saved.vertices[0] == cases[i].vertices);
		CHECK(first.saved.bytes[0] == cases[i].vertices * VERTEX_BYTES);
		second = first;
		memset(second.end, 0, sizeof(second.end));
		second.load = true;
		CHECK(in_child(go_on, &c, &second, sizeof(second)) == 0);
		if (memcmp(first.end, second.end, CAPTURE_MAX) != 0)
			printf("# case %zu: what was captured differs\n", i);
		CHECK(memcmp(first.end, second.end, CAPTURE_MAX) == 0);
	}
	return 0;
}

/* The guest's own counters lose nothing to ours. */
static int test_guest_counters(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct capture_case c = cases[i].c;
		static struct handed_over h;
		unsigned per = c.primitive == POINTS ? 1 : c.primitive == LINES ? 2 : 3;
		memset(&h, 0, sizeof(h));
		if (!c.emitted && !c.generated)
			continue;
		int r = in_child(save, &c, &h, sizeof(h));
		if (r)
			return r;
		uint64_t all = (uint64_t)(c.before + c.after) / per * c.draws;
		if (c.generated)
			CHECK(h.generated == all);
		if (c.emitted)
			CHECK(h.emitted == MIN(all, c.size / VERTEX_BYTES / per));
	}
	return 0;
}

/* Without what was saved the second part lands on the first: the comparison sees it. */
static int test_without_it(void)
{
	struct capture_case c = cases[0].c;
	static struct handed_over first, second;
	int r = in_child(save, &c, &first, sizeof(first));

	if (r)
		return r;
	second = first;
	CHECK(in_child(go_on, &c, &second, sizeof(second)) == 0);
	CHECK(memcmp(first.end, second.end, CAPTURE_MAX) != 0);
	return 0;
}

static int hostile(struct renderer_under_test *t, void *argument, void *result)
{
	const struct capture_case c = {.size = 160, .primitive = POINTS, .draws = 1};
	struct renderer_streamout saved = {.begun = true};
	struct stream s = {.count = 0};

	CHECK(target_make(t, &c) == 0);
	static const uint64_t bad[] = {164, 161, 1, 1ull << 40, UINT64_MAX, UINT64_MAX - 3};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		saved.bytes[0] = bad[i];
		CHECK(t->ops->streamout_load(t->r, 1, &saved) == -EINVAL);
	}
	saved.bytes[0] = 0;
	PUT(&s, 25, 0, 0);
	CHECK(stream_run(t, 1, &s) == 0);
	CHECK(t->ops->streamout_load(t->r, 1, &saved) == -ENOENT);
	CHECK(t->ops->streamout_save(t->r, 1, &saved) == 0 && !saved.begun);
	return 0;
}

static int test_hostile(void)
{
	int nothing = 0;
	return in_child(hostile, NULL, &nothing, sizeof(nothing));
}

/* ---- two streams ---- */

/* Each point goes once to stream 0 and buffer 0, and twice to stream 1 and buffer 1. */
static const char two_streams[] = "GEOM\n"
				  "PROPERTY GS_INPUT_PRIMITIVE POINTS\n"
				  "PROPERTY GS_OUTPUT_PRIMITIVE POINTS\n"
				  "PROPERTY GS_MAX_OUTPUT_VERTICES 3\n"
				  "PROPERTY GS_INVOCATIONS 1\n"
				  "DCL IN[][0], POSITION\n"
				  "DCL OUT[0], POSITION\n"
				  "DCL OUT[1], GENERIC[0]\n"
				  "IMM[0] UINT32 {0, 1, 0, 0}\n"
				  "IMM[1] FLT32 { 0.5, 0.25, 1.0, 2.0 }\n"
				  "  0: MOV OUT[0], IN[0][0]\n"
				  "  1: EMIT IMM[0].xxxx\n"
				  "  2: MUL OUT[1], IN[0][0], IMM[1].xxxx\n"
				  "  3: EMIT IMM[0].yyyy\n"
				  "  4: ADD OUT[1], IN[0][0], IMM[1]\n"
				  "  5: EMIT IMM[0].yyyy\n"
				  "  6: END\n";

struct two_handed_over {
	struct renderer_streamout saved;
	uint8_t cut[2][CAPTURE_MAX], end[2][CAPTURE_MAX];
	bool load;
};

static int two_make(struct renderer_under_test *t)
{
	const struct capture_case c = {.size = CAPTURE_MAX};
	uint32_t words[300] = {40, 2, sizeof(two_streams), 300, 2, 4, 4};
	struct stream s = {.count = 0};

	CHECK(target_make(t, &c) == 0);
	CHECK(scene_buffer(t, RES_BUFFER, 1u << 11, CAPTURE_MAX) == 0);
	words[9] = 0 | 4u << 10;             /* output 0, four words, buffer 0 */
	words[11] = 1 | 4u << 10 | 1u << 13; /* output 1, four words, buffer 1 */
	words[12] = 1;                       /* stream 1 */
	memcpy(&words[13], two_streams, sizeof(two_streams));
	stream_put(&s, 1, 4, 13 + (sizeof(two_streams) + 3) / 4, words);
	PUT(&s, 31, 0, 40, 2);
	PUT(&s, 1, 10, TARGET + 1, RES_BUFFER, 0, CAPTURE_MAX);
	PUT(&s, 25, 0, 0, TARGET, TARGET + 1);
	CHECK(stream_run(t, 1, &s) == 0);
	return 0;
}

static int two_read(struct renderer_under_test *t, uint8_t bytes[2][CAPTURE_MAX])
{
	CHECK(capture_read(t, bytes[0]) == 0);
	CHECK(t->ops->content_read(t->r, RES_BUFFER, 0, bytes[1], CAPTURE_MAX) == 0);
	return 0;
}

static int two_save(struct renderer_under_test *t, void *argument, void *result)
{
	const struct capture_case c = {.primitive = POINTS, .draws = 2};
	struct two_handed_over *h = result;

	CHECK(two_make(t) == 0 && capture_draw(t, &c, 3, 5) == 0 && two_read(t, h->cut) == 0);
	CHECK(t->ops->streamout_save(t->r, 1, &h->saved) == 0);
	CHECK(capture_draw(t, &c, 9, 4) == 0 && two_read(t, h->end) == 0);
	return 0;
}

static int two_go_on(struct renderer_under_test *t, void *argument, void *result)
{
	const struct capture_case c = {.primitive = POINTS, .draws = 2};
	struct two_handed_over *h = result;

	CHECK(two_make(t) == 0);
	CHECK(t->ops->content_write(t->r, RES_CAPTURE, 0, h->cut[0], CAPTURE_MAX) == 0);
	CHECK(t->ops->content_write(t->r, RES_BUFFER, 0, h->cut[1], CAPTURE_MAX) == 0);
	if (h->load)
		CHECK(t->ops->streamout_load(t->r, 1, &h->saved) == 0);
	CHECK(capture_draw(t, &c, 9, 4) == 0 && two_read(t, h->end) == 0);
	return 0;
}

static int test_two_streams(void)
{
	static struct two_handed_over first, second;
	int r = in_child(two_save, NULL, &first, sizeof(first));

	if (r)
		return r;
	CHECK(first.saved.vertices[0] == 10 && first.saved.vertices[1] == 20);
	CHECK(first.saved.bytes[0] == 10 * VERTEX_BYTES &&
		first.saved.bytes[1] == 20 * VERTEX_BYTES);
	second = first;
	second.load = true;
	CHECK(in_child(two_go_on, NULL, &second, sizeof(second)) == 0);
	CHECK(memcmp(first.end, second.end, sizeof(first.end)) == 0);
	second.load = false;
	CHECK(in_child(two_go_on, NULL, &second, sizeof(second)) == 0);
	CHECK(memcmp(first.end, second.end, sizeof(first.end)) != 0);
	return 0;
}

int main(void)
{
	static const struct test tests[] = {
		{"a paused capture goes on elsewhere", test_goes_on},
		{"the guest's own counters count", test_guest_counters},
		{"without what was saved it differs", test_without_it},
		{"what cannot be is refused", test_hostile},
		{"two streams go on, each in its buffer", test_two_streams},
	};
	return tests_run(tests, ARRAY_SIZE(tests));
}
