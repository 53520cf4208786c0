/* SPDX-License-Identifier: Apache-2.0 */
/* Saving objects: order, handles that are gone, long shaders, sub-contexts, queries, limits. */
#include "save_support.h"

#include "base/checked.h"

#include <errno.h>
#include <stdlib.h>

#define STREAM        (((struct save_fixture *)*state)->stream)
#define DEVICE        (((struct save_fixture *)*state)->device)
#define ID(handle)    DEVICE->handles[handle]
#define DO(...)       RUN(STREAM, __VA_ARGS__)
#define OBJECTS(...)  EXPECT_OBJECTS(STREAM, __VA_ARGS__)
#define BINDINGS(...) EXPECT_BINDINGS(STREAM, DEVICE, __VA_ARGS__)

#define BLEND(h)      CREATE(BLEND, h, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)
#define VIEW(h, res)  CREATE(SAMPLER_VIEW, h, res, 1, 2, 3, 4)
#define SHADER(h, st) CREATE(SHADER, h, st, 8, 10, 0, 0xaa, 0)
#define PART1(h, st)  CREATE(SHADER, h, st, 12, 10, 0, 0xaa)
#define PART2(h, st)  CREATE(SHADER, h, st, 4 | VIRGL_SHADER_CONTINUES, 10, 0, 0xbb)
#define PART3(h, st)  CREATE(SHADER, h, st, 8 | VIRGL_SHADER_CONTINUES, 10, 0, 0)
#define QUERY(h, t)   CREATE(QUERY, h, t, 0, 3)
#define TARGET(h, r)  CREATE(STREAMOUT_TARGET, h, r, 0, 64)

/* Shaders first, else by handle, whatever the order they were made in. */
static void test_every_type_in_order(void **state)
{
	DO(CREATE(MSAA_SURFACE, 12, 1, 2, 3, 4, 4), TARGET(11, 2), QUERY(10, 1),
		CREATE(SURFACE, 9, 4, 5, 6, 7), CREATE(SAMPLER_STATE, 8, 1, 2, 3, 4, 5, 6, 7, 8),
		VIEW(7, 5), SHADER(6, 0),
		CREATE(VERTEX_ELEMENTS, 5, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16),
		CREATE(DSA, 4, 1, 2, 3, 4), CREATE(RASTERIZER, 3, 1, 2, 3, 4, 5, 6, 7, 8),
		BLEND(2));
	OBJECTS(SHADER(6, 0), BLEND(2), CREATE(RASTERIZER, 3, 1, 2, 3, 4, 5, 6, 7, 8),
		CREATE(DSA, 4, 1, 2, 3, 4),
		CREATE(VERTEX_ELEMENTS, 5, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16),
		VIEW(7, ID(5)), CREATE(SAMPLER_STATE, 8, 1, 2, 3, 4, 5, 6, 7, 8),
		CREATE(SURFACE, 9, ID(4), 5, 6, 7), CREATE(QUERY, 10, 1, 0, ID(3)),
		TARGET(11, ID(2)), CREATE(MSAA_SURFACE, 12, ID(1), 2, 3, 4, 4));
	assert_reloads(STREAM, DEVICE);
}

/* A view keeps naming what it was made for when the handle is another resource's. */
static void test_resources_by_generation(void **state)
{
	uint32_t old = ID(5);

	DO(VIEW(1, 5), CMD(SET_VERTEX_BUFFERS, 0, 1, 2, 5));
	fake_reuse(DEVICE, 5);
	assert_int_not_equal(old, ID(5));
	DO(VIEW(2, 5));
	OBJECTS(VIEW(1, old), VIEW(2, ID(5)));
	BINDINGS(CMD(SET_VERTEX_BUFFERS, 0, 1, 2, old));
	assert_int_equal(DEVICE->resources[old]->refs, 2);
	DO(DESTROY(1), CMD(SET_VERTEX_BUFFERS, 0, 1, 2, 5));
	assert_int_equal(DEVICE->resources[old]->refs, 0);
}

