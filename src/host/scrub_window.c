/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which BAR is the window onto a GPU's memory. The bus says of a BAR that reading it does no harm
 * ("prefetchable"), and not whether memory or registers are behind it: AMD's doorbells and a
 * virtio device's registers are prefetchable, too. So: the largest prefetchable BAR, unless it is
 * smaller than any GPU's memory, and what is known of vendors below. Nothing else is ever written.
 */
#include "host/scrub.h"

#include "base/checked.h"

#include <string.h>

#define ANY_DEVICE 0u

enum memory {
	IN_WINDOW, /* all of it, always */
	PERHAPS,   /* the window may be smaller than it */
	NO_MEMORY, /* it has none of its own: its prefetchable BARs are registers */
	OF_SYSTEM, /* it draws in the host's: its prefetchable BAR goes through a table of addresses
		    */
};

/* The first row that fits. */
static const struct {
	uint16_t vendor, device;
	enum memory memory;
	bool others_known; /* its other prefetchable BARs are registers, or windows onto the same */
	bool root_bus;     /* only of a function on bus 0: integrated */
} known[] = {
	{0x1234, 0x1111, IN_WINDOW, true, false},     /* QEMU: bochs-display, VGA, secondary-vga */
	{0x1002, 0x5046, IN_WINDOW, true, false},     /* Rage 128: 64 MiB of window, 32 of memory */
	{0x1002, 0x5159, IN_WINDOW, true, false},     /* Radeon 7000: 128 and 64 MiB */
	{0x1af4, ANY_DEVICE, NO_MEMORY, true, false}, /* virtio: its resources are the host's */
	{0x1002, ANY_DEVICE, PERHAPS, true, false},   /* AMD: BAR 2 is the doorbells */
	{0x10de, ANY_DEVICE, PERHAPS, true, false},   /* NVIDIA: BAR 3 is a window, too */
	{0x8086, ANY_DEVICE, OF_SYSTEM, true, true}, /* Intel's integrated: BAR 2 is its aperture */
	{0x8086, ANY_DEVICE, PERHAPS, true, false},  /* Intel's cards */
};

static bool on_root_bus(const char *address)
{
	const char *bus = strchr(address, ':');

	return bus && !strncmp(bus, ":00:", 4);
}

static int largest(const struct pci_device *device, bool *ret_others)
{
	int found = -1;
	unsigned windows = 0;

	for (int i = 0; i < PCI_BARS; i++) {
		if (!device->bars[i].prefetchable || device->bars[i].size < SCRUB_MEMORY_MIN)
			continue;
		windows++;
		if (found < 0 || device->bars[i].size > device->bars[found].size)
			found = i;
	}
	*ret_others = windows > 1;
	return found;
}

int scrub_window(const struct pci_device *device, const char **ret_beyond)
{
	enum memory memory = PERHAPS;
	bool others, others_known = false;

	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		if (known[i].vendor != device->vendor ||
			(known[i].device != ANY_DEVICE && known[i].device != device->device) ||
			(known[i].root_bus && !on_root_bus(device->address)))
			continue;
		memory = known[i].memory;
		others_known = known[i].others_known;
		break;
	}
	*ret_beyond = NULL;
	if (memory == NO_MEMORY)
		return -1;
	if (memory == OF_SYSTEM) {
		*ret_beyond = "it draws in memory of the host that no BAR reaches";
		return -1;
	}
	int bar = largest(device, &others);
	if (bar < 0)
		*ret_beyond = "none of its BARs is a window onto memory";
	else if (others && !others_known)
		*ret_beyond = "another BAR of it may be memory, or registers";
	else if (memory == PERHAPS)
		*ret_beyond = "nothing tells how large its memory is";
	return bar;
}
