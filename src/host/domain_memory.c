/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a domain's memory has to be for a vGPU: one table, whose rows say when something lacks, how
 * that is said, how it is mended with a note of what was before, and how that is given back.
 *
 * A vhost-user device maps the guest's memory, so all of it has to be a file that can be passed on
 * (memfd, huge pages, a file) and mapped as shared. <memoryBacking> says so for the whole domain;
 * NUMA cells and memory modules may say otherwise for themselves.
 */
#include "host/domain_private.h"

#include "base/checked.h"
#include "base/parse.h"

#include <stdio.h>
#include <string.h>

#define LIST_MAX 256 /* "COUNT:i,j,k": of COUNT elements, those that were changed */

static xmlNode *backing_of(const xmlNode *root)
{
	return tree_child(root, "memoryBacking");
}

static bool is_video(const struct domain_vgpu *vgpu)
{
	return vgpu->device == DOMAIN_VIDEO;
}

/* Notes what was there before the first change. */
static void note(struct domain_tree *tree, xmlNode *record, const char *name, const char *before)
{
	if (record && !xmlHasProp(record, (const xmlChar *)name))
		tree_set(tree, record, name, *before ? before : RECORD_NONE);
}

static xmlNode *want_backing(struct domain_tree *tree, xmlNode *record)
{
	xmlNode *backing = backing_of(tree->root), *place = tree_child(tree->root, "currentMemory");

	if (backing)
		return backing;
	note(tree, record, "backing", "");
	return tree_add(tree, tree->root, place ? place : tree_child(tree->root, "memory"),
		"memoryBacking");
}

/* A child of <memoryBacking>: sets its attribute and notes the one before. */
static void set_backing(struct domain_tree *tree, xmlNode *record, const char *child,
	const char *attribute, const char *value)
{
	xmlNode *backing = want_backing(tree, record), *element = tree_child(backing, child);
	char before[32];

	tree_get(element, attribute, before, sizeof(before));
	note(tree, record, child, before);
	if (!element && backing)
		element = tree_add(tree, backing, NULL, child);
	tree_set(tree, element, attribute, value);
}

/* Where it is still `value`, gives back what was before. */
static void restore_backing(struct domain_tree *tree, const xmlNode *record, const char *child,
	const char *attribute, const char *value)
{
	xmlNode *element = tree_child(backing_of(tree->root), child);
	char before[32];

	tree_get(record, child, before, sizeof(before));
	if (!*before || !element || (attribute && !tree_has(element, attribute, value)))
		return;
	if (!attribute || !strcmp(before, RECORD_NONE))
		tree_remove(element);
	else
		tree_set(tree, element, attribute, before);
}

/* --- elements that may say otherwise --- */

struct places {
	const char *path[2], *element, *attribute;
};

static const struct places cells = {{"cpu", "numa"}, "cell", "memAccess"},
			   modules = {{"devices", NULL}, "memory", "access"};

static xmlNode *places_of(const xmlNode *root, const struct places *places)
{
	const xmlNode *at = tree_child(root, places->path[0]);

	return tree_child(places->path[1] ? tree_child(at, places->path[1]) : at, places->element);
}

/* How many there are, and how many have that value. */
static unsigned count_places(
	const xmlNode *root, const struct places *places, const char *value, unsigned *ret_all)
{
	unsigned n = 0;

	*ret_all = 0;
	for (const xmlNode *p = places_of(root, places); p; p = tree_next(p, places->element)) {
		n += tree_has(p, places->attribute, value);
		++*ret_all;
	}
	return n;
}

