/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A function that changes hands, on a constructed tree with a kernel of our own: it does what the
 * real one does with such requests, refuses what it is told to, and can be cut off anywhere.
 */
#include "host/vfio.h"

#include "base/checked.h"
#include "base/clock.h"
#include "host/sysfs_write.h"
#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define ADDRESS "0000:03:00.0"
#define GPU     "sys/devices/pci0000:00/" ADDRESS "/"

/* What the kernel would do, and how often it was asked. */
struct fake {
	struct vfio_kernel ops;
	const char *native; /* the function's own driver; NULL: none is there */
	bool vfio_refuses, unbind_ignored, goes_away;
	const char *fails; /* requests whose path ends so */
	int code;
	unsigned asked;
	unsigned dies_at; /* from this request on nothing is done: vgpud is gone. 0: never */
};

static struct tree tree;
static struct fake fake;

static void bind_to(const char *driver)
{
	char target[128];

	tree_delete(&tree, GPU "driver_override");
	tree_put(&tree, GPU "driver_override", "");
	snprintf(target, sizeof(target), "../../../bus/pci/drivers/%s", driver);
	tree_link(&tree, target, GPU "driver");
}

static void read_override(char *ret, size_t size)
{
	int dir = pci_open(&tree.roots, ADDRESS);

	assert_true(dir >= 0);
	assert_int_equal(sysfs_read(dir, "driver_override", ret, size), 0);
	close(dir);
	if (!strcmp(ret, "(null)"))
		ret[0] = '\0';
}

static void read_driver(char *ret, size_t size)
{
	int dir = pci_open(&tree.roots, ADDRESS);

	assert_true(dir >= 0);
	(void)sysfs_link(dir, "driver", ret, size);
	close(dir);
}

static void probe(const struct fake *f)
{
	char override[32], target[128];

	read_override(override, sizeof(override));
	const char *driver = override[0] ? override : f->native;
	if (!driver || (f->vfio_refuses && !strcmp(driver, VFIO_DRIVER)))
		return; /* and says yes */
	snprintf(target, sizeof(target), "../../../bus/pci/drivers/%s", driver);
	tree_link(&tree, target, GPU "driver");
}

static bool ends_with(const char *text, const char *end)
{
	size_t n = strlen(text), k = strlen(end);

	return n >= k && !strcmp(text + n - k, end);
}

static int fake_write(void *data, const char *path, const char *text, unsigned limit_ms)
{
	struct fake *f = data;

	f->asked++;
	if (f->dies_at && f->asked >= f->dies_at)
		return -EINTR; /* nobody reads this */
	if (f->fails && ends_with(path, f->fails))
		return f->code;
	if (f->goes_away)
		tree_delete(&tree, "sys/bus/pci/devices/" ADDRESS);
	else if (ends_with(path, "/driver_override"))
		tree_put(&tree, GPU "driver_override", strcmp(text, "\n") != 0 ? text : "(null)\n");
	else if (ends_with(path, "/driver/unbind") && !f->unbind_ignored)
		tree_delete(&tree, GPU "driver");
	else if (ends_with(path, "/drivers_probe"))
		probe(f);
	return 0;
}

static int set_up(void **state)
{
	static const struct tree_pci gpu = {.address = ADDRESS,
		.vendor = 0x1002,
		.class = 0x030000,
		.driver = "amdgpu",
		.group = 7};

	tree_make(&tree);
	tree_vfio(&tree);
	tree_pci(&tree, &gpu);
	tree_drm(&tree, ADDRESS, "card0");
	fake = (struct fake){.native = "amdgpu"};
	fake.ops = (struct vfio_kernel){.write = fake_write, .data = &fake};
	return 0;
}

static int tear_down(void **state)
{
	tree_remove(&tree);
	return 0;
}

static void check_now(const char *driver, const char *override)
{
	char text[32];

	read_driver(text, sizeof(text));
	assert_string_equal(text, driver);
	read_override(text, sizeof(text));
	assert_string_equal(text, override);
}

/* The refusal as people read it: WHAT: WHY (WHAT TO DO). */
static void check_says(const struct vfio_change *c, const char *part)
{
	struct error err = {0};

	assert_int_equal(vfio_explain(c, "gpu-03:00.0", &err), c->code);
	if (strncmp(err.text, "gpu-03:00.0: ", 13) != 0 || !ends_with(err.text, ")") ||
		!strstr(err.text, " (") || !strstr(err.text, part) || strstr(err.text, "{}"))
		fail_msg("%s", err.text);
}

