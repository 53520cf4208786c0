/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_HOST_DOMAIN_TREE_H
#define VGPU_HOST_DOMAIN_TREE_H

/*
 * A libvirt domain's definition as a tree that can be changed a little and written again: what is
 * not touched comes out as it went in, comments, other namespaces and line breaks too.
 *
 * The text may come from anybody: it is at most DOMAIN_TREE_MAX bytes of UTF-8, a document type
 * (and so entities of its own) is refused, nothing it names is opened, and libxml2's own limits
 * (depth, names, text) stay on. Elements are looked for without a namespace.
 *
 * When memory runs out while the tree is changed, `failed` is set and stays; writing then fails.
 */

#include "base/error.h"

#include <libxml/tree.h>
#include <stdbool.h>
#include <stddef.h>

#define DOMAIN_TREE_MAX (1u << 20)

struct domain_tree {
	xmlDoc *doc;
	xmlNode *root; /* <domain> */
	bool failed;
};

/* `what` begins the refusal. -E2BIG, -EINVAL, -ENOMEM. */
int domain_tree_parse(const char *text, size_t size, const char *what, struct domain_tree *ret,
	struct error *err);
void domain_tree_finish(struct domain_tree *tree);
/* The text, malloc'd; NULL: out of memory, now or before. */
char *domain_tree_text(const struct domain_tree *tree);

/* The first child element of that name; the next sibling; NULL. `parent` may be NULL. */
xmlNode *tree_child(const xmlNode *parent, const char *name);
xmlNode *tree_next(const xmlNode *node, const char *name);

/* An attribute's value, cut to fit; "" when there is none. `node` may be NULL. */
void tree_get(const xmlNode *node, const char *name, char *ret, size_t size);
bool tree_has(const xmlNode *node, const char *name, const char *value);
/* What an element's text says, cut to fit. `node` may be NULL. */
void tree_content(const xmlNode *node, char *ret, size_t size);

/* A new element behind `after` (NULL: as the last); never NULL unless failed. */
xmlNode *tree_add(struct domain_tree *tree, xmlNode *parent, xmlNode *after, const char *name);
/* The same with an element that is in no tree; it is freed when memory is out. */
xmlNode *tree_put(struct domain_tree *tree, xmlNode *parent, xmlNode *after, xmlNode *node);
/* The child of that name, made when there is none. */
xmlNode *tree_want(struct domain_tree *tree, xmlNode *parent, const char *name);
/* NULL removes the attribute. `node` NULL: nothing. */
void tree_set(struct domain_tree *tree, xmlNode *node, const char *name, const char *value);
/* Removes an element and the line break before it. */
void tree_remove(xmlNode *node);

#endif
