/* SPDX-License-Identifier: Apache-2.0 */
/* Files as the driver writes them, made by hand; a predecessor's may hold anything. */
#include "process/shader_cache.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define MAGIC                                                                                      \
	"\x81"                                                                                     \
	"FOSSILIZEDB\0\0\0\x06"
#define TEXTS_BYTES 8192
#define FOLDER      "mesa_shader_cache_sf"

struct index_entry {
	char key[40];
	uint32_t header[4];
	uint64_t offset;
} __attribute__((packed));

struct files {
	int fd[SHADERS_DRIVER_FILES];
};

struct fixture {
	char root[32];
	struct shader_cache *cache;
	struct files own;   /* as the driver holds them */
	struct files other; /* a predecessor's */
};

static void files_magic(const struct files *files)
{
	assert_int_equal(write(files->fd[SHADERS_DATA], MAGIC, 16), 16);
	assert_int_equal(write(files->fd[SHADERS_INDEX], MAGIC, 16), 16);
	assert_int_equal(ftruncate(files->fd[SHADERS_TEXTS], TEXTS_BYTES), 0);
}

static uint64_t size_of(const struct files *files, enum shaders_driver_file which)
{
	struct stat st;
	assert_int_equal(fstat(files->fd[which], &st), 0);
	return (uint64_t)st.st_size;
}

static void key_of(char *ret, unsigned number)
{
	char text[48];
	snprintf(text, sizeof(text), "%040x", number);
	memcpy(ret, text, 40);
}

/* As the driver appends one. */
static void files_add(const struct files *files, unsigned number, size_t bytes)
{
	struct index_entry entry = {.header = {8, 1, 0, 8}};
	uint32_t header[4] = {(uint32_t)bytes, 1, 0x1234, (uint32_t)bytes};
	int data = files->fd[SHADERS_DATA];
	cleanup_free char *payload = malloc(bytes + 1);

	memset(payload, (int)number, bytes);
	key_of(entry.key, number);
	entry.offset = size_of(files, SHADERS_DATA) + 40;
	lseek(data, 0, SEEK_END);
	assert_int_equal(write(data, entry.key, 40), 40);
	assert_int_equal(write(data, header, sizeof(header)), sizeof(header));
	assert_int_equal(write(data, payload, bytes), bytes);
	lseek(files->fd[SHADERS_INDEX], 0, SEEK_END);
	assert_int_equal(write(files->fd[SHADERS_INDEX], &entry, sizeof(entry)), sizeof(entry));
}

static unsigned files_count(const struct files *files)
{
	uint64_t size = size_of(files, SHADERS_INDEX) - 16;
	assert_int_equal(size % sizeof(struct index_entry), 0);
	return (unsigned)(size / sizeof(struct index_entry));
}

/* Every entry of the index leads to its key, and to `bytes` of the right content. */
static void files_check(const struct files *files, size_t bytes)
{
	for (unsigned i = 0; i < files_count(files); i++) {
		struct index_entry entry;
		char key[40];
		uint32_t header[4];
		uint8_t last;
		int data = files->fd[SHADERS_DATA];
		assert_int_equal(pread(files->fd[SHADERS_INDEX], &entry, sizeof(entry),
					 (off_t)(16 + i * sizeof(entry))),
			sizeof(entry));
		assert_int_equal(pread(data, key, 40, (off_t)entry.offset - 40), 40);
		assert_memory_equal(key, entry.key, 40);
		assert_int_equal(pread(data, header, sizeof(header), (off_t)entry.offset), 16);
		assert_int_equal(header[0], bytes);
		assert_int_equal(pread(data, &last, 1, (off_t)(entry.offset + 16 + bytes - 1)), 1);
		assert_int_equal(last, (uint8_t)strtoul((char[]){key[38], key[39], 0}, NULL, 16));
	}
}

static void files_in_memory(struct files *files)
{
	for (unsigned i = 0; i < SHADERS_DRIVER_FILES; i++) {
		files->fd[i] = memfd_create("file", MFD_CLOEXEC);
		assert_true(files->fd[i] >= 0);
	}
	files_magic(files);
}

