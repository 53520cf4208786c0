/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper/stats.h"

#include "base/cleanup.h"
#include "protocol/stats.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

int stats_page_create(int last)
{
	struct vgpu_stats old = {0};

	if (last >= 0 && pread(last, &old, sizeof(old), 0) != (ssize_t)sizeof(old))
		old = (struct vgpu_stats){0};
	struct vgpu_stats page = {.magic = VGPU_STATS_MAGIC, .version = VGPU_STATS_VERSION};
#define COPY_COUNTER(name) page.name = old.name;
#define COPY_GAUGE(name)
#define X(name, kind, help) COPY_##kind(name)
	VGPU_STATS_TABLE(X)
#undef X
	cleanup_close int fd = memfd_create("vgpu-stats", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || ftruncate(fd, VGPU_STATS_SIZE) < 0 ||
		fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	ssize_t n = pwrite(fd, &page, sizeof(page), 0);
	if (n != (ssize_t)sizeof(page))
		return n < 0 ? -errno : -EIO;
	return TAKE_FD(fd);
}
