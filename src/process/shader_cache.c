/* SPDX-License-Identifier: Apache-2.0 */
#include "process/shader_cache.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "process/shader_adding.h"

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

#define MAX_DEPTH 5u /* the root, then folders: kind of cache, driver, GPU */

struct shader_cache {
	int scratch; /* until the driver has started */
	int own[SHADERS_DRIVER_FILES];
	int given[SHADERS_DRIVER_FILES];
	uint32_t driver; /* 0: it keeps none */
};

static const char *const file_names[SHADERS_DRIVER_FILES] = {
	[SHADERS_DATA] = "foz_cache.foz",
	[SHADERS_INDEX] = "foz_cache_idx.foz",
	[SHADERS_TEXTS] = "index",
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
	for (unsigned i = 0; i < SHADERS_DRIVER_FILES; i++)
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
	for (unsigned i = 0; i < SHADERS_DRIVER_FILES; i++) {
		int append = i == SHADERS_TEXTS ? 0 : O_APPEND;
		if (cache->own[i] < 0 && !strcmp(name, file_names[i]))
			cache->own[i] =
				openat(folder, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | append);
	}
}

/* FNV-1a: folders are named after the driver's build, the processor and the GPU. */
static uint32_t hash_name(uint32_t hash, const char *name)
{
	for (; *name; name++)
		hash = (hash ^ (uint8_t)*name) * 0x01000193u;
	return (hash ^ '/') * 0x01000193u;
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
		if (entry->d_type == DT_DIR && entry->d_name[0] != '.' && below < 0) {
			below = openat(fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
			cache->driver = hash_name(cache->driver, entry->d_name);
		}
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
	for (unsigned i = 0; i < SHADERS_DRIVER_FILES; i++)
		close_fd(&cache->own[i]);
}

int shader_cache_open(struct shader_cache *cache)
{
	if (!cache)
		return -ENOENT;
	int root = openat(cache->scratch, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = chdir("/") < 0 ? -errno : 0;

	close_fd(&cache->scratch);
	cache->driver = 0x811c9dc5u;
	/* Folders are named after driver and GPU, and there is one of each. */
	for (unsigned depth = 0; root >= 0 && depth < MAX_DEPTH; depth++)
		root = cache_look_into(cache, root);
	close_fd(&root);
	for (unsigned i = 0; !r && i < SHADERS_DRIVER_FILES; i++)
		r = cache->own[i] < 0 ? -ENOENT : 0;
	if (!r)
		r = cache_fill_texts(cache->own[SHADERS_TEXTS]);
	if (r < 0)
		cache_close_own(cache);
	cache->driver = r < 0 ? 0 : cache->driver ?: 1;
	return r;
}

uint32_t shader_cache_driver(const struct shader_cache *cache)
{
	return cache ? cache->driver : 0;
}

/* ---- what others compiled ---- */

/* With the lock held under which the driver writes too. */
static int cache_add_locked(
	struct shader_cache *cache, int from, struct shaders_list *list, bool index)
{
	cleanup_free struct shaders_entry *known = NULL;
	size_t n_known;
	int r = driver_read_index(cache->own[SHADERS_INDEX], &known, &n_known);

	if (r < 0)
		return r;
	shaders_sort(known, n_known);
	struct shader_adding adding = {.data = cache->own[SHADERS_DATA],
		.index = cache->own[SHADERS_INDEX],
		.from = from,
		.from_index = index,
		.known = known,
		.n_known = n_known};
	return shader_adding_run(&adding, list);
}

static int cache_add(struct shader_cache *cache, int from, struct shaders_list *list, bool index)
{
	if (flock(cache->own[SHADERS_DATA], LOCK_EX) < 0)
		return -errno;
	int r = cache_add_locked(cache, from, list, index);
	flock(cache->own[SHADERS_DATA], LOCK_UN);
	int err = driver_add_texts(cache->own[SHADERS_TEXTS], list);
	return r < 0 ? r : err < 0 ? err : r;
}

static int cache_add_given(struct shader_cache *cache)
{
	struct shaders_list list = {0};

	/* The index first: what it names is in the file already, also if somebody still writes. */
	int r = driver_read_index(cache->given[SHADERS_INDEX], &list.entries, &list.n);
	if (!r)
		r = driver_read_texts(cache->given[SHADERS_TEXTS], &list);
	if (!r)
		r = cache_add(cache, cache->given[SHADERS_DATA], &list, true);
	shaders_list_finish(&list);
	return r;
}

int shader_cache_give_archive(struct shader_cache *cache, int fd)
{
	cleanup_close int owned = fd;
	struct shaders_list list;

	if (!shader_cache_driver(cache))
		return 0;
	int r = archive_read(owned, cache->driver, &list);
	if (r < 0)
		return r;
	r = cache_add(cache, owned, &list, false);
	shaders_list_finish(&list);
	return r;
}

int shader_cache_give(struct shader_cache *cache, enum shaders_driver_file file, int fd)
{
	cleanup_close int owned = fd;

	if (!cache || cache->own[0] < 0)
		return 0;
	if ((unsigned)file >= SHADERS_DRIVER_FILES)
		return -EINVAL;
	close_fd(&cache->given[file]);
	cache->given[file] = TAKE_FD(owned);
	for (unsigned i = 0; i < SHADERS_DRIVER_FILES; i++) {
		if (cache->given[i] < 0)
			return 0;
	}
	int r = cache_add_given(cache);
	for (unsigned i = 0; i < SHADERS_DRIVER_FILES; i++)
		close_fd(&cache->given[i]);
	return r;
}

int shader_cache_fd(const struct shader_cache *cache, enum shaders_driver_file file)
{
	return cache ? cache->own[file] : -1;
}

void shader_cache_destroy(struct shader_cache *cache)
{
	if (!cache)
		return;
	close_fd(&cache->scratch);
	for (unsigned i = 0; i < SHADERS_DRIVER_FILES; i++)
		close_fd(&cache->given[i]);
	cache_close_own(cache);
	free(cache);
}
