/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_HOST_FACTS_H
#define VGPU_HOST_FACTS_H

/*
 * All that sysfs and procfs tell of one GPU and of how this node could give it to machines. Read
 * anew each time it is asked for, because all of it may change; it may wait in a driver.
 */

#include "host/drm.h"
#include "host/holder.h"
#include "host/inventory.h"
#include "host/iommu.h"
#include "host/mdev.h"
#include "host/sriov.h"
#include "host/vendor.h"

enum host_method { HOST_EMULATE, HOST_FORWARD, HOST_MEDIATE, HOST_PASSTHROUGH, HOST_METHOD_COUNT };

extern const char *const host_method_names[HOST_METHOD_COUNT];

/* What VFIO is on this node. */
struct host_vfio {
	bool loaded;    /* the driver vfio-pci is there */
	bool installed; /* as a module that can be loaded, or loaded */
	bool type1;     /* vfio_iommu_type1 or iommufd is loaded: guest memory can be mapped */
	bool sriov;     /* vfio_pci.enable_sriov: a PF on vfio-pci may have VFs */
	char release[SYSFS_NAME_MAX]; /* of the kernel; "" : not told */
};

/* What vgpud knows beside the kernel. */
struct host_use {
	bool root;          /* vgpud may write to sysfs and to /dev/vfio */
	bool mixed;         /* its vGPUs may be of several methods */
	unsigned vgpus;     /* it carries */
	const char *method; /* of one of them; NULL: it carries none */
	const char *kept;   /* the one method it is kept for; NULL: any */
	unsigned offered;   /* methods that vgpud can do, a bit for each */
	uint32_t vfs;       /* virtual functions to enable, if there are none; 0: all it has */
};

struct host_facts {
	struct host_gpu gpu;
	struct host_use use;
	bool is_pci;   /* pci, group, sriov and vendor are filled */
	bool vanished; /* its folder is not there */
	struct pci_device pci;
	struct iommu_node iommu;
	struct iommu_group group;
	struct sriov sriov;
	struct mdev mdev;
	struct vendor vendor;
	struct drm drm;
	struct holders holders;
	struct host_vfio vfio;
	int render_access; /* 0: vgpud's user may open its render node, or it has none; -errno */
	struct sysfs_troubles troubles;
};

/* Fills `ret`, which is large: have it on the heap. `use` is copied. */
void host_facts_read(const struct host_roots *roots, const struct host_gpu *gpu,
	const struct host_use *use, struct host_facts *ret);

/* Does this kernel have that module, loaded or not? `module` as its file is named. */
bool host_module_installed(const struct host_roots *roots, const char *release, const char *module);

#endif
