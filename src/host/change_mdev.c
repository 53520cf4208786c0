/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A mediated device: made by writing its UUID to `create` of a parent's type, taken away by its
 * `remove` (Documentation/driver-api/vfio-mediated-device.rst in the kernel's source). UUIDs are
 * the node's: a device of ours is one of that UUID on that parent and of that type. Removal waits
 * in the kernel while somebody has it open, so it is not asked for then.
 */
#include "base/cleanup.h"
#include "host/change_mediate.h"
#include "host/mdev.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define DEVICES "bus/mdev/devices/"

struct subject {
	char parent[SYSFS_NAME_MAX], type[SYSFS_NAME_MAX], uuid[MDEV_UUID_MAX];
};

/* A name of one folder, up to `len` bytes of text. */
static bool copy_name(const char *text, size_t len, char *ret, size_t size)
{
	if (!len || len >= size)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (text[i] <= ' ' || text[i] > '~')
			return false;
	}
	memcpy(ret, text, len);
	ret[len] = '\0';
	return strcmp(ret, ".") != 0 && strcmp(ret, "..") != 0;
}

static bool parse_subject(const char *text, struct subject *ret)
{
	const char *type = strchr(text, '/'), *uuid = type ? strchr(type + 1, '/') : NULL;

	if (!uuid || !mdev_uuid_valid(uuid + 1) || strpbrk(uuid + 1, "ABCDEF"))
		return false;
	memcpy(ret->uuid, uuid + 1, sizeof(ret->uuid));
	return copy_name(text, (size_t)(type - text), ret->parent, sizeof(ret->parent)) &&
	       copy_name(type + 1, (size_t)(uuid - type - 1), ret->type, sizeof(ret->type));
}

static bool mdev_valid(const struct change *c)
{
	struct subject subject;

	return parse_subject(c->subject, &subject) && !strcmp(c->after, "1") &&
	       (!strcmp(c->before, "0") || !strcmp(c->before, "1"));
}

static int mdev_look(
	const struct change_node *node, const struct change *c, char *ret_now, bool *ret_half)
{
	char path[SYSFS_NAME_MAX + 32], type[SYSFS_NAME_MAX] = "", driver[SYSFS_NAME_MAX];
	struct subject s;

	if (!parse_subject(c->subject, &s))
		return -EBADMSG;
	snprintf(path, sizeof(path), "class/mdev_bus/%s", s.parent);
	cleanup_close int parent = change_open(node, path);
	if (parent < 0)
		return parent == -ENOENT ? -ENODEV : parent;
	snprintf(path, sizeof(path), DEVICES "%s", s.uuid);
	cleanup_close int device = change_open(node, path);
	if (device == -ENOENT) {
		snprintf(ret_now, CHANGE_VALUE_MAX, "0");
		return 0;
	}
	int r = device < 0 ? device : sysfs_link(device, "mdev_type", type, sizeof(type));
	if (r < 0 && r != -ENOENT)
		return r;
	if (strcmp(type, s.type) != 0)
		snprintf(ret_now, CHANGE_VALUE_MAX, "1 of type %.50s", type);
	else if (!sysfs_exists(parent, s.uuid))
		snprintf(ret_now, CHANGE_VALUE_MAX, "1 on another parent");
	else {
		/* Made, and its driver not there yet, or never. */
		*ret_half = sysfs_link(device, "driver", driver, sizeof(driver)) == -ENOENT;
		snprintf(ret_now, CHANGE_VALUE_MAX, *ret_half ? "1 without a driver" : "1");
	}
	return 0;
}

static const struct change_saying create_sayings[] = {
	{-EEXIST, "a mediated device of that UUID is there already",
		"remove that, or create the vGPU again"},
	{-ENOSPC, "its parent has no room for another of this type; types may share one pool",
		"delete a vGPU of it, or choose a smaller type"},
	{-EUSERS, "its parent has as many as it can have", "delete a vGPU of it"},
	{-ENOENT, "its parent offers no such type, or is gone", "see `vgpuctl type list`"},
	{-EINVAL, "its parent's driver refuses the UUID or the type",
		"see `vgpuctl type list`, and dmesg"},
	{-ETIMEDOUT, "its parent's driver does not come to an end", "see dmesg"},
	{0},
};

static const struct change_saying remove_sayings[] = {
	{-ETIMEDOUT, "somebody has opened it meanwhile",
		"end that: the request stands, and is fulfilled then"},
	{-EAGAIN, "it is in use", "end whoever has it open"},
	{0},
};

static int mdev_create(
	const struct change_node *node, const struct change *c, const char *what, struct error *err)
{
	static const char verb[] = "create the mediated device";
	char file[2 * SYSFS_NAME_MAX + 64];
	struct subject s;

	if (!parse_subject(c->subject, &s))
		return change_explain(-EBADMSG, what, verb, c->subject, err);
	snprintf(file, sizeof(file), "class/mdev_bus/%s/mdev_supported_types/%s/create", s.parent,
		s.type);
	int r = change_write(node, file, s.uuid);
	return r == 0 ? 0 : change_say(create_sayings, r, what, verb, c->subject, err);
}

static const char remove_verb[] = "remove the mediated device";

static int mdev_unheld(
	const struct change_node *node, const struct change *c, const char *what, struct error *err)
{
	char path[SYSFS_NAME_MAX + 32];
	struct subject s;

	if (!parse_subject(c->subject, &s))
		return change_explain(-EBADMSG, what, remove_verb, c->subject, err);
	snprintf(path, sizeof(path), DEVICES "%s", s.uuid);
	return change_unheld(node, path, what, remove_verb, s.uuid, err);
}

static int mdev_remove(
	const struct change_node *node, const struct change *c, const char *what, struct error *err)
{
	char path[SYSFS_NAME_MAX + 32];
	struct subject s;

	int r = mdev_unheld(node, c, what, err);
	if (r < 0)
		return r;
	parse_subject(c->subject, &s);
	snprintf(path, sizeof(path), DEVICES "%s/remove", s.uuid);
	r = change_write(node, path, "1");
	return r == 0 || r == -ENOENT
		       ? 0
		       : change_say(remove_sayings, r, what, remove_verb, c->subject, err);
}

const struct change_row change_row_mdev = {
	.noun = "the number of mediated devices",
	.valid = mdev_valid,
	.look = mdev_look,
	.apply = mdev_create,
	.undo = mdev_remove,
	.unheld = mdev_unheld,
};