static void test_there_and_back(void **state)
{
	struct vfio_change c;

	assert_int_equal(vfio_take(&tree.roots, &fake.ops, ADDRESS, &c), 0);
	assert_int_equal(c.step, VFIO_DONE);
	assert_string_equal(c.before, "amdgpu");
	assert_string_equal(c.driver, "vfio-pci");
	check_now("vfio-pci", "vfio-pci");
	assert_int_equal(fake.asked, 3);
	/* again: there is nothing to do */
	assert_int_equal(vfio_take(&tree.roots, &fake.ops, ADDRESS, &c), 0);
	assert_int_equal(fake.asked, 3);
	assert_int_equal(vfio_give_back(&tree.roots, &fake.ops, ADDRESS, &c), 0);
	assert_string_equal(c.driver, "amdgpu");
	check_now("amdgpu", "");
	assert_int_equal(vfio_give_back(&tree.roots, &fake.ops, ADDRESS, &c), 0);
	assert_int_equal(fake.asked, 6);
}

static void test_no_driver_wants_it_back(void **state)
{
	struct vfio_change c;

	fake.native = NULL;
	assert_int_equal(vfio_take(&tree.roots, &fake.ops, ADDRESS, &c), 0);
	assert_int_equal(vfio_give_back(&tree.roots, &fake.ops, ADDRESS, &c), 0);
	assert_int_equal(c.step, VFIO_DONE);
	assert_string_equal(c.driver, "");
	check_now("", "");
	assert_int_equal(vfio_take(&tree.roots, &fake.ops, ADDRESS, &c), 0);
	check_now("vfio-pci", "vfio-pci");
}

/* drivers_probe says yes; the driver's link does not. */
static void test_vfio_does_not_take_it(void **state)
{
	struct vfio_change c;

	fake.vfio_refuses = true;
	assert_int_equal(vfio_take(&tree.roots, &fake.ops, ADDRESS, &c), -ENXIO);
	assert_int_equal(c.step, VFIO_PROBE);
	assert_true(c.taken_back);
	check_now("amdgpu", "");
	check_says(&c, "vfio-pci does not take it; what was begun is undone (");
}

static void test_somebody_has_it_open(void **state)
{
	static const char *const card[] = {"/dev/dri/card0", NULL}, *const group[] = {
									    "/dev/vfio/7", NULL};
	struct vfio_change c;

	tree_process(&tree, 812, "Xorg\n", card);
	tree_process(&tree, 813, "Xorg2\n", card);
	assert_int_equal(vfio_take(&tree.roots, &fake.ops, ADDRESS, &c), -EBUSY);
	check_says(&c, "PID 81");
	check_says(&c, "and 1 more");
	assert_int_equal(fake.asked, 0);
	tree_delete(&tree, "proc/812");
	tree_delete(&tree, "proc/813");
	assert_int_equal(vfio_take(&tree.roots, &fake.ops, ADDRESS, &c), 0);
	tree_process(&tree, 90, "qemu-system-x86\n", group);
	assert_int_equal(vfio_give_back(&tree.roots, &fake.ops, ADDRESS, &c), -EBUSY);
	check_says(&c, "PID 90 (qemu-system-x86) has /dev/vfio/7 open (end that first)");
	check_now("vfio-pci", "vfio-pci");
}

static void test_each_request_fails(void **state)
{
	static const struct {
		const char *at;
		int code;
		const char *says;
		const char *driver; /* afterwards */
	} cases[] = {
		{"/driver_override", -EACCES, "root", "amdgpu"},
		{"/driver_override", -EROFS, "read-only", "amdgpu"},
		{"/driver_override", -ENOENT, "driver_override", "amdgpu"},
		{"/driver/unbind", -ETIMEDOUT, "amdgpu does not let go", "amdgpu"},
		{"/driver/unbind", -EIO, "unbind fails", "amdgpu"},
		{"/drivers_probe", -EINVAL, "IOMMU group", ""},
		{"/drivers_probe", -ETIMEDOUT, "does not come to an end", ""},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct vfio_change c;
		fake.fails = cases[i].at;
		fake.code = cases[i].code;
		assert_int_equal(vfio_take(&tree.roots, &fake.ops, ADDRESS, &c), cases[i].code);
		check_says(&c, cases[i].says);
		assert_int_equal(c.taken_back,
			c.requests && cases[i].code != -ETIMEDOUT && !strcmp(c.driver, c.before));
		assert_string_equal(c.driver, cases[i].driver);
		/* once it is over, asking again ends it one way or the other */
		fake.fails = NULL;
		assert_int_equal(vfio_give_back(&tree.roots, &fake.ops, ADDRESS, &c), 0);
		check_now("amdgpu", "");
	}
}

static void test_a_driver_that_keeps_it(void **state)
{
	struct vfio_change c;

	fake.unbind_ignored = true;
	assert_int_equal(vfio_take(&tree.roots, &fake.ops, ADDRESS, &c), -ENXIO);
	assert_int_equal(c.step, VFIO_UNBIND);
	assert_true(c.taken_back);
	check_says(&c, "its driver amdgpu keeps it");
	check_now("amdgpu", "");
}

