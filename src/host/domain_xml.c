/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libxml2 makes a tree of the text; one table says which element of it fills which field. Against
 * what a hostile text could do: its length is bounded first, a document type is refused before and
 * after parsing, the encoding is ours, and the library's own limits (depth, names, text) stay on.
 */
#include "host/domain_xml.h"

#include "base/checked.h"
#include "base/parse.h"

#include <ctype.h>
#include <errno.h>
#include <libxml/parser.h>
#include <libxml/tree.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define KIB 1024u

/* What is being read, and the first thing found wrong. */
struct reading {
	struct domain_xml *domain;
	const char *why;
	int code;
	unsigned cells, shared_cells;
};

static void reading_fail(struct reading *r, int code, const char *why)
{
	if (r->why)
		return;
	r->code = code;
	r->why = why;
}

/* --- texts --- */

/* Blanks around it removed; false when it does not fit. */
static bool copy_text(const xmlChar *text, char *ret, size_t size)
{
	const char *from = text ? (const char *)text : "";

	from += strspn(from, " \t\r\n");
	size_t len = strlen(from);
	while (len && strchr(" \t\r\n", from[len - 1]))
		len--;
	ret[0] = '\0';
	if (len >= size)
		return false;
	for (size_t i = 0; i < len; i++)
		ret[i] = (unsigned char)from[i] < 0x20 || from[i] == 0x7f ? '?' : from[i];
	ret[len] = '\0';
	return true;
}

/* An attribute or, with `name` NULL, the content; "" when there is none or it is too long. */
static void node_text(xmlNode *node, const char *name, char *ret, size_t size)
{
	xmlChar *text =
		name ? xmlGetNoNsProp(node, (const xmlChar *)name) : xmlNodeGetContent(node);

	if (!copy_text(text, ret, size))
		ret[0] = '\0';
	xmlFree(text);
}

static bool attribute_is(xmlNode *node, const char *name, const char *value)
{
	char text[32];

	node_text(node, name, text, sizeof(text));
	return !strcmp(text, value);
}

static bool node_is(const xmlNode *node, const char *name)
{
	return node->type == XML_ELEMENT_NODE && !node->ns &&
	       !strcmp((const char *)node->name, name);
}

/* --- sizes --- */

/* What a unit multiplies by; 0: there is no such unit. */
static uint64_t unit_bytes(const char *unit)
{
	static const char powers[] = "kmgtpe";
	uint64_t base, bytes = 1;

	if (!*unit)
		return KIB;
	if (!strcasecmp(unit, "b") || !strcasecmp(unit, "byte") || !strcasecmp(unit, "bytes"))
		return 1;
	const char *power = strchr(powers, tolower((unsigned char)*unit));
	if (!power || !*power)
		return 0;
	if (!unit[1] || !strcasecmp(unit + 1, "ib"))
		base = 1024;
	else if (!strcasecmp(unit + 1, "b"))
		base = 1000;
	else
		return 0;
	for (const char *p = powers; p <= power; p++)
		bytes *= base;
	return bytes;
}

bool domain_xml_size(const char *number, const char *unit, uint64_t *ret)
{
	uint64_t value, bytes, up, scale = unit_bytes(unit ?: "");

	if (!scale || !parse_number(number, 10, INT64_MAX, &value) ||
		!checked_mul(value, scale, &bytes) || !checked_add(bytes, KIB - 1, &up) ||
		up > INT64_MAX)
		return false;
	*ret = up / KIB * KIB;
	return true;
}

/* The first one counts, as in libvirt. */
static void read_size(struct reading *r, xmlNode *node, uint64_t *ret)
{
	char number[32], unit[16];

	if (*ret)
		return;
	node_text(node, NULL, number, sizeof(number));
	node_text(node, "unit", unit, sizeof(unit));
	if (!domain_xml_size(number, unit, ret))
		reading_fail(r, -EINVAL, "a size of its memory is no size");
}

/* --- elements --- */

typedef void (*element_fn)(struct reading *r, xmlNode *node);

struct element {
	const char *name;
	element_fn read;
};

static void read_children(
	struct reading *r, xmlNode *node, const struct element *elements, size_t n)
{
	for (xmlNode *child = node->children; child && !r->why; child = child->next) {
		for (size_t i = 0; i < n; i++) {
			if (node_is(child, elements[i].name))
				elements[i].read(r, child);
		}
	}
}

static void read_name(struct reading *r, xmlNode *node)
{
	if (!r->domain->name[0])
		node_text(node, NULL, r->domain->name, sizeof(r->domain->name));
}

static void read_uuid(struct reading *r, xmlNode *node)
{
	node_text(node, NULL, r->domain->uuid, sizeof(r->domain->uuid));
}

