/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory of a function is emptied. A regular file is the window; where hardware behaves as no file
 * does (reads as ones, swallows writes, hangs, goes away), another mapping takes its place in one
 * of the passes, which are numbered in the order in which the window is mapped.
 */
#include "host/scrub.h"

#include "base/checked.h"
#include "function.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB    (1ul << 20)
#define WINDOW (4 * MIB)
#define RESOURCES                                                                                  \
	"0x00000000e0000000 0x00000000e03fffff 0x000000000014220c\n"                               \
	"0x0000000000000000 0x0000000000000000 0x0000000000000000\n"                               \
	"0x00000000f0000000 0x00000000f01fffff 0x000000000014220c\n"                               \
	"0x0000000000000000 0x0000000000000000 0x0000000000000000\n"                               \
	"0x00000000fe800000 0x00000000feffffff 0x0000000000040200\n"

enum pass { BOARD, MARK_FIRST, CHECK_FIRST, MARK, CHECK, ZERO, VERIFY, PASS_COUNT };
enum trick {
	HONEST,
	ONES,
	SWALLOWS,
	ALIASES,
	ONE_BAD_BYTE,
	GOES,
	HANGS,
	IS_OPENED,
	CHANGES_DRIVER
};

static struct function f;
static unsigned mapped; /* windows, and the board before them */
static enum pass tricked;
static enum trick trick;
static unsigned steps_seen;
static uint64_t total_seen;

