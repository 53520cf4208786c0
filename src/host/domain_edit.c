/* SPDX-License-Identifier: Apache-2.0 */
#include "host/domain_private.h"

#include "base/checked.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define QEMU_NS "http://libvirt.org/schemas/domain/qemu/1.0"

void domain_find(
	struct domain_findings *findings, bool missing, const char *remedy, const char *format, ...)
{
	va_list args;

	if (findings->count == DOMAIN_FINDINGS_MAX)
		return;
	struct domain_finding *finding = &findings->list[findings->count++];
	finding->missing = missing;
	va_start(args, format);
	vsnprintf(finding->text, sizeof(finding->text), format, args);
	va_end(args);
	snprintf(finding->remedy, sizeof(finding->remedy), "%s", remedy ? remedy : "");
}

void domain_edit_finish(struct domain_edit *edit)
{
	free(edit->xml);
	*edit = (struct domain_edit){0};
}

/* --- what stands in the way --- */

struct attaching {
	const struct domain_tree *tree;
	xmlNode *devices; /* NULL: there is no <devices> */
	const struct domain_vgpu *vgpu, *others;
	size_t n_others;
};

static bool not_qemu(const struct attaching *a, char *what, size_t size)
{
	tree_get(a->tree->root, "type", what, size);
	return strcmp(what, "kvm") != 0 && strcmp(what, "qemu") != 0;
}

static bool not_a_machine(const struct attaching *a, char *what, size_t size)
{
	tree_content(tree_child(tree_child(a->tree->root, "os"), "type"), what, size);
	return *what && strcmp(what, "hvm") != 0;
}

static bool encrypted(const struct attaching *a, char *what, size_t size)
{
	const xmlNode *security = tree_child(a->tree->root, "launchSecurity");

	tree_get(security, "type", what, size);
	return security && a->vgpu->device == DOMAIN_VIDEO;
}

static bool in_namespace(const xmlNode *node, const char *name)
{
	return node->type == XML_ELEMENT_NODE && node->ns &&
	       !strcmp((const char *)node->ns->href, QEMU_NS) &&
	       !strcmp((const char *)node->name, name);
}

/* A vhost-user GPU in QEMU's own arguments, past libvirt. */
static bool by_arguments(const struct attaching *a, char *what, size_t size)
{
	for (const xmlNode *n = a->tree->root->children; n; n = n->next) {
		if (!in_namespace(n, "commandline"))
			continue;
		for (const xmlNode *arg = n->children; arg; arg = arg->next) {
			if (!in_namespace(arg, "arg"))
				continue;
			tree_get(arg, "value", what, size);
			if (strstr(what, "vhost-user-gpu") || strstr(what, "vhost-user-vga"))
				return true;
		}
	}
	return false;
}

static bool has_other(const struct attaching *a, char *what, size_t size)
{
	char owner[DOMAIN_ALIAS_NAME_MAX];

	for (const xmlNode *d = a->devices ? a->devices->children : NULL; d; d = d->next) {
		if (device_owner(d, owner) && strcmp(owner, a->vgpu->name) != 0) {
			snprintf(what, size, "%s", owner);
			return true;
		}
	}
	return false;
}

static bool has_device_of_other(const struct attaching *a, char *what, size_t size)
{
	char address[DOMAIN_ADDRESS_MAX];

	for (size_t i = 0; i < a->n_others; i++) {
		const xmlNode *device = device_stray(a->devices, &a->others[i]);
		if (!device || !strcmp(a->others[i].name, a->vgpu->name) ||
			!hostdev_address(device, address))
			continue;
		snprintf(what, size, "%s (%s)", a->others[i].name, address);
		return true;
	}
	return false;
}

static bool has_stray(const struct attaching *a, char *what, size_t size)
{
	const xmlNode *device = device_stray(a->devices, a->vgpu);

	return device && hostdev_address(device, what);
}

static bool nothing_to_give(const struct attaching *a, char *what, size_t size)
{
	return a->vgpu->device != DOMAIN_VIDEO && !a->vgpu->n_addresses;
}

