/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Theory of operation
 *
 * What is kept for a successor was made to cost little time: an image is written as it is, and a
 * journal has memory for what may come. Of a guest that does nothing it shall take little memory
 * instead, in up to three steps, each of which may be left out:
 *
 * - a journal that is long for what the resources come to becomes an image, as it would after more
 *   work; so does what was copied ahead of a move, if it is not much. As any image, it stops the
 *   guest;
 * - the image that counts is compressed into the slot that does not, and the anchor then names that
 *   one; the journal goes on. No guest is stopped for it: who comes meanwhile ends it, and it is
 *   begun again at the next rest, REST_TRIES times;
 * - the journal gives back what memory it has for more.
 */
#include "process/succession_private.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/crash_point.h"
#include "base/loop.h"
#include "protocol/stats.h"

#include <errno.h>
#include <sys/stat.h>

/* How many times larger than its compressed image a state is taken to be. */
#define REST_RATIO 6u

#define REST_ROUNDS_MOST  (64ull << 20) /* of resources, for an image that only saves memory */
#define REST_SECTION_MOST (32ull << 20) /* of an image that is compressed: it takes 0.1 s */
#define REST_TRIES        3u            /* of one image, each ended by who came */

static bool resting_image_is_due(const struct succession *s)
{
	uint64_t bytes = journal_bytes(s->journal);

	if (s->base_rounds && !s->rest_refused && s->stats->vram_used_bytes <= REST_ROUNDS_MOST)
		return true;
	return bytes >= REST_LEAST_BYTES + s->rest_refused &&
	       s->stats->vram_used_bytes / REST_RATIO < bytes;
}

static int resting_copy(struct succession *s, struct state_reader *from, struct state_writer *to)
{
	struct state_section section;
	int err;

	while ((err = state_next(from, &section)) == 1) {
		if (section.size > REST_SECTION_MOST)
			return -EFBIG;
		if (loop_ready(s->loop))
			return -EINTR;
		state_begin(to, section.type);
		state_put(to, state_take(from, section.size), section.size);
		state_end(to);
	}
	return err ? err : state_finish(to);
}

/* Writes the image to `fd`, compressed. */
static int resting_write(struct succession *s, int fd, uint64_t *ret_bytes)
{
	struct state_reader *from;
	struct state_writer *to;

	int err = state_reader_create(s->plain_fd, &from);
	if (err < 0)
		return err;
	err = state_writer_create(STATE_FILE, fd, &to);
	if (!err) {
		err = resting_copy(s, from, to);
		*ret_bytes = state_written(to);
		state_writer_destroy(to);
	}
	state_reader_destroy(from);
	return err;
}

static int resting_compress(struct succession *s)
{
	uint32_t slot = succession_free_image_slot(s), old = s->image_slot;
	cleanup_close int fd = succession_new_memory("vgpu-image");
	struct stat plain;
	uint64_t bytes = 0;

	if (fd < 0)
		return fd;
	if (fstat(s->plain_fd, &plain) < 0)
		return -errno;
	int err = resting_write(s, fd, &bytes);
	if (err < 0)
		return err;
	if (bytes > (uint64_t)plain.st_blocks * 512 / 4 * 3)
		return -ENOSPC; /* it would save little */
	err = succession_put(s, KEEPER_CUSTODY_IMAGE, slot, bytes, fd);
	crash_point(CRASH_POINT_IMAGE);
	if (err < 0)
		return err;
	s->image_slot = slot;
	succession_write_anchor(s);
	succession_drop(s, KEEPER_CUSTODY_IMAGE, old);
	return 0;
}

static bool resting_is_worth_compressing(const struct succession *s)
{
	struct stat plain;

	return s->plain_fd >= 0 && fstat(s->plain_fd, &plain) == 0 &&
	       (uint64_t)plain.st_blocks * 512 >= REST_LEAST_BYTES;
}

/* Who interrupts it is served first. What else goes wrong would again. */
static void resting_try_to_compress(struct succession *s)
{
	if (!resting_is_worth_compressing(s))
		return;
	if (resting_compress(s) != -EINTR || ++s->rest_tries >= REST_TRIES)
		close_fd(&s->plain_fd);
}

static void resting_keep_little(struct succession *s)
{
	if (resting_image_is_due(s) && leaving_image(s) < 0 && s->journal)
		s->rest_refused = MAX(journal_bytes(s->journal), (uint64_t)1);
	resting_try_to_compress(s);
	succession_forget_spare(s);
	if (s->journal)
		journal_trim(s->journal);
}

void succession_rest(struct succession *s)
{
	if (s->frozen_since || s->round || s->rounds)
		return; /* it leaves */
	if (s->journal)
		resting_keep_little(s);
	if (!loop_ready(s->loop))
		device_rest(s->device, shader_cache_driver(s->shaders) != 0);
}
