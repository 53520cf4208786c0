/* SPDX-License-Identifier: Apache-2.0 */

/* What a process takes over from one that may have been hostile, and what it has to ask again. */

#include "life.h"

#include "base/cleanup.h"
#include "base/fdpass.h"
#include "base/log.h"

#include "frontend/vhost_user/wire.h"

#include "protocol/vhost_user_gpu.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define NO_EVENT (1ull << VIRTIO_BIT_RING_EVENT_IDX)
#define CHANGES  250u

void life_point(void)
{
}

void life_failed(int err)
{
	_exit(42); /* refused: only in children */
}

/* Rings run, one request was answered, two are in flight. */
static struct life *life_new(bool image)
{
	struct life *l = calloc(1, sizeof(*l));
	struct front *f = &l->front;

	life_init(l);
	front_negotiate(f, NO_EVENT);
	front_set_memory(f);
	front_start_ring(f, 0, 0);
	front_start_ring(f, 1, 0);
	front_request(f, 0, 0, 1);
	front_kick(f, 0);
	front_spin(f);
	assert_int_equal(front_used_idx(f, 0), 1);
	if (image)
		assert_int_equal(process_image(l->process), 0);
	l->process->dev.hold = true;
	front_request(f, 0, 1, 2);
	front_request(f, 0, 2, 3);
	front_kick(f, 0);
	front_spin(f);
	assert_int_equal(front_used_idx(f, 0), 1);
	return l;
}

static int custody_fd(struct life *l, uint32_t kind, uint32_t index)
{
	const struct keeper_custody what = {.kind = kind, .index = index};
	struct life_entry *e = life_find(l, &what);
	assert_non_null(e);
	return e->fd;
}

static void test_peek_gives_duplicates(void **state)
{
	struct fdpass_fds fds;
	struct stat a, b;
	char byte;
	int pair[2];
	cleanup_close int file = memfd_create("x", MFD_CLOEXEC);

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(fdpass_send(pair[0], "ab", 2, &file, 1), 2);
	assert_int_equal(fdpass_send(pair[0], "cd", 2, NULL, 0), 2);
	assert_int_equal(fstat(file, &a), 0);
	for (unsigned i = 0; i < 3; i++) {
		/* The last time for real, and not beyond what was seen. */
		int n = (int)fdpass_recv(pair[1], &byte, 1, i < 2 ? MSG_PEEK : 0, &fds);
		assert_int_equal(n, 1);
		assert_int_equal(byte, 'a');
		assert_int_equal(fds.count, 1);
		assert_int_equal(fstat(fds.fd[0], &b), 0);
		assert_int_equal(a.st_ino, b.st_ino);
		fdpass_close(&fds);
	}
	assert_int_equal(fdpass_recv(pair[1], &byte, 1, 0, &fds), 1);
	assert_int_equal(fds.count, 0);
	close(pair[0]);
	close(pair[1]);
}

static void test_requests_in_flight_are_answered_once(void **state)
{
	struct life *l = life_new(true);
	struct front *f = &l->front;

	front_events(f->call[0]);
	l->process = NULL;
	front_spin(f);
	assert_int_equal(front_used_idx(f, 0), 3);
	assert_int_equal(front_used(f, 0, 1).id, 2);
	assert_int_equal(front_used(f, 0, 2).id, 4);
	assert_true(front_events(f->call[0]) > 0);
	l->process = NULL;
	front_spin(f);
	assert_int_equal(front_used_idx(f, 0), 3);
	assert_int_equal(l->process->dev.requests, 2); /* the journal's, without an answer */
	front_request(f, 0, 3, 4);
	front_kick(f, 0);
	front_spin(f);
	assert_int_equal(front_used_idx(f, 0), 4);
}

static void test_memory_is_asked_for_again_only_when_it_changed(void **state)
{
	struct life *l = life_new(true);

	assert_int_equal(l->asked, 1);
	l->process = NULL;
	front_spin(&l->front);
	assert_int_equal(front_used_idx(&l->front, 0), 3); /* served: it was approved */
	assert_int_equal(l->asked, 1);
	/* Asked, and ended before the answer came. */
	l->verdicts_wait = true;
	struct vhost_user_mem_reg reg = {.region = {0x40000000, 0x1000, FRONT_UVA + 0x40000000, 0}};
	cleanup_close int fd = memfd_create("more", MFD_CLOEXEC);
	assert_int_equal(ftruncate(fd, 0x1000), 0);
	assert_int_equal(front_ack(&l->front, VHOST_USER_ADD_MEM_REG, &reg, 40, fd), 0);
	assert_int_equal(l->asked, 2);
	front_request(&l->front, 0, 3, 4);
	l->process = NULL;
	front_spin(&l->front);
	front_kick(&l->front, 0);
	assert_int_equal(l->asked, 3);
	assert_int_equal(front_used_idx(&l->front, 0), 3);
	l->verdicts_wait = false;
	l->refuse_memory = true;
	l->process = NULL;
	front_spin(&l->front);
	assert_true(l->front.closed);
	assert_string_equal(l->front.reason, "taken");
}

