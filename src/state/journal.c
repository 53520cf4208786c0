/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Theory of operation
 *
 * The whole limit is mapped at once and the file behind it grows, so nothing that was given out
 * ever moves. Its pages are allocated as it grows: memory that runs out is an error here and no
 * signal later.
 *
 * Entries are records and payloads, both with the same header, each at a multiple of 8. What counts
 * is what `committed` says, stored last.
 *
 * A record that crashes its executor is known after the second time. A driver crashes long after it
 * was given the work, so the first time only tells from where on its records are *suspect*: those
 * that it had not `finished`. In the replay these are run one at a time, with the driver idle in
 * between; `replaying` names the one that is run, and is cleared when the replay is over. Who
 * begins a replay after a crash and finds it set knows which one it was: if it is a suspect, it
 * goes onto the list of those that are skipped. If it is none, whatever came before may have done
 * it, and all are suspects from then on. Suspicion ends with a replay that does not crash. A replay
 * that was killed from outside proves nothing and changes nothing.
 */

#include "state/journal.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/crash_point.h"
#include "base/iov.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define JOURNAL_MAGIC   0x4e4a5056u /* "VPJN" */
#define JOURNAL_VERSION 2u
#define JOURNAL_SKIPS   16u
#define HEADER_PAGE     4096u
#define FIRST_STEP      (64ull << 10)
#define LARGEST_STEP    (1ull << 20)
#define DUE_MARGIN      (64ull << 10)
#define LIMIT_MAX       (64ull << 30)
#define PAYLOAD         0x80000000u /* kind of an entry that is a payload */

struct journal_page {
	uint32_t magic, version;
	uint64_t committed, executed; /* bytes of entries */
	uint64_t replaying;           /* offset + 1 of the record being run again; 0: none */
	uint64_t finished;            /* bytes of entries that the driver is through with */
	uint64_t suspect;             /* offset + 1 of the first record that is; 0: none is */
	uint32_t n_skips, pad;
	uint64_t skips[JOURNAL_SKIPS]; /* offset + 1 */
};

struct entry {
	uint32_t kind, source;
	uint64_t position;
	uint64_t size; /* of what follows; the next entry comes at the next multiple of 8 */
};

struct journal {
	int fd;
	uint64_t limit, capacity; /* bytes of entries; capacity: that the file has room for */
	uint64_t committed;       /* ours: the page is only written, once it is open */
	uint64_t cursor;          /* reading: the next entry */
	bool in_record;           /* what comes next may be its payload */
	bool gap;                 /* a payload found no room: it cannot be run again */
	bool opened;              /* a predecessor's */
	struct journal_page *page;
	uint64_t *watched; /* since when it is busy is told there; NULL: nowhere */
	uint8_t *entries;
	uint64_t suspect; /* as in the page */
	uint32_t n_skips;
	uint64_t skips[JOURNAL_SKIPS];
};

_Static_assert(sizeof(struct journal_page) <= HEADER_PAGE, "one page");
_Static_assert(sizeof(struct entry) == 24, "entries stay aligned");

#define STORE(field, value) __atomic_store_n(&(field), (value), __ATOMIC_RELEASE)
#define LOAD(field)         __atomic_load_n(&(field), __ATOMIC_ACQUIRE)

/* ---- memory ---- */

static int journal_map(struct journal *j)
{
	void *p = mmap(NULL, HEADER_PAGE + j->limit, PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_NORESERVE, j->fd, 0);
	if (p == MAP_FAILED || !p)
		return -ENOMEM;
	j->page = p;
	j->entries = (uint8_t *)p + HEADER_PAGE;
	return 0;
}

static int journal_grow(struct journal *j, uint64_t need)
{
	uint64_t step = j->capacity ? MIN(j->capacity, LARGEST_STEP) : FIRST_STEP;
	uint64_t capacity = MIN(MAX(j->capacity + step, (need + 4095) & ~4095ull), j->limit);
	uint64_t from = j->capacity ? HEADER_PAGE + j->capacity : 0;

	if (fallocate(j->fd, 0, (off_t)from, (off_t)(HEADER_PAGE + capacity - from)) < 0)
		return -ENOSPC;
	/* All at once costs a fraction of one fault a page; a kernel that cannot faults as ever. */
	madvise((uint8_t *)j->page + from, HEADER_PAGE + capacity - from, MADV_POPULATE_WRITE);
	j->capacity = capacity;
	return 0;
}

void journal_trim(struct journal *j)
{
	uint64_t keep = HEADER_PAGE + MAX((j->committed + 4095) & ~4095ull, FIRST_STEP);
	struct stat st;

	/* Up to the file's end: of what a predecessor had, `capacity` does not tell. */
	if (fstat(j->fd, &st) < 0 || (uint64_t)st.st_size <= keep ||
		fallocate(j->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)keep,
			st.st_size - (off_t)keep) < 0)
		return;
	j->capacity = MIN(j->capacity, keep - HEADER_PAGE);
}

