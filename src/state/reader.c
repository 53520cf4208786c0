/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Theory of operation
 *
 * A section is taken whole, checked (sizes, CRC, unpacking), and then given out piece by piece. In
 * a mapped image bulk data is given out where it lies; every other section is copied first, because
 * its writer may still run and what was checked must not change before it is used.
 *
 * Nothing is believed before END was found right: state_next() says 0 only then. Until then a
 * section may be missing or be one too many, but each by itself is whole.
 */

#include "state/section.h"

#include "state/internal.h"

#include "base/checked.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#define SECTION_VERSION 1u
#define FLAGS_KNOWN     (STATE_CRITICAL | STATE_ZSTD | STATE_CRC)
/* A zstd block of 4 bytes makes at most 128 KiB: what claims more is not looked at. */
#define ZSTD_BEST_SHIFT 15

struct state_reader {
	int fd, result; /* 1: goes on; else what state_next() says from now on */
	const uint8_t *map;
	uint64_t map_size;
	uint64_t at, total; /* total: UINT64_MAX if fd does not tell */
	uint64_t sections;
	uint32_t chain;
	/* the section */
	const uint8_t *bytes;
	uint64_t size, taken;
	bool bad;
	uint8_t *stored, *unpacked; /* buffers, kept */
	uint64_t stored_capacity, unpacked_capacity;
	ZSTD_DCtx *zstd;
	char why[160];
};

static const char *const section_names[] = {
#define X(number, name, critical, help) [number] = #name,
	STATE_SECTIONS(X)
#undef X
};

const char *state_section_name(uint32_t type)
{
	if (type >= ARRAY_SIZE(section_names) || !section_names[type])
		return "UNKNOWN";
	return section_names[type];
}

__attribute__((format(printf, 3, 4))) static int refuse(
	struct state_reader *r, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(r->why, sizeof(r->why), format, args);
	va_end(args);
	r->bytes = NULL;
	r->size = r->taken = 0;
	r->result = error;
	return error;
}

static int cut_off(struct state_reader *r)
{
	return refuse(
		r, -EBADMSG, "it ends at byte %llu, in the middle", (unsigned long long)r->at);
}

/* ---- bytes ---- */

/* The next n bytes, advancing; a short read is damage, a failed one is its error. */
static int read_bytes(struct state_reader *r, void *ret, uint64_t n)
{
	uint8_t *at = ret;

	if (!range_inside(r->at, n, r->total))
		return cut_off(r);
	if (r->map) {
		memcpy(ret, r->map + r->at, n);
		r->at += n;
		return 0;
	}
	while (n) {
		ssize_t got = read(r->fd, at, MIN(n, 1ull << 30));
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return refuse(r, -errno, "it cannot be read: %s", strerror(errno));
		if (got == 0)
			return cut_off(r);
		at += got;
		n -= (uint64_t)got;
		r->at += (uint64_t)got;
	}
	return 0;
}

static int reserve(struct state_reader *r, uint8_t **buffer, uint64_t *capacity, uint64_t n)
{
	if (n <= *capacity)
		return 0;
	free(*buffer);
	*buffer = malloc(n);
	*capacity = *buffer ? n : 0;
	if (!*buffer)
		return refuse(r, -ENOMEM, "no memory for %llu bytes", (unsigned long long)n);
	return 0;
}

/* Buffers of one huge section are not kept for the small ones that follow. */
static void trim(uint8_t **buffer, uint64_t *capacity)
{
	if (*capacity <= 16u << 20)
		return;
	free(*buffer);
	*buffer = NULL;
	*capacity = 0;
}

/* ---- the header of all ---- */

static int check_header(struct state_reader *r, const struct state_header *h)
{
	if (memcmp(h->magic, STATE_MAGIC, sizeof(h->magic)) != 0)
		return refuse(r, -EINVAL, "this is no saved state of a vGPU");
	if (h->byte_order != STATE_BYTE_ORDER)
		return refuse(r, -ENOTSUP, "it was written on a machine of another byte order");
	if (h->major > STATE_MAJOR)
		return refuse(r, -ENOTSUP, "it is of version %u.%u, newer than %u", h->major,
			h->minor, STATE_MAJOR);
	if (!h->major)
		return refuse(r, -EINVAL, "there is no version 0");
	r->chain = crc32c(0, h, sizeof(*h));
	return 0;
}

static int map_image(struct state_reader *r, uint64_t size)
{
	int seals = fcntl(r->fd, F_GET_SEALS);

	if (seals < 0 || !(seals & F_SEAL_SHRINK) || !size)
		return 0;
	void *p = mmap(NULL, size, PROT_READ, MAP_SHARED, r->fd, 0);
	if (p == MAP_FAILED)
		return -errno;
	r->map = p;
	r->map_size = size;
	return 0;
}

