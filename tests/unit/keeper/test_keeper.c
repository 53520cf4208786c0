/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "keeper/binding.h"
#include "keeper/custody.h"
#include "keeper/stats.h"
#include "protocol/keeper_table.h"
#include "protocol/stats.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* --- messages --- */

static void seqpacket(int ret[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ret), 0);
}

static unsigned open_fds(void)
{
	unsigned n = 0;
	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void test_every_row_travels(void **state)
{
	int pair[2];
	struct packet p;
	unsigned char payload[PACKET_PAYLOAD_MAX];

	seqpacket(pair);
	memset(payload, 0x5a, sizeof(payload));
	for (uint32_t type = 0; type < keeper_control_table.count; type++) {
		const struct packet_row *row = &keeper_control_rows[type];
		int fd = row->fds ? pair[0] : -1;
		assert_int_equal(packet_send(pair[0], &keeper_control_table, type, payload, fd), 0);
		assert_int_equal(packet_recv(pair[1], &keeper_control_table, row->from, &p), 1);
		assert_int_equal(p.type, type);
		assert_memory_equal(p.payload, payload, row->size);
		assert_int_equal(p.fd >= 0, row->fds);
		close_fd(&p.fd);
	}
	assert_int_equal(packet_recv(pair[1], &keeper_control_table, 0, &p), -EAGAIN);
	close(pair[0]);
	assert_int_equal(packet_recv(pair[1], &keeper_control_table, 0, &p), 0);
	close(pair[1]);
}

/* One descriptor too many is one message without it, not the end of the channel. */
static void test_no_room_for_a_descriptor(void **state)
{
	int pair[2];
	struct packet p;
	struct rlimit limit, lowered;
	struct keeper_connection c = {.id = 42};

	seqpacket(pair);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(packet_send(pair[0], &keeper_device_table,
					 KEEPER_DEVICE_CONNECTION, &c, pair[0]),
			0);
	lowered = limit;
	lowered.rlim_cur = 0;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &lowered), 0);
	int r = packet_recv(pair[1], &keeper_device_table, KEEPER_FROM_KEEPER, &p);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(r, -EMFILE);
	assert_int_equal(p.type, KEEPER_DEVICE_CONNECTION);
	assert_int_equal(p.fd, -1);
	assert_int_equal(((struct keeper_connection *)p.payload)->id, 42);
	assert_int_equal(packet_recv(pair[1], &keeper_device_table, KEEPER_FROM_KEEPER, &p), 1);
	close_fd(&p.fd);
	close(pair[0]);
	close(pair[1]);
}

static void expect_refused(const void *bytes, size_t len, const int *fds, unsigned n_fds)
{
	int pair[2];
	struct packet p;

	seqpacket(pair);
	unsigned before = open_fds();
	assert_int_equal(fdpass_send(pair[0], bytes, len, fds, n_fds), (ssize_t)len);
	assert_int_equal(
		packet_recv(pair[1], &keeper_device_table, KEEPER_FROM_DEVICE, &p), -EPROTO);
	assert_int_equal(open_fds(), before); /* nothing leaked */
	close(pair[0]);
	close(pair[1]);
}

struct wire_header {
	uint32_t type, size;
};

static void test_malformed_messages_are_refused(void **state)
{
	struct {
		struct wire_header header;
		unsigned char payload[4096];
	} m = {{KEEPER_DEVICE_NOTICE, sizeof(struct keeper_text)}, {0}};
	size_t whole = sizeof(m.header) + sizeof(struct keeper_text);
	int fds[3] = {0, 0, 0};

	expect_refused(&m, 1, NULL, 0);
	expect_refused(&m, whole - 1, NULL, 0);
	expect_refused(&m, whole + 1, NULL, 0);
	expect_refused(&m, sizeof(m), NULL, 0);
	expect_refused(&m, whole, fds, 1);
	m.header.size--;
	expect_refused(&m, whole, NULL, 0);
	m.header = (struct wire_header){KEEPER_DEVICE_MESSAGE_COUNT, 0};
	expect_refused(&m, sizeof(m.header), NULL, 0);
	m.header = (struct wire_header){UINT32_MAX, UINT32_MAX};
	expect_refused(&m, sizeof(m.header), NULL, 0);
	/* the keeper's own message, from the wrong side */
	m.header = (struct wire_header){KEEPER_DEVICE_QUIT, 0};
	expect_refused(&m, sizeof(m.header), NULL, 0);
	/* too few and too many descriptors */
	m.header = (struct wire_header){KEEPER_DEVICE_CUSTODY, sizeof(struct keeper_custody)};
	whole = sizeof(m.header) + sizeof(struct keeper_custody);
	expect_refused(&m, whole, NULL, 0);
	expect_refused(&m, whole, fds, 2);
	expect_refused(&m, whole, fds, 3);
}

