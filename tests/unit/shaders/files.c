/* SPDX-License-Identifier: Apache-2.0 */
#include "files.h"

#include "base/cleanup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define MAGIC                                                                                      \
	"\x81"                                                                                     \
	"FOSSILIZEDB\0\0\0\x06"
#define TEXTS_BYTES (8 + 65536 * 20)

void files_make(struct files *files)
{
	for (unsigned i = 0; i < SHADERS_DRIVER_FILES; i++) {
		files->fd[i] = memfd_create("shaders", MFD_CLOEXEC);
		assert_true(files->fd[i] >= 0);
	}
	assert_int_equal(write(files->fd[SHADERS_DATA], MAGIC, 16), 16);
	assert_int_equal(write(files->fd[SHADERS_INDEX], MAGIC, 16), 16);
	assert_int_equal(ftruncate(files->fd[SHADERS_TEXTS], TEXTS_BYTES), 0);
}

void files_close(struct files *files)
{
	for (unsigned i = 0; i < SHADERS_DRIVER_FILES; i++)
		close_fd(&files->fd[i]);
}

static void append(int fd, const void *bytes, size_t n)
{
	lseek(fd, 0, SEEK_END);
	assert_int_equal(write(fd, bytes, n), n);
}

void files_add(const struct files *files, unsigned key, size_t bytes)
{
	struct shaders_entry entry = {.header = {.bytes = 8, .format = 1, .bytes_uncompressed = 8}};
	cleanup_free uint8_t *contents = malloc(bytes + 1);
	char text[48];
	struct stat data;

	snprintf(text, sizeof(text), "%040x", key);
	memcpy(entry.key, text, sizeof(entry.key));
	assert_non_null(contents);
	memset(contents, (int)(key & 0xff), bytes);
	const struct shaders_header header = {.bytes = (uint32_t)bytes,
		.format = 1,
		.crc = shaders_crc(SHADERS_CRC_START, contents, bytes),
		.bytes_uncompressed = (uint32_t)bytes};
	assert_int_equal(fstat(files->fd[SHADERS_DATA], &data), 0);
	entry.offset = (uint64_t)data.st_size + sizeof(entry.key);
	append(files->fd[SHADERS_DATA], entry.key, sizeof(entry.key));
	append(files->fd[SHADERS_DATA], &header, sizeof(header));
	append(files->fd[SHADERS_DATA], contents, bytes);
	append(files->fd[SHADERS_INDEX], &entry, sizeof(entry));
}

void files_add_text(const struct files *files, unsigned place, uint8_t number)
{
	const struct shaders_text text = {{(uint8_t)(place & 0xff), (uint8_t)(place >> 8), number}};

	assert_int_equal(pwrite(files->fd[SHADERS_TEXTS], &text, sizeof(text),
				 (off_t)(8 + place * sizeof(text))),
		sizeof(text));
}

uint64_t files_last(const struct files *files)
{
	struct shaders_entry entry;

	off_t end = lseek(files->fd[SHADERS_INDEX], 0, SEEK_END);
	assert_int_equal(
		pread(files->fd[SHADERS_INDEX], &entry, sizeof(entry), end - (off_t)sizeof(entry)),
		sizeof(entry));
	return entry.offset;
}