static void read_memory(struct reading *r, xmlNode *node)
{
	read_size(r, node, &r->domain->memory_bytes);
}

static void read_current(struct reading *r, xmlNode *node)
{
	read_size(r, node, &r->domain->current_bytes);
}

static void read_max(struct reading *r, xmlNode *node)
{
	read_size(r, node, &r->domain->max_bytes);
}

static void backing_locked(struct reading *r, xmlNode *node)
{
	r->domain->locked = true;
}

static void backing_hugepages(struct reading *r, xmlNode *node)
{
	r->domain->hugepages = true;
}

static void backing_nosharepages(struct reading *r, xmlNode *node)
{
	r->domain->nosharepages = true;
}

static void backing_source(struct reading *r, xmlNode *node)
{
	static const char *const names[] = {[DOMAIN_MEMORY_ANONYMOUS] = "anonymous",
		[DOMAIN_MEMORY_FILE] = "file",
		[DOMAIN_MEMORY_MEMFD] = "memfd"};

	for (size_t i = DOMAIN_MEMORY_ANONYMOUS; i < ARRAY_SIZE(names); i++) {
		if (attribute_is(node, "type", names[i]))
			r->domain->source = (enum domain_memory_source)i;
	}
}

static void backing_access(struct reading *r, xmlNode *node)
{
	r->domain->shared = attribute_is(node, "mode", "shared");
}

static void backing_allocation(struct reading *r, xmlNode *node)
{
	r->domain->immediate = attribute_is(node, "mode", "immediate");
}

static void read_backing(struct reading *r, xmlNode *node)
{
	static const struct element elements[] = {{"locked", backing_locked},
		{"hugepages", backing_hugepages}, {"nosharepages", backing_nosharepages},
		{"source", backing_source}, {"access", backing_access},
		{"allocation", backing_allocation}};

	read_children(r, node, elements, ARRAY_SIZE(elements));
}

static void numa_cell(struct reading *r, xmlNode *node)
{
	r->cells++;
	r->shared_cells += attribute_is(node, "memAccess", "shared");
}

static void cpu_numa(struct reading *r, xmlNode *node)
{
	static const struct element elements[] = {{"cell", numa_cell}};

	read_children(r, node, elements, ARRAY_SIZE(elements));
}

static void read_cpu(struct reading *r, xmlNode *node)
{
	static const struct element elements[] = {{"numa", cpu_numa}};

	read_children(r, node, elements, ARRAY_SIZE(elements));
}

static xmlNode *child_named(const xmlNode *node, const char *name)
{
	xmlNode *child = node->children;

	while (child && !node_is(child, name))
		child = child->next;
	return child;
}

static void device_video(struct reading *r, xmlNode *node)
{
	struct domain_xml *domain = r->domain;
	xmlNode *model = child_named(node, "model"), *driver = child_named(node, "driver");
	char heads[16] = "";
	uint64_t n = 0;

	if (domain->n_videos == DOMAIN_VIDEOS_MAX) {
		reading_fail(r, -E2BIG, "it has more video devices than are looked at");
		return;
	}
	struct domain_video *video = &domain->videos[domain->n_videos++];
	if (driver)
		node_text(driver, "name", video->driver, sizeof(video->driver));
	if (!model)
		return;
	node_text(model, "type", video->model, sizeof(video->model));
	node_text(model, "heads", heads, sizeof(heads));
	video->primary = attribute_is(model, "primary", "yes");
	if (parse_number(heads, 10, UINT32_MAX, &n))
		video->heads = (uint32_t)n;
}

/* One part of a PCI address, as libvirt writes it: hexadecimal with 0x, or decimal. */
static bool address_part(xmlNode *node, const char *name, uint64_t most, uint64_t *ret)
{
	char text[16];

	node_text(node, name, text, sizeof(text));
	*ret = 0;
	if (!*text)
		return !strcmp(name, "domain");
	bool hex = !strncasecmp(text, "0x", 2);
	return parse_number(hex ? text + 2 : text, hex ? 16 : 10, most, ret);
}

static void hostdev_address(struct domain_hostdev *hostdev, xmlNode *source)
{
	xmlNode *at = child_named(source, "address");
	uint64_t domain, bus, slot, function;

	if (!at)
		return;
	if (hostdev->kind == DOMAIN_HOSTDEV_MDEV) {
		node_text(at, "uuid", hostdev->address, sizeof(hostdev->address));
		for (char *p = hostdev->address; *p; p++)
			*p = (char)tolower((unsigned char)*p);
	} else if (address_part(at, "domain", 0xffff, &domain) &&
		   address_part(at, "bus", 0xff, &bus) && address_part(at, "slot", 0x1f, &slot) &&
		   address_part(at, "function", 7, &function)) {
		snprintf(hostdev->address, sizeof(hostdev->address), "%04x:%02x:%02x.%x",
			(unsigned)domain, (unsigned)bus, (unsigned)slot, (unsigned)function);
	}
}