static void share_places(struct domain_tree *tree, xmlNode *record, const struct places *places)
{
	unsigned all, i = 0;
	char list[LIST_MAX];

	count_places(tree->root, places, "private", &all);
	size_t n = (size_t)snprintf(list, sizeof(list), "%u:", all);
	for (xmlNode *p = places_of(tree->root, places); p;
		p = tree_next(p, places->element), i++) {
		if (!tree_has(p, places->attribute, "private"))
			continue;
		tree_set(tree, p, places->attribute, "shared");
		if (n + 12 < sizeof(list))
			n += (size_t)snprintf(list + n, sizeof(list) - n, "%u,", i);
	}
	note(tree, record, places->element, list);
}

/* Those that were noted become private again, if there are as many as then. */
static void restore_places(
	struct domain_tree *tree, const xmlNode *record, const struct places *places)
{
	char list[LIST_MAX];
	const char *at = list;
	uint64_t then, next = 0;
	unsigned all, i = 0;

	tree_get(record, places->element, list, sizeof(list));
	count_places(tree->root, places, "shared", &all);
	if (!parse_next(&at, 10, UINT32_MAX, &then) || then != all || *at++ != ':')
		return;
	bool more = parse_next(&at, 10, UINT32_MAX, &next);
	for (xmlNode *p = places_of(tree->root, places); p && more;
		p = tree_next(p, places->element), i++) {
		if (i != next)
			continue;
		if (tree_has(p, places->attribute, "shared"))
			tree_set(tree, p, places->attribute, "private");
		at += *at == ',';
		more = parse_next(&at, 10, UINT32_MAX, &next);
	}
}

/* --- the table --- */

static bool source_lacks(const xmlNode *root, const struct domain_vgpu *vgpu)
{
	const xmlNode *backing = backing_of(root), *source = tree_child(backing, "source");

	return is_video(vgpu) && !tree_child(backing, "hugepages") &&
	       !tree_has(source, "type", "memfd") && !tree_has(source, "type", "file");
}

static void source_mend(struct domain_tree *tree, xmlNode *record)
{
	set_backing(tree, record, "source", "type", "memfd");
}

static void source_restore(struct domain_tree *tree, const xmlNode *record)
{
	restore_backing(tree, record, "source", "type", "memfd");
}

static bool access_lacks(const xmlNode *root, const struct domain_vgpu *vgpu)
{
	unsigned all, shared = count_places(root, &cells, "shared", &all);

	return is_video(vgpu) &&
	       !tree_has(tree_child(backing_of(root), "access"), "mode", "shared") &&
	       !(all && shared == all);
}

static void access_mend(struct domain_tree *tree, xmlNode *record)
{
	set_backing(tree, record, "access", "mode", "shared");
}

static void access_restore(struct domain_tree *tree, const xmlNode *record)
{
	restore_backing(tree, record, "access", "mode", "shared");
}

static bool cells_lack(const xmlNode *root, const struct domain_vgpu *vgpu)
{
	unsigned all;

	return is_video(vgpu) && count_places(root, &cells, "private", &all);
}

static void cells_mend(struct domain_tree *tree, xmlNode *record)
{
	share_places(tree, record, &cells);
}

static void cells_restore(struct domain_tree *tree, const xmlNode *record)
{
	restore_places(tree, record, &cells);
}

static bool modules_lack(const xmlNode *root, const struct domain_vgpu *vgpu)
{
	unsigned all;

	return is_video(vgpu) && count_places(root, &modules, "private", &all);
}

static void modules_mend(struct domain_tree *tree, xmlNode *record)
{
	share_places(tree, record, &modules);
}

static void modules_restore(struct domain_tree *tree, const xmlNode *record)
{
	restore_places(tree, record, &modules);
}

static bool locked_lacks(const xmlNode *root, const struct domain_vgpu *vgpu)
{
	return vgpu->locked && !tree_child(backing_of(root), "locked");
}

static void locked_mend(struct domain_tree *tree, xmlNode *record)
{
	xmlNode *backing = want_backing(tree, record);

	note(tree, record, "locked", "");
	if (backing)
		tree_add(tree, backing, NULL, "locked");
}

