/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_HOST_PCI_HEADER_H
#define VGPU_HOST_PCI_HEADER_H

/*
 * The part of a function's configuration space that all functions have (PCI Local Bus 3.0, 6.1),
 * through the file `config`. Reading it wakes a function that sleeps and asks the hardware, so it
 * is for whoever is about to do something with it; the inventory leaves it alone.
 */

#include "host/pci.h"

#define PCI_HEADER_BYTES 64u
#define PCI_NO_ANSWER    0xffffu /* as a vendor: nobody drove the bus */

struct pci_header {
	uint16_t vendor, device, command;
	uint32_t class; /* 24 bits, as in struct pci_device */
	uint32_t bars[PCI_BARS];
};

/* 0; -EIO: it does not answer; -ENODEV: it is not there; -errno. */
int pci_header_read(const struct host_roots *roots, const char *address, struct pci_header *ret);
/* Writes the command register. As above. */
int pci_command_write(const struct host_roots *roots, const char *address, uint16_t command);

#endif
