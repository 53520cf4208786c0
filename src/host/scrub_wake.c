/* SPDX-License-Identifier: Apache-2.0 */
#include "host/scrub_wake.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "host/pci_header.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define COMMAND_MEMORY 0x2u /* it answers to accesses of its memory BARs */
#define AWAKE_MS       2000u
#define LOOK_MS        20u
#define WRITE_MS       5000u
#define POWER_ON       "on"

struct waker {
	const struct host_roots *roots;
	const struct vfio_kernel *kernel;
	const struct pci_device *device;
	struct scrub_asleep *ret;
};

static int write_file(const struct waker *w, const char *name, const char *text)
{
	char path[SYSFS_PATH_MAX];

	snprintf(path, sizeof(path), "%s/bus/pci/devices/%s/%s", w->roots->sys, w->device->address,
		name);
	return w->kernel->write(w->kernel->data, path, text, WRITE_MS);
}

/* In the kernel's runtime power management; a kernel without it has the function awake. */
static int power_up(struct waker *w)
{
	const struct timespec pause = {.tv_nsec = LOOK_MS * 1000000L};
	uint64_t end = clock_ms() + AWAKE_MS;
	char text[16];

	cleanup_close int dir = pci_open(w->roots, w->device->address);
	if (dir < 0)
		return dir;
	int r = sysfs_read(dir, "power/control", text, sizeof(text));
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	if (strcmp(text, POWER_ON) != 0) {
		r = write_file(w, "power/control", POWER_ON "\n");
		if (r < 0)
			return r;
		memcpy(w->ret->power, text, sizeof(text));
	}
	while (sysfs_read(dir, "power/runtime_status", text, sizeof(text)) == 0 &&
		(!strncmp(text, "suspend", 7) || !strcmp(text, "resuming"))) {
		if (clock_ms() >= end)
			return -ETIMEDOUT;
		nanosleep(&pause, NULL);
	}
	return strcmp(text, "error") != 0 ? 0 : -EIO;
}

/* Without a driver nobody has enabled it, nor the bridges above it. */
static int enable(struct waker *w)
{
	uint64_t enabled;

	if (w->device->driver[0])
		return 0;
	cleanup_close int dir = pci_open(w->roots, w->device->address);
	if (dir < 0)
		return dir;
	int r = sysfs_number(dir, "enable", 10, UINT32_MAX, &enabled);
	if (r < 0 || enabled)
		return r == -ENOENT ? 0 : r;
	r = write_file(w, "enable", "1\n");
	w->ret->disabled = r == 0;
	return r;
}

/* A virtual function's decoding is its parent's, and its own bit is not there. */
static int make_answer(struct waker *w)
{
	struct pci_header header;

	int r = pci_header_read(w->roots, w->device->address, &header);
	if (r < 0 || w->device->physfn[0] || (header.command & COMMAND_MEMORY))
		return r;
	w->ret->command = header.command;
	r = pci_command_write(
		w->roots, w->device->address, (uint16_t)(header.command | COMMAND_MEMORY));
	if (r < 0)
		return r;
	w->ret->deaf = true;
	r = pci_header_read(w->roots, w->device->address, &header);
	return r < 0 ? r : header.command & COMMAND_MEMORY ? 0 : -EIO;
}

int scrub_wake(const struct host_roots *roots, const struct vfio_kernel *kernel,
	const struct pci_device *device, struct scrub_asleep *ret)
{
	struct waker w = {roots, kernel, device, ret};

	*ret = (struct scrub_asleep){0};
	int r = power_up(&w);
	if (r == 0)
		r = enable(&w);
	return r < 0 ? r : make_answer(&w);
}

void scrub_sleep(const struct host_roots *roots, const struct vfio_kernel *kernel,
	const struct pci_device *device, const struct scrub_asleep *was)
{
	const struct waker w = {.roots = roots, .kernel = kernel, .device = device};
	char text[sizeof(was->power) + 1];

	if (was->deaf)
		(void)pci_command_write(roots, device->address, was->command);
	if (was->disabled)
		(void)write_file(&w, "enable", "0\n");
	snprintf(text, sizeof(text), "%s\n", was->power);
	if (was->power[0])
		(void)write_file(&w, "power/control", text);
}
