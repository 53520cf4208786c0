/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_STATE_JOURNAL_H
#define VGPU_STATE_JOURNAL_H

/*
 * Everything that came into a device process since the last image, in shared memory that outlives
 * it: a successor loads the image, runs the journal again, and is where its predecessor was.
 *
 *   header page   committed: bytes of entries that count; executed: up to where effects are done
 *   entries       record [payload …] record [payload …] …
 *
 * A *record* is one message of a client or the guest, whole, written before it is executed. A
 * *payload* is what its execution read from memory that the client can change: it is written before
 * it is used, and executing uses the copy. Both count from the moment `committed` is stored, which
 * is one store, so a process that is killed leaves whole entries only.
 *
 * What is executed but not marked so is executed again: effects on the outside (answers, guest
 * memory) between the two must be ones that can be repeated. `executed` is stored before an answer
 * is given.
 *
 * One thread writes. A journal that is read was written by another process, which may have been
 * taken over: every length is checked, and a page fault on it is no worse than the process' end
 * (it is sealed against shrinking).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct journal;

enum journal_kind {
	JOURNAL_CONNECT = 1, /* struct keeper_connection: source = its id */
	JOURNAL_CLOSE,       /* a connection ended: source = its id */
	JOURNAL_VTEST,       /* a vtest message, header included */
	JOURNAL_VTEST_EARLY, /* a RESOURCE_CREATE2 answered ahead of its turn */
	JOURNAL_VTEST_SKIP,  /* bytes already handled by a JOURNAL_VTEST_EARLY are consumed */
	JOURNAL_VHOST_USER,  /* a vhost-user message without its descriptors */
	JOURNAL_REQUEST, /* a virtio request: u32 queue, u32 head, then its device-readable bytes */
	JOURNAL_DISPLAY, /* what the viewer answered */
	JOURNAL_KIND_COUNT
};

struct journal_record {
	enum journal_kind kind;
	uint32_t source;   /* connection */
	uint64_t position; /* the source's own: bytes consumed by then, … */
	uint64_t offset;   /* of this record in the journal; rises */
	bool executed;     /* its effects on the outside are done */
	bool careful;      /* it may have: wait for the driver before and after it */
	bool skip;         /* it has crashed its executor twice: lose its context instead */
	const void *bytes; /* valid until the journal is destroyed */
	size_t size;
};

/* Makes a sealed memfd of at most `limit` bytes, grown as needed; *ret_fd is the caller's. */
int journal_create(uint64_t limit, int *ret_fd, struct journal **ret);
/*
 * One that a predecessor wrote: read it to its end, then it can be written on. -EINVAL no journal,
 * -ENOTSUP of another version, -EBADMSG damaged. `fd` stays the caller's here too.
 */
int journal_open(int fd, uint64_t limit, struct journal **ret);
void journal_destroy(struct journal *j); /* NULL-safe; the memory stays who else holds it */
/*
 * Nobody needs what is in it any more: empty again, with its memory, which is what a new one would
 * have to find and to clear. -EINVAL: it was opened, so somebody else may know its memory.
 */
int journal_reset(struct journal *j);
/* Gives back the memory that it has for more; what comes next finds it anew. */
void journal_trim(struct journal *j);

/* ---- writing; j may be NULL: then nothing is kept and payloads are not copied ---- */

/* -ENOSPC: full; the caller makes a new image first. */
int journal_record(struct journal *j, enum journal_kind kind, uint32_t source, uint64_t position,
	const struct iovec *parts, unsigned n_parts);
/*
 * Copies `size` bytes from offset `at` of a scatter list as a payload of the record written last,
 * and returns the copy; NULL when there is no room or no journal.
 */
const void *journal_payload(
	struct journal *j, const struct iovec *iov, unsigned n_iov, uint64_t at, size_t size);
/* Everything so far is executed. */
void journal_executed(struct journal *j);
/*
 * How far the driver, which works on after a record was executed, is through with them: a mark of
 * what is executed now, told when all work given to the driver until now is done. A journal that
 * was told nothing may have been crashed by any of its records.
 */
uint64_t journal_mark(const struct journal *j);
void journal_finished(struct journal *j, uint64_t mark);
/*
 * There is not room for `size` more bytes, or so much was written that a new image is due, or a
 * payload found no room: what is recorded from then on cannot be run again.
 */
bool journal_due(const struct journal *j, size_t size);
uint64_t journal_bytes(const struct journal *j);
uint64_t journal_room(const struct journal *j); /* bytes that it has memory for */

/*
 * Who watches from outside (the keeper) sees since when this process has been at one thing: a time
 * of CLOCK_MONOTONIC in ns, 0 when idle.
 */
void journal_busy(struct journal *j, uint64_t since);
/* Where it is written; NULL (the default): nowhere. Not owned. */
void journal_watch(struct journal *j, uint64_t *busy_since);

/* ---- reading ---- */

/* 1, 0 at the end, -EBADMSG. */
int journal_next(struct journal *j, struct journal_record *ret);
/* The next payload of the record journal_next() gave: NULL when there is none (or it was cut off
 * by the end of the process, if the record is the last one). */
const void *journal_next_payload(struct journal *j, size_t *ret_size);

/*
 * Runs that crash. Called before replaying; `blame`: the predecessor ended by itself. What the
 * driver had not finished then is suspected of having ended it, and such records are `careful`, so
 * that the next crash names the right one, which is `skip` from then on. -ENOTRECOVERABLE: 16 are,
 * and it crashed again.
 */
int journal_begin_replay(struct journal *j, bool blame);
/* About to run this record; if it is careful, the driver is through with those before it. */
void journal_replaying(struct journal *j, const struct journal_record *record);
void journal_end_replay(struct journal *j); /* the driver is through with all of it */

#endif
