/* SPDX-License-Identifier: Apache-2.0 */
#include "process/resident.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

/* A sanitizer keeps more than the program does: with one, nothing is known. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STATM "/dev/null"
#else
#define STATM "/proc/self/statm"
#endif

int resident_open(struct resident *r)
{
	r->fd = open(STATM, O_RDONLY | O_CLOEXEC);
	return r->fd < 0 ? -errno : 0;
}

void resident_close(struct resident *r)
{
	close_fd(&r->fd);
}

uint64_t resident_bytes(void *data)
{
	const struct resident *r = data;
	char text[128], *at = text;
	ssize_t n = r->fd < 0 ? -1 : pread(r->fd, text, sizeof(text) - 1, 0);

	if (n <= 0)
		return 0;
	text[n] = '\0';
	strtoul(at, &at, 10); /* address space */
	uint64_t resident = strtoul(at, &at, 10), shared = strtoul(at, &at, 10);
	return shared < resident ? (resident - shared) * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}
