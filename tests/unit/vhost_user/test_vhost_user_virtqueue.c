/* SPDX-License-Identifier: Apache-2.0 */

/* Every shape of a malformed chain or ring, on a queue without a connection around it. */

#include "frontend/vhost_user/virtqueue.h"

#include "base/checked.h"

#include "front.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Two regions that touch in guest-physical space and not in host memory. */
#define SIZE  0x40000u
#define GPA   0x10000ull
#define UVA   0x7f0000000000ull
#define DESC  0x0u
#define AVAIL 0x1000u
#define USED  0x2000u
#define DATA  0x4000u
#define NUM   8u

struct bench {
	struct guest_memory mem;
	struct virtqueue vq;
	struct virtqueue_chain chain;
	uint8_t *ram;
	int fd;
	const char *reason;
};

static int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));
	struct vhost_user_region low = {GPA, SIZE, UVA, 0};
	struct vhost_user_region high = {GPA + SIZE, SIZE, UVA + 0x10000000, SIZE};
	unsigned slot;

	b->fd = memfd_create("ram", MFD_CLOEXEC);
	assert_int_equal(ftruncate(b->fd, 2 * SIZE), 0);
	b->ram = mmap(NULL, 2 * SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, b->fd, 0);
	guest_memory_init(&b->mem);
	assert_int_equal(guest_memory_add(&b->mem, &low, b->fd, &slot, &b->reason), 0);
	assert_int_equal(guest_memory_add(&b->mem, &high, b->fd, &slot, &b->reason), 0);
	b->vq.indirect = b->vq.event_idx = true;
	assert_int_equal(
		virtqueue_map(&b->vq, &b->mem, NUM, UVA + DESC, UVA + AVAIL, UVA + USED), 0);
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;

	guest_memory_finish(&b->mem);
	munmap(b->ram, 2 * SIZE);
	close(b->fd);
	free(b->chain.iov);
	free(b);
	return 0;
}

static void set(
	struct bench *b, unsigned i, uint64_t addr, uint32_t len, unsigned flags, unsigned next)
{
	((struct virtqueue_desc *)(b->ram + DESC))[i] =
		(struct virtqueue_desc){addr, len, (uint16_t)flags, (uint16_t)next};
}

static void set_indirect(
	struct bench *b, unsigned i, uint64_t addr, uint32_t len, unsigned flags, unsigned next)
{
	((struct virtqueue_desc *)(b->ram + DATA))[i] =
		(struct virtqueue_desc){addr, len, (uint16_t)flags, (uint16_t)next};
}

static uint16_t *avail(struct bench *b)
{
	return (uint16_t *)(b->ram + AVAIL);
}

static int peek(struct bench *b, uint16_t head)
{
	avail(b)[2 + b->vq.last_avail % NUM] = head;
	avail(b)[1] = (uint16_t)(b->vq.last_avail + 1);
	b->reason = NULL;
	return virtqueue_peek(&b->vq, &b->mem, &b->chain, &b->reason);
}

static void expect_broken(struct bench *b, const char *reason)
{
	assert_int_equal(peek(b, 0), -EPROTO);
	assert_non_null(b->reason);
	assert_string_equal(b->reason, reason);
}

#define NEXT     VIRTQUEUE_DESC_NEXT
#define WRITE    VIRTQUEUE_DESC_WRITE
#define INDIRECT VIRTQUEUE_DESC_INDIRECT

static void test_chain_is_gathered(void **state)
{
	struct bench *b = *state;

	set(b, 0, GPA + DATA, 100, NEXT, 5);
	set(b, 5, GPA + DATA + 0x1000, 10, NEXT | WRITE, 2);
	set(b, 2, GPA + DATA + 0x2000, 20, WRITE, 77); /* next without the flag is not read */
	assert_int_equal(peek(b, 0), 1);
	assert_int_equal(b->chain.n_out, 1);
	assert_int_equal(b->chain.n_in, 2);
	assert_int_equal(b->chain.iov[0].iov_len, 100);
	assert_int_equal(b->chain.iov[2].iov_len, 20);
	/* Peeking takes nothing. */
	assert_int_equal(b->vq.last_avail, 0);
	virtqueue_advance(&b->vq);
	assert_int_equal(virtqueue_peek(&b->vq, &b->mem, &b->chain, &b->reason), 0);
}

