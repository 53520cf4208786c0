/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a device process found out about its GPU's formats, stored where its command line says, so
 * that the processes after it need not try them again: this keeper's, which it starts without
 * vgpud, and those of all others on that GPU.
 *
 * A process is believed until it is READY. From then on a guest may have taken it over, and what it
 * says could make other guests lose state: that breaks the protocol.
 */
#include "keeper/keeper.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Replaced as a whole: others read it at any moment. */
static int formats_replace(const char *path, const struct keeper_formats *told)
{
	char fresh[PATH_MAX];

	int n = snprintf(fresh, sizeof(fresh), "%s.XXXXXX", path);
	if (n < 0 || (size_t)n >= sizeof(fresh))
		return -ENAMETOOLONG;
	cleanup_close int fd = mkostemp(fresh, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ssize_t written = write(fd, told->bytes, told->size);
	int r = written < 0 ? -errno : written == (ssize_t)told->size ? 0 : -ENOSPC;
	if (r == 0 && rename(fresh, path) < 0)
		r = -errno;
	if (r < 0)
		unlink(fresh);
	return r;
}

const char *formats_store(struct device_process *d, const struct keeper_formats *told)
{
	const char *path = device_option(d, "--formats");

	if (d->ready)
		return "FORMATS came after READY";
	if (told->size > sizeof(told->bytes) || !path)
		return "FORMATS says more than was asked";
	int r = formats_replace(path, told);
	if (r < 0)
		log_warning("%s cannot be written, so the next device process tries all formats "
			    "again: %s",
			path, strerror(-r));
	return NULL;
}
