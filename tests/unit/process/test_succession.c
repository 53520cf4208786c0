/* SPDX-License-Identifier: Apache-2.0 */
/* What the process does about its state, seen from the keeper's end of its channel. */
#include "life.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/loop.h"
#include "device/device.h"
#include "process/channel.h"
#include "process/connections.h"
#include "process/succession_private.h"
#include "protocol/keeper_table.h"
#include "protocol/stats.h"
#include "protocol/vtest.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static void test_without_images_it_serves_on(void **state)
{
	struct life *life = *state;
	const struct frontend_keep *keep = succession_keep(life->s);
	struct iovec huge = {(void *)1, JOURNAL_HARD_BYTES + 1}; /* never read */
	const struct keeper_connection info = {.id = 2, .kind = KEEPER_CONNECTION_VTEST};
	struct packet packet;

	life_keep(life);
	life->ops.content_read = NULL; /* no image */
	keep->image_due(keep->data);
	for (unsigned i = 0; i < 2 * IMAGE_TRIES; i++) {
		keep->image_due(keep->data);
		succession_idle(life->s);
	}
	assert_non_null(keep->journal(keep->data)); /* no harm as long as there is room */
	assert_null(journal_payload(keep->journal(keep->data), &huge, 1, 0, huge.iov_len));
	for (unsigned i = 0; i < IMAGE_TRIES; i++) {
		assert_non_null(keep->journal(keep->data));
		keep->image_due(keep->data);
		succession_idle(life->s);
	}
	assert_null(keep->journal(keep->data));
	assert_int_equal(life->s->anchor->current & 0xffff, KEEPER_NOT_KEPT | KEEPER_NO_IMAGE << 8);
	assert_true(life_told(life, KEEPER_DEVICE_NOTICE, &packet));
	assert_non_null(strstr((const char *)packet.payload, "cannot read contents"));
	assert_int_equal(succession_connected(life->s, &info), 0);
	assert_null(keep->journal(keep->data));
	assert_false(succession_frozen(life->s));
}

static void test_thaw_answers_precopy(void **state)
{
	struct life *life = *state;
	struct packet packet;

	life_keep(life);
	life_say(life, KEEPER_DEVICE_PRECOPY, "", 0, -1);
	life_say(life, KEEPER_DEVICE_THAW, "", 0, -1);
	assert_true(life_told(life, KEEPER_DEVICE_PRECOPIED, &packet));
	assert_int_equal(((const struct keeper_saved *)packet.payload)->code, -ECANCELED);
	assert_false(life_told(life, KEEPER_DEVICE_PRECOPIED, &packet));
}

static void test_a_snapshot_closes_its_file(void **state)
{
	struct life *life = *state;
	const struct keeper_save save = {0};
	struct packet packet;
	int fd = memfd_create("file", MFD_CLOEXEC);

	life_keep(life);
	life_say(life, KEEPER_DEVICE_SAVE_FILE, &save, sizeof(save), fd);
	assert_true(life_told(life, KEEPER_DEVICE_SAVED, &packet));
	assert_int_equal(((const struct keeper_saved *)packet.payload)->code, 0);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
}

/* A message that comes `pause_ms` after the one before. */
static void message_after(struct life *life, uint64_t pause_ms, size_t bytes)
{
	life_put(life, bytes);
	life->s->last_ms -= pause_ms;
	succession_idle(life->s);
}

static void work(uint64_t ms)
{
	struct timespec cpu;
	uint64_t end = 0;

	do {
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
		uint64_t now = (uint64_t)cpu.tv_sec * 1000u + (uint64_t)cpu.tv_nsec / 1000000u;
		end = end ?: now + ms;
		if (now >= end)
			return;
	} while (true);
}

static void test_an_image_is_made_for_work(void **state)
{
	struct life *life = *state;

	life_keep(life);
	for (unsigned i = 0; i < 200; i++)
		message_after(life, 33, 1000);
	assert_int_equal(life->s->images, 0);
	/* Pauses are work where there is much to run again. */
	message_after(life, 33, IMAGE_SMALL_BYTES);
	for (unsigned i = 0; i < 40; i++)
		message_after(life, 33, 1000);
	assert_int_equal(life->s->images, 1);
	work(IMAGE_ACTIVE_MS + 100);
	for (unsigned i = 0; i < 40; i++)
		message_after(life, 33, 1000);
	assert_int_equal(life->s->images, 2);
}

