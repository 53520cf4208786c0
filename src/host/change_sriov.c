/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtual functions of a PF: whether a new one gets the host's driver at once, and how many
 * there are. The kernel lets that number be changed from 0 and to 0 only, and disabling them takes
 * all away at once; so they stay enabled while there is one that has a driver: by then those of
 * vgpud's vGPUs have none, and any other is somebody's.
 */
#include "base/cleanup.h"
#include "host/change_mediate.h"
#include "host/iommu.h"
#include "host/sriov.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PCI     "bus/pci/devices/"
#define VFS_MAX UINT16_MAX

/* The number in a file of the PF. */
static int look_number(
	const struct change_node *node, const struct change *c, const char *file, char *ret_now)
{
	uint64_t number;

	cleanup_close int pf = pci_open(node->roots, c->subject);
	int r = pf < 0 ? pf : sysfs_number(pf, file, 10, VFS_MAX, &number);
	if (r < 0)
		return r == -ENOENT ? -ENODEV : r; /* its SR-IOV is gone */
	snprintf(ret_now, CHANGE_VALUE_MAX, "%llu", (unsigned long long)number);
	return 0;
}

static int write_number(const struct change_node *node, const struct change *c, const char *file,
	const char *value, const struct change_saying *sayings, const char *what, const char *verb,
	struct error *err)
{
	char path[SYSFS_NAME_MAX + 64];

	snprintf(path, sizeof(path), PCI "%.15s/%s", c->subject, file);
	int r = change_write(node, path, value);
	return r == 0 ? 0 : change_say(sayings, r, what, verb, c->subject, err);
}

/* --- autoprobe --- */

static const char autoprobe_file[] = "sriov_drivers_autoprobe";

static bool autoprobe_valid(const struct change *c)
{
	uint64_t number;

	return pci_address_valid(c->subject) && change_number(c->before, 1, &number) &&
	       change_number(c->after, 1, &number);
}

static int autoprobe_look(
	const struct change_node *node, const struct change *c, char *ret_now, bool *ret_half)
{
	return look_number(node, c, autoprobe_file, ret_now);
}

static const struct change_saying autoprobe_sayings[] = {{0}};

static int autoprobe_apply(
	const struct change_node *node, const struct change *c, const char *what, struct error *err)
{
	return write_number(node, c, autoprobe_file, c->after, autoprobe_sayings, what,
		"keep the host's driver from virtual functions of", err);
}

static int autoprobe_undo(
	const struct change_node *node, const struct change *c, const char *what, struct error *err)
{
	return write_number(node, c, autoprobe_file, c->before, autoprobe_sayings, what,
		"let the host's driver have virtual functions of", err);
}

const struct change_row change_row_autoprobe = {
	.noun = "sriov_drivers_autoprobe",
	.valid = autoprobe_valid,
	.look = autoprobe_look,
	.apply = autoprobe_apply,
	.undo = autoprobe_undo,
};

/* --- how many --- */

static const char vfs_file[] = "sriov_numvfs";

static bool vfs_valid(const struct change *c)
{
	uint64_t before, after;

	return pci_address_valid(c->subject) && change_number(c->before, VFS_MAX, &before) &&
	       change_number(c->after, VFS_MAX, &after) && after && (!before || before == after);
}

static int vfs_look(
	const struct change_node *node, const struct change *c, char *ret_now, bool *ret_half)
{
	return look_number(node, c, vfs_file, ret_now);
}

static const struct change_saying enable_sayings[] = {
	{-ENOENT, "it has no driver, or one that makes no virtual functions",
		"load its driver with modprobe"},
	{-ERANGE, "it has fewer virtual functions than that",
		"set vfs for this GPU to its sriov_totalvfs or less"},
	{-EBUSY, "another number of them is enabled, and the kernel changes it only from 0",
		"write 0 to its sriov_numvfs when nothing uses them"},
	{-ENOMEM, "the firmware left no room for them on the bus",
		"turn on SR-IOV in the firmware's setup, or start the kernel with pci=realloc"},
	{-EINVAL, "its driver refuses that number", "see dmesg, or set vfs for this GPU"},
	{-EIO, "the device does not enable them", "see dmesg, and turn on SR-IOV in the firmware"},
	{-ETIMEDOUT, "its driver does not come to an end", "see dmesg"},
	{0},
};

static const struct change_saying disable_sayings[] = {
	{-ETIMEDOUT, "somebody has opened one meanwhile",
		"end that: the request stands, and is fulfilled then"},
	{-EBUSY, "one of them is in use", "end whoever has it"},
	{-EPERM, "its driver keeps them while one is with a virtual machine", "end that VM"},
	{0},
};

/* -ESTALE and who has one of them; nothing is wrong then, they just stay. */
static int vfs_unused(
	const struct change_node *node, const struct change *c, const char *what, struct error *err)
{
	static const char verb[] = "virtual functions stay enabled: VF";
	struct sriov *sriov = malloc(sizeof(*sriov));
	struct sysfs_troubles troubles = {0};
	char path[SYSFS_NAME_MAX];
	int r = 0;

	cleanup_close int pf = pci_open(node->roots, c->subject);
	if (!sriov || pf < 0) {
		free(sriov);
		return change_explain(pf < 0 ? pf : -ENOMEM, what, "look at", c->subject, err);
	}
	sriov_read(pf, sriov, &troubles);
	for (size_t i = 0; r == 0 && i < sriov->n_vfs; i++) {
		const struct sriov_vf *vf = &sriov->vfs[i];
		if (!vf->driver[0])
			continue;
		snprintf(path, sizeof(path), PCI "%s", vf->address);
		r = change_unheld(node, path, what, verb, vf->address, err);
		if (r == 0)
			error_set(err, EBUSY,
				"%s: %s %s has the driver %s, which vgpud did not give it (write 0 "
				"to sriov_numvfs of %s when nothing uses them)",
				what, verb, vf->address, vf->driver, c->subject);
		r = -ESTALE;
	}
	free(sriov);
	return r;
}

static int vfs_apply(
	const struct change_node *node, const struct change *c, const char *what, struct error *err)
{
	return write_number(node, c, vfs_file, c->after, enable_sayings, what,
		"enable virtual functions of", err);
}

static int vfs_undo(
	const struct change_node *node, const struct change *c, const char *what, struct error *err)
{
	int r = vfs_unused(node, c, what, err);

	return r < 0 ? r
		     : write_number(node, c, vfs_file, c->before, disable_sayings, what,
			       "disable virtual functions of", err);
}

const struct change_row change_row_vfs = {
	.noun = "the number of virtual functions",
	.valid = vfs_valid,
	.look = vfs_look,
	.apply = vfs_apply,
	.undo = vfs_undo,
};
