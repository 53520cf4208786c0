/* SPDX-License-Identifier: Apache-2.0 */

/* What a connection leaves to its successor, piece by piece, and what a hostile one may leave. */

#include "life.h"
#include "script.h"

#include "base/checked.h"
#include "state/section.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define BUFFER2(handle, bytes) handle, 0, 64, 16, bytes, 1, 1, 0, 0, 0, bytes

void life_point(void)
{
}

struct fixture {
	struct life life;
	struct process *p;
	int fd;
};

static void start(struct fixture *f)
{
	f->p = calloc(1, sizeof(*f->p));
	assert_non_null(f->p);
	if (!process_start(&f->life, f->p))
		fail_msg("start: %s", strerror(-f->p->err));
}

static void stop(struct fixture *f)
{
	uint32_t id = f->p->dev.loaded ? device_client_id(f->p->dev.loaded) : 0;
	device_client_destroy(id ? device_client_claim(&f->p->dev, id) : NULL);
	process_stop(f->p);
	assert_int_equal(f->p->dev.clients, 0);
	assert_int_equal(f->p->dev.resources, 0);
	assert_int_equal(f->p->budget.fds, 0);
	assert_int_equal(f->p->budget.mappings, 0);
	assert_int_equal(f->p->budget.buffers, 0);
	free(f->p);
	f->p = NULL;
}

