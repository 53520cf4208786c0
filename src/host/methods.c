/* SPDX-License-Identifier: Apache-2.0 */
#include "host/methods.h"

#include "base/checked.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define E (1u << HOST_EMULATE)
#define F (1u << HOST_FORWARD)
#define M (1u << HOST_MEDIATE)
#define P (1u << HOST_PASSTHROUGH)

/* What a condition found out: stands for "{}" in its text and, if there is a way, in its remedy. */
struct words {
	char what[200];
	char way[120]; /* "" : `what` */
};

static void say(struct words *words, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void say(struct words *words, const char *format, ...)
{
	size_t len = strlen(words->what);
	va_list args;

	va_start(args, format);
	vsnprintf(words->what + len, sizeof(words->what) - len, format, args);
	va_end(args);
}

static bool is_kind(const struct host_facts *f, const char *kind)
{
	return !strcmp(f->gpu.kind, kind);
}

static bool on_vfio(const struct host_facts *f)
{
	return f->is_pci && iommu_driver_is_vfio(f->pci.driver);
}

/* Would a VM get a PCI function by VFIO? The other way is a mediated device. */
static bool by_vfio(const struct host_facts *f, enum host_method method)
{
	return f->is_pci && !f->vanished &&
	       (method == HOST_PASSTHROUGH || (f->sriov.total_vfs && !f->mdev.n_types));
}

/* --- what it is --- */

static bool vanished(const struct host_facts *f, enum host_method method, struct words *w)
{
	return f->vanished;
}

static bool is_soft(const struct host_facts *f, enum host_method method, struct words *w)
{
	return is_kind(f, "soft");
}

static bool is_hardware(const struct host_facts *f, enum host_method method, struct words *w)
{
	return !is_kind(f, "soft");
}

static bool not_pci(const struct host_facts *f, enum host_method method, struct words *w)
{
	return !is_kind(f, "soft") && !f->is_pci;
}

static bool carries_other(const struct host_facts *f, enum host_method method, struct words *w)
{
	/* Mixed are the types of vGPUs and whether they are emulated, not slices with others. */
	bool slices = method == HOST_MEDIATE ||
		      (f->use.method && !strcmp(f->use.method, host_method_names[HOST_MEDIATE]));
	if (!f->use.vgpus || !f->use.method || (f->use.mixed && !slices) ||
		!strcmp(f->use.method, host_method_names[method]))
		return false;
	say(w, "%u %s of method %s", f->use.vgpus, f->use.vgpus == 1 ? "vGPU" : "vGPUs",
		f->use.method);
	return true;
}

static bool kept_for_other(const struct host_facts *f, enum host_method method, struct words *w)
{
	if (!f->use.kept || !strcmp(f->use.kept, host_method_names[method]))
		return false;
	say(w, "%s", f->use.kept);
	snprintf(w->way, sizeof(w->way), "%.48s", f->gpu.name);
	return true;
}

static bool carries_vgpus(const struct host_facts *f, enum host_method method, struct words *w)
{
	say(w, "%u %s", f->use.vgpus, f->use.vgpus == 1 ? "vGPU" : "vGPUs");
	return f->use.vgpus > 0;
}

/* --- its driver --- */

static bool no_driver(const struct host_facts *f, enum host_method method, struct words *w)
{
	return f->is_pci && !f->vanished && !f->pci.driver[0] && !f->pci.driver_override[0];
}

static bool only_driver(const struct host_facts *f, enum host_method method, struct words *w)
{
	say(w, "%s", f->pci.driver_override);
	snprintf(w->way, sizeof(w->way), "%s", f->pci.address);
	return f->is_pci && !f->vanished && !f->pci.driver[0] && f->pci.driver_override[0];
}

static bool set_aside(const struct host_facts *f, enum host_method method, struct words *w)
{
	say(w, "%s", f->pci.driver);
	snprintf(w->way, sizeof(w->way), "%s", f->pci.address);
	return on_vfio(f) && (method == HOST_FORWARD || !f->sriov.total_vfs);
}

static bool no_render_node(const struct host_facts *f, enum host_method method, struct words *w)
{
	const char *driver = f->is_pci ? f->pci.driver : f->gpu.driver;

	say(w, "%s", driver[0] ? driver : f->gpu.name);
	return is_hardware(f, method, w) && !f->vanished && !f->gpu.render_node[0] && !on_vfio(f) &&
	       (driver[0] || !f->is_pci);
}

static bool render_denied(const struct host_facts *f, enum host_method method, struct words *w)
{
	say(w, "%s", f->gpu.render_node);
	return f->render_access == -EACCES || f->render_access == -EPERM;
}

static bool render_missing(const struct host_facts *f, enum host_method method, struct words *w)
{
	say(w, "%s", f->gpu.render_node);
	return f->render_access == -ENOENT;
}

static bool power_error(const struct host_facts *f, enum host_method method, struct words *w)
{
	return f->is_pci && !strcmp(f->pci.runtime_status, "error");
}

/* --- slices --- */

static bool no_slices(const struct host_facts *f, enum host_method method, struct words *w)
{
	return is_hardware(f, method, w) && !f->vanished && !on_vfio(f) && !f->sriov.total_vfs &&
	       !f->mdev.n_types && !sysfs_troubled(&f->troubles, "sriov_totalvfs");
}

static bool pf_undriven(const struct host_facts *f, enum host_method method, struct words *w)
{
	return f->sriov.total_vfs && !f->sriov.num_vfs && !f->pci.driver[0];
}

static bool pf_on_vfio(const struct host_facts *f, enum host_method method, struct words *w)
{
	say(w, "%s", f->pci.driver);
	return on_vfio(f) && f->sriov.total_vfs && !f->vfio.sriov;
}

static bool vfs_to_enable(const struct host_facts *f, enum host_method method, struct words *w)
{
	say(w, "%llu", (unsigned long long)f->sriov.total_vfs);
	snprintf(w->way, sizeof(w->way), "%s", f->pci.address);
	return f->sriov.total_vfs && !f->sriov.num_vfs && f->pci.driver[0] && !f->mdev.n_types;
}

static bool vfs_autoprobed(const struct host_facts *f, enum host_method method, struct words *w)
{
	snprintf(w->way, sizeof(w->way), "%s", f->pci.address);
	return f->sriov.total_vfs && f->sriov.autoprobe && f->vendor.interface != VENDOR_NVIDIA;
}

static bool mdev_exhausted(const struct host_facts *f, enum host_method method, struct words *w)
{
	for (size_t i = 0; i < f->mdev.n_types; i++) {
		if (f->mdev.types[i].available || !f->mdev.types[i].available_known)
			return false;
	}
	say(w, "%zu", f->mdev.n_devices);
	return f->mdev.n_types > 0;
}

static bool types_exhausted(const struct host_facts *f, enum host_method method, struct words *w)
{
	say(w, "%zu", f->vendor.in_use);
	return f->vendor.interface == VENDOR_NVIDIA && f->sriov.n_vfs && !f->vendor.n_types;
}

/* --- the IOMMU --- */

static bool iommu_missing(const struct host_facts *f, enum host_method method, struct words *w)
{
	return by_vfio(f, method) && !f->iommu.active && !f->iommu.firmware &&
	       !f->iommu.disabled_by[0];
}

static bool iommu_disabled(const struct host_facts *f, enum host_method method, struct words *w)
{
	say(w, "%s", f->iommu.disabled_by);
	return by_vfio(f, method) && !f->iommu.active && f->iommu.disabled_by[0];
}

static bool iommu_unused(const struct host_facts *f, enum host_method method, struct words *w)
{
	return by_vfio(f, method) && !f->iommu.active && f->iommu.firmware &&
	       !f->iommu.disabled_by[0];
}

static bool no_group(const struct host_facts *f, enum host_method method, struct words *w)
{
	return by_vfio(f, method) && f->iommu.active && f->group.number < 0 &&
	       !sysfs_troubled(&f->troubles, "iommu_group");
}

static bool no_remapping(const struct host_facts *f, enum host_method method, struct words *w)
{
	return by_vfio(f, method) && f->iommu.active && f->iommu.remapping == IOMMU_REMAPPING_NO &&
	       !f->iommu.unsafe_interrupts;
}

/* Names members of that role; false: there are none. */
static bool say_members(const struct host_facts *f, enum iommu_role role, struct words *w)
{
	unsigned n = 0;

	for (size_t i = 0; i < f->group.n_members; i++) {
		const struct iommu_member *m = &f->group.members[i];
		if (m->role != role)
			continue;
		if (n++ < 3)
			say(w, "%s%s (%s)", n > 1 ? ", " : "", m->address, m->driver);
	}
	if (n > 3)
		say(w, " and %u more", n - 3);
	return n > 0;
}

static bool group_shared(const struct host_facts *f, enum host_method method, struct words *w)
{
	say(w, "%d is shared with ", f->group.number);
	return f->is_pci && say_members(f, IOMMU_FOREIGN, w);
}

static bool group_unknown(const struct host_facts *f, enum host_method method, struct words *w)
{
	say(w, "%d", f->group.number);
	return f->is_pci && f->group.number >= 0 && f->group.more;
}

static bool companions(const struct host_facts *f, enum host_method method, struct words *w)
{
	return f->is_pci && say_members(f, IOMMU_COMPANION, w);
}

/* --- who uses it --- */

static bool has_console(const struct host_facts *f, enum host_method method, struct words *w)
{
	say(w, "%s", f->drm.console);
	return f->drm.console[0];
}

static bool was_boot_vga(const struct host_facts *f, enum host_method method, struct words *w)
{
	return f->is_pci && f->pci.boot_vga && !f->drm.console[0];
}

static bool in_use(const struct host_facts *f, enum host_method method, struct words *w)
{
	const struct holders *holders = &f->holders;

	if (!holders->total)
		return false;
	for (size_t i = 0; i < MIN(holders->count, (size_t)2); i++)
		say(w, "%sPID %u (%s) has /dev/%s open", i ? ", " : "", holders->list[i].pid,
			holders->list[i].comm, holders->list[i].file);
	if (holders->total > 2)
		say(w, ", and %zu more have it", holders->total - 2);
	return true;
}

static bool holders_unknown(const struct host_facts *f, enum host_method method, struct words *w)
{
	return !f->holders.complete && f->is_pci;
}

static bool vfs_enabled(const struct host_facts *f, enum host_method method, struct words *w)
{
	say(w, "%llu", (unsigned long long)f->sriov.num_vfs);
	return f->sriov.num_vfs > 0;
}

static bool mdevs_exist(const struct host_facts *f, enum host_method method, struct words *w)
{
	say(w, "%zu", f->mdev.n_devices);
	return f->mdev.n_devices > 0;
}

/* --- the node --- */

static bool vfio_missing(const struct host_facts *f, enum host_method method, struct words *w)
{
	say(w, "%s", f->vfio.release[0] ? f->vfio.release : "of this node");
	return by_vfio(f, method) && !f->vfio.installed;
}

static bool vfio_not_loaded(const struct host_facts *f, enum host_method method, struct words *w)
{
	return by_vfio(f, method) && f->vfio.installed && !f->vfio.loaded;
}

static bool vfio_no_type1(const struct host_facts *f, enum host_method method, struct words *w)
{
	return by_vfio(f, method) && f->vfio.loaded && !f->vfio.type1;
}

static bool not_root(const struct host_facts *f, enum host_method method, struct words *w)
{
	return !f->use.root && is_hardware(f, method, w);
}

static bool no_reset(const struct host_facts *f, enum host_method method, struct words *w)
{
	return f->is_pci && !f->vanished && !f->pci.can_reset &&
	       !sysfs_troubled(&f->troubles, "reset_method");
}

/* What each method is decided by. */
static const struct {
	unsigned methods;
	const char *file;
} decisive[] = {
	{P | M, "kernel/iommu_groups"},
	{P | M, "iommu_group"},
	{P, "iommu_group/devices"},
	{P, "reset_method"},
	{F | M | P, "driver"},
	{F, "drm"},
	{M, "sriov_totalvfs"},
	{M, "sriov_numvfs"},
	{M, "mdev_supported_types"},
	{M, "nvidia/creatable_vgpu_types"},
};

static bool unreadable(const struct host_facts *f, enum host_method method, struct words *w)
{
	const struct sysfs_troubles *troubles = &f->troubles;

	for (size_t i = 0; i < troubles->count; i++) {
		const struct sysfs_trouble *trouble = &troubles->list[i];
		for (size_t k = 0; k < ARRAY_SIZE(decisive); k++) {
			if (!(decisive[k].methods & 1u << method) ||
				strcmp(decisive[k].file, trouble->file) != 0)
				continue;
			say(w, "%s: %s", trouble->file, sysfs_why(trouble->code));
			snprintf(w->way, sizeof(w->way), "%s", sysfs_remedy(trouble->code));
			return true;
		}
	}
	return false;
}

/* --- the table --- */

static const struct condition {
	const char *name;
	unsigned methods;
	bool forbids;
	bool (*holds)(const struct host_facts *f, enum host_method method, struct words *w);
	const char *text, *remedy; /* NULL: nothing helps */
} conditions[] = {
	{"vanished", F | M | P, true, vanished, "it is no longer on this node", "plug it in again"},
	{"software", M | P, true, is_soft, "it is software: there is no device to give away",
		"choose forward or emulate, or a GPU on PCI"},
	{"hardware", E, true, is_hardware, "emulate draws in software and would not use it",
		"choose forward, or a soft GPU"},
	{"not-pci", P, true, not_pci, "it is no PCI function, and VFIO gives away nothing else",
		"choose forward"},
	{"unreadable", F | M | P, true, unreadable, "what decides it cannot be read: {}", "{}"},
	{"other-method", E | F | M, true, carries_other,
		"it carries {}, and all vGPUs of a GPU are of one method (rule 2)",
		"delete them, or set mixed = yes for it"},
	{"carries-vgpus", P, true, carries_vgpus,
		"it carries {}, and a GPU in passthrough carries none (rule 3)",
		"move them to another GPU, or delete them"},
	{"kept-for-other", E | F | M | P, true, kept_for_other, "it is kept for {} (rules 2 and 3)",
		"vgpuctl gpu mode {} any"},
	{"power-error", F | M | P, true, power_error,
		"its power management failed, and it does not answer",
		"see the kernel's log (dmesg); restart the node"},

	{"no-driver", F, true, no_driver, "no driver holds it, so nothing can draw on it",
		"load its driver with modprobe"},
	{"only-driver", F | M, true, only_driver, "only the driver {} may have it, and does not",
		"write an empty line to driver_override of {}, then its address to "
		"/sys/bus/pci/drivers_probe"},
	{"set-aside", F | M, true, set_aside, "its driver {} keeps it for a virtual machine",
		"give it back: empty driver_override of {}, unbind it, write its address to "
		"/sys/bus/pci/drivers_probe"},
	{"no-render-node", F, true, no_render_node,
		"its driver {} gives it no render node, so no process can draw on it",
		"choose a soft GPU, or a driver that draws"},
	{"render-node-denied", F, true, render_denied, "vgpud's user may not open {}",
		"let it (Debian: group render)"},
	{"render-node-missing", F, true, render_missing, "{} is not there",
		"start udev, or give the file to vgpud's container"},

	{"no-slices", M, true, no_slices, "it offers no slices: no SR-IOV and no mediated types",
		"load its vendor's vGPU driver if there is one, or choose forward"},
	{"pf-undriven", M, true, pf_undriven,
		"its virtual functions need its driver, and none holds it",
		"load its driver with modprobe"},
	{"pf-on-vfio", M, true, pf_on_vfio,
		"with the driver {} it makes virtual functions only if that is allowed",
		"give it back to its own driver, or load vfio-pci with enable_sriov=1"},
	{"mdev-exhausted", M, true, mdev_exhausted,
		"no mediated device can be made any more: there are {}", "remove one"},
	{"types-exhausted", M, true, types_exhausted,
		"no type can be made on any of its virtual functions: {} of them have one",
		"give one back by writing 0 to its nvidia/current_vgpu_type"},
	{"vfs-not-enabled", M, false, vfs_to_enable, "none of its {} virtual functions is enabled",
		"nothing: the first vGPU of method mediate enables them (NVIDIA's: sriov-manage "
		"-e {})"},
	{"vfs-autoprobed", M, false, vfs_autoprobed,
		"virtual functions get the host's driver as soon as they are enabled",
		"nothing: vgpud writes 0 to sriov_drivers_autoprobe of {} before it enables them"},

	{"iommu-missing", M | P, true, iommu_missing, "the firmware shows no IOMMU",
		"turn on VT-d or AMD-Vi in the firmware's setup; give a VM an IOMMU"},
	{"iommu-disabled", M | P, true, iommu_disabled,
		"the kernel was started with {}, which turns the IOMMU off", "start it without {}"},
	{"iommu-unused", M | P, true, iommu_unused,
		"the firmware shows an IOMMU, and the kernel does not use it",
		"start the kernel with intel_iommu=on; on AMD, see dmesg"},
	{"no-group", M | P, true, no_group, "it is behind none of the node's IOMMUs",
		"put it into another slot"},
	{"no-interrupt-remapping", M | P, true, no_remapping,
		"the IOMMU cannot remap interrupts, and VFIO refuses without (EPERM)",
		"turn on x2APIC or interrupt remapping in the firmware; where guests are "
		"trusted, vfio_iommu_type1.allow_unsafe_interrupts=1"},
	{"group-shared", P, true, group_shared, "its IOMMU group {}",
		"put it into a slot with a group of its own, or unbind those drivers"},
	{"group-unknown", P, true, group_unknown,
		"its IOMMU group {} has members that cannot be looked at",
		"see /sys/kernel/iommu_groups"},
	{"companions", P, false, companions, "of the same card, and would go along: {}", NULL},

	{"boot-console", P, true, has_console, "the node's text console is on it ({})",
		"boot with another GPU first, or unbind the console (echo 0 to bind of the "
		"frame buffer's /sys/class/vtconsole/vtcon*)"},
	{"boot-vga", P, false, was_boot_vga,
		"the firmware's screen was on it: a guest may find its ROM used up",
		"boot with another GPU first"},
	{"in-use", P, true, in_use, "{}", "end that, or choose another GPU"},
	{"holders-unknown", P, false, holders_unknown,
		"vgpud may not look at every process: one may have it open", "run vgpud as root"},
	{"vfs-enabled", P, true, vfs_enabled,
		"{} of its virtual functions are enabled and would be lost",
		"write 0 to its sriov_numvfs when nothing uses them"},
	{"mdevs-exist", P, true, mdevs_exist, "there are mediated devices on it: {}",
		"remove them when nothing uses them"},
	{"no-reset", P, false, no_reset,
		"it cannot be reset: what one guest leaves in it, the next one finds",
		"restart the node between two guests"},

	{"vfio-missing", M | P, true, vfio_missing, "the kernel {} has no vfio-pci",
		"use one with CONFIG_VFIO_PCI"},
	{"vfio-not-loaded", M | P, true, vfio_not_loaded, "vfio-pci is not loaded",
		"modprobe vfio-pci"},
	{"vfio-no-iommu-driver", M | P, true, vfio_no_type1,
		"neither vfio_iommu_type1 nor iommufd is loaded", "modprobe vfio_iommu_type1"},
	{"not-root", M | P, true, not_root, "vgpud does not run as root, whom the kernel asks for",
		"run vgpud as root"},
};

const char *host_condition_name(size_t i)
{
	return i < ARRAY_SIZE(conditions) ? conditions[i].name : NULL;
}

/* `text` with `word` where "{}" stands. */
static void fill_in(const char *text, const char *word, char *ret, size_t size)
{
	const char *mark = text ? strstr(text, "{}") : NULL;

	if (!text)
		ret[0] = '\0';
	else if (!mark)
		snprintf(ret, size, "%s", text);
	else
		snprintf(ret, size, "%.*s%s%s", (int)(mark - text), text, word, mark + 2);
}

static void judge_by(const struct host_facts *facts, enum host_method method,
	const struct condition *c, struct host_judgement *ret)
{
	struct words w = {0};

	if (!(c->methods & 1u << method) || !c->holds(facts, method, &w))
		return;
	ret->possible &= !c->forbids;
	if (ret->n_findings == METHODS_FINDINGS_MAX)
		return;
	struct host_finding *finding = &ret->findings[ret->n_findings++];
	finding->condition = c->name;
	finding->forbids = c->forbids;
	fill_in(c->text, w.what, finding->text, sizeof(finding->text));
	fill_in(c->remedy, w.way[0] ? w.way : w.what, finding->remedy, sizeof(finding->remedy));
}

void host_method_judge(
	const struct host_facts *facts, enum host_method method, struct host_judgement *ret)
{
	*ret = (struct host_judgement){.possible = true};
	for (int forbids = 1; forbids >= 0; forbids--) {
		for (size_t i = 0; i < ARRAY_SIZE(conditions); i++) {
			if (conditions[i].forbids == (forbids == 1))
				judge_by(facts, method, &conditions[i], ret);
		}
	}
}
