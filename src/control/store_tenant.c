/* SPDX-License-Identifier: Apache-2.0 */
/* Who named a tenant first. */
#include "control/store_private.h"

int store_get_tenant(
	struct store *store, const char *name, struct store_tenant *ret, struct error *err)
{
	sqlite3_stmt *s = store_statement(store, "SELECT (SELECT uid FROM tenants WHERE name = ?1),"
						 " EXISTS (SELECT 1 FROM gpus WHERE left_by = ?1)");
	int r = 0;

	*ret = (struct store_tenant){0};
	if (s)
		sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
	if (s && sqlite3_step(s) == SQLITE_ROW) {
		sqlite3_int64 uid = sqlite3_column_int64(s, 0);
		ret->known = sqlite3_column_type(s, 0) != SQLITE_NULL;
		ret->uid = uid > 0 && uid < UINT32_MAX ? (uid_t)uid : 0; /* edited: root's */
		ret->left = sqlite3_column_int(s, 1);
	} else {
		r = store_error(store, "read the database", err);
	}
	sqlite3_finalize(s);
	return r;
}

int store_set_tenant(
	struct store *store, const char *name, uid_t uid, const char *what, struct error *err)
{
	sqlite3_stmt *s = store_statement(store, "INSERT OR REPLACE INTO tenants VALUES (?, ?)");

	if (s) {
		sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
		sqlite3_bind_int64(s, 2, uid);
	}
	return store_finish(store, s, what, err);
}

int store_delete_tenant(struct store *store, const char *name, const char *what, struct error *err)
{
	sqlite3_stmt *s = store_statement(store, "DELETE FROM tenants WHERE name = ?");

	if (s)
		sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
	return store_finish(store, s, what, err);
}

#define STALE                                                                                      \
	"FROM tenants WHERE name NOT IN (SELECT tenant FROM vgpus)"                                \
	" AND name NOT IN (SELECT left_by FROM gpus)"

int store_clean_tenants(struct store *store, const char *what, struct error *err)
{
	sqlite3_stmt *s = store_statement(store, "SELECT name " STALE " LIMIT 1");
	int step = s ? sqlite3_step(s) : SQLITE_ERROR;

	sqlite3_finalize(s);
	if (step == SQLITE_DONE) /* nothing is written for nothing */
		return 0;
	return store_finish(store, store_statement(store, "DELETE " STALE), what, err);
}