int state_reader_create(int fd, struct state_reader **ret)
{
	struct state_header h;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	struct state_reader *r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->fd = fd;
	r->total = UINT64_MAX;
	r->result = 1;
	int err = 0;
	if (S_ISREG(st.st_mode)) {
		off_t offset = lseek(fd, 0, SEEK_CUR);
		uint64_t size = MIN((uint64_t)st.st_size, STATE_TOTAL_MAX);
		err = map_image(r, size);
		if (r->map)
			r->total = size;
		else if (offset >= 0)
			r->total = size - MIN((uint64_t)offset, size);
	}
	if (!err)
		err = read_bytes(r, &h, sizeof(h));
	if (!err)
		err = check_header(r, &h);
	else if (err == -EBADMSG)
		err = -EINVAL;
	if (err) {
		state_reader_destroy(r);
		return err;
	}
	*ret = r;
	return 0;
}

void state_reader_destroy(struct state_reader *r)
{
	if (!r)
		return;
	if (r->map)
		munmap((void *)(uintptr_t)r->map, r->map_size);
	free(r->stored);
	free(r->unpacked);
	ZSTD_freeDCtx(r->zstd);
	free(r);
}

const char *state_reader_why(const struct state_reader *r)
{
	return r->why;
}

/* ---- one section ---- */

static int check_section_header(struct state_reader *r, const struct state_section_header *h)
{
	bool packed = h->flags & STATE_ZSTD;

	if (h->flags & STATE_CRC) {
		if (h->header_crc != crc32c(0, h, STATE_HEADER_CHECKED))
			return refuse(r, -EBADMSG, "section %llu: its header is damaged",
				(unsigned long long)r->sections + 1);
	} else if (h->crc || h->header_crc) {
		return refuse(r, -EBADMSG, "section %llu has CRCs and says it has none",
			(unsigned long long)r->sections + 1);
	}
	if (h->flags & ~FLAGS_KNOWN)
		return refuse(r, -ENOTSUP, "section %s has flags of a newer version",
			state_section_name(h->type));
	if (h->size > STATE_SECTION_MAX || h->stored_size > STATE_SECTION_MAX ||
		r->at + h->stored_size > STATE_TOTAL_MAX)
		return refuse(r, -EFBIG, "section %s says it has %llu bytes",
			state_section_name(h->type), (unsigned long long)h->size);
	if (packed ? h->size > h->stored_size << ZSTD_BEST_SHIFT : h->size != h->stored_size)
		return refuse(r, -EBADMSG, "section %s cannot have %llu bytes",
			state_section_name(h->type), (unsigned long long)h->size);
	if (!range_inside(r->at, h->stored_size, r->total))
		return cut_off(r);
	return 0;
}

static int check_crc(struct state_reader *r, const struct state_section_header *h, uint32_t crc)
{
	if (!(h->flags & STATE_CRC) || crc == h->crc)
		return 0;
	return refuse(r, -EBADMSG, "section %s is damaged: its CRC-32C is wrong",
		state_section_name(h->type));
}

static int skip_padding(struct state_reader *r, uint64_t stored_size)
{
	uint64_t padding = 0;
	int err = read_bytes(r, &padding, state_padding(stored_size));

	if (!err && padding)
		err = refuse(r, -EBADMSG, "there are bytes between two sections");
	return err;
}

static int skip_section(struct state_reader *r, const struct state_section_header *h)
{
	uint8_t chunk[16384];
	uint64_t left = h->stored_size;
	uint32_t crc = 0;

	while (left) {
		size_t n = MIN(left, sizeof(chunk));
		int err = read_bytes(r, chunk, n);
		if (err)
			return err;
		if (h->flags & STATE_CRC)
			crc = crc32c(crc, chunk, n);
		left -= n;
	}
	return check_crc(r, h, crc);
}

/*
 * In one go into a buffer of the size that was announced: the frame's window needs no memory of its
 * own then, however large it says it is.
 */
static int unpack(struct state_reader *r, const struct state_section_header *h)
{
	const uint8_t *from = r->bytes;

	if (ZSTD_getFrameContentSize(from, h->stored_size) != h->size ||
		ZSTD_findFrameCompressedSize(from, h->stored_size) != h->stored_size)
		return refuse(r, -EBADMSG, "section %s is not the frame it says",
			state_section_name(h->type));
	int err = reserve(r, &r->unpacked, &r->unpacked_capacity, MAX(h->size, 1));
	if (err)
		return err;
	if (!r->zstd)
		r->zstd = ZSTD_createDCtx();
	if (!r->zstd)
		return refuse(r, -ENOMEM, "no memory to unpack");
	size_t n = ZSTD_decompressDCtx(r->zstd, r->unpacked, h->size, from, h->stored_size);
	if (ZSTD_isError(n) || n != h->size)
		return refuse(r, -EBADMSG, "section %s cannot be unpacked: %s",
			state_section_name(h->type),
			ZSTD_isError(n) ? ZSTD_getErrorName(n) : "it is shorter than it says");
	r->bytes = r->unpacked;
	return 0;
}

