/* SPDX-License-Identifier: Apache-2.0 */
/* A function is reset, by a kernel that does it, refuses, or leaves it broken. */
#include "host/reset.h"

#include "base/checked.h"
#include "function.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static struct function f;

static int set_up(void **state)
{
	function_make(&f, "vfio-pci");
	return 0;
}

static int tear_down(void **state)
{
	function_remove(&f);
	return 0;
}

static int reset(struct reset_result *ret)
{
	return pci_reset(&f.tree.roots, &f.kernel, ADDRESS, PCI_RESET_MS, ret);
}

/* What people read: WHAT: WHY (WHAT TO DO). */
static void check_says(const struct reset_result *r, const char *part)
{
	struct error err = {0};

	assert_int_equal(pci_reset_explain(r, "gpu-03:00.0", &err), r->code);
	assert_int_equal(err.code, -r->code);
	if (!strstr(err.text, part))
		fail_msg("%s does not say %s", err.text, part);
	assert_true(!strncmp(err.text, "gpu-03:00.0: ", 13));
	assert_true(strlen(err.text) && err.text[strlen(err.text) - 1] == ')');
	assert_null(strstr(err.text, "{}"));
}

static void test_resets(void **state)
{
	struct error err = {0};
	struct reset_result r;

	assert_int_equal(reset(&r), 0);
	assert_int_equal(r.step, RESET_DONE);
	assert_true(r.answers);
	assert_string_equal(r.methods, "flr bus");
	assert_string_equal(r.driver, "vfio-pci");
	assert_string_equal(f.log, "reset=1");
	assert_int_equal(r.n_others, 0);
	assert_int_equal(pci_reset_explain(&r, "x", &err), 0);
	assert_int_equal(err.code, 0);
}

static void test_other_functions_of_its_slot(void **state)
{
	const struct tree_pci sound = {.address = "0000:03:00.1", .class = 0x040300};
	struct reset_result r;

	tree_pci(&f.tree, &sound);
	assert_int_equal(reset(&r), 0);
	assert_int_equal(r.n_others, 1);
	assert_string_equal(r.others[0], "0000:03:00.1");
	assert_false(r.touched);
	/* Not alone; and there is no VFIO here to reset both. */
	f.fails = "reset";
	f.code = -ENOTTY;
	assert_int_equal(reset(&r), -ENOTTY);
	assert_int_equal(r.together_code, -ENOENT);
	check_says(&r, "only together with 0000:03:00.1, and VFIO is not there");
	tree_put(&f.tree, "dev/vfio/vfio", "");
	assert_int_equal(reset(&r), -ENOTTY);
	assert_int_equal(r.together_code, -EPERM);
	check_says(&r, "VFIO has not all of them");
	tree_put(&f.tree, "dev/vfio/7", "");
	assert_int_equal(reset(&r), -ENOTTY);
	assert_int_equal(r.together_code, -ENOTTY);
	check_says(&r, "and VFIO could not");
	r.together_code = -EBUSY;
	check_says(&r, "one of them is in use");
	/* Without a driver VFIO has none of them. */
	tree_delete(&f.tree, FOLDER "driver");
	assert_int_equal(reset(&r), -ENOTTY);
	assert_int_equal(r.together_code, 0);
	check_says(&r, "none of its ways");
}

static void test_not_while_somebody_has_it(void **state)
{
	const char *const files[] = {"/dev/vfio/7", NULL};
	struct reset_result r;

	tree_process(&f.tree, 812, "qemu", files);
	assert_int_equal(reset(&r), -EBUSY);
	assert_string_equal(f.log, "");
	check_says(&r, "PID 812 (qemu) has /dev/vfio/7 open");
}

/* Since Linux 6.6 the group need not be opened. */
static void test_not_while_its_own_file_is_open(void **state)
{
	const char *const files[] = {"/dev/vfio/devices/vfio3", NULL};
	struct reset_result r;

	tree_put(&f.tree, FOLDER "vfio-dev/vfio3/dev", "511:3\n");
	tree_process(&f.tree, 812, "qemu", files);
	assert_int_equal(reset(&r), -EBUSY);
	check_says(&r, "/dev/vfio/devices/vfio3");
}

static void test_not_under_a_driver_of_the_host(void **state)
{
	struct reset_result r;

	tree_link(&f.tree, "../../../bus/pci/drivers/amdgpu", FOLDER "driver");
	assert_int_equal(reset(&r), -EBUSY);
	assert_string_equal(f.log, "");
	check_says(&r, "its driver amdgpu has it");
	tree_delete(&f.tree, FOLDER "driver");
	assert_int_equal(reset(&r), 0);
	assert_string_equal(r.driver, "");
}

