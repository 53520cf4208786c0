/* SPDX-License-Identifier: Apache-2.0 */
#include "host/vendor.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/parse.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const vendor_names[VENDOR_COUNT] = {
	[VENDOR_NONE] = "", [VENDOR_NVIDIA] = "nvidia", [VENDOR_XE] = "xe"};

/* --- NVIDIA --- */

static_assert(SRIOV_VFS_MAX <= 64, "a bit for each VF");

/* NULL: there is no room for it. */
static struct vendor_type *type_of(struct vendor *vendor, uint32_t id, const char *name, size_t len)
{
	for (size_t i = 0; i < vendor->n_types; i++) {
		if (vendor->types[i].id == id)
			return &vendor->types[i];
	}
	if (vendor->n_types == VENDOR_TYPES_MAX) {
		vendor->more = true;
		return NULL;
	}
	struct vendor_type *type = &vendor->types[vendor->n_types++];
	*type = (struct vendor_type){.id = id};
	snprintf(type->name, sizeof(type->name), "%.*s", (int)MIN(len, (size_t)VENDOR_NAME_MAX - 1),
		name);
	return type;
}

static void add_type(struct vendor *vendor, size_t vf, uint32_t id, const char *name, size_t len)
{
	struct vendor_type *type = type_of(vendor, id, name, len);

	if (!type || type->on & 1ull << vf)
		return;
	type->on |= 1ull << vf;
	type->vfs++;
}

void vendor_parse_nvidia(const char *text, size_t vf, struct vendor *vendor)
{
	uint64_t id;

	for (const char *line = text; *line;) {
		size_t len = strcspn(line, "\n");
		const char *at = line, *end = line + len;
		/* A number may not be looked for beyond the line. */
		bool number = strspn(line, " \t") < len && parse_next(&at, 10, UINT32_MAX, &id);
		if (number && id) {
			at += strspn(at, " \t");
			if (at < end && *at == ':') {
				at += 1 + strspn(at + 1, " \t");
				while (end > at && strchr(" \t\r", end[-1]))
					end--;
				if (at < end)
					add_type(vendor, vf, (uint32_t)id, at, (size_t)(end - at));
			}
		}
		line += len + (line[len] == '\n');
	}
}

static int compare_types(const void *a, const void *b)
{
	const struct vendor_type *x = a, *y = b;

	return x->id < y->id ? -1 : x->id > y->id;
}

static void read_nvidia_vf(int vf, size_t i, struct vendor *ret, struct sysfs_troubles *troubles)
{
	cleanup_free char *text = malloc(VENDOR_TEXT_MAX);

	if (!text)
		return;
	sysfs_want(vf, "nvidia/creatable_vgpu_types", text, VENDOR_TEXT_MAX, troubles);
	vendor_parse_nvidia(text, i, ret);
	ret->current[i] = (uint32_t)sysfs_want_number(
		vf, "nvidia/current_vgpu_type", 10, UINT32_MAX, 0, troubles);
	ret->in_use += ret->current[i] != 0;
}

static void read_nvidia(const struct host_roots *roots, const struct sriov *sriov,
	struct vendor *ret, struct sysfs_troubles *troubles)
{
	for (size_t i = 0; i < sriov->n_vfs; i++) {
		cleanup_close int vf = pci_open(roots, sriov->vfs[i].address);
		if (vf < 0 || !sysfs_exists(vf, "nvidia"))
			continue;
		ret->interface = VENDOR_NVIDIA;
		read_nvidia_vf(vf, i, ret, troubles);
	}
	if (ret->n_types)
		qsort(ret->types, ret->n_types, sizeof(ret->types[0]), compare_types);
}

/* --- Intel xe --- */

void vendor_parse_choice(const char *text, char *ret, size_t size)
{
	const char *open = strchr(text, '['), *close = open ? strchr(open, ']') : NULL;
	const char *from = open ? open + 1 : text;
	size_t len = close ? (size_t)(close - from) : strcspn(text, " \t\n");

	ret[0] = '\0';
	if ((open && !close) || (!open && text[len]) || len >= size)
		return;
	memcpy(ret, from, len);
	ret[len] = '\0';
}

static bool is_function(const char *name)
{
	uint64_t number;

	return !strcmp(name, "pf") ||
	       (!strncmp(name, "vf", 2) && parse_number(name + 2, 10, UINT16_MAX, &number) &&
		       number);
}

static void read_profile(
	int admin, const char *function, struct vendor *ret, struct sysfs_troubles *troubles)
{
	char priority[64];

	if (ret->n_profiles == VENDOR_PROFILES_MAX ||
		strlen(function) >= sizeof(ret->profiles[0].function)) {
		ret->more = true;
		return;
	}
	cleanup_close int dir = sysfs_open(admin, function);
	if (dir < 0) {
		sysfs_trouble(troubles, function, dir);
		return;
	}
	struct vendor_profile *profile = &ret->profiles[ret->n_profiles++];
	*profile = (struct vendor_profile){0};
	snprintf(profile->function, sizeof(profile->function), "%.7s", function);
	sysfs_want_link(dir, "device", profile->address, sizeof(profile->address), troubles);
	profile->timed = sysfs_exists(dir, "profile/exec_quantum_ms") &&
			 sysfs_exists(dir, "profile/preempt_timeout_us");
	profile->exec_quantum_ms =
		sysfs_want_number(dir, "profile/exec_quantum_ms", 10, UINT32_MAX, 0, troubles);
	profile->preempt_timeout_us =
		sysfs_want_number(dir, "profile/preempt_timeout_us", 10, UINT32_MAX, 0, troubles);
	profile->vram_quota_bytes =
		sysfs_want_number(dir, "profile/vram_quota", 10, INT64_MAX, 0, troubles);
	sysfs_want(dir, "profile/sched_priority", priority, sizeof(priority), troubles);
	vendor_parse_choice(priority, profile->priority, sizeof(profile->priority));
}

static void read_xe(int admin, struct vendor *ret, struct sysfs_troubles *troubles)
{
	cleanup_names struct sysfs_names names = {0};

	ret->interface = VENDOR_XE;
	sysfs_trouble(troubles, "sriov_admin", sysfs_list(admin, ".", &names));
	ret->more |= names.more;
	for (size_t i = 0; i < names.count; i++) {
		if (is_function(names.name[i]))
			read_profile(admin, names.name[i], ret, troubles);
	}
}

void vendor_read(const struct host_roots *roots, int dir, const struct sriov *sriov,
	struct vendor *ret, struct sysfs_troubles *troubles)
{
	*ret = (struct vendor){0};
	cleanup_close int admin = sysfs_open(dir, "sriov_admin");
	if (admin >= 0)
		read_xe(admin, ret, troubles);
	else
		read_nvidia(roots, sriov, ret, troubles);
	sysfs_trouble(troubles, "sriov_admin", admin);
}
