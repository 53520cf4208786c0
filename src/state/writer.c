/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Theory of operation
 *
 * An image is a memfd that is mapped as it grows: a section is written where it stays, its header
 * last. It cannot shrink once it is begun, so a reader may map it too; what lies behind END is
 * nothing.
 *
 * A file gets a section at a time: the payload is collected, compressed if that pays, and written
 * with its CRC. Nothing is sought, so it may be a pipe.
 */

#include "state/section.h"

#include "state/internal.h"

#include "base/checked.h"
#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zstd.h>

#define SECTION_VERSION   1u
#define COMPRESS_LEVEL    1
#define COMPRESS_AT_LEAST 128u /* bytes; less is not worth a frame */
#define GROW_AT_LEAST     (4ull << 20)
#define HEADER_SIZE       sizeof(struct state_section_header)

struct state_writer {
	enum state_kind kind;
	int fd, error;
	bool open; /* between state_begin() and state_end() */
	enum state_section_type type;
	uint64_t written; /* whole sections, with their headers */
	uint64_t sections;
	uint32_t chain;
	/* An image: the mapping. A file: the section. Either way the payload of the open section
	 * begins at `start`. */
	uint8_t *bytes;
	uint64_t capacity, start, size;
	uint8_t *packed; /* a file: room for the compressed section */
	uint64_t packed_capacity;
	ZSTD_CCtx *zstd;
};

static void fail(struct state_writer *w, int error)
{
	if (!w->error)
		w->error = error;
}

/* ---- memory ---- */

static int grow_image(struct state_writer *w, uint64_t capacity)
{
	void *p;

	capacity = (capacity + 4095) & ~4095ull;
	if (ftruncate(w->fd, (off_t)capacity) < 0)
		return -errno;
	if (w->bytes)
		p = mremap(w->bytes, w->capacity, capacity, MREMAP_MAYMOVE);
	else
		p = mmap(NULL, capacity, PROT_READ | PROT_WRITE, MAP_SHARED, w->fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	w->bytes = p;
	w->capacity = capacity;
	return 0;
}

static int grow_buffer(struct state_writer *w, uint64_t capacity)
{
	void *p = realloc(w->bytes, capacity);
	if (!p)
		return -ENOMEM;
	w->bytes = p;
	w->capacity = capacity;
	return 0;
}

/* Room for n bytes at offset `at` of w->bytes. */
static int make_room(struct state_writer *w, uint64_t at, uint64_t n)
{
	uint64_t need = at + n; /* both are below STATE_TOTAL_MAX + STATE_SECTION_MAX */

	if (need <= w->capacity)
		return 0;
	uint64_t more = w->capacity + MAX(w->capacity / 2, GROW_AT_LEAST);
	if (w->kind == STATE_IMAGE)
		return grow_image(w, MAX(need, more));
	/* A short section is the rule: no 4 MiB for it. */
	return grow_buffer(w, MAX(need, MAX(2 * w->capacity, 65536)));
}

/* ---- the file ---- */

static void write_all(struct state_writer *w, const void *bytes, uint64_t n)
{
	const uint8_t *at = bytes;

	while (n && !w->error) {
		ssize_t done = write(w->fd, at, MIN(n, 1ull << 30));
		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0) {
			fail(w, done < 0 ? -errno : -EIO);
			return;
		}
		at += done;
		n -= (uint64_t)done;
	}
}

/* The compressed payload's size, or 0: it is to be stored as it is. */
static uint64_t compress_section(struct state_writer *w)
{
	uint64_t most = w->size - w->size / 20;

	if (w->size < COMPRESS_AT_LEAST || w->type == STATE_END)
		return 0;
	if (!w->zstd)
		w->zstd = ZSTD_createCCtx();
	if (w->packed_capacity < most) {
		free(w->packed);
		w->packed = malloc(most);
		w->packed_capacity = w->packed ? most : 0;
	}
	if (!w->zstd || !w->packed)
		return 0;
	/* `most` makes it give up as soon as it is known not to pay. */
	size_t n = ZSTD_compressCCtx(
		w->zstd, w->packed, most, w->bytes + w->start, w->size, COMPRESS_LEVEL);
	return ZSTD_isError(n) ? 0 : n;
}

static void write_section(struct state_writer *w, struct state_section_header *h)
{
	static const uint8_t zeros[8];
	uint64_t packed = compress_section(w);
	const void *stored = packed ? w->packed : w->bytes + w->start;

	h->flags |= STATE_CRC;
	if (packed) {
		h->flags |= STATE_ZSTD;
		h->stored_size = packed;
	}
	h->crc = crc32c(0, stored, h->stored_size);
	h->header_crc = crc32c(0, h, STATE_HEADER_CHECKED);
	write_all(w, h, sizeof(*h));
	write_all(w, stored, h->stored_size);
	write_all(w, zeros, state_padding(h->stored_size));
}

