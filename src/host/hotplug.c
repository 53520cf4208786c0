/* SPDX-License-Identifier: Apache-2.0 */
#include "host/hotplug.h"

#include "base/checked.h"
#include "base/parse.h"
#include "host/sysfs.h"

#include <errno.h>
#include <fcntl.h>
#include <libudev.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define READ_BATCH     256 /* then the loop goes on with others */
#define RECEIVE_BUFFER (1 << 20)
#define UDEV_RUNS      "/run/udev/control"

struct hotplug {
	struct udev *udev;
	struct udev_monitor *monitor;
	const char *source;
};

/* Of these kinds an event may be about a GPU. */
static const char *const subsystems[] = {"pci", "drm", "accel", "mdev"};

/* The kernel sends its events to the network namespaces of the first user namespace alone. */
static bool first_user_namespace(void)
{
	uint64_t inside, outside, count;
	char text[256];
	const char *at = text;

	return sysfs_read(AT_FDCWD, "/proc/self/uid_map", text, sizeof(text)) < 0 ||
	       !parse_next(&at, 10, UINT64_MAX, &inside) ||
	       !parse_next(&at, 10, UINT64_MAX, &outside) ||
	       !parse_next(&at, 10, UINT64_MAX, &count) ||
	       (!inside && !outside && count == UINT32_MAX);
}

int hotplug_open(struct hotplug **ret, char *why, size_t size)
{
	struct hotplug *hotplug;
	int r = 0;

	if (!first_user_namespace()) {
		snprintf(why, size, "the kernel sends no uevents into a user namespace");
		return -EOPNOTSUPP;
	}
	hotplug = calloc(1, sizeof(*hotplug));
	if (!hotplug) {
		snprintf(why, size, "out of memory");
		return -ENOMEM;
	}
	hotplug->source = access(UDEV_RUNS, F_OK) == 0 ? "udev" : "kernel";
	hotplug->udev = udev_new();
	if (hotplug->udev)
		hotplug->monitor = udev_monitor_new_from_netlink(hotplug->udev, hotplug->source);
	if (!hotplug->monitor)
		r = errno ? -errno : -ENOMEM;
	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(subsystems); i++)
		r = udev_monitor_filter_add_match_subsystem_devtype(
			hotplug->monitor, subsystems[i], NULL);
	if (r >= 0)
		r = udev_monitor_enable_receiving(hotplug->monitor);
	if (r < 0) {
		snprintf(why, size, "uevents cannot be received: %s", strerror(-r));
		hotplug_close(hotplug);
		return r;
	}
	(void)udev_monitor_set_receive_buffer_size(hotplug->monitor, RECEIVE_BUFFER);
	*ret = hotplug;
	return 0;
}

void hotplug_close(struct hotplug *hotplug)
{
	if (!hotplug)
		return;
	udev_monitor_unref(hotplug->monitor);
	udev_unref(hotplug->udev);
	free(hotplug);
}

int hotplug_fd(const struct hotplug *hotplug)
{
	return udev_monitor_get_fd(hotplug->monitor);
}

static const char *property(void *data, const char *name)
{
	return udev_device_get_property_value(data, name);
}

/* Who sends uevents is root; still, an address is one, or nothing is said of it. */
static void look_for_error(struct udev_device *device, hotplug_error error, void *data)
{
	const char *address = udev_device_get_sysname(device);
	enum aer_stage stage = aer_stage_of(property, device);

	if (stage != AER_NO_STAGE && address && pci_address_valid(address))
		error(data, address, stage);
}

bool hotplug_read(struct hotplug *hotplug, hotplug_error error, void *data)
{
	bool seen = false;

	for (unsigned i = 0; i < READ_BATCH; i++) {
		errno = 0;
		struct udev_device *device = udev_monitor_receive_device(hotplug->monitor);
		if (!device) {
			/* Some were lost: anything may have happened. */
			if (errno == ENOBUFS)
				return true;
			break;
		}
		seen = true;
		look_for_error(device, error, data);
		udev_device_unref(device);
	}
	return seen;
}

const char *hotplug_source(const struct hotplug *hotplug)
{
	return hotplug->source;
}
