/* SPDX-License-Identifier: Apache-2.0 */
/* What is remembered of GPUs. A row is made by the first thing that is not as usual. */
#include "control/store_private.h"

#include <errno.h>

int store_set_policy(struct store *store, const char *gpu, const struct sched_gpu *sched,
	const char *what, struct error *err)
{
	sqlite3_stmt *s = store_statement(store,
		"INSERT INTO gpus (name, policy, slice_ms) VALUES (?1, ?2, ?3) "
		"ON CONFLICT (name) DO UPDATE SET policy = ?2, slice_ms = ?3");

	if (s) {
		sqlite3_bind_text(s, 1, gpu, -1, SQLITE_STATIC);
		sqlite3_bind_text(s, 2, sched_policy_names[sched->policy], -1, SQLITE_STATIC);
		sqlite3_bind_int64(s, 3, sched->slice_ms);
	}
	return store_finish(store, s, what, err);
}

int store_get_policy(struct store *store, const char *gpu, struct sched_gpu *ret, struct error *err)
{
	sqlite3_stmt *s =
		store_statement(store, "SELECT policy, slice_ms FROM gpus WHERE name = ?");
	char policy[32] = "";
	int r = 0;

	if (s)
		sqlite3_bind_text(s, 1, gpu, -1, SQLITE_STATIC);
	int step = s ? sqlite3_step(s) : SQLITE_ERROR;
	*ret = (struct sched_gpu){.policy = SCHED_BEST_EFFORT};
	if (step == SQLITE_ROW) {
		store_text(s, 0, policy, sizeof(policy));
		ret->policy = sched_policy_from_name(policy);
		ret->slice_ms = (uint32_t)sqlite3_column_int64(s, 1);
	} else if (step != SQLITE_DONE) {
		r = store_error(store, "read the database", err);
	}
	sqlite3_finalize(s);
	if (r == 0 && sched_check_gpu(ret) < 0)
		r = error_set(err, EINVAL,
			"%s: the database has a policy or slice for it that no vgpud wrote (set it "
			"anew: vgpuctl gpu policy)",
			gpu);
	return r;
}

/* The rest of a row is as it is without one. */
static int set_text(struct store *store, const char *sql, const char *gpu, const char *text,
	const char *what, struct error *err)
{
	sqlite3_stmt *s = store_statement(store, sql);

	if (s) {
		sqlite3_bind_text(s, 1, gpu, -1, SQLITE_STATIC);
		sqlite3_bind_text(s, 2, sched_policy_names[SCHED_BEST_EFFORT], -1, SQLITE_STATIC);
		sqlite3_bind_text(s, 3, text, -1, SQLITE_STATIC);
	}
	return store_finish(store, s, what, err);
}

int store_set_mode(
	struct store *store, const char *gpu, const char *mode, const char *what, struct error *err)
{
	return set_text(store,
		"INSERT INTO gpus (name, policy, slice_ms, mode) VALUES (?1, ?2, 0, ?3) "
		"ON CONFLICT (name) DO UPDATE SET mode = ?3",
		gpu, mode, what, err);
}

int store_set_left(struct store *store, const char *gpu, const char *left_by, const char *what,
	struct error *err)
{
	return set_text(store,
		"INSERT INTO gpus (name, policy, slice_ms, left_by) VALUES (?1, ?2, 0, ?3) "
		"ON CONFLICT (name) DO UPDATE SET left_by = ?3",
		gpu, left_by, what, err);
}

int store_get_rules(
	struct store *store, const char *gpu, struct store_gpu_rules *ret, struct error *err)
{
	sqlite3_stmt *s = store_statement(store, "SELECT mode, left_by FROM gpus WHERE name = ?");
	int r = 0;

	if (s)
		sqlite3_bind_text(s, 1, gpu, -1, SQLITE_STATIC);
	int step = s ? sqlite3_step(s) : SQLITE_ERROR;
	*ret = (struct store_gpu_rules){.mode = "any"};
	if (step == SQLITE_ROW) {
		store_text(s, 0, ret->mode, sizeof(ret->mode));
		store_text(s, 1, ret->left_by, sizeof(ret->left_by));
	} else if (step != SQLITE_DONE) {
		r = store_error(store, "read the database", err);
	}
	sqlite3_finalize(s);
	return r;
}
