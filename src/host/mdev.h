/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_HOST_MDEV_H
#define VGPU_HOST_MDEV_H

/*
 * Mediated devices: a parent's driver offers types (Documentation/driver-api/vfio-mediated-
 * device.rst in the kernel's source), each with a number of devices that can be made now. Types may
 * share one pool, so making one can cost another type several.
 */

#include "host/sysfs.h"

#define MDEV_TYPES_MAX   64
#define MDEV_DEVICES_MAX 128
#define MDEV_UUID_MAX    37

struct mdev_type {
	char id[SYSFS_NAME_MAX];   /* the folder's name: "nvidia-63", "mbochs-small" */
	char name[SYSFS_NAME_MAX]; /* for people; "" : not told */
	char description[256];     /* "" : some drivers have none */
	char device_api[32];       /* "vfio-pci", ...; "" : not told */
	uint64_t available;        /* instances, of all parents asked */
	bool available_known;
	char parent[SYSFS_NAME_MAX]; /* the first on which one can be made now; "" : none */
};

struct mdev_device {
	char uuid[MDEV_UUID_MAX];
	char type[SYSFS_NAME_MAX];
	char parent[SYSFS_NAME_MAX];
};

struct mdev {
	size_t n_parents; /* of those asked about */
	struct mdev_type types[MDEV_TYPES_MAX];
	size_t n_types;
	struct mdev_device devices[MDEV_DEVICES_MAX];
	size_t n_devices;
	bool more; /* types or devices are left out */
};

/*
 * Adds what a parent offers to `mdev`, which begins as zeroes. A parent is a PCI address or the
 * name of another device; one that is none adds nothing.
 */
void mdev_add_parent(const struct host_roots *roots, const char *parent, struct mdev *mdev,
	struct sysfs_troubles *troubles);

/* 8-4-4-4-12 hexadecimal digits. */
bool mdev_uuid_valid(const char *uuid);

#endif
