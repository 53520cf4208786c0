/* SPDX-License-Identifier: Apache-2.0 */
/* Tenants in the database, and their folders. */
#include "control/tenant.h"

#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct place {
	char dir[40], db[64];
	struct vgpud d;
};

static int place_make(void **state)
{
	struct place *p = calloc(1, sizeof(*p));

	strcpy(p->dir, "/tmp/vgpu-tenant-XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	snprintf(p->db, sizeof(p->db), "%s/db", p->dir);
	snprintf(p->d.shaders_dir, sizeof(p->d.shaders_dir), "%s/shaders", p->dir);
	assert_int_equal(mkdir(p->d.shaders_dir, 0700), 0);
	p->d.config.shader_cache_mib = 1;
	*state = p;
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *where)
{
	return remove(path);
}

static int place_end(void **state)
{
	struct place *p = *state;

	assert_int_equal(nftw(p->dir, remove_one, 4, FTW_DEPTH | FTW_PHYS), 0);
	free(p);
	return 0;
}

static struct definition definition(const char *name, const char *tenant)
{
	struct definition def = {
		.method = METHOD_FORWARD, .phase = PHASE_DEFINED, .type = {.vram_mib = 64}};

	snprintf(def.name, sizeof(def.name), "%s", name);
	snprintf(def.uuid, sizeof(def.uuid), "uuid-of-%.20s", name);
	snprintf(def.tenant, sizeof(def.tenant), "%s", tenant);
	return def;
}

/* ---- the database ---- */

static void run_sql(const char *path, const char *sql)
{
	sqlite3 *db;

	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

struct rows {
	struct definition def[4];
	unsigned n;
};

static int add_row(void *data, const struct definition *def)
{
	struct rows *rows = data;

	assert_true(rows->n < 4);
	rows->def[rows->n++] = *def;
	return 0;
}

static void read_rows(const char *path, struct rows *ret)
{
	struct store *store;
	struct error err;

	*ret = (struct rows){0};
	assert_int_equal(store_open(path, &store, &err), 0);
	assert_int_equal(store_each(store, add_row, ret, &err), 0);
	store_close(store);
}

static void insert(const char *path, const struct definition *def)
{
	struct store *store;
	struct error err;

	assert_int_equal(store_open(path, &store, &err), 0);
	assert_int_equal(store_insert(store, def, "test", &err), 0);
	store_close(store);
}

static void test_a_database_without_tenants(void **state)
{
	static const char *const older[] = {
		("ALTER TABLE gpus DROP COLUMN mode; ALTER TABLE gpus DROP COLUMN left_by;"
		 "PRAGMA user_version = 3;"),
		"DROP TABLE gpus; PRAGMA user_version = 2;",
		("DROP TABLE gpus; ALTER TABLE vgpus DROP COLUMN moving_to;"
		 "ALTER TABLE vgpus DROP COLUMN moves_before; PRAGMA user_version = 1;"),
	};
	const struct place *p = *state;
	const struct definition a = definition("a", ""), b = definition("b", "blue");
	struct rows rows;

	for (size_t i = 0; i < sizeof(older) / sizeof(*older); i++) {
		unlink(p->db);
		insert(p->db, &a);
		run_sql(p->db, "ALTER TABLE vgpus DROP COLUMN tenant;");
		run_sql(p->db, older[i]);
		insert(p->db, &b);
		read_rows(p->db, &rows);
		assert_int_equal(rows.n, 2);
		assert_string_equal(rows.def[0].name, "a");
		assert_string_equal(rows.def[0].tenant, "");
		assert_string_equal(rows.def[1].tenant, "blue");
	}
	/* One that no vgpud wrote could name any folder. */
	run_sql(p->db, "UPDATE vgpus SET tenant = '../..' WHERE name = 'b';");
	read_rows(p->db, &rows);
	assert_int_equal(rows.n, 1);
}

/* ---- who may name one ---- */

static void open_place(struct place *p)
{
	struct error err;

	assert_int_equal(store_open(p->db, &p->d.store, &err), 0);
}

static void close_place(struct place *p)
{
	store_close(p->d.store);
	p->d.store = NULL;
}

static int name_as(struct place *p, const char *tenant, uid_t uid, struct error *err)
{
	return tenant_name(&p->d, tenant, uid, "create x", err);
}

static bool known(const struct place *p, const char *tenant, uid_t uid)
{
	struct store_tenant stored;
	struct error err;

	assert_int_equal(store_get_tenant(p->d.store, tenant, &stored, &err), 0);
	return stored.known && stored.uid == uid;
}

/* Neither is whoever runs this. */
#define ALICE 3000000001u
#define BOB   3000000002u

static void test_a_tenant_is_whose_named_it_first(void **state)
{
	struct place *p = *state;
	struct vgpu a = {.def = definition("a", "blue")};
	struct error err;

	open_place(p);
	assert_int_equal(name_as(p, "blue", ALICE, &err), 0);
	p->d.vgpus = &a;
	assert_int_equal(name_as(p, "blue", ALICE, &err), 0);
	assert_int_equal(name_as(p, "blue", BOB, &err), -EPERM);
	assert_string_equal(err.text,
		"create x: the tenant blue is another user's (uid 3000000001), who named it first "
		"(choose another name, or have root create it)");
	assert_int_equal(name_as(p, "green", BOB, &err), 0);
	/* These may, and it stays hers. */
	assert_int_equal(name_as(p, "blue", 0, &err), 0);
	assert_int_equal(name_as(p, "blue", geteuid(), &err), 0);
	close_place(p);
	open_place(p);
	assert_int_equal(name_as(p, "blue", BOB, &err), -EPERM);
	tenant_let_go(&p->d, "blue"); /* it has a vGPU */
	assert_true(known(p, "blue", ALICE));
	p->d.vgpus = NULL;
	tenant_let_go(&p->d, "blue");
	assert_false(known(p, "blue", ALICE));
	assert_int_equal(name_as(p, "blue", BOB, &err), 0);
	p->d.vgpus = &a;
	assert_int_equal(name_as(p, "blue", ALICE, &err), -EPERM);
	close_place(p);
}

/* Its last vGPU is gone, and what it left in a GPU is not. */
static void test_a_tenant_that_left_something(void **state)
{
	struct place *p = *state;
	struct error err;

	open_place(p);
	assert_int_equal(name_as(p, "blue", ALICE, &err), 0);
	assert_int_equal(store_set_left(p->d.store, "gpu-03:00.0", "blue", "t", &err), 0);
	tenant_let_go(&p->d, "blue");
	assert_int_equal(store_clean_tenants(p->d.store, "t", &err), 0);
	assert_int_equal(name_as(p, "blue", BOB, &err), -EPERM);
	assert_int_equal(name_as(p, "blue", ALICE, &err), 0);
	assert_int_equal(store_set_left(p->d.store, "gpu-03:00.0", "", "t", &err), 0);
	assert_int_equal(name_as(p, "blue", BOB, &err), 0);
	assert_int_equal(store_clean_tenants(p->d.store, "t", &err), 0);
	assert_false(known(p, "blue", BOB)); /* no vGPU of it was stored */
	close_place(p);
}

static void test_tenants_of_before_are_roots(void **state)
{
	struct place *p = *state;
	const struct definition a = definition("a", ""), b = definition("b", "blue");
	struct error err;

	insert(p->db, &a);
	insert(p->db, &b);
	open_place(p);
	assert_int_equal(store_set_left(p->d.store, "gpu-03:00.0", "green", "t", &err), 0);
	assert_int_equal(store_set_left(p->d.store, "gpu-04:00.0", "a 11111111-2", "t", &err), 0);
	close_place(p);
	run_sql(p->db, "DROP TABLE tenants; PRAGMA user_version = 7;");
	open_place(p);
	assert_true(known(p, "blue", 0) && known(p, "green", 0));
	assert_false(known(p, "a 11111111-2", 0) || known(p, "", 0));
	assert_int_equal(name_as(p, "green", BOB, &err), -EPERM);
	assert_non_null(strstr(err.text, "(root)"));
	/* Edited: nobody's number. */
	run_sql(p->db, "UPDATE tenants SET uid = -7;");
	assert_true(known(p, "green", 0));
	close_place(p);
}

/* ---- folders ---- */

static bool there(const struct place *p, const char *name)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/%s", p->d.shaders_dir, name);
	return access(path, F_OK) == 0;
}

static void make(const struct place *p, const struct definition *def, const char *expected)
{
	char path[VGPUD_PATH_MAX], file[VGPUD_PATH_MAX + 16];
	struct stat st;

	tenant_folder(&p->d, def, path, sizeof(path));
	assert_true(there(p, expected));
	assert_string_equal(path + strlen(p->d.shaders_dir) + 1, expected);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	snprintf(file, sizeof(file), "%s/archive", path);
	FILE *f = fopen(file, "we");
	assert_non_null(f);
	fclose(f);
}

static void test_it_goes_with_the_last_vgpu(void **state)
{
	struct place *p = *state;
	struct vgpu a = {.def = definition("a", "blue")}, b = {.def = definition("b", "blue")};
	struct vgpu c = {.def = definition("c", "")};
	const struct definition gone = definition("old", "");
	char path[VGPUD_PATH_MAX];

	a.next = &b;
	b.next = &c;
	p->d.vgpus = &a;
	make(p, &a.def, "tenant-blue");
	make(p, &b.def, "tenant-blue");
	make(p, &c.def, "vgpu-uuid-of-c");
	make(p, &gone, "vgpu-uuid-of-old"); /* of a vgpud that was killed while it deleted one */
	tenant_clean(&p->d);
	assert_false(there(p, "vgpu-uuid-of-old"));
	p->d.vgpus = &b;
	tenant_forget(&p->d, &a.def);
	assert_true(there(p, "tenant-blue") && there(p, "vgpu-uuid-of-c"));
	p->d.vgpus = &c;
	tenant_forget(&p->d, &b.def);
	assert_true(!there(p, "tenant-blue") && there(p, "vgpu-uuid-of-c"));
	p->d.config.shader_cache_mib = 0;
	tenant_folder(&p->d, &c.def, path, sizeof(path));
	assert_string_equal(path, "");
	tenant_clean(&p->d);
	assert_false(there(p, "vgpu-uuid-of-c"));
}

/* It could not be removed when its tenant went: whose name it is now never runs what is in it. */
static void test_what_an_earlier_tenant_compiled(void **state)
{
	struct place *p = *state;
	struct vgpu a = {.def = definition("a", "blue")};
	char path[160];
	struct error err;

	open_place(p);
	make(p, &a.def, "tenant-blue");
	assert_int_equal(name_as(p, "blue", BOB, &err), 0);
	assert_false(there(p, "tenant-blue"));
	p->d.vgpus = &a;
	make(p, &a.def, "tenant-blue");
	assert_int_equal(name_as(p, "blue", BOB, &err), 0);
	assert_true(there(p, "tenant-blue/archive")); /* his own */
	p->d.vgpus = NULL;
	snprintf(path, sizeof(path), "%s/tenant-green", p->d.shaders_dir);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/tenant-green/folder", p->d.shaders_dir);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(name_as(p, "green", BOB, &err), -ENOTEMPTY);
	assert_non_null(
		strstr(err.text, "create x: what an earlier tenant green compiled is still"));
	assert_non_null(strstr(err.text, "tenant-green, which cannot be removed: Directory not"));
	assert_false(known(p, "green", BOB));
	close_place(p);
}

/* A tenant called like another's folder. */
static void test_names_that_look_like_others(void **state)
{
	struct place *p = *state;
	struct vgpu a = {.def = definition("a", "vgpu-uuid-of-b")},
		    b = {.def = definition("b", "")};

	a.next = &b;
	p->d.vgpus = &a;
	make(p, &a.def, "tenant-vgpu-uuid-of-b");
	make(p, &b.def, "vgpu-uuid-of-b");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_a_database_without_tenants, place_make, place_end),
		cmocka_unit_test_setup_teardown(
			test_a_tenant_is_whose_named_it_first, place_make, place_end),
		cmocka_unit_test_setup_teardown(
			test_a_tenant_that_left_something, place_make, place_end),
		cmocka_unit_test_setup_teardown(
			test_tenants_of_before_are_roots, place_make, place_end),
		cmocka_unit_test_setup_teardown(
			test_it_goes_with_the_last_vgpu, place_make, place_end),
		cmocka_unit_test_setup_teardown(
			test_what_an_earlier_tenant_compiled, place_make, place_end),
		cmocka_unit_test_setup_teardown(
			test_names_that_look_like_others, place_make, place_end),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
