/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_HOST_IOMMU_H
#define VGPU_HOST_IOMMU_H

/*
 * The node's IOMMU, and the group of a function: the least that can be given to a VM, because its
 * members reach each other's memory. VFIO opens a group only when it is viable: every member has no
 * driver, one of VFIO's, pci-stub, or is a bridge.
 */

#include "host/pci.h"

#define IOMMU_MEMBERS_MAX 64

enum iommu_role {
	IOMMU_SELF,      /* the function that was asked about */
	IOMMU_COMPANION, /* of the same card, with a driver: its sound, say. It goes along */
	IOMMU_BRIDGE,    /* stays with the host and does no harm */
	IOMMU_FREE,      /* no driver holds it */
	IOMMU_VFIO,      /* set aside for a VM already */
	IOMMU_FOREIGN,   /* somebody else's, in use by the host */
	IOMMU_ROLE_COUNT
};

extern const char *const iommu_role_names[IOMMU_ROLE_COUNT];

struct iommu_member {
	char address[SYSFS_NAME_MAX]; /* not all are PCI functions */
	char driver[PCI_DRIVER_MAX];  /* "" : none */
	uint32_t class;               /* 0: not told */
	enum iommu_role role;
};

struct iommu_group {
	int number;    /* -1: it is in none */
	char type[16]; /* "DMA", "DMA-FQ", "identity"; "" : not told */
	struct iommu_member members[IOMMU_MEMBERS_MAX];
	size_t n_members;
	bool more;   /* members are left out: nothing can be said about it */
	bool viable; /* as it is now */
};

enum iommu_remapping { IOMMU_REMAPPING_UNKNOWN, IOMMU_REMAPPING_NO, IOMMU_REMAPPING_YES };

/* Of the node. */
struct iommu_node {
	bool active;          /* there are groups */
	bool firmware;        /* the firmware describes one (DMAR, IVRS, IORT, VIOT) */
	char disabled_by[32]; /* word of the kernel's command line that turns it off; "" : none */
	enum iommu_remapping remapping; /* of interrupts, which VFIO insists on */
	bool unsafe_interrupts;         /* VFIO was told to do without */
};

void iommu_read_node(
	const struct host_roots *roots, struct iommu_node *ret, struct sysfs_troubles *troubles);
/* The group of a PCI function. */
void iommu_read_group(const struct host_roots *roots, const char *address, struct iommu_group *ret,
	struct sysfs_troubles *troubles);

/* Is it a driver with which VFIO gives a function to a VM? */
bool iommu_driver_is_vfio(const char *driver);

#endif
