/* SPDX-License-Identifier: Apache-2.0 */
/* Why a slice cannot be had, beside what the table of methods says: one row for each reason. */
#include "host/plan_private.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* "{}": the word that the refusal is about. */
static const struct {
	int code;
	const char *why, *remedy;
} refusals[PLAN_REFUSAL_COUNT] = {
	[NO_TYPE] = {ENOENT, "it offers no type {}, or not any more",
		"see `vgpuctl type list` for what it offers"},
	[BAD_UUID] = {EINVAL, "{} is no UUID", "give one of the form 8-4-4-4-12 digits"},
	[UUID_EXISTS] = {EEXIST,
		"there is a mediated device of that UUID already, of type {}, and "
		"vgpud did not make it",
		"remove it, or create the vGPU again"},
	[MDEV_NONE_LEFT] = {ENOSPC,
		"no mediated device of type {} can be made any more; types may "
		"share one pool",
		"delete a vGPU of it, or choose a smaller type"},
	[MANY_VFS] = {ERANGE,
		"it has at most {} virtual functions, and the configuration asks for "
		"more",
		"set vfs to {} or less for this GPU"},
	[OTHER_VFS] = {EBUSY, "{}, and the kernel changes that number only when none is in use",
		"delete its vGPUs and write 0 to its sriov_numvfs, or change vfs to what it is"},
	[VFS_TAKEN] = {ENOSPC, "each of its {} virtual functions is a vGPU's",
		"delete a vGPU of it"},
	[VFS_HELD] = {EBUSY,
		"none of its virtual functions is free: somebody has {} of them open "
		"that vgpud did not give away",
		"end that VM, or delete a vGPU of it"},
	[VFS_GROUPED] = {ENOTSUP,
		"its virtual functions ({}) share IOMMU groups, so none can be "
		"given away alone",
		"put it into a slot with access control (ACS)"},
	[VFS_UNSEEN] = {EIO, "{} virtual functions are enabled, and sysfs shows none of them",
		"see dmesg; write 0 to its sriov_numvfs, then create it again"},
	[NO_PLACE] = {ENOTSUP,
		"its driver does not tell where its virtual functions will be "
		"before they are enabled",
		"write {} to its sriov_numvfs first"},
	[NO_BUS] = {ENOTSUP, "there is no bus left for its virtual functions",
		"put it into another slot, or start the kernel with pci=assign-busses"},
	[PF_ON_VFIO] = {ENOTSUP,
		"its physical function is on {}, and a VM may open a virtual "
		"function only with a token of whoever has that open",
		"give it back to its own driver"},
	[NVIDIA_DISABLED] = {ENOTSUP,
		"none of its virtual functions is enabled, and NVIDIA's are "
		"enabled by its own program",
		"run /usr/lib/nvidia/sriov-manage -e {}"},
	[NVIDIA_SILENT] = {ENOTSUP, "its {} virtual functions offer no types",
		"install NVIDIA's vGPU manager, and see that its services run"},
	[NVIDIA_NONE_LEFT] = {ENOSPC, "type {} cannot be made on a free virtual function any more",
		"delete a vGPU of it, or choose a smaller type"},
};

const char *plan_mediate_refusal(size_t i)
{
	return i < PLAN_REFUSAL_COUNT ? refusals[i].why : NULL;
}

/* `text` with `word` where "{}" stands. */
static void fill_in(const char *text, const char *word, char *ret, size_t size)
{
	const char *mark = strstr(text, "{}");

	if (mark)
		snprintf(ret, size, "%.*s%s%s", (int)(mark - text), text, word, mark + 2);
	else
		snprintf(ret, size, "%s", text);
}

int plan_refuse(const char *what, enum plan_refusal refusal, const char *word, struct error *err)
{
	char why[256], remedy[256];

	fill_in(refusals[refusal].why, word, why, sizeof(why));
	fill_in(refusals[refusal].remedy, word, remedy, sizeof(remedy));
	return error_set(err, refusals[refusal].code, "%s: %s (%s)", what, why, remedy);
}

int plan_refuse_number(
	const char *what, enum plan_refusal refusal, uint64_t number, struct error *err)
{
	char word[24];

	snprintf(word, sizeof(word), "%llu", (unsigned long long)number);
	return plan_refuse(what, refusal, word, err);
}
