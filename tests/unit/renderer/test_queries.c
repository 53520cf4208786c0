/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include "base/checked.h"

#define ALL (SCENE_SIDE * SCENE_SIDE)

enum { COUNTER = 20, OTHER, CONDITION };

/* What goes from one process to the next. */
struct handed_over {
	struct renderer_query saved;
	uint32_t type;
	bool load, draw;
	uint64_t result;
};

static int first_id(struct renderer_under_test *t, uint32_t *ret_id)
{
	uint32_t ids[8];

	CHECK(t->ops->queries_made(t->r, ids, 8) == 1);
	CHECK(t->ops->queries_made(t->r, ids + 1, 7) == 0);
	*ret_id = ids[0];
	return 0;
}

static int begin(struct renderer_under_test *t, uint32_t type, uint32_t *ret_id)
{
	struct stream s = {.count = 0};

	CHECK(scene_make(t) == 0);
	query_make(&s, COUNTER, type);
	query_begin(&s, COUNTER);
	CHECK(stream_run(t, 1, &s) == 0);
	return first_id(t, ret_id);
}

/* Draws, saves, draws on here and asks. */
static int save_active(struct renderer_under_test *t, void *argument, void *result)
{
	struct handed_over *h = result;
	struct stream s = {.count = 0};
	uint32_t id;

	if (begin(t, h->type, &id))
		return 1;
	if (h->draw)
		scene_draw(&s, 0, 3, 4);
	CHECK(stream_run(t, 1, &s) == 0);
	t->ops->finish(t->r);
	CHECK(t->ops->query_save(t->r, id, &h->saved) == 0);
	CHECK(h->saved.state == RENDERER_QUERY_ACTIVE);
	scene_draw(&s, 0, 3, 4);
	query_end(&s, COUNTER);
	h->result = query_answer(t, &s, COUNTER);
	return 0;
}

/* Goes on with what was saved, draws and asks. */
static int go_on(struct renderer_under_test *t, void *argument, void *result)
{
	struct handed_over *h = result;
	struct stream s = {.count = 0};
	uint32_t id;

	if (begin(t, h->type, &id))
		return 1;
	if (h->load)
		CHECK(t->ops->query_load(t->r, id, &h->saved) == 0);
	if (h->draw)
		scene_draw(&s, 0, 3, 4);
	query_end(&s, COUNTER);
	h->result = query_answer(t, &s, COUNTER);
	return 0;
}

static int test_counter_goes_on(void)
{
	struct handed_over h = {.type = QUERY_SAMPLES, .draw = true, .load = true};
	int r = in_child(save_active, NULL, &h, sizeof(h));

	if (r)
		return r;
	CHECK(h.saved.value == ALL && h.result == 2 * ALL);
	CHECK(in_child(go_on, NULL, &h, sizeof(h)) == 0);
	CHECK(h.result == 2 * ALL);
	h.load = false;
	CHECK(in_child(go_on, NULL, &h, sizeof(h)) == 0);
	CHECK(h.result == ALL);
	return 0;
}

static int test_predicate_goes_on(void)
{
	struct handed_over h = {.type = QUERY_ANY, .draw = true, .load = true};
	int r = in_child(save_active, NULL, &h, sizeof(h));

	if (r)
		return r;
	CHECK(h.saved.value == 1 && h.result == 1);
	h.draw = false;
	CHECK(in_child(go_on, NULL, &h, sizeof(h)) == 0);
	CHECK(h.result == 1);
	h.load = false;
	CHECK(in_child(go_on, NULL, &h, sizeof(h)) == 0);
	CHECK(h.result == 0);
	h = (struct handed_over){.type = QUERY_ANY, .load = true};
	CHECK(in_child(save_active, NULL, &h, sizeof(h)) == 0);
	CHECK(h.saved.value == 0 && h.result == 1);
	return 0;
}

/* An ended query as it comes from elsewhere: answered, decides, and can be begun again. */
static int ended(struct renderer_under_test *t, void *argument, void *result)
{
	const struct renderer_query saved = {RENDERER_QUERY_ENDED, *(const uint64_t *)argument};
	struct renderer_query again;
	struct stream s = {.count = 0};
	uint32_t id;

	CHECK(scene_make(t) == 0);
	query_make(&s, COUNTER, QUERY_SAMPLES);
	CHECK(stream_run(t, 1, &s) == 0);
	CHECK(first_id(t, &id) == 0);
	CHECK(t->ops->query_save(t->r, id, &again) == 0);
	CHECK(again.state == RENDERER_QUERY_UNUSED);
	CHECK(t->ops->query_load(t->r, id + 1, &saved) < 0);
	CHECK(t->ops->query_load(t->r, id, &saved) == 0);
	CHECK(t->ops->query_save(t->r, id, &again) == 0);
	CHECK(again.state == RENDERER_QUERY_ENDED && again.value == saved.value);
	for (uint32_t inverted = 0; inverted < 2; inverted++) {
		scene_clear(&s);
		PUT(&s, 26, 0, COUNTER, inverted, 0);
		scene_draw(&s, 0, 3, 4);
		PUT(&s, 26, 0, 0, 0, 0);
		CHECK(stream_run(t, 1, &s) == 0);
		CHECK(scene_pixels(t) == ((saved.value != 0) != inverted ? ALL : 0));
		scene_draw(&s, 0, 3, 4);
		CHECK(stream_run(t, 1, &s) == 0);
		CHECK(scene_pixels(t) == ALL);
	}
	CHECK(query_answer(t, &s, COUNTER) == saved.value);
	query_begin(&s, COUNTER);
	scene_draw(&s, 0, 3, 4);
	query_end(&s, COUNTER);
	CHECK(query_answer(t, &s, COUNTER) == ALL);
	return 0;
}

