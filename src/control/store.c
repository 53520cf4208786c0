/* SPDX-License-Identifier: Apache-2.0 */
#include "control/store_private.h"

#include "base/checked.h"
#include "base/log.h"
#include "control/kill_point.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STORE_VERSION 8
#define STORE_BUSY_MS 2000

/* Only GPUs of which there is something to remember: store_gpu.c. */
#define GPUS_TABLE_3                                                                               \
	"CREATE TABLE gpus ("                                                                      \
	" name TEXT PRIMARY KEY, policy TEXT NOT NULL, slice_ms INTEGER NOT NULL)"                 \
	" STRICT, WITHOUT ROWID;"
#define GPUS_COLUMNS_5                                                                             \
	"ALTER TABLE gpus ADD COLUMN mode TEXT NOT NULL DEFAULT 'any';"                            \
	"ALTER TABLE gpus ADD COLUMN left_by TEXT NOT NULL DEFAULT '';"

/* What is planned for vGPUs whose VM owns hardware, and each change of it: store_plan.c. */
#define PLANS_TABLES_6                                                                             \
	"CREATE TABLE IF NOT EXISTS plans ("                                                       \
	" vgpu TEXT PRIMARY KEY, device TEXT NOT NULL, slice TEXT NOT NULL, boot TEXT NOT NULL,"   \
	" uid INTEGER NOT NULL, gid INTEGER NOT NULL, vram_mib INTEGER NOT NULL)"                  \
	" STRICT, WITHOUT ROWID;"                                                                  \
	"CREATE TABLE IF NOT EXISTS changes ("                                                     \
	" vgpu TEXT NOT NULL, number INTEGER NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL," \
	" before TEXT NOT NULL, after TEXT NOT NULL, shared INTEGER NOT NULL,"                     \
	" PRIMARY KEY (vgpu, number))"                                                             \
	" STRICT, WITHOUT ROWID;"

/* What was said of the node itself, and where a change of it stands. */
#define NODE_TABLE                                                                                 \
	"CREATE TABLE IF NOT EXISTS node (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, "     \
	"WITHOUT ROWID;"

/* Who may name a tenant: store_tenant.c. */
#define TENANTS_TABLE                                                                              \
	"CREATE TABLE IF NOT EXISTS tenants (name TEXT PRIMARY KEY, uid INTEGER NOT NULL) "        \
	"STRICT, WITHOUT ROWID;"

static const char schema[] =
	"BEGIN;"
	"CREATE TABLE vgpus ("
	" name TEXT PRIMARY KEY, uuid TEXT NOT NULL UNIQUE, gpu TEXT NOT NULL,"
	" method INTEGER NOT NULL, phase INTEGER NOT NULL, type TEXT NOT NULL,"
	" vram_mib INTEGER NOT NULL, max_width INTEGER NOT NULL, max_height INTEGER NOT NULL,"
	" heads INTEGER NOT NULL, moving_to TEXT NOT NULL, moves_before INTEGER NOT NULL,"
	" tenant TEXT NOT NULL)"
	" STRICT, WITHOUT ROWID;" GPUS_TABLE_3 GPUS_COLUMNS_5 PLANS_TABLES_6 NODE_TABLE
		TENANTS_TABLE "PRAGMA user_version = 8;"
	"COMMIT;";

/* From each version to the next, or further; each is done whole or not at all. */
static const char *const steps[STORE_VERSION] = {
	[0] = schema,
	/* Version 1 knew no moves. */
	[1] = "BEGIN;"
	      "ALTER TABLE vgpus ADD COLUMN moving_to TEXT NOT NULL DEFAULT '';"
	      "ALTER TABLE vgpus ADD COLUMN moves_before INTEGER NOT NULL DEFAULT 0;"
	      "PRAGMA user_version = 2;"
	      "COMMIT;",
	/* Version 2 knew no policies. */
	[2] = "BEGIN;" GPUS_TABLE_3 "PRAGMA user_version = 3;"
	      "COMMIT;",
	/* Version 3 knew no tenants. */
	[3] = "BEGIN;"
	      "ALTER TABLE vgpus ADD COLUMN tenant TEXT NOT NULL DEFAULT '';"
	      "PRAGMA user_version = 4;"
	      "COMMIT;",
	/* Version 4 knew nothing of methods and tenants of a GPU. */
	[4] = "BEGIN;" GPUS_COLUMNS_5 "PRAGMA user_version = 5;"
	      "COMMIT;",
	/* Version 5 knew no vGPUs whose VM owns hardware. */
	[5] = "BEGIN;" PLANS_TABLES_6 "PRAGMA user_version = 6;"
	      "COMMIT;",
	/* Version 6 knew nothing of the node. */
	[6] = "BEGIN;" NODE_TABLE "PRAGMA user_version = 7;"
	      "COMMIT;",
	/* Version 7 let anybody name any tenant; whose those were is not known, so they are root's.
	   A GPU's leftovers are a tenant's, or, with a space, those of a vGPU without one. */
	[7] = "BEGIN;" TENANTS_TABLE "INSERT OR IGNORE INTO tenants SELECT DISTINCT tenant, 0 FROM "
	      "vgpus WHERE tenant != '';"
	      "INSERT OR IGNORE INTO tenants SELECT DISTINCT left_by, 0 FROM gpus"
	      " WHERE left_by != '' AND instr(left_by, ' ') = 0;"
	      "PRAGMA user_version = 8;"
	      "COMMIT;",
};

