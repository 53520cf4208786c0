/* SPDX-License-Identifier: Apache-2.0 */
#include "shaders/shaders.h"

#include "base/checked.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC_BYTES    16u
#define DATA_MAX       (1u << 30) /* bytes; no process' private file system is so large */
#define TEXTS_AT       8u         /* before it a number that this form of the cache does not use */
#define TEXTS_BLOCK    512u       /* read at once */
#define NOT_COMPRESSED 1u

static_assert(sizeof(struct shaders_entry) == 64, "also the index' form");

int driver_read_index(int fd, struct shaders_entry **ret, size_t *ret_n)
{
	struct stat st;

	*ret = NULL;
	*ret_n = 0;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EBADMSG;
	if (st.st_size < (off_t)MAGIC_BYTES)
		return 0;
	size_t n = MIN((size_t)(st.st_size - MAGIC_BYTES) / sizeof(**ret), (size_t)SHADERS_MAX);
	if (!n)
		return 0;
	*ret = malloc(n * sizeof(**ret));
	if (!*ret)
		return -ENOMEM;
	*ret_n = n;
	return shaders_read_at(fd, *ret, n * sizeof(**ret), MAGIC_BYTES);
}

int driver_find(int data_fd, struct shaders_entry *entry)
{
	struct shaders_header header;

	if (entry->header.bytes != sizeof(entry->offset) || entry->offset > DATA_MAX)
		return -EBADMSG;
	int r = shaders_read_at(data_fd, &header, sizeof(header), entry->offset);
	if (r < 0)
		return r;
	if (!header.bytes || header.bytes > SHADERS_FILE_MAX)
		return -EBADMSG;
	entry->header = header;
	entry->offset += sizeof(header);
	return 0;
}

struct shaders_entry driver_index_entry(const struct shaders_entry *entry, uint64_t offset)
{
	struct shaders_entry ret = *entry;

	ret.header = (struct shaders_header){.bytes = sizeof(offset),
		.format = NOT_COMPRESSED,
		.bytes_uncompressed = sizeof(offset)};
	ret.offset = offset;
	return ret;
}

/* Where the driver looks for that text. */
static uint64_t text_place(const struct shaders_text *text)
{
	return (uint64_t)text->hash[0] | (uint64_t)text->hash[1] << 8;
}

static uint64_t text_offset(uint64_t place)
{
	return TEXTS_AT + place * SHADERS_TEXT_BYTES;
}

/* Places that hold one which belongs there; `to` has room for all. */
static size_t read_texts(
	const struct shaders_text *block, size_t n, uint64_t place, struct shaders_text *to)
{
	static const struct shaders_text none;
	size_t found = 0;

	for (size_t i = 0; i < n; i++) {
		if (text_place(&block[i]) == place + i &&
			memcmp(&block[i], &none, sizeof(none)) != 0)
			to[found++] = block[i];
	}
	return found;
}

int driver_read_texts(int fd, struct shaders_list *list)
{
	struct shaders_text block[TEXTS_BLOCK];
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size < (off_t)TEXTS_AT)
		return -EBADMSG;
	size_t n = MIN((size_t)(st.st_size - TEXTS_AT) / sizeof(*block), (size_t)SHADERS_MAX);
	struct shaders_text *grown = realloc(list->texts, (list->n_texts + n + 1) * sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	list->texts = grown;
	for (size_t place = 0; place < n;) {
		size_t some = MIN(n - place, (size_t)TEXTS_BLOCK);
		int r = shaders_read_at(fd, block, some * sizeof(*block), text_offset(place));
		if (r < 0)
			return r;
		list->n_texts += read_texts(block, some, place, list->texts + list->n_texts);
		place += some;
	}
	return 0;
}

int driver_add_texts(int fd, const struct shaders_list *list)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	for (size_t i = 0; i < list->n_texts; i++) {
		const struct shaders_text *text = &list->texts[i];
		uint64_t offset = text_offset(text_place(text));
		if (!range_inside(offset, sizeof(*text), (uint64_t)st.st_size))
			continue; /* another driver's table is smaller */
		if (pwrite(fd, text, sizeof(*text), (off_t)offset) != (ssize_t)sizeof(*text))
			return -EIO;
	}
	return 0;
}