static void test_descriptor_over_a_region_border_is_split(void **state)
{
	struct bench *b = *state;

	set(b, 0, GPA + SIZE - 8, 24, 0, 0);
	assert_int_equal(peek(b, 0), 1);
	assert_int_equal(b->chain.n_out, 2);
	assert_int_equal(b->chain.iov[0].iov_len, 8);
	assert_int_equal(b->chain.iov[1].iov_len, 16);
}

static void test_indirect_table(void **state)
{
	struct bench *b = *state;

	set(b, 0, GPA + DATA, 3 * 16, INDIRECT, 0);
	set_indirect(b, 0, GPA + 0x8000, 1, NEXT, 2);
	set_indirect(b, 2, GPA + 0x9000, 2, NEXT | WRITE, 1);
	set_indirect(b, 1, GPA + 0xa000, 3, WRITE, 0);
	assert_int_equal(peek(b, 0), 1);
	assert_int_equal(b->chain.n_out, 1);
	assert_int_equal(b->chain.n_in, 2);
	assert_int_equal(b->chain.iov[1].iov_len, 2);

	/* An ordinary descriptor may come before the indirect one. */
	set(b, 1, GPA + 0x8000, 5, NEXT, 0);
	assert_int_equal(peek(b, 1), 1);
	assert_int_equal(b->chain.n_out, 2);
}

static void test_long_indirect_chain(void **state)
{
	struct bench *b = *state;
	unsigned n = 4096;

	/* The table crosses the border of the two regions at an odd place. */
	set(b, 0, GPA + SIZE - 8 - 16 * 100, n * 16, INDIRECT, 0);
	for (unsigned i = 0; i < n; i++) {
		struct virtqueue_desc d = {
			GPA + 16 * i, 16, i + 1 < n ? NEXT : 0, (uint16_t)(i + 1)};
		memcpy(b->ram + SIZE - 8 - 16 * 100 + 16 * i, &d, 16);
	}
	assert_int_equal(peek(b, 0), 1);
	assert_int_equal(b->chain.n_out, n);
}

static void test_broken_descriptors(void **state)
{
	struct bench *b = *state;

	set(b, 0, GPA + DATA, 0, 0, 0);
	expect_broken(b, "descriptor of no length");
	set(b, 0, GPA + 2 * SIZE - 4, 8, 0, 0);
	expect_broken(b, "descriptor outside guest memory");
	set(b, 0, GPA - 1, 8, 0, 0);
	expect_broken(b, "descriptor outside guest memory");
	set(b, 0, UINT64_MAX - 3, 8, 0, 0);
	expect_broken(b, "descriptor outside guest memory");
	set(b, 0, GPA + DATA, UINT32_MAX, WRITE, 0);
	expect_broken(b, "descriptor outside guest memory");
	set(b, 0, GPA + DATA, 8, NEXT | WRITE, 1);
	set(b, 1, GPA + DATA, 8, 0, 0);
	expect_broken(b, "readable descriptor after a writable one");
}

static void test_broken_links(void **state)
{
	struct bench *b = *state;

	set(b, 0, GPA + DATA, 8, NEXT, 0);
	expect_broken(b, "descriptor chain is a loop");
	set(b, 0, GPA + DATA, 8, NEXT, 1);
	set(b, 1, GPA + DATA, 8, NEXT, 0);
	expect_broken(b, "descriptor chain is a loop");
	set(b, 0, GPA + DATA, 8, NEXT, NUM);
	expect_broken(b, "descriptor index beyond its table");
	assert_int_equal(peek(b, NUM), -EPROTO);
	assert_string_equal(b->reason, "descriptor index beyond its table");
	assert_int_equal(peek(b, UINT16_MAX), -EPROTO);
}

