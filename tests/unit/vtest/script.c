/* SPDX-License-Identifier: Apache-2.0 */
#include "script.h"

#include "base/checked.h"
#include "base/fdpass.h"
#include "protocol/vtest.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define BIND_CUSTOM   (1u << 17)
#define BIND_DISPLAY  (1u << 7)
#define TEXTURE_BYTES 16384u
#define MAX_DWORDS    64u

struct run {
	struct script *s;
	jmp_buf ended;
};

static void note(struct run *run, const void *bytes, size_t n)
{
	struct script_notes *notes = run->s->notes;

	if (!range_inside(notes->n, n, SCRIPT_NOTES))
		abort();
	memcpy(notes->bytes + notes->n, bytes, n);
	notes->n += n;
}

static void note_hash(struct run *run, const uint8_t *bytes, size_t n)
{
	uint64_t hash = 0xcbf29ce484222325ull;

	for (size_t i = 0; i < n; i++)
		hash = (hash ^ bytes[i]) * 0x100000001b3ull;
	note(run, &hash, sizeof(hash));
}

static void wait_for(struct run *run)
{
	if (!run->s->wait(run->s->data))
		longjmp(run->ended, 1);
}

static void put(struct run *run, const void *bytes, size_t n)
{
	for (size_t done = 0; done < n;) {
		ssize_t r = send(run->s->fd, (const char *)bytes + done, n - done,
			MSG_DONTWAIT | MSG_NOSIGNAL);
		if (r > 0)
			done += (size_t)r;
		else if (errno == EAGAIN)
			wait_for(run);
		else
			longjmp(run->ended, 1);
	}
}

static void message(struct run *run, uint32_t id, const uint32_t *dwords, size_t n)
{
	uint32_t whole[2 + MAX_DWORDS] = {(uint32_t)n, id};

	if (n)
		memcpy(whole + 2, dwords, n * 4);
	put(run, whole, 8 + n * 4);
}

#define MESSAGE(run, id, ...)                                                                      \
	message(run, id, (const uint32_t[]){__VA_ARGS__}, sizeof((uint32_t[]){__VA_ARGS__}) / 4)

/* Reads exactly so much, and notes it; a descriptor that comes along is returned, else -1. */
static int expect(struct run *run, void *buf, size_t n)
{
	int fd = -1;

	for (size_t done = 0; done < n;) {
		struct fdpass_fds fds;
		ssize_t r =
			fdpass_recv(run->s->fd, (char *)buf + done, n - done, MSG_DONTWAIT, &fds);
		if (r == -EAGAIN) {
			wait_for(run);
			continue;
		}
		if (r <= 0)
			longjmp(run->ended, 1);
		if (fds.count)
			fd = fdpass_take(&fds);
		fdpass_close(&fds);
		done += (size_t)r;
	}
	note(run, buf, n);
	return fd;
}

static void answer(struct run *run, size_t bytes)
{
	uint8_t buf[2048];
	int fd = expect(run, buf, bytes);

	if (fd >= 0)
		abort();
}

static int answer_fd(struct run *run)
{
	uint8_t byte;
	int fd = expect(run, &byte, 1);

	if (fd < 0) {
		note(run, "no descriptor", 13);
		longjmp(run->ended, 1);
	}
	return fd;
}

static void ping(struct run *run)
{
	message(run, VTEST_PING_PROTOCOL_VERSION, NULL, 0);
	answer(run, 8);
}

static void busy_wait(struct run *run, uint32_t handle)
{
	MESSAGE(run, VTEST_RESOURCE_BUSY_WAIT, handle, VTEST_BUSY_WAIT_FLAG_WAIT);
	answer(run, 12);
}

static void begin(struct run *run)
{
	uint32_t version = run->s->version;

	/* An odd length: nothing after it is aligned, until the input has been empty. */
	put(run, (uint32_t[]){5, VTEST_CREATE_RENDERER}, 8);
	put(run, "five5", 5);
	ping(run);
	MESSAGE(run, VTEST_PROTOCOL_VERSION, version);
	answer(run, 12);
	message(run, VTEST_GET_CAPS, NULL, 0);
	message(run, VTEST_GET_CAPS2, NULL, 0);
	answer(run, 8 + 308);
	answer(run, 8 + 1020);
	if (version < 3)
		return;
	MESSAGE(run, VTEST_GET_PARAM, VTEST_PARAM_MAX_TIMELINE_COUNT);
	answer(run, 16);
	MESSAGE(run, VTEST_GET_CAPSET, 2, 2);
	answer(run, 8 + 4 + 1020);
	MESSAGE(run, VTEST_CONTEXT_INIT, 2);
}

