/* SPDX-License-Identifier: Apache-2.0 */
#include "host/domain_tree.h"

#include "base/checked.h"

#include <errno.h>
#include <libxml/parser.h>
#include <libxml/xmlsave.h>
#include <stdio.h>
#include <string.h>

#define INDENT     2 /* columns a level, as libvirt writes */
#define INDENT_MAX 128

static const xmlChar *utf8(const char *text)
{
	return (const xmlChar *)text;
}

/* --- the text --- */

static int refuse(struct error *err, int code, const char *what, const char *why)
{
	return error_set(
		err, code, "%s: the domain's definition %s (see it with `virsh edit`)", what, why);
}

static int refuse_syntax(xmlParserCtxt *parser, const char *what, struct error *err)
{
	const xmlError *last = xmlCtxtGetLastError(parser);
	char text[160] = "";

	if (last && last->message)
		snprintf(text, sizeof(text), "%.120s", last->message);
	text[strcspn(text, "\r\n")] = '\0';
	for (char *p = text; *p; p++)
		*p = (unsigned char)*p < 0x20 || *p == 0x7f ? '?' : *p;
	return error_set(err, EINVAL,
		"%s: the domain's definition is no XML: line %d: %s (mend it with `virsh edit`)",
		what, last ? last->line : 0, text);
}

static int check_tree(const struct domain_tree *tree, const char *what, struct error *err)
{
	if (tree->doc->intSubset || tree->doc->extSubset)
		return refuse(err, EINVAL, what, "has a document type");
	if (!tree->root || tree->root->ns || strcmp((const char *)tree->root->name, "domain") != 0)
		return refuse(err, EINVAL, what, "is no <domain>");
	return 0;
}

int domain_tree_parse(
	const char *text, size_t size, const char *what, struct domain_tree *ret, struct error *err)
{
	static const char doctype[] = "<!DOCTYPE";

	if (size > DOMAIN_TREE_MAX)
		return refuse(err, E2BIG, what, "is longer than any domain's");
	if (!size || memchr(text, '\0', size))
		return refuse(err, EINVAL, what, "is no text");
	if (memmem(text, size, doctype, sizeof(doctype) - 1))
		return refuse(err, EINVAL, what, "has a document type");
	xmlParserCtxt *parser = xmlNewParserCtxt();
	if (!parser)
		return refuse(err, ENOMEM, what, "does not fit into memory");
	struct domain_tree tree = {
		.doc = xmlCtxtReadMemory(parser, text, (int)size, NULL, "UTF-8",
			XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING)};
	int r = tree.doc ? 0 : refuse_syntax(parser, what, err);
	xmlFreeParserCtxt(parser);
	if (!tree.doc)
		return r;
	tree.root = xmlDocGetRootElement(tree.doc);
	r = check_tree(&tree, what, err);
	if (r < 0)
		domain_tree_finish(&tree);
	else
		*ret = tree;
	return r;
}

void domain_tree_finish(struct domain_tree *tree)
{
	xmlFreeDoc(tree->doc);
	*tree = (struct domain_tree){0};
}

char *domain_tree_text(const struct domain_tree *tree)
{
	xmlBuffer *buffer = tree->failed ? NULL : xmlBufferCreate();
	xmlSaveCtxt *save =
		buffer ? xmlSaveToBuffer(buffer, "UTF-8", XML_SAVE_NO_DECL | XML_SAVE_AS_XML)
		       : NULL;
	char *text = NULL;

	if (save) {
		long saved = xmlSaveDoc(save, tree->doc);
		if (xmlSaveClose(save) >= 0 && saved >= 0)
			text = strdup((const char *)xmlBufferContent(buffer));
	}
	xmlBufferFree(buffer);
	return text;
}

/* --- looking --- */

static xmlNode *named_from(xmlNode *node, const char *name)
{
	for (; node; node = node->next) {
		if (node->type == XML_ELEMENT_NODE && !node->ns &&
			!strcmp((const char *)node->name, name))
			return node;
	}
	return NULL;
}

