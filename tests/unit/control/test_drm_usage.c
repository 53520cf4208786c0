/* SPDX-License-Identifier: Apache-2.0 */
/* What drivers say of a process, in texts as kernels write them. */
#include "host/drm_usage.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define PID 4711

static const char common[] = "pos:\t0\nflags:\t02100002\nmnt_id:\t24\nino:\t731\n";

struct tree {
	char dir[32], fdinfo[96], fd[96];
};

static void put(const struct tree *t, const char *name, const char *text)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", t->fdinfo, name);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fprintf(f, "%s%s", common, text);
	assert_int_equal(fclose(f), 0);
}

/* What the process has open as that number; nothing of that name is there. */
static void link_to(const struct tree *t, const char *name, const char *target)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", t->fd, name);
	unlink(path);
	assert_int_equal(symlink(target, path), 0);
}

static int setup(void **state)
{
	static struct tree t;
	char path[64];

	snprintf(t.dir, sizeof(t.dir), "/tmp/vgpu-drm-XXXXXX");
	assert_non_null(mkdtemp(t.dir));
	snprintf(path, sizeof(path), "%s/%d", t.dir, PID);
	snprintf(t.fdinfo, sizeof(t.fdinfo), "%s/fdinfo", path);
	snprintf(t.fd, sizeof(t.fd), "%s/fd", path);
	assert_int_equal(mkdir(path, 0700) | mkdir(t.fdinfo, 0700) | mkdir(t.fd, 0700), 0);
	link_to(&t, "0", "/dev/null");
	for (const char *name = "3\0004\0005\0"; *name; name += 2)
		link_to(&t, name, "/dev/dri/renderD128");
	*state = &t;
	return 0;
}

static int teardown(void **state)
{
	static const char *const names[] = {"0", "3", "4", "5", "6"};
	struct tree *t = *state;
	char path[128];

	for (unsigned i = 0; i < sizeof(names) / sizeof(*names); i++) {
		snprintf(path, sizeof(path), "%s/%s", t->fdinfo, names[i]);
		unlink(path);
		snprintf(path, sizeof(path), "%s/%s", t->fd, names[i]);
		unlink(path);
	}
	rmdir(t->fdinfo);
	rmdir(t->fd);
	*strrchr(t->fdinfo, '/') = '\0';
	return rmdir(t->fdinfo) | rmdir(t->dir);
}

static void test_engines_of_all_clients(void **state)
{
	struct tree *t = *state;
	struct drm_usage usage;
	uint64_t ns;

	put(t, "0", "");
	put(t, "3",
		"drm-driver:\ti915\ndrm-client-id:\t7\ndrm-engine-render:\t1000 ns\n"
		"drm-engine-copy:\t20 ns\ndrm-engine-capacity-copy:\t2\n"
		"drm-total-system0:\t4096 KiB\n");
	/* The same client by another descriptor, and a second one. */
	put(t, "4", "drm-driver:\ti915\ndrm-client-id:\t7\ndrm-engine-render:\t1000 ns\n");
	put(t, "5", "drm-driver:\tamdgpu\ndrm-client-id:\t8\ndrm-engine-gfx:\t300 ns\n");
	assert_true(drm_usage_open(t->dir, PID, &usage));
	assert_int_equal(usage.n, 3);
	assert_true(drm_usage_read(&usage, &ns));
	assert_true(ns == 1320 || ns == 1300); /* 3 and 4 are the same, whichever is found first */
	/* It is read anew each time. */
	put(t, "5", "drm-client-id:\t8\ndrm-engine-gfx:\t500 ns\n");
	assert_true(drm_usage_read(&usage, &ns));
	assert_true(ns == 1520 || ns == 1500);
	drm_usage_close(&usage);
}

/* What is not a device of that kind is not even looked at: its name says so. */
static void test_other_descriptors(void **state)
{
	static const char *const targets[] = {"/dev/null", "socket:[4711]", "renderD128", "/",
		"/tmp/card0/file", "anon_inode:[eventfd]"};
	struct tree *t = *state;
	struct drm_usage usage;

	link_to(t, "4", "/dev/null");
	link_to(t, "5", "/dev/null");
	put(t, "3", "drm-client-id:\t7\ndrm-engine-render:\t5 ns\n");
	for (unsigned i = 0; i < sizeof(targets) / sizeof(*targets); i++) {
		link_to(t, "3", targets[i]);
		assert_false(drm_usage_open(t->dir, PID, &usage));
		assert_int_equal(usage.n, 0);
	}
	/* In a namespace of its own it may be found anywhere. */
	link_to(t, "3", "/card1");
	assert_true(drm_usage_open(t->dir, PID, &usage));
	drm_usage_close(&usage);
}

static void test_what_does_not_tell(void **state)
{
	static const char *const texts[] = {"", "drm-driver:\tvirtio_gpu\n", "drm-client-id:\t7\n",
		"drm-client-id:\t7\ndrm-engine-render:\n", "drm-client-id:\t7\ndrm-engine-render\n",
		"drm-engine-render:\t5 ns\n", "drm-client-id:\t-7\ndrm-engine-render:\t5 ns\n",
		"drm-client-id:\t7\ndrm-engine-render:\t99999999999999999999 ns\n"};
	struct tree *t = *state;
	struct drm_usage usage;
	uint64_t ns;

	for (unsigned i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		put(t, "3", texts[i]);
		assert_true(drm_usage_open(t->dir, PID, &usage));
		assert_false(drm_usage_read(&usage, &ns));
		drm_usage_close(&usage);
		assert_false(drm_usage_read(&usage, &ns));
	}
	assert_false(drm_usage_open(t->dir, PID + 1, &usage));
	/* One that stops telling is not taken for one that uses nothing. */
	put(t, "3", "drm-client-id:\t7\ndrm-engine-render:\t5 ns\n");
	assert_true(drm_usage_open(t->dir, PID, &usage));
	assert_true(drm_usage_read(&usage, &ns));
	assert_int_equal(ns, 5);
	put(t, "3", "");
	assert_false(drm_usage_read(&usage, &ns));
	drm_usage_close(&usage);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_engines_of_all_clients, setup, teardown),
		cmocka_unit_test_setup_teardown(test_other_descriptors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_does_not_tell, setup, teardown),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
