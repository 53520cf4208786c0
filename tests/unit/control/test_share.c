/* SPDX-License-Identifier: Apache-2.0 */
/* Where control groups are found, and how policies are kept. */
#include "base/checked.h"
#include "base/cleanup.h"
#include "control/store.h"
#include "host/cgroup.h"

#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cmocka.h>

struct folder {
	char dir[64];
};

static int make_folder(void **state)
{
	struct folder *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	snprintf(f->dir, sizeof(f->dir), "/tmp/vgshareXXXXXX");
	*state = f;
	return mkdtemp(f->dir) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *file, int kind, struct FTW *where)
{
	return remove(path);
}

static int remove_folder(void **state)
{
	struct folder *f = *state;

	int r = nftw(f->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	free(f);
	return r;
}

static void write_file(const struct folder *f, const char *name, const char *text)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", f->dir, name);
	cleanup_fclose FILE *file = fopen(path, "we");
	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
}

/* /proc/self as a process would see it, the hierarchy mounted at the folder itself. */
static int find(const struct folder *f, const char *own, const char *root, const char *type,
	const char *options, struct cgroup *ret, char *why)
{
	char line[256];

	write_file(f, "cgroup", own);
	snprintf(line, sizeof(line),
		"22 1 0:20 / /proc rw - proc proc rw\n"
		"30 29 0:27 %s %s rw,nosuid shared:9 - %s cgroup rw%s\n",
		root, f->dir, type, options);
	write_file(f, "mountinfo", line);
	return cgroup_find(ret, f->dir, why, 256);
}

static void test_version_1(void **state)
{
	const struct folder *f = *state;
	struct cgroup cgroup;
	char why[256], wanted[96];

	static const char own[] = "4:memory:/m\n3:cpuset:/no\n2:cpu,cpuacct:/sub\n0::/no\n";
	snprintf(wanted, sizeof(wanted), "%s/sub", f->dir);
	assert_int_equal(mkdir(wanted, 0700), 0);
	assert_int_equal(find(f, own, "/", "cgroup", ",cpu,cpuacct", &cgroup, why), 0);
	assert_int_equal(cgroup.version, 1);
	assert_string_equal(cgroup.dir, wanted);
	/* In a container, only what is below /sub is mounted. */
	assert_int_equal(find(f, own, "/sub", "cgroup", ",cpu,cpuacct", &cgroup, why), 0);
	assert_string_equal(cgroup.dir, f->dir);
	assert_int_equal(find(f, own, "/", "cgroup", ",cpuset", &cgroup, why), -ENOENT);
}

static void test_version_2(void **state)
{
	const struct folder *f = *state;
	struct cgroup cgroup;
	char why[256];

	assert_int_equal(find(f, "0::/\n", "/", "cgroup2", "", &cgroup, why), -EOPNOTSUPP);
	assert_non_null(strstr(why, "not delegated"));
	write_file(f, "cgroup.controllers", "cpuset io memory\n");
	assert_int_equal(find(f, "0::/\n", "/", "cgroup2", "", &cgroup, why), -EOPNOTSUPP);
	write_file(f, "cgroup.controllers", "cpuset cpu io\n");
	assert_int_equal(find(f, "0::/\n", "/", "cgroup2", "", &cgroup, why), 0);
	assert_int_equal(cgroup.version, 2);
	assert_string_equal(cgroup.dir, f->dir);
	assert_int_equal(find(f, "0::/gone\n", "/", "cgroup2", "", &cgroup, why), -EOPNOTSUPP);
}

static void test_no_groups(void **state)
{
	const struct folder *f = *state;
	struct cgroup cgroup;
	char why[256] = "";

	assert_int_equal(cgroup_find(&cgroup, f->dir, why, sizeof(why)), -ENOENT);
	assert_true(why[0]);
	assert_int_equal(find(f, "nonsense\n", "/", "cgroup2", "", &cgroup, why), -ENOENT);
}

static void test_numbers_out_of_range(void **state)
{
	static const struct cgroup_cpu bad[] = {{0, 0, 0}, {CGROUP_WEIGHT_MAX + 1, 0, 0},
		{100, 999, 10000}, {100, 1000, 999}, {100, 1000, CGROUP_PERIOD_MAX + 1}};
	const struct folder *f = *state;
	struct cgroup cgroup = {.version = 1};

	snprintf(cgroup.dir, sizeof(cgroup.dir), "%s", f->dir);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(cgroup_set(&cgroup, "x", &bad[i]), -EINVAL);
	assert_int_equal(cgroup_make(&cgroup, "a/b"), 0);
	assert_true(cgroup_exists(&cgroup, "a/b"));
	assert_int_equal(cgroup_remove(&cgroup, "a"), -ENOTEMPTY);
	assert_int_equal(cgroup_remove(&cgroup, "a/b"), 0);
	assert_int_equal(cgroup_remove(&cgroup, "a/b"), 0);
}