xmlNode *tree_child(const xmlNode *parent, const char *name)
{
	return parent ? named_from(parent->children, name) : NULL;
}

xmlNode *tree_next(const xmlNode *node, const char *name)
{
	return named_from(node->next, name);
}

static void take(xmlChar *text, char *ret, size_t size)
{
	snprintf(ret, size, "%s", text ? (const char *)text : "");
	xmlFree(text);
}

void tree_get(const xmlNode *node, const char *name, char *ret, size_t size)
{
	take(node ? xmlGetNoNsProp(node, utf8(name)) : NULL, ret, size);
}

bool tree_has(const xmlNode *node, const char *name, const char *value)
{
	char text[64];

	tree_get(node, name, text, sizeof(text));
	return !strcmp(text, value);
}

void tree_content(const xmlNode *node, char *ret, size_t size)
{
	take(node ? xmlNodeGetContent(node) : NULL, ret, size);
}

/* --- changing --- */

static int depth_of(const xmlNode *node)
{
	int depth = 0;

	for (; node->parent && node->parent->type == XML_ELEMENT_NODE; node = node->parent)
		depth++;
	return depth;
}

static xmlNode *line_break(struct domain_tree *tree, int depth)
{
	char text[INDENT_MAX + 2];

	snprintf(text, sizeof(text), "\n%*s", MIN(depth * INDENT, INDENT_MAX), "");
	xmlNode *node = xmlNewText(utf8(text));
	tree->failed |= !node;
	return node;
}

static xmlNode *last_element(const xmlNode *parent)
{
	xmlNode *node = parent->last;

	while (node && node->type != XML_ELEMENT_NODE)
		node = node->prev;
	return node;
}

/* Has it line breaks between its children, or will it? */
static bool spread(const xmlNode *parent)
{
	return !parent->children || xmlIsBlankNode(parent->children);
}

xmlNode *tree_put(struct domain_tree *tree, xmlNode *parent, xmlNode *after, xmlNode *node)
{
	bool lines = parent && spread(parent);

	if (!parent || !node) {
		tree->failed = true;
		xmlFreeNode(node);
		return NULL;
	}
	int depth = depth_of(parent);
	xmlNode *before = lines ? line_break(tree, depth + 1) : NULL;
	after = after ? after : last_element(parent);
	if (after) {
		node = xmlAddNextSibling(after, node);
	} else if (parent->children) {
		node = xmlAddPrevSibling(parent->children, node);
	} else {
		node = xmlAddChild(parent, node);
		if (lines)
			xmlAddChild(parent, line_break(tree, depth));
	}
	if (before)
		xmlAddPrevSibling(node, before);
	return node;
}

xmlNode *tree_add(struct domain_tree *tree, xmlNode *parent, xmlNode *after, const char *name)
{
	return tree_put(tree, parent, after, xmlNewNode(NULL, utf8(name)));
}

xmlNode *tree_want(struct domain_tree *tree, xmlNode *parent, const char *name)
{
	xmlNode *child = tree_child(parent, name);

	return child ? child : tree_add(tree, parent, NULL, name);
}

void tree_set(struct domain_tree *tree, xmlNode *node, const char *name, const char *value)
{
	if (node && !value)
		xmlUnsetProp(node, utf8(name));
	else if (node)
		tree->failed |= !xmlSetProp(node, utf8(name), utf8(value));
}

void tree_remove(xmlNode *node)
{
	xmlNode *parent = node->parent, *before = node->prev;

	if (before && xmlIsBlankNode(before)) {
		xmlUnlinkNode(before);
		xmlFreeNode(before);
	}
	xmlUnlinkNode(node);
	xmlFreeNode(node);
	if (parent->children && !parent->children->next && xmlIsBlankNode(parent->children)) {
		before = parent->children;
		xmlUnlinkNode(before);
		xmlFreeNode(before);
	}
}