void *__real_mmap64(void *at, size_t size, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap64(void *at, size_t size, int prot, int flags, int fd, off_t offset);

static uint8_t *anonymous(size_t size)
{
	uint8_t *map = __real_mmap64(
		NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (map == MAP_FAILED)
		_exit(1);
	return map;
}

/* In the process that does the work: no assertions here. */
static uint8_t *play(size_t size, int fd)
{
	const char *const files[] = {"/dev/vfio/7", NULL};
	uint8_t *map = NULL;

	switch (trick) {
	case ONES:
		map = anonymous(size);
		memset(map, 0xff, size);
		break;
	case SWALLOWS:
		map = anonymous(size);
		break;
	case ALIASES:
		map = anonymous(size);
		for (size_t i = 0; i < size; i += size / 2)
			__real_mmap64(map + i, size / 2, PROT_READ | PROT_WRITE,
				MAP_SHARED | MAP_FIXED, fd, 0);
		break;
	case ONE_BAD_BYTE:
		map = anonymous(size);
		map[size / 2 + 3] = 7;
		break;
	case GOES:
		if (ftruncate(fd, 0) < 0)
			_exit(1);
		break;
	case HANGS:
		for (;;)
			pause();
	case IS_OPENED:
		tree_process(&f.tree, 812, "qemu", files);
		break;
	case CHANGES_DRIVER:
		tree_link(&f.tree, "../../../bus/pci/drivers/amdgpu", FOLDER "driver");
		break;
	default:
		break;
	}
	return map;
}

void *__wrap_mmap64(void *at, size_t size, int prot, int flags, int fd, off_t offset)
{
	uint8_t *map = NULL;

	if (tricked && mapped++ == tricked)
		map = play(size, fd);
	return map ? map : __real_mmap64(at, size, prot, flags, fd, offset);
}

/* --- one function --- */

static int set_up(void **state)
{
	function_make(&f, "vfio-pci");
	tree_put(&f.tree, FOLDER "resource", RESOURCES);
	function_memory(&f, "resource0", WINDOW, 'A');
	function_memory(&f, "resource2", 2 * MIB, 'D');
	function_memory(&f, "resource4", 8 * MIB, 'R');
	function_set_command(&f, 0x0002);
	tricked = BOARD;
	trick = HONEST;
	mapped = 0;
	steps_seen = 0;
	return 0;
}

static int tear_down(void **state)
{
	tricked = BOARD;
	function_remove(&f);
	return 0;
}

static void again(void)
{
	tear_down(NULL);
	set_up(NULL);
}

static void progress(void *data, enum scrub_step step, uint64_t done, uint64_t total)
{
	steps_seen |= 1u << step;
	total_seen = total;
	if (done > total)
		fail_msg("more than all is done");
}

static int scrub(uint64_t vram, struct scrub_result *ret)
{
	const struct scrub_request request = {.address = ADDRESS,
		.vram_bytes = vram,
		.limit_ms = trick == HANGS ? 300 : 0,
		.progress = progress};

	return scrub_vram(&f.tree.roots, &f.kernel, &request, ret);
}

static void check_says(const struct scrub_result *r, const char *part)
{
	struct error err = {0};
	int code = r->verdict == SCRUB_PARTIAL ? -EUCLEAN : r->code;

	assert_int_equal(scrub_explain(r, "gpu-03:00.0", &err), code);
	assert_int_equal(err.code, -code);
	if (!strstr(err.text, part))
		fail_msg("%s does not say %s", err.text, part);
	assert_true(!strncmp(err.text, "gpu-03:00.0: ", 13));
	assert_true(err.text[strlen(err.text) - 1] == ')');
}

/* Nothing but the window was ever written. */
static void check_others_untouched(void)
{
	assert_int_equal(function_differs(&f, "resource2", 2 * MIB, 'D'), 0);
	assert_int_equal(function_differs(&f, "resource4", 8 * MIB, 'R'), 0);
}

static void check_untouched(void)
{
	assert_int_equal(function_differs(&f, "resource0", WINDOW, 'A'), 0);
	check_others_untouched();
	assert_string_equal(f.log, "");
}

static void test_all_of_it(void **state)
{
	struct scrub_result r;
	struct error err = {0};

	assert_int_equal(scrub(WINDOW, &r), 0);
	assert_int_equal(r.verdict, SCRUB_CLEAN);
	assert_int_equal(r.step, SCRUB_DONE);
	assert_int_equal(r.bar, 0);
	assert_int_equal(r.window_bytes, WINDOW);
	assert_int_equal(r.scrubbed_bytes, WINDOW);
	assert_int_equal(r.bad_bytes + r.unreached_bytes + r.beyond_unknown, 0);
	assert_int_equal(function_differs(&f, "resource0", WINDOW, 0), 0);
	check_others_untouched();
	assert_true(steps_seen & 1u << SCRUB_AFTER);
	assert_int_equal(total_seen, WINDOW);
	assert_int_equal(scrub_explain(&r, "x", &err), 0);
	assert_int_equal(err.code, 0);
}

/* Write-combining where the kernel has it. */
static void test_by_the_quicker_window(void **state)
{
	struct scrub_result r;

	function_memory(&f, "resource0_wc", WINDOW, 'W');
	assert_int_equal(scrub(WINDOW, &r), 0);
	assert_int_equal(function_differs(&f, "resource0_wc", WINDOW, 0), 0);
	assert_int_equal(function_differs(&f, "resource0", WINDOW, 'A'), 0);
}

static void test_memory_beyond_the_window(void **state)
{
	struct scrub_result r;

	assert_int_equal(scrub(16 * MIB, &r), 0);
	assert_int_equal(r.verdict, SCRUB_PARTIAL);
	assert_int_equal(r.unreached_bytes, 12 * MIB);
	assert_int_equal(r.scrubbed_bytes, WINDOW);
	check_says(&r, "12 MiB of its memory are not emptied: 4 MiB are");
	assert_int_equal(scrub(0, &r), 0);
	assert_int_equal(r.verdict, SCRUB_PARTIAL);
	assert_true(r.beyond_unknown);
	check_says(&r, "nothing tells how large its memory is");
}

static void test_memory_smaller_than_the_window(void **state)
{
	struct scrub_result r;

	assert_int_equal(scrub(MIB + 1, &r), 0);
	assert_int_equal(r.verdict, SCRUB_CLEAN);
	assert_int_equal(r.scrubbed_bytes, MIB + 4096);
	assert_int_equal(function_differs(&f, "resource0", WINDOW, 'A'), MIB + 4096);
}

/* --- which window --- */

static const struct {
	const char *address;
	unsigned vendor, device;
	int bar;
	const char *beyond;
} windows[] = {
	{ADDRESS, 0x1002, 0x744c, 0, "nothing tells how large"},
	{ADDRESS, 0x1002, 0x5046, 0, NULL},
	{ADDRESS, 0x10de, 0x2335, 0, "nothing tells how large"},
	{ADDRESS, 0x1234, 0x1111, 0, NULL},
	{ADDRESS, 0x1af4, 0x1050, -1, NULL},
	{"0000:00:02.0", 0x8086, 0x3e92, -1, "memory of the host"},
	{ADDRESS, 0x8086, 0x56a0, 0, "nothing tells how large"},
	{ADDRESS, 0x1ed5, 0x0111, 0, "another BAR of it may be memory"},
};

static void test_which_window(void **state)
{
	const char *beyond;

	for (size_t i = 0; i < ARRAY_SIZE(windows); i++) {
		struct pci_device d = {
			.vendor = (uint16_t)windows[i].vendor,
			.device = (uint16_t)windows[i].device,
			.bars = {{WINDOW, true, false}, {0}, {2 * MIB, true, false},
				{64 * MIB, false, false}},
		};
		snprintf(d.address, sizeof(d.address), "%s", windows[i].address);
		assert_int_equal(scrub_window(&d, &beyond), windows[i].bar);
		if (windows[i].beyond)
			assert_non_null(strstr(beyond, windows[i].beyond));
		else
			assert_null(beyond);
	}
}

static void test_registers_are_no_memory(void **state)
{
	struct scrub_result r;

	tree_put(&f.tree, FOLDER "resource",
		"0x00000000e0000000 0x00000000e0003fff 0x000000000014220c\n"
		"0x00000000fe800000 0x00000000feffffff 0x0000000000040200\n");
	assert_int_equal(scrub(0, &r), 0);
	assert_int_equal(r.verdict, SCRUB_PARTIAL);
	check_says(&r, "none of its BARs is a window");
	function_is(&f, 0x1af4, 0x1050, 0x038000);
	assert_int_equal(scrub(0, &r), 0);
	assert_int_equal(r.verdict, SCRUB_CLEAN);
	assert_int_equal(r.bar, -1);
	check_untouched();
}

/* --- refusals --- */

static void test_not_while_somebody_has_it(void **state)
{
	const char *const files[] = {"/dev/vfio/7", NULL};
	struct scrub_result r;

	tree_process(&f.tree, 812, "qemu", files);
	assert_int_equal(scrub(WINDOW, &r), -EBUSY);
	assert_int_equal(r.verdict, SCRUB_FAILED);
	check_says(&r, "PID 812 (qemu) has /dev/vfio/7 open");
	check_untouched();
}

static void test_not_under_a_driver_of_the_host(void **state)
{
	struct scrub_result r;

	tree_link(&f.tree, "../../../bus/pci/drivers/amdgpu", FOLDER "driver");
	assert_int_equal(scrub(WINDOW, &r), -EBUSY);
	check_says(&r, "its driver amdgpu has it");
	check_untouched();
}

static void test_not_there(void **state)
{
	struct scrub_request request = {.address = "0000:77:00.0"};
	struct scrub_result r;

	assert_int_equal(scrub_vram(&f.tree.roots, &f.kernel, &request, &r), -ENODEV);
	check_says(&r, "not on this node");
	request.address = "../../etc";
	assert_int_equal(scrub_vram(&f.tree.roots, &f.kernel, &request, &r), -ENODEV);
}

static void test_what_cannot_be_read(void **state)
{
	struct scrub_result r;

	tree_put(&f.tree, FOLDER "resource", "junk\n");
	assert_int_equal(scrub(WINDOW, &r), -EBADMSG);
	check_says(&r, "step look fails");
	check_untouched();
}

/* --- the file --- */

static void test_a_file_that_is_not_the_window(void **state)
{
	struct scrub_result r;

	function_memory(&f, "resource0", WINDOW - 4096, 'A');
	assert_int_equal(scrub(WINDOW, &r), -EBADMSG);
	assert_int_equal(r.step, SCRUB_MAP);
	check_says(&r, "not as large as its BAR");
	assert_int_equal(function_differs(&f, "resource0", WINDOW - 4096, 'A'), 0);
	tree_delete(&f.tree, FOLDER "resource0");
	assert_int_equal(scrub(WINDOW, &r), -ENOENT);
	check_says(&r, "no file for its memory");
	tree_link(&f.tree, "resource2", FOLDER "resource0");
	assert_int_equal(scrub(WINDOW, &r), -ELOOP);
	check_says(&r, "map fails");
	check_others_untouched();
}

static void test_a_file_that_is_read_only(void **state)
{
	bool root = geteuid() == 0;
	struct scrub_result r;
	char path[192];

	snprintf(path, sizeof(path), "%s/" FOLDER "resource0", f.tree.root);
	assert_int_equal(chmod(path, 0444), 0);
	assert_int_equal(chmod(f.tree.root, 0755), 0);
	if (root)
		assert_int_equal(seteuid(65534), 0);
	int code = scrub(WINDOW, &r);
	if (root)
		assert_int_equal(seteuid(0), 0);
	assert_int_equal(code, -EACCES);
	check_says(&r, "root");
	check_untouched();
}

/* --- hardware --- */

static const struct {
	enum pass pass;
	enum trick trick;
	int code;
	enum scrub_step step;
	const char *says;
} tricks[] = {
	{CHECK_FIRST, ONES, -EIO, SCRUB_PROBE, "reads as ones"},
	{CHECK_FIRST, SWALLOWS, -ENXIO, SCRUB_PROBE, "BAR 0 at 0x0 is not kept"},
	{CHECK, SWALLOWS, -ENXIO, SCRUB_PROBE, "is not kept"},
	{MARK, ALIASES, -ENXIO, SCRUB_PROBE, "is not kept"},
	{ZERO, SWALLOWS, -EUCLEAN, SCRUB_VERIFY, "did not become zero, the first at 0x0"},
	{VERIFY, ONE_BAD_BYTE, -EUCLEAN, SCRUB_VERIFY, "1 bytes of its memory did not become"},
	{VERIFY, ONES, -EIO, SCRUB_VERIFY, "reads as ones"},
	{MARK_FIRST, GOES, -ENODEV, SCRUB_PROBE, "went while"},
	{ZERO, GOES, -ENODEV, SCRUB_ZERO, "went while"},
	{VERIFY, HANGS, -ETIMEDOUT, SCRUB_VERIFY, "longer than it may, at step verify"},
	{VERIFY, IS_OPENED, -EBUSY, SCRUB_AFTER, "meanwhile PID 812 (qemu)"},
	{VERIFY, CHANGES_DRIVER, -EBUSY, SCRUB_AFTER, "meanwhile its driver amdgpu"},
};

static void test_hardware(void **state)
{
	struct scrub_result r;

	for (size_t i = 0; i < ARRAY_SIZE(tricks); i++) {
		again();
		tricked = tricks[i].pass;
		trick = tricks[i].trick;
		int code = scrub(WINDOW, &r);
		tricked = BOARD;
		if (code != tricks[i].code || r.step != tricks[i].step)
			fail_msg("trick %zu: %d at %s", i, code, scrub_step_names[r.step]);
		assert_int_equal(r.verdict, SCRUB_FAILED);
		check_says(&r, tricks[i].says);
		check_others_untouched();
	}
	assert_int_equal(r.bad_bytes, 0);
}

static void test_where_it_is_bad(void **state)
{
	struct scrub_result r;

	tricked = VERIFY;
	trick = ONE_BAD_BYTE;
	assert_int_equal(scrub(WINDOW, &r), -EUCLEAN);
	assert_int_equal(r.bad_bytes, 1);
	assert_int_equal(r.bad_at, WINDOW / 2 + 3);
	assert_int_equal(r.scrubbed_bytes, WINDOW - 1);
}

/* --- waking it --- */

static void test_wakes_it_and_puts_it_to_sleep(void **state)
{
	struct scrub_result r;

	function_set_command(&f, 0x0400);
	tree_put(&f.tree, FOLDER "power/control", "auto\n");
	assert_int_equal(scrub(WINDOW, &r), 0);
	assert_string_equal(f.log, "power/control=on power/control=auto");
	assert_int_equal(function_command(&f), 0x0400);
}

static void test_without_a_driver(void **state)
{
	struct scrub_result r;

	tree_delete(&f.tree, FOLDER "driver");
	tree_put(&f.tree, FOLDER "power/control", "on\n");
	tree_put(&f.tree, FOLDER "enable", "0\n");
	assert_int_equal(scrub(WINDOW, &r), 0);
	assert_int_equal(r.verdict, SCRUB_CLEAN);
	assert_string_equal(r.driver, "");
	assert_string_equal(f.log, "enable=1 enable=0");
}

/* What fails in between leaves it as it was, too. */
static void test_is_put_to_sleep_after_a_failure(void **state)
{
	struct scrub_result r;

	function_set_command(&f, 0x0400);
	tree_put(&f.tree, FOLDER "power/control", "auto\n");
	tricked = ZERO;
	trick = GOES;
	assert_int_equal(scrub(WINDOW, &r), -ENODEV);
	assert_string_equal(f.log, "power/control=on power/control=auto");
	assert_int_equal(function_command(&f), 0x0400);
}

static void test_does_not_wake(void **state)
{
	struct scrub_result r;

	tree_put(&f.tree, FOLDER "power/control", "auto\n");
	tree_put(&f.tree, FOLDER "power/runtime_status", "suspended\n");
	assert_int_equal(scrub(WINDOW, &r), -ETIMEDOUT);
	check_says(&r, "does not wake");
	again();
	tree_put(&f.tree, FOLDER "power/control", "on\n");
	tree_put(&f.tree, FOLDER "power/runtime_status", "error\n");
	assert_int_equal(scrub(WINDOW, &r), -EIO);
	check_says(&r, "does not answer");
	again();
	function_header(&f, 0, 0, 0, 0, true);
	assert_int_equal(scrub(WINDOW, &r), -EIO);
	check_untouched();
	again();
	tree_put(&f.tree, FOLDER "power/control", "auto\n");
	f.fails = "power/control";
	f.code = -EACCES;
	assert_int_equal(scrub(WINDOW, &r), -EACCES);
	check_says(&r, "root");
	check_untouched();
}

/* Its decoding is its parent's. */
static void test_a_virtual_function(void **state)
{
	struct scrub_result r;

	function_set_command(&f, 0);
	tree_link(&f.tree, "../0000:03:00.1", FOLDER "physfn");
	assert_int_equal(scrub(WINDOW, &r), 0);
	assert_int_equal(function_command(&f), 0);
}

static void test_limits(void **state)
{
	assert_true(scrub_limit_ms(0) >= 10000);
	assert_true(scrub_limit_ms(24ull << 30) > scrub_limit_ms(16 * MIB));
	assert_true(scrub_limit_ms(24ull << 30) >= 3u * 24 * 1024 * 1024 / 8);
	assert_int_equal(scrub_limit_ms(UINT64_MAX), INT32_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
		TEST(test_all_of_it),
		TEST(test_by_the_quicker_window),
		TEST(test_memory_beyond_the_window),
		TEST(test_memory_smaller_than_the_window),
		TEST(test_which_window),
		TEST(test_registers_are_no_memory),
		TEST(test_not_while_somebody_has_it),
		TEST(test_not_under_a_driver_of_the_host),
		TEST(test_not_there),
		TEST(test_what_cannot_be_read),
		TEST(test_a_file_that_is_not_the_window),
		TEST(test_a_file_that_is_read_only),
		TEST(test_hardware),
		TEST(test_where_it_is_bad),
		TEST(test_wakes_it_and_puts_it_to_sleep),
		TEST(test_without_a_driver),
		TEST(test_is_put_to_sleep_after_a_failure),
		TEST(test_does_not_wake),
		TEST(test_a_virtual_function),
		TEST(test_limits),
#undef TEST
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
