/* SPDX-License-Identifier: Apache-2.0 */
/* How much memory is left, on constructed nodes. */
#include "host/headroom.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB (1ull << 20)

struct tree {
	char dir[32], proc[64], sys[64];
};

static int setup(void **state)
{
	struct tree *t = calloc(1, sizeof(*t));

	*state = t;
	strcpy(t->dir, "/tmp/headroomXXXXXX");
	if (!mkdtemp(t->dir))
		return -1;
	snprintf(t->proc, sizeof(t->proc), "%s/proc", t->dir);
	snprintf(t->sys, sizeof(t->sys), "%s/sys", t->dir);
	return 0;
}

static int teardown(void **state)
{
	struct tree *t = *state;
	char command[64];

	snprintf(command, sizeof(command), "rm -r %s", t->dir);
	int status = system(command); /* NOLINT(cert-env33-c): a path that mkdtemp() made */
	free(t);
	return status;
}

/* Writes a file and makes the folders above it. */
static void put(const struct tree *t, const char *name, const char *text)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", t->dir, name);
	for (char *at = path + strlen(t->dir) + 1; (at = strchr(at, '/')); at++) {
		*at = '\0';
		mkdir(path, 0700);
		*at = '/';
	}
	FILE *f = fopen(path, "we");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static uint64_t left_mib(const struct tree *t)
{
	return host_headroom(t->proc, t->sys) / MIB;
}

static void test_of_the_node(void **state)
{
	const struct tree *t = *state;

	assert_true(host_headroom(t->proc, t->sys) == UINT64_MAX);
	put(t, "proc/meminfo",
		"MemTotal: 8192000 kB\nMemFree: 1024 kB\nMemAvailable:  2048000 kB\n");
	assert_int_equal(left_mib(t), 2000);
	put(t, "proc/meminfo", "MemAvailable: many kB\n");
	assert_true(host_headroom(t->proc, t->sys) == UINT64_MAX);
}

static void test_of_a_group(void **state)
{
	const struct tree *t = *state;

	put(t, "proc/meminfo", "MemAvailable:  2048000 kB\n");
	put(t, "proc/self/cgroup", "0::/a/b\n");
	put(t, "sys/a/b/memory.max", "max\n");
	put(t, "sys/a/b/memory.current", "1048576\n");
	assert_int_equal(left_mib(t), 2000);
	put(t, "sys/a/memory.max", "524288000\n"); /* the one above */
	put(t, "sys/a/memory.current", "314572800\n");
	assert_int_equal(left_mib(t), 200);
	put(t, "sys/a/memory.stat", "anon 5\ninactive_file 104857600\nfile 7\n");
	assert_int_equal(left_mib(t), 300);
	put(t, "sys/a/memory.current", "924288000\n"); /* beyond it, as it can be for a moment */
	put(t, "sys/a/memory.stat", "inactive_file 0\n");
	assert_int_equal(left_mib(t), 0);
}

static void test_of_a_group_of_version_1(void **state)
{
	const struct tree *t = *state;

	put(t, "proc/meminfo", "MemAvailable:  2048000 kB\n");
	put(t, "proc/self/cgroup", "4:memory:/x\n1:cpu:/\n0::/\n");
	put(t, "sys/memory/x/memory.limit_in_bytes", "104857600\n");
	put(t, "sys/memory/x/memory.usage_in_bytes", "52428800\n");
	assert_int_equal(left_mib(t), 50);
	put(t, "proc/self/cgroup", "4:memory:/not/seen/from/here\n");
	put(t, "sys/memory/memory.limit_in_bytes", "209715200\n"); /* the topmost is */
	put(t, "sys/memory/memory.usage_in_bytes", "52428800\n");
	assert_int_equal(left_mib(t), 150);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_of_the_node, setup, teardown),
		cmocka_unit_test_setup_teardown(test_of_a_group, setup, teardown),
		cmocka_unit_test_setup_teardown(test_of_a_group_of_version_1, setup, teardown),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
