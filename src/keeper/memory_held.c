/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper/memory_held.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/parse.h"
#include "keeper/memory_file.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define STEP_BYTES (64ull << 20)
#define MIB        (1ull << 20)

int holder_fail(struct holder *h, int code, const char *format, ...)
{
	va_list args;

	if (h->code)
		return code;
	h->code = code;
	va_start(args, format);
	vsnprintf(h->text, sizeof(h->text), format, args);
	va_end(args);
	return code;
}

unsigned long long holder_mib(uint64_t bytes)
{
	return (unsigned long long)((bytes + MIB - 1) / MIB);
}

uint64_t holder_bytes(const struct holder *h)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < KEEPER_MAX_MEMORY; i++)
		sum += h->held[i].fd >= 0 ? h->held[i].size : 0;
	return sum;
}

/* --- mapping and locking --- */

static int lock_refused(struct holder *h, const struct held *held, int code)
{
	struct rlimit limit;

	if (code != EPERM && code != ENOMEM && code != EAGAIN)
		return holder_fail(h, -code, "it cannot be locked: %s", strerror(code));
	if (getrlimit(RLIMIT_MEMLOCK, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
		return holder_fail(h, -code,
			"%llu MiB are to be locked and vgpud may lock %llu KiB (raise "
			"LimitMEMLOCK= of its service, or turn over-commit off)",
			holder_mib(holder_bytes(h)), (unsigned long long)limit.rlim_cur >> 10);
	return holder_fail(h, -code, "%llu MiB cannot be locked: %s (free some memory)",
		holder_mib(held->size), strerror(code));
}

static int held_check(struct holder *h, struct held *held)
{
	enum memory_file_kind kind = memory_file_kind(held->fd);
	uint64_t page = (uint64_t)MAX(sysconf(_SC_PAGESIZE), 1L);
	struct memory_look file;

	if (kind == MEMORY_FILE_OTHER)
		return holder_fail(h, -EMEDIUMTYPE,
			"its memory is a file on a disk, of which nothing can be locked (use "
			"memory-backend-memfd, or source type='memfd')");
	int r = memory_file_look(held->fd, &file);
	if (r < 0)
		return holder_fail(h, r, "its memory cannot be looked at: %s", strerror(-r));
	if (file.dev != held->dev || file.ino != held->ino || file.size != held->size)
		return holder_fail(h, -ESTALE, "a file of its memory changed its size meanwhile");
	if (held->size % page)
		return holder_fail(h, -EINVAL,
			"a file of its memory has %llu bytes, and only whole pages of %llu can be "
			"locked (give the VM a whole number of MiB)",
			(unsigned long long)held->size, (unsigned long long)page);
	held->huge = kind == MEMORY_FILE_HUGE;
	return 0;
}

int held_map(struct holder *h, struct held *held)
{
	int r = held_check(h, held);
	if (r < 0)
		return r;
	held->map = mmap(
		NULL, held->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, held->fd, 0);
	if (held->map == MAP_FAILED)
		return holder_fail(h, -errno, "it cannot be mapped: %s", strerror(errno));
	if (!held->huge && mlock2(held->map, held->size, MLOCK_ONFAULT) < 0)
		return lock_refused(h, held, errno);
	return 0;
}

void held_drop(struct held *held)
{
	if (held->map && held->map != MAP_FAILED)
		munmap(held->map, held->size);
	close_fd(&held->fd);
	*held = (struct held){.fd = -1};
}

/* --- making pages --- */

/* A number behind `key` in a file of /proc; false: it is not there. */
static bool proc_number(const char *path, const char *key, uint64_t *ret)
{
	char line[256];

	cleanup_fclose FILE *f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		const char *at = line + strlen(key);
		if (!strncmp(line, key, strlen(key)) && parse_next(&at, 10, UINT64_MAX, ret))
			return true;
	}
	return false;
}

static int populate_refused(struct holder *h, const struct held *held, uint64_t done, int code)
{
	if (code == EINVAL)
		return holder_fail(
			h, -code, "this kernel cannot populate shared memory (run 5.14 or newer)");
	if (held->huge)
		return holder_fail(h, -ENOMEM,
			"there are no huge pages for %llu of its %llu MiB (raise nr_hugepages)",
			holder_mib(held->size - done), holder_mib(held->size));
	if (code == EFAULT)
		return holder_fail(h, -code, "a file of its memory was cut short meanwhile");
	return holder_fail(h, -code,
		"the node has no memory for %llu of its %llu MiB: %s (end something, or turn "
		"over-commit off)",
		holder_mib(held->size - done), holder_mib(held->size), strerror(code));
}

static int step_allowed(struct holder *h, const struct held *held, uint64_t done, uint64_t end_ms)
{
	uint64_t kib;

	if (clock_ms() >= end_ms)
		return holder_fail(h, -ETIMEDOUT,
			"after %llu s only %llu of its %llu MiB were resident (start it with its "
			"memory preallocated, or raise lock_timeout_s)",
			(unsigned long long)h->timeout_ms / 1000, holder_mib(done),
			holder_mib(held->size));
	if (!held->huge && proc_number("/proc/meminfo", "MemAvailable:", &kib) &&
		kib << 10 < h->keep_free)
		return holder_fail(h, -ENOMEM,
			"the node ran out of memory when %llu of its %llu MiB were resident (end "
			"something, or turn over-commit off)",
			holder_mib(done), holder_mib(held->size));
	return 0;
}

int held_populate(struct holder *h, struct held *held, uint64_t end_ms)
{
	for (uint64_t done = 0; done < held->size;) {
		uint64_t n = MIN(held->size - done, STEP_BYTES);
		int r = step_allowed(h, held, done, end_ms);
		if (r < 0)
			return r;
		if (madvise((char *)held->map + done, n, MADV_POPULATE_WRITE) == 0)
			done += n;
		else if (errno != EAGAIN && errno != EINTR)
			return populate_refused(h, held, done, errno);
	}
	held->populated = true;
	return 0;
}
