/* SPDX-License-Identifier: Apache-2.0 */
#include "sample.h"

#include "base/cleanup.h"
#include "state/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cmocka.h>

static int new_memfd(void)
{
	int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	assert_true(fd >= 0);
	return fd;
}

static int written(enum state_kind kind)
{
	struct state_writer *w;
	int fd = new_memfd();

	assert_int_equal(state_writer_create(kind, fd, &w), 0);
	sample_write(w);
	assert_int_equal(state_finish(w), 0);
	state_writer_destroy(w);
	lseek(fd, 0, SEEK_SET);
	return fd;
}

static int read_fd(int fd)
{
	struct state_reader *r;
	int err = state_reader_create(fd, &r);

	if (err)
		return err;
	err = sample_read(r);
	if (err < 0 && err != -EILSEQ)
		assert_true(state_reader_why(r)[0]);
	/* The last word stays. */
	struct state_section again;
	if (err != -EILSEQ)
		assert_int_equal(state_next(r, &again), err);
	state_reader_destroy(r);
	return err;
}

static int read_bytes(const void *bytes, size_t n)
{
	cleanup_close int fd = sample_fd(bytes, n);
	return read_fd(fd);
}

/* ---- */

static void test_crc32c(void **state)
{
	uint8_t bytes[1000];

	assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
	assert_int_equal(crc32c_by_table(0, "123456789", 9), 0xe3069283);
	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * i + i / 3);
	for (unsigned n = 0; n + 9 < sizeof(bytes); n++) {
		const uint8_t *at = bytes + n % 9;
		uint32_t whole = crc32c(0, at, n);
		assert_int_equal(whole, crc32c_by_table(0, at, n));
		assert_int_equal(whole, crc32c(crc32c(0, at, n / 3), at + n / 3, n - n / 3));
	}
}

static void test_round_trip(void **state)
{
	for (enum state_kind kind = STATE_IMAGE; kind <= STATE_FILE; kind++) {
		cleanup_close int fd = written(kind);
		assert_int_equal(read_fd(fd), 0);
	}
}

static void test_file_is_smaller_and_image_is_sealed(void **state)
{
	cleanup_close int image = written(STATE_IMAGE), file = written(STATE_FILE);
	struct state_writer *w;

	assert_true(fcntl(image, F_GET_SEALS) & F_SEAL_SHRINK);
	assert_int_equal(ftruncate(image, 0), -1);
	cleanup_close int other = new_memfd();
	assert_int_equal(state_writer_create(STATE_IMAGE, other, &w), 0);
	sample_write(w);
	assert_int_equal(state_finish(w), 0);
	assert_true(state_written(w) > (uint64_t)lseek(file, 0, SEEK_END) + 1500);
	state_writer_destroy(w);
}

static void test_through_a_pipe(void **state)
{
	int pipe_fds[2];
	cleanup_close int fd = written(STATE_FILE);
	size_t n;
	cleanup_free void *bytes = sample_bytes(fd, &n);

	assert_int_equal(pipe(pipe_fds), 0);
	assert_int_equal(write(pipe_fds[1], bytes, n), n);
	close(pipe_fds[1]);
	assert_int_equal(read_fd(pipe_fds[0]), 0);
	close(pipe_fds[0]);
}

static void test_abandoned_section_leaves_nothing(void **state)
{
	for (enum state_kind kind = STATE_IMAGE; kind <= STATE_FILE; kind++) {
		cleanup_close int fd = new_memfd();
		struct state_writer *w;
		struct state_reader *r;
		struct state_section section;

		assert_int_equal(state_writer_create(kind, fd, &w), 0);
		state_begin(w, STATE_CONTENT);
		memset(state_reserve(w, 5000), 0xaa, 5000);
		state_abandon(w);
		state_begin(w, STATE_LOSSY);
		state_put_text(w, "three\n\x1b[1m");
		state_end(w);
		assert_int_equal(state_finish(w), 0);
		state_writer_destroy(w);
		lseek(fd, 0, SEEK_SET);
		assert_int_equal(state_reader_create(fd, &r), 0);
		assert_int_equal(state_next(r, &section), 1);
		assert_int_equal(section.type, STATE_LOSSY);
		char text[32], cut[4];
		state_get_text(r, text, sizeof(text));
		assert_string_equal(text, "three??[1m");
		assert_false(state_bad(r));
		/* Beyond the end: zeros, and it shows. */
		assert_int_equal(state_get_u32(r), 0);
		assert_true(state_bad(r));
		state_get_text(r, cut, sizeof(cut));
		assert_string_equal(cut, "");
		assert_null(state_take(r, 1));
		assert_int_equal(state_next(r, &section), 0);
		assert_false(state_bad(r));
		state_reader_destroy(r);
	}
}

