/* SPDX-License-Identifier: Apache-2.0 */
#include "host/held.h"

#include "base/cleanup.h"
#include "host/drm.h"
#include "host/iommu.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Device files of a function: those of DRM, its group's, its own of VFIO's. */
struct files {
	struct drm drm;
	char group[32], own[HOLDER_FILE_MAX];
	const char *list[DRM_NODES_MAX + 2];
	size_t n;
};

static_assert(DRM_NODES_MAX + 2 <= HOLDER_FILES, "all files of a function are looked for");

int held_find(const struct host_roots *roots, const char *address, struct holders *ret)
{
	struct sysfs_troubles troubles = {0};
	struct files files = {.n = 0};

	*ret = (struct holders){0};
	cleanup_close int dir = pci_open(roots, address);
	if (dir < 0)
		return dir;
	cleanup_free struct iommu_group *group = calloc(1, sizeof(*group));
	if (!group)
		return -ENOMEM;
	drm_read(roots, dir, address, false, &files.drm, &troubles);
	for (size_t i = 0; i < files.drm.n_nodes; i++)
		files.list[files.n++] = files.drm.nodes[i];
	iommu_read_group(roots, address, group, &troubles);
	if (group->number >= 0) {
		snprintf(files.group, sizeof(files.group), "vfio/%d", group->number);
		files.list[files.n++] = files.group;
	}
	if (holder_vfio_own(dir, files.own))
		files.list[files.n++] = files.own;
	holders_find(roots, files.list, files.n, ret);
	return 0;
}

int held_check(
	const struct host_roots *roots, const char *address, char *ret_driver, struct holders *ret)
{
	ret_driver[0] = '\0';
	*ret = (struct holders){0};
	cleanup_close int dir = pci_open(roots, address);
	if (dir < 0)
		return dir;
	int r = sysfs_link(dir, "driver", ret_driver, PCI_DRIVER_MAX);
	if (r < 0 && r != -ENOENT)
		return r;
	r = held_find(roots, address, ret);
	if (r < 0)
		return r;
	bool ours = !ret_driver[0] || iommu_driver_is_vfio(ret_driver);
	return ret->total || !ret->complete || !ours ? -EBUSY : 0;
}

const char *held_text(const struct holders *holders, char *ret, size_t size)
{
	const struct holder *first = &holders->list[0];

	if (!holders->count) {
		snprintf(ret, size, "not every process could be asked what it has open");
		return ret;
	}
	snprintf(ret, size, "PID %u (%s) has /dev/%s open", first->pid, first->comm, first->file);
	if (holders->total > 1)
		snprintf(ret + strlen(ret), size - strlen(ret), ", and %zu more",
			holders->total - 1);
	return ret;
}