static int journal_new(int fd, uint64_t limit, struct journal **ret)
{
	if (limit > LIMIT_MAX)
		return -EFBIG;
	struct journal *j = calloc(1, sizeof(*j));
	if (!j)
		return -ENOMEM;
	/* It outlives the caller's descriptor, which may go into custody and be closed. */
	j->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	j->limit = (MAX(limit, FIRST_STEP) + 4095) & ~4095ull;
	int err = j->fd < 0 ? -EMFILE : journal_map(j);
	if (err) {
		journal_destroy(j);
		return err;
	}
	*ret = j;
	return 0;
}

int journal_create(uint64_t limit, int *ret_fd, struct journal **ret)
{
	cleanup_close int fd = memfd_create("journal", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct journal *j;

	if (fd < 0)
		return -errno;
	int err = journal_new(fd, limit, &j);
	if (err)
		return err;
	err = journal_grow(j, 0);
	if (!err && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
		err = -errno;
	if (err) {
		journal_destroy(j);
		return err;
	}
	j->page->version = JOURNAL_VERSION;
	STORE(j->page->magic, JOURNAL_MAGIC);
	*ret_fd = TAKE_FD(fd);
	*ret = j;
	return 0;
}

static int journal_check(struct journal *j, uint64_t size)
{
	if (size < HEADER_PAGE || LOAD(j->page->magic) != JOURNAL_MAGIC)
		return -EINVAL;
	if (j->page->version != JOURNAL_VERSION)
		return -ENOTSUP;
	j->committed = LOAD(j->page->committed);
	if (j->committed > size - HEADER_PAGE || j->committed & 7)
		return -EBADMSG;
	/* What is behind may have been given back, and is found anew when it is needed. */
	j->capacity = MIN((j->committed + 4095) & ~4095ull, size - HEADER_PAGE);
	j->n_skips = LOAD(j->page->n_skips);
	if (j->n_skips > JOURNAL_SKIPS)
		return -EBADMSG;
	memcpy(j->skips, j->page->skips, sizeof(j->skips));
	return 0;
}

int journal_open(int fd, uint64_t limit, struct journal **ret)
{
	struct journal *j;
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(fd, &st) < 0)
		return -EINVAL;
	uint64_t size = (uint64_t)st.st_size;
	if (size < HEADER_PAGE)
		return -EINVAL;
	int err = journal_new(fd, MAX(limit, size - HEADER_PAGE), &j);
	if (err)
		return err;
	err = journal_check(j, size);
	if (err) {
		journal_destroy(j);
		return err;
	}
	j->opened = true;
	*ret = j;
	return 0;
}

void journal_destroy(struct journal *j)
{
	if (!j)
		return;
	if (j->page)
		munmap(j->page, HEADER_PAGE + j->limit);
	close_fd(&j->fd);
	free(j);
}

int journal_reset(struct journal *j)
{
	if (j->opened)
		return -EINVAL;
	j->committed = j->cursor = j->suspect = 0;
	j->in_record = j->gap = false;
	j->n_skips = 0;
	memset(j->skips, 0, sizeof(j->skips));
	*j->page = (struct journal_page){.magic = JOURNAL_MAGIC, .version = JOURNAL_VERSION};
	return 0;
}

/* ---- writing ---- */

static inline uint64_t entry_size(uint64_t size)
{
	return sizeof(struct entry) + ((size + 7) & ~7ull);
}

/* Room for an entry, or NULL. */
static struct entry *entry_begin(struct journal *j, uint64_t size)
{
	if (size > j->limit || entry_size(size) > j->limit - j->committed)
		return NULL;
	uint64_t end = j->committed + entry_size(size);
	if (__builtin_expect(end > j->capacity, 0) && journal_grow(j, end))
		return NULL;
	return (struct entry *)(j->entries + j->committed);
}

static void entry_commit(struct journal *j, uint64_t size)
{
	j->committed += entry_size(size);
	STORE(j->page->committed, j->committed);
}

int journal_record(struct journal *j, enum journal_kind kind, uint32_t source, uint64_t position,
	const struct iovec *parts, unsigned n_parts)
{
	if (!j)
		return 0;
	uint64_t size = iov_size(parts, n_parts);
	struct entry *e = entry_begin(j, size);
	if (!e)
		return -ENOSPC;
	*e = (struct entry){kind, source, position, size};
	uint8_t *at = (uint8_t *)(e + 1);
	for (unsigned i = 0; i < n_parts; i++) {
		if (parts[i].iov_len)
			memcpy(at, parts[i].iov_base, parts[i].iov_len);
		at += parts[i].iov_len;
	}
	entry_commit(j, size);
	crash_point(CRASH_POINT_RECORDED);
	return 0;
}

const void *journal_payload(
	struct journal *j, const struct iovec *iov, unsigned n_iov, uint64_t at, size_t size)
{
	if (!j)
		return NULL;
	struct entry *e = entry_begin(j, size);
	if (!e) {
		j->gap = true;
		return NULL;
	}
	*e = (struct entry){.kind = PAYLOAD, .size = size};
	if (iov_read(iov, n_iov, at, e + 1, size) != size) {
		j->gap = true;
		return NULL;
	}
	entry_commit(j, size);
	return e + 1;
}

void journal_executed(struct journal *j)
{
	if (!j)
		return;
	STORE(j->page->executed, j->committed);
	crash_point(CRASH_POINT_EXECUTED);
}

uint64_t journal_mark(const struct journal *j)
{
	return LOAD(j->page->executed);
}

void journal_finished(struct journal *j, uint64_t mark)
{
	STORE(j->page->finished, mark);
}

bool journal_due(const struct journal *j, size_t size)
{
	uint64_t need;

	if (!j)
		return false;
	return j->gap || !checked_add(size, DUE_MARGIN, &need) || need > j->limit - j->committed;
}

uint64_t journal_bytes(const struct journal *j)
{
	return j ? j->committed : 0;
}

uint64_t journal_room(const struct journal *j)
{
	return j->capacity;
}

void journal_busy(struct journal *j, uint64_t since)
{
	if (j && j->watched)
		STORE(*j->watched, since);
}

void journal_watch(struct journal *j, uint64_t *busy_since)
{
	j->watched = busy_since;
}

/* ---- reading ---- */

/* The entry at the cursor: 1, 0 at the end, -EBADMSG. */
static int entry_next(const struct journal *j, struct entry *ret)
{
	uint64_t left = j->committed - j->cursor;

	if (!left)
		return 0;
	if (left < sizeof(*ret))
		return -EBADMSG;
	memcpy(ret, j->entries + j->cursor, sizeof(*ret));
	if (ret->size > left || entry_size(ret->size) > left)
		return -EBADMSG;
	return 1;
}

static bool is_skipped(const struct journal *j, uint64_t offset)
{
	for (uint32_t i = 0; i < j->n_skips; i++)
		if (j->skips[i] == offset + 1)
			return true;
	return false;
}

int journal_next(struct journal *j, struct journal_record *ret)
{
	struct entry e;
	int r = entry_next(j, &e);

	for (; r == 1 && e.kind == PAYLOAD && j->in_record; r = entry_next(j, &e))
		j->cursor += entry_size(e.size);
	if (r != 1)
		return r;
	if (e.kind < JOURNAL_CONNECT || e.kind >= JOURNAL_KIND_COUNT)
		return -EBADMSG;
	*ret = (struct journal_record){
		.kind = e.kind,
		.source = e.source,
		.position = e.position,
		.offset = j->cursor,
		.executed = LOAD(j->page->executed) > j->cursor,
		.careful = j->suspect && j->cursor + 1 >= j->suspect,
		.skip = is_skipped(j, j->cursor),
		.bytes = j->entries + j->cursor + sizeof(e),
		.size = e.size,
	};
	j->cursor += entry_size(e.size);
	j->in_record = true;
	return 1;
}

const void *journal_next_payload(struct journal *j, size_t *ret_size)
{
	struct entry e;

	if (!j || !j->in_record || entry_next(j, &e) != 1 || e.kind != PAYLOAD)
		return NULL;
	const void *bytes = j->entries + j->cursor + sizeof(e);
	j->cursor += entry_size(e.size);
	*ret_size = e.size;
	return bytes;
}

static int journal_skip(struct journal *j, uint64_t crashed)
{
	if (is_skipped(j, crashed - 1))
		return 0;
	if (j->n_skips == JOURNAL_SKIPS)
		return -ENOTRECOVERABLE;
	j->skips[j->n_skips] = crashed;
	j->page->skips[j->n_skips] = crashed;
	STORE(j->page->n_skips, ++j->n_skips);
	return 0;
}

/* The first suspect, when the one that ended was not running the journal again. */
static uint64_t journal_unfinished(const struct journal *j)
{
	uint64_t finished = LOAD(j->page->finished);

	/* Crashed with nothing to do: then by something that seemed to be done. */
	return finished < j->committed ? finished + 1 : 1;
}

int journal_begin_replay(struct journal *j, bool blame)
{
	struct journal_page *page = j->page;
	uint64_t crashed = LOAD(page->replaying), suspect = LOAD(page->suspect);
	int err = 0;

	if (blame && !crashed)
		suspect = MIN(suspect ?: UINT64_MAX, journal_unfinished(j));
	else if (blame && suspect && crashed >= suspect)
		err = journal_skip(j, crashed);
	else if (blame)
		suspect = 1;
	/* First forget what was run: this process may end between the two. */
	STORE(page->replaying, 0);
	STORE(page->suspect, suspect);
	j->suspect = suspect;
	return err;
}

void journal_replaying(struct journal *j, const struct journal_record *record)
{
	STORE(j->page->replaying, record->offset + 1);
}

void journal_end_replay(struct journal *j)
{
	STORE(j->page->finished, j->committed);
	STORE(j->page->suspect, 0);
	STORE(j->page->replaying, 0);
}
