/* SPDX-License-Identifier: Apache-2.0 */
/* Errors of PCI Express: counters of two moments, and uevents. */
#include "host/aer.h"

#include "base/checked.h"
#include "tree.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define ADDRESS "0000:03:00.0"
#define FOLDER  "sys/devices/pci0000:00/" ADDRESS "/"

static struct aer_counters before, after;

static const char *difference(void)
{
	static char text[AER_TEXT_MAX];

	bool any = aer_difference(&before, &after, text, sizeof(text));
	assert_int_equal(any, text[0] != '\0');
	return text;
}

static void test_difference(void **state)
{
	before = after = (struct aer_counters){0};
	assert_string_equal(difference(), "");
	aer_parse("Undefined 0\nMalfTLP 1\nTOTAL_ERR_FATAL 1\n", AER_FATAL, &after);
	assert_true(after.present);
	assert_int_equal(after.of[AER_FATAL].total, 1);
	assert_string_equal(difference(), "1 fatal error (MalfTLP)");
	aer_parse("TLP 2\nCmpltTO 1\n", AER_NONFATAL, &after);
	aer_parse("3\n", AER_LINK, &after);
	assert_string_equal(difference(), "1 fatal error (MalfTLP), 3 non-fatal errors (TLP, "
					  "CmpltTO), 3 fatal errors (on its link)");
	before = after;
	assert_string_equal(difference(), "");
	/* They began anew: what is there came since. */
	aer_parse("MalfTLP 9\n", AER_FATAL, &before);
	before.of[AER_FATAL].kinds[1].count = 9;
	assert_string_equal(difference(), "1 fatal error (MalfTLP)");
}

static void test_what_is_no_counter(void **state)
{
	static const char *const texts[] = {"", "\n\n", "MalfTLP", "MalfTLP -1\n", "MalfTLP x\n",
		" 3\n", "MalfTLP 1 2\n", "TOTAL_ERR_FATAL 4\n",
		"aNameThatIsLongerThanAnyThatTheKernelHas 1\n",
		"MalfTLP 99999999999999999999999\n"};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		after = (struct aer_counters){0};
		aer_parse(texts[i], AER_FATAL, &after);
		assert_int_equal(after.of[AER_FATAL].n, 0);
	}
	aer_parse("x 3\n", AER_LINK, &after);
	assert_int_equal(after.of[AER_LINK].n, 0);
}

static void test_more_than_fit(void **state)
{
	before = after = (struct aer_counters){0};
	for (unsigned i = 0; i < AER_KINDS_MAX + 5; i++)
		aer_parse("anErrorWithALongName 18446744073709551615\n", AER_FATAL, &after);
	assert_int_equal(after.of[AER_FATAL].n, AER_KINDS_MAX);
	assert_true(after.of[AER_FATAL].total == UINT64_MAX);
	assert_int_equal(strlen(difference()), AER_TEXT_MAX - 1);
}

static void test_read(void **state)
{
	const struct tree_pci pci = {.address = ADDRESS, .class = 0x030000};
	struct tree tree;

	tree_make(&tree);
	tree_pci(&tree, &pci);
	aer_read(&tree.roots, ADDRESS, &after);
	assert_false(after.present);
	tree_put(&tree, FOLDER "aer_dev_fatal", "DLP 7\n");
	tree_put(&tree, "sys/devices/pci0000:00/aer_rootport_total_err_fatal", "2\n");
	before = (struct aer_counters){0};
	aer_read(&tree.roots, ADDRESS, &after);
	assert_true(after.present);
	assert_string_equal(difference(), "7 fatal errors (DLP), 2 fatal errors (on its link)");
	aer_read(&tree.roots, "0000:77:00.0", &after);
	assert_false(after.present);
	tree_remove(&tree);
}

static const char *property(void *data, const char *name)
{
	return !strcmp(name, "ERROR_EVENT") ? data : NULL;
}

static enum aer_stage stage(const char *event)
{
	char text[32];

	if (!event)
		return aer_stage_of(property, NULL);
	strncpy(text, event, sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	return aer_stage_of(property, text);
}

static void test_stages(void **state)
{
	assert_int_equal(stage(NULL), AER_NO_STAGE);
	assert_int_equal(stage(""), AER_NO_STAGE);
	assert_int_equal(stage("BEGIN"), AER_NO_STAGE);
	assert_int_equal(stage("BEGIN_RECOVERY"), AER_BEGINS);
	assert_int_equal(stage("SUCCESSFUL_RECOVERY"), AER_RECOVERED);
	assert_int_equal(stage("FAILED_RECOVERY"), AER_LOST);
	assert_string_equal(aer_stage_text(AER_LOST), "recovery failed");
	assert_non_null(aer_stage_remedy(AER_LOST));
	assert_null(aer_stage_remedy(AER_BEGINS));
	assert_string_equal(aer_stage_text(AER_STAGE_COUNT), "no error");
	assert_null(aer_stage_remedy(AER_STAGE_COUNT));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_difference),
		cmocka_unit_test(test_what_is_no_counter),
		cmocka_unit_test(test_more_than_fit),
		cmocka_unit_test(test_read),
		cmocka_unit_test(test_stages),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
