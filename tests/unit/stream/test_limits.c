/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include "base/checked.h"

#include <errno.h>

static void test_sub_contexts_are_limited(void **state)
{
	struct stream_limits limits = test_limits;
	limits.max_sub_contexts = 2;
	struct stream *stream = new_stream(&limits);

	assert_int_equal(CHECK(stream, VIRGL_CREATE_SUB_CTX, 0, 1), 0);
	assert_int_equal(CHECK(stream, VIRGL_CREATE_SUB_CTX, 0, 2), 0);
	assert_int_equal(CHECK(stream, VIRGL_CREATE_SUB_CTX, 0, 3), -ENOSPC);
	assert_int_equal(CHECK(stream, VIRGL_CREATE_SUB_CTX, 0, 2), 0);
	assert_int_equal(CHECK(stream, VIRGL_DESTROY_SUB_CTX, 0, 1), 0);
	assert_int_equal(CHECK(stream, VIRGL_CREATE_SUB_CTX, 0, 3), 0);
	stream_destroy(stream);

	limits.max_sub_contexts = 0;
	stream = new_stream(&limits);
	assert_int_equal(CHECK(stream, VIRGL_CREATE_SUB_CTX, 0, 1), -ENOSPC);
	assert_int_equal(CHECK(stream, VIRGL_CREATE_SUB_CTX, 0, 0), 0);
	stream_destroy(stream);
}

static void test_objects_are_limited_over_all_sub_contexts(void **state)
{
	struct stream_limits limits = test_limits;
	limits.max_objects = 3;
	struct stream *stream = new_stream(&limits);
	struct stream_fault fault;

	assert_int_equal(create_query(stream, 1), 0);
	assert_int_equal(create_query(stream, 2), 0);
	assert_int_equal(CHECK(stream, VIRGL_CREATE_SUB_CTX, 0, 1), 0);
	assert_int_equal(create_query(stream, 1), 0);
	uint32_t query[] = {2, 0, 0, RES(1)};
	assert_int_equal(
		check(stream, VIRGL_CREATE_OBJECT, VIRGL_OBJECT_QUERY, query, 4, &fault), -ENOSPC);
	assert_int_equal(fault.value, 2);
	/* One in place of another is no more than before. */
	assert_int_equal(create_query(stream, 1), 0);
	assert_int_equal(CHECK(stream, VIRGL_DESTROY_SUB_CTX, 0, 1), 0);
	assert_int_equal(create_query(stream, 3), 0);
	assert_int_equal(create_query(stream, 4), -ENOSPC);
	stream_destroy(stream);
}

static void test_bytes_of_objects_are_limited(void **state)
{
	struct stream_limits limits = test_limits;
	limits.max_object_bytes = 44 + 16;
	struct stream *stream = new_stream(&limits);

	assert_int_equal(create_blend(stream, 1), 0);
	assert_int_equal(create_blend(stream, 2), -ENOSPC);
	assert_int_equal(create_query(stream, 2), 0);
	assert_int_equal(create_query(stream, 3), -ENOSPC);
	assert_int_equal(create_blend(stream, 1), 0);
	assert_int_equal(create_query(stream, 1), 0);
	assert_int_equal(create_query(stream, 3), 0);
	assert_int_equal(stream_counters(stream)->object_bytes, 48);
	stream_destroy(stream);
}

/* What one stream takes another does not get, until it is gone. */
static void test_streams_share_a_budget(void **state)
{
	struct stream_budget budget = {
		.max_sub_contexts = 2, .max_bytes = 60, .max_total = 1 << 20};
	struct stream *a, *b;

	assert_int_equal(stream_create(&test_limits, &budget, &test_resources, NULL, &a), 0);
	assert_int_equal(stream_create(&test_limits, &budget, &test_resources, NULL, &b), 0);
	assert_int_equal(CHECK(a, VIRGL_CREATE_SUB_CTX, 0, 1), 0);
	assert_int_equal(CHECK(b, VIRGL_CREATE_SUB_CTX, 0, 1), 0);
	assert_int_equal(CHECK(b, VIRGL_CREATE_SUB_CTX, 0, 2), -ENOSPC);
	assert_int_equal(CHECK(a, VIRGL_DESTROY_SUB_CTX, 0, 1), 0);
	assert_int_equal(CHECK(b, VIRGL_CREATE_SUB_CTX, 0, 2), 0);
	assert_int_equal(create_blend(a, 1), 0);
	assert_int_equal(create_blend(b, 1), -ENOSPC);
	assert_int_equal(create_query(b, 1), 0);
	assert_int_equal(create_blend(a, 1), 0); /* in its own place */
	assert_int_equal(budget.bytes, 60);
	stream_destroy(a);
	assert_int_equal(create_blend(b, 2), 0);
	stream_destroy(b);
	assert_int_equal(budget.bytes, 0);
	assert_int_equal(budget.sub_contexts, 0);
	assert_int_equal(stream_budget_total(&budget), 0);
}

static void test_counters(void **state)
{
	struct stream *stream = new_stream_with_objects();
	struct stream_counters before = *stream_counters(stream);
	uint32_t dw[] = {
		VIRGL_HEADER(VIRGL_CLEAR, 0, 8),
		0,
		0,
		0,
		0,
		0,
		0,
		0,
		0,
		VIRGL_HEADER(VIRGL_RESOURCE_INLINE_WRITE, 0, 14),
		RES(1),
		0,
		0,
		0,
		0,
		0,
		0,
		0,
		12,
		1,
		1,
		'a',
		'b',
		'c',
		VIRGL_HEADER(VIRGL_DRAW_VBO, 0, 12),
		0,
		0,
		0,
		0,
		0,
		0,
		0,
		0,
		0,
		0,
		0,
		0,
		VIRGL_HEADER(VIRGL_LAUNCH_GRID, 0, 8),
		0,
		0,
		0,
		0,
		0,
		0,
		0,
		0,
		VIRGL_HEADER(VIRGL_END_TRANSFERS, 0, 1),
		0,
		VIRGL_HEADER(VIRGL_GET_QUERY_RESULT, 0, 2),
		OBJECT(QUERY),
		1,
	};

	assert_int_equal(before.objects, 11);
	assert_int_equal(stream_check(stream, dw, ARRAY_SIZE(dw), NULL), 0);
	assert_int_equal(stream_check(stream, NULL, 0, NULL), 0);
	const struct stream_counters *after = stream_counters(stream);
	assert_int_equal(after->buffers - before.buffers, 2);
	assert_int_equal(after->commands - before.commands, 6);
	assert_int_equal(after->draws - before.draws, 3);
	assert_int_equal(after->query_results - before.query_results, 1);
	assert_int_equal(after->bytes - before.bytes, sizeof(dw));
	stream_destroy(stream);
}

static void test_destroying_nothing(void **state)
{
	stream_destroy(NULL);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sub_contexts_are_limited),
		cmocka_unit_test(test_objects_are_limited_over_all_sub_contexts),
		cmocka_unit_test(test_bytes_of_objects_are_limited),
		cmocka_unit_test(test_streams_share_a_budget),
		cmocka_unit_test(test_counters),
		cmocka_unit_test(test_destroying_nothing),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
