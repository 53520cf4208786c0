/* SPDX-License-Identifier: Apache-2.0 */
/* Plans in the store: written with their definition, read by the next vgpud, malformed, older. */
#include "control/store_plan.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct place {
	char dir[32], db[48];
	struct stored_plan plan, read;
	struct definition def;
};

static int set_up(void **state)
{
	struct place *p = calloc(1, sizeof(*p));

	strcpy(p->dir, "/tmp/vgpu-unit-XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	snprintf(p->db, sizeof(p->db), "%s/db", p->dir);
	p->def = (struct definition){.name = "a",
		.uuid = "11111111-2222-3333-4444-555555555555",
		.gpu = "gpu-03:00.0",
		.method = METHOD_PASSTHROUGH,
		.phase = PHASE_CREATING,
		.type = {.name = "gpu-03:00.0-passthrough", .vram_mib = 16}};
	p->plan = (struct stored_plan){.boot = "b", .owner_uid = 7, .owner_gid = 8, .vram_mib = 16};
	p->plan.plan = (struct change_plan){.count = 2,
		.device = "0000:03:00.0",
		.list = {{.kind = CHANGE_VFIO,
				 .subject = "0000:03:00.0",
				 .before = "amdgpu",
				 .after = "vfio-pci"},
			{.kind = CHANGE_OWNER,
				.subject = "0000:03:00.0",
				.after = "7:8:0660",
				.shared = true}}};
	*state = p;
	return 0;
}

static int tear_down(void **state)
{
	char command[64];
	struct place *p = *state;

	snprintf(command, sizeof(command), "rm -r %s", p->dir);
	int status = system(command); /* NOLINT(cert-env33-c): a path that mkdtemp() made */
	assert_int_equal(status, 0);
	free(p);
	return 0;
}

static void run_sql(const struct place *p, const char *sql)
{
	sqlite3 *db;

	assert_int_equal(sqlite3_open(p->db, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

static struct store *open_store(const struct place *p)
{
	struct store *store;
	struct error err;

	assert_int_equal(store_open(p->db, &store, &err), 0);
	return store;
}

static void insert(struct place *p)
{
	struct error err;
	struct store *store = open_store(p);

	assert_int_equal(store_insert_planned(store, &p->def, &p->plan, "t", &err), 0);
	store_close(store);
}

static int read_plan(struct place *p)
{
	struct error err;
	struct store *store = open_store(p);
	int r = store_get_plan(store, "a", &p->read, &err);

	store_close(store);
	return r;
}

static void test_the_next_vgpud_finds_it(void **state)
{
	struct place *p = *state;
	struct error err;

	insert(p);
	assert_int_equal(read_plan(p), 0);
	assert_memory_equal(&p->read, &p->plan, sizeof(p->plan));
	p->plan.plan.count = 1;
	strcpy(p->plan.boot, "c");
	struct store *store = open_store(p);
	assert_int_equal(store_set_plan(store, "a", &p->plan, "t", &err), 0);
	assert_int_equal(store_get_plan(store, "a", &p->read, &err), 0);
	assert_int_equal(p->read.plan.count, 1);
	assert_string_equal(p->read.boot, "c");
	assert_int_equal(store_delete(store, "a", "t", &err), 0);
	assert_int_equal(store_get_plan(store, "a", &p->read, &err), -ENOENT);
	store_close(store);
}

static void test_rows_that_no_vgpud_wrote(void **state)
{
	static const char *const edits[] = {
		"UPDATE changes SET kind = 'rm' WHERE number = 0;",
		"UPDATE changes SET subject = '../../../etc' WHERE number = 0;",
		"UPDATE changes SET after = '0:0:4777' WHERE number = 1;",
		"UPDATE changes SET before = printf('%100d', 1) WHERE number = 0;",
		"UPDATE changes SET number = 5 WHERE number = 1;",
		"DELETE FROM changes;",
		"UPDATE plans SET device = 'x';",
		"UPDATE plans SET uid = -1;",
		"UPDATE plans SET slice = printf('%100d', 1);",
		("WITH RECURSIVE n(i) AS (SELECT 2 UNION SELECT i + 1 FROM n WHERE i < 200) INSERT "
		 "INTO changes SELECT vgpu, i, kind, subject, before, after, shared FROM changes, "
		 "n "
		 "WHERE number = 0;"),
	};
	struct place *p = *state;

	for (size_t i = 0; i < sizeof(edits) / sizeof(*edits); i++) {
		insert(p);
		assert_int_equal(read_plan(p), 0);
		run_sql(p, edits[i]);
		assert_int_equal(read_plan(p), -EINVAL);
	}
}

static void test_a_database_without_plans(void **state)
{
	struct place *p = *state;

	store_close(open_store(p));
	run_sql(p, "DROP TABLE plans; DROP TABLE changes; PRAGMA user_version = 5;");
	insert(p);
	assert_int_equal(read_plan(p), 0);
	run_sql(p, "DROP TABLE plans; DROP TABLE changes; ALTER TABLE gpus DROP COLUMN mode;"
		   "ALTER TABLE gpus DROP COLUMN left_by; PRAGMA user_version = 4;");
	insert(p);
	assert_int_equal(read_plan(p), 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		T(test_the_next_vgpud_finds_it),
		T(test_rows_that_no_vgpud_wrote),
		T(test_a_database_without_plans),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