static void files_open(struct files *files, const char *folder)
{
	static const char *const names[] = {"foz_cache.foz", "foz_cache_idx.foz", "index"};

	for (unsigned i = 0; i < SHADERS_DRIVER_FILES; i++) {
		char path[128];
		snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
		files->fd[i] = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		assert_true(files->fd[i] >= 0);
	}
	files_magic(files);
}

static void files_close(struct files *files)
{
	for (unsigned i = 0; i < SHADERS_DRIVER_FILES; i++)
		close_fd(&files->fd[i]);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	strcpy(f->root, "/tmp/vgpu-shaders-XXXXXX");
	assert_non_null(mkdtemp(f->root));
	int root = open(f->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(shader_cache_begin(root, &f->cache), 0);
	assert_string_equal(getenv("MESA_SHADER_CACHE_DISABLE"), "false");
	assert_int_equal(mkdir(FOLDER, 0700), 0); /* in the working directory, as the driver does */
	files_open(&f->own, FOLDER);
	assert_int_equal(shader_cache_open(f->cache), 0);
	files_in_memory(&f->other);
	*state = f;
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *where)
{
	return remove(path);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	shader_cache_destroy(f->cache);
	files_close(&f->own);
	files_close(&f->other);
	assert_int_equal(nftw(f->root, remove_one, 4, FTW_DEPTH | FTW_PHYS), 0);
	free(f);
	return 0;
}

static int give(struct fixture *f, const struct files *files)
{
	int r = 0;

	for (unsigned i = 0; i < SHADERS_DRIVER_FILES; i++)
		r = shader_cache_give(f->cache, i, fcntl(files->fd[i], F_DUPFD_CLOEXEC, 0));
	return r;
}

static void expect_text(const struct fixture *f, unsigned place, const uint8_t *expected)
{
	uint8_t text[20];

	assert_int_equal(pread(f->own.fd[SHADERS_TEXTS], text, 20, 8 + (off_t)place * 20), 20);
	assert_memory_equal(text, expected, 20);
}

static void test_added(void **state)
{
	struct fixture *f = *state;
	char here[64];

	assert_string_equal(getcwd(here, sizeof(here)), "/");
	files_add(&f->own, 7, 100);
	for (unsigned i = 1; i <= 5; i++)
		files_add(&f->other, i, 100);
	/* Of a text whose hash begins with 200, 0; a place that is another's counts for none. */
	static const uint8_t text[20] = {200, 0, 7}, strange[20] = {1, 1, 7};
	assert_int_equal(pwrite(f->other.fd[SHADERS_TEXTS], text, 20, 8 + 200 * 20), 20);
	assert_int_equal(pwrite(f->other.fd[SHADERS_TEXTS], strange, 20, 8 + 100 * 20), 20);
	static const uint8_t before[20] = {9, 0, 3}, none[20];
	assert_int_equal(pwrite(f->own.fd[SHADERS_TEXTS], before, 20, 8 + 9 * 20), 20);
	assert_int_equal(give(f, &f->other), 5);
	assert_int_equal(files_count(&f->own), 6);
	files_check(&f->own, 100);
	expect_text(f, 200, text);
	expect_text(f, 100, none);
	expect_text(f, 9, before);
	/* The driver goes on behind them. */
	files_add(&f->own, 8, 100);
	files_check(&f->own, 100);
}

static void test_added_once(void **state)
{
	struct fixture *f = *state;

	files_add(&f->own, 1, 50);
	files_add(&f->other, 1, 50);
	files_add(&f->other, 2, 50);
	assert_int_equal(give(f, &f->other), 1);
	assert_int_equal(give(f, &f->other), 0);
	files_add(&f->other, 3, 50);
	assert_int_equal(give(f, &f->other), 1);
	assert_int_equal(files_count(&f->own), 3);
	files_check(&f->own, 50);
}

/* A process that was killed leaves halves. */
static void test_cut_off(void **state)
{
	struct fixture *f = *state;
	int data = f->other.fd[SHADERS_DATA], index = f->other.fd[SHADERS_INDEX];

	for (unsigned i = 1; i <= 3; i++)
		files_add(&f->other, i, 100);
	assert_int_equal(ftruncate(index, 16 + 3 * 64 - 1), 0);
	assert_int_equal(give(f, &f->other), 2);
	files_check(&f->own, 100);
	assert_int_equal(ftruncate(data, 16 + 156 + 80), 0);
	assert_int_equal(ftruncate(f->own.fd[SHADERS_INDEX], 16), 0);
	assert_int_equal(give(f, &f->other), 1);
	files_check(&f->own, 100);
	assert_int_equal(ftruncate(index, 3), 0);
	assert_int_equal(give(f, &f->other), 0);
	assert_int_equal(ftruncate(index, 0), 0);
	assert_int_equal(give(f, &f->other), 0);
	assert_int_equal(files_count(&f->own), 1);
}

static void set_entry(struct fixture *f, uint32_t bytes, uint64_t offset)
{
	struct index_entry entry = {.header = {bytes, 1, 0, bytes}, .offset = offset};

	key_of(entry.key, 99);
	assert_int_equal(pwrite(f->other.fd[SHADERS_INDEX], &entry, sizeof(entry), 16), 64);
}

static void test_hostile(void **state)
{
	struct fixture *f = *state;
	static const uint64_t offsets[] = {
		0, 15, 1000, UINT32_MAX, INT64_MAX, UINT64_MAX - 20, UINT64_MAX};
	const uint32_t huge[4] = {UINT32_MAX, 1, 0, UINT32_MAX};

	for (size_t i = 0; i < sizeof(offsets) / sizeof(*offsets); i++) {
		set_entry(f, 8, offsets[i]);
		give(f, &f->other);
	}
	set_entry(f, 9, 16);
	assert_int_equal(give(f, &f->other), 0);
	set_entry(f, 8, 56);
	assert_int_equal(pwrite(f->other.fd[SHADERS_DATA], huge, 16, 56), 16);
	assert_int_equal(give(f, &f->other), 0);
	assert_int_equal(files_count(&f->own), 0);
	struct files strange = f->other;
	strange.fd[SHADERS_INDEX] = eventfd(0, EFD_CLOEXEC);
	assert_true(give(f, &strange) < 0);
	close(strange.fd[SHADERS_INDEX]);
	assert_int_equal(shader_cache_give(f->cache, 3, -1), -EINVAL);
}

/* Nothing is there in part when the file system is full. */
static void test_full(void **state)
{
	struct fixture *f = *state;
	struct rlimit before, limit;

	files_add(&f->own, 1, 1000);
	uint64_t full = size_of(&f->own, SHADERS_DATA);
	files_add(&f->other, 2, 1000);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	limit = (struct rlimit){full + 500, before.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	int r = give(f, &f->other);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_int_equal(r, -ENOSPC);
	assert_int_equal(size_of(&f->own, SHADERS_DATA), full);
	assert_int_equal(files_count(&f->own), 1);
	assert_int_equal(give(f, &f->other), 1);
	files_check(&f->own, 1000);
}

static void test_not_kept(void **state)
{
	struct shader_cache *cache;
	char root[] = "/tmp/vgpu-shaders-XXXXXX";

	assert_non_null(mkdtemp(root));
	assert_int_equal(shader_cache_begin(open(root, O_PATH | O_CLOEXEC), &cache), 0);
	assert_int_equal(shader_cache_open(cache), -ENOENT);
	assert_int_equal(shader_cache_fd(cache, SHADERS_DATA), -1);
	assert_int_equal(shader_cache_give(cache, SHADERS_DATA, dup(0)), 0);
	shader_cache_destroy(cache);
	assert_int_equal(shader_cache_fd(NULL, SHADERS_DATA), -1);
	assert_int_equal(shader_cache_give(NULL, SHADERS_DATA, dup(0)), 0);
	shader_cache_destroy(NULL);
	assert_int_equal(rmdir(root), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_added, setup, teardown),
		cmocka_unit_test_setup_teardown(test_added_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cut_off, setup, teardown),
		cmocka_unit_test_setup_teardown(test_hostile, setup, teardown),
		cmocka_unit_test_setup_teardown(test_full, setup, teardown),
		cmocka_unit_test(test_not_kept),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
