/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_STORE_PLAN_H
#define VGPU_CONTROL_STORE_PLAN_H

/*
 * The part of the store about vGPUs whose VM owns hardware: what was planned for each, so that it
 * can be finished or undone by whoever comes after a crash.
 */

#include "control/store.h"
#include "host/change.h"
#include "host/mdev.h"

#define STORED_BOOT_MAX 40 /* the kernel's boot_id and its end */

struct stored_plan {
	struct change_plan plan;
	char slice[SYSFS_NAME_MAX]; /* the kernel's name of its type of slice; "": the whole GPU */
	char boot[STORED_BOOT_MAX]; /* for which it was made; "": not told */
	uint32_t owner_uid, owner_gid; /* who may open its VFIO file */
	uint64_t vram_mib; /* of the GPU, as its driver or the configuration told; 0: not told */
};

/* The definition and its plan, in one transaction. As store_insert(). */
int store_insert_planned(struct store *store, const struct definition *def,
	const struct stored_plan *plan, const char *what, struct error *err);
/* Another plan for a vGPU that is there. */
int store_set_plan(struct store *store, const char *name, const struct stored_plan *plan,
	const char *what, struct error *err);
/*
 * 0; -ENOENT: it has none; -EINVAL: it has one that no vgpud wrote. `ret` is large: have it on the
 * heap.
 */
int store_get_plan(
	struct store *store, const char *name, struct stored_plan *ret, struct error *err);

#endif
