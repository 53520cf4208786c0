/* SPDX-License-Identifier: Apache-2.0 */
#include "state/journal.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#define LIMIT (8ull << 20)

static int record(struct journal *j, uint32_t source, const char *text)
{
	struct iovec parts[2] = {
		{(void *)(uintptr_t)text, 2}, {(void *)(uintptr_t)(text + 2), strlen(text) - 2}};
	return journal_record(j, JOURNAL_VTEST, source, source * 10ull, parts, 2);
}

static void expect(struct journal *j, uint32_t source, const char *text, bool executed, bool skip)
{
	struct journal_record r;

	assert_int_equal(journal_next(j, &r), 1);
	assert_int_equal(r.kind, JOURNAL_VTEST);
	assert_int_equal(r.source, source);
	assert_int_equal(r.position, source * 10ull);
	assert_int_equal(r.size, strlen(text));
	assert_memory_equal(r.bytes, text, r.size);
	assert_int_equal(r.executed, executed);
	assert_int_equal(r.skip, skip);
}

static struct journal *reopen(int fd)
{
	struct journal *j;
	assert_int_equal(journal_open(fd, LIMIT, &j), 0);
	return j;
}

static void test_a_journal_is_used_again(void **state)
{
	static uint8_t much[3 << 20];
	const struct iovec iov = {much, sizeof(much)};
	struct journal *j;
	cleanup_close int fd = -1;

	assert_int_equal(journal_create(LIMIT, &fd, &j), 0);
	assert_int_equal(record(j, 1, "before"), 0);
	assert_non_null(journal_payload(j, &iov, 1, 0, sizeof(much)));
	assert_null(journal_payload(j, &iov, 1, 0, LIMIT));
	journal_executed(j);
	journal_finished(j, journal_mark(j));
	assert_true(journal_due(j, 0));
	uint64_t room = journal_room(j);
	assert_true(room > sizeof(much));
	assert_int_equal(journal_reset(j), 0);
	assert_int_equal(journal_room(j), room);
	assert_int_equal(journal_bytes(j), 0);
	assert_false(journal_due(j, 0));
	assert_int_equal(record(j, 2, "after it"), 0);
	journal_destroy(j);

	j = reopen(fd);
	expect(j, 2, "after it", false, false);
	struct journal_record r;
	assert_int_equal(journal_next(j, &r), 0);
	/* A predecessor may still have it. */
	assert_int_equal(journal_reset(j), -EINVAL);
	journal_destroy(j);
}