static const struct obstacle {
	int code;
	bool (*holds)(const struct attaching *a, char *what, size_t size);
	const char *text, *remedy; /* {}: what was found */
} obstacles[] = {
	{ENOTSUP, not_qemu, "it is a domain of type '{}', and vGPUs are devices of QEMU",
		"choose one of type kvm or qemu"},
	{ENOTSUP, not_a_machine, "it is of os type '{}', and a vGPU needs a whole machine",
		"choose one of os type hvm"},
	{ENOTSUP, encrypted,
		"its memory is encrypted (launchSecurity {}) and cannot be shared with the vGPU",
		"give it a vGPU of method passthrough or mediate"},
	{ENODEV, nothing_to_give, "the vGPU has no device yet", "see `vgpuctl show`"},
	{EBUSY, has_other, "it has the vGPU {} already, and a VM has at most one (rule 1)",
		"vgpuctl libvirt detach that first"},
	{EBUSY, has_device_of_other,
		"it has the device of the vGPU {} already, and a VM has at most one (rule 1)",
		"remove that <hostdev>"},
	{EBUSY, by_arguments,
		"its own QEMU arguments give it one already ({}), and a VM has at most one (rule "
		"1)",
		"remove them from <qemu:commandline>"},
	{EEXIST, has_stray, "it has the device {} already, by a <hostdev> that is not vgpud's",
		"remove that <hostdev>"},
};

static void fill_in(const char *text, const char *word, char *ret, size_t size)
{
	const char *mark = strstr(text, "{}");

	if (mark)
		snprintf(ret, size, "%.*s%s%s", (int)(mark - text), text, word, mark + 2);
	else
		snprintf(ret, size, "%s", text);
}

/* Each as a finding; the number of the first obstacle, -1: there is none. */
static int find_obstacles(const struct attaching *a, struct domain_findings *findings)
{
	char what[96], text[DOMAIN_TEXT_MAX];
	int first = -1;

	for (size_t i = 0; i < ARRAY_SIZE(obstacles); i++) {
		what[0] = '\0';
		if (!obstacles[i].holds(a, what, sizeof(what)))
			continue;
		fill_in(obstacles[i].text, what, text, sizeof(text));
		domain_find(findings, true, obstacles[i].remedy, "%s", text);
		first = first < 0 ? (int)i : first;
	}
	return first;
}

/* --- attach --- */

static bool put_device(struct domain_tree *tree, xmlNode *devices, xmlNode *record,
	const struct domain_vgpu *vgpu, bool keep_video, struct domain_findings *said)
{
	bool primary = vgpu->device == DOMAIN_VIDEO && !keep_video;
	unsigned replaced = 0;
	xmlNode *next;

	if (devices_as_wanted(devices, vgpu))
		return false;
	if (device_next(devices, NULL, vgpu->name))
		domain_find(said, false, NULL, "what it had of %s was replaced", vgpu->name);
	devices_remove(devices, vgpu->name);
	devices_add(tree, devices, vgpu, primary);
	for (xmlNode *v = tree_child(devices, "video"); primary && v && !tree->failed; v = next) {
		next = tree_next(v, "video");
		if (device_is_of(v, vgpu->name))
			continue;
		record_keep(tree, record, v);
		replaced++;
	}
	domain_find(said, false, NULL, "%s is %s", vgpu->name,
		vgpu->device != DOMAIN_VIDEO ? "a host device of it"
		: primary                    ? "its screen"
					     : "a further screen of it");
	if (replaced)
		domain_find(said, false, NULL,
			"%u video device%s stood there before, and will again after detach",
			replaced, replaced == 1 ? "" : "s");
	return true;
}

static int edit_finish(struct domain_tree *tree, int r, const char *what, struct domain_edit *ret,
	struct error *err)
{
	if (r == 0) {
		ret->xml = domain_tree_text(tree);
		if (!ret->xml)
			r = error_set(err, ENOMEM, "%s: out of memory (free some)", what);
	}
	domain_tree_finish(tree);
	return r;
}

