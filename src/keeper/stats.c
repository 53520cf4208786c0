/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper/stats.h"

#include "base/cleanup.h"
#include "protocol/stats.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

static int stats_page_write(int fd, int last)
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
	ssize_t n = pwrite(fd, &page, sizeof(page), 0);
	if (n != (ssize_t)sizeof(page))
		return n < 0 ? -errno : -EIO;
	return 0;
}

int stats_page_create(int last)
{
	cleanup_close int fd = memfd_create("vgpu-stats", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || ftruncate(fd, VGPU_STATS_SIZE) < 0 ||
		fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	int r = stats_page_write(fd, last);
	return r < 0 ? r : TAKE_FD(fd);
}

void stats_page_copy(int from, int to)
{
	struct vgpu_stats old, page;

	if (pread(from, &old, sizeof(old), 0) != (ssize_t)sizeof(old) ||
		pread(to, &page, sizeof(page), 0) != (ssize_t)sizeof(page))
		return;
#define X(name, kind, help) COPY_##kind(name)
	VGPU_STATS_TABLE(X)
#undef X
#undef COPY_COUNTER
#undef COPY_GAUGE
	if (pwrite(to, &page, sizeof(page), 0) < 0)
		return; /* counters are lost, and nothing else */
}