static void inline_transfers(struct run *run, unsigned round)
{
	uint32_t handle = 1000 + round;
	uint8_t data[6] = {'a', 'b', 'c', 'd', 'e', (uint8_t)round};

	if (run->s->version >= 3) {
		MESSAGE(run, VTEST_RESOURCE_CREATE, 0, 0, 64, 16, 32, 1, 1, 0, 0, 0);
		uint32_t got[3];
		expect(run, got, 12);
		handle = got[2];
	} else {
		MESSAGE(run, VTEST_RESOURCE_CREATE, handle, 0, 64, 16, 32, 1, 1, 0, 0, 0);
	}
	put(run, (uint32_t[]){11 + 2, VTEST_TRANSFER_PUT, handle, 0, 0, 0, 0, 0, 0, 6, 1, 1, 6},
		52);
	put(run, data, 6);
	MESSAGE(run, VTEST_TRANSFER_GET, handle, 0, 0, 0, 0, 0, 0, 6, 1, 1, 6);
	answer(run, 6);
	/* One message, and the next in three pieces. */
	const uint32_t submit[] = {
		0, VTEST_PING_PROTOCOL_VERSION, 3, VTEST_SUBMIT_CMD, 1, round, 3};
	put(run, submit, 8 + 5);
	answer(run, 8);
	put(run, (const uint8_t *)submit + 8 + 5, 9);
	wait_for(run);
	put(run, (const uint8_t *)submit + 8 + 14, sizeof(submit) - 8 - 14);
	busy_wait(run, handle);
	if (round & 1)
		MESSAGE(run, VTEST_RESOURCE_UNREF, handle);
}

struct shared {
	uint32_t handle;
	uint8_t *map;
	size_t size;
};

static struct shared shared_answer(struct run *run, uint32_t handle, uint32_t bytes)
{
	struct shared shared = {.handle = handle, .size = bytes};
	uint32_t got[3];

	if (run->s->version >= 3) {
		expect(run, got, sizeof(got));
		shared.handle = got[2];
	}
	int fd = answer_fd(run);
	shared.map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (shared.map == MAP_FAILED)
		abort();
	note_hash(run, shared.map, bytes);
	return shared;
}

static struct shared make_shared(struct run *run, uint32_t handle, uint32_t target, uint32_t format,
	uint32_t bind, uint32_t width, uint32_t height, uint32_t bytes)
{
	MESSAGE(run, VTEST_RESOURCE_CREATE2, run->s->version >= 3 ? 0 : handle, target, format,
		bind, width, height, 1, 1, 0, 0, bytes);
	return shared_answer(run, handle, bytes);
}

static struct shared make_small(struct run *run, uint32_t handle)
{
	return make_shared(run, handle, 0, 64, 16, 100, 1, 100);
}

/* Puts, scribbles over what was put, gets, and scribbles over what was got. */
static void shared_transfers(struct run *run, const struct shared *shared, unsigned round)
{
	uint32_t w = MIN(64, (uint32_t)shared->size / 2), at = (uint32_t)shared->size / 2;

	memset(shared->map, 'p' + (int)round, w);
	MESSAGE(run, VTEST_TRANSFER_PUT2, shared->handle, 0, 0, 0, 0, w, 1, 1, w, 0);
	busy_wait(run, shared->handle);
	memset(shared->map, '#', w);
	MESSAGE(run, VTEST_TRANSFER_GET2, shared->handle, 0, 0, 0, 0, w, 1, 1, w, at);
	busy_wait(run, shared->handle);
	note(run, shared->map + at, w);
	memset(shared->map + at, '!', w);
	ping(run);
	note_hash(run, shared->map, shared->size);
}

/* A submit and the fence that follows it, which is answered first. */
static void submit_and_fence(struct run *run, unsigned round)
{
	uint32_t handle = 2000 + round, bytes = 8;
	const uint32_t messages[] = {4, VTEST_SUBMIT_CMD, 11, 12, 13, round, 11,
		VTEST_RESOURCE_CREATE2, run->s->version >= 3 ? 0 : handle, 0, 64, BIND_CUSTOM,
		bytes, 1, 1, 0, 0, 0, bytes};

	put(run, messages, sizeof(messages));
	struct shared fence = shared_answer(run, handle, bytes);
	busy_wait(run, fence.handle);
	MESSAGE(run, VTEST_SUBMIT_CMD, 7, 7);
	if (round)
		MESSAGE(run, VTEST_RESOURCE_UNREF, fence.handle);
	munmap(fence.map, fence.size);
}

static void shared_round(struct run *run, unsigned round)
{
	struct shared texture = make_shared(
		run, 100 + round, 2, 1, round ? 8 : BIND_DISPLAY, 64, 64, TEXTURE_BYTES);
	struct shared small = make_small(run, 200 + round);

	shared_transfers(run, &texture, round);
	shared_transfers(run, &small, round);
	submit_and_fence(run, round);
	/* Its memory is used again, by the next. */
	MESSAGE(run, VTEST_RESOURCE_UNREF, small.handle);
	ping(run);
	struct shared again = make_small(run, 300 + round);
	note_hash(run, small.map, small.size);
	memset(again.map, 'x', again.size);
	shared_transfers(run, &again, round + 1);
	if (round & 1)
		MESSAGE(run, VTEST_RESOURCE_UNREF, texture.handle);
	ping(run);
	note_hash(run, again.map, again.size);
	note_hash(run, texture.map, texture.size);
	munmap(small.map, small.size);
	munmap(again.map, again.size);
	munmap(texture.map, texture.size);
}

