/* SPDX-License-Identifier: Apache-2.0 */
#include "host/report.h"

#include "base/checked.h"
#include "host/methods.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What was read is printable ASCII; names of files and processes may be more. */
static json_t *text(const char *s)
{
	json_t *json = json_string(s);

	return json ? json : json_string("?");
}

static json_t *text_or_null(const char *s)
{
	return s && *s ? text(s) : json_null();
}

static json_t *number(uint64_t n)
{
	return json_integer((json_int_t)MIN(n, (uint64_t)INT64_MAX));
}

static json_t *hex(unsigned digits, uint32_t n)
{
	char s[16];

	snprintf(s, sizeof(s), "0x%0*x", (int)digits, n);
	return json_string(s);
}

static json_t *words(const char *s)
{
	json_t *list = json_array();

	while (*(s += strspn(s, " \t\n"))) {
		size_t len = strcspn(s, " \t\n");
		json_array_append_new(list, json_stringn(s, len));
		s += len;
	}
	return list;
}

static json_t *render_methods(const struct host_facts *f)
{
	json_t *list = json_array();

	for (unsigned m = 0; m < HOST_METHOD_COUNT; m++) {
		struct host_judgement judgement;
		json_t *findings = json_array();
		host_method_judge(f, m, &judgement);
		for (size_t i = 0; i < judgement.n_findings; i++) {
			const struct host_finding *finding = &judgement.findings[i];
			json_array_append_new(findings,
				json_pack("{s:s, s:b, s:o, s:o}", "condition", finding->condition,
					"forbids", finding->forbids, "text", text(finding->text),
					"remedy", text_or_null(finding->remedy)));
		}
		json_array_append_new(
			list, json_pack("{s:s, s:b, s:b, s:o}", "method", host_method_names[m],
				      "possible", judgement.possible, "offered",
				      (f->use.offered >> m & 1) != 0, "findings", findings));
	}
	return list;
}

static json_t *render_pci(const struct pci_device *pci)
{
	json_t *bars = json_array();

	for (size_t i = 0; i < PCI_BARS; i++) {
		const struct pci_bar *bar = &pci->bars[i];
		if (bar->size)
			json_array_append_new(
				bars, json_pack("{s:i, s:o, s:b, s:b}", "index", (int)i,
					      "size_bytes", number(bar->size), "prefetchable",
					      bar->prefetchable, "io", bar->io));
	}
	json_t *json = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:s, s:i}", "address",
		text(pci->address), "vendor_id", hex(4, pci->vendor), "device_id",
		hex(4, pci->device), "subsystem_vendor_id", hex(4, pci->subsystem_vendor),
		"subsystem_device_id", hex(4, pci->subsystem_device), "vendor",
		text_or_null(pci_vendor_name(pci->vendor)), "class", hex(6, pci->class),
		"class_name", pci_class_name(pci->class), "revision", pci->revision);
	json_object_set_new(json, "driver", text_or_null(pci->driver));
	json_object_set_new(json, "driver_override", text_or_null(pci->driver_override));
	json_object_set_new(json, "boot_vga", json_boolean(pci->boot_vga));
	json_object_set_new(json, "bars", bars);
	json_object_set_new(json, "vram_window_bytes", number(pci_vram_window(pci)));
	json_object_set_new(json, "can_reset", json_boolean(pci->can_reset));
	json_object_set_new(json, "reset_methods", words(pci->reset_methods));
	json_object_set_new(json, "power_state", text_or_null(pci->power_state));
	json_object_set_new(json, "runtime_status", text_or_null(pci->runtime_status));
	json_object_set_new(
		json, "numa_node", pci->numa_node < 0 ? json_null() : json_integer(pci->numa_node));
	json_object_set_new(json, "physfn", text_or_null(pci->physfn));
	return json;
}

static json_t *render_iommu(const struct iommu_node *node, const struct iommu_group *group)
{
	json_t *members = json_array();
	bool known = node->remapping != IOMMU_REMAPPING_UNKNOWN;

	for (size_t i = 0; i < group->n_members; i++) {
		const struct iommu_member *m = &group->members[i];
		json_array_append_new(members,
			json_pack("{s:o, s:o, s:s, s:s}", "address", text(m->address), "driver",
				text_or_null(m->driver), "class_name", pci_class_name(m->class),
				"role", iommu_role_names[m->role]));
	}
	return json_pack("{s:b, s:b, s:o, s:o, s:b, s:o, s:o, s:b, s:o}", "active", node->active,
		"firmware", node->firmware, "disabled_by", text_or_null(node->disabled_by),
		"interrupt_remapping",
		known ? json_boolean(node->remapping == IOMMU_REMAPPING_YES) : json_null(),
		"unsafe_interrupts", node->unsafe_interrupts, "group",
		group->number < 0 ? json_null() : json_integer(group->number), "group_type",
		text_or_null(group->type), "viable", group->number >= 0 && group->viable, "members",
		members);
}

