/* SPDX-License-Identifier: Apache-2.0 */
#include "process/shader_adding.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "process/shader_cache.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECE_BYTES (1u << 20) /* of the data, appended at once */

struct piece {
	uint8_t *bytes;
	size_t n, room;
	uint64_t at; /* where it will be in the data */
	size_t first, entries;
};

static int make_room(struct piece *piece, size_t n)
{
	size_t room = MAX(2 * piece->room, piece->n + n);
	uint8_t *grown;

	if (piece->room - piece->n >= n)
		return 0;
	grown = realloc(piece->bytes, room);
	if (!grown)
		return -ENOMEM;
	piece->bytes = grown;
	piece->room = room;
	return 0;
}

/* All or nothing: what is there in part would lead astray who appends next. */
static int append(int fd, const void *data, size_t n)
{
	off_t end = lseek(fd, 0, SEEK_END);
	ssize_t written = write(fd, data, n);

	if (written >= 0 && (size_t)written == n)
		return 0;
	int r = written < 0 ? -errno : -ENOSPC;
	if (end < 0 || ftruncate(fd, end) < 0)
		return -EIO;
	return r;
}

/* Entries of the list from `first` on have become those of the index. */
static int piece_flush(
	struct piece *piece, const struct shader_adding *adding, const struct shaders_list *list)
{
	if (!piece->entries)
		return 0;
	const struct shaders_entry *entries = list->entries + piece->first;
	int r = append(adding->data, piece->bytes, piece->n);
	if (!r)
		r = append(adding->index, entries, piece->entries * sizeof(*entries));
	piece->at += piece->n;
	piece->first += piece->entries;
	piece->n = piece->entries = 0;
	return r;
}

/* *ret: what the index says of it. */
static int piece_take(struct piece *piece, const struct shader_adding *adding,
	const struct shaders_entry *entry, struct shaders_entry *ret)
{
	const struct shaders_header *header = &entry->header;
	size_t head = sizeof(entry->key) + sizeof(*header), n = head + header->bytes;

	if (piece->at + piece->n + n > SHADER_CACHE_BYTES)
		return -ENOSPC;
	int r = make_room(piece, n);
	if (r < 0)
		return r;
	uint8_t *at = piece->bytes + piece->n;
	memcpy(at, entry->key, sizeof(entry->key));
	memcpy(at + sizeof(entry->key), header, sizeof(*header));
	/* The driver checks the sum itself, when it needs the shader. */
	r = shaders_read_at(adding->from, at + head, header->bytes, entry->offset);
	if (r < 0)
		return r;
	*ret = driver_index_entry(entry, piece->at + piece->n + sizeof(entry->key));
	piece->n += n;
	return 0;
}

int shader_adding_run(const struct shader_adding *adding, struct shaders_list *list)
{
	off_t end = lseek(adding->data, 0, SEEK_END);
	struct piece piece = {.at = (uint64_t)end};
	int r = end < 0 ? -errno : 0;

	for (size_t i = 0; !r && i < list->n; i++) {
		struct shaders_entry entry = list->entries[i];
		if (shaders_known(adding->known, adding->n_known, &entry))
			continue;
		if (adding->from_index)
			r = driver_find(adding->from, &entry);
		if (!r)
			r = piece_take(&piece, adding, &entry,
				&list->entries[piece.first + piece.entries]);
		if (!r)
			piece.entries++;
		if (!r && piece.n >= PIECE_BYTES)
			r = piece_flush(&piece, adding, list);
	}
	int err = r == -EBADMSG || !r || r == -ENOSPC ? piece_flush(&piece, adding, list) : 0;
	free(piece.bytes);
	if (r == -EBADMSG)
		r = 0; /* what came before it is whole */
	r = r ? r : err;
	return r < 0 ? r : (int)piece.first;
}