static uint32_t make_sync(struct run *run, uint32_t value)
{
	uint32_t got[3];

	MESSAGE(run, VTEST_SYNC_CREATE, value, 0);
	expect(run, got, sizeof(got));
	return got[2];
}

static int wait_fd(struct run *run, uint32_t flags, uint32_t timeout, uint32_t a, uint32_t a_value,
	uint32_t b, uint32_t b_value)
{
	MESSAGE(run, VTEST_SYNC_WAIT, flags, timeout, a, a_value, 0, b, b_value, 0);
	answer(run, 8);
	return answer_fd(run);
}

static void note_ready(struct run *run, int fd)
{
	struct pollfd pollfd = {.fd = fd, .events = POLLIN};
	uint8_t ready = poll(&pollfd, 1, 0) == 1;

	note(run, &ready, 1);
}

static void sync_round(struct run *run, unsigned round)
{
	uint32_t a = make_sync(run, 1), b = make_sync(run, 2);
	int fds[4];

	fds[0] = wait_fd(run, 0, UINT32_MAX, a, 5, b, 5);
	fds[1] = wait_fd(run, VTEST_SYNC_WAIT_FLAG_ANY, UINT32_MAX, a, 5, b, 5);
	fds[2] = wait_fd(run, 0, 0, a, 1, b, 1);
	fds[3] = wait_fd(run, 0, UINT32_MAX, a, 50, b, 50);
	for (unsigned i = 0; i < 4; i++)
		note_ready(run, fds[i]);
	MESSAGE(run, VTEST_SYNC_WRITE, b, 5, 0);
	MESSAGE(run, VTEST_SYNC_READ, b);
	answer(run, 16);
	for (unsigned i = 0; i < 4; i++)
		note_ready(run, fds[i]);
	/* One batch: the sync is set once it is complete. */
	MESSAGE(run, VTEST_SUBMIT_CMD2, 1, VTEST_SUBMIT_FLAG_RING_IDX, 9, 2, 11, 1, 3, 0, 0, 40,
		41 + round, a, 9, 0);
	MESSAGE(run, VTEST_SYNC_READ, a);
	answer(run, 16);
	if (round & 1)
		MESSAGE(run, VTEST_SYNC_UNREF, a);
	ping(run);
	for (unsigned i = 0; i < 4; i++) {
		note_ready(run, fds[i]);
		close(fds[i]);
	}
}

/*
 * Reads nothing while answers and descriptors pile up, and lets go of what some of them stand for
 * before they were read.
 */
static void unread(struct run *run, unsigned round)
{
	const uint32_t version = run->s->version, first = 4000 + 10 * round;
	uint32_t sync = version >= 3 ? make_sync(run, 0) : 0;
	int fds[2];

	for (unsigned i = 0; i < 12; i++)
		message(run, VTEST_GET_CAPS2, NULL, 0);
	for (unsigned i = 0; i < 3; i++)
		MESSAGE(run, VTEST_RESOURCE_CREATE2, version >= 3 ? 0 : first + i, 0, 64, 16, 8000,
			1, 1, 0, 0, 0, 8000);
	if (version >= 3)
		for (unsigned i = 0; i < 2; i++)
			MESSAGE(run, VTEST_SYNC_WAIT, 0, UINT32_MAX, sync, 1 + i, 0);
	else
		MESSAGE(run, VTEST_RESOURCE_UNREF, first);
	if (version >= 3)
		MESSAGE(run, VTEST_SYNC_WRITE, sync, 1, 0);
	for (unsigned i = 0; i < 6; i++)
		wait_for(run);
	for (unsigned i = 0; i < 12; i++)
		answer(run, 8 + 1020);
	struct shared shared[3];
	for (unsigned i = 0; i < 3; i++)
		shared[i] = shared_answer(run, first + i, 8000);
	for (unsigned i = 0; i < 2 && version >= 3; i++) {
		answer(run, 8);
		fds[i] = answer_fd(run);
	}
	for (unsigned i = 0; i < 3; i++) {
		if (i)
			shared_transfers(run, &shared[i], round);
		munmap(shared[i].map, shared[i].size);
		if (i == 1)
			MESSAGE(run, VTEST_RESOURCE_UNREF, shared[i].handle);
	}
	ping(run);
	for (unsigned i = 0; i < 2 && version >= 3; i++) {
		note_ready(run, fds[i]);
		close(fds[i]);
	}
}

bool script_run(struct script *s)
{
	struct run run = {.s = s};

	s->notes->n = 0;
	if (setjmp(run.ended))
		return false;
	begin(&run);
	for (unsigned round = 0; round < s->rounds; round++) {
		inline_transfers(&run, round);
		if (s->version >= 2)
			shared_round(&run, round);
		if (s->version >= 3)
			sync_round(&run, round);
		if (s->version >= 2)
			unread(&run, round);
	}
	ping(&run);
	/* Which ends the connection; `wait` says when. */
	if (s->bad_end) {
		MESSAGE(&run, VTEST_RESOURCE_UNREF, 0xdead);
		while (s->wait(s->data))
			;
	}
	return true;
}