static bool record_is_of(const xmlNode *record, const char *name)
{
	return record && tree_has(record, "name", name);
}

static void attach(struct domain_tree *tree, const struct domain_vgpu *vgpu, bool keep_video,
	struct domain_edit *ret)
{
	xmlNode *devices = tree_want(tree, tree->root, "devices");
	xmlNode *record = record_find(tree->root);
	struct domain_findings lacks = {0};

	memory_check(tree->root, vgpu, &lacks);
	if (!devices || (devices_as_wanted(devices, vgpu) && !lacks.count &&
				record_is_of(record, vgpu->name)))
		return;
	/* Of a vGPU that was taken out by hand: its videos are not this one's to give back. */
	if (record && !record_is_of(record, vgpu->name))
		record_forget_kept(record);
	record = record_want(tree);
	tree_set(tree, record, "name", vgpu->name);
	put_device(tree, devices, record, vgpu, keep_video, &ret->said);
	memory_mend(tree, vgpu, record, &ret->said);
	ret->changed = true;
}

int domain_attach(const char *xml, size_t size, const struct domain_vgpu *vgpu,
	const struct domain_vgpu *others, size_t n_others, bool keep_video, const char *what,
	struct domain_edit *ret, struct error *err)
{
	struct domain_findings findings = {0};
	char alias[DOMAIN_ALIAS_MAX];
	struct domain_tree tree;

	*ret = (struct domain_edit){0};
	if (!domain_alias_make(vgpu->name, 0, alias))
		return error_set(
			err, EINVAL, "%s: that is no vGPU's name (see `vgpuctl list`)", what);
	int r = domain_tree_parse(xml, size, what, &tree, err);
	if (r < 0)
		return r;
	struct attaching a = {.tree = &tree,
		.devices = tree_child(tree.root, "devices"),
		.vgpu = vgpu,
		.others = others,
		.n_others = n_others};
	int first = find_obstacles(&a, &findings);
	if (first >= 0)
		r = error_set(err, obstacles[first].code, "%s: %s (%s)", what,
			findings.list[0].text, findings.list[0].remedy);
	else
		attach(&tree, vgpu, keep_video, ret);
	return edit_finish(&tree, r, what, ret, err);
}

/* --- detach --- */

int domain_detach(const char *xml, size_t size, const char *name, const char *what,
	struct domain_edit *ret, struct error *err)
{
	struct domain_tree tree;

	*ret = (struct domain_edit){0};
	int r = domain_tree_parse(xml, size, what, &tree, err);
	if (r < 0)
		return r;
	xmlNode *devices = tree_child(tree.root, "devices"), *record = record_find(tree.root);
	bool there = device_next(devices, NULL, name);
	if (!record_is_of(record, name))
		record = NULL;
	if (!there && !record) {
		r = error_set(err, ENOENT,
			"%s: the domain does not have it (see `vgpuctl libvirt check`)", what);
		return edit_finish(&tree, r, what, ret, err);
	}
	unsigned back = 0;
	/* Somebody may have put another screen there when ours was taken out by hand. */
	if (devices && (there || !tree_child(devices, "video")))
		back = record_give_back(&tree, record, devices);
	if (there)
		devices_remove(devices, name);
	if (back)
		domain_find(&ret->said, false, NULL, "%u video device%s that it had before %s back",
			back, back == 1 ? "" : "s", back == 1 ? "is" : "are");
	if (record) {
		memory_restore(&tree, record, &ret->said);
		record_remove(record);
	}
	ret->changed = true;
	return edit_finish(&tree, 0, what, ret, err);
}

/* --- check, look --- */

