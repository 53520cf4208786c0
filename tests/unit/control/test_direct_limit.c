/* SPDX-License-Identifier: Apache-2.0 */
/* How long a job on a whole GPU may take: never less than emptying its memory may. */
#include "control/direct_private.h"

#include "host/scrub.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#define MIB 1048576ull
#define GIB (1024 * MIB)

static uint32_t limit(enum direct_state state, uint64_t vram_mib, uint64_t window, uint32_t changes)
{
	static struct direct x;
	struct vgpu v = {.direct = &x, .def = {.method = METHOD_PASSTHROUGH}};

	x = (struct direct){.state = state, .window = window};
	x.stored.plan.count = changes;
	v.def.type.vram_mib = vram_mib;
	return direct_limit_ms(&v);
}

static void test_a_scrub_has_its_time(void **state)
{
	static const struct {
		uint64_t vram_mib, window, bytes;
	} cases[] = {
		{0, 0, 0},
		{16, 16 * MIB, 16 * MIB},
		{0, 64 * GIB, 64 * GIB},   /* nobody told how much it has */
		{256, 64 * GIB, 64 * GIB}, /* its window was resized since */
		{141 << 10, 256 * MIB, 141 * GIB},
		{UINT64_MAX, UINT64_MAX, UINT64_MAX},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		uint64_t least = scrub_limit_ms(cases[i].bytes);
		for (int retiring = 0; retiring < 2; retiring++) {
			uint32_t ms = limit(retiring ? DIRECT_RETIRING : DIRECT_SCRUBBING,
				cases[i].vram_mib, cases[i].window, 3);
			assert_true(ms >= least + DIRECT_LOCK_MS);
		}
	}
}

static void test_others_are_not_given_it(void **state)
{
	assert_int_equal(
		limit(DIRECT_GIVING, 141 << 10, 64 * GIB, 3), limit(DIRECT_GIVING, 0, 0, 3));
	assert_true(limit(DIRECT_GIVING, 0, 0, CHANGES_MAX) >= CHANGES_MAX * VFIO_STEP_MS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_scrub_has_its_time),
		cmocka_unit_test(test_others_are_not_given_it),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
