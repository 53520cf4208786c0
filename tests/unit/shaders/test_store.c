/* SPDX-License-Identifier: Apache-2.0 */
/* A tenant's archive: what goes in, what comes out, and what neither disk nor process can do. */
#include "files.h"

#include "base/cleanup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/magic.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define NAME   "driver"
#define DRIVER 7u
#define BUDGET (4ull << 20)

struct fixture {
	char dir[48];
	int folder;
	struct files files;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	/* A disk, as a state directory is: what device processes have is memory. */
	strcpy(f->dir, "/var/tmp/vgpu-store-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	f->folder = open(f->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_true(f->folder >= 0);
	files_make(&f->files);
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

	files_close(&f->files);
	close(f->folder);
	assert_int_equal(nftw(f->dir, remove_one, 4, FTW_DEPTH | FTW_PHYS), 0);
	free(f);
	return 0;
}

static int merge(const struct fixture *f)
{
	return store_merge(f->folder, NAME, DRIVER, f->files.fd, BUDGET);
}

static int open_archive(const struct fixture *f, const char *name, int flags)
{
	return openat(f->folder, name, flags | O_CLOEXEC, 0600);
}

static unsigned key_of(const struct shaders_entry *entry)
{
	char text[41] = "";

	memcpy(text, entry->key, 40);
	return (unsigned)strtoul(text, NULL, 16);
}

/* How many there are; each must be whole and what files_add() wrote, the texts in their places. */
static unsigned count(const struct fixture *f, unsigned *ret_texts)
{
	struct shaders_list list;
	cleanup_close int fd = open_archive(f, NAME, O_RDONLY);

	if (fd < 0)
		return 0;
	assert_int_equal(archive_read(fd, DRIVER, &list), 0);
	for (size_t i = 0; i < list.n; i++) {
		cleanup_free uint8_t *contents = malloc(list.entries[i].header.bytes);
		assert_non_null(contents);
		assert_int_equal(shaders_read(fd, &list.entries[i], contents), 0);
		assert_int_equal(contents[0], key_of(&list.entries[i]) & 0xff);
	}
	unsigned n = (unsigned)list.n;
	if (ret_texts)
		*ret_texts = (unsigned)list.n_texts;
	shaders_list_finish(&list);
	return n;
}

static bool has(const struct fixture *f, unsigned key)
{
	struct shaders_list list;
	bool found = false;
	cleanup_close int fd = open_archive(f, NAME, O_RDONLY);

	assert_int_equal(archive_read(fd, DRIVER, &list), 0);
	for (size_t i = 0; i < list.n; i++)
		found |= key_of(&list.entries[i]) == key;
	shaders_list_finish(&list);
	return found;
}

static unsigned files_in(const struct fixture *f)
{
	DIR *dir = opendir(f->dir);
	unsigned n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n - 2; /* . and .. */
}

/* ---- what it is for ---- */

static void test_several_processes(void **state)
{
	const struct fixture *f = *state;
	struct files other;
	unsigned texts;

	files_make(&other);
	files_add(&f->files, 1, 100);
	files_add(&f->files, 2, 5000);
	files_add_text(&f->files, 5, 1);
	assert_int_equal(merge(f), 2);
	/* One that was given both compiled a third; another one, at work meanwhile, a fourth. */
	files_add(&f->files, 3, 70);
	files_add_text(&f->files, 40000, 1);
	files_add(&other, 2, 5000);
	files_add(&other, 4, 80);
	files_add_text(&other, 5, 2);
	files_add_text(&other, 6, 1);
	assert_int_equal(store_merge(f->folder, NAME, DRIVER, other.fd, BUDGET), 1);
	assert_int_equal(merge(f), 1);
	assert_int_equal(count(f, &texts), 4);
	assert_int_equal(texts, 3);
	assert_true(has(f, 1) && has(f, 2) && has(f, 3) && has(f, 4));
	assert_int_equal(merge(f), 0);
	assert_int_equal(files_in(f), 2); /* and the lock */
	files_close(&other);
}

static void test_nobody_else_reads_it(void **state)
{
	const struct fixture *f = *state;
	struct stat st;

	umask(0);
	files_add(&f->files, 1, 10);
	assert_int_equal(merge(f), 1);
	assert_int_equal(fstatat(f->folder, NAME, &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

/* What a device process holds open does not change under it. */
static void test_a_reader_keeps_what_it_has(void **state)
{
	const struct fixture *f = *state;
	struct shaders_list list;
	uint8_t contents[100];

	files_add(&f->files, 1, 100);
	assert_int_equal(merge(f), 1);
	cleanup_close int before = open_archive(f, NAME, O_RDONLY);
	files_add(&f->files, 2, 100);
	assert_int_equal(merge(f), 1);
	assert_int_equal(archive_read(before, DRIVER, &list), 0);
	assert_int_equal(list.n, 1);
	assert_int_equal(shaders_read(before, &list.entries[0], contents), 0);
	shaders_list_finish(&list);
}

/* Both add to the same archive at the same time, again and again. */
static void test_at_the_same_time(void **state)
{
	const struct fixture *f = *state;
	enum { WRITERS = 4, EACH = 25 };
	int status;

	for (unsigned w = 0; w < WRITERS; w++) {
		if (fork())
			continue;
		struct files files;
		files_make(&files);
		for (unsigned i = 0; i < EACH; i++) {
			files_add(&files, w * EACH + i, 200);
			if (store_merge(f->folder, NAME, DRIVER, files.fd, BUDGET) != 1)
				_exit(1);
		}
		_exit(0);
	}
	for (unsigned w = 0; w < WRITERS; w++) {
		assert_true(wait(&status) > 0);
		assert_int_equal(status, 0);
	}
	assert_int_equal(count(f, NULL), WRITERS * EACH);
}

/* ---- room ---- */

static uint64_t size_of(const struct fixture *f, const char *name)
{
	struct stat st;
	return fstatat(f->folder, name, &st, 0) < 0 ? 0 : (uint64_t)st.st_size;
}

static void test_the_oldest_give_way(void **state)
{
	const struct fixture *f = *state;
	const uint64_t budget = 100000;

	for (unsigned key = 1; key <= 9; key++)
		files_add(&f->files, key, 10000);
	assert_int_equal(store_merge(f->folder, NAME, DRIVER, f->files.fd, budget), 9);
	struct files other;
	files_make(&other);
	files_add(&other, 10, 10000);
	files_add(&other, 11, 10000);
	assert_int_equal(store_merge(f->folder, NAME, DRIVER, other.fd, budget), 2);
	assert_true(size_of(f, NAME) <= budget);
	assert_int_equal(count(f, NULL), 9);
	assert_false(has(f, 1) || has(f, 2));
	assert_true(has(f, 3) && has(f, 11));
	/* One that is larger than all the room there is. */
	files_add(&other, 12, 100000);
	assert_true(store_merge(f->folder, NAME, DRIVER, other.fd, budget) >= 0);
	assert_true(size_of(f, NAME) <= budget);
	files_close(&other);
}

/* Some drivers have a shader that is another one each time. */
static void test_a_few_do_not_make_a_large_one_new(void **state)
{
	const struct fixture *f = *state;

	for (unsigned key = 1; key <= 30; key++)
		files_add(&f->files, key, 100000);
	assert_int_equal(merge(f), 30);
	for (unsigned key = 31; key <= 33; key++) {
		files_add(&f->files, key, 100);
		assert_int_equal(merge(f), 0);
	}
	files_add(&f->files, 34, 100);
	assert_int_equal(merge(f), 4);
	files_add(&f->files, 35, 20000); /* one that is large */
	assert_int_equal(merge(f), 1);
	files_add_text(&f->files, 1, 1);
	assert_int_equal(merge(f), 0);
	unsigned texts;
	assert_int_equal(count(f, &texts), 35);
	assert_int_equal(texts, 1);
}

static void test_other_archives_give_way(void **state)
{
	const struct fixture *f = *state;
	const uint64_t budget = 50000;
	char name[16];

	files_add(&f->files, 1, 20000);
	for (unsigned i = 0; i < 4; i++) {
		struct timespec times[2] = {{.tv_sec = 1000 + i}, {.tv_sec = 1000 + i}};
		snprintf(name, sizeof(name), "user%u", i);
		assert_true(store_merge(f->folder, name, DRIVER, f->files.fd, budget) >= 0);
		assert_int_equal(utimensat(f->folder, name, times, 0), 0);
	}
	assert_int_equal(size_of(f, "user0") + size_of(f, "user1"), 0);
	assert_true(size_of(f, "user2") && size_of(f, "user3"));
	/* One that is used, though nothing is new, is not the oldest any more. */
	assert_int_equal(store_merge(f->folder, "user2", DRIVER, f->files.fd, budget), 0);
	assert_int_equal(store_merge(f->folder, "user9", DRIVER, f->files.fd, budget), 1);
	assert_true(size_of(f, "user2") && !size_of(f, "user3"));
}

static void test_only_so_many_archives(void **state)
{
	const struct fixture *f = *state;
	char name[16];

	files_add(&f->files, 1, 10);
	for (unsigned i = 0; i < 40; i++) {
		snprintf(name, sizeof(name), "user%u", i);
		assert_int_equal(store_merge(f->folder, name, DRIVER, f->files.fd, BUDGET), 1);
	}
	assert_int_equal(files_in(f), 16 + 1);
}

/* ---- a process that was taken over ---- */

static void set_header(const struct files *files, const struct shaders_header *header)
{
	assert_int_equal(
		pwrite(files->fd[SHADERS_DATA], header, sizeof(*header), (off_t)files_last(files)),
		sizeof(*header));
}

static void test_headers_that_lie(void **state)
{
	static const struct shaders_header bad[] = {
		{.bytes = 0, .format = 1},
		{.bytes = 99, .format = 1, .crc = 1, .bytes_uncompressed = 99},
		{.bytes = 100, .format = 2, .bytes_uncompressed = 100},
		{.bytes = 100, .format = 1, .bytes_uncompressed = 1000},
		{.bytes = 101, .format = 1, .bytes_uncompressed = 101},
		{.bytes = UINT32_MAX, .format = 1, .bytes_uncompressed = UINT32_MAX},
		{.bytes = SHADERS_FILE_MAX, .format = 1, .bytes_uncompressed = SHADERS_FILE_MAX},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		files_close(&f->files);
		files_make(&f->files);
		files_add(&f->files, 1, 10);
		files_add(&f->files, 2, 100);
		set_header(&f->files, &bad[i]);
		assert_true(merge(f) >= 0);
		assert_int_equal(count(f, NULL), 1);
		assert_false(has(f, 2));
	}
}

static void test_contents_that_are_not_what_the_sum_says(void **state)
{
	struct fixture *f = *state;

	files_add(&f->files, 1, 100);
	files_add(&f->files, 2, 100);
	files_add(&f->files, 3, 100);
	assert_int_equal(pwrite(f->files.fd[SHADERS_DATA], "x", 1, 16 + 156 + 60), 1);
	assert_int_equal(merge(f), 2);
	assert_true(has(f, 1) && !has(f, 2) && has(f, 3));
}

static void test_keys_that_are_none(void **state)
{
	struct fixture *f = *state;
	static const char *const keys[] = {"../../../../../etc/passwd", "ABCDEF", "\n"};

	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
		files_add(&f->files, (unsigned)i, 10);
		assert_true(pwrite(f->files.fd[SHADERS_INDEX], keys[i], strlen(keys[i]),
				    (off_t)(16 + i * 64)) > 0);
	}
	assert_int_equal(merge(f), 0);
	assert_int_equal(count(f, NULL), 0);
}

/* The same key a thousand times, and a thousand keys with one shader's bytes. */
static void test_an_index_that_repeats(void **state)
{
	struct fixture *f = *state;
	struct shaders_entry entry;
	int index = f->files.fd[SHADERS_INDEX];

	files_add(&f->files, 1, 8000);
	assert_int_equal(pread(index, &entry, sizeof(entry), 16), sizeof(entry));
	for (unsigned i = 1; i < 1000; i++)
		assert_int_equal(pwrite(index, &entry, sizeof(entry), 16 + (off_t)i * 64), 64);
	assert_int_equal(merge(f), 1);
	for (unsigned i = 1; i < 1000; i++) {
		char key[48];
		snprintf(key, sizeof(key), "%040x", i << 8 | 1);
		memcpy(entry.key, key, 40);
		assert_int_equal(pwrite(index, &entry, sizeof(entry), 16 + (off_t)i * 64), 64);
	}
	assert_true(merge(f) < 1000);
	assert_true(size_of(f, NAME) <= BUDGET);
	count(f, NULL);
}

static void test_offsets_out_of_the_file(void **state)
{
	static const uint64_t offsets[] = {
		0, 15, 1000, UINT32_MAX, INT64_MAX, UINT64_MAX - 20, UINT64_MAX};
	struct fixture *f = *state;

	files_add(&f->files, 1, 10);
	for (size_t i = 0; i < sizeof(offsets) / sizeof(*offsets); i++) {
		assert_int_equal(pwrite(f->files.fd[SHADERS_INDEX], &offsets[i], 8, 16 + 56), 8);
		assert_int_equal(merge(f), 0);
	}
	assert_int_equal(count(f, NULL), 0);
}

static void test_files_that_are_cut_off(void **state)
{
	struct fixture *f = *state;

	for (unsigned key = 1; key <= 3; key++)
		files_add(&f->files, key, 100);
	assert_int_equal(ftruncate(f->files.fd[SHADERS_INDEX], 16 + 3 * 64 - 1), 0);
	assert_int_equal(ftruncate(f->files.fd[SHADERS_DATA], 16 + 156 + 80), 0);
	assert_int_equal(merge(f), 1);
	assert_int_equal(ftruncate(f->files.fd[SHADERS_TEXTS], 30), 0);
	assert_int_equal(merge(f), 0);
	assert_int_equal(ftruncate(f->files.fd[SHADERS_TEXTS], 7), 0);
	assert_int_equal(merge(f), -EBADMSG);
	assert_int_equal(ftruncate(f->files.fd[SHADERS_INDEX], 0), 0);
	assert_int_equal(count(f, NULL), 1);
}

/* A read of what is no file in memory might never end. */
static void test_descriptors_of_other_kinds(void **state)
{
	struct fixture *f = *state;
	int pipes[2], fds[SHADERS_DRIVER_FILES];

	files_add(&f->files, 1, 10);
	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	cleanup_close int disk = openat(f->folder, "theirs", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct statfs fs;
	assert_int_equal(fstatfs(disk, &fs), 0);
	bool on_disk = fs.f_type != TMPFS_MAGIC;
	for (unsigned i = 0; i < SHADERS_DRIVER_FILES; i++) {
		memcpy(fds, f->files.fd, sizeof(fds));
		fds[i] = pipes[0];
		assert_int_equal(store_merge(f->folder, NAME, DRIVER, fds, BUDGET), -EBADMSG);
		fds[i] = disk;
		if (on_disk)
			assert_int_equal(
				store_merge(f->folder, NAME, DRIVER, fds, BUDGET), -EBADMSG);
		fds[i] = -1;
		assert_int_equal(store_merge(f->folder, NAME, DRIVER, fds, BUDGET), -EBADF);
	}
	assert_int_equal(files_in(f), 1); /* theirs: no lock was needed to see that */
	close(pipes[0]);
	close(pipes[1]);
}

/* ---- a disk that fails, an interrupted keeper ---- */

/* Whatever byte is another one: what is read is whole, and the archive goes on. */
static void test_every_byte_may_be_damaged(void **state)
{
	struct fixture *f = *state;
	struct shaders_list list;

	files_add(&f->files, 1, 40);
	files_add(&f->files, 2, 40);
	files_add_text(&f->files, 3, 1);
	assert_int_equal(merge(f), 2);
	uint64_t size = size_of(f, NAME);
	cleanup_close int fd = open_archive(f, NAME, O_RDWR);
	for (uint64_t at = 0; at < size; at++) {
		uint8_t byte, contents[64];
		assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
		byte ^= 0x41;
		assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
		int r = archive_read(fd, DRIVER, &list);
		unsigned whole = 0;
		for (size_t i = 0; !r && i < list.n; i++) {
			assert_true(list.entries[i].header.bytes <= sizeof(contents));
			whole += shaders_read(fd, &list.entries[i], contents) == 0;
		}
		assert_true(r == -EBADMSG || whole == 1);
		if (!r)
			shaders_list_finish(&list);
		byte ^= 0x41;
		assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
	}
	for (uint64_t cut = size; cut-- > 0;) {
		assert_int_equal(ftruncate(fd, (off_t)cut), 0);
		assert_int_equal(archive_read(fd, DRIVER, &list), -EBADMSG);
	}
	assert_int_equal(merge(f), 2);
	assert_int_equal(count(f, NULL), 2);
}

static void test_it_is_another_drivers(void **state)
{
	struct fixture *f = *state;
	struct shaders_list list;

	files_add(&f->files, 1, 40);
	assert_int_equal(merge(f), 1);
	cleanup_close int fd = open_archive(f, NAME, O_RDWR);
	assert_int_equal(archive_read(fd, DRIVER + 1, &list), -EBADMSG);
	const uint32_t version = SHADERS_VERSION + 1;
	assert_int_equal(pwrite(fd, &version, 4, 4), 4);
	assert_int_equal(archive_read(fd, DRIVER, &list), -EBADMSG);
	assert_int_equal(merge(f), 1); /* it begins anew */
}

static void test_what_an_interrupted_one_left(void **state)
{
	struct fixture *f = *state;

	cleanup_close int mine = open_archive(f, NAME ".new", O_RDWR | O_CREAT);
	cleanup_close int other = open_archive(f, "user1.new", O_RDWR | O_CREAT);
	assert_true(mine >= 0 && other >= 0);
	files_add(&f->files, 1, 40);
	assert_int_equal(merge(f), 1);
	assert_int_equal(files_in(f), 2);
	assert_int_equal(symlinkat("/etc/passwd", f->folder, NAME ".new"), 0);
	files_add(&f->files, 2, 40);
	assert_int_equal(merge(f), -ELOOP);
	assert_int_equal(count(f, NULL), 1);
	assert_int_equal(merge(f), 1); /* it was cleared away */
}

static void test_a_full_disk(void **state)
{
	struct fixture *f = *state;
	struct rlimit before, limit;

	files_add(&f->files, 1, 100);
	assert_int_equal(merge(f), 1);
	files_add(&f->files, 2, 20000);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	limit = (struct rlimit){10000, before.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	int r = merge(f);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_true(r == -EFBIG || r == -ENOSPC);
	assert_int_equal(count(f, NULL), 1);
	assert_int_equal(files_in(f), 2);
	assert_int_equal(merge(f), 1);
}

/* The CRC-32 of zlib, its last step left out, as in the files that Mesa 22.3 writes. */
static void test_the_sum_is_the_drivers(void **state)
{
	assert_int_equal(shaders_crc(SHADERS_CRC_START, "123456789", 9), 0x340bc6d9);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(several_processes),
		TEST(nobody_else_reads_it),
		TEST(a_reader_keeps_what_it_has),
		TEST(at_the_same_time),
		TEST(the_oldest_give_way),
		TEST(a_few_do_not_make_a_large_one_new),
		TEST(other_archives_give_way),
		TEST(only_so_many_archives),
		TEST(headers_that_lie),
		TEST(contents_that_are_not_what_the_sum_says),
		TEST(keys_that_are_none),
		TEST(an_index_that_repeats),
		TEST(offsets_out_of_the_file),
		TEST(files_that_are_cut_off),
		TEST(descriptors_of_other_kinds),
		TEST(every_byte_may_be_damaged),
		TEST(it_is_another_drivers),
		TEST(what_an_interrupted_one_left),
		TEST(a_full_disk),
		cmocka_unit_test(test_the_sum_is_the_drivers),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