static void test_broken_indirect(void **state)
{
	struct bench *b = *state;

	set(b, 0, GPA + DATA, 0, INDIRECT, 0);
	expect_broken(b, "indirect table of a bad length");
	set(b, 0, GPA + DATA, 24, INDIRECT, 0);
	expect_broken(b, "indirect table of a bad length");
	set(b, 0, GPA + DATA, (VIRTQUEUE_MAX_TABLE + 1) * 16, INDIRECT, 0);
	expect_broken(b, "indirect table of a bad length");
	set(b, 0, GPA + DATA, 16, INDIRECT | NEXT, 1);
	expect_broken(b, "indirect descriptor is not the last");
	set(b, 0, GPA + 2 * SIZE - 8, 16, INDIRECT, 0);
	expect_broken(b, "indirect table outside guest memory");
	set(b, 0, UINT64_MAX - 7, 16, INDIRECT, 0);
	expect_broken(b, "indirect table outside guest memory");

	set(b, 0, GPA + DATA, 32, INDIRECT, 0);
	set_indirect(b, 0, GPA + DATA, 16, INDIRECT, 0);
	expect_broken(b, "indirect descriptor in an indirect table");
	set_indirect(b, 0, GPA + DATA, 16, NEXT, 2);
	expect_broken(b, "descriptor index beyond its table");
	set_indirect(b, 0, GPA + DATA, 16, NEXT, 1);
	set_indirect(b, 1, GPA + DATA, 16, NEXT, 0);
	expect_broken(b, "descriptor chain is a loop");

	b->vq.indirect = false;
	set_indirect(b, 0, GPA + DATA, 16, 0, 0);
	expect_broken(b, "indirect descriptor without the feature");
}

static void test_avail_index_jump(void **state)
{
	struct bench *b = *state;

	set(b, 0, GPA + DATA, 8, 0, 0);
	avail(b)[1] = NUM;
	assert_int_equal(virtqueue_peek(&b->vq, &b->mem, &b->chain, &b->reason), 1);
	avail(b)[1] = NUM + 1;
	assert_int_equal(virtqueue_peek(&b->vq, &b->mem, &b->chain, &b->reason), -EPROTO);
	assert_string_equal(b->reason, "avail index jumped");
	b->vq.last_avail = 5;
	avail(b)[1] = 4; /* backwards */
	assert_int_equal(virtqueue_peek(&b->vq, &b->mem, &b->chain, &b->reason), -EPROTO);
}

static void test_chain_of_more_than_4_gib(void **state)
{
	struct bench *b = *state;
	/* Sums of small descriptors stay small; the sum itself is what is checked. */
	unsigned n = 0x8000;

	set(b, 0, GPA + DATA, n * 16, INDIRECT, 0);
	/* The table does not fit behind DATA in the first region alone: use both. */
	for (unsigned i = 0; i < (2 * SIZE - DATA) / 16 && i < n; i++) {
		struct virtqueue_desc d = {GPA, 2 * SIZE, i + 1 < n ? NEXT : 0, (uint16_t)(i + 1)};
		memcpy(b->ram + DATA + 16 * i, &d, 16);
	}
	expect_broken(b, "chain longer than 4 GiB");
}

