/* SPDX-License-Identifier: Apache-2.0 */
#include "host/domain_private.h"

#include <stdint.h>
#include <string.h>

#define RECORD   "vgpu"
#define REPLACED "replaced"
#define PREFIX   "vgpud"

static bool is_ours(const xmlNode *node, const char *name)
{
	return node->type == XML_ELEMENT_NODE && node->ns &&
	       !strcmp((const char *)node->ns->href, RECORD_NS) &&
	       !strcmp((const char *)node->name, name);
}

static xmlNode *ours_from(xmlNode *node, const char *name)
{
	while (node && !is_ours(node, name))
		node = node->next;
	return node;
}

xmlNode *record_find(const xmlNode *root)
{
	const xmlNode *metadata = tree_child(root, "metadata");

	return metadata ? ours_from(metadata->children, RECORD) : NULL;
}

/* Where libvirt writes it: behind what names the domain. */
static xmlNode *metadata_place(const xmlNode *root)
{
	static const char *const before[] = {"description", "title", "genid", "uuid", "name"};
	xmlNode *place = NULL;

	for (size_t i = 0; i < sizeof(before) / sizeof(before[0]) && !place; i++)
		place = tree_child(root, before[i]);
	return place;
}

xmlNode *record_want(struct domain_tree *tree)
{
	xmlNode *metadata = tree_child(tree->root, "metadata"), *record = record_find(tree->root);

	if (record)
		return record;
	if (!metadata)
		metadata = tree_add(tree, tree->root, metadata_place(tree->root), "metadata");
	record = metadata ? tree_add(tree, metadata, NULL, RECORD) : NULL;
	xmlNs *ns = record ? xmlNewNs(record, (const xmlChar *)RECORD_NS, (const xmlChar *)PREFIX)
			   : NULL;
	if (record)
		xmlSetNs(record, ns);
	tree->failed |= !ns;
	return record;
}

void record_keep(struct domain_tree *tree, xmlNode *record, xmlNode *device)
{
	xmlNode *replaced = record ? ours_from(record->children, REPLACED) : NULL;

	if (record && !replaced) {
		replaced = tree_add(tree, record, NULL, REPLACED);
		if (replaced)
			xmlSetNs(replaced, record->ns);
	}
	xmlNode *copy = replaced ? xmlCopyNode(device, 1) : NULL;
	tree->failed |= !copy;
	if (copy && tree_put(tree, replaced, NULL, copy))
		tree_remove(device);
}

unsigned record_give_back(struct domain_tree *tree, xmlNode *record, xmlNode *devices)
{
	const xmlNode *replaced = record ? ours_from(record->children, REPLACED) : NULL;
	xmlNode *after = NULL;
	unsigned n = 0;

	for (xmlNode *v = tree_child(devices, "video"); v; v = tree_next(v, "video"))
		after = v;
	for (const xmlNode *kept = tree_child(replaced, "video"); kept;
		kept = tree_next(kept, "video")) {
		xmlNode *copy = xmlCopyNode((xmlNode *)(uintptr_t)kept, 1);
		after = tree_put(tree, devices, after, copy);
		n++;
	}
	return n;
}

void record_forget_kept(xmlNode *record)
{
	xmlNode *replaced;

	while (record && (replaced = ours_from(record->children, REPLACED)))
		tree_remove(replaced);
}

void record_remove(xmlNode *record)
{
	xmlNode *metadata = record->parent;

	tree_remove(record);
	if (!metadata->children)
		tree_remove(metadata);
}
