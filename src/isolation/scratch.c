/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A file system in memory that only this process sees: a detached mount, reached through its
 * descriptor alone. It can be made only while the process has capabilities in its user namespace,
 * and only a mount bounds what is written to files whose names a library chooses.
 */

#include "isolation/internal.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <unistd.h>

#define SCRATCH_INODES "64"

static int scratch_number(int fs, const char *key, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	return fsconfig(fs, FSCONFIG_SET_STRING, key, text, 0);
}

int isolation_make_scratch(const struct isolation *iso, uint64_t bytes)
{
	const unsigned flags = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
	cleanup_close int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);

	if (fs < 0)
		return -errno;
	if (scratch_number(fs, "size", bytes) < 0 ||
		fsconfig(fs, FSCONFIG_SET_STRING, "nr_inodes", SCRATCH_INODES, 0) < 0 ||
		fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0700", 0) < 0)
		return -errno;
	/* Started by a user, it is that user's already. */
	if (iso->root && (scratch_number(fs, "uid", iso->uid) < 0 ||
				 scratch_number(fs, "gid", iso->gid) < 0))
		return -errno;
	if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -errno;
	int fd = fsmount(fs, FSMOUNT_CLOEXEC, flags);
	return fd < 0 ? -errno : fd;
}

int isolation_take_scratch(struct isolation *iso)
{
	int fd = iso->scratch;

	iso->scratch = -ENOENT;
	return fd;
}
