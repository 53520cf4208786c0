/* SPDX-License-Identifier: Apache-2.0 */
#include "control/store_plan.h"

#include "control/store_private.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int put_head(struct store *store, const char *name, const struct stored_plan *plan,
	const char *what, struct error *err)
{
	sqlite3_stmt *s =
		store_statement(store, "INSERT OR REPLACE INTO plans VALUES (?, ?, ?, ?, ?, ?, ?)");

	if (s) {
		sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
		sqlite3_bind_text(s, 2, plan->plan.device, -1, SQLITE_STATIC);
		sqlite3_bind_text(s, 3, plan->slice, -1, SQLITE_STATIC);
		sqlite3_bind_text(s, 4, plan->boot, -1, SQLITE_STATIC);
		sqlite3_bind_int64(s, 5, plan->owner_uid);
		sqlite3_bind_int64(s, 6, plan->owner_gid);
		sqlite3_bind_int64(s, 7, (sqlite3_int64)plan->vram_mib);
	}
	return store_finish(store, s, what, err);
}

static int put_change(struct store *store, const char *name, uint32_t number,
	const struct change *change, const char *what, struct error *err)
{
	sqlite3_stmt *s =
		store_statement(store, "INSERT INTO changes VALUES (?, ?, ?, ?, ?, ?, ?)");

	if (s) {
		sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
		sqlite3_bind_int64(s, 2, number);
		sqlite3_bind_text(s, 3, change_kind_word(change->kind), -1, SQLITE_STATIC);
		sqlite3_bind_text(s, 4, change->subject, -1, SQLITE_STATIC);
		sqlite3_bind_text(s, 5, change->before, -1, SQLITE_STATIC);
		sqlite3_bind_text(s, 6, change->after, -1, SQLITE_STATIC);
		sqlite3_bind_int(s, 7, change->shared);
	}
	return store_finish(store, s, what, err);
}

static int put_plan(struct store *store, const char *name, const struct stored_plan *plan,
	const char *what, struct error *err)
{
	sqlite3_stmt *s = store_statement(store, "DELETE FROM changes WHERE vgpu = ?");

	if (s)
		sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
	int r = store_finish(store, s, what, err);
	if (r == 0)
		r = put_head(store, name, plan, what, err);
	for (uint32_t i = 0; r == 0 && i < plan->plan.count; i++)
		r = put_change(store, name, i, &plan->plan.list[i], what, err);
	return r;
}

int store_insert_planned(struct store *store, const struct definition *def,
	const struct stored_plan *plan, const char *what, struct error *err)
{
	int r = store_exec(store, "BEGIN IMMEDIATE", what, err);

	if (r < 0)
		return r;
	r = store_put(store, def, what, err);
	if (r == 0)
		r = put_plan(store, def->name, plan, what, err);
	return store_end(store, r, what, err);
}

int store_set_plan(struct store *store, const char *name, const struct stored_plan *plan,
	const char *what, struct error *err)
{
	int r = store_exec(store, "BEGIN IMMEDIATE", what, err);

	if (r < 0)
		return r;
	return store_end(store, put_plan(store, name, plan, what, err), what, err);
}

/* A text that is not cut; false: it is longer than any that a vgpud wrote. */
static bool read_text(sqlite3_stmt *s, int column, char *ret, size_t size)
{
	store_text(s, column, ret, size);
	return (size_t)sqlite3_column_bytes(s, column) == strlen(ret);
}

static bool read_owner(sqlite3_stmt *s, int column, uint32_t *ret)
{
	sqlite3_int64 id = sqlite3_column_int64(s, column);

	*ret = (uint32_t)id;
	return id >= 0 && id < UINT32_MAX;
}

/* 1: there is one; 0: there is none; -EINVAL; -EIO. */
static int read_head(
	struct store *store, const char *name, struct stored_plan *ret, struct error *err)
{
	sqlite3_stmt *s = store_statement(
		store, "SELECT device, slice, boot, uid, gid, vram_mib FROM plans WHERE vgpu = ?");

	if (s)
		sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
	int step = s ? sqlite3_step(s) : SQLITE_ERROR;
	int r = step == SQLITE_ROW;
	if (r == 1 &&
		(!read_text(s, 0, ret->plan.device, sizeof(ret->plan.device)) ||
			!read_text(s, 1, ret->slice, sizeof(ret->slice)) ||
			!read_text(s, 2, ret->boot, sizeof(ret->boot)) ||
			!read_owner(s, 3, &ret->owner_uid) || !read_owner(s, 4, &ret->owner_gid) ||
			!(pci_address_valid(ret->plan.device) ||
				mdev_uuid_valid(ret->plan.device))))
		r = -EINVAL;
	else if (r == 0 && step != SQLITE_DONE)
		r = store_error(store, "read the database", err);
	if (r == 1)
		ret->vram_mib = (uint64_t)sqlite3_column_int64(s, 5) & (UINT64_MAX >> 21);
	sqlite3_finalize(s);
	return r;
}

/* Row `number` of a plan, numbered without a gap. */
static bool read_change(sqlite3_stmt *s, uint32_t number, struct change *ret)
{
	char word[CHANGE_VALUE_MAX];

	*ret = (struct change){0};
	if (sqlite3_column_int64(s, 0) != number || !read_text(s, 1, word, sizeof(word)) ||
		!read_text(s, 2, ret->subject, sizeof(ret->subject)) ||
		!read_text(s, 3, ret->before, sizeof(ret->before)) ||
		!read_text(s, 4, ret->after, sizeof(ret->after)))
		return false;
	ret->kind = change_kind_from_word(word);
	ret->shared = sqlite3_column_int(s, 5) != 0;
	return change_valid(ret);
}

static int read_changes(
	struct store *store, const char *name, struct change_plan *ret, struct error *err)
{
	sqlite3_stmt *s = store_statement(store,
		"SELECT number, kind, subject, before, after, shared FROM changes WHERE vgpu = ? "
		"ORDER BY number");
	int r = 0, step = SQLITE_ERROR;

	if (s)
		sqlite3_bind_text(s, 1, name, -1, SQLITE_STATIC);
	while (s && r == 0 && (step = sqlite3_step(s)) == SQLITE_ROW) {
		if (ret->count < CHANGES_MAX && read_change(s, ret->count, &ret->list[ret->count]))
			ret->count++;
		else
			r = -EINVAL;
	}
	if (r == 0 && step != SQLITE_DONE)
		r = store_error(store, "read the database", err);
	sqlite3_finalize(s);
	return r;
}

int store_get_plan(
	struct store *store, const char *name, struct stored_plan *ret, struct error *err)
{
	*ret = (struct stored_plan){0};
	int r = read_head(store, name, ret, err);
	if (r == 1)
		r = read_changes(store, name, &ret->plan, err);
	else if (r == 0)
		return error_set(err, ENOENT,
			"%s: the database has no plan for it (delete it with --force)", name);
	if (r == 0 && !ret->plan.count)
		r = -EINVAL;
	if (r == -EINVAL)
		error_set(err, EINVAL,
			"%s: the database has a plan for it that no vgpud wrote, and nothing of it "
			"is done or undone (delete it with --force, and see what its GPU has)",
			name);
	return r;
}
