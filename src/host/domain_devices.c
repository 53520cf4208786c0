/* SPDX-License-Identifier: Apache-2.0 */
#include "host/domain_private.h"

#include "base/parse.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* --- whose it is --- */

static bool device_alias(
	const xmlNode *device, char ret_name[static DOMAIN_ALIAS_NAME_MAX], unsigned *ret_index)
{
	char alias[DOMAIN_ALIAS_MAX]; /* one that had to be cut is nobody's */

	tree_get(tree_child(device, "alias"), "name", alias, sizeof(alias));
	return domain_alias_read(alias, ret_name, ret_index);
}

bool device_owner(const xmlNode *device, char ret_name[static DOMAIN_ALIAS_NAME_MAX])
{
	unsigned index;

	return device->type == XML_ELEMENT_NODE && device_alias(device, ret_name, &index);
}

bool device_is_of(const xmlNode *device, const char *name)
{
	char owner[DOMAIN_ALIAS_NAME_MAX];

	return device_owner(device, owner) && !strcmp(owner, name);
}

xmlNode *device_next(const xmlNode *devices, const xmlNode *after, const char *name)
{
	xmlNode *node = after ? after->next : (devices ? devices->children : NULL);

	while (node && !device_is_of(node, name))
		node = node->next;
	return node;
}

bool video_is_vhost_user(const xmlNode *video)
{
	return tree_has(tree_child(video, "driver"), "name", "vhostuser");
}

/* --- addresses --- */

/* One part of a PCI address: hexadecimal with 0x, else decimal; the domain may be left out. */
static bool address_part(const xmlNode *address, const char *name, uint64_t most, uint64_t *ret)
{
	char text[16];

	tree_get(address, name, text, sizeof(text));
	*ret = 0;
	if (!*text)
		return !strcmp(name, "domain");
	bool hex = !strncasecmp(text, "0x", 2);
	return parse_number(hex ? text + 2 : text, hex ? 16 : 10, most, ret);
}

bool hostdev_address(const xmlNode *hostdev, char ret[static DOMAIN_ADDRESS_MAX])
{
	const xmlNode *at = tree_child(tree_child(hostdev, "source"), "address");
	uint64_t domain, bus, slot, function;

	if (!at || strcmp((const char *)hostdev->name, "hostdev") != 0)
		return false;
	if (tree_has(hostdev, "type", "mdev")) {
		tree_get(at, "uuid", ret, DOMAIN_ADDRESS_MAX);
		for (char *p = ret; *p; p++)
			*p = (char)tolower((unsigned char)*p);
		return *ret;
	}
	if (!tree_has(hostdev, "type", "pci") || !address_part(at, "domain", UINT32_MAX, &domain) ||
		!address_part(at, "bus", 0xff, &bus) || !address_part(at, "slot", 0x1f, &slot) ||
		!address_part(at, "function", 7, &function))
		return false;
	snprintf(ret, DOMAIN_ADDRESS_MAX, "%04x:%02x:%02x.%x", (unsigned)domain, (unsigned)bus,
		(unsigned)slot, (unsigned)function);
	return true;
}

static bool has_address(const struct domain_vgpu *vgpu, const xmlNode *device)
{
	char address[DOMAIN_ADDRESS_MAX];

	if (vgpu->device == DOMAIN_VIDEO || !hostdev_address(device, address))
		return false;
	for (unsigned i = 0; i < vgpu->n_addresses; i++) {
		if (!strcasecmp(vgpu->address[i], address))
			return true;
	}
	return false;
}

xmlNode *device_stray(const xmlNode *devices, const struct domain_vgpu *vgpu)
{
	xmlNode *device = tree_child(devices, "hostdev");

	while (device && (!has_address(vgpu, device) || device_is_of(device, vgpu->name)))
		device = tree_next(device, "hostdev");
	return device;
}

/* --- as it shall be --- */

static bool video_as_wanted(const xmlNode *video, unsigned heads)
{
	const xmlNode *model = tree_child(video, "model");
	char text[16];
	uint64_t said = 1;

	tree_get(model, "heads", text, sizeof(text));
	return !strcmp((const char *)video->name, "video") && video_is_vhost_user(video) &&
	       tree_has(model, "type", "virtio") &&
	       (!*text || parse_number(text, 10, UINT32_MAX, &said)) && said == heads;
}

