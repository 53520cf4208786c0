/* SPDX-License-Identifier: Apache-2.0 */
#include "base/checked.h"
#include "base/fdpass.h"
#include "base/idmap.h"
#include "base/iov.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static void test_checked_arithmetic(void **state)
{
	uint64_t r = 7;
	assert_true(checked_add(1, 2, &r));
	assert_int_equal(r, 3);
	assert_false(checked_add(UINT64_MAX, 1, &r));
	assert_false(checked_mul(1ull << 33, 1ull << 31, &r));
	assert_int_equal(r, 3);
	assert_true(range_inside(10, 0, 10));
	assert_false(range_inside(10, 1, 10));
	assert_false(range_inside(11, 0, 10));
	assert_false(range_inside(1, UINT64_MAX, 10));
	assert_false(range_inside(UINT64_MAX, UINT64_MAX, 10));
}

static void test_iov_spans_entries_and_stops_at_the_end(void **state)
{
	char a[3] = "abc", b[4] = "defg";
	struct iovec iov[] = {{a, 3}, {NULL, 0}, {b, 4}};
	char buf[8] = {0};

	assert_int_equal(iov_size(iov, 3), 7);
	assert_int_equal(iov_read(iov, 3, 2, buf, 3), 3);
	assert_memory_equal(buf, "cde", 3);
	assert_int_equal(iov_read(iov, 3, 6, buf, 8), 1);
	assert_int_equal(iov_read(iov, 3, 7, buf, 1), 0);
	assert_int_equal(iov_read(iov, 3, UINT64_MAX, buf, 1), 0);
	assert_int_equal(iov_write(iov, 3, 1, "XYZ", 3), 3);
	assert_memory_equal(a, "aXY", 3);
	assert_memory_equal(b, "Zefg", 4);
}

static void test_iov_size_overflow(void **state)
{
	struct iovec iov[] = {{NULL, SIZE_MAX}, {NULL, SIZE_MAX}};
	assert_true(iov_size(iov, 2) == UINT64_MAX);
}

/* What held many ids gives the memory back with them, and loses none on the way. */
static void test_idmap_shrinks(void **state)
{
	enum { IDS = 50000 };
	struct idmap map;

	idmap_init(&map, 7);
	for (uint32_t id = 1; id <= IDS; id++)
		assert_int_equal(idmap_add(&map, id, &map), 0);
	assert_true(map.capacity >= IDS);
	for (uint32_t id = IDS; id > 1; id--) {
		assert_ptr_equal(idmap_remove(&map, id), &map);
		assert_true(map.capacity <= 1024 || map.capacity <= 8 * map.count);
		assert_ptr_equal(idmap_get(&map, id / 2), &map);
		assert_ptr_equal(idmap_get(&map, 1), &map);
		assert_null(idmap_get(&map, id));
	}
	assert_int_equal(map.count, 1);
	idmap_finish(&map);
}

static void test_idmap_against_a_plain_array(void **state)
{
	enum { IDS = 600, STEPS = 40000 };
	static char present[IDS];
	struct idmap map;
	unsigned seed = 1, count = 0;

	memset(present, 0, sizeof(present));
	idmap_init(&map, 0x1234);
	for (int step = 0; step < STEPS; step++) {
		seed = seed * 1103515245u + 12345u;
		uint32_t id = (seed >> 8) % IDS;
		if (seed & 0x40000000) {
			int r = idmap_add(&map, id * 65536u, &present[id]);
			assert_int_equal(r, present[id] ? -EEXIST : 0);
			count += !present[id];
			present[id] = 1;
		} else {
			void *value = idmap_remove(&map, id * 65536u);
			assert_ptr_equal(value, present[id] ? &present[id] : NULL);
			count -= present[id];
			present[id] = 0;
		}
		assert_int_equal(map.count, count);
	}
	for (uint32_t id = 0; id < IDS; id++)
		assert_ptr_equal(idmap_get(&map, id * 65536u), present[id] ? &present[id] : NULL);
	uint32_t cursor = 0, seen = 0, id;
	while (idmap_next(&map, &cursor, &id)) {
		assert_true(present[id / 65536u]);
		seen++;
	}
	assert_int_equal(seen, count);
	idmap_finish(&map);
}