static json_t *render_sriov(const struct sriov *sriov, const struct vendor *vendor)
{
	json_t *vfs = json_array();

	for (size_t i = 0; i < sriov->n_vfs; i++) {
		const struct sriov_vf *vf = &sriov->vfs[i];
		json_array_append_new(vfs,
			json_pack("{s:i, s:o, s:o, s:o}", "number", (int)vf->number, "address",
				text(vf->address), "driver", text_or_null(vf->driver), "vgpu_type",
				vendor->current[i] ? number(vendor->current[i]) : json_null()));
	}
	return json_pack("{s:o, s:o, s:b, s:o}", "total_vfs", number(sriov->total_vfs), "num_vfs",
		number(sriov->num_vfs), "drivers_autoprobe", sriov->autoprobe, "vfs", vfs);
}

static json_t *render_mdev(const struct mdev *mdev)
{
	json_t *types = json_array(), *devices = json_array();

	for (size_t i = 0; i < mdev->n_types; i++) {
		const struct mdev_type *type = &mdev->types[i];
		json_array_append_new(types,
			json_pack("{s:o, s:o, s:o, s:o, s:o}", "id", text(type->id), "name",
				text_or_null(type->name), "description",
				text_or_null(type->description), "device_api",
				text_or_null(type->device_api), "available_instances",
				type->available_known ? number(type->available) : json_null()));
	}
	for (size_t i = 0; i < mdev->n_devices; i++) {
		const struct mdev_device *device = &mdev->devices[i];
		json_array_append_new(
			devices, json_pack("{s:o, s:o, s:o}", "uuid", text(device->uuid), "type",
					 text(device->type), "parent", text(device->parent)));
	}
	return json_pack("{s:o, s:o}", "types", types, "devices", devices);
}

static json_t *render_vendor(const struct vendor *vendor)
{
	json_t *types = json_array(), *profiles = json_array();

	for (size_t i = 0; i < vendor->n_types; i++) {
		const struct vendor_type *type = &vendor->types[i];
		json_array_append_new(
			types, json_pack("{s:o, s:o, s:i}", "id", number(type->id), "name",
				       text(type->name), "creatable_vfs", (int)type->vfs));
	}
	for (size_t i = 0; i < vendor->n_profiles; i++) {
		const struct vendor_profile *p = &vendor->profiles[i];
		json_array_append_new(
			profiles, json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "function",
					  text(p->function), "address", text_or_null(p->address),
					  "exec_quantum_ms", number(p->exec_quantum_ms),
					  "preempt_timeout_us", number(p->preempt_timeout_us),
					  "sched_priority", text_or_null(p->priority),
					  "vram_quota_bytes", number(p->vram_quota_bytes)));
	}
	return json_pack("{s:s, s:o, s:o, s:o}", "interface", vendor_names[vendor->interface],
		"types", types, "vfs_in_use", number(vendor->in_use), "profiles", profiles);
}

static json_t *render_troubles(const struct sysfs_troubles *troubles)
{
	json_t *list = json_array();

	for (size_t i = 0; i < troubles->count; i++) {
		const struct sysfs_trouble *trouble = &troubles->list[i];
		json_array_append_new(list,
			json_pack("{s:o, s:s, s:s}", "file", text(trouble->file), "why",
				sysfs_why(trouble->code), "remedy", sysfs_remedy(trouble->code)));
	}
	return list;
}

static json_t *render_holders(const struct holders *holders)
{
	json_t *list = json_array();
	char file[80];

	for (size_t i = 0; i < holders->count; i++) {
		const struct holder *holder = &holders->list[i];
		snprintf(file, sizeof(file), "/dev/%s", holder->file);
		json_array_append_new(
			list, json_pack("{s:o, s:o, s:o}", "pid", number(holder->pid), "comm",
				      text(holder->comm), "file", text(file)));
	}
	return list;
}

static json_t *render_nodes(const struct drm *drm)
{
	json_t *list = json_array();
	char file[DRM_NODE_MAX + 8];

	for (size_t i = 0; i < drm->n_nodes; i++) {
		snprintf(file, sizeof(file), "/dev/%s", drm->nodes[i]);
		json_array_append_new(list, text(file));
	}
	return list;
}

json_t *host_report(const struct host_facts *f)
{
	bool pci = f->is_pci && !f->vanished;
	json_t *json = json_pack("{s:o, s:o}", "methods", render_methods(f), "pci",
		pci ? render_pci(&f->pci) : json_null());

	json_object_set_new(json, "iommu", pci ? render_iommu(&f->iommu, &f->group) : json_null());
	json_object_set_new(json, "sriov",
		f->sriov.total_vfs ? render_sriov(&f->sriov, &f->vendor) : json_null());
	json_object_set_new(json, "mdev", f->mdev.n_parents ? render_mdev(&f->mdev) : json_null());
	json_object_set_new(json, "vendor",
		f->vendor.interface == VENDOR_NONE ? json_null() : render_vendor(&f->vendor));
	json_object_set_new(json, "device_nodes", render_nodes(&f->drm));
	json_object_set_new(json, "console", text_or_null(f->drm.console));
	json_object_set_new(json, "screens", number(f->drm.screens));
	json_object_set_new(json, "holders", render_holders(&f->holders));
	json_object_set_new(json, "holders_complete", json_boolean(f->holders.complete));
	json_object_set_new(json, "unreadable", render_troubles(&f->troubles));
	return json;
}
