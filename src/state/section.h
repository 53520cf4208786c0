/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_STATE_SECTION_H
#define VGPU_STATE_SECTION_H

/*
 * Writes and reads protocol/state.h. Both keep the first error and make everything after it a
 * no-op, so that callers may write a whole section and ask once.
 *
 * The writer never holds more than one section in memory for a file, and nothing besides the image
 * itself for an image. The reader believes nothing: sizes are checked before anything is allocated,
 * a compressed section is unpacked within the size its header announced and STATE_SECTION_MAX.
 */

#include "protocol/state.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum state_kind {
	STATE_IMAGE, /* a memfd: sections as they are; what state_reserve() gives is the image */
	STATE_FILE,  /* zstd where it helps, CRCs; written in order, never sought, fsync is the
			caller's */
};

struct state_writer;

/*
 * `fd` stays the caller's; an image's memfd must be empty, writable and may be sealed against
 * shrinking; the file is written from its present offset.
 */
int state_writer_create(enum state_kind kind, int fd, struct state_writer **ret);
void state_writer_destroy(struct state_writer *w); /* NULL-safe */

void state_begin(struct state_writer *w, enum state_section_type type);
void state_put(struct state_writer *w, const void *bytes, size_t n);
void state_put_u32(struct state_writer *w, uint32_t value);
void state_put_u64(struct state_writer *w, uint64_t value);
void state_put_text(struct state_writer *w, const char *text); /* u32 length, bytes */
/* Room for n more bytes of the section, to be filled before the next call; NULL after an error. */
void *state_reserve(struct state_writer *w, size_t n);
void state_end(struct state_writer *w);
/* Drops the section begun last. */
void state_abandon(struct state_writer *w);

/* Writes END and everything outstanding. 0, or the first error: -ENOSPC, -ENOMEM, -EFBIG … */
int state_finish(struct state_writer *w);
int state_error(const struct state_writer *w);
uint64_t state_written(const struct state_writer *w); /* bytes so far, as stored */

struct state_reader;

/* Which sections a reader knows; others are skipped, or refused where critical. */
struct state_section {
	enum state_section_type type;
	uint16_t version;
	size_t size; /* of the payload */
};

/*
 * Of either kind, told by the sections' flags. `fd` stays the caller's; it is mapped if it is a
 * memfd sealed against shrinking, else read in order (a file that another process can truncate is
 * never mapped). -EINVAL no such format, -ENOTSUP a newer major version or another byte order.
 */
int state_reader_create(int fd, struct state_reader **ret);
void state_reader_destroy(struct state_reader *r); /* NULL-safe */

/*
 * The next known section: 1, or 0 after END was read and found right, or -errno: -EBADMSG damaged
 * or cut off, -ENOTSUP unknown and critical, -EFBIG too large, -ENOMEM. Why, for people:
 * state_reader_why(). Only 0 says that no section is missing.
 */
int state_next(struct state_reader *r, struct state_section *ret);
const char *state_reader_why(const struct state_reader *r);

/* Take what comes next in the section. Beyond its end they give 0, and state_bad() is true. */
uint32_t state_get_u32(struct state_reader *r);
uint64_t state_get_u64(struct state_reader *r);
void state_get(struct state_reader *r, void *ret, size_t n);
/* Terminated and cut to `size`; control characters become '?'. */
void state_get_text(struct state_reader *r, char *ret, size_t size);
/*
 * The next n bytes themselves, valid until the next state_next(); NULL beyond the end. In an image
 * those of CONTENT may still be changed by another process: do not check them and use them
 * afterwards.
 */
const void *state_take(struct state_reader *r, size_t n);
size_t state_left(const struct state_reader *r);
bool state_bad(const struct state_reader *r);

const char *state_section_name(uint32_t type); /* "UNKNOWN" */

#endif
