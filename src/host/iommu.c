/* SPDX-License-Identifier: Apache-2.0 */
#include "host/iommu.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/parse.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define CMDLINE_MAX 8192
#define ECAP_IR     (1ull << 3) /* VT-d specification, extended capability register */
#define ECAP_MAX    32

const char *const iommu_role_names[IOMMU_ROLE_COUNT] = {
	[IOMMU_SELF] = "self",
	[IOMMU_COMPANION] = "companion",
	[IOMMU_BRIDGE] = "bridge",
	[IOMMU_FREE] = "free",
	[IOMMU_VFIO] = "vfio",
	[IOMMU_FOREIGN] = "foreign",
};

/* ACPI tables by which firmware describes an IOMMU: Intel, AMD, Arm, virtio. */
static const char *const tables[] = {"DMAR", "IVRS", "IORT", "VIOT"};

/* Words of the kernel's command line without which there would be one. */
static const char *const disabling[] = {"iommu=off", "intel_iommu=off", "amd_iommu=off"};

/* --- the node --- */

static void read_command_line(
	const struct host_roots *roots, struct iommu_node *ret, struct sysfs_troubles *troubles)
{
	cleanup_free char *text = malloc(CMDLINE_MAX);
	cleanup_close int proc = sysfs_open(AT_FDCWD, roots->proc);
	char *rest = NULL;

	if (!text || proc < 0)
		return;
	sysfs_want(proc, "cmdline", text, CMDLINE_MAX, troubles);
	for (char *word = strtok_r(text, " \t\n", &rest); word;
		word = strtok_r(NULL, " \t\n", &rest)) {
		for (size_t i = 0; i < ARRAY_SIZE(disabling); i++) {
			if (!strcmp(word, disabling[i]))
				snprintf(ret->disabled_by, sizeof(ret->disabled_by), "%s", word);
		}
	}
}

/* Every Intel unit must be able to; AMD's always are. */
static void read_remapping(int sys, struct iommu_node *ret)
{
	cleanup_names struct sysfs_names units = {0};
	char path[SYSFS_NAME_MAX + ECAP_MAX];
	uint64_t ecap;

	if (sysfs_list(sys, "class/iommu", &units) < 0)
		return;
	for (size_t i = 0; i < units.count; i++) {
		snprintf(path, sizeof(path), "class/iommu/%s/amd-iommu", units.name[i]);
		bool amd = sysfs_exists(sys, path);
		snprintf(path, sizeof(path), "class/iommu/%s/intel-iommu/ecap", units.name[i]);
		if (!amd && sysfs_number(sys, path, 16, UINT64_MAX, &ecap) < 0)
			continue;
		if (!amd && !(ecap & ECAP_IR))
			ret->remapping = IOMMU_REMAPPING_NO;
		else if (ret->remapping == IOMMU_REMAPPING_UNKNOWN)
			ret->remapping = IOMMU_REMAPPING_YES;
	}
}

void iommu_read_node(
	const struct host_roots *roots, struct iommu_node *ret, struct sysfs_troubles *troubles)
{
	static const char unsafe[] = "module/vfio_iommu_type1/parameters/allow_unsafe_interrupts";
	cleanup_names struct sysfs_names groups = {0};
	char path[64], value[8];

	*ret = (struct iommu_node){0};
	cleanup_close int sys = sysfs_open(AT_FDCWD, roots->sys);
	if (sys < 0) {
		sysfs_trouble(troubles, roots->sys, sys);
		return;
	}
	sysfs_trouble(
		troubles, "kernel/iommu_groups", sysfs_list(sys, "kernel/iommu_groups", &groups));
	ret->active = groups.count > 0;
	for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
		snprintf(path, sizeof(path), "firmware/acpi/tables/%s", tables[i]);
		ret->firmware |= sysfs_exists(sys, path);
	}
	ret->unsafe_interrupts =
		sysfs_read(sys, unsafe, value, sizeof(value)) == 0 && !strcmp(value, "Y");
	read_remapping(sys, ret);
	read_command_line(roots, ret, troubles);
}