static void test_bad_ring_addresses(void **state)
{
	struct bench *b = *state;
	struct virtqueue vq = {.event_idx = true};
	struct guest_memory *m = &b->mem;

	static const uint16_t sizes[] = {0, 3, 24, 2048, 0x8000};
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		assert_int_equal(
			virtqueue_map(&vq, m, sizes[i], UVA, UVA + AVAIL, UVA + USED), -EINVAL);
	assert_int_equal(virtqueue_map(&vq, m, NUM, UVA + 8, UVA + AVAIL, UVA + USED), -EINVAL);
	assert_int_equal(virtqueue_map(&vq, m, NUM, UVA, UVA + AVAIL + 1, UVA + USED), -EINVAL);
	assert_int_equal(virtqueue_map(&vq, m, NUM, UVA, UVA + AVAIL, UVA + USED + 2), -EINVAL);
	assert_int_equal(virtqueue_map(&vq, m, NUM, 0, UVA + AVAIL, UVA + USED), -EFAULT);
	assert_int_equal(
		virtqueue_map(&vq, m, NUM, UVA + SIZE - 16, UVA + AVAIL, UVA + USED), -EFAULT);
	/* The event index is part of the used ring: without it the ring fits, with it it does not.
	 */
	uint64_t edge = UVA + SIZE - (4 + 8 * NUM);
	assert_int_equal(virtqueue_map(&vq, m, NUM, UVA, UVA + AVAIL, edge), -EFAULT);
	vq.event_idx = false;
	assert_int_equal(virtqueue_map(&vq, m, NUM, UVA, UVA + AVAIL, edge), 0);
	assert_int_equal(
		virtqueue_map(&vq, m, NUM, UINT64_MAX - 15, UVA + AVAIL, UVA + USED), -EFAULT);
}

static void test_calls_by_flag(void **state)
{
	struct bench *b = *state;

	b->vq.event_idx = false;
	virtqueue_push(&b->vq, 3, 7);
	assert_int_equal(((uint16_t *)(b->ram + USED))[1], 1);
	assert_true(virtqueue_should_call(&b->vq));
	avail(b)[0] = 1;
	assert_false(virtqueue_should_call(&b->vq));
	virtqueue_disable_kicks(&b->vq);
	assert_int_equal(((uint16_t *)(b->ram + USED))[0], 1);
	assert_false(virtqueue_enable_kicks(&b->vq));
	assert_int_equal(((uint16_t *)(b->ram + USED))[0], 0);
	avail(b)[1] = 1;
	assert_true(virtqueue_enable_kicks(&b->vq));
}

static void test_calls_by_event_index(void **state)
{
	struct bench *b = *state;
	uint16_t *event = &avail(b)[2 + NUM];

	virtqueue_push(&b->vq, 0, 0);
	assert_true(virtqueue_should_call(&b->vq)); /* the first is always told */
	*event = 2;                                 /* "when the third is used" */
	virtqueue_push(&b->vq, 0, 0);
	assert_false(virtqueue_should_call(&b->vq));
	virtqueue_push(&b->vq, 0, 0);
	assert_true(virtqueue_should_call(&b->vq));
	virtqueue_push(&b->vq, 0, 0);
	assert_false(virtqueue_should_call(&b->vq));
	/* Across the wrap of the index. */
	b->vq.used_idx = b->vq.signalled = UINT16_MAX;
	*event = UINT16_MAX;
	virtqueue_push(&b->vq, 0, 0);
	assert_int_equal(b->vq.used_idx, 0);
	assert_true(virtqueue_should_call(&b->vq));
}

static void test_untouched(void **state)
{
	struct bench *b = *state;

	assert_true(virtqueue_untouched(&b->vq));
	virtqueue_push(&b->vq, 0, 9);
	assert_false(virtqueue_untouched(&b->vq));
	((uint16_t *)(b->ram + USED))[1] = 0; /* wrapped */
	assert_false(virtqueue_untouched(&b->vq));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_chain_is_gathered),
		T(test_descriptor_over_a_region_border_is_split),
		T(test_indirect_table),
		T(test_long_indirect_chain),
		T(test_broken_descriptors),
		T(test_broken_links),
		T(test_broken_indirect),
		T(test_avail_index_jump),
		T(test_chain_of_more_than_4_gib),
		T(test_bad_ring_addresses),
		T(test_calls_by_flag),
		T(test_calls_by_event_index),
		T(test_untouched),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