static void test_large_image_grows(void **state)
{
	cleanup_close int fd = new_memfd();
	struct state_writer *w;
	struct state_reader *r;
	struct state_section section;
	enum { N = 9, SIZE = 3000001 };

	assert_int_equal(state_writer_create(STATE_IMAGE, fd, &w), 0);
	for (int i = 0; i < N; i++) {
		state_begin(w, STATE_CONTENT);
		memset(state_reserve(w, SIZE), i, SIZE);
		state_end(w);
	}
	assert_int_equal(state_finish(w), 0);
	state_writer_destroy(w);
	assert_int_equal(state_reader_create(fd, &r), 0);
	for (int i = 0; i < N; i++) {
		assert_int_equal(state_next(r, &section), 1);
		const uint8_t *p = state_take(r, SIZE);
		assert_int_equal(p[0], i);
		assert_int_equal(p[SIZE - 1], i);
		assert_int_equal(memcmp(p, p + 1, SIZE - 1), 0);
	}
	assert_int_equal(state_next(r, &section), 0);
	state_reader_destroy(r);
}

/* What a reader checked in a mapped image stays as it was, whatever the writer does. */
static void test_small_sections_of_an_image_are_copied(void **state)
{
	cleanup_close int fd = written(STATE_IMAGE);
	struct state_reader *r;
	struct state_section section;

	assert_int_equal(state_reader_create(fd, &r), 0);
	assert_int_equal(state_next(r, &section), 1);
	uint32_t change = 99;
	assert_int_equal(pwrite(fd, &change, 4, 16 + 32), 4);
	assert_int_equal(state_get_u32(r), 1);
	state_reader_destroy(r);
}

/* ---- errors of the writer ---- */

static void test_full_disk(void **state)
{
	cleanup_close int fd = open("/dev/full", O_WRONLY);
	struct state_writer *w;

	assert_true(fd >= 0);
	assert_int_equal(state_writer_create(STATE_FILE, fd, &w), -ENOSPC);
}