/* Hardware works while the process sleeps; what taking over took is owed though it was no work. */
static void test_what_else_is_work(void **state)
{
	struct life *life = *state;

	life_keep(life);
	vgpu_stats_add(&life->stats.fence_time_ns_total, 2 * IMAGE_ACTIVE_MS * 1000000ull);
	for (unsigned i = 0; i < 40; i++)
		message_after(life, 33, 1000);
	assert_int_equal(life->s->images, 1);
	life->s->active_ms = life->s->owed_ms = 2 * IMAGE_ACTIVE_MS;
	message_after(life, 0, 1000);
	assert_int_equal(life->s->images, 2);
}

/* Messages about journals up to now: what the keeper was given minus what it gave up. */
static int journals_given(struct life *life)
{
	struct packet packet;
	int given = 0;

	while (packet_recv(life->keeper, &keeper_device_table, KEEPER_FROM_DEVICE, &packet) == 1) {
		const struct keeper_custody *what = (const struct keeper_custody *)packet.payload;
		close_fd(&packet.fd);
		if (what->kind != KEEPER_CUSTODY_JOURNAL)
			continue;
		given += packet.type == KEEPER_DEVICE_CUSTODY;
		given -= packet.type == KEEPER_DEVICE_RELEASE;
	}
	return given;
}

static void test_a_large_journal_is_used_again(void **state)
{
	struct life *life = *state;

	life_keep(life);
	const struct journal *first = life->s->journal;
	assert_int_equal(journals_given(life), 1);
	life_upload(life, SPARE_LEAST_BYTES);
	assert_ptr_equal(life->s->spare, first);
	assert_int_equal(journals_given(life), 1); /* it has both */
	life_upload(life, SPARE_LEAST_BYTES);
	assert_ptr_equal(life->s->journal, first);
	assert_int_equal(journal_bytes(first), 0);
	assert_int_equal(journals_given(life), 0);
	/* Its memory was not needed this time. */
	life_upload(life, 1000);
	assert_int_equal(journals_given(life), -1);
	life_upload(life, 1000);
	assert_null(life->s->spare);
	assert_true(journal_room(life->s->journal) < SPARE_LEAST_BYTES);
}

static void test_a_spare_journal_is_given_back(void **state)
{
	struct life *life = *state;
	const struct keeper_save save = {0};

	life_keep(life);
	life_upload(life, SPARE_LEAST_BYTES);
	assert_int_equal(journals_given(life), 2);
	succession_rest(life->s);
	assert_int_equal(journals_given(life), -1);
	life_upload(life, SPARE_LEAST_BYTES);
	assert_non_null(life->s->spare);
	assert_int_equal(journals_given(life), 1);
	/* A successor's would come into its place. */
	life_say(life, KEEPER_DEVICE_SAVE, &save, sizeof(save), -1);
	assert_null(life->s->spare);
	assert_int_equal(journals_given(life), -1);
	life_say(life, KEEPER_DEVICE_THAW, "", 0, -1);
	life_upload(life, SPARE_MOST_BYTES + 1);
	assert_null(life->s->spare);
}

struct waiting {
	struct life *life;
	int client;
	unsigned rounds;
	bool hears; /* the client takes its answers */
	struct packet saved;
};

static bool wait_round(void *data)
{
	struct waiting *w = data;
	char bytes[4096];

	w->rounds++;
	while (w->hears && recv(w->client, bytes, sizeof(bytes), 0) > 0)
		;
	if (life_told(w->life, KEEPER_DEVICE_SAVED, &w->saved))
		loop_quit(w->life->loop, 0);
	return succession_idle(w->life->s);
}

static bool serve_round(void *data)
{
	struct waiting *w = data;

	if (++w->rounds == 20)
		loop_quit(w->life->loop, 0);
	return true;
}

/* A client that does not take its answers, so that something is always owed to it. */
static void connect_deaf(struct waiting *w)
{
	const struct life *life = w->life;
	const struct keeper_connection info = {.id = 1, .kind = KEEPER_CONNECTION_VTEST};
	const uint32_t hello[] = {4, VTEST_CREATE_RENDERER, 0x61};
	const uint32_t ping[] = {0, VTEST_PING_PROTOCOL_VERSION};
	const int least = 1;
	int ends[2];

	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
	assert_int_equal(setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &least, sizeof(least)), 0);
	connections_add(life->connections, &info, ends[0]);
	w->client = ends[1];
	assert_int_equal(send(w->client, hello, sizeof(hello), MSG_NOSIGNAL), sizeof(hello));
	for (unsigned i = 0; i < 200; i++)
		assert_int_equal(send(w->client, ping, sizeof(ping), 0), sizeof(ping));
	loop_set_idle(life->loop, serve_round, w);
	assert_int_equal(loop_run(life->loop), 0);
}

static struct keeper_saved stop(struct waiting *w)
{
	const struct keeper_save save = {.stop = true};

