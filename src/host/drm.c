/* SPDX-License-Identifier: Apache-2.0 */
#include "host/drm.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/parse.h"
#include "host/holder.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define NVIDIA_TEXT_MAX 8192

/* Folders of a device, what begins the names in them, and where such a device file is. */
static const struct {
	const char *folder, *prefix, *dev;
} kinds[] = {
	{"drm", "card", "dri/"},
	{"drm", "renderD", "dri/"},
	{"accel", "accel", "accel/"},
};

/* Frame buffers that firmware left behind; they are on the function that it used as a screen. */
static const char *const firmware_buffers[] = {
	"efi-framebuffer", "vesa-framebuffer", "simple-framebuffer", "vga-framebuffer"};

static bool numbered(const char *name, const char *prefix)
{
	size_t len = strlen(prefix);
	uint64_t number;

	return !strncmp(name, prefix, len) && name[len] != ' ' &&
	       parse_number(name + len, 10, INT_MAX, &number);
}

static void add_node(struct drm *drm, const char *dev, const char *name)
{
	if (drm->n_nodes == DRM_NODES_MAX)
		return;
	char *node = drm->nodes[drm->n_nodes++];
	snprintf(node, DRM_NODE_MAX, "%.14s%.17s", dev, name);
	if (!drm->render[0] && !strncmp(name, "renderD", 7))
		snprintf(drm->render, sizeof(drm->render), "%s", node);
}

/* A connector is a folder "card0-HDMI-A-1" with a file `status`. */
static void count_screens(
	int dir, const char *card, struct drm *ret, struct sysfs_troubles *troubles)
{
	cleanup_names struct sysfs_names names = {0};
	char path[2 * SYSFS_NAME_MAX], status[32];
	size_t len = strlen(card);

	snprintf(path, sizeof(path), "drm/%s", card);
	cleanup_close int folder = sysfs_open(dir, path);
	if (folder < 0 || sysfs_list(folder, ".", &names) < 0)
		return;
	for (size_t i = 0; i < names.count; i++) {
		if (strncmp(names.name[i], card, len) != 0 || names.name[i][len] != '-')
			continue;
		snprintf(path, sizeof(path), "%s/status", names.name[i]);
		sysfs_want(folder, path, status, sizeof(status), troubles);
		ret->screens += !strcmp(status, "connected");
	}
}

static void read_nodes(int dir, struct drm *ret, struct sysfs_troubles *troubles)
{
	char own[HOLDER_FILE_MAX];

	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		cleanup_names struct sysfs_names names = {0};
		sysfs_trouble(troubles, kinds[k].folder, sysfs_list(dir, kinds[k].folder, &names));
		for (size_t i = 0; i < names.count; i++) {
			if (!numbered(names.name[i], kinds[k].prefix))
				continue;
			add_node(ret, kinds[k].dev, names.name[i]);
			if (k == 0)
				count_screens(dir, names.name[i], ret, troubles);
		}
	}
	if (holder_vfio_own(dir, own))
		add_node(ret, HOLDER_VFIO_OWN "/", strrchr(own, '/') + 1);
}

/* NVIDIA's own driver has a device file that sysfs does not tell: "Device Minor: 0". */
static void read_nvidia(const struct host_roots *roots, const char *address, struct drm *ret,
	struct sysfs_troubles *troubles)
{
	static const char field[] = "Device Minor:";
	char path[64], name[32];
	uint64_t minor;

	cleanup_free char *text = malloc(NVIDIA_TEXT_MAX);
	cleanup_close int proc = sysfs_open(AT_FDCWD, roots->proc);
	if (!text || proc < 0)
		return;
	snprintf(path, sizeof(path), "driver/nvidia/gpus/%.15s/information", address);
	sysfs_want(proc, path, text, NVIDIA_TEXT_MAX, troubles);
	const char *at = strstr(text, field);
	if (!at)
		return;
	at += sizeof(field) - 1;
	if (parse_next(&at, 10, UINT16_MAX, &minor)) {
		snprintf(name, sizeof(name), "nvidia%u", (unsigned)minor);
		add_node(ret, "", name);
	}
}

