/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_HOST_PLAN_PRIVATE_H
#define VGPU_HOST_PLAN_PRIVATE_H

/* What the list of types and the plan of one slice must agree on. */

#include "host/plan.h"

/* Where this GPU's slices come from; SLICE_INTERFACE_COUNT: it offers none. */
enum slice_interface plan_interface(const struct host_facts *facts);
/* NVIDIA's PF, whose VFs show nothing, or are not enabled: its driver does not let others do it. */
bool plan_is_nvidia_pf(const struct host_facts *facts);

/* How the VFs that are enabled are used. */
struct plan_vfs {
	uint32_t free;
	uint32_t taken;              /* by vGPUs */
	uint32_t held;               /* somebody else has them open */
	uint32_t shared;             /* their IOMMU group is not theirs alone */
	const struct sriov_vf *best; /* of those that are free; NULL: none is */
};

/* nvidia_type: only VFs on which that can be made; 0: any. */
struct plan_vfs plan_count_vfs(
	const struct host_facts *facts, const struct plan_taken *taken, uint32_t nvidia_type);

/* Why a slice cannot be had (plan_refuse.c). */
enum plan_refusal {
	NO_TYPE,
	BAD_UUID,
	UUID_EXISTS,
	MDEV_NONE_LEFT,
	MANY_VFS,
	OTHER_VFS,
	VFS_TAKEN,
	VFS_HELD,
	VFS_GROUPED,
	VFS_UNSEEN,
	NO_PLACE,
	NO_BUS,
	PF_ON_VFIO,
	NVIDIA_DISABLED,
	NVIDIA_SILENT,
	NVIDIA_NONE_LEFT,
	PLAN_REFUSAL_COUNT
};

/* One line, "WHAT: WHY (WHAT TO DO)", with `word` in it; returns -errno of the reason. */
int plan_refuse(const char *what, enum plan_refusal refusal, const char *word, struct error *err);
int plan_refuse_number(
	const char *what, enum plan_refusal refusal, uint64_t number, struct error *err);

#endif