	w->rounds = 0;
	life_say(w->life, KEEPER_DEVICE_SAVE_FILE, &save, sizeof(save),
		memfd_create("file", MFD_CLOEXEC));
	loop_set_idle(w->life->loop, wait_round, w);
	assert_int_equal(loop_run(w->life->loop), 0);
	return *(const struct keeper_saved *)w->saved.payload;
}

/* It looks now and then, and sleeps in between. */
static void test_a_hibernation_waits_for_rest(void **state)
{
	struct waiting w = {.life = *state};
	uint64_t start = clock_ms();

	connect_deaf(&w);
	assert_int_equal(stop(&w).code, -EBUSY);
	assert_in_range(clock_ms() - start, (STOP_TRIES - 1) * STOP_TRY_MS, 5000);
	assert_in_range(w.rounds, STOP_TRIES, 5 * STOP_TRIES);
	assert_false(succession_frozen(w.life->s));
	w.hears = true;
	assert_int_equal(stop(&w).code, 0);
	assert_true(succession_frozen(w.life->s));
	close(w.client);
}

/* An anchor as a predecessor left it, and what the successor says to that. */
static int32_t recover_from(struct life *life, uint64_t current, char *ret_text)
{
	const struct keeper_custody anchor = {.kind = KEEPER_CUSTODY_ANCHOR};
	const struct keeper_load load = {.recover = 1};
	struct keeper_anchor page = {
		.magic = KEEPER_ANCHOR_MAGIC, .version = KEEPER_ANCHOR_VERSION, .current = current};
	int fd = memfd_create("anchor", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct packet packet;

	assert_int_equal(ftruncate(fd, KEEPER_ANCHOR_SIZE), 0);
	assert_int_equal(pwrite(fd, &page, sizeof(page), 0), sizeof(page));
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
	life_say(life, KEEPER_DEVICE_GIVE, &anchor, sizeof(anchor), fd);
	life_say(life, KEEPER_DEVICE_LOAD, &load, sizeof(load), -1);
	assert_true(life_told(life, KEEPER_DEVICE_LOADED, &packet));
	const struct keeper_saved *loaded = (const struct keeper_saved *)packet.payload;
	snprintf(ret_text, KEEPER_TEXT_MAX, "%s", loaded->text);
	return loaded->code;
}

static void test_killed_before_the_first_journal(void **state)
{
	struct life *life = *state;
	char text[KEEPER_TEXT_MAX];
	uint64_t nothing = KEEPER_NO_JOURNAL | KEEPER_NO_IMAGE << 8;

	assert_int_equal(recover_from(life, nothing, text), 0);
	assert_null(life->s->journal);
	life_keep(life);
	assert_int_equal(life->s->journal_slot, 0);
	assert_int_equal(life->s->anchor->current & 0xffff, KEEPER_NO_IMAGE << 8);
}

static void test_what_was_given_up_is_not_recovered(void **state)
{
	char text[KEEPER_TEXT_MAX];

	assert_int_equal(
		recover_from(*state, KEEPER_NOT_KEPT | KEEPER_NO_IMAGE << 8, text), -ENODATA);
	assert_non_null(strstr(text, "no longer kept"));
}

/* They are older than those of the next move, which would have the same numbers. */
static void test_rounds_that_do_not_count_are_dropped(void **state)
{
	struct life *life = *state;
	const struct keeper_custody journal = {.kind = KEEPER_CUSTODY_JOURNAL};
	char text[KEEPER_TEXT_MAX];
	struct journal *j;
	int fd;

	assert_int_equal(journal_create(1 << 20, &fd, &j), 0);
	journal_destroy(j);
	life_say(life, KEEPER_DEVICE_GIVE, &journal, sizeof(journal), fd);
	for (uint32_t i = 0; i < 2; i++) {
		const struct keeper_custody round = {.kind = KEEPER_CUSTODY_PRECOPY, .index = i};
		life_say(life, KEEPER_DEVICE_GIVE, &round, sizeof(round),
			memfd_create("round", MFD_CLOEXEC));
	}
	assert_int_equal(recover_from(life, KEEPER_NO_IMAGE << 8, text), 0);
	assert_int_equal(life->released, 2);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, life_setup, life_teardown)
	const struct CMUnitTest tests[] = {
		T(test_without_images_it_serves_on),
		T(test_an_image_is_made_for_work),
		T(test_what_else_is_work),
		T(test_thaw_answers_precopy),
		T(test_a_snapshot_closes_its_file),
		T(test_a_large_journal_is_used_again),
		T(test_a_spare_journal_is_given_back),
		T(test_a_hibernation_waits_for_rest),
		T(test_killed_before_the_first_journal),
		T(test_what_was_given_up_is_not_recovered),
		T(test_rounds_that_do_not_count_are_dropped),
	};
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
