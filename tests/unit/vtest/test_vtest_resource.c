/* SPDX-License-Identifier: Apache-2.0 */
#include "peer.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static void test_create_gives_sealed_memory(void **state)
{
	struct peer *p = *state;
	struct stat st;

	SEND(p, VTEST_RESOURCE_CREATE2, 5, 2, 1, 2, 64, 64, 1, 1, 0, 0, 16384);
	int fd = peer_read_fd(p);
	peer_expect_open(p);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 16384);
	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(fd, 1 << 20), -1);
	assert_int_equal(p->dev.attached, 1);
	assert_int_equal(close(fd), 0);
	SEND(p, VTEST_RESOURCE_UNREF, 5);
	peer_expect_open(p);
	assert_int_equal(p->dev.resources, 0);
	assert_int_equal(p->vtest->mappings, 0);
}

static void test_shared_memory_is_charged(void **state)
{
	struct peer *p = *state;

	SEND(p, VTEST_RESOURCE_CREATE2, 5, 2, 1, 2, 64, 64, 1, 1, 0, 0, 16384);
	close(peer_read_fd(p));
	assert_in_range(p->dev.charged, 16384, 16384 + 4096);
	SEND(p, VTEST_RESOURCE_UNREF, 5);
	peer_expect_open(p);
	assert_int_equal(p->dev.charged, 0);
	/* Small ones stay in a pool, and are charged as long as they are there. */
	SEND(p, VTEST_RESOURCE_CREATE2, BUFFER2(5, 16, 100));
	close(peer_read_fd(p));
	SEND(p, VTEST_RESOURCE_UNREF, 5);
	peer_expect_open(p);
	assert_in_range(p->dev.charged, 4096, 8192);
	p->dev.quota = 16384;
	SEND(p, VTEST_RESOURCE_CREATE2, 6, 2, 1, 2, 64, 64, 1, 1, 0, 0, 16384);
	peer_expect_closed(p, "memory quota");
	assert_int_equal(p->vtest->mappings, 1);
	assert_int_equal(p->dev.resources, 0);
}

static void test_create_without_memory(void **state)
{
	struct peer *p = *state;
	SEND(p, VTEST_RESOURCE_CREATE2, 5, 2, 1, 2, 64, 64, 1, 1, 0, 4, 0);
	peer_expect_open(p);
	SEND(p, VTEST_RESOURCE_CREATE, 6, 2, 1, 2, 64, 64, 1, 1, 0, 4);
	peer_expect_open(p);
	assert_int_equal(p->dev.resources, 2);
}

static void test_version_3_chooses_handles(void **state)
{
	struct peer *p = *state;
	SEND(p, VTEST_RESOURCE_CREATE, 0, 2, 1, 2, 64, 64, 1, 1, 0, 4);
	EXPECT(p, 1, VTEST_RESOURCE_CREATE, 1);
	SEND(p, VTEST_RESOURCE_CREATE2, BUFFER2(0, 16, 100));
	EXPECT(p, 1, VTEST_RESOURCE_CREATE2, 2);
	close(peer_read_fd(p));
	/* Handles wrap round and skip those in use and 0. */
	p->vtest->next_handle = UINT32_MAX;
	for (unsigned i = 0; i < 2; i++) {
		SEND(p, VTEST_RESOURCE_CREATE, 0, 2, 1, 2, 64, 64, 1, 1, 0, 4);
		EXPECT(p, 1, VTEST_RESOURCE_CREATE, i ? 3 : UINT32_MAX);
	}
	SEND(p, VTEST_RESOURCE_CREATE, 9, 2, 1, 2, 64, 64, 1, 1, 0, 4);
	peer_expect_closed(p, "the server chooses handles");
}

