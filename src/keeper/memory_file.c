/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper/memory_file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

int memory_file_look(int fd, struct memory_look *ret)
{
	struct statx file;

	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_INO | STATX_SIZE | STATX_BLOCKS,
		    &file) < 0)
		return -errno;
	*ret = (struct memory_look){.dev = makedev(file.stx_dev_major, file.stx_dev_minor),
		.ino = file.stx_ino,
		.size = file.stx_size,
		.there = file.stx_blocks * 512};
	return 0;
}

enum memory_file_kind memory_file_kind(int fd)
{
	struct statfs fs;

	/* Only the kernel's own two can be sealed; after that fstatfs() asks nobody else. */
	if (fcntl(fd, F_GET_SEALS) < 0 || fstatfs(fd, &fs) < 0)
		return MEMORY_FILE_OTHER;
	if (fs.f_type == HUGETLBFS_MAGIC)
		return MEMORY_FILE_HUGE;
	return fs.f_type == TMPFS_MAGIC ? MEMORY_FILE_SHARED : MEMORY_FILE_OTHER;
}