static void again(struct fixture *f)
{
	stop(f);
	start(f);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	f->fd = pair[0];
	life_init(&f->life, pair[1]);
	start(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (f->p)
		stop(f);
	for (unsigned i = 0; i < LIFE_CUSTODY; i++)
		if (f->life.custody[i].fd >= 0)
			close(f->life.custody[i].fd);
	munmap(f->life.anchor, sizeof(*f->life.anchor));
	close(f->life.socket);
	close(f->fd);
	free(f);
	return 0;
}

static void put(struct fixture *f, const void *bytes, size_t n)
{
	assert_int_equal(send(f->fd, bytes, n, MSG_NOSIGNAL), (ssize_t)n);
}

static void message(struct fixture *f, uint32_t id, const uint32_t *dwords, size_t n)
{
	const uint32_t header[] = {(uint32_t)n, id};

	put(f, header, sizeof(header));
	if (n)
		put(f, dwords, n * 4);
	process_step(f->p);
}

#define SEND(f, id, ...)                                                                           \
	message(f, id, (const uint32_t[]){__VA_ARGS__}, sizeof((uint32_t[]){__VA_ARGS__}) / 4)

static void expect(struct fixture *f, size_t n)
{
	uint8_t buf[64];

	assert_int_equal(recv(f->fd, buf, n, MSG_DONTWAIT), (ssize_t)n);
}

static void handshake(struct fixture *f, uint32_t version)
{
	put(f, (uint32_t[]){0, VTEST_CREATE_RENDERER}, 8);
	SEND(f, VTEST_PROTOCOL_VERSION, version);
	expect(f, 12);
}

static void ping(struct fixture *f)
{
	message(f, VTEST_PING_PROTOCOL_VERSION, NULL, 0);
	process_step(f->p);
	expect(f, 8);
}

static unsigned shared(const struct fixture *f)
{
	return life_count(&f->life, KEEPER_CUSTODY_SHARED);
}

static void test_custody_follows_resources(void **state)
{
	struct fixture *f = *state;

	handshake(f, 2);
	SEND(f, VTEST_RESOURCE_CREATE2, BUFFER2(1, 8000));
	SEND(f, VTEST_RESOURCE_CREATE2, BUFFER2(2, 8000));
	assert_int_equal(shared(f), 2);
	SEND(f, VTEST_RESOURCE_UNREF, 1);
	assert_int_equal(shared(f), 1);
	/* Small ones stay for the next. */
	for (unsigned i = 0; i < 3; i++) {
		SEND(f, VTEST_RESOURCE_CREATE2, BUFFER2(10, 100));
		SEND(f, VTEST_RESOURCE_UNREF, 10);
		assert_int_equal(shared(f), 2);
	}
	/* The end of a process takes nothing out of custody. */
	again(f);
	assert_int_equal(shared(f), 2);
	SEND(f, VTEST_RESOURCE_UNREF, 2);
	assert_int_equal(shared(f), 1);
	assert_int_equal(life_count(&f->life, KEEPER_CUSTODY_WIRE), 1);
}

/* Every piece to another process: the wire grows, and shrinks again. */
static void test_a_large_message_over_many_lives(void **state)
{
	struct fixture *f = *state;
	const uint32_t dwords = 700000;
	uint32_t *stream = calloc(dwords, 4);

	f->life.limit = 64u << 20;
	again(f);
	stream[dwords - 1] = 0x1234;
	handshake(f, 2);
	put(f, (uint32_t[]){dwords, VTEST_SUBMIT_CMD}, 8);
	for (size_t done = 0; done < dwords * 4ull;) {
		ssize_t n = send(f->fd, (char *)stream + done, MIN(dwords * 4ull - done, 150000),
			MSG_DONTWAIT);
		if (n > 0)
			done += (size_t)n;
		process_step(f->p);
		if (done < dwords * 4ull)
			again(f);
	}
	assert_int_equal(f->p->dev.last_n, dwords);
	assert_int_equal(f->p->dev.last_dword, 0x1234);
	assert_true(f->p->vtest->in.capacity < (1u << 20));
	assert_int_equal(life_count(&f->life, KEEPER_CUSTODY_WIRE), 1);
	free(stream);
	again(f);
	ping(f);
}

static void test_larger_than_the_journal(void **state)
{
	struct fixture *f = *state;
	uint32_t *stream = calloc(100000, 4);

	handshake(f, 2);
	put(f, (uint32_t[]){100000, VTEST_SUBMIT_CMD}, 8);
	for (size_t done = 0; done < 400000;) {
		ssize_t n = send(f->fd, (char *)stream + done, 400000 - done, MSG_DONTWAIT);
		done += n > 0 ? (size_t)n : 0;
		process_step(f->p);
	}
	free(stream);
	assert_true(f->life.anchor->images >= 1);
	for (unsigned i = 0; i < 3; i++)
		process_step(f->p);
	assert_true(f->life.anchor->closed);
	assert_non_null(strstr(f->life.anchor->reason, "larger than the journal"));
}

/* Nothing is executed that is not recorded; nothing waits for ever. */
static void test_no_room_and_no_image(void **state)
{
	struct fixture *f = *state;
	uint32_t *stream = calloc(50000, 4);
	unsigned submits = 0, thaws = 0;

	handshake(f, 2);
	put(f, (uint32_t[]){50000, VTEST_SUBMIT_CMD}, 8);
	put(f, stream, 100000);
	vtest_event(f->p->vtest, EPOLLIN);
	put(f, stream, 100000);
	vtest_event(f->p->vtest, EPOLLIN);
	submits = f->p->dev.submits;
	assert_int_equal(submits, 1);
	put(f, (uint32_t[]){50000, VTEST_SUBMIT_CMD}, 8);
	put(f, stream, 100000);
	vtest_event(f->p->vtest, EPOLLIN);
	put(f, stream, 100000);
	vtest_event(f->p->vtest, EPOLLIN);
	free(stream);
	assert_int_equal(f->p->dev.submits, submits);
	assert_true(f->p->vtest->waiting);
	assert_true(f->p->image_wanted);
	/* A turn does not try again. */
	vtest_event(f->p->vtest, EPOLLIN);
	assert_true(f->p->vtest->waiting);
	while (!f->life.anchor->closed && thaws++ < 100) {
		vtest_freeze(f->p->vtest);
		vtest_thaw(f->p->vtest);
		vtest_event(f->p->vtest, EPOLLIN);
	}
	assert_true(thaws > 2 && thaws < 100);
	assert_int_equal(f->p->dev.submits, submits);
	assert_non_null(strstr(f->life.anchor->reason, "no image can be made"));
}

/* What a process that ends now would owe its client, and what the client's next byte tells. */
static void test_pending(void **state)
{
	struct fixture *f = *state;
	const uint32_t ping_message[] = {0, VTEST_PING_PROTOCOL_VERSION};
	struct vtest *v = f->p->vtest;

	handshake(f, 2);
	vtest_freeze(v);
	assert_false(vtest_pending(v));
	put(f, ping_message, 4);
	assert_int_equal(vtest_input_receive(v), 1);
	assert_false(vtest_pending(v));
	put(f, ping_message + 1, 4);
	assert_false(vtest_pending(v)); /* in the socket: that wakes somebody */
	assert_int_equal(vtest_input_receive(v), 1);
	assert_true(vtest_pending(v));
	vtest_thaw(v);
	process_step(f->p);
	expect(f, 8);
	vtest_freeze(v);
	assert_false(vtest_pending(v));
	vtest_thaw(v);
	for (unsigned i = 0; i < 100000 && !v->out.first; i++)
		message(f, VTEST_PING_PROTOCOL_VERSION, NULL, 0);
	vtest_freeze(v);
	assert_true(vtest_pending(v));
}

static void test_nothing_happens_while_frozen(void **state)
{
	struct fixture *f = *state;

	handshake(f, 2);
	vtest_freeze(f->p->vtest);
	SEND(f, VTEST_SUBMIT_CMD, 1, 2, 3);
	assert_int_equal(f->p->dev.submits, 0);
	assert_null(f->p->vtest->source);
	vtest_thaw(f->p->vtest);
	assert_non_null(f->p->vtest->source);
	process_step(f->p);
	assert_int_equal(f->p->dev.submits, 1);
	ping(f);
}

static void test_frames_are_not_counted_twice(void **state)
{
	struct fixture *f = *state;

	handshake(f, 2);
	SEND(f, VTEST_RESOURCE_CREATE2, 7, 2, 1, 1 << 7, 64, 64, 1, 1, 0, 0, 16384);
	SEND(f, VTEST_TRANSFER_GET2, 7, 0, 0, 0, 0, 8, 1, 1, 8, 0);
	assert_int_equal(f->p->dev.frames, 1);
	again(f);
	assert_int_equal(f->p->dev.frames, 0);
	SEND(f, VTEST_TRANSFER_GET2, 7, 0, 0, 0, 0, 8, 1, 1, 8, 0);
	assert_int_equal(f->p->dev.frames, 1);
}

/* ---- hostile: the wire ---- */

static void leave_something(struct fixture *f)
{
	handshake(f, 3);
	SEND(f, VTEST_RESOURCE_CREATE2, BUFFER2(0, 8000));
	SEND(f, VTEST_RESOURCE_CREATE2, BUFFER2(0, 100));
	SEND(f, VTEST_RESOURCE_CREATE2, BUFFER2(0, 100));
	SEND(f, VTEST_RESOURCE_CREATE2, 0, 0, 64, 1 << 17, 8, 1, 1, 0, 0, 0, 8);
	SEND(f, VTEST_RESOURCE_UNREF, 3);
	SEND(f, VTEST_SYNC_CREATE, 1, 0);
	SEND(f, VTEST_SYNC_CREATE, 2, 0);
	SEND(f, VTEST_SYNC_WAIT, 0, UINT32_MAX, 1, 9, 0, 2, 9, 0);
	/* Half a message. */
	put(f, (uint32_t[]){5, VTEST_SUBMIT_CMD, 1}, 12);
	process_step(f->p);
	assert_false(f->life.anchor->closed);
}

static struct vtest_wire *map_wire(struct fixture *f)
{
	const struct keeper_custody what = {.kind = KEEPER_CUSTODY_WIRE, .index = LIFE_CONNECTION};
	struct vtest_wire *wire = mmap(
		NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, life_find(&f->life, &what)->fd, 0);
	assert_ptr_not_equal(wire, MAP_FAILED);
	return wire;
}

/* Starts a successor, which may refuse; true: it serves. */
static bool try_again(struct fixture *f)
{
	if (f->p)
		stop(f);
	f->life.anchor->closed = false;
	f->p = calloc(1, sizeof(*f->p));
	bool good = process_start(&f->life, f->p);
	if (good)
		process_step(f->p);
	return good && !f->life.anchor->closed;
}

static void test_hostile_wire(void **state)
{
	struct fixture *f = *state;

	leave_something(f);
	assert_true(try_again(f));
	struct vtest_wire *wire = map_wire(f);
	const struct vtest_wire good = *wire;
	unsigned in = good.durable.in.current & 1;

#define REFUSED(change)                                                                            \
	do {                                                                                       \
		*wire = good;                                                                      \
		change;                                                                            \
		assert_false(try_again(f));                                                        \
	} while (0)
	REFUSED(wire->magic++);
	REFUSED(wire->version++);
	REFUSED(wire->capacity *= 2);
	REFUSED(wire->capacity = 0);
	REFUSED(wire->zero_at = UINT64_MAX);
	REFUSED(wire->durable.in.before[in] = 0; wire->durable.in.message[in].msg_len = 0);
	REFUSED(wire->durable.in.before[in] = UINT64_MAX / 2);
	REFUSED(wire->durable.in.before[in] += 10u << 20);
	REFUSED(wire->durable.in.before[in] = UINT64_MAX);
	*wire = good;
	assert_true(try_again(f));
	munmap(wire, 4096);
}

static void put_wire(struct fixture *f, size_t size, unsigned seals)
{
	const struct keeper_custody what = {.kind = KEEPER_CUSTODY_WIRE, .index = LIFE_CONNECTION};
	int fd = memfd_create("wire", MFD_ALLOW_SEALING);

	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	life_put(&f->life, &what, fd);
	close(fd);
	struct vtest_wire *wire = map_wire(f);
	wire->magic = 0x52495756u;
	wire->version = 1;
	wire->capacity = size - 4096;
	munmap(wire, 4096);
}

static void test_hostile_wire_memory(void **state)
{
	struct fixture *f = *state;
	const size_t base = 4096 + (576u << 10);

	/* Without messages everything else is in order. */
	put_wire(f, base, F_SEAL_SHRINK);
	assert_true(try_again(f));
	put_wire(f, base, 0);
	assert_false(try_again(f));
	put_wire(f, base, F_SEAL_GROW);
	assert_false(try_again(f));
	put_wire(f, 4096, F_SEAL_SHRINK);
	assert_false(try_again(f));
	put_wire(f, base + 100, F_SEAL_SHRINK);
	assert_false(try_again(f));
	put_wire(f, 1ull << 40, F_SEAL_SHRINK);
	assert_false(try_again(f));
}

static uint32_t random_next(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

/* Whatever lies in the page: refused, or served, and never worse. */
static void test_garbage_in_the_wire(void **state)
{
	struct fixture *f = *state;
	uint32_t seed = 1;

	leave_something(f);
	assert_true(try_again(f));
	struct vtest_wire *wire = map_wire(f);
	const struct vtest_wire good = *wire;
	for (unsigned i = 0; i < 400; i++) {
		*wire = good;
		for (unsigned n = random_next(&seed) % 4 + 1; n; n--)
			((uint8_t *)wire)[random_next(&seed) % sizeof(*wire)] =
				(uint8_t)random_next(&seed);
		if (try_again(f)) {
			/* It made a wire of its own, which goes on being used. */
			munmap(wire, 4096);
			wire = map_wire(f);
		}
	}
	munmap(wire, 4096);
}

/* ---- hostile: shared memory and the section ---- */

static void test_shared_memory_that_can_shrink(void **state)
{
	struct fixture *f = *state;
	struct keeper_custody what = {
		.kind = KEEPER_CUSTODY_SHARED, .index = LIFE_CONNECTION, .a = 1, .b = 8000};
	int fd = memfd_create("shared", MFD_ALLOW_SEALING);

	leave_something(f);
	assert_int_equal(ftruncate(fd, 8000), 0);
	life_put(&f->life, &what, fd);
	assert_false(try_again(f));
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	assert_true(try_again(f));
	assert_int_equal(ftruncate(fd, 9000), 0);
	assert_false(try_again(f));
	close(fd);
}

struct section {
	uint8_t *client, *connection;
	size_t client_size, connection_size;
};

static struct section read_section(struct fixture *f)
{
	const struct keeper_custody what = {
		.kind = KEEPER_CUSTODY_IMAGE, .index = f->life.anchor->current >> 8 & 0xff};
	struct state_section section;
	struct section got = {0};
	struct state_reader *r;

	assert_int_equal(state_reader_create(life_find(&f->life, &what)->fd, &r), 0);
	while (state_next(r, &section) == 1) {
		bool client = section.type == STATE_CLIENT;
		uint8_t *copy = malloc(section.size);
		memcpy(copy, state_take(r, section.size), section.size);
		*(client ? &got.client : &got.connection) = copy;
		*(client ? &got.client_size : &got.connection_size) = section.size;
	}
	state_reader_destroy(r);
	assert_non_null(got.client);
	assert_non_null(got.connection);
	return got;
}

/* Puts an image with these bytes where the one that counts is. */
static void put_section(struct fixture *f, const struct section *s, size_t size)
{
	const struct keeper_custody what = {
		.kind = KEEPER_CUSTODY_IMAGE, .index = f->life.anchor->current >> 8 & 0xff};
	int fd = memfd_create("image", MFD_ALLOW_SEALING);
	struct state_writer *w;

	assert_int_equal(state_writer_create(STATE_IMAGE, fd, &w), 0);
	state_begin(w, STATE_CLIENT);
	state_put(w, s->client, s->client_size);
	state_end(w);
	state_begin(w, STATE_CONNECTION);
	state_put(w, s->connection, size);
	state_end(w);
	assert_int_equal(state_finish(w), 0);
	state_writer_destroy(w);
	life_put(&f->life, &what, fd);
	close(fd);
}

static void test_hostile_section(void **state)
{
	struct fixture *f = *state;
	uint32_t seed = 7;
	unsigned served = 0, refused = 0;

	leave_something(f);
	/* Answers that are not read are part of it. */
	int room = 1;
	setsockopt(f->life.socket, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	put(f, (uint32_t[]){2, 3, 4, 5}, 16);
	for (unsigned i = 0; i < 8; i++)
		message(f, VTEST_GET_CAPS2, NULL, 0);
	SEND(f, VTEST_RESOURCE_CREATE2, BUFFER2(0, 8000));
	assert_true(f->p->vtest->out.first != NULL);
	assert_int_equal(process_image(f->p), 0);
	struct section good = read_section(f);
	put_section(f, &good, good.connection_size);
	for (size_t size = 0; size < good.connection_size; size++) {
		put_section(f, &good, size);
		assert_false(try_again(f));
	}
	uint8_t *bytes = malloc(good.connection_size);
	memcpy(bytes, good.connection, good.connection_size);
	struct section bad = good;
	bad.connection = bytes;
	for (unsigned i = 0; i < 3000; i++) {
		memcpy(bytes, good.connection, good.connection_size);
		for (unsigned n = random_next(&seed) % 3 + 1; n; n--)
			bytes[random_next(&seed) % good.connection_size] =
				random_next(&seed) & 1 ? 0xff : (uint8_t)random_next(&seed);
		put_section(f, &bad, good.connection_size);
		*(try_again(f) ? &served : &refused) += 1;
	}
	assert_true(refused > 100);
	free(bytes);
	free(good.client);
	free(good.connection);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_custody_follows_resources),
		TEST(test_a_large_message_over_many_lives),
		TEST(test_larger_than_the_journal),
		TEST(test_no_room_and_no_image),
		TEST(test_pending),
		TEST(test_nothing_happens_while_frozen),
		TEST(test_frames_are_not_counted_twice),
		TEST(test_hostile_wire),
		TEST(test_hostile_wire_memory),
		TEST(test_garbage_in_the_wire),
		TEST(test_shared_memory_that_can_shrink),
		TEST(test_hostile_section),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("vtest state", tests, NULL, NULL);
}
