/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_SHADERS_SHADERS_H
#define VGPU_SHADERS_SHADERS_H

/*
 * Compiled shaders outside the driver: lists of them, the driver's own files, and the archives in
 * which keepers collect a tenant's (protocol/shaders.h).
 *
 * The driver's files are Fossilize databases: a magic of 16 bytes, then entries of 40 hex digits, a
 * header and the contents; those of the index are an offset into the data, of the header there. A
 * third file is a table of the source texts known, each at a place that follows from its hash.
 *
 * Whoever wrote the files may have been taken over: sizes and places are checked before use, bytes
 * are read once and never mapped, and what is damaged is left out. What a shader does is not
 * checked, and cannot be: whoever is given one runs it.
 */

#include "protocol/shaders.h"

#include <stdbool.h>
#include <stddef.h>

enum shaders_driver_file { SHADERS_DATA, SHADERS_INDEX, SHADERS_TEXTS };
#define SHADERS_DRIVER_FILES 3u

struct shaders_text {
	uint8_t hash[SHADERS_TEXT_BYTES];
};

struct shaders_list {
	struct shaders_entry *entries;
	size_t n;
	struct shaders_text *texts;
	size_t n_texts;
};

void shaders_list_finish(struct shaders_list *list); /* and it is empty again */
void shaders_sort(struct shaders_entry *entries, size_t n);
bool shaders_known(const struct shaders_entry *sorted, size_t n, const struct shaders_entry *entry);

/* Reads exactly so much; -EBADMSG: there is less. */
int shaders_read_at(int fd, void *to, size_t n, uint64_t offset);
/* CRC-32 as drivers compute it. `crc`: of what came before, or SHADERS_CRC_START. */
#define SHADERS_CRC_START 0xffffffffu
uint32_t shaders_crc(uint32_t crc, const void *bytes, size_t n);
/*
 * The contents of an entry into `to`, which has room for header.bytes. -EBADMSG: they are not what
 * the header says.
 */
int shaders_read(int fd, const struct shaders_entry *entry, void *to);

/* ---- driver.c: the driver's files ---- */

/* All entries that are there whole; each has the offset of its header. The caller's to free. */
int driver_read_index(int fd, struct shaders_entry **ret, size_t *ret_n);
/* Such an entry becomes one with the header and offset of its contents. -EBADMSG: there is none. */
int driver_find(int data_fd, struct shaders_entry *entry);
/* The index' entry for contents whose header is at that offset. */
struct shaders_entry driver_index_entry(const struct shaders_entry *entry, uint64_t offset);
/* Adds to the list. */
int driver_read_texts(int fd, struct shaders_list *list);
int driver_add_texts(int fd, const struct shaders_list *list);

/* ---- archive.c ---- */

/* -EBADMSG: it is no archive, damaged, or of another driver. The list is the caller's to finish. */
int archive_read(int fd, uint32_t driver, struct shaders_list *ret);

struct archive_writer {
	int fd;
	uint32_t driver;
	uint64_t at;
	struct shaders_list list; /* of what was written; finished by archive_end() */
	size_t room;
};

/* `fd` is empty and stays the caller's. */
void archive_begin(struct archive_writer *w, int fd, uint32_t driver);
/* Reads the contents from there. -EBADMSG: they are damaged, and the archive is as it was. */
int archive_add(struct archive_writer *w, int from, const struct shaders_entry *entry);
/* Writes the tables and the head; the list is finished, also on failure. */
int archive_end(struct archive_writer *w, const struct shaders_text *texts, size_t n);

/* ---- store.c: a tenant's folder ---- */

/*
 * Adds what is new in the driver's files `fds` to the archive `name` in that folder; the oldest
 * entries give way when it would be larger than SHADERS_FILE_MAX or `budget` bytes, and other
 * archives, those longest unused first, when the folder would be larger than `budget`. Blocks on
 * the folder's lock. How many were added (a few that would not pay may wait until there are more),
 * or -errno (-EBADMSG: those are not a driver's files); whenever it ends the archive is the old one
 * or the new one, whole.
 */
int store_merge(int folder, const char *name, uint32_t driver,
	const int fds[static SHADERS_DRIVER_FILES], uint64_t budget);

#endif