static void test_bound_without_handle(void **state)
{
	DO(BLEND(1), VIEW(2, 1), SHADER(3, 0), CMD(BIND_OBJECT, 1, 1),
		CMD(SET_SAMPLER_VIEWS, 0, 1, 0, 2), CMD(SET_SAMPLER_VIEWS, 0, 0, 0, 2),
		CMD(BIND_SHADER, 0, 3, 0));
	DO(DESTROY(1), DESTROY(2), DESTROY(3));
	/* Somebody has one of the handles that would have been taken. */
	DO(BLEND(~0u - 1));
	OBJECTS(SHADER(~0u - 2, 0), BLEND(~0u - 1), BLEND(~0u), VIEW(~0u - 3, ID(1)));
	BINDINGS(CMD(BIND_OBJECT, 1, ~0u), CMD(BIND_SHADER, 0, ~0u - 2, 0),
		CMD(SET_SAMPLER_VIEWS, 0, 0, 0, ~0u - 3), CMD(SET_SAMPLER_VIEWS, 0, 1, 0, ~0u - 3),
		CMD(DESTROY_OBJECT, 1, ~0u), CMD(DESTROY_OBJECT, 4, ~0u - 2),
		CMD(DESTROY_OBJECT, 6, ~0u - 3));
	DO(CMD(SET_SAMPLER_VIEWS, 0, 0, 0), CMD(SET_SAMPLER_VIEWS, 0, 1, 0), CMD(BIND_OBJECT, 1, 0),
		CMD(BIND_SHADER, 0, 0, 0));
	OBJECTS(BLEND(~0u - 1));
	assert_int_equal(fake_resource(DEVICE, 1)->refs, 0);
}

static void test_long_shaders(void **state)
{
	struct save_fixture *f = *state;

	DO(PART1(5, 0), PART2(5, 0), PART3(5, 0), PART1(4, 0), BLEND(6), SHADER(7, 1));
	OBJECTS(PART1(5, 0), PART2(5, 0), PART3(5, 0), SHADER(7, 1), BLEND(6), PART1(4, 0));
	/* The other stream goes on with it. */
	struct fake_view view = {f->device, false};
	struct stream *other = reload(f->stream, &view);
	REFUSED(other, -EINVAL, SHADER(8, 0));
	REFUSED(other, -EINVAL, PART3(4, 0));
	RUN(other, PART2(4, 0));
	stream_destroy(reload(other, &view));
	RUN(other, PART3(4, 0), SHADER(8, 0));
	stream_destroy(reload(other, &view));
	stream_destroy(other);
}

/* Destroyed while its text was coming: the library takes no other of that stage ever after. */
static void test_long_shaders_that_are_lost(void **state)
{
	struct save_fixture *f = *state;
	struct fake_view view = {f->device, false};

	DO(SHADER(1, 0), PART1(2, 0), DESTROY(2), PART1(3, 1), SHADER(3, 2), PART1(4, 3),
		PART1(4, 4));
	struct stream *other = reload(f->stream, &view);
	for (struct stream *s = f->stream; s; s = s == other ? NULL : other) {
		REFUSED(s, -EINVAL, SHADER(9, 0));
		REFUSED(s, -EINVAL, PART2(2, 0));
		REFUSED(s, -EINVAL, SHADER(9, 1));
		REFUSED(s, -EINVAL, PART2(3, 1));
		REFUSED(s, -EINVAL, SHADER(9, 3));
		REFUSED(s, -EINVAL, PART2(4, 3));
		RUN(s, SHADER(9, 2), SHADER(9, 5), PART2(4, 4), PART3(4, 4), SHADER(10, 4));
	}
	assert_int_equal(stream_counters(other)->objects, stream_counters(f->stream)->objects);
	stream_destroy(reload(other, &view));
	stream_destroy(other);
}

