/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A tenant's archive between a process that was taken over and a disk that fails. The input is a
 * byte of options, the size of the archive that is there (two bytes), that archive, and the
 * process' index and data, each behind its magic: the index has a quarter of what is left. Options
 * make sums right that an input would hardly hit. Whatever happens, the archive that is there
 * afterwards is whole, no larger than allowed, and each of its entries is what its sum says.
 */

#include "shaders/shaders.h"

#include "base/checked.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAGIC = 16, TEXTS = 8 + 64 * 20, DRIVER = 7, BUDGET = 1 << 16 };
enum options { REPAIR_ARCHIVE = 1, REPAIR_CONTENTS = 2, SMALL = 4 };

static int file_of(size_t skip, const void *bytes, size_t size)
{
	int fd = memfd_create("shaders", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, (off_t)skip) < 0 ||
		(size && pwrite(fd, bytes, size, (off_t)skip) != (ssize_t)size))
		abort();
	return fd;
}

static void put(int folder, const void *bytes, size_t size)
{
	int fd = openat(folder, "a", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || (size && write(fd, bytes, size) != (ssize_t)size))
		abort();
	close(fd);
}

/* The head and the tables of an archive become such that they are believed. */
static void repair_archive(uint8_t *bytes, size_t size)
{
	struct shaders_file head;

	if (size < sizeof(head))
		return;
	memcpy(&head, bytes, sizeof(head));
	head.magic = SHADERS_MAGIC;
	head.version = SHADERS_VERSION;
	head.driver = DRIVER;
	head.texts %= 4;
	head.entries %= 8;
	size_t tables = head.entries * sizeof(struct shaders_entry) +
			head.texts * sizeof(struct shaders_text);
	if (tables > size - sizeof(head))
		return;
	head.tables = size - tables;
	head.crc = shaders_crc(SHADERS_CRC_START, bytes + head.tables, tables);
	memcpy(bytes, &head, sizeof(head));
}

static void repair_contents(int index, int data)
{
	struct shaders_entry *entries;
	uint8_t contents[4096];
	size_t n;

	if (driver_read_index(index, &entries, &n) < 0)
		n = 0;
	for (size_t i = 0; i < n; i++) {
		struct shaders_entry *entry = &entries[i];
		if (driver_find(data, entry) < 0)
			continue;
		entry->header.bytes %= sizeof(contents);
		entry->header.bytes_uncompressed = entry->header.bytes;
		entry->header.format = 1;
		if (shaders_read_at(data, contents, entry->header.bytes, entry->offset) < 0)
			continue;
		entry->header.crc = shaders_crc(SHADERS_CRC_START, contents, entry->header.bytes);
		if (pwrite(data, &entry->header, sizeof(entry->header),
			    (off_t)(entry->offset - sizeof(entry->header))) < 0)
			abort();
	}
	free(entries);
}

static void check(int folder, int merged, uint64_t budget)
{
	struct shaders_list list;
	struct stat st;
	int fd = openat(folder, "a", O_RDONLY | O_CLOEXEC);

	if (merged <= 0) {
		close(fd);
		return;
	}
	if (fd < 0 || fstat(fd, &st) < 0 || (uint64_t)st.st_size > budget ||
		archive_read(fd, DRIVER, &list) < 0 || list.n < (size_t)merged)
		abort();
	for (size_t i = 0; i < list.n; i++) {
		void *contents = malloc(list.entries[i].header.bytes);
		if (!contents || shaders_read(fd, &list.entries[i], contents) < 0)
			abort();
		free(contents);
	}
	shaders_list_finish(&list);
	close(fd);
}

static void run(int folder, unsigned options, uint8_t *archive, size_t n_archive,
	const uint8_t *rest, size_t n_rest)
{
	const uint64_t budget = options & SMALL ? 2000 : BUDGET;
	size_t n_index = n_rest / 4;
	int fds[SHADERS_DRIVER_FILES] = {
		[SHADERS_INDEX] = file_of(MAGIC, rest, n_index),
		[SHADERS_DATA] = file_of(MAGIC, rest + n_index, n_rest - n_index),
		[SHADERS_TEXTS] = file_of(0, rest, MIN(n_rest, (size_t)TEXTS)),
	};

	if (options & REPAIR_ARCHIVE)
		repair_archive(archive, n_archive);
	if (options & REPAIR_CONTENTS)
		repair_contents(fds[SHADERS_INDEX], fds[SHADERS_DATA]);
	if (n_archive)
		put(folder, archive, n_archive);
	check(folder, store_merge(folder, "a", DRIVER, fds, budget), budget);
	for (unsigned i = 0; i < SHADERS_DRIVER_FILES; i++)
		close(fds[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char dir[] = "/tmp/fuzz-store-XXXXXX";

	if (size < 3 || !mkdtemp(dir))
		return 0;
	int folder = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	size_t n = MIN((size_t)data[1] | (size_t)data[2] << 8, size - 3);
	uint8_t *archive = malloc(n + 1);
	if (folder < 0 || !archive)
		abort();
	memcpy(archive, data + 3, n);
	run(folder, data[0], archive, n, data + 3 + n, size - 3 - n);
	free(archive);
	unlinkat(folder, "a", 0);
	unlinkat(folder, "a.new", 0);
	unlinkat(folder, ".lock", 0);
	close(folder);
	rmdir(dir);
	return 0;
}
