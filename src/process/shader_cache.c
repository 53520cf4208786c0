/* SPDX-License-Identifier: Apache-2.0 */
#include "process/shader_cache.h"

#include "base/checked.h"
#include "base/cleanup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC_BYTES 16u
#define MAX_ENTRIES 65536u
#define MAX_DEPTH   5u /* the root, then folders: kind of cache, driver, GPU */

struct entry_header {
	uint32_t bytes, format, crc, bytes_uncompressed;
};

struct entry_key {
	char hex[40];
};

struct index_entry {
	struct entry_key key;
	struct entry_header header;
	uint64_t offset;
} __attribute__((packed));

struct shader_cache {
	int scratch; /* until the driver has started */
	int own[SHADER_CACHE_FILES];
	int given[SHADER_CACHE_FILES];
};

struct bytes {
	uint8_t *data;
	size_t n, room;
};

static const char *const file_names[SHADER_CACHE_FILES] = {
	[SHADER_CACHE_DATA] = "foz_cache.foz",
	[SHADER_CACHE_INDEX] = "foz_cache_idx.foz",
	[SHADER_CACHE_TEXTS] = "index",
};

/* ---- around the driver's start ---- */

static int cache_tell_driver(void)
{
	static const char *const variables[][2] = {
		{"MESA_SHADER_CACHE_DISABLE", "false"},
		{"MESA_DISK_CACHE_SINGLE_FILE", "true"},
		{"MESA_SHADER_CACHE_DIR", "."},
	};

	for (size_t i = 0; i < ARRAY_SIZE(variables); i++) {
		if (setenv(variables[i][0], variables[i][1], 1) < 0)
			return -errno;
	}
	return 0;
}

int shader_cache_begin(int scratch, struct shader_cache **ret)
{
	cleanup_close int fd = scratch;
	struct shader_cache *cache = calloc(1, sizeof(*cache));

	if (!cache)
		return -ENOMEM;
	cache->scratch = -1;
	for (unsigned i = 0; i < SHADER_CACHE_FILES; i++)
		cache->own[i] = cache->given[i] = -1;
	int r = cache_tell_driver();
	if (!r && fchdir(fd) < 0)
		r = -errno;
	if (r < 0) {
		free(cache);
		return r;
	}
	cache->scratch = TAKE_FD(fd);
	*ret = cache;
	return 0;
}

static void cache_open_file(struct shader_cache *cache, int folder, const char *name)
{
	for (unsigned i = 0; i < SHADER_CACHE_FILES; i++) {
		int append = i == SHADER_CACHE_TEXTS ? 0 : O_APPEND;
		if (cache->own[i] < 0 && !strcmp(name, file_names[i]))
			cache->own[i] =
				openat(folder, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | append);
	}
}

