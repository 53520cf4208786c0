/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_HOST_HOTPLUG_H
#define VGPU_HOST_HOTPLUG_H

/*
 * The kernel's word that GPUs came, went or changed their driver: uevents, after udev has dealt
 * with them where udev runs (only then have device files their owners), else as the kernel sends
 * them. They say only that the inventory should be read again; lost ones do no harm beyond that.
 */

#include "host/aer.h"

#include <stdbool.h>
#include <stddef.h>

struct hotplug;

/*
 * 0; -EOPNOTSUPP and why: none will come here (a user namespace or a container without them);
 * -errno and why.
 */
int hotplug_open(struct hotplug **ret, char *why, size_t size);
void hotplug_close(struct hotplug *hotplug); /* NULL-safe */
/* To be polled for reading. */
int hotplug_fd(const struct hotplug *hotplug);
/* A PCI function has an error; called by hotplug_read(). */
typedef void (*hotplug_error)(void *data, const char *address, enum aer_stage stage);
/* Reads what has come, some of it at least; true when it was about GPUs. */
bool hotplug_read(struct hotplug *hotplug, hotplug_error error, void *data);
/* "udev" or "kernel" */
const char *hotplug_source(const struct hotplug *hotplug);

#endif