static uint64_t held(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static void test_room_is_given_back_and_found_again(void **state)
{
	static uint8_t much[3 << 20];
	const struct iovec iov = {much, sizeof(much)};
	struct journal_record r;
	struct journal *j;
	cleanup_close int fd = -1;
	size_t n;

	memset(much, 0xa5, sizeof(much));
	assert_int_equal(journal_create(LIMIT, &fd, &j), 0);
	assert_non_null(journal_payload(j, &iov, 1, 0, sizeof(much)));
	assert_int_equal(journal_reset(j), 0);
	assert_int_equal(record(j, 1, "first"), 0);
	assert_true(held(fd) > sizeof(much));
	journal_trim(j);
	assert_in_range(held(fd), 8192, 128 << 10);
	assert_in_range(journal_room(j), 1, 128 << 10);
	journal_trim(j);
	assert_int_equal(record(j, 2, "second"), 0);
	journal_destroy(j);

	/* A successor knows of no hole, and gives back what its predecessor had room for. */
	assert_int_equal(fallocate(fd, 0, 0, 8 << 20), 0);
	j = reopen(fd);
	expect(j, 1, "first", false, false);
	expect(j, 2, "second", false, false);
	assert_int_equal(journal_next(j, &r), 0);
	assert_true(journal_room(j) < sizeof(much));
	journal_trim(j);
	assert_in_range(held(fd), 8192, 128 << 10);
	assert_int_equal(record(j, 3, "third"), 0);
	assert_non_null(journal_payload(j, &iov, 1, 0, sizeof(much)));
	assert_true(held(fd) > sizeof(much)); /* its memory is there for certain */
	journal_trim(j);
	journal_destroy(j);

	j = reopen(fd);
	expect(j, 1, "first", false, false);
	expect(j, 2, "second", false, false);
	expect(j, 3, "third", false, false);
	assert_memory_equal(journal_next_payload(j, &n), much, sizeof(much));
	assert_int_equal(n, sizeof(much));
	journal_destroy(j);
}

static void test_records_and_payloads_come_back(void **state)
{
	char memory[] = "0123456789abcdef";
	struct iovec iov[] = {{memory, 4}, {memory + 8, 8}};
	struct journal_record r;
	struct journal *j;
	cleanup_close int fd = -1;
	size_t n;

	assert_int_equal(journal_create(LIMIT, &fd, &j), 0);
	assert_int_equal(record(j, 1, "first"), 0);
	journal_executed(j);
	assert_int_equal(record(j, 2, "second one"), 0);
	const char *copy = journal_payload(j, iov, 2, 2, 5);
	assert_memory_equal(copy, "2389a", 5);
	memset(memory, 'x', sizeof(memory));
	assert_memory_equal(copy, "2389a", 5);
	assert_non_null(journal_payload(j, iov, 2, 0, 12));
	assert_null(journal_payload(j, iov, 2, 8, 5)); /* the list is shorter */
	assert_int_equal(record(j, 3, "third"), 0);
	uint64_t bytes = journal_bytes(j);
	journal_destroy(j);

	j = reopen(fd);
	assert_int_equal(journal_bytes(j), bytes);
	expect(j, 1, "first", true, false);
	assert_null(journal_next_payload(j, &n));
	expect(j, 2, "second one", false, false);
	copy = journal_next_payload(j, &n);
	assert_int_equal(n, 5);
	assert_memory_equal(copy, "2389a", 5);
	/* The other payload is left where it is. */
	expect(j, 3, "third", false, false);
	assert_null(journal_next_payload(j, &n));
	assert_int_equal(journal_next(j, &r), 0);
	/* From here it is written on. */
	assert_int_equal(record(j, 4, "fourth"), 0);
	journal_executed(j);
	journal_destroy(j);

	j = reopen(fd);
	expect(j, 1, "first", true, false);
	expect(j, 2, "second one", true, false);
	expect(j, 3, "third", true, false);
	expect(j, 4, "fourth", true, false);
	assert_int_equal(journal_next(j, &r), 0);
	journal_destroy(j);
}

static void test_without_a_journal(void **state)
{
	char byte = 0;
	struct iovec iov = {&byte, 1};

	assert_int_equal(journal_record(NULL, JOURNAL_VTEST, 0, 0, &iov, 1), 0);
	assert_null(journal_payload(NULL, &iov, 1, 0, 1));
	journal_executed(NULL);
	journal_busy(NULL, 1);
	assert_false(journal_due(NULL, SIZE_MAX));
	assert_int_equal(journal_bytes(NULL), 0);
	journal_destroy(NULL);
}

/* What was left out is told: an image is due however much room there still is. */
static void test_a_gap_makes_an_image_due(void **state)
{
	struct iovec iov = {(void *)1, LIMIT + 1}; /* never read */
	struct journal *j;
	cleanup_close int fd = -1;

	assert_int_equal(journal_create(LIMIT, &fd, &j), 0);
	assert_int_equal(journal_record(j, JOURNAL_VTEST, 1, 0, NULL, 0), 0);
	assert_false(journal_due(j, 0));
	assert_null(journal_payload(j, &iov, 1, 0, LIMIT + 1));
	assert_true(journal_due(j, 0));
	journal_destroy(j);
}

static void test_it_grows_and_gets_full(void **state)
{
	static char block[100000];
	struct iovec iov = {block, sizeof(block)};
	struct journal *j;
	cleanup_close int fd = -1;
	unsigned n = 0;
	struct stat st;

	assert_int_equal(journal_create(LIMIT, &fd, &j), 0);
	fstat(fd, &st);
	assert_true(st.st_size < 100000);
	const char *first = NULL;
	while (!journal_due(j, sizeof(block))) {
		memset(block, (int)n, sizeof(block));
		assert_int_equal(journal_record(j, JOURNAL_VTEST, n++, 0, NULL, 0), 0);
		const char *p = journal_payload(j, &iov, 1, 0, sizeof(block));
		assert_non_null(p);
		first = first ? first : p;
	}
	/* What was given out stayed where it was. */
	assert_true(first && !first[0]);
	assert_true(n > 80);
	while (journal_record(j, JOURNAL_VTEST, n, 0, &iov, 1) == 0)
		n++;
	assert_int_equal(journal_record(j, JOURNAL_VTEST, n, 0, &iov, 1), -ENOSPC);
	assert_null(journal_payload(j, &iov, 1, 0, sizeof(block)));
	assert_true(journal_bytes(j) <= LIMIT);
	assert_true(journal_due(j, SIZE_MAX));
	fstat(fd, &st);
	assert_true((uint64_t)st.st_size <= LIMIT + 4096);
	assert_int_equal(ftruncate(fd, 0), -1);
	journal_destroy(j);
	j = reopen(fd);
	struct journal_record r;
	unsigned count = 0;
	while (journal_next(j, &r) == 1)
		count++;
	assert_int_equal(count, n);
	journal_destroy(j);
}

/* ---- crashing ---- */

/* Both as bits 1 << source. */
struct replayed {
	unsigned careful, skipped;
};

enum { NOWHERE = 99 };

/* A replay that ends at record `end`, or nowhere. `blame`: of the one before it. */
static struct replayed replay(int fd, bool blame, unsigned end)
{
	struct replayed ret = {0};
	struct journal_record r;
	struct journal *j = reopen(fd);

	assert_int_equal(journal_begin_replay(j, blame), 0);
	while (journal_next(j, &r) == 1) {
		ret.careful |= (unsigned)r.careful << r.source;
		ret.skipped |= (unsigned)r.skip << r.source;
		journal_replaying(j, &r);
		if (r.source == end) {
			journal_destroy(j);
			return ret;
		}
	}
	journal_end_replay(j);
	journal_destroy(j);
	return ret;
}

static void expect_replay(int fd, bool blame, unsigned end, unsigned careful, unsigned skipped)
{
	struct replayed got = replay(fd, blame, end);

	assert_int_equal(got.careful, careful);
	assert_int_equal(got.skipped, skipped);
}

/* Records 0 to 7, of which the driver had finished the first four when their executor crashed. */
static int half_finished(void)
{
	struct journal *j;
	int fd = -1;

	assert_int_equal(journal_create(LIMIT, &fd, &j), 0);
	for (uint32_t i = 0; i < 8; i++) {
		assert_int_equal(record(j, i, "poison"), 0);
		if (i == 5)
			journal_finished(j, journal_mark(j));
		if (i == 3)
			journal_executed(j);
	}
	journal_executed(j);
	journal_destroy(j);
	return fd;
}

static void add(int fd, uint32_t source)
{
	struct journal_record r;
	struct journal *j = reopen(fd);

	while (journal_next(j, &r) == 1)
		;
	assert_int_equal(record(j, source, "later"), 0);
	journal_destroy(j);
}

static void test_what_crashes_twice_is_skipped(void **state)
{
	cleanup_close int fd = half_finished();

	expect_replay(fd, true, 5, 0x30, 0); /* the second crash */
	expect_replay(fd, true, NOWHERE, 0xf0, 0x20);
	/* It went on, so only what came since is suspect; what is skipped stays so. */
	add(fd, 9);
	expect_replay(fd, true, NOWHERE, 0x200, 0x20);
	/* There is nothing else that can have done it. */
	expect_replay(fd, true, NOWHERE, 0x2ff, 0x20);
}

static void test_two_that_crash(void **state)
{
	cleanup_close int fd = half_finished();

	expect_replay(fd, true, 4, 0x10, 0);
	expect_replay(fd, true, 7, 0xf0, 0x10);
	expect_replay(fd, true, NOWHERE, 0xf0, 0x90);
}

/* What was finished crashes when it is run again: that is its first time. */
static void test_one_that_was_no_suspect(void **state)
{
	cleanup_close int fd = half_finished();

	expect_replay(fd, true, 2, 0, 0);
	expect_replay(fd, true, 1, 0x3, 0); /* in truth it was another one */
	expect_replay(fd, true, NOWHERE, 0xff, 0x2);
}

/* Who is killed from outside did nothing, and the next one knows as much as it did. */
static void test_killed_while_suspects_are_run(void **state)
{
	cleanup_close int fd = half_finished();

	expect_replay(fd, false, 6, 0, 0);
	expect_replay(fd, false, NOWHERE, 0, 0);
	close(fd);
	fd = half_finished();
	expect_replay(fd, true, 6, 0x70, 0);
	expect_replay(fd, false, 6, 0x70, 0);
	expect_replay(fd, true, NOWHERE, 0xf0, 0x40);
	close(fd);
	fd = half_finished();
	expect_replay(fd, false, 6, 0, 0);
	expect_replay(fd, true, 6, 0x7f, 0); /* it crashed while all were run at once */
	expect_replay(fd, true, NOWHERE, 0xff, 0x40);
}

/* A replay that did not begin with any record says nothing about them. */
static void test_killed_before_the_first(void **state)
{
	cleanup_close int fd = half_finished();
	struct journal *j = reopen(fd);

	assert_int_equal(journal_begin_replay(j, true), 0);
	journal_destroy(j);
	expect_replay(fd, true, NOWHERE, 0xf0, 0);
}

static void test_too_many_crashes(void **state)
{
	struct journal *j;
	cleanup_close int fd = -1;

	assert_int_equal(journal_create(LIMIT, &fd, &j), 0);
	for (uint32_t i = 0; i < 20; i++)
		assert_int_equal(record(j, i, "poison"), 0);
	journal_destroy(j);
	for (unsigned i = 0; i < 17; i++)
		replay(fd, true, i);
	j = reopen(fd);
	assert_int_equal(journal_begin_replay(j, true), -ENOTRECOVERABLE);
	journal_destroy(j);
}

/* ---- a process that is killed ---- */

/* Records in a row, each with a payload, numbered, until it is killed. */
static void write_until_killed(int fd)
{
	struct journal *j;
	uint32_t filler[64];
	struct iovec iov = {filler, sizeof(filler)};

	if (journal_open(fd, 64ull << 20, &j))
		_exit(1);
	for (uint32_t i = 0; !journal_due(j, 4096); i++) {
		for (unsigned k = 0; k < ARRAY_SIZE(filler); k++)
			filler[k] = i;
		journal_record(j, JOURNAL_REQUEST, i, i, &iov, 1);
		journal_payload(j, &iov, 1, 4, i % 200);
		journal_executed(j);
	}
	pause();
}

static void check_after_kill(int fd)
{
	struct journal_record r;
	struct journal *j;
	uint32_t next = 0, not_executed = 0;
	int got;

	assert_int_equal(journal_open(fd, 64ull << 20, &j), 0);
	while ((got = journal_next(j, &r)) == 1) {
		size_t n = 0;
		const uint32_t *words = r.bytes;
		assert_int_equal(r.source, next++);
		assert_int_equal(r.size, 256);
		assert_int_equal(words[0], r.source);
		assert_int_equal(words[63], r.source);
		not_executed += !r.executed;
		if (journal_next_payload(j, &n))
			assert_int_equal(n, r.source % 200);
		else
			assert_false(r.executed);
	}
	assert_int_equal(got, 0);
	assert_true(not_executed <= 1);
	journal_destroy(j);
}

static void test_killed_at_random_moments(void **state)
{
	for (unsigned round = 0; round < 100; round++) {
		struct journal *j;
		cleanup_close int fd = -1;

		assert_int_equal(journal_create(64ull << 20, &fd, &j), 0);
		journal_destroy(j);
		pid_t child = fork();
		if (!child) {
			write_until_killed(fd);
			_exit(0);
		}
		usleep((unsigned)random() % 3000);
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
		check_after_kill(fd);
	}
}

/* ---- hostile ---- */

static void test_bad_journals(void **state)
{
	struct journal_record r;
	struct journal *j;
	cleanup_close int fd = -1, plain = memfd_create("plain", 0);
	uint8_t *p;
	size_t n;

	assert_int_equal(ftruncate(plain, 8192), 0);
	assert_int_equal(journal_open(plain, LIMIT, &j), -EINVAL); /* may shrink */
	assert_int_equal(journal_create(LIMIT, &fd, &j), 0);
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(record(j, i, "text"), 0);
	uint64_t end = 4096 + journal_bytes(j);
	journal_destroy(j);
	p = mmap(NULL, end, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(p != MAP_FAILED);
	for (uint64_t i = 0; i < end; i = i == 255 ? 4096 : i + 1) {
		for (unsigned bit = 0; bit < 8; bit++) {
			p[i] ^= 1u << bit;
			if (journal_open(fd, LIMIT, &j) == 0) {
				int err;
				(void)!journal_begin_replay(j, true);
				while ((err = journal_next(j, &r)) == 1) {
					uint8_t sum = 0;
					for (size_t k = 0; k < r.size; k++)
						sum ^= ((const uint8_t *)r.bytes)[k];
					(void)sum;
					(void)journal_next_payload(j, &n);
				}
				assert_true(err == 0 || err == -EBADMSG);
				journal_destroy(j);
			}
			p[i] ^= 1u << bit;
		}
	}
	munmap(p, end);
}

/* Not a benchmark: it notices if a record gets ten times as dear as it is meant to be. */
static void test_what_a_record_costs(void **state)
{
	enum { N = 100000 };
	char message[64] = {0};
	struct iovec iov = {message, sizeof(message)};
	struct journal *j;
	cleanup_close int fd = -1;

	assert_int_equal(journal_create(32ull << 20, &fd, &j), 0);
	uint64_t begin = clock_ns();
	for (unsigned i = 0; i < N; i++) {
		assert_int_equal(journal_record(j, JOURNAL_VTEST, i, i, &iov, 1), 0);
		journal_executed(j);
	}
	uint64_t took = clock_ns() - begin;
	print_message("# %u ns a record of 64 bytes, with its share of new pages\n",
		(unsigned)(took / N));
	journal_destroy(j);
	assert_true(took / N < 2000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_journal_is_used_again),
		cmocka_unit_test(test_room_is_given_back_and_found_again),
		cmocka_unit_test(test_records_and_payloads_come_back),
		cmocka_unit_test(test_without_a_journal),
		cmocka_unit_test(test_it_grows_and_gets_full),
		cmocka_unit_test(test_a_gap_makes_an_image_due),
		cmocka_unit_test(test_what_crashes_twice_is_skipped),
		cmocka_unit_test(test_two_that_crash),
		cmocka_unit_test(test_one_that_was_no_suspect),
		cmocka_unit_test(test_killed_while_suspects_are_run),
		cmocka_unit_test(test_killed_before_the_first),
		cmocka_unit_test(test_too_many_crashes),
		cmocka_unit_test(test_killed_at_random_moments),
		cmocka_unit_test(test_bad_journals),
		cmocka_unit_test(test_what_a_record_costs),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