/* Half a message with its descriptor, received and not more. */
static void test_half_a_message(void **state)
{
	struct life *l = life_new(true);
	struct front *f = &l->front;
	uint64_t index = 1;
	uint8_t bytes[20];
	const uint32_t header[3] = {
		VHOST_USER_SET_VRING_CALL, VHOST_USER_VERSION | VHOST_USER_FLAG_NEED_REPLY, 8};
	struct front_message m = {0};

	memcpy(bytes, header, 12);
	memcpy(bytes + 12, &index, 8);
	front_send_raw(f, bytes, 15, &f->err[0], 1); /* any eventfd that is not the one there */
	front_spin(f);
	for (unsigned i = 0; i < 2; i++) {
		l->process = NULL;
		front_spin(f);
	}
	assert_false(front_receive(f, &m));
	front_send_raw(f, bytes + 15, 5, NULL, 0);
	front_spin(f);
	assert_true(front_receive(f, &m));
	assert_int_equal(m.payload[0], 0);
	front_request(f, 1, 0, 7);
	front_kick(f, 1);
	front_spin(f);
	assert_int_equal(front_used_idx(f, 1), 1);
	assert_int_equal(front_events(f->err[0]), 1);
}

static void test_moved_without_a_journal(void **state)
{
	struct life *l = calloc(1, sizeof(*l));
	struct front *f = &l->front;

	life_init(l);
	l->move = true;
	front_negotiate(f, NO_EVENT);
	front_set_memory(f);
	front_start_ring(f, 0, 0);
	for (unsigned i = 0; i < 5; i++) {
		front_request(f, 0, i, i);
		front_kick(f, 0);
		front_spin(f);
		assert_int_equal(front_used_idx(f, 0), i + 1);
		assert_int_equal(process_image(l->process), 0);
		l->process = NULL;
		front_spin(f);
	}
	assert_int_equal(l->processes, 6);
	assert_int_equal(front_stop_ring(f, 0), 5);
	assert_int_equal(life_count(l, KEEPER_CUSTODY_REGION), 0);
}

/* Reads all messages to a viewer: how many SCANOUTs came, and the size in the last one. */
static unsigned read_scanouts(int fd, uint32_t ret_size[2])
{
	static uint8_t bytes[1u << 20];
	ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
	unsigned scanouts = 0;

	for (ssize_t at = 0; at + 12 <= n;) {
		uint32_t header[3];
		memcpy(header, bytes + at, sizeof(header));
		if (header[0] == VHOST_USER_GPU_SCANOUT) {
			memcpy(ret_size, bytes + at + 16, 8);
			scanouts++;
		}
		at += 12 + (ssize_t)header[2];
	}
	return scanouts;
}

/* The guest switches its screen off, and the process ends before the viewer was told. */
static void test_a_screen_that_went_off(void **state)
{
	struct life *l = life_new(true);
	uint32_t size[2] = {0};
	int pair[2], large = 1 << 20;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &large, sizeof(large));
	front_send(&l->front, VHOST_USER_GPU_SET_SOCKET, 0, NULL, 0, &pair[1], 1);
	close(pair[1]);
	l->paint = true;
	front_spin(&l->front);
	assert_int_equal(read_scanouts(pair[0], size), 1);
	assert_int_equal(size[0], LIFE_SCREEN_W);
	l->process = NULL;
	front_spin(&l->front);
	assert_int_equal(read_scanouts(pair[0], size), 1); /* once more, to be sure */
	assert_int_equal(size[0], LIFE_SCREEN_W);
	l->shown = false;
	l->process = NULL;
	front_spin(&l->front);
	assert_int_equal(read_scanouts(pair[0], size), 1);
	assert_int_equal(size[0], 0);
	l->process = NULL;
	front_spin(&l->front);
	assert_int_equal(read_scanouts(pair[0], size), 0);
	close(pair[0]);
}

/* xorshift64: the same on every machine. */
static uint32_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return (uint32_t)(*state >> 32);
}

/*
 * Takes over in a child from what `fd`'s bytes were changed to; it must not end by a signal. True
 * when it was taken up.
 */
