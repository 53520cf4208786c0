/* SPDX-License-Identifier: Apache-2.0 */
#include "host/pci.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/parse.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define FLAG_IO           0x100u  /* IORESOURCE_IO, in `resource` */
#define FLAG_MEMORY       0x200u  /* IORESOURCE_MEM */
#define FLAG_PREFETCH     0x2000u /* IORESOURCE_PREFETCH */
#define RESOURCE_TEXT     2048    /* 13 lines of 57 bytes; more with SR-IOV */
#define CLASS_DISPLAY     0x03u
#define CLASS_BRIDGE      0x06u
#define CLASS_ACCELERATOR 0x12u
#define VENDOR_AMD        0x1002u

/* --- addresses --- */

static size_t hex_digits(const char *text)
{
	return strspn(text, "0123456789abcdef");
}

bool pci_address_valid(const char *address)
{
	size_t domain = hex_digits(address);

	if (domain < 4 || domain > 8 || address[domain] != ':')
		return false;
	const char *at = address + domain + 1;
	if (hex_digits(at) != 2 || at[2] != ':' || hex_digits(at + 3) != 2 || at[5] != '.')
		return false;
	return at[3] <= '1' && at[6] >= '0' && at[6] <= '7' && !at[7];
}

bool pci_same_slot(const char *a, const char *b)
{
	size_t len = strlen(a);

	return len > 2 && strlen(b) == len && !strncmp(a, b, len - 1);
}

int pci_open(const struct host_roots *roots, const char *address)
{
	char path[SYSFS_PATH_MAX];

	if (!pci_address_valid(address))
		return -ENODEV;
	snprintf(path, sizeof(path), "%s/bus/pci/devices/%s", roots->sys, address);
	int fd = sysfs_open(AT_FDCWD, path);
	return fd == -ENOENT || fd == -ENOTDIR ? -ENODEV : fd;
}

/* --- names --- */

static const struct {
	uint32_t class; /* of base class and subclass */
	const char *name;
} class_names[] = {
	{0x0300, "VGA controller"},
	{0x0301, "XGA controller"},
	{0x0302, "3D controller"},
	{0x0380, "display controller"},
	{0x0403, "sound"},
	{0x0106, "SATA controller"},
	{0x0108, "NVMe disk"},
	{0x0200, "Ethernet"},
	{0x0600, "host bridge"},
	{0x0601, "ISA bridge"},
	{0x0604, "PCI bridge"},
	{0x0880, "system function"},
	{0x0c03, "USB controller"},
	{0x0c05, "SMBus"},
	{0x0c80, "serial bus"},
	{0x1200, "processing accelerator"},
};

static const struct {
	uint16_t vendor;
	const char *name;
} vendor_ids[] = {
	{0x1002, "AMD"},
	{0x1013, "Cirrus Logic"},
	{0x102b, "Matrox"},
	{0x10de, "NVIDIA"},
	{0x1234, "QEMU"},
	{0x15ad, "VMware"},
	{0x1a03, "ASPEED"},
	{0x1af4, "virtio"},
	{0x1b36, "Red Hat"},
	{0x1d17, "Zhaoxin"},
	{0x1ed5, "Moore Threads"},
	{0x8086, "Intel"},
};

const char *pci_class_name(uint32_t class)
{
	for (size_t i = 0; i < ARRAY_SIZE(class_names); i++) {
		if (class_names[i].class == class >> 8)
			return class_names[i].name;
	}
	return pci_is_bridge(class) ? "bridge" : "PCI function";
}

const char *pci_vendor_name(uint16_t vendor)
{
	for (size_t i = 0; i < ARRAY_SIZE(vendor_ids); i++) {
		if (vendor_ids[i].vendor == vendor)
			return vendor_ids[i].name;
	}
	return NULL;
}

bool pci_is_display(uint32_t class)
{
	return class >> 16 == CLASS_DISPLAY;
}

bool pci_is_accelerator(uint32_t class)
{
	return class >> 16 == CLASS_ACCELERATOR;
}

bool pci_is_bridge(uint32_t class)
{
	return class >> 16 == CLASS_BRIDGE;
}

bool pci_is_gpu(const struct pci_device *device)
{
	return pci_is_display(device->class) ||
	       (pci_is_accelerator(device->class) && device->vendor == VENDOR_AMD);
}

/* --- BARs --- */

