/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_STORE_PRIVATE_H
#define VGPU_CONTROL_STORE_PRIVATE_H

/* What the files of the store share. */

#include "control/store.h"

#include <sqlite3.h>

struct store {
	sqlite3 *db;
};

/* Of the call that failed last; -ENOSPC or -EIO. */
int store_error(struct store *store, const char *what, struct error *err);
/* Statements without parameters; what a failed one began is rolled back. */
int store_exec(struct store *store, const char *sql, const char *what, struct error *err);
/* Ends a transaction: for good, or, when `r` is an error, as if it had not been. Returns that. */
int store_end(struct store *store, int r, const char *what, struct error *err);
/* The row of a definition, also in a transaction of the caller's. */
int store_put(
	struct store *store, const struct definition *def, const char *what, struct error *err);
/* NULL: it cannot be prepared, which store_finish() reports. */
sqlite3_stmt *store_statement(struct store *store, const char *sql);
/* Runs a statement that answers no rows, and ends it. */
int store_finish(struct store *store, sqlite3_stmt *s, const char *what, struct error *err);
/* A column; "" where it is NULL. */
void store_text(sqlite3_stmt *s, int column, char *ret, size_t size);

#endif
