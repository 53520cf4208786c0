/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Vendors' interfaces to slices, from their documents; neither has been seen on hardware.
 *
 * NVIDIA: a VF becomes a vGPU by the number of a type in nvidia/current_vgpu_type, and none by 0.
 *
 * Intel xe: sriov_admin/{pf,vfN}/profile/ of the PF (Documentation/ABI/testing/
 * sysfs-driver-intel-xe-sriov in the kernel's source). The driver may round a number up to what the
 * firmware can do.
 */
#include "base/checked.h"
#include "base/cleanup.h"
#include "host/change_mediate.h"
#include "host/pci.h"
#include "host/vendor.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PCI "bus/pci/devices/"

/* --- NVIDIA --- */

static const char type_file[] = "nvidia/current_vgpu_type";

static bool nvidia_valid(const struct change *c)
{
	uint64_t before, after;

	return pci_address_valid(c->subject) && change_number(c->before, UINT32_MAX, &before) &&
	       change_number(c->after, UINT32_MAX, &after) && after;
}

static int nvidia_look(
	const struct change_node *node, const struct change *c, char *ret_now, bool *ret_half)
{
	uint64_t type;

	cleanup_close int vf = pci_open(node->roots, c->subject);
	int r = vf < 0 ? vf : sysfs_number(vf, type_file, 10, UINT32_MAX, &type);
	if (r < 0)
		return r == -ENOENT ? -ENODEV : r;
	snprintf(ret_now, CHANGE_VALUE_MAX, "%llu", (unsigned long long)type);
	return 0;
}

static const struct change_saying type_sayings[] = {
	{-EINVAL, "it cannot be of that type now", "see its nvidia/creatable_vgpu_types"},
	{-ENOSPC, "the GPU has no room for another of that type", "delete a vGPU of it"},
	{-EIO, "NVIDIA's vGPU manager does not make it", "see the log of nvidia-vgpu-mgr"},
	{-EEXIST, "it has a type already", "write 0 to its nvidia/current_vgpu_type"},
	{-EBUSY, "it is in use", "end the VM that has it"},
	{-ETIMEDOUT, "NVIDIA's driver does not come to an end", "see dmesg"},
	{0},
};

static int write_type(const struct change_node *node, const struct change *c, const char *value,
	const char *what, const char *verb, struct error *err)
{
	char path[SYSFS_NAME_MAX + 32];

	snprintf(path, sizeof(path), PCI "%.15s/%s", c->subject, type_file);
	int r = change_write(node, path, value);
	return r == 0 ? 0 : change_say(type_sayings, r, what, verb, c->subject, err);
}

static int nvidia_apply(
	const struct change_node *node, const struct change *c, const char *what, struct error *err)
{
	char verb[64];

	snprintf(verb, sizeof(verb), "make a vGPU of type %.10s on", c->after);
	return write_type(node, c, c->after, what, verb, err);
}

static const char nvidia_undo_verb[] = "take away the vGPU on";

static int nvidia_unheld(
	const struct change_node *node, const struct change *c, const char *what, struct error *err)
{
	char path[SYSFS_NAME_MAX];

	snprintf(path, sizeof(path), PCI "%.15s", c->subject);
	return change_unheld(node, path, what, nvidia_undo_verb, c->subject, err);
}

static int nvidia_undo(
	const struct change_node *node, const struct change *c, const char *what, struct error *err)
{
	int r = nvidia_unheld(node, c, what, err);

	return r < 0 ? r : write_type(node, c, c->before, what, nvidia_undo_verb, err);
}

const struct change_row change_row_nvidia = {
	.noun = "the vGPU type",
	.valid = nvidia_valid,
	.look = nvidia_look,
	.apply = nvidia_apply,
	.undo = nvidia_undo,
	.unheld = nvidia_unheld,
};

/* --- Intel xe --- */

/* Attributes of a profile, and the most that each takes; 0: it is one of the words. */
static const struct {
	const char *name;
	uint64_t most;
} attributes[] = {
	{"exec_quantum_ms", UINT32_MAX},
	{"preempt_timeout_us", UINT32_MAX},
	{"vram_quota", INT64_MAX},
	{"sched_priority", 0},
};

static const char *const priorities[] = {"low", "normal", "high"};

struct profile {
	char pf[PCI_ADDRESS_MAX];
	char file[SYSFS_NAME_MAX]; /* below the PF's folder */
	size_t attribute;
};

/* "PF/vfN/ATTRIBUTE" */
static bool parse_profile(const char *subject, struct profile *ret)
{
	const char *function = strchr(subject, '/');
	const char *attribute = function ? strchr(function + 1, '/') : NULL;
	uint64_t number;
	char digits[8];

	if (!attribute || function - subject >= (long)sizeof(ret->pf))
		return false;
	snprintf(ret->pf, sizeof(ret->pf), "%.*s", (int)(function - subject), subject);
	int len = (int)(attribute - ++function);
	if (len < 2 || len > 7 || !pci_address_valid(ret->pf))
		return false;
	snprintf(digits, sizeof(digits), "%.*s", len - 2, function + 2);
	bool is_pf = len == 2 && !strncmp(function, "pf", 2);
	if (!is_pf && (strncmp(function, "vf", 2) != 0 ||
			      !change_number(digits, UINT16_MAX, &number) || !number))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(attributes); i++) {
		if (strcmp(attribute + 1, attributes[i].name) != 0)
			continue;
		ret->attribute = i;
		snprintf(ret->file, sizeof(ret->file), "sriov_admin/%.*s/profile/%s", len, function,
			attributes[i].name);
		return true;
	}
	return false;
}