static bool take_over_changed(struct life *l, int fd, size_t size, uint32_t seed)
{
	int status;
	cleanup_free uint8_t *was = malloc(size), *now = malloc(size);

	assert_int_equal(pread(fd, was, size, 0), size);
	memcpy(now, was, size);
	uint64_t random = seed + 1;
	for (unsigned i = 0; i < 1 + seed % 4; i++) {
		size_t at = (size_t)next_random(&random) % size;
		now[at] = seed % 3 ? (uint8_t)next_random(&random) : 0xff;
	}
	if (seed % 5 == 0)
		memset(now + (size_t)next_random(&random) % size, (int)next_random(&random),
			8 < size ? 1 : 0);
	assert_int_equal(pwrite(fd, now, size, 0), size);
	fflush(NULL);
	pid_t pid = fork();
	if (!pid) {
		setenv("CMOCKA_TEST_ABORT", "1", 1);
		alarm(20);
		l->process = NULL;
		front_spin(&l->front);
		front_request(&l->front, 0, 3, 4);
		front_kick(&l->front, 0);
		_exit(43);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (!WIFEXITED(status) || (WEXITSTATUS(status) != 42 && WEXITSTATUS(status) != 43))
		fail_msg("seed %u: ended with status %#x", seed, (unsigned)status);
	assert_int_equal(pwrite(fd, was, size, 0), size);
	return WEXITSTATUS(status) == 43;
}

/* Both must occur, or nothing was tested. */
static void expect_both(unsigned taken)
{
	print_message("# %u of %u were taken up\n", taken, CHANGES);
	assert_true(taken > 0 && taken < CHANGES);
}

static void test_hostile_wire(void **state)
{
	unsigned taken = 0;

	for (uint32_t i = 1; i <= CHANGES; i++) {
		/* Anew each time: the child goes on with the same memory. */
		struct life *l = i % 50 == 1 ? life_new(true) : *state;
		*state = l;
		int fd = custody_fd(l, KEEPER_CUSTODY_WIRE, LIFE_CONNECTION);
		/* Mostly in the small parts. */
		size_t size = i % 4 ? 3000 : sizeof(struct wire);
		taken += take_over_changed(l, fd, size, i);
	}
	expect_both(taken);
}

static void test_hostile_image(void **state)
{
	unsigned taken = 0;

	for (uint32_t i = 1; i <= CHANGES; i++) {
		struct life *l = i % 50 == 1 ? life_new(true) : *state;
		*state = l;
		/* Whatever is sealed against writing would need no test. */
		int fd = custody_fd(l, KEEPER_CUSTODY_IMAGE, l->current >> 8 & 0xff);
		/* The file is larger than what is in it. */
		taken += take_over_changed(l, fd, 600, i);
	}
	expect_both(taken);
}

static void test_hostile_journal(void **state)
{
	unsigned taken = 0;

	for (uint32_t i = 1; i <= CHANGES; i++) {
		struct life *l = i % 50 == 1 ? life_new(false) : *state;
		*state = l;
		int fd = custody_fd(l, KEEPER_CUSTODY_JOURNAL, l->current & 0xff);
		size_t size = 4096 + (size_t)journal_bytes(l->process->journal);
		taken += take_over_changed(l, fd, size, i);
	}
	expect_both(taken);
}

static void test_wire_that_is_none(void **state)
{
	struct wire *wire;
	cleanup_close int file = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING), good = -1;

	assert_int_equal(ftruncate(file, sizeof(struct wire)), 0);
	assert_int_equal(wire_open(file, &wire), -EBADMSG); /* may be cut short */
	assert_int_equal(fcntl(file, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL), 0);
	assert_int_equal(wire_open(file, &wire), -EBADMSG); /* not marked as one */
	assert_int_equal(wire_create(&good, &wire), 0);
	wire_destroy(wire, true);
	assert_int_equal(wire_open(good, &wire), 0);
	wire_destroy(wire, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_peek_gives_duplicates),
		cmocka_unit_test(test_requests_in_flight_are_answered_once),
		cmocka_unit_test(test_memory_is_asked_for_again_only_when_it_changed),
		cmocka_unit_test(test_half_a_message),
		cmocka_unit_test(test_moved_without_a_journal),
		cmocka_unit_test(test_a_screen_that_went_off),
		cmocka_unit_test(test_hostile_wire),
		cmocka_unit_test(test_hostile_image),
		cmocka_unit_test(test_hostile_journal),
		cmocka_unit_test(test_wire_that_is_none),
	};
	log_init("test", LOG_LEVEL_ERROR);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	fflush(NULL);
	_exit(failed); /* processes were abandoned on purpose: that is no leak */
}
