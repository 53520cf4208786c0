/* SPDX-License-Identifier: Apache-2.0 */
#include "host/mdev.h"

#include "base/checked.h"
#include "base/cleanup.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define INSTANCES_MAX (1u << 24)

bool mdev_uuid_valid(const char *uuid)
{
	if (strlen(uuid) != MDEV_UUID_MAX - 1)
		return false;
	for (size_t i = 0; uuid[i]; i++) {
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;
		if (dash ? uuid[i] != '-' : !isxdigit((unsigned char)uuid[i]))
			return false;
	}
	return true;
}

static struct mdev_type *type_of(struct mdev *mdev, const char *id)
{
	for (size_t i = 0; i < mdev->n_types; i++) {
		if (!strcmp(mdev->types[i].id, id))
			return &mdev->types[i];
	}
	if (mdev->n_types == MDEV_TYPES_MAX) {
		mdev->more = true;
		return NULL;
	}
	struct mdev_type *type = &mdev->types[mdev->n_types++];
	*type = (struct mdev_type){0};
	snprintf(type->id, sizeof(type->id), "%s", id);
	return type;
}

static void add_devices(int dir, const char *parent, const char *type, struct mdev *mdev,
	struct sysfs_troubles *troubles)
{
	cleanup_names struct sysfs_names names = {0};

	sysfs_trouble(troubles, type, sysfs_list(dir, "devices", &names));
	for (size_t i = 0; i < names.count; i++) {
		if (!mdev_uuid_valid(names.name[i]))
			continue;
		if (mdev->n_devices == MDEV_DEVICES_MAX) {
			mdev->more = true;
			return;
		}
		struct mdev_device *device = &mdev->devices[mdev->n_devices++];
		snprintf(device->uuid, sizeof(device->uuid), "%.36s", names.name[i]);
		snprintf(device->type, sizeof(device->type), "%s", type);
		snprintf(device->parent, sizeof(device->parent), "%s", parent);
	}
}

static void add_type(int types, const char *parent, const char *id, struct mdev *mdev,
	struct sysfs_troubles *troubles)
{
	uint64_t available, sum;

	struct mdev_type *type = type_of(mdev, id);
	if (!type)
		return;
	cleanup_close int dir = sysfs_open(types, id);
	if (dir < 0) {
		sysfs_trouble(troubles, id, dir);
		return;
	}
	sysfs_want(dir, "name", type->name, sizeof(type->name), troubles);
	sysfs_want(dir, "description", type->description, sizeof(type->description), troubles);
	sysfs_want(dir, "device_api", type->device_api, sizeof(type->device_api), troubles);
	int r = sysfs_number(dir, "available_instances", 10, INSTANCES_MAX, &available);
	if (r < 0) {
		sysfs_trouble(troubles, "available_instances", r == -ENOENT ? -EBADMSG : r);
	} else if (checked_add(type->available, available, &sum)) {
		type->available = sum;
		type->available_known = true;
		if (available && !type->parent[0])
			snprintf(type->parent, sizeof(type->parent), "%.63s", parent);
	}
	add_devices(dir, parent, id, mdev, troubles);
}

void mdev_add_parent(const struct host_roots *roots, const char *parent, struct mdev *mdev,
	struct sysfs_troubles *troubles)
{
	cleanup_names struct sysfs_names names = {0};
	char path[SYSFS_PATH_MAX];

	if (strchr(parent, '/') || !strcmp(parent, "..") || !strcmp(parent, "."))
		return;
	snprintf(path, sizeof(path), "%s/class/mdev_bus/%s/mdev_supported_types", roots->sys,
		parent);
	cleanup_close int types = sysfs_open(AT_FDCWD, path);
	if (types < 0) {
		sysfs_trouble(troubles, "mdev_supported_types", types);
		return;
	}
	mdev->n_parents++;
	sysfs_trouble(troubles, "mdev_supported_types", sysfs_list(types, ".", &names));
	mdev->more |= names.more;
	for (size_t i = 0; i < names.count; i++)
		add_type(types, parent, names.name[i], mdev, troubles);
}