static void device_hostdev(struct reading *r, xmlNode *node)
{
	struct domain_xml *domain = r->domain;
	xmlNode *source = child_named(node, "source");

	if (domain->n_hostdevs == DOMAIN_HOSTDEVS_MAX) {
		reading_fail(r, -E2BIG, "it has more host devices than are looked at");
		return;
	}
	struct domain_hostdev *hostdev = &domain->hostdevs[domain->n_hostdevs++];
	if (attribute_is(node, "type", "pci"))
		hostdev->kind = DOMAIN_HOSTDEV_PCI;
	else if (attribute_is(node, "type", "mdev"))
		hostdev->kind = DOMAIN_HOSTDEV_MDEV;
	hostdev->managed = attribute_is(node, "managed", "yes");
	hostdev->display = attribute_is(node, "display", "on");
	node_text(node, "model", hostdev->model, sizeof(hostdev->model));
	if (source && hostdev->kind != DOMAIN_HOSTDEV_OTHER)
		hostdev_address(hostdev, source);
}

static void device_balloon(struct reading *r, xmlNode *node)
{
	r->domain->balloon = !attribute_is(node, "model", "none");
	r->domain->reporting = attribute_is(node, "freePageReporting", "on");
}

static void read_devices(struct reading *r, xmlNode *node)
{
	static const struct element elements[] = {{"video", device_video},
		{"hostdev", device_hostdev}, {"memballoon", device_balloon}};

	read_children(r, node, elements, ARRAY_SIZE(elements));
}

static void read_domain(struct reading *r, xmlNode *root)
{
	static const struct element elements[] = {{"name", read_name}, {"uuid", read_uuid},
		{"memory", read_memory}, {"currentMemory", read_current}, {"maxMemory", read_max},
		{"memoryBacking", read_backing}, {"cpu", read_cpu}, {"devices", read_devices}};
	struct domain_xml *domain = r->domain;

	domain->balloon = true; /* libvirt adds one where none is named */
	node_text(root, "type", domain->type, sizeof(domain->type));
	read_children(r, root, elements, ARRAY_SIZE(elements));
	domain->shared |= r->cells && r->shared_cells == r->cells;
	if (!domain->name[0])
		reading_fail(r, -EINVAL, "it has no name, or one too long");
	if (!domain->memory_bytes)
		reading_fail(r, -EINVAL, "it does not say how much memory it has");
	if (!domain->current_bytes)
		domain->current_bytes = domain->memory_bytes;
	domain->max_bytes = MAX(domain->max_bytes, domain->memory_bytes);
}

/* --- the text --- */

static int refuse(const char **ret_why, int code, const char *why)
{
	*ret_why = why;
	return code;
}

int domain_xml_parse(const char *text, size_t size, struct domain_xml *ret, const char **ret_why)
{
	static const char doctype[] = "<!DOCTYPE";
	struct domain_xml domain = {0};
	struct reading r = {.domain = &domain};

	if (size > DOMAIN_XML_MAX)
		return refuse(ret_why, -E2BIG, "it is longer than any definition");
	if (!size || memchr(text, '\0', size))
		return refuse(ret_why, -EINVAL, "it is no text");
	if (memmem(text, size, doctype, sizeof(doctype) - 1))
		return refuse(ret_why, -EINVAL, "it has a document type");
	xmlDoc *doc = xmlReadMemory(text, (int)size, NULL, "UTF-8",
		XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING | XML_PARSE_NOCDATA);
	if (!doc)
		return refuse(ret_why, -EINVAL, "it is no XML");
	xmlNode *root = xmlDocGetRootElement(doc);
	if (doc->intSubset || doc->extSubset)
		reading_fail(&r, -EINVAL, "it has a document type");
	else if (!root || !node_is(root, "domain"))
		reading_fail(&r, -EINVAL, "it is no definition of a domain");
	else
		read_domain(&r, root);
	xmlFreeDoc(doc);
	if (r.why)
		return refuse(ret_why, r.code, r.why);
	*ret = domain;
	return 0;
}

bool domain_xml_has_vhost_user_gpu(const struct domain_xml *domain)
{
	for (unsigned i = 0; i < domain->n_videos; i++) {
		if (!strcmp(domain->videos[i].driver, "vhostuser"))
			return true;
	}
	return false;
}

const struct domain_hostdev *domain_xml_hostdev(
	const struct domain_xml *domain, enum domain_hostdev_kind kind)
{
	for (unsigned i = 0; i < domain->n_hostdevs; i++) {
		if (domain->hostdevs[i].kind == kind)
			return &domain->hostdevs[i];
	}
	return NULL;
}