/* Its video device, which has no alias of ours and so gets the vGPU named like the domain; NULL. */
static xmlNode *video_by_name(const xmlNode *root, const struct domain_vgpu *vgpu)
{
	xmlNode *video = tree_child(tree_child(root, "devices"), "video");
	char domain[DOMAIN_LABEL_MAX], name[DOMAIN_ALIAS_NAME_MAX];

	tree_content(tree_child(root, "name"), domain, sizeof(domain));
	if (vgpu->device != DOMAIN_VIDEO || !domain_alias_by_domain(domain, name) ||
		strcmp(name, vgpu->name) != 0)
		return NULL;
	while (video && (!video_is_vhost_user(video) || device_owner(video, name)))
		video = tree_next(video, "video");
	return video;
}

static void check_devices(const struct attaching *a, struct domain_findings *ret)
{
	const struct domain_vgpu *vgpu = a->vgpu;
	const xmlNode *ours = device_next(a->devices, NULL, vgpu->name);
	const xmlNode *named = ours ? NULL : video_by_name(a->tree->root, vgpu);

	if (named)
		domain_find(ret, false, "vgpuctl libvirt attach it, so that it says so itself",
			"its video device gets the vGPU %s because that is named like it",
			vgpu->name);
	else if (!ours)
		domain_find(ret, true, "vgpuctl libvirt attach it",
			"it has no device of the vGPU %s", vgpu->name);
	else if (!devices_as_wanted(a->devices, vgpu))
		domain_find(ret, true, "vgpuctl libvirt attach it again",
			"its device is not as the vGPU %s is now", vgpu->name);
	for (const xmlNode *v = tree_child(a->devices, "video"); v; v = tree_next(v, "video")) {
		if (video_is_vhost_user(v) && v != named && !device_is_of(v, vgpu->name))
			domain_find(ret, true, "remove that <video>",
				"it has another vhost-user video device, which would ask for a "
				"second vGPU (rule 1)");
	}
}

int domain_check(const char *xml, size_t size, const struct domain_vgpu *vgpu, const char *what,
	struct domain_findings *ret, struct error *err)
{
	struct domain_tree tree;

	*ret = (struct domain_findings){0};
	int r = domain_tree_parse(xml, size, what, &tree, err);
	if (r < 0)
		return r;
	struct attaching a = {
		.tree = &tree, .devices = tree_child(tree.root, "devices"), .vgpu = vgpu};
	find_obstacles(&a, ret);
	check_devices(&a, ret);
	memory_check(tree.root, vgpu, ret);
	domain_tree_finish(&tree);
	return 0;
}

static void see_name(struct domain_seen *seen, const char *name)
{
	for (size_t i = 0; i < seen->n_names; i++) {
		if (!strcmp(seen->names[i], name))
			return;
	}
	if (seen->n_names < DOMAIN_SEEN_MAX)
		snprintf(seen->names[seen->n_names++], sizeof(seen->names[0]), "%s", name);
}

int domain_look(
	const char *xml, size_t size, const char *what, struct domain_seen *ret, struct error *err)
{
	struct domain_seen seen = {0};
	char owner[DOMAIN_ALIAS_NAME_MAX];
	struct domain_tree tree;

	int r = domain_tree_parse(xml, size, what, &tree, err);
	if (r < 0)
		return r;
	tree_content(tree_child(tree.root, "name"), seen.domain, sizeof(seen.domain));
	const xmlNode *devices = tree_child(tree.root, "devices");
	for (const xmlNode *d = devices ? devices->children : NULL; d; d = d->next) {
		if (device_owner(d, owner))
			see_name(&seen, owner);
		else if (d->type == XML_ELEMENT_NODE && !strcmp((const char *)d->name, "video"))
			seen.unnamed |= video_is_vhost_user(d);
	}
	domain_tree_finish(&tree);
	*ret = seen;
	return 0;
}

bool domain_has_device(const char *xml, size_t size, const struct domain_vgpu *vgpu)
{
	struct domain_tree tree;
	struct error err;

	if (domain_tree_parse(xml, size, "", &tree, &err) < 0)
		return false;
	const xmlNode *devices = tree_child(tree.root, "devices");
	bool has = device_next(devices, NULL, vgpu->name) || device_stray(devices, vgpu) ||
		   video_by_name(tree.root, vgpu);
	domain_tree_finish(&tree);
	return has;
}
