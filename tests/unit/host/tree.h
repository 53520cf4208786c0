/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_TESTS_HOST_TREE_H
#define VGPU_TESTS_HOST_TREE_H

/*
 * Constructed /sys, /proc, /dev and /lib/modules, as the kernel lays them out: functions below
 * sys/devices/pci0000:00, links between them and their driver, group and class. A failure to build
 * one fails the test.
 */

#include "host/facts.h"
#include "host/methods.h"

struct tree {
	char root[64];
	char sys[80], proc[80], dev[80], modules[80];
	struct host_roots roots;
};

/* One PCI function. NULL, 0: left out. */
struct tree_pci {
	const char *address;
	unsigned vendor, device, class;
	const char *driver;
	const char *resource; /* lines of `resource` */
	const char *reset_method;
	int group; /* 0: none */
	bool boot_vga;
};

void tree_make(struct tree *tree);
void tree_remove(struct tree *tree);

/* Paths are below the root. Folders on the way are made. */
void tree_put(struct tree *tree, const char *path, const char *text);
void tree_putf(struct tree *tree, const char *text, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void tree_link(struct tree *tree, const char *target, const char *path);
void tree_delete(struct tree *tree, const char *path);

void tree_pci(struct tree *tree, const struct tree_pci *pci);
/* drm/NAME below the function, its class link and device file. */
void tree_drm(struct tree *tree, const char *address, const char *name);
/* A VF of a function that exists; virtfnN and physfn. */
void tree_vf(struct tree *tree, const char *pf, unsigned number, const struct tree_pci *vf);
void tree_mdev_type(struct tree *tree, const char *parent, const char *id, const char *name,
	const char *description, const char *available);
/* A process that has files open: paths, NULL after the last. */
void tree_process(struct tree *tree, unsigned pid, const char *comm, const char *const *files);
/* Everything that passthrough needs beside the GPU. */
void tree_vfio(struct tree *tree);

/* What is found of that GPU, and read; `facts` is the caller's. False: no GPU of that name. */
bool tree_facts(struct tree *tree, const char *name, struct host_facts *facts);
/* Is that condition among a method's findings? */
const struct host_finding *tree_finding(
	const struct host_facts *facts, enum host_method method, const char *condition);
bool tree_possible(const struct host_facts *facts, enum host_method method);

#endif