/* Takes `fd`; the folder in it, -1: there is none. */
static int cache_look_into(struct shader_cache *cache, int fd)
{
	DIR *folder = fdopendir(fd);
	const struct dirent *entry;
	int below = -1;

	if (!folder) {
		close(fd);
		return -1;
	}
	while ((entry = readdir(folder))) {
		if (entry->d_type == DT_REG)
			cache_open_file(cache, fd, entry->d_name);
		if (entry->d_type == DT_DIR && entry->d_name[0] != '.' && below < 0)
			below = openat(fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	closedir(folder);
	return below;
}

/* The driver maps the table of texts: its pages must be there when the file system is full. */
static int cache_fill_texts(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	return st.st_size ? -posix_fallocate(fd, 0, st.st_size) : 0;
}

static void cache_close_own(struct shader_cache *cache)
{
	for (unsigned i = 0; i < SHADER_CACHE_FILES; i++)
		close_fd(&cache->own[i]);
}

int shader_cache_open(struct shader_cache *cache)
{
	if (!cache)
		return -ENOENT;
	int root = openat(cache->scratch, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = chdir("/") < 0 ? -errno : 0;

	close_fd(&cache->scratch);
	/* Folders are named after driver and GPU, and there is one of each. */
	for (unsigned depth = 0; root >= 0 && depth < MAX_DEPTH; depth++)
		root = cache_look_into(cache, root);
	close_fd(&root);
	for (unsigned i = 0; !r && i < SHADER_CACHE_FILES; i++)
		r = cache->own[i] < 0 ? -ENOENT : 0;
	if (!r)
		r = cache_fill_texts(cache->own[SHADER_CACHE_TEXTS]);
	if (r < 0)
		cache_close_own(cache);
	return r;
}

/* ---- what a predecessor left ---- */

static int read_at(int fd, void *to, size_t n, uint64_t offset)
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

/* 0: those before `max` that are there whole. The caller's to free, also on failure. */
static int read_index(int fd, struct index_entry **ret, size_t *ret_n)
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
	size_t n = MIN((size_t)(st.st_size - MAGIC_BYTES) / sizeof(**ret), (size_t)MAX_ENTRIES);
	if (!n)
		return 0;
	*ret = malloc(n * sizeof(**ret));
	if (!*ret)
		return -ENOMEM;
	*ret_n = n;
	return read_at(fd, *ret, n * sizeof(**ret), MAGIC_BYTES);
}

static int compare_keys(const void *a, const void *b)
{
	const struct index_entry *x = a, *y = b;
	return memcmp(x->key.hex, y->key.hex, sizeof(x->key.hex));
}

static bool entry_known(const struct index_entry *known, size_t n, const struct index_entry *entry)
{
	return n && bsearch(entry, known, n, sizeof(*known), compare_keys);
}

static int make_room(struct bytes *out, size_t n)
{
	size_t room = MAX(2 * out->room, out->n + n);
	uint8_t *grown;

	if (out->room - out->n >= n)
		return 0;
	grown = realloc(out->data, room);
	if (!grown)
		return -ENOMEM;
	out->data = grown;
	out->room = room;
	return 0;
}

/* Appends the bytes of `entry` to `out`, and makes it say where they will be. */
static int copy_entry(int from, struct index_entry *entry, struct bytes *out, uint64_t out_at)
{
	struct entry_header header;
	uint64_t offset = entry->offset;

	if (entry->header.bytes != sizeof(entry->offset) || offset > SHADER_CACHE_BYTES)
		return -EBADMSG;
	int r = read_at(from, &header, sizeof(header), offset);
	if (r < 0)
		return r;
	size_t n = sizeof(entry->key) + sizeof(header) + (size_t)header.bytes;
	if (n > SHADER_CACHE_BYTES || out->n + n > SHADER_CACHE_BYTES)
		return -EBADMSG;
	r = make_room(out, n);
	if (r < 0)
		return r;
	uint8_t *at = out->data + out->n;
	memcpy(at, &entry->key, sizeof(entry->key));
	at += sizeof(entry->key);
	memcpy(at, &header, sizeof(header));
	r = read_at(from, at + sizeof(header), header.bytes, offset + sizeof(header));
	if (r < 0)
		return r;
	entry->offset = out_at + out->n + sizeof(entry->key);
	out->n += n;
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

/* With the lock held under which the driver writes too. */
static int add_new(struct shader_cache *cache, struct index_entry *entries, size_t n,
	const struct index_entry *known, size_t n_known)
{
	off_t end = lseek(cache->own[SHADER_CACHE_DATA], 0, SEEK_END);
	struct bytes data = {NULL, 0, 0};
	size_t added = 0;
	int r = end < 0 ? -errno : 0;

	for (size_t i = 0; !r && i < n; i++) {
		if (entry_known(known, n_known, &entries[i]))
			continue;
		r = copy_entry(cache->given[SHADER_CACHE_DATA], &entries[i], &data, (uint64_t)end);
		if (!r)
			entries[added++] = entries[i];
	}
	if (r == -EBADMSG)
		r = 0; /* what came before it is whole */
	if (!r && added)
		r = append(cache->own[SHADER_CACHE_DATA], data.data, data.n);
	if (!r && added)
		r = append(cache->own[SHADER_CACHE_INDEX], entries, added * sizeof(*entries));
	free(data.data);
	return r ? r : (int)added;
}

static int copy_texts(int from, int to)
{
	uint8_t block[16384];
	struct stat theirs, ours;

	if (fstat(from, &theirs) < 0 || fstat(to, &ours) < 0)
		return -errno;
	if (!S_ISREG(theirs.st_mode) || theirs.st_size != ours.st_size)
		return -EBADMSG;
	for (off_t at = 0; at < ours.st_size;) {
		size_t n = MIN(sizeof(block), (size_t)(ours.st_size - at));
		int r = read_at(from, block, n, (uint64_t)at);
		if (r < 0)
			return r;
		ssize_t written = pwrite(to, block, n, at);
		if (written <= 0)
			return written < 0 ? -errno : -EIO;
		at += written;
	}
	return 0;
}

static int add_given(struct shader_cache *cache)
{
	cleanup_free struct index_entry *entries = NULL, *known = NULL;
	size_t n, n_known;

	/* The index first: what it names is in the file already, also if somebody still writes. */
	int r = read_index(cache->given[SHADER_CACHE_INDEX], &entries, &n);
	if (r < 0)
		return r;
	if (flock(cache->own[SHADER_CACHE_DATA], LOCK_EX) < 0)
		return -errno;
	r = read_index(cache->own[SHADER_CACHE_INDEX], &known, &n_known);
	if (!r && n_known)
		qsort(known, n_known, sizeof(*known), compare_keys);
	if (!r)
		r = add_new(cache, entries, n, known, n_known);
	flock(cache->own[SHADER_CACHE_DATA], LOCK_UN);
	if (r > 0) {
		int err = copy_texts(
			cache->given[SHADER_CACHE_TEXTS], cache->own[SHADER_CACHE_TEXTS]);
		return err < 0 ? err : r;
	}
	return r;
}

int shader_cache_give(struct shader_cache *cache, enum shader_cache_file file, int fd)
{
	cleanup_close int owned = fd;

	if (!cache || cache->own[0] < 0)
		return 0;
	if ((unsigned)file >= SHADER_CACHE_FILES)
		return -EINVAL;
	close_fd(&cache->given[file]);
	cache->given[file] = TAKE_FD(owned);
	for (unsigned i = 0; i < SHADER_CACHE_FILES; i++) {
		if (cache->given[i] < 0)
			return 0;
	}
	int r = add_given(cache);
	for (unsigned i = 0; i < SHADER_CACHE_FILES; i++)
		close_fd(&cache->given[i]);
	return r;
}

int shader_cache_fd(const struct shader_cache *cache, enum shader_cache_file file)
{
	return cache ? cache->own[file] : -1;
}

void shader_cache_destroy(struct shader_cache *cache)
{
	if (!cache)
		return;
	close_fd(&cache->scratch);
	for (unsigned i = 0; i < SHADER_CACHE_FILES; i++)
		close_fd(&cache->given[i]);
	cache_close_own(cache);
	free(cache);
}