/* A stream that watches for clip planes stops while loading like for a guest. */
static void test_clip_planes_while_loading(void **state)
{
	struct save_fixture *f = *state;
	struct stream *other = fake_stream(&f->view);
	struct saved a, b, again;

	DO(SHADER(1, 0), PART1(2, 0), CREATE(RASTERIZER, 3, 0, 0, 0, 1u << 24, 0, 0, 0, 0),
		CMD(BIND_OBJECT, 2, 3), CMD(BIND_SHADER, 0, 1, 0), DESTROY(1));
	save_objects(f->stream, &a);
	save_bindings(f->stream, &b);
	stream_watch_clip_planes(other, true);
	uint32_t copy[64];
	memcpy(copy, a.dw, a.n * sizeof(*copy));
	assert_int_equal(stream_check(other, copy, a.n, NULL), -ERESTART);
	stream_destroy(other);
	other = fake_stream(&f->view);
	stream_watch_clip_planes(other, true);
	f->view.by_id = true;
	load(other, &a);
	load(other, &b);
	f->view.by_id = false;
	save_objects(other, &again);
	assert_same(&a, &again);
	saved_free(&again);
	save_bindings(other, &again);
	assert_same(&b, &again);
	saved_free(&again);
	saved_free(&a);
	saved_free(&b);
	RUN(other, PART2(2, 0), PART3(2, 0));
	stream_destroy(other);
}

static void test_sub_contexts(void **state)
{
	struct save_fixture *f = *state;
	struct saved saved;

	DO(CMD(CREATE_SUB_CTX, 0, 7), BLEND(1), CMD(BIND_OBJECT, 1, 1), CMD(CREATE_SUB_CTX, 0, 3),
		VIEW(1, 1), CMD(SET_SUB_CTX, 0, 7), CMD(SET_STENCIL_REF, 0, 5));
	save_objects(f->stream, &saved);
	const uint32_t a[] = {CMD(SET_SUB_CTX, 0, 0), CMD(CREATE_SUB_CTX, 0, 3), VIEW(1, ID(1)),
		CMD(CREATE_SUB_CTX, 0, 7), BLEND(1)};
	assert_same(&saved, &(struct saved){.dw = (uint32_t *)a, .n = ARRAY_SIZE(a)});
	saved_free(&saved);
	save_bindings(f->stream, &saved);
	const uint32_t b[] = {CMD(SET_SUB_CTX, 0, 0), CMD(SET_SUB_CTX, 0, 3),
		CMD(SET_SUB_CTX, 0, 7), CMD(BIND_OBJECT, 1, 1), CMD(SET_STENCIL_REF, 0, 5),
		CMD(SET_SUB_CTX, 0, 7)};
	assert_same(&saved, &(struct saved){.dw = (uint32_t *)b, .n = ARRAY_SIZE(b)});
	saved_free(&saved);
	assert_reloads(f->stream, f->device);

	DO(CMD(DESTROY_SUB_CTX, 0, 7));
	save_bindings(f->stream, &saved);
	const uint32_t c[] = {
		CMD(SET_SUB_CTX, 0, 0), CMD(SET_SUB_CTX, 0, 3), CMD(SET_SUB_CTX, 0, 0)};
	assert_same(&saved, &(struct saved){.dw = (uint32_t *)c, .n = ARRAY_SIZE(c)});
	saved_free(&saved);
	assert_reloads(f->stream, f->device);
}

struct query_seen {
	uint32_t sub_ctx, handle, type, host_id;
	bool active;
};

struct queries_seen {
	struct query_seen query[16];
	unsigned n;
};

static void see_query(
	void *data, uint32_t sub_ctx, uint32_t handle, uint32_t type, bool active, uint32_t host_id)
{
	struct queries_seen *seen = data;
	seen->query[seen->n++] = (struct query_seen){sub_ctx, handle, type, host_id, active};
}

