/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_SLICE_TYPES_H
#define VGPU_CONTROL_SLICE_TYPES_H

/*
 * The types of slices that GPUs offer (host/plan.h), as types that people name and create: asked of
 * each GPU's driver in a process of its own, so that one that does not answer keeps nobody waiting,
 * and remembered until it is asked again: when vgpud starts, when the kernel says that something
 * changed, and after each vGPU that was made or deleted there. Until the first answer, and where
 * there is none, a GPU has no such types.
 */

#include "control/direct.h"

#define SLICE_TYPES_MS 5000u /* for all that a driver says of one GPU */

struct slice_types_cache;

/* NULL: out of memory. */
struct slice_types_cache *slice_types_new(void);
void slice_types_free(struct slice_types_cache *cache);

/* Asks that GPU's driver, or all (NULL), anew; gpus_types_changed() follows. */
void slice_types_refresh(struct vgpud *d, const char *gpu);

/* What that GPU offers, as it was last told; returns how many, at most `max`. */
size_t slice_types_get(const struct vgpud *d, const char *gpu, struct type *ret, size_t max);

/* Is its driver being asked for the first time, or again? */
bool slice_types_pending(const struct vgpud *d, const char *gpu);

/* In a job's process: the plan of a slice of the vGPU's type. 0; -errno and why. */
int slice_plan(const struct vgpu *v, const struct host_facts *facts, struct change_plan *ret,
	struct error *err);

/* Reads what a process said; false: it is no list of types. Exported for tests and the fuzzer. */
bool slice_types_parse(
	json_t *list, const char *gpu, struct type *ret, size_t max, size_t *ret_count);

#endif
