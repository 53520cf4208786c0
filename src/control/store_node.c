/* SPDX-License-Identifier: Apache-2.0 */
#include "control/store_private.h"

int store_set_node(struct store *store, const char *key, const char *value, const char *what,
	struct error *err)
{
	sqlite3_stmt *s = store_statement(store, "INSERT OR REPLACE INTO node VALUES (?, ?)");

	if (s) {
		sqlite3_bind_text(s, 1, key, -1, SQLITE_STATIC);
		sqlite3_bind_text(s, 2, value, -1, SQLITE_STATIC);
	}
	return store_finish(store, s, what, err);
}

int store_get_node(struct store *store, const char *key, char *ret, size_t size, struct error *err)
{
	sqlite3_stmt *s = store_statement(store, "SELECT value FROM node WHERE key = ?");
	int r = 0;

	ret[0] = '\0';
	if (s)
		sqlite3_bind_text(s, 1, key, -1, SQLITE_STATIC);
	int step = s ? sqlite3_step(s) : SQLITE_ERROR;
	if (step == SQLITE_ROW)
		store_text(s, 0, ret, size);
	else if (step != SQLITE_DONE)
		r = store_error(store, "read the database", err);
	sqlite3_finalize(s);
	return r;
}
