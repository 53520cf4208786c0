/* SPDX-License-Identifier: Apache-2.0 */
#include "renderer/virgl/clip_planes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define LINE(n)   "  gl_ClipDistance[" #n "] = dot(gl_Position, clipp[" #n "]);\n"
#define ALL_LINES LINE(0) LINE(1) LINE(2) LINE(3) LINE(4) LINE(5) LINE(6) LINE(7)
#define BLOCK     "if (clip_plane_enabled) {\n" ALL_LINES "}\n"

static void test_finds_the_block_only(void **state)
{
	static const struct {
		const char *source;
		long at;
	} rows[] = {
		{"a;\n" BLOCK "b;\n", 3},
		{BLOCK, 0},
		{"", -1},
		{"uniform bool clip_plane_enabled;\n", -1},
		{"if (clip_plane_enabled) {\n", -1},
		{"if (clip_plane_enabled) {\n" LINE(0), -1},
		/* anything unknown inside: hands off */
		{"if (clip_plane_enabled) {\n" LINE(0) "  x = 1;\n}\n", -1},
		{"if (clip_plane_enabled) {\n  gl_ClipDistance[0] = temp.x;\n}\n", -1},
		{"if (clip_plane_enabled) {\n" LINE(0) "} else {\n}\n", -1},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		size_t len = 0;
		assert_int_equal(
			clip_planes_find(rows[i].source, strlen(rows[i].source), &len), rows[i].at);
		if (rows[i].at >= 0)
			assert_int_equal(len, strlen(BLOCK));
	}
}

static void test_never_reads_past_the_end(void **state)
{
	size_t len;
	for (size_t n = 0; n < strlen(BLOCK); n++)
		assert_int_equal(clip_planes_find(BLOCK, n, &len), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_finds_the_block_only),
		cmocka_unit_test(test_never_reads_past_the_end),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