static void test_queries_get_names(void **state)
{
	struct save_fixture *f = *state;
	const uint32_t ids[] = {71, 72, 73, 74, 75};
	struct queries_seen seen = {0};

	DO(QUERY(9, 0), QUERY(5, 1 << 16 | 6), CMD(BEGIN_QUERY, 0, 5), CMD(CREATE_SUB_CTX, 0, 4),
		QUERY(7, 2), QUERY(7, 1), CMD(SET_SUB_CTX, 0, 0), DESTROY(9), QUERY(9, 3));
	assert_int_equal(stream_queries_unnamed(f->stream), 5);
	assert_int_equal(stream_name_queries(f->stream, ids, 6), -EINVAL);
	assert_int_equal(stream_name_queries(f->stream, ids, 2), 0);
	assert_int_equal(stream_queries_unnamed(f->stream), 3);
	assert_int_equal(stream_name_queries(f->stream, ids + 2, 3), 0);
	assert_int_equal(stream_queries_unnamed(f->stream), 0);
	assert_int_equal(stream_each_query(f->stream, see_query, &seen), 0);
	const struct query_seen expected[] = {
		{0, 5, 6, 72, true}, {0, 9, 3, 75, false}, {4, 7, 1, 74, false}};
	assert_int_equal(seen.n, 3);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(seen.query[i].sub_ctx, expected[i].sub_ctx);
		assert_int_equal(seen.query[i].handle, expected[i].handle);
		assert_int_equal(seen.query[i].type, expected[i].type);
		assert_int_equal(seen.query[i].active, expected[i].active);
		assert_int_equal(seen.query[i].host_id, expected[i].host_id);
	}
	/* Loaded, they are unnamed in that order. */
	struct fake_view view = {f->device, false};
	struct stream *other = reload(f->stream, &view);
	assert_int_equal(stream_queries_unnamed(other), 3);
	assert_int_equal(stream_name_queries(other, ids, 3), 0);
	seen.n = 0;
	assert_int_equal(stream_each_query(other, see_query, &seen), 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(seen.query[i].handle, expected[i].handle);
		assert_int_equal(seen.query[i].host_id, ids[i]);
	}
	/* One in place of another starts over. */
	RUN(other, QUERY(5, 0));
	assert_int_equal(stream_queries_unnamed(other), 1);
	seen.n = 0;
	assert_int_equal(stream_each_query(other, see_query, &seen), 0);
	assert_int_equal(seen.query[0].host_id, 0);
	assert_false(seen.query[0].active);
	stream_destroy(other);
}

struct walked {
	struct saved saved;
	unsigned visits, fail_at;
	size_t at[8]; /* dwords emitted when visited */
};

static int visit(void *data, uint32_t index)
{
	struct walked *walked = data;
	assert_int_equal(index, walked->visits);
	walked->at[walked->visits++] = walked->saved.n;
	return walked->visits == walked->fail_at ? -EBADF : 0;
}

static void test_walking_streamout_lists(void **state)
{
	struct save_fixture *f = *state;
	struct walked w = {0};

	assert_int_equal(stream_walk_streamout(f->stream, saved_emit, &w.saved, visit, &w), 0);
	assert_int_equal(w.visits, 0);
	assert_int_equal(w.saved.n, 0);
	DO(TARGET(1, 1), TARGET(2, 2), CMD(SET_STREAMOUT_TARGETS, 0, 0, 2),
		CMD(SET_STREAMOUT_TARGETS, 0, 3, 1, 2), CMD(SET_STREAMOUT_TARGETS, 0, 0),
		CMD(CREATE_SUB_CTX, 0, 6), TARGET(1, 1), CMD(SET_STREAMOUT_TARGETS, 0, 0, 1),
		CMD(CREATE_SUB_CTX, 0, 2));
	const uint32_t expected[] = {CMD(SET_SUB_CTX, 0, 0), CMD(SET_STREAMOUT_TARGETS, 0, 0, 2),
		CMD(SET_SUB_CTX, 0, 0), CMD(SET_STREAMOUT_TARGETS, 0, 3, 1, 2),
		CMD(SET_SUB_CTX, 0, 6), CMD(SET_STREAMOUT_TARGETS, 0, 0, 1), CMD(SET_SUB_CTX, 0, 0),
		CMD(SET_STREAMOUT_TARGETS, 0, 0), CMD(SET_SUB_CTX, 0, 6),
		CMD(SET_STREAMOUT_TARGETS, 0, 0, 1), CMD(SET_SUB_CTX, 0, 2)};
	assert_int_equal(stream_walk_streamout(f->stream, saved_emit, &w.saved, visit, &w), 0);
	assert_same(
		&w.saved, &(struct saved){.dw = (uint32_t *)expected, .n = ARRAY_SIZE(expected)});
	assert_int_equal(w.visits, 3);
	assert_int_equal(w.saved.buffers, 4);
	assert_int_equal(w.at[0], 5);
	assert_int_equal(w.at[1], 11);
	assert_int_equal(w.at[2], 16);
	saved_free(&w.saved);

	/* After an error what was selected is selected again all the same. */
	w = (struct walked){.fail_at = 2};
	assert_int_equal(stream_walk_streamout(f->stream, saved_emit, &w.saved, visit, &w), -EBADF);
	assert_int_equal(w.visits, 2);
	assert_int_equal(w.saved.n, 11 + 11);
	assert_memory_equal(w.saved.dw + 11, expected + 16, 11 * sizeof(*expected));
	saved_free(&w.saved);
}

