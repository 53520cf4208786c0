/* SPDX-License-Identifier: Apache-2.0 */
#include "host/reset_hot.h"

#include "base/cleanup.h"
#include "host/apart.h"
#include "host/pci.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define FUNCTIONS_MAX 64u /* that one reset takes along */
#define GROUPS_MAX    16u

struct request {
	const struct host_roots *roots;
	const char *address;
};

struct groups {
	uint32_t numbers[GROUPS_MAX];
	int32_t fds[GROUPS_MAX];
	uint32_t count;
	int container;
};

static void close_groups(struct groups *groups)
{
	for (uint32_t i = 0; i < groups->count; i++)
		close(groups->fds[i]);
	close_fd(&groups->container);
}

static int open_group(const struct host_roots *roots, uint32_t number, struct groups *groups)
{
	struct vfio_group_status status = {.argsz = sizeof(status)};
	char path[SYSFS_PATH_MAX];

	for (uint32_t i = 0; i < groups->count; i++) {
		if (groups->numbers[i] == number)
			return 0;
	}
	if (groups->count == GROUPS_MAX)
		return -E2BIG;
	snprintf(path, sizeof(path), "%s/vfio/%u", roots->dev, number);
	cleanup_close int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, VFIO_GROUP_GET_STATUS, &status) < 0)
		return errno == ENOENT ? -EPERM : -errno;
	if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE))
		return -EPERM;
	groups->numbers[groups->count] = number;
	groups->fds[groups->count++] = TAKE_FD(fd);
	return 0;
}

/* A descriptor of the function, whose group is the first; -errno. */
static int open_function(const struct request *request, struct groups *groups)
{
	char path[SYSFS_PATH_MAX], number[16];

	cleanup_close int dir = pci_open(request->roots, request->address);
	if (dir < 0)
		return dir;
	int r = sysfs_link(dir, "iommu_group", number, sizeof(number));
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "%s/vfio/vfio", request->roots->dev);
	groups->container = open(path, O_RDWR | O_CLOEXEC);
	if (groups->container < 0)
		return -errno;
	r = open_group(request->roots, (uint32_t)strtoul(number, NULL, 10), groups);
	if (r < 0)
		return r;
	int fd = -1;
	if (ioctl(groups->fds[0], VFIO_GROUP_SET_CONTAINER, &groups->container) == 0 &&
		ioctl(groups->container, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU) == 0)
		fd = ioctl(groups->fds[0], VFIO_GROUP_GET_DEVICE_FD, request->address);
	return fd < 0 ? -errno : fd;
}

/* Opens the groups of all functions that go along. */
static int open_others(const struct host_roots *roots, int function, struct groups *groups)
{
	size_t size = sizeof(struct vfio_pci_hot_reset_info) +
		      FUNCTIONS_MAX * sizeof(struct vfio_pci_dependent_device);
	cleanup_free struct vfio_pci_hot_reset_info *info = calloc(1, size);
	int r = 0;

	if (!info)
		return -ENOMEM;
	info->argsz = (uint32_t)size;
	if (ioctl(function, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, info) < 0)
		return -errno;
	if (info->count > FUNCTIONS_MAX)
		return -E2BIG;
	for (uint32_t i = 0; r == 0 && i < info->count; i++)
		r = open_group(roots, info->devices[i].group_id, groups);
	return r;
}

static int reset_opened(const struct request *request, struct groups *groups)
{
	cleanup_close int function = open_function(request, groups);
	if (function < 0)
		return function;
	int r = open_others(request->roots, function, groups);
	if (r < 0)
		return r;
	size_t size = sizeof(struct vfio_pci_hot_reset) + sizeof(groups->fds);
	cleanup_free struct vfio_pci_hot_reset *reset = calloc(1, size);
	if (!reset)
		return -ENOMEM;
	reset->argsz = (uint32_t)size;
	reset->count = groups->count;
	memcpy(reset->group_fds, groups->fds, groups->count * sizeof(groups->fds[0]));
	return ioctl(function, VFIO_DEVICE_PCI_HOT_RESET, reset) < 0 ? -errno : 0;
}

/* Who hears that it is done may look at once who has the files open. */
static int work(const void *data)
{
	struct groups groups = {.container = -1};

	int r = reset_opened(data, &groups);
	close_groups(&groups);
	return r;
}

int reset_hot(const struct host_roots *roots, const char *address, unsigned limit_ms)
{
	const struct request request = {roots, address};

	return apart_run(work, &request, limit_ms);
}
