/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_HOST_PCI_H
#define VGPU_HOST_PCI_H

/*
 * One PCI function as /sys/bus/pci/devices/ADDRESS shows it (Documentation/ABI/testing/
 * sysfs-bus-pci in the kernel's source). Its configuration space is never read: that would wake it.
 */

#include "host/sysfs.h"

#define PCI_ADDRESS_MAX 16 /* "0000:03:00.0" and its end; domains have up to 8 digits */
#define PCI_DRIVER_MAX  32
#define PCI_BARS        6

struct pci_bar {
	uint64_t size; /* bytes; 0: there is none */
	bool prefetchable, io;
};

struct pci_device {
	char address[PCI_ADDRESS_MAX];
	uint16_t vendor, device, subsystem_vendor, subsystem_device;
	uint32_t class; /* 24 bits: base class, subclass, interface */
	uint8_t revision;
	char driver[PCI_DRIVER_MAX];          /* "" : none */
	char driver_override[PCI_DRIVER_MAX]; /* "" : none */
	bool boot_vga;                        /* the firmware's screen was on it */
	struct pci_bar bars[PCI_BARS];
	bool can_reset;         /* one function alone, or by its bus or slot */
	char reset_methods[64]; /* as the kernel orders them: "flr bus"; "" : not known, or none */
	char power_state[16];   /* "D0", "D3cold", "unknown"; "" : not told */
	char runtime_status[16];
	int numa_node;                /* -1: none */
	char physfn[PCI_ADDRESS_MAX]; /* of a virtual function; "" : it is none */
};

/* "0000:03:00.0": domain, bus, device, function; lower case. */
bool pci_address_valid(const char *address);
/* Are both functions of one card or chip? */
bool pci_same_slot(const char *a, const char *b);

/* The folder of a function; -errno, -ENODEV when it is not there. */
int pci_open(const struct host_roots *roots, const char *address);
/* 0, or -ENODEV: it is not there (any more). */
int pci_read(const struct host_roots *roots, const char *address, struct pci_device *ret,
	struct sysfs_troubles *troubles);

/*
 * The window onto a discrete GPU's memory: its largest prefetchable memory BAR; 0: none. With a BAR
 * that was not resized it is smaller than the memory.
 */
uint64_t pci_vram_window(const struct pci_device *device);

bool pci_is_display(uint32_t class);     /* 0x03xxxx */
bool pci_is_accelerator(uint32_t class); /* 0x12xxxx */
bool pci_is_bridge(uint32_t class);      /* 0x06xxxx */
/*
 * Is it a GPU, whatever driver it has? A display controller; of processing accelerators those of
 * vendors whose GPUs call themselves that. Virtual functions count; who lists them decides.
 */
bool pci_is_gpu(const struct pci_device *device);
/* "VGA controller", "3D controller", ...; "PCI function" for what has no name here. */
const char *pci_class_name(uint32_t class);
const char *pci_vendor_name(uint16_t vendor); /* NULL: not known here */

/* Reads one line of `resource`; false: it is none. Exported for the fuzzer. */
bool pci_parse_bar(const char *line, struct pci_bar *ret);

#endif
