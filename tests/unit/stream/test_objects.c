/* SPDX-License-Identifier: Apache-2.0 */
#include "support.h"

#include <errno.h>

static int bind_blend(struct stream *stream, uint32_t handle)
{
	return CHECK(stream, VIRGL_BIND_OBJECT, VIRGL_OBJECT_BLEND, handle);
}

static void test_destroying(void **state)
{
	struct stream *stream = new_stream(&test_limits);

	assert_int_equal(create_query(stream, 7), 0);
	assert_true(has_query(stream, 7));
	/* The type in the header means nothing; the handle may be unknown. */
	assert_int_equal(CHECK(stream, VIRGL_DESTROY_OBJECT, VIRGL_OBJECT_BLEND, 7), 0);
	assert_false(has_query(stream, 7));
	assert_int_equal(CHECK(stream, VIRGL_DESTROY_OBJECT, 0, 7), 0);
	assert_int_equal(CHECK(stream, VIRGL_DESTROY_OBJECT, 0, 0), 0);
	assert_int_equal(stream_counters(stream)->objects, 0);
	assert_int_equal(stream_counters(stream)->object_bytes, 0);
	stream_destroy(stream);
}

static void test_a_new_object_replaces_the_one_of_its_handle(void **state)
{
	struct stream *stream = new_stream(&test_limits);

	assert_int_equal(create_blend(stream, 7), 0);
	assert_int_equal(bind_blend(stream, 7), 0);
	assert_int_equal(stream_counters(stream)->object_bytes, 44);
	assert_int_equal(create_query(stream, 7), 0);
	assert_int_equal(bind_blend(stream, 7), -ENOENT);
	assert_true(has_query(stream, 7));
	/* The old one stays while it is bound. */
	assert_int_equal(stream_counters(stream)->objects, 2);
	assert_int_equal(stream_counters(stream)->object_bytes, 44 + 16);
	assert_int_equal(bind_blend(stream, 0), 0);
	assert_int_equal(stream_counters(stream)->objects, 1);
	assert_int_equal(stream_counters(stream)->object_bytes, 16);
	stream_destroy(stream);
}

static void test_sub_contexts_have_their_own_objects(void **state)
{
	struct stream *stream = new_stream(&test_limits);

	assert_int_equal(create_query(stream, 7), 0);
	assert_int_equal(CHECK(stream, VIRGL_CREATE_SUB_CTX, 0, 5), 0);
	/* Created: it is the current one. */
	assert_false(has_query(stream, 7));
	assert_int_equal(create_query(stream, 8), 0);
	assert_int_equal(CHECK(stream, VIRGL_SET_SUB_CTX, 0, 0), 0);
	assert_true(has_query(stream, 7));
	assert_false(has_query(stream, 8));
	/* Created again, or unknown: nothing happens. */
	assert_int_equal(CHECK(stream, VIRGL_CREATE_SUB_CTX, 0, 5), 0);
	assert_true(has_query(stream, 7));
	assert_int_equal(CHECK(stream, VIRGL_SET_SUB_CTX, 0, 6), 0);
	assert_true(has_query(stream, 7));
	assert_int_equal(CHECK(stream, VIRGL_DESTROY_SUB_CTX, 0, 6), 0);
	stream_destroy(stream);
}

static void test_destroying_sub_contexts(void **state)
{
	struct stream *stream = new_stream(&test_limits);

	assert_int_equal(create_query(stream, 7), 0);
	assert_int_equal(CHECK(stream, VIRGL_CREATE_SUB_CTX, 0, ~0u), 0);
	assert_int_equal(create_query(stream, 8), 0);
	assert_int_equal(CHECK(stream, VIRGL_CREATE_SUB_CTX, 0, 5), 0);
	assert_int_equal(create_query(stream, 9), 0);
	assert_int_equal(stream_counters(stream)->objects, 3);
	/* Another than the current one. */
	assert_int_equal(CHECK(stream, VIRGL_DESTROY_SUB_CTX, 0, ~0u), 0);
	assert_int_equal(stream_counters(stream)->objects, 2);
	assert_true(has_query(stream, 9));
	/* The current one: 0 takes over. */
	assert_int_equal(CHECK(stream, VIRGL_DESTROY_SUB_CTX, 0, 5), 0);
	assert_true(has_query(stream, 7));
	assert_int_equal(stream_counters(stream)->object_bytes, 16);
	/* 0 stays. */
	assert_int_equal(CHECK(stream, VIRGL_DESTROY_SUB_CTX, 0, 0), 0);
	assert_true(has_query(stream, 7));
	/* The same id again is empty. */
	assert_int_equal(CHECK(stream, VIRGL_CREATE_SUB_CTX, 0, 5), 0);
	assert_false(has_query(stream, 9));
	stream_destroy(stream);
}

static void test_an_unfinished_shader_ends_with_its_sub_context(void **state)
{
	struct stream *stream = new_stream(&test_limits);

	for (int i = 0; i < 2; i++) {
		assert_int_equal(CHECK(stream, VIRGL_CREATE_SUB_CTX, 0, 5), 0);
		assert_int_equal(
			CHECK(stream, VIRGL_CREATE_OBJECT, VIRGL_OBJECT_SHADER, 7, 0, 100, 1, 0, 1),
			0);
		assert_int_equal(CHECK(stream, VIRGL_SET_SUB_CTX, 0, 0), 0);
		assert_int_equal(
			CHECK(stream, VIRGL_CREATE_OBJECT, VIRGL_OBJECT_SHADER, 7, 0, 4, 1, 0, 1),
			0);
		assert_int_equal(CHECK(stream, VIRGL_DESTROY_SUB_CTX, 0, 5), 0);
	}
	stream_destroy(stream);
}

static void test_many_objects_come_and_go(void **state)
{
	struct stream *stream = new_stream(&test_limits);

	for (uint32_t round = 0; round < 20; round++) {
		for (uint32_t i = 0; i < 900; i++)
			assert_int_equal(create_query(stream, 1 + i * 4096 + round), 0);
		assert_int_equal(stream_counters(stream)->objects, 900);
		for (uint32_t i = 0; i < 900; i++) {
			uint32_t handle = 1 + i * 4096 + round;
			assert_true(has_query(stream, handle));
			assert_int_equal(CHECK(stream, VIRGL_DESTROY_OBJECT, 0, handle), 0);
			assert_false(has_query(stream, handle));
		}
	}
	stream_destroy(stream);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_destroying),
		cmocka_unit_test(test_a_new_object_replaces_the_one_of_its_handle),
		cmocka_unit_test(test_sub_contexts_have_their_own_objects),
		cmocka_unit_test(test_destroying_sub_contexts),
		cmocka_unit_test(test_an_unfinished_shader_ends_with_its_sub_context),
		cmocka_unit_test(test_many_objects_come_and_go),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