static void locked_restore(struct domain_tree *tree, const xmlNode *record)
{
	restore_backing(tree, record, "locked", NULL, NULL);
}

static const struct need {
	bool (*lacks)(const xmlNode *root, const struct domain_vgpu *vgpu);
	void (*mend)(struct domain_tree *tree, xmlNode *record);
	void (*restore)(struct domain_tree *tree, const xmlNode *record);
	bool sharing; /* others may need it too */
	const char *text, *remedy, *done;
} needs[] = {
	{source_lacks, source_mend, source_restore, true,
		"its memory is anonymous: no other process can map it",
		"<source type='memfd'/> in <memoryBacking>", "its memory is a memfd now"},
	{access_lacks, access_mend, access_restore, true,
		"its memory is private: what the vGPU writes would not reach the guest",
		"<access mode='shared'/> in <memoryBacking>", "its memory is shared now"},
	{cells_lack, cells_mend, cells_restore, true, "NUMA cells of it have private memory",
		"memAccess='shared' for each <cell>", "its NUMA cells' memory is shared now"},
	{modules_lack, modules_mend, modules_restore, true, "memory modules of it are private",
		"access='shared' for each <memory> device", "its memory modules are shared now"},
	{locked_lacks, locked_mend, locked_restore, false,
		"its memory is not locked, and this node over-commits memory (rule 4)",
		"<locked/> in <memoryBacking>", "its memory is locked now (rule 4)"},
};

void memory_check(
	const xmlNode *root, const struct domain_vgpu *vgpu, struct domain_findings *findings)
{
	for (size_t i = 0; i < ARRAY_SIZE(needs); i++) {
		if (needs[i].lacks(root, vgpu))
			domain_find(findings, true, needs[i].remedy, "%s", needs[i].text);
	}
}

bool memory_mend(struct domain_tree *tree, const struct domain_vgpu *vgpu, xmlNode *record,
	struct domain_findings *said)
{
	bool mended = false;

	for (size_t i = 0; i < ARRAY_SIZE(needs); i++) {
		if (!needs[i].lacks(tree->root, vgpu))
			continue;
		needs[i].mend(tree, record);
		domain_find(said, false, NULL, "%s", needs[i].done);
		mended = true;
	}
	return mended;
}

/* Who else wants to map the guest's memory; NULL: nobody. */
static const char *other_sharer(const xmlNode *root)
{
	const xmlNode *devices = tree_child(root, "devices"), *d;

	for (d = tree_child(devices, "filesystem"); d; d = tree_next(d, "filesystem")) {
		if (tree_has(tree_child(d, "driver"), "type", "virtiofs"))
			return "a virtiofs file system";
	}
	for (d = tree_child(devices, "interface"); d; d = tree_next(d, "interface")) {
		if (tree_has(d, "type", "vhostuser"))
			return "a vhost-user network interface";
	}
	for (d = tree_child(devices, "disk"); d; d = tree_next(d, "disk")) {
		if (tree_has(d, "type", "vhostuser"))
			return "a vhost-user disk";
	}
	for (d = tree_child(devices, "video"); d; d = tree_next(d, "video")) {
		if (video_is_vhost_user(d))
			return "another vhost-user video device";
	}
	return NULL;
}

void memory_restore(struct domain_tree *tree, xmlNode *record, struct domain_findings *said)
{
	const char *sharer = other_sharer(tree->root);
	xmlNode *backing;

	if (sharer && (tree_has(record, "source", "") == false || !tree_has(record, "access", "")))
		domain_find(said, false, NULL, "its memory stays shared: %s needs that", sharer);
	for (size_t i = 0; i < ARRAY_SIZE(needs); i++) {
		if (!sharer || !needs[i].sharing)
			needs[i].restore(tree, record);
	}
	backing = backing_of(tree->root);
	if (backing && tree_has(record, "backing", RECORD_NONE) && !xmlFirstElementChild(backing))
		tree_remove(backing);
}
