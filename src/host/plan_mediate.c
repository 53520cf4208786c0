/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which changes make a slice of a GPU and give it to a VM.
 *
 * A mediated device is made under the vGPU's UUID and its file given to the VM's user. A virtual
 * function is enabled, with all others of its PF at once, because the kernel lets their number be
 * changed from and to 0 only; so it is a change that plans share. Where a VF will be is worked out
 * before it is there, so that the whole plan is on the disk first. It is kept from the host's
 * driver (autoprobe), limited in time where its vendor can (xe), and goes to vfio-pci; NVIDIA's
 * stay with NVIDIA's driver and become a vGPU by the number of a type.
 *
 * What the operator set up is used as it is: VFs that are enabled stay as many, a VF on a driver of
 * VFIO stays on it, a profile that is set stays. VFs of NVIDIA are enabled by its own program only.
 */
#include "base/checked.h"
#include "base/parse.h"
#include "host/plan_private.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * On xe a VF's turn has no end unless it is given one, so one guest could keep the GPU from all
 * others. A round of all VFs takes this long, if it gives each at least the least; a guest that
 * does not let go is stopped after a second turn's time.
 */
#define XE_ROUND_MS 40u
#define XE_LEAST_MS 2u

/* --- plans --- */

struct wish {
	const struct host_facts *facts;
	const struct slice_type *type;
	const char *uuid;
	const struct plan_owner *owner;
	const struct plan_taken *taken;
	const char *what;
};

static int add(const struct wish *w, enum change_kind kind, const char *subject, const char *before,
	const char *after, struct change_plan *plan, struct error *err)
{
	struct change c = {
		.kind = kind, .shared = kind == CHANGE_SRIOV_AUTOPROBE || kind == CHANGE_SRIOV_VFS};

	snprintf(c.subject, sizeof(c.subject), "%s", subject);
	snprintf(c.before, sizeof(c.before), "%s", before);
	snprintf(c.after, sizeof(c.after), "%s", after);
	return plan_add(plan, &c, w->what, err);
}

/* At the end: the VM's user may open it. `own`: also by its own file, as plan_cdev() has it. */
static int give(const struct wish *w, const char *device, bool own, struct change_plan *plan,
	struct error *err)
{
	snprintf(plan->device, sizeof(plan->device), "%s", device);
	int r = plan_owner(plan, device, w->owner, w->what, err);
	return r < 0 || !own ? r : plan_cdev(plan, device, w->owner, w->what, err);
}

static int plan_mdev(const struct wish *w, struct change_plan *plan, struct error *err)
{
	const struct mdev *mdev = &w->facts->mdev;
	const char *parent = "";
	char subject[CHANGE_SUBJECT_MAX], uuid[MDEV_UUID_MAX] = "";

	if (!mdev_uuid_valid(w->uuid))
		return plan_refuse(w->what, BAD_UUID, w->uuid, err);
	for (size_t i = 0; i < MDEV_UUID_MAX - 1; i++)
		uuid[i] = (char)tolower((unsigned char)w->uuid[i]); /* as the kernel does */
	for (size_t i = 0; i < mdev->n_devices; i++) {
		if (!strcmp(mdev->devices[i].uuid, uuid))
			return plan_refuse(w->what, UUID_EXISTS, mdev->devices[i].type, err);
	}
	for (size_t i = 0; i < mdev->n_types; i++) {
		if (!strcmp(mdev->types[i].id, w->type->id))
			parent = mdev->types[i].parent;
	}
	if (!parent[0])
		return plan_refuse(w->what, MDEV_NONE_LEFT, w->type->id, err);
	snprintf(subject, sizeof(subject), "%.63s/%.63s/%s", parent, w->type->id, uuid);
	int r = add(w, CHANGE_MDEV, subject, "0", "1", plan, err);
	return r < 0 ? r : give(w, uuid, true, plan, err);
}

/* How many VFs there are, or will be. */
static int count_vfs(const struct wish *w, uint64_t *ret, struct error *err)
{
	const struct sriov *s = &w->facts->sriov;
	uint32_t asked = w->facts->use.vfs;
	char word[80];

	if (asked > s->total_vfs)
		return plan_refuse_number(w->what, MANY_VFS, s->total_vfs, err);
	if (asked && s->num_vfs && asked != s->num_vfs) {
		snprintf(word, sizeof(word), "%llu of its virtual functions are enabled, not %u",
			(unsigned long long)s->num_vfs, asked);
		return plan_refuse(w->what, OTHER_VFS, word, err);
	}
	*ret = s->num_vfs ? s->num_vfs : asked ? asked : s->total_vfs;
	return 0;
}

/* Enabling them all, or leaving them as many as there are. */
static int add_enable(
	const struct wish *w, uint64_t vfs, struct change_plan *plan, struct error *err)
{
	const struct sriov *s = &w->facts->sriov;
	const char *pf = w->facts->pci.address, *autoprobe = s->autoprobe ? "1" : "0";
	char now[24], then[24];

	snprintf(now, sizeof(now), "%llu", (unsigned long long)s->num_vfs);
	snprintf(then, sizeof(then), "%llu", (unsigned long long)vfs);
	int r = add(
		w, CHANGE_SRIOV_AUTOPROBE, pf, autoprobe, s->num_vfs ? autoprobe : "0", plan, err);
	return r < 0 ? r : add(w, CHANGE_SRIOV_VFS, pf, now, then, plan, err);
}

