/* SPDX-License-Identifier: Apache-2.0 */
/* What is kept of a guest that does nothing, seen from the keeper's end of its process' channel. */
#include "life.h"

#include "base/cleanup.h"
#include "protocol/keeper_table.h"
#include "state/section.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define TEXTURE_BYTES (8u << 20)

/* ---- what the driver has ---- */

static unsigned reads;

static int read_alike(struct renderer *r, uint32_t id, uint32_t part, void *dst, size_t size)
{
	memset(dst, 0x5a, size);
	reads++;
	return 0;
}

static int read_noise(struct renderer *r, uint32_t id, uint32_t part, void *dst, size_t size)
{
	uint64_t *words = dst, x = 88172645463325252u;

	for (size_t i = 0; i < size / sizeof(*words); i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		words[i] = x;
	}
	return 0;
}

static int read_nothing(struct renderer *r, uint32_t id, uint32_t part, void *dst, size_t size)
{
	reads++;
	return -EIO;
}

typedef int (*read_fn)(struct renderer *r, uint32_t id, uint32_t part, void *dst, size_t size);

/* A guest with one texture, and a journal. */
static void draw(struct life *life, read_fn content)
{
	const struct renderer_resource_desc desc = {.target = 2,
		.format = 1,
		.bind = 1 << 3,
		.width = 2048,
		.height = TEXTURE_BYTES / 4 / 2048,
		.depth = 1,
		.array_size = 1};
	struct device_client *client;

	life->ops.content_read = content;
	reads = 0;
	assert_int_equal(device_client_create(life->dev, "guest", &client), 0);
	assert_int_equal(device_resource_create(client, 1, &desc), 0);
	life_keep(life);
}

/* ---- what the keeper has ---- */

struct kept {
	int images[2]; /* -1: none */
};

/* As it is after what was said since the last time. */
static void hear(struct life *life, struct kept *kept)
{
	struct packet packet;

	while (packet_recv(life->keeper, &keeper_device_table, KEEPER_FROM_DEVICE, &packet) == 1) {
		const struct keeper_custody *what = (const struct keeper_custody *)packet.payload;
		cleanup_close int fd = packet.fd;
		if (what->kind != KEEPER_CUSTODY_IMAGE ||
			(packet.type != KEEPER_DEVICE_CUSTODY &&
				packet.type != KEEPER_DEVICE_RELEASE))
			continue;
		assert_in_range(what->index, 0, 1);
		close_fd(&kept->images[what->index]);
		if (packet.type == KEEPER_DEVICE_CUSTODY)
			kept->images[what->index] = TAKE_FD(fd);
	}
}

static uint32_t image_slot(const struct life *life)
{
	return life->s->anchor->current >> 8 & 0xff;
}