static void test_it_vanishes(void **state)
{
	struct vfio_change c;

	fake.goes_away = true;
	assert_int_equal(vfio_take(&tree.roots, &fake.ops, ADDRESS, &c), -ENODEV);
	check_says(&c, "not on this node");
	assert_int_equal(vfio_give_back(&tree.roots, &fake.ops, ADDRESS, &c), -ENODEV);
	assert_int_equal(vfio_take(&tree.roots, &fake.ops, "../../etc", &c), -ENODEV);
	assert_int_equal(vfio_take(&tree.roots, &fake.ops, "", &c), -ENODEV);
}

/* Whoever chose another driver for it has it back as it was. */
static void test_an_override_of_somebody_elses(void **state)
{
	struct vfio_change c;

	tree_put(&tree, GPU "driver_override", "nouveau\n");
	assert_int_equal(vfio_give_back(&tree.roots, &fake.ops, ADDRESS, &c), 0);
	check_now("amdgpu", "nouveau");
	assert_int_equal(fake.asked, 0);
	bind_to("xe-vfio-pci"); /* VFIO's too, and made by hand */
	assert_int_equal(vfio_take(&tree.roots, &fake.ops, ADDRESS, &c), 0);
	assert_string_equal(c.driver, "xe-vfio-pci");
	assert_int_equal(fake.asked, 0);
}

/* Cut off before each of its requests, in both directions, and then finished either way. */
static void test_cut_off_anywhere(void **state)
{
	for (unsigned way = 0; way < 4; way++) {
		bool back = way & 1, finish = way & 2;
		for (unsigned at = 1; at <= 3; at++) {
			struct vfio_change c;
			if (back)
				assert_int_equal(vfio_take(&tree.roots, &fake.ops, ADDRESS, &c), 0);
			fake.asked = 0;
			fake.dies_at = at;
			int r = back ? vfio_give_back(&tree.roots, &fake.ops, ADDRESS, &c)
				     : vfio_take(&tree.roots, &fake.ops, ADDRESS, &c);
			assert_int_equal(r, -EINTR);
			fake.dies_at = 0;
			r = back == finish ? vfio_give_back(&tree.roots, &fake.ops, ADDRESS, &c)
					   : vfio_take(&tree.roots, &fake.ops, ADDRESS, &c);
			assert_int_equal(r, 0);
			/* An override that was cleared already is not set again: it has it. */
			assert_string_equal(c.driver, back == finish ? "amdgpu" : "vfio-pci");
			assert_int_equal(vfio_give_back(&tree.roots, &fake.ops, ADDRESS, &c), 0);
			check_now("amdgpu", "");
		}
	}
}

/* --- requests themselves --- */

static void test_requests(void **state)
{
	char path[128], text[300];

	snprintf(path, sizeof(path), "%s/file", tree.root);
	assert_int_equal(sysfs_write(path, "x", 1000), -ENOENT);
	tree_put(&tree, "file", "");
	assert_int_equal(sysfs_write(path, "vfio-pci\n", 1000), 0);
	int dir = sysfs_open(AT_FDCWD, tree.root);
	assert_int_equal(sysfs_read(dir, "file", text, sizeof(text)), 0);
	assert_string_equal(text, "vfio-pci");
	tree_link(&tree, "file", "link");
	snprintf(path, sizeof(path), "%s/link", tree.root);
	assert_int_equal(sysfs_write(path, "x", 1000), -ELOOP);
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	assert_int_equal(sysfs_write(path, text, 1000), -E2BIG);
	close(dir);
}

/* A FIFO without a reader: whoever opens it waits, as in a driver. */
static void test_a_request_that_waits(void **state)
{
	char path[128], text[16];

	snprintf(path, sizeof(path), "%s/fifo", tree.root);
	assert_int_equal(mkfifo(path, 0600), 0);
	uint64_t begin = clock_ms();
	assert_int_equal(sysfs_write(path, "late", 200), -ETIMEDOUT);
	assert_in_range(clock_ms() - begin, 190, 5000);
	/* the request stands, and is fulfilled when it can be */
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, text, sizeof(text)), 4);
	assert_memory_equal(text, "late", 4);
	close(fd);
}

#define T(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {T(test_there_and_back), T(test_no_driver_wants_it_back),
		T(test_vfio_does_not_take_it), T(test_somebody_has_it_open),
		T(test_each_request_fails), T(test_a_driver_that_keeps_it), T(test_it_vanishes),
		T(test_an_override_of_somebody_elses), T(test_cut_off_anywhere), T(test_requests),
		T(test_a_request_that_waits)};
	signal(SIGPIPE, SIG_IGN);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
