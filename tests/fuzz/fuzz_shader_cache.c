/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Compiled shaders as a predecessor that was taken over may leave them: the input is the size of
 * the index (two bytes), the index and the data, both behind their magic. Whatever is added, the
 * files of this process must stay such that each entry of the index leads to its own key.
 */

#include "process/shader_cache.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAGIC = 16, KEY = 40, HEADER = 16, ENTRY = KEY + HEADER + 8, TEXTS = 4096 };

struct entry {
	char key[KEY];
	uint32_t header[4];
	uint64_t offset;
} __attribute__((packed));

static int file_of(const void *bytes, size_t size)
{
	static const char magic[MAGIC];
	int fd = memfd_create("shaders", MFD_CLOEXEC);

	if (fd < 0 || write(fd, magic, MAGIC) != MAGIC ||
		(size && write(fd, bytes, size) != (ssize_t)size))
		abort();
	return fd;
}

/* Two entries of its own, of which the input can have the first. */
static void own_files(const char *folder)
{
	static const char *const names[] = {"foz_cache.foz", "foz_cache_idx.foz", "index"};
	struct entry entries[2] = {{.header = {8}, .offset = MAGIC + KEY},
		{.header = {8}, .offset = MAGIC + KEY + HEADER + KEY}};
	struct {
		char key[KEY];
		uint32_t header[4];
	} data[2] = {0};
	char path[64];

	for (unsigned i = 0; i < 2; i++) {
		memset(data[i].key, '0' + (int)i, KEY);
		memset(entries[i].key, '0' + (int)i, KEY);
	}
	for (unsigned i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
		int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		if (fd < 0 || ftruncate(fd, i == 2 ? TEXTS : MAGIC) < 0 ||
			(i == 0 && pwrite(fd, data, sizeof(data), MAGIC) < 0) ||
			(i == 1 && pwrite(fd, entries, sizeof(entries), MAGIC) < 0))
			abort();
		close(fd);
	}
}

static void check(const struct shader_cache *cache)
{
	int index = shader_cache_fd(cache, SHADERS_INDEX);
	int data = shader_cache_fd(cache, SHADERS_DATA);
	struct stat st, st_data;

	if (fstat(index, &st) < 0 || fstat(data, &st_data) < 0 || (st.st_size - MAGIC) % ENTRY)
		abort();
	for (off_t at = MAGIC; at < st.st_size; at += ENTRY) {
		struct entry entry;
		char key[KEY];
		uint32_t header[4];
		if (pread(index, &entry, ENTRY, at) != ENTRY ||
			pread(data, key, KEY, (off_t)entry.offset - KEY) != KEY ||
			pread(data, header, HEADER, (off_t)entry.offset) != HEADER ||
			memcmp(key, entry.key, KEY) != 0 ||
			(off_t)(entry.offset + HEADER + header[0]) > st_data.st_size)
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char folder[] = "/tmp/fuzz-shaders-XXXXXX";
	struct shader_cache *cache;
	char path[64];

	int here = open(".", O_PATH | O_CLOEXEC);
	if (here < 0 || size < 2 || !mkdtemp(folder)) {
		close(here);
		return 0;
	}
	size_t n = (size_t)data[0] | (size_t)data[1] << 8;
	data += 2;
	size -= 2;
	n = n < size ? n : size;
	own_files(folder);
	if (shader_cache_begin(open(folder, O_PATH | O_CLOEXEC), &cache) < 0 ||
		shader_cache_open(cache) < 0 || fchdir(here) < 0)
		abort();
	close(here);
	for (unsigned round = 0; round < 2; round++) {
		shader_cache_give(cache, SHADERS_INDEX, file_of(data, n));
		shader_cache_give(cache, SHADERS_DATA, file_of(data + n, size - n));
		shader_cache_give(cache, SHADERS_TEXTS, file_of(data, TEXTS < n ? TEXTS : n));
		check(cache);
	}
	shader_cache_destroy(cache);
	static const char *const names[] = {"foz_cache.foz", "foz_cache_idx.foz", "index"};
	for (unsigned i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
		unlink(path);
	}
	rmdir(folder);
	return 0;
}
