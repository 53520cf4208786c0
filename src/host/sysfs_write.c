/* SPDX-License-Identifier: Apache-2.0 */
#include "host/sysfs_write.h"

#include "base/cleanup.h"
#include "host/apart.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

struct request {
	const char *path, *text;
};

static int write_now(const void *data)
{
	const struct request *request = data;
	size_t len = strlen(request->text);

	cleanup_close int fd = open(request->path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	ssize_t n = write(fd, request->text, len);
	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -EIO;
}

int sysfs_write(const char *path, const char *text, unsigned limit_ms)
{
	const struct request request = {path, text};

	return strlen(text) > SYSFS_WRITE_MAX ? -E2BIG : apart_run(write_now, &request, limit_ms);
}