static void test_transfers_through_shared_memory(void **state)
{
	struct peer *p = *state;
	uint8_t *map = peer_make_buffer(p, 7, 16, 5000);

	memcpy(map + 4990, "0123456789", 10);
	SEND(p, VTEST_TRANSFER_PUT2, 7, 0, 0, 0, 0, 10, 1, 1, 10, 4990);
	assert_memory_equal(fake_contents(p->vtest->client, 7), "0123456789", 10);
	memcpy(fake_contents(p->vtest->client, 7), "abcdefgh", 8);
	SEND(p, VTEST_TRANSFER_GET2, 7, 0, 0, 0, 0, 8, 1, 1, 8, 100);
	assert_memory_equal(map + 100, "abcdefgh", 8);
	peer_expect_silence(p);
	SEND(p, VTEST_RESOURCE_BUSY_WAIT, 7, 1);
	EXPECT(p, 1, VTEST_RESOURCE_BUSY_WAIT, 0);
	/* Reading back is complete when it returns: nothing to wait for. */
	assert_int_equal(p->dev.finishes, 0);
	munmap(map, 5000);
	peer_expect_open(p);
}

/* Mesa's length field of TRANSFER_PUT2 counts data that it does not send. */
static void test_put2_length_counts_absent_data(void **state)
{
	struct peer *p = *state;
	uint8_t *map = peer_make_buffer(p, 7, 16, 64);
	const uint32_t put[] = {10 + 16, VTEST_TRANSFER_PUT2, 7, 0, 0, 0, 0, 64, 1, 1, 64, 0};

	memset(map, 'z', 64);
	peer_write(p, put, sizeof(put));
	peer_step(p);
	assert_int_equal(fake_contents(p->vtest->client, 7)[63], 'z');
	peer_expect_open(p);
	munmap(map, 64);
}

static void test_transfers_inside_the_stream(void **state)
{
	struct peer *p = *state;
	const uint32_t put[] = {11 + 2, VTEST_TRANSFER_PUT, 7, 0, 0, 0, 0, 0, 0, 6, 1, 1, 6};
	char data[6];

	SEND(p, VTEST_RESOURCE_CREATE, 7, 0, 64, 16, 32, 1, 1, 0, 0, 0);
	/* Six bytes of data, not padded: what follows is not aligned in the stream. */
	peer_write(p, put, sizeof(put));
	peer_write(p, "sixty!", 6);
	SEND(p, VTEST_TRANSFER_GET, 7, 0, 0, 0, 0, 0, 0, 6, 1, 1, 6);
	peer_read(p, data, 6);
	assert_memory_equal(data, "sixty!", 6);
	peer_expect_open(p);
}

/* Each piece of a pooled buffer's life; the memory that comes back is clean and still usable. */
static void test_small_buffers_are_pooled(void **state)
{
	struct peer *p = *state;
	int fds = 0;

	for (unsigned i = 0; i < 200; i++) {
		uint8_t *map = peer_make_buffer(p, 100 + i, BIND_CUSTOM, 16);
		assert_int_equal(map[0], 0);
		memset(map, 0xff, 16);
		SEND(p, VTEST_TRANSFER_PUT2, 100 + i, 0, 0, 0, 0, 16, 1, 1, 16, 0);
		assert_int_equal(fake_contents(p->vtest->client, 100 + i)[15], 0xff);
		SEND(p, VTEST_RESOURCE_UNREF, 100 + i);
		munmap(map, 16);
		if (i == 0)
			fds = peer_count_fds();
	}
	assert_int_equal(peer_count_fds(), fds);
	assert_int_equal(p->vtest->mappings, 1);
	peer_expect_open(p);
}

static void test_many_small_buffers_hold_few_descriptors(void **state)
{
	struct peer *p = *state;
	int before = peer_count_fds();

	for (unsigned i = 1; i <= 600; i++)
		munmap(peer_make_buffer(p, i, BIND_CUSTOM, 16), 16);
	assert_true(peer_count_fds() - before <= 4 * (int)VTEST_POOL_SIZE);
	for (unsigned i = 1; i <= 600; i++)
		SEND(p, VTEST_RESOURCE_UNREF, i);
	assert_true(peer_count_fds() - before <= (int)VTEST_POOL_SIZE);
	assert_true(p->vtest->mappings <= VTEST_POOL_SIZE);
	peer_expect_open(p);
}

