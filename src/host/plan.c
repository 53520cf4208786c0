/* SPDX-License-Identifier: Apache-2.0 */
#include "host/plan.h"

#include "host/methods.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* What a refusal is for programs; every other condition: -ENOTSUP. */
static const struct {
	const char *condition;
	int code;
} codes[] = {
	{"vanished", ENODEV},
	{"carries-vgpus", EBUSY},
	{"in-use", EBUSY},
	{"vfs-enabled", EBUSY},
	{"mdevs-exist", EBUSY},
	{"other-method", EBUSY},
	{"no-slices", ENOENT},
	{"pf-undriven", ENOENT},
	{"mdev-exhausted", ENOSPC},
	{"types-exhausted", ENOSPC},
	{"not-root", EPERM},
};

static int code_of(const char *condition)
{
	for (size_t i = 0; i < sizeof(codes) / sizeof(*codes); i++) {
		if (!strcmp(codes[i].condition, condition))
			return codes[i].code;
	}
	return ENOTSUP;
}

int plan_judge(const struct host_facts *facts, enum host_method method, const char *what,
	struct error *err)
{
	struct host_judgement judgement;
	char more[64] = "";
	size_t n = 0;

	host_method_judge(facts, method, &judgement);
	if (judgement.possible)
		return 0;
	const struct host_finding *first = &judgement.findings[0];
	while (n < judgement.n_findings && judgement.findings[n].forbids)
		n++;
	if (n > 1)
		snprintf(more, sizeof(more), ", and %zu more reasons", n - 1);
	return error_set(err, code_of(first->condition), "%s: %.*s%s (%.*s%s`vgpuctl gpu show %s`)",
		what, 200, first->text, more, 160, first->remedy,
		first->remedy[0] ? "; see " : "see ", facts->gpu.name);
}

int plan_add(
	struct change_plan *plan, const struct change *change, const char *what, struct error *err)
{
	if (plan->count == CHANGES_MAX)
		return error_set(err, E2BIG,
			"%s: that takes more than %d changes (see `vgpuctl gpu show`)", what,
			CHANGES_MAX);
	plan->list[plan->count++] = *change;
	return 0;
}

int plan_vfio(struct change_plan *plan, const char *address, const char *driver, const char *what,
	struct error *err)
{
	struct change change = {.kind = CHANGE_VFIO};

	snprintf(change.subject, sizeof(change.subject), "%s", address);
	snprintf(change.before, sizeof(change.before), "%s", driver);
	snprintf(change.after, sizeof(change.after), "%s",
		iommu_driver_is_vfio(driver) ? driver : VFIO_DRIVER);
	return plan_add(plan, &change, what, err);
}

static int plan_gift(struct change_plan *plan, enum change_kind kind, const char *subject,
	const struct plan_owner *owner, const char *what, struct error *err)
{
	struct change change = {.kind = kind};

	snprintf(change.subject, sizeof(change.subject), "%s", subject);
	snprintf(change.after, sizeof(change.after), "%u:%u:%04o", owner->uid, owner->gid,
		owner->mode);
	return plan_add(plan, &change, what, err);
}

int plan_cdev(struct change_plan *plan, const char *subject, const struct plan_owner *owner,
	const char *what, struct error *err)
{
	return plan_gift(plan, CHANGE_CDEV, subject, owner, what, err);
}

int plan_owner(struct change_plan *plan, const char *subject, const struct plan_owner *owner,
	const char *what, struct error *err)
{
	return plan_gift(plan, CHANGE_OWNER, subject, owner, what, err);
}

/* A bridge stays; a function of another card that nobody drives is left as it is. */
static bool goes_along(const struct iommu_member *m, const char *gpu)
{
	return m->role == IOMMU_SELF || (m->role != IOMMU_BRIDGE && pci_address_valid(m->address) &&
						pci_same_slot(m->address, gpu));
}

int plan_passthrough(const struct host_facts *facts, const struct plan_owner *owner,
	const char *what, struct change_plan *ret, struct error *err)
{
	const struct iommu_group *group = &facts->group;
	const char *gpu = facts->gpu.pci_address;

	*ret = (struct change_plan){0};
	int r = plan_judge(facts, HOST_PASSTHROUGH, what, err);
	for (size_t i = 0; r == 0 && i < group->n_members; i++) {
		const struct iommu_member *m = &group->members[i];
		if (goes_along(m, gpu))
			r = plan_vfio(ret, m->address, m->driver, what, err);
	}
	if (r == 0)
		r = plan_owner(ret, gpu, owner, what, err);
	for (size_t i = 0; r == 0 && i < group->n_members; i++) {
		const struct iommu_member *m = &group->members[i];
		if (goes_along(m, gpu) && !iommu_driver_is_vfio(m->driver))
			r = plan_cdev(ret, m->address, owner, what, err);
	}
	snprintf(ret->device, sizeof(ret->device), "%s", gpu);
	return r;
}