static void test_text_is_made_safe(void **state)
{
	char text[8] = {'a', '\n', 0x1b, 'b', 'c', 'd', 'e', 'f'};
	packet_text(text, sizeof(text));
	assert_string_equal(text, "a  bcde");
}

/* --- binding --- */

static const struct binding_peer vm = {KEEPER_CONNECTION_VHOST_USER, 10, 1000, "vm"};
static const struct binding_peer process = {KEEPER_CONNECTION_VTEST, 20, 1000, "process"};
static const struct binding_peer stranger = {KEEPER_CONNECTION_VTEST, 30, 1001, "stranger"};

static void test_a_vm_holds_alone(void **state)
{
	struct binding b = {0};
	char why[KEEPER_TEXT_MAX];

	assert_int_equal(binding_admit(&b, &vm, why, sizeof(why)), 0);
	assert_int_equal(b.kind, KEEPER_BINDING_VM);
	assert_int_equal(binding_admit(&b, &vm, why, sizeof(why)), -EBUSY);
	assert_string_equal(why, "it is held by vm");
	assert_int_equal(binding_admit(&b, &process, why, sizeof(why)), -EBUSY);
	assert_true(binding_connection_gone(&b));
	assert_int_equal(b.kind, KEEPER_BINDING_NONE);
	assert_int_equal(binding_admit(&b, &process, why, sizeof(why)), 0);
}

static void test_a_process_has_many_connections_of_one_user(void **state)
{
	struct binding b = {0};
	char why[KEEPER_TEXT_MAX];

	assert_int_equal(binding_admit(&b, &process, why, sizeof(why)), 0);
	assert_int_equal(binding_admit(&b, &process, why, sizeof(why)), 0);
	assert_int_equal(binding_admit(&b, &stranger, why, sizeof(why)), -EPERM);
	assert_int_equal(binding_admit(&b, &vm, why, sizeof(why)), -EBUSY);
	assert_false(binding_connection_gone(&b));
	assert_true(binding_connection_gone(&b));
	assert_false(binding_connection_gone(&b)); /* once more than there were */
	assert_int_equal(binding_admit(&b, &stranger, why, sizeof(why)), 0);
}

static void test_a_reserved_binding_lasts_as_long_as_its_process(void **state)
{
	struct binding b = {0};
	struct keeper_bind bind = {.kind = KEEPER_BINDING_PROCESS, .pid = 5, .uid = 1000};
	char why[KEEPER_TEXT_MAX];

	memset(bind.label, 'x', sizeof(bind.label)); /* not terminated */
	assert_int_equal(binding_reserve(&b, &bind, why, sizeof(why)), 0);
	assert_int_equal(strlen(b.label), KEEPER_TEXT_MAX - 1);
	assert_int_equal(binding_reserve(&b, &bind, why, sizeof(why)), -EBUSY);
	assert_int_equal(binding_admit(&b, &stranger, why, sizeof(why)), -EPERM);
	assert_int_equal(binding_admit(&b, &process, why, sizeof(why)), 0);
	assert_false(binding_connection_gone(&b)); /* the process still runs */
	assert_int_equal(binding_admit(&b, &process, why, sizeof(why)), 0);
	assert_false(binding_holder_gone(&b)); /* a connection is still there */
	assert_true(binding_connection_gone(&b));
}

/* --- custody --- */

static int temporary_dir(char *path)
{
	assert_non_null(mkdtemp(path));
	return open(path, O_DIRECTORY | O_CLOEXEC);
}

static void test_custody_has_a_place_for_each_thing(void **state)
{
	static const unsigned counts[KEEPER_CUSTODY_WIRE] = {KEEPER_MAX_MEMORY, KEEPER_MAX_RINGS,
		KEEPER_MAX_RINGS, KEEPER_MAX_RINGS, 1, 1, KEEPER_MAX_HEADS};
	struct custody c;
	unsigned before = open_fds(), total = 0;

	custody_init(&c, -1);
	for (uint32_t kind = 0; kind < KEEPER_CUSTODY_WIRE; kind++) {
		for (uint32_t i = 0; i < counts[kind]; i++, total++) {
			struct keeper_custody what = {
				.kind = kind, .index = i, .a = kind * 100 + i};
			assert_int_equal(custody_put(&c, &what, dup(0)), 0);
			what.a++; /* no part of the place's name */
			assert_int_equal(custody_put(&c, &what, dup(0)), 0); /* replaces */
		}
		struct keeper_custody beyond = {.kind = kind, .index = counts[kind]};
		assert_int_equal(custody_put(&c, &beyond, 0), -EINVAL);
		beyond.index = UINT32_MAX;
		assert_int_equal(custody_release(&c, &beyond), -EINVAL);
		assert_null(custody_get(&c, kind, counts[kind]));
	}
	assert_int_equal(c.count, total);
	assert_int_equal(open_fds(), before + total);
	for (uint32_t kind = 0; kind < KEEPER_CUSTODY_WIRE; kind++) /* no overlap */
		assert_int_equal(custody_get(&c, kind, 0)->what.a, kind * 100 + 1);
	struct keeper_custody unknown = {.kind = KEEPER_CUSTODY_KIND_COUNT};
	assert_int_equal(custody_put(&c, &unknown, 0), -EINVAL);
	custody_release_guest(&c);
	assert_int_equal(open_fds(), before + KEEPER_MAX_HEADS);
	custody_finish(&c);
	assert_int_equal(open_fds(), before);
}

