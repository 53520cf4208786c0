/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_HOST_PLAN_H
#define VGPU_HOST_PLAN_H

/*
 * Plans: which changes (host/change.h) give a VM a whole GPU, or a slice of one. Pure: facts in, a
 * list or a refusal out. What a GPU offers as slices, whatever the interface underneath (mediated
 * devices, virtual functions of SR-IOV, vendors' types on these), is one list of types.
 */

#include "host/change.h"
#include "host/facts.h"

#define PLAN_TYPES_MAX 128

/* Where slices come from. */
enum slice_interface { SLICE_MDEV, SLICE_VF, SLICE_NVIDIA, SLICE_XE, SLICE_INTERFACE_COUNT };

extern const char *const slice_interface_names[SLICE_INTERFACE_COUNT];

/* One type of slice, as a GPU offers it now. */
struct slice_type {
	enum slice_interface interface;
	char id[SYSFS_NAME_MAX];   /* for the kernel: "nvidia-63", "1414", "vf" */
	char name[SYSFS_NAME_MAX]; /* for people, and in the type's name: letters, digits, '-', '.'
				    */
	char description[256];
	uint32_t max_instances; /* that fit when nothing else is there, as far as can be told */
	uint32_t available;     /* that can be made now */
	uint64_t vram_mib;      /* 0: not told */
};

struct slice_types {
	struct slice_type list[PLAN_TYPES_MAX];
	size_t count;
	bool more; /* there are more */
};

/* PCI functions of VFs that vGPUs have; with `count` 0 `list` may be NULL. */
struct plan_taken {
	const char (*list)[PCI_ADDRESS_MAX];
	size_t count;
};

void plan_slice_types(
	const struct host_facts *facts, const struct plan_taken *taken, struct slice_types *ret);

/* Who shall be able to open the VFIO file. */
struct plan_owner {
	uint32_t uid, gid;
	uint32_t mode; /* 0600, 0660 */
};

/*
 * The whole GPU, with the functions of the same card. Refused with what host_method_judge() says,
 * in one line. `what` begins it. Facts do not tell whose a VFIO file is: see change_plan_settle().
 */
int plan_passthrough(const struct host_facts *facts, const struct plan_owner *owner,
	const char *what, struct change_plan *ret, struct error *err);

/*
 * A slice of that type (slice_type.id). `uuid`: the vGPU's, for a mediated device. `taken`: what
 * other vGPUs have. Refused in one line that begins with `what`: -ENOSPC: exhausted; -ENOENT: no
 * such type (any more); -EEXIST: a device of that UUID is there; else what host_method_judge() says
 * or the table of plan_refuse.c.
 */
int plan_mediate(const struct host_facts *facts, const char *type_id, const char *uuid,
	const struct plan_owner *owner, const struct plan_taken *taken, const char *what,
	struct change_plan *ret, struct error *err);

/* Refusals of plan_refuse.c, for tests: why of row i; NULL after the last. */
const char *plan_mediate_refusal(size_t i);

/* --- what planners share --- */

/* 0 when that method is possible; else the first finding that forbids it, in one line. */
int plan_judge(const struct host_facts *facts, enum host_method method, const char *what,
	struct error *err);
/* Appends a change. -E2BIG: there are CHANGES_MAX. */
int plan_add(
	struct change_plan *plan, const struct change *change, const char *what, struct error *err);
/* From `driver` to vfio-pci; one that VFIO has stays as it is. */
int plan_vfio(struct change_plan *plan, const char *address, const char *driver, const char *what,
	struct error *err);
/* The file of a PCI function's or mediated device's group. */
int plan_owner(struct change_plan *plan, const char *subject, const struct plan_owner *owner,
	const char *what, struct error *err);
/*
 * Its own file: only where VFIO lets go of the device before somebody else has it. Whoever has that
 * file open, unlike the group's, shuts nobody out by it, and can use the device when it is free.
 */
int plan_cdev(struct change_plan *plan, const char *subject, const struct plan_owner *owner,
	const char *what, struct error *err);

#endif
