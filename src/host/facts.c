/* SPDX-License-Identifier: Apache-2.0 */
#include "host/facts.h"

#include "base/checked.h"
#include "base/cleanup.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MODULES_TEXT_MAX (8u << 20) /* of modules.dep, which has some 700 KB */

const char *const host_method_names[HOST_METHOD_COUNT] = {
	[HOST_EMULATE] = "emulate",
	[HOST_FORWARD] = "forward",
	[HOST_MEDIATE] = "mediate",
	[HOST_PASSTHROUGH] = "passthrough",
};

/* --- VFIO --- */

/* Is a line about a module "kernel/.../NAME.ko..." of that name? */
static bool line_names(const char *line, const char *module)
{
	size_t len = strcspn(line, ":\n"), name = strlen(module);
	const char *base = memrchr(line, '/', len);

	base = base ? base + 1 : line;
	return (size_t)(line + len - base) > name + 2 && !strncmp(base, module, name) &&
	       !strncmp(base + name, ".ko", 3);
}

static bool file_lists(const char *path, const char *module)
{
	struct stat file;
	char line[1024];
	size_t seen = 0;
	bool begins = true;

	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return false;
	cleanup_fclose FILE *f = fdopen(fd, "r");
	if (!f) {
		close(fd);
		return false;
	}
	if (fstat(fd, &file) < 0 || !S_ISREG(file.st_mode))
		return false;
	while (seen < MODULES_TEXT_MAX && fgets(line, sizeof(line), f)) {
		size_t len = strlen(line);
		if (begins && line_names(line, module))
			return true;
		begins = len && line[len - 1] == '\n';
		seen += MAX(len, (size_t)1);
	}
	return false;
}

bool host_module_installed(const struct host_roots *roots, const char *release, const char *module)
{
	static const char *const lists[] = {"modules.dep", "modules.builtin"};
	char path[SYSFS_PATH_MAX];

	if (!release[0] || release[0] == '.' || strchr(release, '/'))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		snprintf(path, sizeof(path), "%s/%s/%s", roots->modules, release, lists[i]);
		if (file_lists(path, module))
			return true;
	}
	return false;
}

static bool parameter_on(int sys, const char *path)
{
	char value[8];

	return sysfs_read(sys, path, value, sizeof(value)) == 0 &&
	       (!strcmp(value, "Y") || !strcmp(value, "1"));
}

static void read_vfio(const struct host_roots *roots, struct host_vfio *ret)
{
	*ret = (struct host_vfio){0};
	cleanup_close int sys = sysfs_open(AT_FDCWD, roots->sys);
	cleanup_close int proc = sysfs_open(AT_FDCWD, roots->proc);
	if (proc >= 0)
		sysfs_read(proc, "sys/kernel/osrelease", ret->release, sizeof(ret->release));
	if (sys < 0)
		return;
	ret->loaded = sysfs_exists(sys, "bus/pci/drivers/vfio-pci");
	ret->installed = ret->loaded || host_module_installed(roots, ret->release, "vfio-pci");
	ret->type1 =
		sysfs_exists(sys, "module/vfio_iommu_type1") || sysfs_exists(sys, "module/iommufd");
	ret->sriov = parameter_on(sys, "module/vfio_pci/parameters/enable_sriov");
}

/* --- virtual functions --- */

/* Who has a VFIO file of a VF open. */
static void find_vf_holders(const struct host_roots *roots, struct sriov *sriov)
{
	char names[SRIOV_VFS_MAX][HOLDER_VFIO_MAX][HOLDER_FILE_MAX];
	const char *files[SRIOV_VFS_MAX * HOLDER_VFIO_MAX] = {NULL};
	bool held[SRIOV_VFS_MAX * HOLDER_VFIO_MAX] = {false};
	size_t vf[SRIOV_VFS_MAX * HOLDER_VFIO_MAX], n = 0;
	struct holders holders = {0};

	static_assert(SRIOV_VFS_MAX * HOLDER_VFIO_MAX <= HOLDER_FILES, "all are looked for");
	for (size_t i = 0; i < sriov->n_vfs; i++) {
		cleanup_close int dir = pci_open(roots, sriov->vfs[i].address);
		size_t found = dir >= 0 ? holder_vfio_files(dir, names[i]) : 0;
		for (size_t k = 0; k < found; k++) {
			files[n] = names[i][k];
			vf[n++] = i;
		}
	}
	holders_find_each(roots, files, n, held, &holders);
	for (size_t i = 0; i < n; i++)
		sriov->vfs[vf[i]].held |= held[i];
}