static int number_of(int fd)
{
	int n = -1;

	assert_int_equal(pread(fd, &n, sizeof(n), 0), sizeof(n));
	return n;
}

static int numbered(int n)
{
	int fd = memfd_create("numbered", MFD_CLOEXEC);

	assert_int_equal(pwrite(fd, &n, sizeof(n), 0), sizeof(n));
	return fd;
}

/* A model of 4 kinds x 4 connections x 4 numbers, and 20,000 random steps on it. */
static void test_custody_is_a_map(void **state)
{
	int model[4][5][4] = {0}; /* 0: not there */
	struct custody c;
	unsigned before = open_fds(), seed = 1, there = 0;

	custody_init(&c, -1);
	for (int step = 1; step <= 20000; step++) {
		unsigned kind = (unsigned)rand_r(&seed) % 4, id = (unsigned)rand_r(&seed) % 4 + 1;
		unsigned number = (unsigned)rand_r(&seed) % 4;
		struct keeper_custody what = {
			.kind = KEEPER_CUSTODY_WIRE + kind, .index = id, .a = number};
		int *slot = &model[kind][id][kind ? number : 0]; /* WIRE has no number */
		if (rand_r(&seed) % 3) {
			assert_int_equal(custody_put(&c, &what, numbered(step)), 0);
			*slot = step;
		} else if (rand_r(&seed) % 50) {
			assert_int_equal(custody_release(&c, &what), 0);
			*slot = 0;
		} else {
			custody_drop_connection(&c, id);
			for (kind = 0; kind < 4; kind++)
				memset(model[kind][id], 0, sizeof(model[kind][id]));
		}
	}
	const struct custody_item *item;
	for (uint32_t i = 0; (item = custody_at(&c, &i)); i++) {
		unsigned kind = item->what.kind - KEEPER_CUSTODY_WIRE;
		int *slot = &model[kind][item->what.index][kind ? item->what.a : 0];
		assert_int_equal(number_of(item->fd), *slot);
		*slot = 0;
		there++;
	}
	int nothing[4][5][4] = {0};
	assert_memory_equal(model, nothing, sizeof(model));
	assert_int_equal(open_fds(), before + there);
	custody_finish(&c);
	assert_int_equal(open_fds(), before);
}

static void test_custody_has_a_limit(void **state)
{
	struct keeper_custody what = {.kind = KEEPER_CUSTODY_SHARED, .index = 1};
	struct custody c;
	int r = 0;

	/* Staged releases hold no descriptor, so the limit is met without as many of them. */
	custody_init(&c, -1);
	for (; r == 0; what.a++)
		r = custody_stage_release(&c, &what);
	assert_int_equal(r, -ENOSPC);
	assert_in_range(c.count, KEEPER_MAX_CUSTODY, KEEPER_MAX_CUSTODY + 256);
	assert_int_equal(custody_put(&c, &what, 0), -ENOSPC);
	uint32_t cursor = 0;
	assert_null(custody_at(&c, &cursor)); /* what is released is not there */
	custody_finish(&c);
}

static void test_what_is_staged_counts_as_a_whole(void **state)
{
	struct keeper_custody image = {.kind = KEEPER_CUSTODY_IMAGE};
	struct keeper_custody journal = {.kind = KEEPER_CUSTODY_JOURNAL, .index = 1};
	struct keeper_custody shared = {.kind = KEEPER_CUSTODY_SHARED, .index = 3, .a = 7};
	unsigned before = open_fds();

	for (int only_missing = 0; only_missing < 2; only_missing++) {
		struct custody c, staged;
		custody_init(&c, -1);
		custody_init(&staged, -1);
		custody_put(&c, &image, numbered(1));
		custody_put(&c, &shared, numbered(2));
		custody_put(&staged, &image, numbered(3));
		custody_put(&staged, &journal, numbered(4));
		custody_put(&staged, &shared, numbered(5));
		custody_stage_release(&staged, &shared);
		custody_merge(&c, &staged, only_missing);
		assert_int_equal(number_of(custody_get(&c, KEEPER_CUSTODY_IMAGE, 0)->fd),
			only_missing ? 1 : 3);
		assert_int_equal(number_of(custody_get(&c, KEEPER_CUSTODY_JOURNAL, 1)->fd), 4);
		assert_int_equal(c.count, only_missing ? 3 : 2);
		assert_int_equal(staged.count, 0);
		custody_finish(&c);
		assert_int_equal(open_fds(), before);
	}
}