static const struct {
	int code;
	const char *says;
} refusals[] = {
	{-ENOTTY, "none of its ways to be reset (flr bus)"},
	{-EINVAL, "takes no reset"},
	{-EACCES, "root"},
	{-EPERM, "root"},
	{-EROFS, "read-only"},
	{-ENODEV, "went while"},
	{-ENOENT, "no way to be reset any more"},
	{-EAGAIN, "locked"},
	{-ETIMEDOUT, "does not come to an end"},
	{-EXDEV, "reset fails: Invalid cross-device link"},
};

static void test_refusals_of_the_kernel(void **state)
{
	struct reset_result r;

	f.fails = "reset";
	for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
		f.code = refusals[i].code;
		assert_int_equal(reset(&r), refusals[i].code);
		assert_int_equal(r.step, RESET_WRITE);
		assert_false(r.answers);
		check_says(&r, refusals[i].says);
	}
	/* After a while it means something else. */
	r.code = -ENOTTY;
	r.took_ms = 2000;
	check_says(&r, "did not come back in time");
}

static void test_no_way_to_be_reset(void **state)
{
	struct reset_result r;

	tree_delete(&f.tree, FOLDER "reset");
	assert_int_equal(reset(&r), -ENOENT);
	check_says(&r, "no way to be reset");
}

static void test_not_there(void **state)
{
	struct reset_result r;

	assert_int_equal(pci_reset(&f.tree.roots, &f.kernel, "0000:77:00.0", 1000, &r), -ENODEV);
	check_says(&r, "not on this node");
	assert_int_equal(pci_reset(&f.tree.roots, &f.kernel, "../../etc", 1000, &r), -ENODEV);
}

/* --- what it is afterwards --- */

static void falls_silent(struct function *function, const char *name)
{
	function_header(function, 0, 0, 0, 0, true);
}

static void loses_addresses(struct function *function, const char *name)
{
	function_header(function, 0x1002, 0x744c, 0x030000, 0, false);
}

static void is_another(struct function *function, const char *name)
{
	function_header(function, 0x1002, 0x7400, 0x030000, 0xe000000c, false);
}

static void goes_away(struct function *function, const char *name)
{
	tree_delete(&function->tree, "sys/bus/pci/devices/" ADDRESS);
}

static void cuts_config(struct function *function, const char *name)
{
	tree_put(&function->tree, FOLDER "config", "short");
}

static const struct {
	void (*asked)(struct function *f, const char *name);
	int code;
	bool answers;
	const char *says;
} outcomes[] = {
	{falls_silent, -EIO, false, "does not answer since it was reset (flr bus)"},
	{loses_addresses, -ESTALE, true, "identity or addresses are others"},
	{is_another, -ESTALE, true, "identity or addresses are others"},
	{goes_away, -ENODEV, false, "went while"},
	{cuts_config, -EBADMSG, false, "verify fails"},
};

static void test_what_it_is_afterwards(void **state)
{
	struct reset_result r;

	for (size_t i = 0; i < ARRAY_SIZE(outcomes); i++) {
		if (i) {
			tear_down(state);
			set_up(state);
		}
		f.asked = outcomes[i].asked;
		assert_int_equal(reset(&r), outcomes[i].code);
		assert_int_equal(r.step, RESET_VERIFY);
		assert_int_equal(r.answers, outcomes[i].answers);
		check_says(&r, outcomes[i].says);
	}
}

static void *comes_back(void *data)
{
	const struct timespec pause = {.tv_nsec = 200000000};

	nanosleep(&pause, NULL);
	function_header(data, 0x1002, 0x744c, 0x030000, 0xe000000c, false);
	return NULL;
}

static pthread_t later;

static void falls_silent_a_while(struct function *function, const char *name)
{
	falls_silent(function, name);
	assert_int_equal(pthread_create(&later, NULL, comes_back, function), 0);
}

static void test_one_that_comes_back_late(void **state)
{
	struct reset_result r;

	f.asked = falls_silent_a_while;
	int code = reset(&r);
	pthread_join(later, NULL);
	/* While its header was written it may have been read as cut off. */
	assert_true(code == 0 || code == -EBADMSG);
}

static void test_silent_before(void **state)
{
	struct reset_result r;

	function_header(&f, 0, 0, 0, 0, true);
	assert_int_equal(reset(&r), -EIO);
	assert_string_equal(f.log, "");
	check_says(&r, "does not answer");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
		TEST(test_resets),
		TEST(test_other_functions_of_its_slot),
		TEST(test_not_while_somebody_has_it),
		TEST(test_not_while_its_own_file_is_open),
		TEST(test_not_under_a_driver_of_the_host),
		TEST(test_refusals_of_the_kernel),
		TEST(test_no_way_to_be_reset),
		TEST(test_not_there),
		TEST(test_what_it_is_afterwards),
		TEST(test_one_that_comes_back_late),
		TEST(test_silent_before),
#undef TEST
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