static bool value_valid(size_t attribute, const char *value)
{
	uint64_t number;

	if (attributes[attribute].most)
		return change_number(value, attributes[attribute].most, &number);
	for (size_t i = 0; i < ARRAY_SIZE(priorities); i++) {
		if (!strcmp(value, priorities[i]))
			return true;
	}
	return false;
}

static bool xe_valid(const struct change *c)
{
	struct profile profile;

	return parse_profile(c->subject, &profile) && value_valid(profile.attribute, c->before) &&
	       value_valid(profile.attribute, c->after);
}

static int xe_look(
	const struct change_node *node, const struct change *c, char *ret_now, bool *ret_half)
{
	struct profile profile;
	uint64_t number;
	char text[64];

	if (!parse_profile(c->subject, &profile))
		return -EBADMSG;
	cleanup_close int pf = pci_open(node->roots, profile.pf);
	if (pf < 0)
		return pf;
	int r = 0;
	if (attributes[profile.attribute].most) {
		r = sysfs_number(pf, profile.file, 10, attributes[profile.attribute].most, &number);
		if (r == 0)
			snprintf(ret_now, CHANGE_VALUE_MAX, "%llu", (unsigned long long)number);
	} else {
		r = sysfs_read(pf, profile.file, text, sizeof(text));
		if (r == 0)
			vendor_parse_choice(text, ret_now, CHANGE_VALUE_MAX);
	}
	return r == -ENOENT ? -ENODEV : r;
}

/* Rounded up, by a quarter at most. 0 stands for no limit, and is never rounded to. */
static bool xe_shows(const char *now, const char *value)
{
	uint64_t is, asked;

	if (!change_number(now, INT64_MAX, &is) || !change_number(value, INT64_MAX, &asked))
		return !strcmp(now, value);
	return is >= asked && is - asked <= asked / 4;
}

static const struct change_saying profile_sayings[] = {
	{-EINVAL, "its driver does not take that value", "see dmesg"},
	{-EPERM, "its hardware or firmware does not let it be changed, or vgpud is not root",
		"run vgpud as root, with firmware that can"},
	{-EOPNOTSUPP, "its firmware lets only the PF's be changed", "use newer firmware"},
	{-EIO, "its firmware refuses it", "see dmesg"},
	{0},
};

static int write_profile(const struct change_node *node, const struct change *c, const char *value,
	const char *what, struct error *err)
{
	static const char verb[] = "set";
	char path[SYSFS_PATH_MAX];
	struct profile profile;

	if (!parse_profile(c->subject, &profile))
		return change_explain(-EBADMSG, what, verb, c->subject, err);
	snprintf(path, sizeof(path), PCI "%s/%s", profile.pf, profile.file);
	int r = change_write(node, path, value);
	return r == 0 ? 0 : change_say(profile_sayings, r, what, verb, c->subject, err);
}

static int xe_apply(
	const struct change_node *node, const struct change *c, const char *what, struct error *err)
{
	return write_profile(node, c, c->after, what, err);
}

static int xe_undo(
	const struct change_node *node, const struct change *c, const char *what, struct error *err)
{
	return write_profile(node, c, c->before, what, err);
}

const struct change_row change_row_xe = {
	.noun = "the limit",
	.valid = xe_valid,
	.look = xe_look,
	.apply = xe_apply,
	.undo = xe_undo,
	.shows = xe_shows,
};
