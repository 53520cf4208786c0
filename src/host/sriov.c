/* SPDX-License-Identifier: Apache-2.0 */
#include "host/sriov.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/parse.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define VFS_LIMIT UINT16_MAX /* of the capability's fields */

static bool vf_number(const char *name, uint32_t *ret)
{
	static const char prefix[] = "virtfn";
	uint64_t number;

	if (strncmp(name, prefix, sizeof(prefix) - 1) != 0 ||
		!parse_number(name + sizeof(prefix) - 1, 10, VFS_LIMIT, &number))
		return false;
	*ret = (uint32_t)number;
	return true;
}

static bool shares_group(int dir, const char *vf)
{
	cleanup_names struct sysfs_names members = {0};
	char path[SYSFS_NAME_MAX + 32];

	snprintf(path, sizeof(path), "%s/iommu_group/devices", vf);
	int r = sysfs_list(dir, path, &members);
	return r == 0 ? members.count > 1 || members.more : r != -ENOENT;
}

static void add_vf(int dir, const char *name, uint32_t number, struct sriov *sriov,
	struct sysfs_troubles *troubles)
{
	struct sriov_vf vf = {.number = number};
	char path[SYSFS_NAME_MAX + 16];

	sysfs_want_link(dir, name, vf.address, sizeof(vf.address), troubles);
	if (!pci_address_valid(vf.address)) {
		if (vf.address[0])
			sysfs_trouble(troubles, name, -EBADMSG);
		return; /* else it was just taken away */
	}
	if (sriov->n_vfs == SRIOV_VFS_MAX) {
		sriov->more = true;
		return;
	}
	snprintf(path, sizeof(path), "%s/driver", name);
	sysfs_want_link(dir, path, vf.driver, sizeof(vf.driver), troubles);
	vf.shares_group = shares_group(dir, name);
	sriov->vfs[sriov->n_vfs++] = vf;
}

void sriov_read(int dir, struct sriov *ret, struct sysfs_troubles *troubles)
{
	cleanup_names struct sysfs_names names = {0};
	uint32_t number;

	*ret = (struct sriov){0};
	ret->total_vfs = sysfs_want_number(dir, "sriov_totalvfs", 10, VFS_LIMIT, 0, troubles);
	if (!ret->total_vfs)
		return;
	ret->num_vfs = sysfs_want_number(dir, "sriov_numvfs", 10, VFS_LIMIT, 0, troubles);
	ret->autoprobe = sysfs_want_number(dir, "sriov_drivers_autoprobe", 10, 1, 1, troubles) == 1;
	ret->offset = (uint32_t)sysfs_want_number(dir, "sriov_offset", 10, VFS_LIMIT, 0, troubles);
	ret->stride = (uint32_t)sysfs_want_number(dir, "sriov_stride", 10, VFS_LIMIT, 0, troubles);
	sysfs_trouble(troubles, "virtfn", sysfs_list(dir, ".", &names));
	for (size_t i = 0; i < names.count; i++) {
		if (vf_number(names.name[i], &number))
			add_vf(dir, names.name[i], number, ret, troubles);
	}
	ret->more |= names.more;
}

int sriov_vf_address(const struct sriov *sriov, const char *pf, uint32_t number, char *ret)
{
	uint64_t parts[4]; /* domain, bus, device, function */
	const char *at = pf;

	if (!pci_address_valid(pf))
		return -ENODATA;
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++, at++) {
		if (!parse_next(&at, 16, UINT32_MAX, &parts[i]))
			return -ENODATA;
	}
	if (!sriov->offset || (number && !sriov->stride))
		return -ENODATA;
	uint64_t place = (parts[1] << 8 | parts[2] << 3 | parts[3]) + (uint64_t)sriov->offset +
			 (uint64_t)number * sriov->stride;
	if (place > UINT16_MAX)
		return -ERANGE;
	snprintf(ret, PCI_ADDRESS_MAX, "%04x:%02x:%02x.%x", (unsigned)parts[0],
		(unsigned)place >> 8, (unsigned)place >> 3 & 0x1f, (unsigned)place & 7);
	return 0;
}
