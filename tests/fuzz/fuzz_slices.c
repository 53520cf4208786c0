/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What drivers say of slices, and what the store says of plans. The first byte chooses:
 *
 * even: lines "ID", "DESCRIPTION" of types of mediated devices (a line "-": from here on text of
 * NVIDIA's creatable_vgpu_types, for VFs in turn); the list of types is made, and a plan of each,
 * of which every change must be one that the store would take.
 *
 * odd: a kind, then lines SUBJECT, BEFORE, AFTER of a change as the store has it; one that is well
 * formed is looked at, made and undone in an empty tree, whose kernel says yes to all.
 */

#include "base/checked.h"
#include "host/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int says_yes(void *data, const char *path, const char *text, unsigned limit_ms)
{
	if (strstr(path, "/../") || strncmp(path, "/nowhere/", strlen("/nowhere/")) != 0)
		abort(); /* a row let a subject out of its folder */
	return 0;
}

static void copy_line(char **at, char *ret, size_t size)
{
	char *line = *at ? strsep(at, "\n") : NULL;

	snprintf(ret, size, "%s", line ? line : "");
}

/* --- plans --- */

static void add_types(char *text, struct host_facts *facts)
{
	while (text && *text && *text != '-' && facts->mdev.n_types < MDEV_TYPES_MAX) {
		struct mdev_type *type = &facts->mdev.types[facts->mdev.n_types++];
		copy_line(&text, type->id, sizeof(type->id));
		copy_line(&text, type->description, sizeof(type->description));
		type->available = (unsigned char)type->id[0];
		type->available_known = true;
		if (type->available)
			snprintf(type->parent, sizeof(type->parent), "parent");
		if (!type->id[0] || strpbrk(type->id, "/ ") || !strcmp(type->id, ".") ||
			!strcmp(type->id, ".."))
			facts->mdev.n_types--; /* no folder is named so, or none that is used */
	}
	for (size_t i = 0; text && *text && i < SRIOV_VFS_MAX; i++) {
		struct sriov_vf *vf = &facts->sriov.vfs[facts->sriov.n_vfs++];
		char *line = strsep(&text, "-");
		snprintf(vf->address, sizeof(vf->address), "0000:%02zx:00.1", i);
		facts->sriov.num_vfs = facts->sriov.total_vfs = facts->sriov.n_vfs;
		facts->vendor.interface = VENDOR_NVIDIA;
		vendor_parse_nvidia(line, i, &facts->vendor);
	}
}

static bool printable(const char *text)
{
	for (; *text; text++) {
		if (*text <= ' ' || *text > '~')
			return false;
	}
	return true;
}

static void make_plans(char *text)
{
	static const struct plan_owner owner = {1000, 36, 0660};
	static const struct plan_taken none;
	static struct host_facts facts;
	static struct slice_types types;
	static struct change_plan plan;
	struct error err;

	facts = (struct host_facts){.gpu = {.kind = "pci", .pci_address = "0000:03:00.0"},
		.use = {.root = true},
		.is_pci = true,
		.pci = {.address = "0000:03:00.0", .driver = "nvidia", .vendor = 0x10de},
		.iommu = {.active = true, .remapping = IOMMU_REMAPPING_YES},
		.group = {.viable = true},
		.vfio = {.loaded = true, .installed = true, .type1 = true}};
	add_types(text, &facts);
	plan_slice_types(&facts, &none, &types);
	for (size_t i = 0; i < types.count; i++) {
		if (plan_mediate(&facts, types.list[i].id, "11111111-2222-4333-8444-555555555555",
			    &owner, &none, "create a", &plan, &err) < 0)
			continue;
		for (uint32_t k = 0; k < plan.count; k++) {
			if (!change_valid(&plan.list[k]) && printable(types.list[i].id))
				abort();
		}
	}
}

/* --- rows of the store --- */

static void take_row(unsigned kind, char *text)
{
	static const struct host_roots roots = {"/nowhere", "/nowhere", "/nowhere", "/nowhere"};
	static const struct vfio_kernel kernel = {.write = says_yes};
	const struct change_node node = {.roots = &roots, .kernel = &kernel, .limit_ms = 10};
	static struct change_plan plan;
	struct change_result result;
	struct change *c = &plan.list[0];

	plan.count = 1;
	*c = (struct change){.kind = kind % (CHANGE_KIND_COUNT + 1)};
	copy_line(&text, c->subject, sizeof(c->subject));
	copy_line(&text, c->before, sizeof(c->before));
	copy_line(&text, c->after, sizeof(c->after));
	if (!change_valid(c))
		return;
	change_look(&node, c, NULL);
	change_apply(&node, &plan, "create a", &result);
	change_undo(&node, &plan, NULL, "delete a", &result);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	char *text = calloc(1, size);
	if (!text)
		return 0;
	memcpy(text, data + 2, size - 2);
	if (data[0] & 1)
		take_row(data[1], text);
	else
		make_plans(text);
	free(text);
	return 0;
}