static void test_one_vm_is_claimed_once(void **state)
{
	char path[] = "/tmp/vgpu-unit-XXXXXX";
	int dir = temporary_dir(path), memory = memfd_create("guest", MFD_CLOEXEC);
	struct custody a, b;
	struct keeper_custody slot = {.kind = KEEPER_CUSTODY_MEMORY};

	custody_init(&a, dir);
	custody_init(&b, dir);
	assert_int_equal(custody_put(&a, &slot, dup(memory)), 0);
	slot.index = 7; /* a second region of the same file */
	assert_int_equal(custody_put(&a, &slot, dup(memory)), 0);
	assert_int_equal(custody_claim_memory(&a), 0);
	assert_int_equal(custody_claim_memory(&a), 0); /* again: its own claim is no obstacle */

	/* The other has memory of its own too: refused as a whole, claims nothing. */
	slot.index = 0;
	assert_int_equal(custody_put(&b, &slot, memfd_create("own", MFD_CLOEXEC)), 0);
	slot.index = 1;
	assert_int_equal(custody_put(&b, &slot, dup(memory)), 0);
	assert_int_equal(custody_claim_memory(&b), -EBUSY);
	for (unsigned i = 0; i < KEEPER_MAX_MEMORY; i++)
		assert_int_equal(b.locks[i].fd, -1);

	/* The first lets go of that memory: now it is free. */
	slot.index = 0;
	custody_release(&a, &slot);
	slot.index = 7;
	custody_release(&a, &slot);
	assert_int_equal(custody_claim_memory(&a), 0);
	assert_int_equal(custody_claim_memory(&b), 0);
	custody_finish(&a);
	custody_finish(&b);
	close(memory);
	close(dir);
	assert_int_equal(rmdir(path), 0); /* no lock file is left behind */
}

static void test_each_process_gets_a_page_of_its_own(void **state)
{
	struct vgpu_stats seen;
	struct stat first_is, second_is;
	int first = stats_page_create(-1);

	assert_true(first >= 0);
	assert_int_equal(fstat(first, &first_is), 0);
	assert_int_equal(first_is.st_size, VGPU_STATS_SIZE);
	assert_int_equal(fcntl(first, F_GET_SEALS), F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	assert_int_equal(ftruncate(first, 0), -1);
	assert_int_equal(fcntl(first, F_ADD_SEALS, F_SEAL_WRITE), -1);

	struct vgpu_stats said = {
		.magic = 1, .version = 9, .vram_used_bytes = 5, .draws_total = 42};
	assert_int_equal(pwrite(first, &said, sizeof(said), 0), (ssize_t)sizeof(said));
	assert_int_equal(pwrite(first, "left for the next", 17, 2048), 17);
	int second = stats_page_create(first);
	assert_int_equal(fstat(second, &second_is), 0);
	assert_true(first_is.st_ino != second_is.st_ino);
	assert_int_equal(pread(second, &seen, sizeof(seen), 0), (ssize_t)sizeof(seen));
	assert_int_equal(seen.magic, VGPU_STATS_MAGIC);
	assert_int_equal(seen.version, VGPU_STATS_VERSION);
	assert_int_equal(seen.vram_used_bytes, 0);
	assert_int_equal(seen.draws_total, 42);
	char rest = 1;
	assert_int_equal(pread(second, &rest, 1, 2048), 1);
	assert_int_equal(rest, 0);
	close(first);
	close(second);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_row_travels),
		cmocka_unit_test(test_no_room_for_a_descriptor),
		cmocka_unit_test(test_malformed_messages_are_refused),
		cmocka_unit_test(test_text_is_made_safe),
		cmocka_unit_test(test_a_vm_holds_alone),
		cmocka_unit_test(test_a_process_has_many_connections_of_one_user),
		cmocka_unit_test(test_a_reserved_binding_lasts_as_long_as_its_process),
		cmocka_unit_test(test_custody_has_a_place_for_each_thing),
		cmocka_unit_test(test_custody_is_a_map),
		cmocka_unit_test(test_custody_has_a_limit),
		cmocka_unit_test(test_what_is_staged_counts_as_a_whole),
		cmocka_unit_test(test_one_vm_is_claimed_once),
		cmocka_unit_test(test_each_process_gets_a_page_of_its_own),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