int store_error(struct store *store, const char *what, struct error *err)
{
	int code = sqlite3_extended_errcode(store->db);

	if ((code & 0xff) == SQLITE_FULL || code == SQLITE_IOERR_WRITE ||
		code == SQLITE_IOERR_FSYNC || code == SQLITE_IOERR_SHMSIZE ||
		code == SQLITE_IOERR_TRUNCATE)
		return error_set(err, ENOSPC,
			"%s: the disk with the database is full or fails: %s (free some space and "
			"try "
			"again; nothing was changed)",
			what, sqlite3_errmsg(store->db));
	return error_set(err, EIO, "%s: the database says: %s (see vgpud's log)", what,
		sqlite3_errmsg(store->db));
}

int store_exec(struct store *store, const char *sql, const char *what, struct error *err)
{
	if (sqlite3_exec(store->db, sql, NULL, NULL, NULL) == SQLITE_OK)
		return 0;
	int r = store_error(store, what, err);
	if (!sqlite3_get_autocommit(store->db))
		sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
	return r;
}

static int store_version(struct store *store)
{
	sqlite3_stmt *s;
	int version = -1;

	if (sqlite3_prepare_v2(store->db, "PRAGMA user_version", -1, &s, NULL) != SQLITE_OK)
		return -1;
	if (sqlite3_step(s) == SQLITE_ROW)
		version = sqlite3_column_int(s, 0);
	sqlite3_finalize(s);
	return version;
}

static int store_prepare(struct store *store, const char *path, struct error *err)
{
	int r = store_exec(
		store, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;", path, err);
	if (r < 0)
		return r;
	int version;
	while ((version = store_version(store)) >= 0 && version < STORE_VERSION) {
		r = store_exec(store, steps[version], path, err);
		if (r < 0)
			return r;
	}
	if (version < 0)
		return store_error(store, path, err);
	if (version != STORE_VERSION)
		return error_set(err, ENOTSUP,
			"%s: the database is of version %d, and this vgpud knows %d (use the vgpud "
			"that wrote it)",
			path, version, STORE_VERSION);
	return 0;
}

int store_open(const char *path, struct store **ret, struct error *err)
{
	struct store *store = calloc(1, sizeof(*store));

	if (!store)
		return error_set(err, ENOMEM, "%s: out of memory (free some)", path);
	int r = 0;
	if (sqlite3_open_v2(path, &store->db,
		    SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
		    NULL) != SQLITE_OK)
		r = store_error(store, path, err);
	if (r == 0) {
		sqlite3_busy_timeout(store->db, STORE_BUSY_MS);
		r = store_prepare(store, path, err);
	}
	if (r < 0) {
		store_close(store);
		return r;
	}
	*ret = store;
	return 0;
}

void store_close(struct store *store)
{
	if (!store)
		return;
	sqlite3_close(store->db);
	free(store);
}

int store_finish(struct store *store, sqlite3_stmt *s, const char *what, struct error *err)
{
	kill_point();
	int r = s && sqlite3_step(s) == SQLITE_DONE ? 0 : store_error(store, what, err);
	sqlite3_finalize(s);
	kill_point();
	return r;
}

int store_end(struct store *store, int r, const char *what, struct error *err)
{
	if (r == 0)
		r = store_exec(store, "COMMIT", what, err);
	else
		sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
	kill_point();
	return r;
}

sqlite3_stmt *store_statement(struct store *store, const char *sql)
{
	sqlite3_stmt *s = NULL;
	return sqlite3_prepare_v2(store->db, sql, -1, &s, NULL) == SQLITE_OK ? s : NULL;
}

int store_put(
	struct store *store, const struct definition *def, const char *what, struct error *err)
{
	sqlite3_stmt *s = store_statement(store,
		"INSERT OR REPLACE INTO vgpus VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '', 0, ?)");
	const struct type *type = &def->type;

	if (s) {
		sqlite3_bind_text(s, 1, def->name, -1, SQLITE_STATIC);
		sqlite3_bind_text(s, 2, def->uuid, -1, SQLITE_STATIC);
		sqlite3_bind_text(s, 3, def->gpu, -1, SQLITE_STATIC);
		sqlite3_bind_int(s, 4, (int)def->method);
		sqlite3_bind_int(s, 5, (int)def->phase);
		sqlite3_bind_text(s, 6, type->name, -1, SQLITE_STATIC);
		sqlite3_bind_int64(s, 7, (sqlite3_int64)type->vram_mib);
		sqlite3_bind_int64(s, 8, type->max_width);
		sqlite3_bind_int64(s, 9, type->max_height);
		sqlite3_bind_int64(s, 10, type->heads);
		sqlite3_bind_text(s, 11, def->tenant, -1, SQLITE_STATIC);
	}
	return store_finish(store, s, what, err);
}

int store_insert(
	struct store *store, const struct definition *def, const char *what, struct error *err)
{
	return store_put(store, def, what, err);
}

int store_set_phase(struct store *store, const char *name, enum phase phase, const char *what,
	struct error *err)
{
	sqlite3_stmt *s = store_statement(store, "UPDATE vgpus SET phase = ? WHERE name = ?");

	if (s) {
		sqlite3_bind_int(s, 1, (int)phase);
		sqlite3_bind_text(s, 2, name, -1, SQLITE_STATIC);
	}
	return store_finish(store, s, what, err);
}

int store_set_move(struct store *store, const char *name, const char *moving_to,
	uint32_t moves_before, const char *what, struct error *err)
{
	sqlite3_stmt *s = store_statement(
		store, "UPDATE vgpus SET moving_to = ?, moves_before = ? WHERE name = ?");

	if (s) {
		sqlite3_bind_text(s, 1, moving_to, -1, SQLITE_STATIC);
		sqlite3_bind_int64(s, 2, moves_before);
		sqlite3_bind_text(s, 3, name, -1, SQLITE_STATIC);
	}
	return store_finish(store, s, what, err);
}

int store_set_gpu(struct store *store, const char *name, const char *gpu, const char *type,
	const char *what, struct error *err)
{
	sqlite3_stmt *s = store_statement(store,
		"UPDATE vgpus SET gpu = ?, type = ?, moving_to = '', moves_before = 0 "
		"WHERE name = ?");

	if (s) {
		sqlite3_bind_text(s, 1, gpu, -1, SQLITE_STATIC);
		sqlite3_bind_text(s, 2, type, -1, SQLITE_STATIC);
		sqlite3_bind_text(s, 3, name, -1, SQLITE_STATIC);
	}
	return store_finish(store, s, what, err);
}

int store_delete(struct store *store, const char *name, const char *what, struct error *err)
{
	static const char *const statements[] = {"DELETE FROM changes WHERE vgpu = ?",
		"DELETE FROM plans WHERE vgpu = ?", "DELETE FROM vgpus WHERE name = ?"};
	int r = store_exec(store, "BEGIN IMMEDIATE", what, err);

	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(statements); i++) {
		sqlite3_stmt *s = store_statement(store, statements[i]);
		if (s)
			sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
		r = store_finish(store, s, what, err);
	}
	return store_end(store, r, what, err);
}

