/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A journal as a predecessor that was taken over may leave it: the input is its header page (what
 * fits of it) and its entries. It is replayed and written on.
 */

#include "state/journal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PAGE = 4096, FIELDS = 192, LIMIT = 1 << 20 };

static int made(const uint8_t *data, size_t size)
{
	int fd = memfd_create("journal", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	size_t fields = size < FIELDS ? size : FIELDS;

	if (fd < 0 || ftruncate(fd, PAGE + (off_t)((size - fields + 7) & ~7ull)) < 0 ||
		pwrite(fd, data, fields, 0) < 0 ||
		pwrite(fd, data + fields, size - fields, PAGE) < 0 ||
		fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) < 0)
		abort();
	return fd;
}

static void touch(const void *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		(void)((const volatile uint8_t *)bytes)[i];
}

static void replay(struct journal *j)
{
	struct journal_record r;
	uint64_t last = 0;
	size_t n;
	int got;

	if (journal_begin_replay(j, true) < 0)
		return;
	while ((got = journal_next(j, &r)) == 1) {
		if (r.kind <= 0 || r.kind >= JOURNAL_KIND_COUNT || (last && r.offset <= last))
			abort();
		last = r.offset;
		journal_replaying(j, &r);
		touch(r.bytes, r.size);
		for (const void *p; !(r.source & 1) && (p = journal_next_payload(j, &n));)
			touch(p, n);
	}
	if (got < 0)
		return;
	journal_end_replay(j);
	struct iovec iov = {&last, sizeof(last)};
	uint64_t before = journal_bytes(j);
	if (journal_record(j, JOURNAL_VTEST, 1, 2, &iov, 1) == 0 &&
		(journal_next(j, &r) != 1 || r.offset != before || r.size != sizeof(last)))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct journal *j;
	int fd = made(data, size);

	for (unsigned round = 0; round < 3; round++) {
		if (journal_open(fd, LIMIT, &j) < 0)
			break;
		replay(j);
		journal_destroy(j);
	}
	close(fd);
	return 0;
}