static bool hostdev_as_wanted(const xmlNode *device, const struct domain_vgpu *vgpu, unsigned index)
{
	char address[DOMAIN_ADDRESS_MAX];

	return index < vgpu->n_addresses && hostdev_address(device, address) &&
	       !strcasecmp(address, vgpu->address[index]) && !tree_has(device, "managed", "yes") &&
	       tree_has(device, "type", vgpu->device == DOMAIN_MDEV ? "mdev" : "pci");
}

bool devices_as_wanted(const xmlNode *devices, const struct domain_vgpu *vgpu)
{
	unsigned wanted = vgpu->device == DOMAIN_VIDEO ? 1 : vgpu->n_addresses, there = 0, index;
	const xmlNode *device = NULL;
	char name[DOMAIN_ALIAS_NAME_MAX];

	while ((device = device_next(devices, device, vgpu->name))) {
		bool good = device_alias(device, name, &index) &&
			    (vgpu->device == DOMAIN_VIDEO
					    ? !index && video_as_wanted(device, vgpu->heads)
					    : hostdev_as_wanted(device, vgpu, index));
		if (!good)
			return false;
		there++;
	}
	return there == wanted;
}

/* --- changing --- */

void devices_remove(xmlNode *devices, const char *name)
{
	xmlNode *device;

	while ((device = device_next(devices, NULL, name)))
		tree_remove(device);
}

static void add_alias(struct domain_tree *tree, xmlNode *device, const char *name, unsigned index)
{
	char alias[DOMAIN_ALIAS_MAX];

	if (domain_alias_make(name, index, alias))
		tree_set(tree, tree_add(tree, device, NULL, "alias"), "name", alias);
}

static void add_video(
	struct domain_tree *tree, xmlNode *devices, const struct domain_vgpu *vgpu, bool primary)
{
	xmlNode *last = NULL;
	char heads[16];

	for (xmlNode *v = tree_child(devices, "video"); v; v = tree_next(v, "video"))
		last = v;
	xmlNode *video = tree_add(tree, devices, last, "video");
	if (!video)
		return;
	tree_set(tree, tree_add(tree, video, NULL, "driver"), "name", "vhostuser");
	xmlNode *model = tree_add(tree, video, NULL, "model");
	snprintf(heads, sizeof(heads), "%u", vgpu->heads);
	tree_set(tree, model, "type", "virtio");
	tree_set(tree, model, "heads", heads);
	if (primary)
		tree_set(tree, model, "primary", "yes");
	add_alias(tree, video, vgpu->name, 0);
}

static void set_pci_address(struct domain_tree *tree, xmlNode *at, const char *address)
{
	static const char *const names[] = {"domain", "bus", "slot", "function"};
	uint64_t part;
	char text[16];

	for (unsigned i = 0; i < 4; i++) {
		if (!parse_next(&address, 16, UINT32_MAX, &part))
			return;
		snprintf(text, sizeof(text), "0x%0*x", i == 0 ? 4 : (i == 3 ? 1 : 2),
			(unsigned)part);
		tree_set(tree, at, names[i], text);
		address += *address != '\0'; /* ':' or '.' */
	}
}

static void add_hostdev(
	struct domain_tree *tree, xmlNode *devices, const struct domain_vgpu *vgpu, unsigned index)
{
	bool mdev = vgpu->device == DOMAIN_MDEV;

	xmlNode *hostdev = tree_add(tree, devices, NULL, "hostdev");
	if (!hostdev)
		return;
	tree_set(tree, hostdev, "mode", "subsystem");
	tree_set(tree, hostdev, "type", mdev ? "mdev" : "pci");
	tree_set(tree, hostdev, "managed", "no");
	if (mdev)
		tree_set(tree, hostdev, "model", "vfio-pci");
	xmlNode *source = tree_add(tree, hostdev, NULL, "source");
	xmlNode *at = source ? tree_add(tree, source, NULL, "address") : NULL;
	if (mdev)
		tree_set(tree, at, "uuid", vgpu->address[index]);
	else
		set_pci_address(tree, at, vgpu->address[index]);
	add_alias(tree, hostdev, vgpu->name, index);
}

void devices_add(
	struct domain_tree *tree, xmlNode *devices, const struct domain_vgpu *vgpu, bool primary)
{
	if (vgpu->device == DOMAIN_VIDEO)
		add_video(tree, devices, vgpu, primary);
	for (unsigned i = 0; vgpu->device != DOMAIN_VIDEO && i < vgpu->n_addresses; i++)
		add_hostdev(tree, devices, vgpu, i);
}
