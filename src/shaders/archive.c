/* SPDX-License-Identifier: Apache-2.0 */

/*
 * An archive is written once, front to end, its head last: one that was not finished has none. It
 * is believed no more than a device process: the disk may have damaged it, and what is in it is a
 * device process' own.
 */

#include "shaders/shaders.h"

#include "base/checked.h"
#include "base/cleanup.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NOT_COMPRESSED 1u
#define FIRST_ROOM     64u

/* What the driver writes, and nothing else. */
static bool entry_valid(const struct shaders_entry *entry)
{
	const struct shaders_header *header = &entry->header;

	for (size_t i = 0; i < sizeof(entry->key); i++) {
		if (!isxdigit((unsigned char)entry->key[i]) ||
			isupper((unsigned char)entry->key[i]))
			return false;
	}
	return header->format == NOT_COMPRESSED && header->bytes &&
	       header->bytes == header->bytes_uncompressed && header->bytes <= SHADERS_FILE_MAX;
}

static int head_read(int fd, uint32_t driver, struct shaders_file *ret)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size > (off_t)SHADERS_FILE_MAX)
		return -EBADMSG;
	int r = shaders_read_at(fd, ret, sizeof(*ret), 0);
	if (r < 0)
		return r;
	uint64_t tables = (uint64_t)ret->entries * sizeof(struct shaders_entry) +
			  (uint64_t)ret->texts * sizeof(struct shaders_text);
	bool fits = ret->magic == SHADERS_MAGIC && ret->version == SHADERS_VERSION &&
		    ret->driver == driver && ret->entries <= SHADERS_MAX &&
		    ret->texts <= SHADERS_MAX && ret->tables >= sizeof(*ret) &&
		    ret->tables <= (uint64_t)st.st_size &&
		    tables == (uint64_t)st.st_size - ret->tables;
	return fits ? 0 : -EBADMSG;
}

static uint32_t tables_crc(const struct shaders_list *list)
{
	uint32_t crc =
		shaders_crc(SHADERS_CRC_START, list->entries, list->n * sizeof(*list->entries));

	return shaders_crc(crc, list->texts, list->n_texts * sizeof(*list->texts));
}

static int tables_read(int fd, const struct shaders_file *head, struct shaders_list *list)
{
	size_t entries = head->entries * sizeof(*list->entries);
	size_t texts = head->texts * sizeof(*list->texts);

	list->entries = malloc(entries + 1);
	list->texts = malloc(texts + 1);
	if (!list->entries || !list->texts)
		return -ENOMEM;
	list->n = head->entries;
	list->n_texts = head->texts;
	int r = shaders_read_at(fd, list->entries, entries, head->tables);
	if (!r)
		r = shaders_read_at(fd, list->texts, texts, head->tables + entries);
	if (!r && tables_crc(list) != head->crc)
		r = -EBADMSG;
	for (size_t i = 0; !r && i < list->n; i++) {
		const struct shaders_entry *entry = &list->entries[i];
		if (!entry_valid(entry) || entry->offset < sizeof(*head) ||
			!range_inside(entry->offset, entry->header.bytes, head->tables))
			r = -EBADMSG;
	}
	return r;
}

int archive_read(int fd, uint32_t driver, struct shaders_list *ret)
{
	struct shaders_file head = {0};

	*ret = (struct shaders_list){0};
	int r = head_read(fd, driver, &head);
	if (!r)
		r = tables_read(fd, &head, ret);
	if (r < 0)
		shaders_list_finish(ret);
	return r;
}

/* ---- writing ---- */

void archive_begin(struct archive_writer *w, int fd, uint32_t driver)
{
	*w = (struct archive_writer){.fd = fd, .driver = driver, .at = sizeof(struct shaders_file)};
}

static int writer_put(struct archive_writer *w, const void *bytes, size_t n)
{
	const uint8_t *at = bytes;

	while (n) {
		ssize_t put = pwrite(w->fd, at, n, (off_t)w->at);
		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return put < 0 ? -errno : -ENOSPC;
		at += put;
		n -= (size_t)put;
		w->at += (uint64_t)put;
	}
	return 0;
}

static int writer_grow(struct archive_writer *w)
{
	size_t room = w->room ? 2 * w->room : FIRST_ROOM;
	struct shaders_entry *grown = realloc(w->list.entries, room * sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	w->list.entries = grown;
	w->room = room;
	return 0;
}

int archive_add(struct archive_writer *w, int from, const struct shaders_entry *entry)
{
	if (!entry_valid(entry))
		return -EBADMSG;
	int r = w->list.n == w->room ? writer_grow(w) : 0;
	cleanup_free void *contents = r ? NULL : malloc(entry->header.bytes);
	if (!contents)
		return -ENOMEM;
	r = shaders_read(from, entry, contents);
	uint64_t offset = w->at;
	if (!r)
		r = writer_put(w, contents, entry->header.bytes);
	if (r < 0)
		return r;
	w->list.entries[w->list.n] = *entry;
	w->list.entries[w->list.n++].offset = offset;
	return 0;
}

int archive_end(struct archive_writer *w, const struct shaders_text *texts, size_t n)
{
	struct shaders_file head = {.magic = SHADERS_MAGIC,
		.version = SHADERS_VERSION,
		.driver = w->driver,
		.entries = (uint32_t)w->list.n,
		.texts = (uint32_t)n,
		.tables = w->at};
	const struct shaders_list all = {.entries = w->list.entries,
		.n = w->list.n,
		.texts = (struct shaders_text *)(uintptr_t)texts,
		.n_texts = n};

	head.crc = tables_crc(&all);
	int r = writer_put(w, all.entries, all.n * sizeof(*all.entries));
	if (!r)
		r = writer_put(w, texts, n * sizeof(*texts));
	w->at = 0;
	if (!r)
		r = writer_put(w, &head, sizeof(head));
	shaders_list_finish(&w->list);
	return r;
}