static bool is_firmware_buffer(const char *device)
{
	for (size_t i = 0; i < ARRAY_SIZE(firmware_buffers); i++) {
		if (!strncmp(device, firmware_buffers[i], strlen(firmware_buffers[i])))
			return true;
	}
	return false;
}

/* Does the kernel's text console draw on frame buffers at all? */
static bool console_on_buffers(int sys)
{
	cleanup_names struct sysfs_names names = {0};
	char path[SYSFS_NAME_MAX + 32], text[128];
	uint64_t bound;

	if (sysfs_list(sys, "class/vtconsole", &names) < 0)
		return false;
	for (size_t i = 0; i < names.count; i++) {
		snprintf(path, sizeof(path), "class/vtconsole/%s/name", names.name[i]);
		if (sysfs_read(sys, path, text, sizeof(text)) < 0 || !strstr(text, "frame buffer"))
			continue;
		snprintf(path, sizeof(path), "class/vtconsole/%s/bind", names.name[i]);
		if (sysfs_number(sys, path, 10, 1, &bound) == 0 && bound)
			return true;
	}
	return false;
}

/* A frame buffer: is it this device's, and is it where the kernel puts its console if it can? */
struct buffer {
	bool own, primary;
};

static struct buffer look_at_buffer(int sys, const char *name, const struct sysfs_names *own,
	const char *address, bool boot_vga)
{
	char path[SYSFS_NAME_MAX + 48], device[SYSFS_NAME_MAX];
	struct buffer buffer = {0};
	uint64_t primary = 0;

	for (size_t k = 0; k < own->count; k++)
		buffer.own |= !strcmp(own->name[k], name);
	snprintf(path, sizeof(path), "class/graphics/%s/device", name);
	bool firmware = false;
	if (sysfs_link(sys, path, device, sizeof(device)) == 0) {
		firmware = is_firmware_buffer(device);
		buffer.own |= (address[0] && !strcmp(device, address)) || (firmware && boot_vga);
	}
	snprintf(path, sizeof(path), "class/graphics/%s/device/boot_vga", name);
	buffer.primary = firmware || (buffer.own && boot_vga) ||
			 (sysfs_number(sys, path, 10, 1, &primary) == 0 && primary);
	return buffer;
}

/* All consoles are on the frame buffer of the firmware's screen, else on the first there was. */
static void read_console(const struct host_roots *roots, int dir, const char *pci_address,
	bool boot_vga, struct drm *ret)
{
	cleanup_names struct sysfs_names own = {0}, all = {0};
	bool found = false;

	cleanup_close int sys = sysfs_open(AT_FDCWD, roots->sys);
	if (sys < 0 || !console_on_buffers(sys) || sysfs_list(sys, "class/graphics", &all) < 0)
		return;
	(void)sysfs_list(dir, "graphics", &own);
	for (size_t i = 0; i < all.count; i++) {
		const char *name = all.name[i];
		if (!numbered(name, "fb"))
			continue;
		struct buffer b = look_at_buffer(sys, name, &own, pci_address, boot_vga);
		if (found && !b.primary)
			continue;
		found = true;
		snprintf(ret->console, sizeof(ret->console), "%.31s", b.own ? name : "");
		if (b.primary)
			return;
	}
}

void drm_read(const struct host_roots *roots, int dir, const char *pci_address, bool boot_vga,
	struct drm *ret, struct sysfs_troubles *troubles)
{
	*ret = (struct drm){0};
	read_nodes(dir, ret, troubles);
	if (pci_address[0])
		read_nvidia(roots, pci_address, ret, troubles);
	read_console(roots, dir, pci_address, boot_vga, ret);
}