bool pci_parse_bar(const char *line, struct pci_bar *ret)
{
	uint64_t start, end, flags, size;

	if (!parse_next(&line, 16, UINT64_MAX, &start) ||
		!parse_next(&line, 16, UINT64_MAX, &end) ||
		!parse_next(&line, 16, UINT64_MAX, &flags) ||
		(*line && !isspace((unsigned char)*line)))
		return false;
	*ret = (struct pci_bar){0};
	if (!(flags & (FLAG_MEMORY | FLAG_IO)) || end <= start ||
		!checked_add(end - start, 1, &size))
		return true;
	ret->size = size;
	ret->io = (flags & FLAG_IO) != 0;
	ret->prefetchable = !ret->io && (flags & FLAG_PREFETCH);
	return true;
}

static void read_bars(int dir, struct pci_device *device, struct sysfs_troubles *troubles)
{
	char text[RESOURCE_TEXT];
	char *line = text;

	sysfs_want(dir, "resource", text, sizeof(text), troubles);
	for (size_t i = 0; i < PCI_BARS && *line; i++) {
		char *end = line + strcspn(line, "\n");
		char *next = end + (*end == '\n');
		*end = '\0';
		if (!pci_parse_bar(line, &device->bars[i])) {
			sysfs_trouble(troubles, "resource", -EBADMSG);
			return;
		}
		line = next;
	}
}

uint64_t pci_vram_window(const struct pci_device *device)
{
	uint64_t largest = 0;

	for (size_t i = 0; i < PCI_BARS; i++) {
		if (device->bars[i].prefetchable)
			largest = MAX(largest, device->bars[i].size);
	}
	return largest;
}

/* --- the rest --- */

static uint16_t id_of(int dir, const char *name, struct sysfs_troubles *troubles)
{
	return (uint16_t)sysfs_want_number(dir, name, 16, UINT16_MAX, 0, troubles);
}

/* The kernel writes "(null)" where none is set. */
static void read_override(int dir, struct pci_device *device, struct sysfs_troubles *troubles)
{
	sysfs_want(dir, "driver_override", device->driver_override, sizeof(device->driver_override),
		troubles);
	if (!strcmp(device->driver_override, "(null)"))
		device->driver_override[0] = '\0';
}

static void read_numa_node(int dir, struct pci_device *device)
{
	uint64_t node;

	device->numa_node = -1; /* which is also what the file says of none */
	if (sysfs_number(dir, "numa_node", 10, INT16_MAX, &node) == 0)
		device->numa_node = (int)node;
}

/* Kernels before 5.15 show that a function can be reset, and not how. */
static void read_reset(int dir, struct pci_device *device, struct sysfs_troubles *troubles)
{
	sysfs_want(dir, "reset_method", device->reset_methods, sizeof(device->reset_methods),
		troubles);
	device->can_reset = device->reset_methods[0] ||
			    (!sysfs_exists(dir, "reset_method") && sysfs_exists(dir, "reset"));
}

int pci_read(const struct host_roots *roots, const char *address, struct pci_device *ret,
	struct sysfs_troubles *troubles)
{
	*ret = (struct pci_device){.numa_node = -1};
	cleanup_close int dir = pci_open(roots, address);
	if (dir == -ENODEV)
		return -ENODEV;
	snprintf(ret->address, sizeof(ret->address), "%s", address);
	if (dir < 0) {
		sysfs_trouble(troubles, address, dir);
		return 0;
	}
	ret->vendor = id_of(dir, "vendor", troubles);
	ret->device = id_of(dir, "device", troubles);
	ret->subsystem_vendor = id_of(dir, "subsystem_vendor", troubles);
	ret->subsystem_device = id_of(dir, "subsystem_device", troubles);
	ret->class = (uint32_t)sysfs_want_number(dir, "class", 16, 0xffffff, 0, troubles);
	ret->revision = (uint8_t)sysfs_want_number(dir, "revision", 16, UINT8_MAX, 0, troubles);
	ret->boot_vga = sysfs_want_number(dir, "boot_vga", 10, 1, 0, troubles) == 1;
	sysfs_want_link(dir, "driver", ret->driver, sizeof(ret->driver), troubles);
	read_override(dir, ret, troubles);
	read_bars(dir, ret, troubles);
	read_reset(dir, ret, troubles);
	read_numa_node(dir, ret);
	sysfs_want(dir, "power_state", ret->power_state, sizeof(ret->power_state), troubles);
	sysfs_want(dir, "power/runtime_status", ret->runtime_status, sizeof(ret->runtime_status),
		troubles);
	sysfs_want_link(dir, "physfn", ret->physfn, sizeof(ret->physfn), troubles);
	return 0;
}