static void test_fence_buffers_share_a_page(void **state)
{
	struct peer *p = *state;
	int before = peer_count_fds();

	for (unsigned i = 1; i <= 600; i++) {
		munmap(peer_make_buffer(p, i, BIND_CUSTOM, 8), 8);
		SEND(p, VTEST_RESOURCE_BUSY_WAIT, i, 1);
		EXPECT(p, 1, VTEST_RESOURCE_BUSY_WAIT, 0);
	}
	assert_int_equal(p->dev.frames, 600);
	assert_int_equal(p->dev.resources, 600);
	assert_int_equal(p->vtest->mappings, 1);
	assert_int_equal(peer_count_fds(), before + 1);
	/* Asking about one again is no new frame. */
	SEND(p, VTEST_RESOURCE_BUSY_WAIT, 7, 1);
	EXPECT(p, 1, VTEST_RESOURCE_BUSY_WAIT, 0);
	assert_int_equal(p->dev.frames, 600);
	for (unsigned i = 1; i <= 600; i++)
		SEND(p, VTEST_RESOURCE_UNREF, i);
	munmap(peer_make_buffer(p, 1, BIND_CUSTOM, 8), 8);
	peer_expect_open(p);
}

static void test_display_frames(void **state)
{
	struct peer *p = *state;
	uint8_t *map = peer_make_buffer(p, 7, BIND_DISPLAY, 64);

	SEND(p, VTEST_TRANSFER_GET2, 7, 0, 0, 0, 0, 8, 1, 1, 8, 0);
	assert_int_equal(p->dev.frames, 1);
	munmap(peer_make_buffer(p, 8, BIND_CUSTOM, 8), 8);
	SEND(p, VTEST_RESOURCE_BUSY_WAIT, 8, 1);
	assert_int_equal(p->dev.frames, 1);
	munmap(map, 64);
}

static void test_unknown_handles(void **state)
{
	struct peer *p = *state;
	SEND(p, VTEST_RESOURCE_UNREF, 5);
	peer_expect_closed(p, "RESOURCE_UNREF: unknown handle");
}

static void test_transfer_unknown_handle(void **state)
{
	struct peer *p = *state;
	SEND(p, VTEST_TRANSFER_GET, 7, 0, 0, 0, 0, 0, 0, 6, 1, 1, 6);
	peer_expect_closed(p, "TRANSFER_GET: unknown handle");
}

static void test_handle_twice(void **state)
{
	struct peer *p = *state;
	SEND(p, VTEST_RESOURCE_CREATE, 7, 0, 64, 16, 32, 1, 1, 0, 0, 0);
	SEND(p, VTEST_RESOURCE_CREATE, 7, 0, 64, 16, 32, 1, 1, 0, 0, 0);
	peer_expect_closed(p, "handle already in use");
	assert_int_equal(p->dev.resources, 1);
}

static void test_handle_zero(void **state)
{
	struct peer *p = *state;
	SEND(p, VTEST_RESOURCE_CREATE, 0, 0, 64, 16, 32, 1, 1, 0, 0, 0);
	peer_expect_closed(p, "handle 0");
}

static void test_quota(void **state)
{
	struct peer *p = *state;
	p->dev.fail_resource_create = -ENOMEM;
	SEND(p, VTEST_RESOURCE_CREATE2, BUFFER2(1, 16, 64));
	peer_expect_closed(p, "RESOURCE_CREATE2: over the vGPU's memory quota");
	assert_int_equal(p->dev.resources, 0);
}

static void test_attach_failure_leaves_nothing(void **state)
{
	struct peer *p = *state;
	p->dev.fail_attach = -EINVAL;
	SEND(p, VTEST_RESOURCE_CREATE2, BUFFER2(1, 16, 64));
	peer_expect_closed(p, "RESOURCE_CREATE2");
	assert_int_equal(p->dev.resources, 0);
	assert_int_equal(p->vtest->resources.count, 0);
}

/* Four gigabytes of shared memory for eight bytes. */
static void test_backing_out_of_proportion(void **state)
{
	struct peer *p = *state;
	SEND(p, VTEST_RESOURCE_CREATE2, 1, 0, 64, BIND_CUSTOM, 8, 1, 1, 0, 0, 0, UINT32_MAX);
	peer_expect_closed(p, "more shared memory than it can hold");
	assert_int_equal(p->dev.resources, 0);
}