static void test_every_resource(void **state)
{
	struct save_fixture *f = *state;

	DO(VIEW(1, 1), TARGET(2, 2), CMD(SET_SAMPLER_VIEWS, 0, 0, 0, 1), DESTROY(1),
		CMD(SET_VERTEX_BUFFERS, 0, 0, 0, 3), CMD(SET_INDEX_BUFFER, 0, 4, 1, 1),
		CMD(SET_UNIFORM_BUFFER, 0, 2, 31, 0, 0, 5),
		CMD(SET_SHADER_BUFFERS, 0, 3, 31, 0, 0, 6),
		CMD(SET_SHADER_IMAGES, 0, 4, 31, 1, 2, 3, 4, 7),
		CMD(SET_ATOMIC_BUFFERS, 0, 31, 0, 0, 8), CMD(CREATE_SUB_CTX, 0, 1), QUERY(3, 0),
		CREATE(SURFACE, 4, 9, 0, 0, 0), CMD(SET_FRAMEBUFFER_STATE, 0, 1, 4, 4), DESTROY(4));
	for (uint32_t handle = 1; handle < FAKE_HANDLES; handle++)
		assert_int_equal(fake_resource(f->device, handle)->refs > 0, handle <= 9);
	assert_reloads(f->stream, f->device);
	DO(CMD(DESTROY_SUB_CTX, 0, 1));
	assert_int_equal(fake_resource(f->device, 9)->refs, 0);
	assert_int_equal(fake_resource(f->device, 3)->refs, 1);
}

/* Buffers are bounded, and a command as long as commands get fits into one. */
static void test_buffers(void **state)
{
	struct save_fixture *f = *state;
	struct saved saved;
	uint32_t *dw = calloc(65536, sizeof(*dw));

	assert_non_null(dw);
	DO(CMD(SET_STENCIL_REF, 0, 1));
	for (uint32_t stage = 0; stage < 3; stage++) {
		dw[0] = VIRGL_HEADER(VIRGL_SET_CONSTANT_BUFFER, 0, 65535);
		dw[1] = stage;
		dw[65535] = 77 + stage;
		assert_int_equal(run_dwords(f->stream, dw, 65536), 0);
	}
	free(dw);
	save_bindings(f->stream, &saved);
	assert_int_equal(saved.longest, 65536);
	assert_int_equal(saved.buffers, 5);
	saved_free(&saved);
	assert_reloads(f->stream, f->device);
}

static void test_errors_of_emitting(void **state)
{
	struct save_fixture *f = *state;
	struct saved failing = {.fail_at = 1};

	DO(VIEW(1, 1));
	assert_int_equal(stream_save_objects(f->stream, saved_emit, &failing), -EIO);
	failing.buffers = 0;
	assert_int_equal(stream_save_bindings(f->stream, saved_emit, &failing), -EIO);
	assert_int_equal(failing.buffers, 1);
}