void store_text(sqlite3_stmt *s, int column, char *ret, size_t size)
{
	const unsigned char *text = sqlite3_column_text(s, column);
	snprintf(ret, size, "%s", text ? (const char *)text : "");
}

/* False for a row that no vgpud writes: someone edited the file. */
static bool read_row(sqlite3_stmt *s, struct definition *def)
{
	*def = (struct definition){0};
	store_text(s, 0, def->name, sizeof(def->name));
	store_text(s, 1, def->uuid, sizeof(def->uuid));
	store_text(s, 2, def->gpu, sizeof(def->gpu));
	int method = sqlite3_column_int(s, 3), phase = sqlite3_column_int(s, 4);
	store_text(s, 5, def->type.name, sizeof(def->type.name));
	memcpy(def->type.gpu, def->gpu, sizeof(def->type.gpu));
	def->type.vram_mib = (uint64_t)sqlite3_column_int64(s, 6);
	def->type.max_width = (uint32_t)sqlite3_column_int64(s, 7);
	def->type.max_height = (uint32_t)sqlite3_column_int64(s, 8);
	def->type.heads = (uint32_t)sqlite3_column_int64(s, 9);
	store_text(s, 10, def->moving_to, sizeof(def->moving_to));
	def->moves_before = (uint32_t)sqlite3_column_int64(s, 11);
	store_text(s, 12, def->tenant, sizeof(def->tenant));
	if (!name_valid(def->name) || (def->tenant[0] && !name_valid(def->tenant)) || method < 0 ||
		method >= METHOD_COUNT || phase < 0 || phase >= PHASE_COUNT)
		return false;
	def->method = (enum method)method;
	def->phase = (enum phase)phase;
	return true;
}

int store_each(struct store *store, store_row_fn fn, void *data, struct error *err)
{
	sqlite3_stmt *s = store_statement(store, "SELECT name, uuid, gpu, method, phase, type, "
						 "vram_mib, max_width, max_height, heads, "
						 "moving_to, moves_before, tenant "
						 "FROM vgpus ORDER BY name");
	struct definition def;
	int r = 0, step = SQLITE_ERROR;

	while (s && r == 0 && (step = sqlite3_step(s)) == SQLITE_ROW) {
		if (read_row(s, &def))
			r = fn(data, &def);
		else
			log_warning(
				"the database has a row that no vgpud wrote, which is left out: "
				"'%.64s'",
				name_valid(def.name) ? def.name : "?");
	}
	if (r == 0 && step != SQLITE_DONE)
		r = store_error(store, "read the database", err);
	sqlite3_finalize(s);
	return r;
}