/* --- a group --- */

bool iommu_driver_is_vfio(const char *driver)
{
	/* Variant drivers of VFIO are named after the device first: "nvgrace-gpu-vfio-pci". */
	static const char suffix[] = "vfio-pci";
	size_t len = strlen(driver);

	return (len >= sizeof(suffix) - 1 &&
		       !strcmp(driver + len - (sizeof(suffix) - 1), suffix)) ||
	       strstr(driver, "_vfio_pci");
}

static enum iommu_role role_of(const struct iommu_member *member, const char *address)
{
	if (!strcmp(member->address, address))
		return IOMMU_SELF;
	if (pci_is_bridge(member->class) &&
		(!member->driver[0] || !strcmp(member->driver, "pcieport")))
		return IOMMU_BRIDGE;
	if (!member->driver[0] || !strcmp(member->driver, "pci-stub"))
		return IOMMU_FREE;
	if (iommu_driver_is_vfio(member->driver))
		return IOMMU_VFIO;
	return pci_same_slot(member->address, address) ? IOMMU_COMPANION : IOMMU_FOREIGN;
}

/* Is it no hindrance to VFIO, as it is now? */
static bool member_viable(const struct iommu_member *member)
{
	if (member->role == IOMMU_SELF)
		return !member->driver[0] || !strcmp(member->driver, "pci-stub") ||
		       iommu_driver_is_vfio(member->driver);
	return member->role == IOMMU_BRIDGE || member->role == IOMMU_FREE ||
	       member->role == IOMMU_VFIO;
}

static void read_member(int devices, const char *name, const char *address,
	struct iommu_member *member, struct sysfs_troubles *troubles)
{
	*member = (struct iommu_member){0};
	snprintf(member->address, sizeof(member->address), "%s", name);
	cleanup_close int dir = sysfs_open(devices, name);
	if (dir < 0) {
		/* What holds it is not known: it counts as somebody's. */
		snprintf(member->driver, sizeof(member->driver), "?");
		sysfs_trouble(troubles, name, dir == -ENOENT ? -ENODEV : dir);
	} else {
		sysfs_want_link(dir, "driver", member->driver, sizeof(member->driver), troubles);
		member->class =
			(uint32_t)sysfs_want_number(dir, "class", 16, 0xffffff, 0, troubles);
	}
	member->role = role_of(member, address);
}

void iommu_read_group(const struct host_roots *roots, const char *address, struct iommu_group *ret,
	struct sysfs_troubles *troubles)
{
	cleanup_names struct sysfs_names names = {0};
	char number[16];
	uint64_t value;

	*ret = (struct iommu_group){.number = -1};
	cleanup_close int device = pci_open(roots, address);
	if (device < 0)
		return;
	sysfs_want_link(device, "iommu_group", number, sizeof(number), troubles);
	if (!number[0])
		return;
	if (!parse_number(number, 10, INT_MAX, &value)) {
		sysfs_trouble(troubles, "iommu_group", -EBADMSG);
		return;
	}
	ret->number = (int)value;
	sysfs_want(device, "iommu_group/type", ret->type, sizeof(ret->type), troubles);
	cleanup_close int devices = sysfs_open(device, "iommu_group/devices");
	int r = devices < 0 ? devices : sysfs_list(devices, ".", &names);
	sysfs_trouble(troubles, "iommu_group/devices", r == -ENOENT ? -EBADMSG : r);
	ret->more = r < 0 || names.more || names.count > IOMMU_MEMBERS_MAX;
	ret->viable = !ret->more;
	for (size_t i = 0; i < names.count && i < IOMMU_MEMBERS_MAX; i++) {
		struct iommu_member *member = &ret->members[ret->n_members++];
		read_member(devices, names.name[i], address, member, troubles);
		ret->viable &= member_viable(member);
	}
}
