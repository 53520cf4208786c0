/* SPDX-License-Identifier: Apache-2.0 */
#include "shaders/shaders.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CRC_POLYNOMIAL 0xedb88320u

void shaders_list_finish(struct shaders_list *list)
{
	free(list->entries);
	free(list->texts);
	*list = (struct shaders_list){0};
}

static int compare_keys(const void *a, const void *b)
{
	const struct shaders_entry *x = a, *y = b;
	return memcmp(x->key, y->key, sizeof(x->key));
}

void shaders_sort(struct shaders_entry *entries, size_t n)
{
	if (n)
		qsort(entries, n, sizeof(*entries), compare_keys);
}

bool shaders_known(const struct shaders_entry *sorted, size_t n, const struct shaders_entry *entry)
{
	return n && bsearch(entry, sorted, n, sizeof(*sorted), compare_keys);
}

int shaders_read_at(int fd, void *to, size_t n, uint64_t offset)
{
	uint8_t *at = to;

	while (n) {
		ssize_t got = pread(fd, at, n, (off_t)offset);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : -EBADMSG;
		at += got;
		n -= (size_t)got;
		offset += (uint64_t)got;
	}
	return 0;
}

uint32_t shaders_crc(uint32_t crc, const void *bytes, size_t n)
{
	const uint8_t *at = bytes;
	uint32_t table[16]; /* by the lower four bits */

	for (uint32_t i = 0; i < 16; i++) {
		uint32_t row = i;
		for (int bit = 0; bit < 4; bit++)
			row = row >> 1 ^ (row & 1 ? CRC_POLYNOMIAL : 0);
		table[i] = row;
	}
	for (size_t i = 0; i < n; i++) {
		crc ^= at[i];
		crc = crc >> 4 ^ table[crc & 15];
		crc = crc >> 4 ^ table[crc & 15];
	}
	return crc;
}

int shaders_read(int fd, const struct shaders_entry *entry, void *to)
{
	const struct shaders_header *header = &entry->header;
	int r = shaders_read_at(fd, to, header->bytes, entry->offset);

	if (r < 0)
		return r;
	return shaders_crc(SHADERS_CRC_START, to, header->bytes) == header->crc ? 0 : -EBADMSG;
}