static void keep_section(struct state_writer *w, const struct state_section_header *h)
{
	uint64_t padding = state_padding(w->size);
	int err = make_room(w, w->start + w->size, padding);

	if (err) {
		fail(w, err);
		return;
	}
	memset(w->bytes + w->start + w->size, 0, padding);
	memcpy(w->bytes + w->start - sizeof(*h), h, sizeof(*h));
}

/* ---- interface ---- */

static int seal(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0)
		return -errno;
	if (seals & F_SEAL_SHRINK)
		return 0;
	return fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) < 0 ? -errno : 0;
}

static void write_header(struct state_writer *w)
{
	struct state_header h = {
		.magic = STATE_MAGIC,
		.major = STATE_MAJOR,
		.minor = STATE_MINOR,
		.byte_order = STATE_BYTE_ORDER,
	};

	w->chain = crc32c(0, &h, sizeof(h));
	if (w->kind == STATE_FILE) {
		write_all(w, &h, sizeof(h));
	} else {
		int err = make_room(w, 0, sizeof(h));
		if (err)
			fail(w, err);
		else
			memcpy(w->bytes, &h, sizeof(h));
	}
	w->written = sizeof(h);
}

int state_writer_create(enum state_kind kind, int fd, struct state_writer **ret)
{
	int err = kind == STATE_IMAGE ? seal(fd) : 0;

	if (err)
		return err;
	struct state_writer *w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->kind = kind;
	w->fd = fd;
	write_header(w);
	if (w->error) {
		err = w->error;
		state_writer_destroy(w);
		return err;
	}
	*ret = w;
	return 0;
}

void state_writer_destroy(struct state_writer *w)
{
	if (!w)
		return;
	if (w->kind == STATE_IMAGE && w->bytes)
		munmap(w->bytes, w->capacity);
	else
		free(w->bytes);
	free(w->packed);
	ZSTD_freeCCtx(w->zstd);
	free(w);
}

void state_begin(struct state_writer *w, enum state_section_type type)
{
	if (w->error)
		return;
	if (w->open) {
		fail(w, -EINVAL);
		return;
	}
	w->open = true;
	w->type = type;
	w->size = 0;
	w->start = w->kind == STATE_IMAGE ? w->written + HEADER_SIZE : 0;
	int err = make_room(w, w->start, 0);
	if (err)
		fail(w, err);
}

void *state_reserve(struct state_writer *w, size_t n)
{
	if (!w->error && !w->open)
		fail(w, -EINVAL);
	if (!w->error && (n > STATE_SECTION_MAX - w->size ||
				 w->written + w->size + n > STATE_TOTAL_MAX - (1u << 20)))
		fail(w, -EFBIG);
	if (!w->error) {
		/* At least a byte, so that what is returned is never NULL without an error. */
		int err = make_room(w, w->start + w->size, MAX(n, 1));
		if (err)
			fail(w, err);
	}
	if (w->error)
		return NULL;
	void *p = w->bytes + w->start + w->size;
	w->size += n;
	return p;
}

void state_put(struct state_writer *w, const void *bytes, size_t n)
{
	void *p = state_reserve(w, n);
	if (p && n)
		memcpy(p, bytes, n);
}

void state_put_u32(struct state_writer *w, uint32_t value)
{
	state_put(w, &value, sizeof(value));
}

void state_put_u64(struct state_writer *w, uint64_t value)
{
	state_put(w, &value, sizeof(value));
}

void state_put_text(struct state_writer *w, const char *text)
{
	size_t n = strlen(text);
	state_put_u32(w, (uint32_t)n);
	state_put(w, text, n);
}

static bool is_critical(enum state_section_type type)
{
	static const uint8_t critical[] = {
#define X(number, name, is, help) [number] = (is),
		STATE_SECTIONS(X)
#undef X
	};
	return (size_t)type >= ARRAY_SIZE(critical) || critical[type];
}

void state_end(struct state_writer *w)
{
	struct state_section_header h = {
		.type = w->type,
		.version = SECTION_VERSION,
		.flags = is_critical(w->type) ? STATE_CRITICAL : 0,
		.stored_size = w->size,
		.size = w->size,
	};

	if (w->error)
		return;
	if (!w->open) {
		fail(w, -EINVAL);
		return;
	}
	if (w->kind == STATE_FILE)
		write_section(w, &h);
	else
		keep_section(w, &h);
	w->open = false;
	w->chain = state_chain(w->chain, &h);
	w->sections++;
	w->written += sizeof(h) + h.stored_size + state_padding(h.stored_size);
}

void state_abandon(struct state_writer *w)
{
	w->open = false;
	w->size = 0;
}

int state_finish(struct state_writer *w)
{
	struct state_trailer trailer = {.sections = w->sections, .crc = w->chain};

	state_begin(w, STATE_END);
	state_put(w, &trailer, STATE_TRAILER_SIZE);
	state_end(w);
	return w->error;
}

int state_error(const struct state_writer *w)
{
	return w->error;
}

uint64_t state_written(const struct state_writer *w)
{
	return w->written;
}