static void test_what_is_kept_is_limited(void **state)
{
	struct stream_limits limits = test_limits;
	struct save_fixture *f = *state;
	struct stream *stream;

	limits.max_object_bytes = 256;
	assert_int_equal(stream_create(&limits, NULL, &fake_ops, &f->view, &stream), 0);
	uint32_t constants[66] = {VIRGL_HEADER(VIRGL_SET_CONSTANT_BUFFER, 0, 65)};
	assert_int_equal(run_dwords(stream, constants, 66), 0);
	assert_int_equal(stream_counters(stream)->kept_bytes, 252);
	assert_int_equal(run_dwords(stream, constants, 66), 0);
	assert_int_equal(stream_counters(stream)->kept_bytes, 252);
	constants[1] = 1;
	assert_int_equal(run_dwords(stream, constants, 66), -ENOSPC);
	stream_destroy(stream);

	/* Lists of stream-output targets are few. */
	DO(TARGET(1, 1), TARGET(2, 2));
	for (uint32_t i = 0; i < 1024; i++) {
		uint32_t list[13] = {VIRGL_HEADER(VIRGL_SET_STREAMOUT_TARGETS, 0, 12), 0};
		for (uint32_t bit = 0; bit < 11; bit++)
			list[2 + bit] = 1 + (i >> bit & 1);
		assert_int_equal(run_dwords(f->stream, list, 13), 0);
	}
	REFUSED(f->stream, -ENOSPC, CMD(SET_STREAMOUT_TARGETS, 0, 0, 1));
	assert_reloads(f->stream, f->device);
	DO(DESTROY(2));
	RUN(f->stream, CMD(SET_STREAMOUT_TARGETS, 0, 0, 1));
	assert_reloads(f->stream, f->device);
}

static void test_full_contexts(void **state)
{
	struct stream_limits limits = test_limits;
	struct save_fixture *f = *state;
	struct stream *stream;
	char why[100] = "";

	limits.max_objects = 2;
	assert_int_equal(stream_create(&limits, NULL, &fake_ops, &f->view, &stream), 0);
	RUN(stream, SHADER(1, 0), PART1(2, 0));
	assert_true(stream_saveable(stream, why, sizeof(why)));
	RUN(stream, DESTROY(2), SHADER(2, 1));
	assert_false(stream_saveable(stream, why, sizeof(why)));
	assert_string_not_equal(why, "");
	RUN(stream, DESTROY(2));
	assert_true(stream_saveable(stream, why, sizeof(why)));
	stream_destroy(stream);
}

/* Everything is given back: to the budget, and every reference to a resource. */
static void test_budgets_balance(void **state)
{
	struct stream_budget budget = {
		.max_sub_contexts = 2, .max_bytes = 4096, .max_total = 1 << 20, .epoch = 1};
	struct save_fixture *f = *state;
	struct stream *stream;

	assert_int_equal(stream_create(&test_limits, &budget, &fake_ops, &f->view, &stream), 0);
	RUN(stream, SHADER(1, 0), CMD(BIND_SHADER, 0, 1, 0), DESTROY(1),
		CMD(SET_CONSTANT_BUFFER, 0, 0, 0, 1, 2), TARGET(3, 3),
		CMD(SET_STREAMOUT_TARGETS, 0, 0, 3), CMD(CREATE_SUB_CTX, 0, 1), PART1(5, 0),
		VIEW(6, 6), CMD(SET_SAMPLER_VIEWS, 0, 0, 0, 6), DESTROY(6));
	assert_int_equal(budget.bytes,
		stream_counters(stream)->object_bytes + stream_counters(stream)->kept_bytes);
	unsigned before = f->device->released;
	stream_destroy(stream);
	assert_int_equal(budget.bytes, 0);
	assert_int_equal(budget.sub_contexts, 0);
	assert_int_equal(stream_budget_total(&budget), 0);
	assert_int_equal(f->device->released, before + 2);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, save_setup, save_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_every_type_in_order),
		TEST(test_resources_by_generation),
		TEST(test_bound_without_handle),
		TEST(test_long_shaders),
		TEST(test_long_shaders_that_are_lost),
		TEST(test_clip_planes_while_loading),
		TEST(test_sub_contexts),
		TEST(test_queries_get_names),
		TEST(test_walking_streamout_lists),
		TEST(test_every_resource),
		TEST(test_buffers),
		TEST(test_errors_of_emitting),
		TEST(test_what_is_kept_is_limited),
		TEST(test_full_contexts),
		TEST(test_budgets_balance),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
