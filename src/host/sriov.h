/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_HOST_SRIOV_H
#define VGPU_HOST_SRIOV_H

/*
 * SR-IOV: a physical function (PF) that shows virtual ones (VFs), each a PCI function of its own.
 * The kernel's files: sriov_totalvfs, sriov_numvfs, sriov_drivers_autoprobe, virtfnN, physfn.
 */

#include "host/pci.h"

#define SRIOV_VFS_MAX 64

struct sriov_vf {
	uint32_t number; /* of virtfnN */
	char address[PCI_ADDRESS_MAX];
	char driver[PCI_DRIVER_MAX]; /* "" : none */
	bool shares_group;           /* its IOMMU group has others: it cannot be given away alone */
	bool held;                   /* somebody has its VFIO file open; host/facts.h */
};

struct sriov {
	uint64_t total_vfs; /* 0: it has no SR-IOV */
	uint64_t num_vfs;   /* that are enabled, as the kernel counts them */
	bool autoprobe;     /* a new VF gets the driver of its kind at once */
	/* How far the first VF is from its PF on the bus, and each from the one before; 0: not
	 * told, or not to be relied on. */
	uint32_t offset, stride;
	struct sriov_vf vfs[SRIOV_VFS_MAX];
	size_t n_vfs; /* that were found */
	bool more;    /* there are more than fit here */
};

/* `dir`: the folder of a PCI function. */
void sriov_read(int dir, struct sriov *ret, struct sysfs_troubles *troubles);

/*
 * Where VF `number` (from 0, as in virtfnN) of that PF will be when it is enabled; `ret` has
 * PCI_ADDRESS_MAX bytes. 0; -ENODATA: its place is not told; -ERANGE: it would be behind the last
 * bus.
 */
int sriov_vf_address(const struct sriov *sriov, const char *pf, uint32_t number, char *ret);

#endif