/* Sixteen bytes a texel for one: what the quota is charged for is all there is. */
static void test_backing_beyond_the_charge(void **state)
{
	struct peer *p = *state;
	SEND(p, VTEST_RESOURCE_CREATE2, 1, 2, 64, 8, 1024, 1024, 1, 1, 0, 0, 1 << 20);
	close(peer_read_fd(p));
	peer_expect_open(p);
	SEND(p, VTEST_RESOURCE_CREATE2, 2, 2, 64, 8, 1024, 1024, 1, 1, 0, 0, (1 << 20) + 1);
	peer_expect_closed(p, "more shared memory than it can hold");
}

static void test_backing_of_the_largest_textures(void **state)
{
	struct peer *p = *state;
	/* A full RGBA32F mip chain of 512 with six faces, and one BC texel with 16 bytes. */
	SEND(p, VTEST_RESOURCE_CREATE2, 1, 4, 31, 8, 512, 512, 1, 6, 9, 0, 33554432);
	close(peer_read_fd(p));
	SEND(p, VTEST_RESOURCE_CREATE2, 2, 2, 31, 8, 1, 1, 1, 1, 0, 0, 16);
	close(peer_read_fd(p));
	peer_expect_open(p);
	/* Every field as large as it can be overflows nothing, and is no resource. */
	SEND(p, VTEST_RESOURCE_CREATE2, 3, 3, 31, 8, UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX,
		UINT32_MAX, 0, 4096);
	peer_expect_closed(p, "more shared memory than it can hold");
}

static void test_transfer_outside(void **state)
{
	struct peer *p = *state;
	munmap(peer_make_buffer(p, 7, 16, 64), 64);
	SEND(p, VTEST_TRANSFER_GET2, 7, 0, 0, 0, 0, 64, 1, 1, 64, 1);
	peer_expect_closed(p, "TRANSFER_GET2: invalid argument");
}

static void test_put_sizes_that_differ(void **state)
{
	struct peer *p = *state;
	const uint32_t put[] = {11 + 2, VTEST_TRANSFER_PUT, 7, 0, 0, 0, 0, 0, 0, 6, 1, 1, 600};

	peer_write(p, put, sizeof(put));
	peer_step(p);
	peer_expect_closed(p, "its length and its data size differ");
}

static void test_blob_is_refused(void **state)
{
	struct peer *p = *state;
	SEND(p, VTEST_RESOURCE_CREATE_BLOB, 1, 1, 4096, 0, 0, 0);
	peer_expect_closed(p, "RESOURCE_CREATE_BLOB: this vGPU does not offer that command");
}

#define TEST(f, setup) cmocka_unit_test_setup_teardown(f, setup, peer_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_create_gives_sealed_memory, peer_setup_v2),
		TEST(test_shared_memory_is_charged, peer_setup_v2),
		TEST(test_create_without_memory, peer_setup_v2),
		TEST(test_version_3_chooses_handles, peer_setup_v3),
		TEST(test_transfers_through_shared_memory, peer_setup_v2),
		TEST(test_put2_length_counts_absent_data, peer_setup_v2),
		TEST(test_transfers_inside_the_stream, peer_setup_v2),
		TEST(test_small_buffers_are_pooled, peer_setup_v2),
		TEST(test_many_small_buffers_hold_few_descriptors, peer_setup_v2),
		TEST(test_fence_buffers_share_a_page, peer_setup_v2),
		TEST(test_display_frames, peer_setup_v2),
		TEST(test_unknown_handles, peer_setup_v2),
		TEST(test_transfer_unknown_handle, peer_setup_v2),
		TEST(test_handle_twice, peer_setup_v2),
		TEST(test_handle_zero, peer_setup_v2),
		TEST(test_quota, peer_setup_v2),
		TEST(test_attach_failure_leaves_nothing, peer_setup_v2),
		TEST(test_backing_out_of_proportion, peer_setup_v2),
		TEST(test_backing_beyond_the_charge, peer_setup_v2),
		TEST(test_backing_of_the_largest_textures, peer_setup_v2),
		TEST(test_transfer_outside, peer_setup_v2),
		TEST(test_put_sizes_that_differ, peer_setup_v2),
		TEST(test_blob_is_refused, peer_setup_v3),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("vtest resource", tests, NULL, NULL);
}