static uint64_t held(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

/* Bytes that the image comes to, which must be whole. */
static uint64_t read_image(int fd)
{
	struct state_section section;
	struct state_reader *r;
	uint64_t total = 0;
	int err;

	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_int_equal(state_reader_create(fd, &r), 0);
	while ((err = state_next(r, &section)) == 1)
		total += section.size;
	assert_int_equal(err, 0);
	state_reader_destroy(r);
	return total;
}

static void forget(struct kept *kept)
{
	close_fd(&kept->images[0]);
	close_fd(&kept->images[1]);
}

/* ---- tests ---- */

static bool compiler_told;
static unsigned rests;

static void rest(struct renderer *r, bool compiler)
{
	compiler_told = compiler;
	rests++;
}

static void test_the_driver_rests_too(void **state)
{
	struct life *life = *state;

	life->ops.rest = rest;
	rests = 0;
	draw(life, read_alike);
	succession_rest(life->s);
	assert_int_equal(rests, 1);
	assert_false(compiler_told); /* no compiled shaders are kept */
	succession_freeze(life->s);
	succession_rest(life->s);
	succession_thaw(life->s);
	life->s->rounds = 1; /* copied ahead: it is moving */
	succession_rest(life->s);
	life->s->rounds = 0;
	assert_int_equal(rests, 1);
}

static void test_an_image_is_compressed(void **state)
{
	struct life *life = *state;
	struct kept kept = {{-1, -1}};

	draw(life, read_alike);
	life_upload(life, 1000);
	hear(life, &kept);
	uint32_t plain = image_slot(life);
	uint64_t total = read_image(kept.images[plain]);
	assert_in_range(held(kept.images[plain]), TEXTURE_BYTES, 2 * TEXTURE_BYTES);

	uint64_t before = life->s->anchor->current;
	succession_rest(life->s);
	hear(life, &kept);
	assert_int_equal(image_slot(life), 1 - plain);
	assert_int_equal(life->s->anchor->current & 0xff, before & 0xff); /* the same journal */
	assert_int_equal(kept.images[plain], -1);
	assert_true(held(kept.images[1 - plain]) < TEXTURE_BYTES / 8);
	assert_int_equal(read_image(kept.images[1 - plain]), total);

	/* Once is enough. */
	before = life->s->anchor->current;
	succession_rest(life->s);
	assert_int_equal(life->s->anchor->current, before);
	/* The next one goes where it is not. */
	life_upload(life, 1000);
	hear(life, &kept);
	assert_int_equal(image_slot(life), plain);
	assert_int_equal(kept.images[1 - plain], -1);
	assert_int_equal(read_image(kept.images[plain]), total);
	forget(&kept);
}

static void ignore(void *data, uint32_t events)
{
}

static void test_who_comes_is_not_kept_waiting(void **state)
{
	struct life *life = *state;
	struct kept kept = {{-1, -1}};
	cleanup_close int event = eventfd(1, EFD_CLOEXEC);
	struct loop_source *source;
	uint64_t count;

	draw(life, read_alike);
	life_upload(life, 1000);
	uint64_t before = life->s->anchor->current;
	assert_int_equal(loop_add_fd(life->loop, event, EPOLLIN, ignore, NULL, &source), 0);
	succession_rest(life->s);
	hear(life, &kept);
	assert_int_equal(life->s->anchor->current, before);
	assert_true(held(kept.images[image_slot(life)]) >= TEXTURE_BYTES);
	assert_int_equal(kept.images[1 - image_slot(life)], -1);

	assert_int_equal(read(event, &count, sizeof(count)), sizeof(count));
	succession_rest(life->s);
	hear(life, &kept);
	assert_true(held(kept.images[image_slot(life)]) < TEXTURE_BYTES / 8);

	/* Not again and again of the same image. */
	life_upload(life, 1000);
	assert_int_equal(eventfd_write(event, 1), 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_true(life->s->plain_fd >= 0);
		succession_rest(life->s);
	}
	assert_int_equal(life->s->plain_fd, -1);
	life_upload(life, 1000);
	assert_int_equal(eventfd_read(event, &count), 0);
	succession_rest(life->s);
	hear(life, &kept);
	assert_true(held(kept.images[image_slot(life)]) < TEXTURE_BYTES / 8);
	forget(&kept);
}

static void test_noise_stays_as_it_is(void **state)
{
	struct life *life = *state;
	struct kept kept = {{-1, -1}};

	draw(life, read_noise);
	life_upload(life, 1000);
	uint64_t before = life->s->anchor->current;
	succession_rest(life->s);
	hear(life, &kept);
	assert_int_equal(life->s->anchor->current, before);
	assert_true(held(kept.images[image_slot(life)]) >= TEXTURE_BYTES);
	assert_int_equal(life->s->plain_fd, -1); /* and is not tried again */
	forget(&kept);
}

static void test_a_long_journal_becomes_an_image(void **state)
{
	struct life *life = *state;

	draw(life, read_alike);
	life_put(life, REST_LEAST_BYTES - 4096);
	succession_rest(life->s);
	assert_int_equal(life->s->images, 0);
	life_put(life, 4096);
	succession_rest(life->s);
	assert_int_equal(life->s->images, 1);
	assert_true(journal_bytes(life->s->journal) < 1000);
	assert_true(journal_room(life->s->journal) < REST_LEAST_BYTES / 8);
	assert_null(life->s->spare);
}

static void test_a_journal_is_kept_that_is_shorter_than_an_image(void **state)
{
	struct life *life = *state;

	draw(life, read_alike);
	life->stats.vram_used_bytes = 60ull << 20;
	life_put(life, REST_LEAST_BYTES);
	succession_rest(life->s);
	assert_int_equal(life->s->images, 0);
}

/* What cannot be saved now is not tried at every pause. */
static void test_an_image_that_fails_is_put_off(void **state)
{
	struct life *life = *state;
	struct kept kept = {{-1, -1}};

	draw(life, read_nothing);
	life_put(life, REST_LEAST_BYTES);
	succession_rest(life->s);
	assert_int_equal(life->s->images, 0);
	assert_int_equal(reads, 1);
	hear(life, &kept);
	assert_int_equal(kept.images[0], -1); /* what does not count is not kept */
	assert_int_equal(kept.images[1], -1);
	succession_rest(life->s);
	life_put(life, REST_LEAST_BYTES / 2);
	succession_rest(life->s);
	assert_int_equal(reads, 1);
	life_put(life, REST_LEAST_BYTES / 2);
	succession_rest(life->s);
	assert_int_equal(reads, 2);
	life->ops.content_read = read_alike;
	life_put(life, REST_LEAST_BYTES);
	succession_rest(life->s);
	assert_int_equal(life->s->images, 1);
}

/* It goes into an image at the first rest, where that does not take long. */
static void test_what_was_copied_ahead(void **state)
{
	struct life *life = *state;

	draw(life, read_alike);
	life->s->base_rounds = 2;
	life->stats.vram_used_bytes = 65ull << 20;
	succession_rest(life->s);
	assert_int_equal(life->s->images, 0);
	life->stats.vram_used_bytes = 60ull << 20;
	succession_rest(life->s);
	assert_int_equal(life->s->images, 1);
	assert_int_equal(life->s->base_rounds, 0);
	/* And as ever when the journal is long for it. */
	life->s->base_rounds = 2;
	life->stats.vram_used_bytes = 65ull << 20;
	life_put(life, 16ull << 20);
	succession_rest(life->s);
	assert_int_equal(life->s->images, 2);
}

static void test_a_rest_before_anything_is_kept(void **state)
{
	struct life *life = *state;

	succession_rest(life->s);
	assert_null(life->s->journal);
	draw(life, read_alike);
	succession_freeze(life->s);
	life_put(life, 2 * REST_LEAST_BYTES);
	succession_rest(life->s); /* somebody is taking it over */
	assert_int_equal(life->s->images, 0);
	succession_thaw(life->s);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, life_setup, life_teardown)
	const struct CMUnitTest tests[] = {
		T(test_an_image_is_compressed),
		T(test_who_comes_is_not_kept_waiting),
		T(test_noise_stays_as_it_is),
		T(test_a_long_journal_becomes_an_image),
		T(test_a_journal_is_kept_that_is_shorter_than_an_image),
		T(test_an_image_that_fails_is_put_off),
		T(test_what_was_copied_ahead),
		T(test_a_rest_before_anything_is_kept),
		T(test_the_driver_rests_too),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