/* A VF that is free, or none that is there yet. */
static int choose_vf(const struct wish *w, struct sriov_vf *ret, struct error *err)
{
	const struct sriov *s = &w->facts->sriov;

	*ret = (struct sriov_vf){0};
	if (!s->num_vfs) {
		int r = sriov_vf_address(s, w->facts->pci.address, 0, ret->address);
		return r == 0 ? 0
			      : plan_refuse_number(w->what, r == -ERANGE ? NO_BUS : NO_PLACE,
					w->facts->use.vfs ? w->facts->use.vfs : s->total_vfs, err);
	}
	struct plan_vfs vfs = plan_count_vfs(w->facts, w->taken, 0);
	if (vfs.best) {
		*ret = *vfs.best;
		return 0;
	}
	if (vfs.held)
		return plan_refuse_number(w->what, VFS_HELD, vfs.held, err);
	if (vfs.shared)
		return plan_refuse_number(w->what, VFS_GROUPED, vfs.shared, err);
	if (vfs.taken)
		return plan_refuse_number(w->what, VFS_TAKEN, vfs.taken, err);
	return plan_refuse_number(w->what, VFS_UNSEEN, s->num_vfs, err);
}

static int add_xe_time(const struct wish *w, const char *function, const char *attribute,
	uint64_t now, uint64_t then, struct change_plan *plan, struct error *err)
{
	char subject[CHANGE_SUBJECT_MAX], before[24], after[24];

	snprintf(subject, sizeof(subject), "%s/%s/%s", w->facts->pci.address, function, attribute);
	snprintf(before, sizeof(before), "%llu", (unsigned long long)now);
	snprintf(after, sizeof(after), "%llu", (unsigned long long)(now ? now : then));
	return add(w, CHANGE_XE_PROFILE, subject, before, after, plan, err);
}

/* xe counts VFs from 1, as the standard does. */
static int add_xe(const struct wish *w, uint32_t number, uint64_t vfs, struct change_plan *plan,
	struct error *err)
{
	uint64_t turn_ms = MAX(XE_ROUND_MS / vfs, XE_LEAST_MS);
	char function[16];
	int r = 0;

	if (w->facts->vendor.interface != VENDOR_XE)
		return 0;
	snprintf(function, sizeof(function), "vf%u", number + 1);
	for (size_t i = 0; r == 0 && i < w->facts->vendor.n_profiles; i++) {
		const struct vendor_profile *p = &w->facts->vendor.profiles[i];
		if (!p->timed || strcmp(p->function, function) != 0)
			continue;
		r = add_xe_time(
			w, function, "exec_quantum_ms", p->exec_quantum_ms, turn_ms, plan, err);
		if (r == 0)
			r = add_xe_time(w, function, "preempt_timeout_us", p->preempt_timeout_us,
				turn_ms * 1000, plan, err);
	}
	return r;
}

static int plan_vf(const struct wish *w, struct change_plan *plan, struct error *err)
{
	struct sriov_vf vf;
	uint64_t vfs = 1;

	if (iommu_driver_is_vfio(w->facts->pci.driver))
		return plan_refuse(w->what, PF_ON_VFIO, w->facts->pci.driver, err);
	int r = count_vfs(w, &vfs, err);
	if (r == 0)
		r = choose_vf(w, &vf, err);
	if (r == 0)
		r = add_enable(w, vfs, plan, err);
	if (r == 0)
		r = add_xe(w, vf.number, vfs, plan, err);
	if (r == 0)
		r = plan_vfio(plan, vf.address, vf.driver, w->what, err);
	return r < 0 ? r : give(w, vf.address, !iommu_driver_is_vfio(vf.driver), plan, err);
}

static int plan_nvidia(const struct wish *w, struct change_plan *plan, struct error *err)
{
	uint64_t id = 0;

	parse_number(w->type->id, 10, UINT32_MAX, &id);
	struct plan_vfs vfs = plan_count_vfs(w->facts, w->taken, (uint32_t)id);
	if (!vfs.best || !w->type->available)
		return plan_refuse(w->what, NVIDIA_NONE_LEFT, w->type->id, err);
	int r = add(w, CHANGE_NVIDIA_TYPE, vfs.best->address, "0", w->type->id, plan, err);
	return r < 0 ? r : give(w, vfs.best->address, false, plan, err);
}

static int (*const planners[SLICE_INTERFACE_COUNT])(
	const struct wish *w, struct change_plan *plan, struct error *err) = {
	[SLICE_MDEV] = plan_mdev,
	[SLICE_VF] = plan_vf,
	[SLICE_NVIDIA] = plan_nvidia,
	[SLICE_XE] = plan_vf,
};

static const struct slice_type *find_type(const struct slice_types *types, const char *id)
{
	for (size_t i = 0; i < types->count; i++) {
		if (!strcmp(types->list[i].id, id))
			return &types->list[i];
	}
	return NULL;
}

int plan_mediate(const struct host_facts *facts, const char *type_id, const char *uuid,
	const struct plan_owner *owner, const struct plan_taken *taken, const char *what,
	struct change_plan *ret, struct error *err)
{
	struct slice_types *types = malloc(sizeof(*types));
	struct wish wish = {facts, NULL, uuid, owner, taken, what};
	int r;

	*ret = (struct change_plan){0};
	if (!types)
		return error_set(err, ENOMEM, "%s: out of memory (try again)", what);
	plan_slice_types(facts, taken, types);
	wish.type = find_type(types, type_id);
	r = plan_judge(facts, HOST_MEDIATE, what, err);
	if (r == 0 && plan_is_nvidia_pf(facts))
		r = facts->sriov.num_vfs
			    ? plan_refuse_number(what, NVIDIA_SILENT, facts->sriov.num_vfs, err)
			    : plan_refuse(what, NVIDIA_DISABLED, facts->pci.address, err);
	else if (r == 0)
		r = wish.type ? planners[wish.type->interface](&wish, ret, err)
			      : plan_refuse(what, NO_TYPE, type_id, err);
	if (r < 0)
		*ret = (struct change_plan){0};
	free(types);
	return r;
}
