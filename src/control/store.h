/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_STORE_H
#define VGPU_CONTROL_STORE_H

/*
 * Definitions of vGPUs, what is intended with them, and what was chosen for GPUs, on disk (SQLite).
 * Each call is one transaction that is on the disk when it returns, or did nothing. Runtime facts
 * are not here.
 *
 * The phase is the journal of what takes several steps: a row CREATING at start is a creation that
 * nobody was told had worked, and is undone; a row DELETING is finished.
 */

#include "base/error.h"
#include "control/types.h"

#include <sys/types.h>

enum phase { PHASE_CREATING, PHASE_DEFINED, PHASE_DELETING, PHASE_COUNT };

struct definition {
	char name[VGPU_NAME_LONGEST + 1];
	char uuid[40];
	char tenant[VGPU_NAME_LONGEST + 1]; /* "": none */
	char gpu[TYPES_NAME_MAX];
	enum method method;
	enum phase phase;
	/* A move under way: where to, and how many its keeper had made before. "" : none. */
	char moving_to[TYPES_NAME_MAX];
	uint32_t moves_before;
	struct type type; /* as it was at creation: a changed config does not change a vGPU */
};

struct store;

int store_open(const char *path, struct store **ret, struct error *err);
void store_close(struct store *store); /* NULL-safe */

/* `what` begins the refusal. A leftover row of that name is replaced. -ENOSPC: the disk is full. */
int store_insert(
	struct store *store, const struct definition *def, const char *what, struct error *err);
int store_set_phase(struct store *store, const char *name, enum phase phase, const char *what,
	struct error *err);
/* Notes where it is about to move ("" : nowhere any more). */
int store_set_move(struct store *store, const char *name, const char *moving_to,
	uint32_t moves_before, const char *what, struct error *err);
/* It is there now, as a vGPU of that type. */
int store_set_gpu(struct store *store, const char *name, const char *gpu, const char *type,
	const char *what, struct error *err);
int store_delete(struct store *store, const char *name, const char *what, struct error *err);

/* How that GPU is shared. -EINVAL: what is there is nothing that a vgpud wrote. */
int store_get_policy(
	struct store *store, const char *gpu, struct sched_gpu *ret, struct error *err);
int store_set_policy(struct store *store, const char *gpu, const struct sched_gpu *sched,
	const char *what, struct error *err);

/* What the rules remember of a GPU. */
struct store_gpu_rules {
	char mode[16];               /* the method it is kept for, or "any" */
	char left_by[GPU_OWNER_MAX]; /* whose data may be in its memory; "": nobody's */
};
int store_get_rules(
	struct store *store, const char *gpu, struct store_gpu_rules *ret, struct error *err);
int store_set_mode(struct store *store, const char *gpu, const char *mode, const char *what,
	struct error *err);
int store_set_left(struct store *store, const char *gpu, const char *left_by, const char *what,
	struct error *err);

/* Who may name a tenant, and whether its data may be in a GPU's memory. */
struct store_tenant {
	bool known;
	uid_t uid;
	bool left;
};
int store_get_tenant(
	struct store *store, const char *name, struct store_tenant *ret, struct error *err);
int store_set_tenant(
	struct store *store, const char *name, uid_t uid, const char *what, struct error *err);
int store_delete_tenant(struct store *store, const char *name, const char *what, struct error *err);
/* Those of no vGPU that is stored, and of no GPU's leftovers, are nobody's any more. */
int store_clean_tenants(struct store *store, const char *what, struct error *err);

/* What is noted of the node under that key; "": nothing. Longer ones are cut. */
int store_get_node(struct store *store, const char *key, char *ret, size_t size, struct error *err);
int store_set_node(struct store *store, const char *key, const char *value, const char *what,
	struct error *err);

typedef int (*store_row_fn)(void *data, const struct definition *def);
int store_each(struct store *store, store_row_fn fn, void *data, struct error *err);

#endif