static int take_section(struct state_reader *r, const struct state_section_header *h)
{
	int err = 0;

	trim(&r->stored, &r->stored_capacity);
	trim(&r->unpacked, &r->unpacked_capacity);
	if (r->map && h->type == STATE_CONTENT && !(h->flags & STATE_ZSTD)) {
		r->bytes = r->map + r->at;
		r->at += h->stored_size;
	} else {
		err = reserve(r, &r->stored, &r->stored_capacity, MAX(h->stored_size, 1));
		if (!err)
			err = read_bytes(r, r->stored, h->stored_size);
		if (err)
			return err;
		r->bytes = r->stored;
	}
	if (h->flags & STATE_CRC)
		err = check_crc(r, h, crc32c(0, r->bytes, h->stored_size));
	if (!err && h->flags & STATE_ZSTD)
		err = unpack(r, h);
	if (!err) {
		r->size = h->size;
		r->taken = 0;
	}
	return err;
}

static int check_end(struct state_reader *r)
{
	struct state_trailer t = {0};

	state_get(r, &t, STATE_TRAILER_SIZE);
	if (r->bad || t.sections != r->sections || t.crc != r->chain)
		return refuse(r, -EBADMSG, "sections are missing, too many or in another order");
	r->bytes = NULL;
	r->size = r->taken = 0;
	/* An image's memfd is larger than what is in it. */
	if (!r->map && r->total != UINT64_MAX && r->at != r->total)
		return refuse(r, -EBADMSG, "there are bytes after its end");
	r->result = 0;
	return 0;
}

/* 1 taken, 2 skipped, -errno. */
static int read_section(struct state_reader *r, struct state_section_header *h)
{
	int err = read_bytes(r, h, sizeof(*h));

	if (!err)
		err = check_section_header(r, h);
	if (err)
		return err;
	bool known = h->type < ARRAY_SIZE(section_names) && section_names[h->type] &&
		     h->version == SECTION_VERSION;
	if (!known && h->flags & STATE_CRITICAL)
		return refuse(r, -ENOTSUP,
			"section %u (version %u) is of a newer version and cannot be left out",
			h->type, h->version);
	err = known ? take_section(r, h) : skip_section(r, h);
	if (!err)
		err = skip_padding(r, h->stored_size);
	return err ? err : known ? 1 : 2;
}

int state_next(struct state_reader *r, struct state_section *ret)
{
	struct state_section_header h = {0};
	int got = 2;

	r->bad = false;
	r->bytes = NULL;
	r->size = r->taken = 0;
	while (r->result == 1 && got == 2) {
		got = read_section(r, &h);
		if (got < 0)
			return got;
		if (got == 1 && h.type == STATE_END)
			return check_end(r);
		r->chain = state_chain(r->chain, &h);
		r->sections++;
	}
	if (r->result != 1)
		return r->result;
	*ret = (struct state_section){h.type, h.version, h.size};
	return 1;
}

/* ---- within a section ---- */

const void *state_take(struct state_reader *r, size_t n)
{
	if (r->bad || n > r->size - r->taken) {
		r->bad = true;
		return NULL;
	}
	const void *p = r->bytes ? r->bytes + r->taken : (const uint8_t *)"";
	r->taken += n;
	return p;
}

void state_get(struct state_reader *r, void *ret, size_t n)
{
	const void *p = state_take(r, n);

	if (p)
		memcpy(ret, p, n);
	else
		memset(ret, 0, n);
}

uint32_t state_get_u32(struct state_reader *r)
{
	uint32_t value;
	state_get(r, &value, sizeof(value));
	return value;
}

uint64_t state_get_u64(struct state_reader *r)
{
	uint64_t value;
	state_get(r, &value, sizeof(value));
	return value;
}

void state_get_text(struct state_reader *r, char *ret, size_t size)
{
	uint32_t n = state_get_u32(r);
	const uint8_t *p = state_take(r, n);
	size_t used = 0;

	if (!size)
		return;
	for (; p && used < n && used + 1 < size; used++)
		ret[used] = (char)(p[used] < 0x20 || p[used] == 0x7f ? '?' : p[used]);
	ret[used] = '\0';
}

size_t state_left(const struct state_reader *r)
{
	return r->bad ? 0 : r->size - r->taken;
}

bool state_bad(const struct state_reader *r)
{
	return r->bad;
}