static void test_fdpass_closes_what_nobody_takes(void **state)
{
	int pair[2], fds[3];
	struct fdpass_fds got;
	char byte = 'x';

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	for (int i = 0; i < 3; i++)
		fds[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_int_equal(fdpass_send(pair[0], &byte, 1, fds, 3), 1);
	assert_int_equal(fdpass_recv(pair[1], &byte, 1, 0, &got), 1);
	assert_int_equal(got.count, 3);
	int first = fdpass_take(&got);
	int second = got.fd[1];
	assert_true(fcntl(first, F_GETFD) & FD_CLOEXEC);
	fdpass_close(&got);
	assert_int_equal(fcntl(second, F_GETFD), -1);
	assert_int_equal(fdpass_take(&got), -1);
	close(first);
	for (int i = 0; i < 3; i++)
		close(fds[i]);
	close(pair[0]);
	assert_int_equal(fdpass_recv(pair[1], &byte, 1, 0, &got), 0);
	close(pair[1]);
}

static void test_fdpass_refuses_more_than_it_can_hold(void **state)
{
	int pair[2], fds[FDPASS_MAX + 1];
	struct fdpass_fds got;
	char byte = 'x', control[CMSG_SPACE(sizeof(fds))];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	for (int i = 0; i <= FDPASS_MAX; i++)
		fds[i] = pair[0];
	assert_int_equal(fdpass_send(pair[0], &byte, 1, fds, FDPASS_MAX + 1), -EINVAL);

	struct iovec iov = {&byte, 1};
	memset(control, 0, sizeof(control));
	struct msghdr msg = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(c), fds, sizeof(fds));
	assert_int_equal(sendmsg(pair[0], &msg, 0), 1);
	assert_int_equal(fdpass_recv(pair[1], &byte, 1, 0, &got), -E2BIG);
	close(pair[0]);
	close(pair[1]);
}

/* The longest that standard error has been while `lines` are written to it, which is a file. */
static off_t longest_log(unsigned lines)
{
	int saved = dup(STDERR_FILENO), file = memfd_create("log", MFD_CLOEXEC);
	off_t longest = 0;
	struct stat st;

	assert_true(saved >= 0 && file >= 0);
	assert_int_equal(fcntl(file, F_SETFL, O_APPEND), 0);
	dup2(file, STDERR_FILENO);
	for (unsigned i = 0; i < lines; i++) {
		log_error("line %u", i);
		fstat(file, &st);
		longest = MAX(longest, st.st_size);
	}
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(file);
	return longest;
}

static void test_a_log_starts_over(void **state)
{
	assert_true(longest_log(10000) > 100000);
	log_keep_below(20000);
	assert_in_range(longest_log(10000), 20000, 20000 + 20000 / 16 + 100);
	assert_in_range(longest_log(10), 100, 20000); /* nothing is cut off before */
	log_keep_below(0);
	assert_true(longest_log(10000) > 100000);
}

static void test_log_limit(void **state)
{
	struct log_limit limit = {.burst = 2, .interval_ms = 3600000};
	assert_true(log_limit_pass(&limit));
	assert_true(log_limit_pass(&limit));
	assert_false(log_limit_pass(&limit));
	assert_false(log_limit_pass(&limit));
	assert_int_equal(limit.suppressed, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_checked_arithmetic),
		cmocka_unit_test(test_iov_spans_entries_and_stops_at_the_end),
		cmocka_unit_test(test_iov_size_overflow),
		cmocka_unit_test(test_idmap_against_a_plain_array),
		cmocka_unit_test(test_idmap_shrinks),
		cmocka_unit_test(test_fdpass_closes_what_nobody_takes),
		cmocka_unit_test(test_fdpass_refuses_more_than_it_can_hold),
		cmocka_unit_test(test_a_log_starts_over),
		cmocka_unit_test(test_log_limit),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
