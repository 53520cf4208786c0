/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_TESTS_HOST_FUNCTION_H
#define VGPU_TESTS_HOST_FUNCTION_H

/*
 * One function on vfio-pci, of a constructed tree, with the files that whoever changes hardware
 * uses: its configuration space, its memory, and a kernel that does what it is asked for.
 */

#include "host/vfio.h"
#include "tree.h"

#define ADDRESS "0000:03:00.0"
#define FOLDER  "sys/devices/pci0000:00/" ADDRESS "/"

struct function {
	struct tree tree;
	struct vfio_kernel kernel;
	/* Requests whose path ends so get this code; NULL: none does. */
	const char *fails;
	int code;
	/* Called for each request that is fulfilled, after its file was written; may be NULL. */
	void (*asked)(struct function *f, const char *name);
	char log[256]; /* "power/control=on enable=1 ..." */
};

/* On vfio-pci, or `driver`; AMD's; "" : none. */
void function_make(struct function *f, const char *driver);
void function_remove(struct function *f);
/* Vendor and device, in sysfs and in the configuration space. */
void function_is(struct function *f, unsigned vendor, unsigned device, unsigned class);
/* The header of its configuration space, all bytes ones if `gone`. */
void function_header(struct function *f, unsigned vendor, unsigned device, unsigned class,
	unsigned bar, bool gone);
unsigned function_command(const struct function *f);
void function_set_command(struct function *f, unsigned command);
/* A file of so many bytes, all of one value. */
void function_memory(struct function *f, const char *name, size_t size, int value);
/* Bytes of a file that are not `value`; its size must be `size`. */
size_t function_differs(const struct function *f, const char *name, size_t size, int value);

#endif