static int test_ended_answers_and_decides(void)
{
	static uint64_t values[] = {1234, 0};
	int nothing = 0;

	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		int r = in_child(ended, &values[i], &nothing, sizeof(nothing));
		if (r)
			return r;
	}
	return 0;
}

/* A condition that holds nothing back must not take a counting query's samples away. */
static int condition_while_counting(struct renderer_under_test *t, void *argument, void *result)
{
	const struct renderer_query saved = {RENDERER_QUERY_ENDED, 0};
	struct stream s = {.count = 0};
	uint32_t ids[2];

	CHECK(scene_make(t) == 0);
	query_make(&s, CONDITION, QUERY_SAMPLES);
	query_make(&s, COUNTER, QUERY_SAMPLES);
	query_begin(&s, COUNTER);
	scene_draw(&s, 0, 3, 4);
	CHECK(stream_run(t, 1, &s) == 0);
	CHECK(t->ops->queries_made(t->r, ids, 1) == 1);
	CHECK(t->ops->queries_made(t->r, ids + 1, 1) == 1);
	CHECK(t->ops->query_load(t->r, ids[0], &saved) == 0);
	PUT(&s, 26, 0, CONDITION, 0, 0);
	scene_draw(&s, 0, 3, 4);
	PUT(&s, 26, 0, 0, 0, 0);
	scene_draw(&s, 0, 3, 4);
	query_end(&s, COUNTER);
	CHECK(query_answer(t, &s, COUNTER) == 2 * ALL);
	return 0;
}

static int test_condition_while_counting(void)
{
	int nothing = 0;
	return in_child(condition_while_counting, NULL, &nothing, sizeof(nothing));
}

/* Into a buffer, on the way of a driver that has a part in it, and without one. */
static int into_buffer(struct renderer_under_test *t, void *argument, void *result)
{
	const struct renderer_query active = {RENDERER_QUERY_ACTIVE, 1000},
				    done = {RENDERER_QUERY_ENDED, 1ull << 33};
	struct stream s = {.count = 0};
	uint32_t id, words[8];
	uint32_t ids[1];

	CHECK(begin(t, QUERY_SAMPLES, &id) == 0);
	CHECK(scene_buffer(t, RES_BUFFER, 1u << 15, sizeof(words)) == 0);
	CHECK(t->ops->query_load(t->r, id, &active) == 0);
	scene_draw(&s, 0, 3, 4);
	query_end(&s, COUNTER);
	query_make(&s, OTHER, QUERY_SAMPLES);
	CHECK(stream_run(t, 1, &s) == 0);
	CHECK(t->ops->queries_made(t->r, ids, 1) == 1);
	CHECK(t->ops->query_load(t->r, ids[0], &done) == 0);
	PUT(&s, 42, 0, COUNTER, RES_BUFFER, 1, 1, 4, 0);
	PUT(&s, 42, 0, OTHER, RES_BUFFER, 1, 1, 8, 0);
	PUT(&s, 42, 0, OTHER, RES_BUFFER, 1, 3, 16, 0);
	PUT(&s, 42, 0, OTHER, RES_BUFFER, 0, 1, 24, (uint32_t)-1);
	CHECK(stream_run(t, 1, &s) == 0);
	t->ops->finish(t->r);
	CHECK(t->ops->content_read(t->r, RES_BUFFER, 0, words, sizeof(words)) == 0);
	CHECK(words[1] == 1000 + ALL && words[2] == UINT32_MAX);
	CHECK(words[4] == 0 && words[5] == 2 && words[6] == 1);
	return 0;
}

static int test_into_buffer(void)
{
	int nothing = 0;
	return in_child(into_buffer, NULL, &nothing, sizeof(nothing));
}

/* Two contexts have queries of the same name in the driver; each is itself here. */
static int two_contexts(struct renderer_under_test *t, void *argument, void *result)
{
	struct renderer_query saved;
	struct stream s = {.count = 0};
	uint32_t id, other;

	CHECK(begin(t, QUERY_SAMPLES, &id) == 0);
	scene_draw(&s, 0, 3, 4);
	CHECK(stream_run(t, 1, &s) == 0);
	CHECK(t->ops->context_create(t->r, 2, "other") == 0);
	CHECK(scene_buffer(t, RES_BUFFER, 1u << 17, 16) == 0);
	t->ops->context_attach(t->r, 2, RES_BUFFER);
	PUT(&s, 1, 9, COUNTER, QUERY_SAMPLES, 0, RES_BUFFER);
	query_begin(&s, COUNTER);
	CHECK(stream_run(t, 2, &s) == 0);
	CHECK(first_id(t, &other) == 0);
	CHECK(other != id);
	CHECK(t->ops->query_save(t->r, id, &saved) == 0 && saved.value == ALL);
	CHECK(t->ops->query_save(t->r, other, &saved) == 0 && saved.value == 0);
	scene_draw(&s, 0, 3, 4);
	query_end(&s, COUNTER);
	CHECK(query_answer(t, &s, COUNTER) == 2 * ALL);
	t->ops->context_destroy(t->r, 2);
	CHECK(t->ops->query_save(t->r, other, &saved) < 0);
	return 0;
}

static int test_two_contexts(void)
{
	int nothing = 0;
	return in_child(two_contexts, NULL, &nothing, sizeof(nothing));
}

int main(void)
{
	static const struct test tests[] = {
		{"a counter goes on elsewhere", test_counter_goes_on},
		{"a predicate goes on elsewhere", test_predicate_goes_on},
		{"an ended query answers and decides", test_ended_answers_and_decides},
		{"a condition leaves counters alone", test_condition_while_counting},
		{"results into a buffer", test_into_buffer},
		{"two contexts", test_two_contexts},
	};
	return tests_run(tests, ARRAY_SIZE(tests));
}