/*
 * Where a VF will be is where something is already: then what the kernel says of their places is of
 * no use, and taking the function there for a VF would take somebody else's.
 */
static void check_vf_places(const struct host_roots *roots, const char *pf, struct sriov *sriov)
{
	char address[PCI_ADDRESS_MAX];

	for (uint32_t i = 0; !sriov->num_vfs && i < MIN(sriov->total_vfs, SRIOV_VFS_MAX); i++) {
		if (sriov_vf_address(sriov, pf, i, address) < 0)
			return;
		cleanup_close int there = pci_open(roots, address);
		if (there != -ENODEV)
			sriov->offset = 0;
	}
}

/* --- one GPU --- */

static void read_pci(const struct host_roots *roots, struct host_facts *ret)
{
	const char *address = ret->gpu.pci_address;

	ret->is_pci = true;
	ret->vanished = pci_read(roots, address, &ret->pci, &ret->troubles) < 0;
	cleanup_close int dir = pci_open(roots, address);
	if (dir < 0)
		return;
	iommu_read_node(roots, &ret->iommu, &ret->troubles);
	iommu_read_group(roots, address, &ret->group, &ret->troubles);
	sriov_read(dir, &ret->sriov, &ret->troubles);
	check_vf_places(roots, address, &ret->sriov);
	find_vf_holders(roots, &ret->sriov);
	vendor_read(roots, dir, &ret->sriov, &ret->vendor, &ret->troubles);
	mdev_add_parent(roots, address, &ret->mdev, &ret->troubles);
	for (size_t i = 0; i < ret->sriov.n_vfs; i++)
		mdev_add_parent(roots, ret->sriov.vfs[i].address, &ret->mdev, &ret->troubles);
	drm_read(roots, dir, address, ret->pci.boot_vga, &ret->drm, &ret->troubles);
}

/* The folder of a GPU that is no PCI function; -errno. */
static int open_other(const struct host_roots *roots, const struct host_gpu *gpu)
{
	char path[SYSFS_PATH_MAX];

	if (!strcmp(gpu->kind, "mdev"))
		snprintf(path, sizeof(path), "%s/class/mdev_bus/%s", roots->sys,
			gpu->name + strlen("mdev-"));
	else
		snprintf(path, sizeof(path), "%s/class/drm/%s/device", roots->sys,
			gpu->name + strlen("gpu-"));
	return sysfs_open(AT_FDCWD, path);
}

static void read_other(const struct host_roots *roots, struct host_facts *ret)
{
	cleanup_close int dir = open_other(roots, &ret->gpu);

	ret->vanished = dir == -ENOENT || dir == -ENOTDIR;
	sysfs_trouble(&ret->troubles, ret->gpu.name, dir);
	if (dir < 0)
		return;
	drm_read(roots, dir, "", false, &ret->drm, &ret->troubles);
	if (!strcmp(ret->gpu.kind, "mdev"))
		mdev_add_parent(roots, ret->gpu.name + strlen("mdev-"), &ret->mdev, &ret->troubles);
}

static void find_holders(const struct host_roots *roots, struct host_facts *ret)
{
	const char *files[DRM_NODES_MAX + 1];
	char group[32];
	size_t n = 0;

	for (size_t i = 0; i < ret->drm.n_nodes; i++)
		files[n++] = ret->drm.nodes[i];
	if (ret->is_pci && ret->group.number >= 0) {
		snprintf(group, sizeof(group), "vfio/%d", ret->group.number);
		files[n++] = group;
	}
	holders_find(roots, files, n, &ret->holders);
}

void host_facts_read(const struct host_roots *roots, const struct host_gpu *gpu,
	const struct host_use *use, struct host_facts *ret)
{
	*ret = (struct host_facts){.gpu = *gpu, .use = *use};
	ret->group.number = -1;
	ret->holders.complete = true;
	if (!strcmp(gpu->kind, "soft"))
		return;
	if (gpu->pci_address[0])
		read_pci(roots, ret);
	else
		read_other(roots, ret);
	read_vfio(roots, &ret->vfio);
	find_holders(roots, ret);
	if (gpu->render_node[0] && access(gpu->render_node, R_OK | W_OK) < 0)
		ret->render_access = -errno;
}
