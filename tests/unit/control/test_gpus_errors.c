/* SPDX-License-Identifier: Apache-2.0 */
/* Errors of PCI Express become events: of GPUs alone, with what was counted, and not too many. */
#include "control/gpus.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define ADDRESS "0000:03:00.0"
#define FOLDER  "/bus/pci/devices/0000:03:00.0"

struct node {
	struct vgpud d;
	char root[64], sys[96], file[192];
};

static void count(const struct node *n, const char *text)
{
	FILE *file = fopen(n->file, "we");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	fclose(file);
}

static int set_up(void **state)
{
	static const char *const folders[] = {"", "/bus", "/bus/pci", "/bus/pci/devices", FOLDER};
	struct node *n = calloc(1, sizeof(*n));
	char path[256];

	assert_non_null(n);
	strcpy(n->root, "/tmp/vgpu-errors-XXXXXX");
	assert_non_null(mkdtemp(n->root));
	snprintf(n->sys, sizeof(n->sys), "%s/sys", n->root);
	for (size_t i = 0; i < sizeof(folders) / sizeof(*folders); i++) {
		snprintf(path, sizeof(path), "%s%s", n->sys, folders[i]);
		assert_int_equal(mkdir(path, 0700), 0);
	}
	snprintf(n->file, sizeof(n->file), "%s" FOLDER "/aer_dev_fatal", n->sys);
	n->d.roots.sys = n->sys;
	n->d.n_gpus = 2;
	strcpy(n->d.gpus[0].name, "soft0");
	strcpy(n->d.gpus[1].name, "gpu-03:00.0");
	strcpy(n->d.gpus[1].pci_address, ADDRESS);
	count(n, "MalfTLP 4\n");
	*state = n;
	return 0;
}

static int tear_down(void **state)
{
	struct node *n = *state;
	char path[256];
	static const char *const folders[] = {FOLDER, "/bus/pci/devices", "/bus/pci", "/bus", ""};

	gpus_errors_close(&n->d);
	unlink(n->file);
	for (size_t i = 0; i < sizeof(folders) / sizeof(*folders); i++) {
		snprintf(path, sizeof(path), "%s%s", n->sys, folders[i]);
		rmdir(path);
	}
	rmdir(n->root);
	free(n);
	return 0;
}

static const char *newest(const struct node *n)
{
	return n->d.events.last ? events_next(&n->d.events, n->d.events.last - 1)->text : "";
}

static void test_says_what_was_counted_since(void **state)
{
	struct node *n = *state;

	gpus_errors_begin(&n->d);
	count(n, "MalfTLP 5\n");
	gpus_error(&n->d, ADDRESS, AER_BEGINS);
	assert_string_equal(
		newest(n), "gpu-03:00.0: PCIe error: recovery begins: 1 fatal error (MalfTLP)");
	gpus_error(&n->d, ADDRESS, AER_LOST);
	assert_string_equal(newest(n), "gpu-03:00.0: PCIe error: recovery failed (end what uses "
				       "it, then reset it)");
}

static void test_only_of_gpus(void **state)
{
	struct node *n = *state;

	gpus_error(&n->d, "0000:04:00.0", AER_LOST);
	gpus_error(&n->d, "", AER_LOST);
	n->d.gpus[1].gone = true;
	gpus_error(&n->d, ADDRESS, AER_LOST);
	assert_int_equal(n->d.events.last, 0);
}

/* A VM can make its GPU fail as often as it likes. */
static void test_not_more_than_people_read(void **state)
{
	struct node *n = *state;
	char text[32];

	gpus_errors_begin(&n->d);
	for (unsigned i = 0; i < 1000; i++) {
		snprintf(text, sizeof(text), "MalfTLP %u\n", 5 + i);
		count(n, text);
		gpus_error(&n->d, ADDRESS, AER_BEGINS);
	}
	assert_in_range(n->d.events.last, 2, 20);
	gpus_error(&n->d, ADDRESS, AER_LOST);
	assert_non_null(strstr(newest(n), "recovery failed: "));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
		TEST(test_says_what_was_counted_since),
		TEST(test_only_of_gpus),
		TEST(test_not_more_than_people_read),
#undef TEST
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