/* Kernels that cannot: only who asks for it is told. */
static void test_giving_way(void **state)
{
	const struct folder *f = *state;
	char text[8] = "", path[96];
	struct cgroup cgroup = {.version = 1};
	struct utsname kernel;
	unsigned major = 0, minor = 0;

	snprintf(cgroup.dir, sizeof(cgroup.dir), "%s", f->dir);
	assert_int_equal(cgroup_make(&cgroup, "g/all"), 0);
	assert_int_equal(cgroup_set_gives_way(&cgroup, "g/all", false), 0);
	assert_int_equal(uname(&kernel), 0);
	assert_int_equal(sscanf(kernel.release, "%u.%u", &major, &minor), 2);
	if (major * 1000 + minor < 6015) {
		assert_int_equal(cgroup_set_gives_way(&cgroup, "g/all", true), -EOPNOTSUPP);
		return;
	}
	assert_int_equal(cgroup_set_gives_way(&cgroup, "g/all", true), -ENOENT);
	write_file(f, "g/all/cpu.idle", "0");
	assert_int_equal(cgroup_set_gives_way(&cgroup, "g/all", true), 0);
	snprintf(path, sizeof(path), "%s/g/all/cpu.idle", f->dir);
	cleanup_fclose FILE *file = fopen(path, "re");
	assert_non_null(file);
	assert_non_null(fgets(text, sizeof(text), file));
	assert_string_equal(text, "1");
}

/* The kernel takes the whole process of any thread, and then its threads are gone from the list. */
static void test_moves(void **state)
{
	const struct folder *f = *state;
	char text[32] = "", path[96];
	struct cgroup cgroup = {.version = 1};

	snprintf(cgroup.dir, sizeof(cgroup.dir), "%s", f->dir);
	assert_int_equal(cgroup_make(&cgroup, "g/all/a"), 0);
	assert_int_equal(cgroup_make(&cgroup, "g/a"), 0);
	assert_int_equal(cgroup_move(&cgroup, "g/all/a", "g/a"), -ENOENT);
	write_file(f, "g/all/a/tasks", "");
	assert_int_equal(cgroup_move(&cgroup, "g/all/a", "g/a"), 0);
	/* Here they stay, so it tries until it has had enough. */
	write_file(f, "g/all/a/tasks", "4711\n4712\n");
	assert_int_equal(cgroup_move(&cgroup, "g/all/a", "g/a"), -ENOENT);
	write_file(f, "g/a/cgroup.procs", "");
	assert_int_equal(cgroup_move(&cgroup, "g/all/a", "g/a"), -EBUSY);
	snprintf(path, sizeof(path), "%s/g/a/cgroup.procs", f->dir);
	cleanup_fclose FILE *file = fopen(path, "re");
	assert_non_null(file);
	assert_non_null(fgets(text, sizeof(text), file));
	assert_string_equal(text, "4711");
	write_file(f, "g/all/a/tasks", "no number\n");
	assert_int_equal(cgroup_move(&cgroup, "g/all/a", "g/a"), 0);
}

static void run_sql(const char *path, const char *sql)
{
	sqlite3 *db;

	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

static void test_policies_are_kept(void **state)
{
	const struct folder *f = *state;
	const struct sched_gpu chosen = {SCHED_FIXED_SHARE, 7};
	struct sched_gpu sched;
	struct store *store;
	struct error err;
	char path[96];

	snprintf(path, sizeof(path), "%s/db", f->dir);
	/* A database of a vgpud that knew no policies. */
	assert_int_equal(store_open(path, &store, &err), 0);
	store_close(store);
	run_sql(path,
		"DROP TABLE gpus; ALTER TABLE vgpus DROP COLUMN tenant; PRAGMA user_version = 2;");
	assert_int_equal(store_open(path, &store, &err), 0);
	assert_int_equal(store_get_policy(store, "soft0", &sched, &err), 0);
	assert_int_equal(sched.policy, SCHED_BEST_EFFORT);
	assert_int_equal(store_set_policy(store, "soft0", &chosen, "test", &err), 0);
	store_close(store);
	assert_int_equal(store_open(path, &store, &err), 0);
	assert_int_equal(store_get_policy(store, "soft0", &sched, &err), 0);
	assert_int_equal(sched.policy, SCHED_FIXED_SHARE);
	assert_int_equal(sched.slice_ms, 7);
	assert_int_equal(store_get_policy(store, "soft1", &sched, &err), 0);
	assert_int_equal(sched.policy, SCHED_BEST_EFFORT);
	store_close(store);
	run_sql(path, "UPDATE gpus SET slice_ms = 31;");
	assert_int_equal(store_open(path, &store, &err), 0);
	assert_int_equal(store_get_policy(store, "soft0", &sched, &err), -EINVAL);
	store_close(store);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_version_1, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_version_2, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_no_groups, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(
			test_numbers_out_of_range, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_giving_way, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_moves, make_folder, remove_folder),
		cmocka_unit_test_setup_teardown(test_policies_are_kept, make_folder, remove_folder),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