static void test_disk_full_in_the_middle_is_kept(void **state)
{
	pid_t child = fork();

	if (!child) {
		char path[] = "/tmp/vgpu-state-XXXXXX";
		int fd = mkstemp(path);
		struct rlimit limit = {700, 700};
		struct state_writer *w;

		unlink(path);
		signal(SIGXFSZ, SIG_IGN);
		setrlimit(RLIMIT_FSIZE, &limit);
		if (fd < 0 || state_writer_create(STATE_FILE, fd, &w))
			_exit(1);
		sample_write(w);
		int middle = state_error(w);
		state_begin(w, STATE_LOSSY);
		void *room = state_reserve(w, 10);
		int end = state_finish(w);
		_exit(middle == -EFBIG && !room && end == middle ? 0 : 2);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static void test_too_large_a_section_is_refused(void **state)
{
	cleanup_close int fd = new_memfd();
	struct state_writer *w;

	assert_int_equal(state_writer_create(STATE_IMAGE, fd, &w), 0);
	state_begin(w, STATE_CONTENT);
	assert_non_null(state_reserve(w, 100));
	assert_null(state_reserve(w, STATE_SECTION_MAX - 99));
	assert_int_equal(state_finish(w), -EFBIG);
	state_writer_destroy(w);
}

/* ---- hostile files ---- */

static void test_cut_off_anywhere(void **state)
{
	for (enum state_kind kind = STATE_IMAGE; kind <= STATE_FILE; kind++) {
		cleanup_close int fd = written(kind);
		size_t n;
		cleanup_free uint8_t *bytes = sample_bytes(fd, &n);

		if (kind == STATE_IMAGE)
			while (n && !bytes[n - 1])
				n--;
		for (size_t i = 0; i < n; i++)
			assert_true(read_bytes(bytes, i) == (i < 16 ? -EINVAL : -EBADMSG));
	}
}

static void test_every_bit_flipped(void **state)
{
	cleanup_close int fd = written(STATE_FILE);
	size_t n;
	cleanup_free uint8_t *bytes = sample_bytes(fd, &n);

	for (size_t i = 0; i < 8 * n; i++) {
		bytes[i / 8] ^= 1u << i % 8;
		assert_true(read_bytes(bytes, n) < 0);
		bytes[i / 8] ^= 1u << i % 8;
	}
	assert_int_equal(read_bytes(bytes, n), 0);
	/* and one byte too many */
	bytes[n] = 0;
	assert_int_equal(read_bytes(bytes, n + 1), -EBADMSG);
}

/* Without CRCs the content may be another one; nothing worse may happen (ASan watches). */
static void test_image_with_every_bit_flipped(void **state)
{
	cleanup_close int fd = written(STATE_IMAGE);
	size_t n;
	cleanup_free uint8_t *bytes = sample_bytes(fd, &n);

	while (n > 8 && !bytes[n - 1])
		n--;
	n = (n + 7) & ~7ull;
	for (size_t i = 0; i < 8 * n; i++) {
		bytes[i / 8] ^= 1u << i % 8;
		read_bytes(bytes, n);
		bytes[i / 8] ^= 1u << i % 8;
	}
}

struct piece {
	size_t at, size;
};

static size_t pieces_of(const uint8_t *bytes, size_t n, struct piece *pieces)
{
	size_t count = 0;

	for (size_t at = 16; at + 32 <= n && count < 20; count++) {
		struct state_section_header h;
		memcpy(&h, bytes + at, sizeof(h));
		pieces[count] = (struct piece){at, 32 + ((h.stored_size + 7) & ~7ull)};
		at += pieces[count].size;
	}
	return count;
}

/* Writes the header and then pieces in an order of our own; END comes last anyway. */
static int read_in_order(
	const uint8_t *bytes, const struct piece *pieces, const unsigned *order, size_t count)
{
	uint8_t *other = malloc(1u << 16);
	size_t n = 16;

	assert_non_null(other);
	memcpy(other, bytes, 16);
	for (size_t i = 0; i < count; i++) {
		memcpy(other + n, bytes + pieces[order[i]].at, pieces[order[i]].size);
		n += pieces[order[i]].size;
	}
	cleanup_close int fd = sample_fd(other, n);
	struct state_reader *r;
	struct state_section section;
	int got;
	assert_int_equal(state_reader_create(fd, &r), 0);
	while ((got = state_next(r, &section)) == 1)
		;
	state_reader_destroy(r);
	free(other);
	return got;
}

static void test_sections_dropped_doubled_or_moved(void **state)
{
	cleanup_close int fd = written(STATE_FILE);
	struct piece pieces[20] = {0};
	unsigned order[21] = {0};
	size_t n;
	cleanup_free uint8_t *bytes = sample_bytes(fd, &n);
	size_t count = pieces_of(bytes, n, pieces);

	assert_int_equal(count, sample_count + 1);
	for (unsigned i = 0; i < count; i++)
		order[i] = i;
	assert_int_equal(read_in_order(bytes, pieces, order, count), 0);
	for (unsigned out = 0; out + 1 < count; out++) {
		for (unsigned i = 0, k = 0; i < count; i++)
			if (i != out)
				order[k++] = i;
		assert_int_equal(read_in_order(bytes, pieces, order, count - 1), -EBADMSG);
		for (unsigned i = 0; i <= count; i++)
			order[i] = i <= out ? i : i - 1;
		assert_int_equal(read_in_order(bytes, pieces, order, count + 1), -EBADMSG);
	}
	for (unsigned a = 0; a + 2 < count; a++) {
		for (unsigned i = 0; i < count; i++)
			order[i] = i == a ? a + 1 : i == a + 1 ? a : i;
		assert_int_equal(read_in_order(bytes, pieces, order, count), -EBADMSG);
	}
}

/* One section with a header of our own, and END: what the reader makes of it. */
static int read_made(struct state_section_header h, const void *payload, size_t n,
	const struct state_header *file)
{
	struct state_header fh = {STATE_MAGIC, STATE_MAJOR, STATE_MINOR, STATE_BYTE_ORDER};
	uint8_t bytes[16 + 32 + 256 + 32 + 16] = {0};
	struct state_section_header end = {
		STATE_END, 1, STATE_CRITICAL | STATE_CRC, STATE_TRAILER_SIZE, STATE_TRAILER_SIZE};
	size_t at = 16 + 32 + ((n + 7) & ~7ull);

	if (file)
		fh = *file;
	h.crc = crc32c(0, payload, n);
	h.header_crc = crc32c(0, &h, STATE_HEADER_CHECKED);
	struct state_trailer t = {1, state_chain(crc32c(0, &fh, 16), &h)};
	end.crc = crc32c(0, &t, STATE_TRAILER_SIZE);
	end.header_crc = crc32c(0, &end, STATE_HEADER_CHECKED);
	memcpy(bytes, &fh, 16);
	memcpy(bytes + 16, &h, 32);
	memcpy(bytes + 48, payload, n);
	memcpy(bytes + at, &end, 32);
	memcpy(bytes + at + 32, &t, STATE_TRAILER_SIZE);
	cleanup_close int fd = sample_fd(bytes, at + 32 + 16);
	struct state_reader *r;
	struct state_section section;
	int got = state_reader_create(fd, &r);
	if (got)
		return got;
	unsigned sections = 0;
	while ((got = state_next(r, &section)) == 1)
		sections++;
	state_reader_destroy(r);
	return got ? got : (int)sections;
}

static void test_versions_and_unknown_sections(void **state)
{
	const uint16_t checked = STATE_CRC, critical = STATE_CRC | STATE_CRITICAL;
	struct state_section_header known = {STATE_LOSSY, 1, checked, 8, 8};
	struct state_section_header unknown = {777, 1, checked, 8, 8};
	struct state_section_header later = {STATE_LOSSY, 2, checked, 8, 8};
	struct state_header file = {STATE_MAGIC, STATE_MAJOR, STATE_MINOR + 7, STATE_BYTE_ORDER};

	assert_int_equal(read_made(known, "12345678", 8, NULL), 1);
	assert_int_equal(read_made(unknown, "12345678", 8, NULL), 0);
	assert_int_equal(read_made(later, "12345678", 8, NULL), 0);
	unknown.flags = later.flags = critical;
	assert_int_equal(read_made(unknown, "12345678", 8, NULL), -ENOTSUP);
	assert_int_equal(read_made(later, "12345678", 8, NULL), -ENOTSUP);
	known.flags |= 0x80;
	assert_int_equal(read_made(known, "12345678", 8, NULL), -ENOTSUP);
	known.flags = checked;
	assert_int_equal(read_made(known, "12345678", 8, &file), 1);
	file.major = STATE_MAJOR + 1;
	assert_int_equal(read_made(known, "12345678", 8, &file), -ENOTSUP);
	file.major = 0;
	assert_int_equal(read_made(known, "12345678", 8, &file), -EINVAL);
	file = (struct state_header){STATE_MAGIC, __builtin_bswap16(STATE_MAJOR), 0,
		__builtin_bswap32(STATE_BYTE_ORDER)};
	assert_int_equal(read_made(known, "12345678", 8, &file), -ENOTSUP);
	file = (struct state_header){"VGPUSTAR", STATE_MAJOR, STATE_MINOR, STATE_BYTE_ORDER};
	assert_int_equal(read_made(known, "12345678", 8, &file), -EINVAL);
}

static void test_sizes_that_are_not_so(void **state)
{
	struct state_section_header h = {STATE_LOSSY, 1, STATE_CRC, 8, 8};

	h.stored_size = h.size = STATE_SECTION_MAX;
	assert_int_equal(read_made(h, "12345678", 8, NULL), -EBADMSG);
	h.stored_size = h.size = STATE_SECTION_MAX + 1;
	assert_int_equal(read_made(h, "12345678", 8, NULL), -EFBIG);
	h.stored_size = h.size = UINT64_MAX - 40;
	assert_int_equal(read_made(h, "12345678", 8, NULL), -EFBIG);
	h.stored_size = 8;
	h.size = 7;
	assert_int_equal(read_made(h, "12345678", 8, NULL), -EBADMSG);
}

static void test_frames_that_lie(void **state)
{
	/* zstd frames: 16 x 'a' as one run, with the size 16 in its header. */
	static const uint8_t run[] = {0x28, 0xb5, 0x2f, 0xfd, 0x20, 16, 0x83, 0, 0, 'a'};
	static const uint8_t two[] = {0x28, 0xb5, 0x2f, 0xfd, 0x20, 16, 0x83, 0, 0, 'a', 0x28, 0xb5,
		0x2f, 0xfd, 0x20, 16, 0x83, 0, 0, 'a'};
	/* A frame that decoders skip, of no bytes, behind it. */
	static const uint8_t more[] = {0x28, 0xb5, 0x2f, 0xfd, 0x20, 16, 0x83, 0, 0, 'a', 0x50,
		0x2a, 0x4d, 0x18, 0, 0, 0, 0};
	/* No size; a window of 2 GiB. */
	static const uint8_t unsized[] = {0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x83, 0, 0, 'a'};
	struct state_section_header h = {STATE_CONTENT, 1, STATE_CRC | STATE_ZSTD, sizeof(run), 16};

	assert_int_equal(read_made(h, run, sizeof(run), NULL), 1);
	h.size = 15;
	assert_int_equal(read_made(h, run, sizeof(run), NULL), -EBADMSG);
	h.size = 17;
	assert_int_equal(read_made(h, run, sizeof(run), NULL), -EBADMSG);
	h.size = 512u << 20;
	assert_int_equal(read_made(h, run, sizeof(run), NULL), -EBADMSG);
	h.size = 16;
	assert_int_equal(read_made(h, unsized, sizeof(unsized), NULL), -EBADMSG);
	h.stored_size = sizeof(more);
	assert_int_equal(read_made(h, more, sizeof(more), NULL), -EBADMSG);
	h.stored_size = sizeof(two);
	assert_int_equal(read_made(h, two, sizeof(two), NULL), -EBADMSG);
	h.size = 32;
	assert_int_equal(read_made(h, two, sizeof(two), NULL), -EBADMSG);
	h.stored_size = sizeof(run);
	h.size = 16;
	assert_int_equal(read_made(h, "not a frame", 10, NULL), -EBADMSG);
}

/* ---- files of earlier versions ---- */

static void test_golden_files(void **state)
{
	glob_t files;

	assert_int_equal(glob(GOLDEN_DIR "/state/*.vgpustate", 0, NULL, &files), 0);
	for (size_t i = 0; i < files.gl_pathc; i++) {
		cleanup_close int fd = open(files.gl_pathv[i], O_RDONLY | O_CLOEXEC);
		assert_true(fd >= 0);
		print_message("# %s\n", files.gl_pathv[i]);
		struct state_reader *r;
		struct state_section section;
		int got;
		assert_int_equal(state_reader_create(fd, &r), 0);
		while ((got = state_next(r, &section)) == 1)
			;
		state_reader_destroy(r);
		assert_int_equal(got, 0);
	}
	globfree(&files);
	cleanup_close int fd = open(GOLDEN_DIR "/state/1.0.vgpustate", O_RDONLY | O_CLOEXEC);
	assert_int_equal(read_fd(fd), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_crc32c),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_file_is_smaller_and_image_is_sealed),
		cmocka_unit_test(test_through_a_pipe),
		cmocka_unit_test(test_abandoned_section_leaves_nothing),
		cmocka_unit_test(test_large_image_grows),
		cmocka_unit_test(test_small_sections_of_an_image_are_copied),
		cmocka_unit_test(test_full_disk),
		cmocka_unit_test(test_disk_full_in_the_middle_is_kept),
		cmocka_unit_test(test_too_large_a_section_is_refused),
		cmocka_unit_test(test_cut_off_anywhere),
		cmocka_unit_test(test_every_bit_flipped),
		cmocka_unit_test(test_image_with_every_bit_flipped),
		cmocka_unit_test(test_sections_dropped_doubled_or_moved),
		cmocka_unit_test(test_versions_and_unknown_sections),
		cmocka_unit_test(test_sizes_that_are_not_so),
		cmocka_unit_test(test_frames_that_lie),
		cmocka_unit_test(test_golden_files),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
