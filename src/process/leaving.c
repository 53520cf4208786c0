/* SPDX-License-Identifier: Apache-2.0 */
/* Images for a successor: now and then in case of a crash, and when the keeper asks for one. */
#include "process/succession_private.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/crash_point.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static int leaving_write(
	struct succession *s, struct state_writer *w, bool precopied, bool *ret_lossy)
{
	int err = device_save(s->device, w, precopied, ret_lossy);

	if (!err)
		connections_save(s->connections, w);
	return err ? err : state_finish(w);
}

/* Writes to the image slot that does not count; its number, or -errno. ret_fd may be NULL. */
static int leaving_write_image(
	struct succession *s, bool precopied, bool *ret_lossy, uint64_t *ret_bytes, int *ret_fd)
{
	uint32_t slot = succession_free_image_slot(s);
	cleanup_close int fd = succession_new_memory("vgpu-image");
	struct state_writer *w;

	if (fd < 0)
		return fd;
	int err = state_writer_create(STATE_IMAGE, fd, &w);
	if (err < 0)
		return err;
	err = leaving_write(s, w, precopied, ret_lossy);
	*ret_bytes = state_written(w);
	state_writer_destroy(w);
	if (!err)
		err = succession_put(s, KEEPER_CUSTODY_IMAGE, slot, *ret_bytes, fd);
	if (err < 0)
		return err;
	if (ret_fd)
		*ret_fd = TAKE_FD(fd);
	return (int)slot;
}

/* ---- in case of a crash ---- */

struct leaving_reasons {
	char *text;
	size_t size, used;
};

static void leaving_reason(void *data, bool refused, const char *text)
{
	struct leaving_reasons *reasons = data;
	int n = snprintf(reasons->text + reasons->used, reasons->size - reasons->used, "%s%s",
		reasons->used ? "; " : "", text);

	if (n > 0)
		reasons->used += (size_t)n;
	if (reasons->used >= reasons->size)
		reasons->used = reasons->size - 1;
}

static void leaving_refusal(void *data, bool refused, const char *text)
{
	if (refused)
		leaving_reason(data, refused, text);
}

static void leaving_put_off(struct succession *s, int err, bool needed)
{
	char text[KEEPER_TEXT_MAX / 2] = "";
	struct leaving_reasons reasons = {.text = text, .size = sizeof(text)};

	s->next_try_ms = clock_ms() + IMAGE_ACTIVE_MS;
	s->image_due = false;
	if (err == -EBUSY)
		device_check(s->device, leaving_refusal, &reasons);
	if (!text[0])
		snprintf(text, sizeof(text), "%s",
			err == -EDOM ? "it would not be exact" : strerror(-err));
	log_limited(&s->log, LOG_LEVEL_WARNING, "no image was made, the journal goes on: %s", text);
	if (needed && ++s->failed >= IMAGE_TRIES)
		succession_give_up(s, text);
}

static void leaving_first_reason(void *data, bool refused, const char *text)
{
	char(*first)[160] = data;

	if (!(*first)[0])
		snprintf(*first, sizeof(*first), "%s", text);
}

/* Tells the operator what is not exact, and the first reason. */
static void leaving_notice(struct succession *s, const char *what)
{
	struct keeper_text notice = {0};
	char first[160] = "";

	device_check(s->device, leaving_first_reason, &first);
	snprintf(notice.text, sizeof(notice.text), "%s: %s", what, first);
	channel_send(s->channel_fd, KEEPER_DEVICE_NOTICE, &notice, -1);
}

/* Once, until an image is exact again. */
static void leaving_say_lossy(struct succession *s, bool lossy)
{
	if (lossy && !s->lossy_said)
		leaving_notice(s, "a recovery would not be exact");
	s->lossy_said = lossy;
}

/* Without an image the journal goes on as it is; that is no harm as long as it has room. */
int leaving_image(struct succession *s)
{
	bool incomplete = device_journal_incomplete(s->device), lossy = false;
	bool full = incomplete || journal_bytes(s->journal) > JOURNAL_HARD_BYTES / 4 * 3;
	bool needed = incomplete || (full && s->image_due) || journal_due(s->journal, 0);
	/* Room or time runs out: what is not exact is better than what cannot be run again. */
	bool accepted = full || s->active_ms > IMAGE_LOSSY_FACTOR * succession_enough(s);
	cleanup_close int fd = -1;
	struct journal *journal;
	uint64_t bytes;

	succession_freeze(s);
	device_finish_all(s->device); /* what it has drawn is no cost of the image */
	uint64_t start = clock_ms();
	int slot = leaving_write_image(s, false, &lossy, &bytes, &fd);
	crash_point(CRASH_POINT_IMAGE);
	int err = slot < 0 ? slot : 0;
	if (!err && lossy && !accepted)
		err = -EDOM; /* it would not be exact */
	if (!err)
		err = succession_new_journal(s, &journal);
	if (err < 0) {
		if (slot >= 0)
			succession_drop(s, KEEPER_CUSTODY_IMAGE, (uint32_t)slot);
		leaving_put_off(s, err, needed);
	} else {
		succession_switch(s, journal, (uint32_t)slot, 0);
		s->plain_fd = TAKE_FD(fd);
		s->failed = 0;
		leaving_say_lossy(s, lossy);
		/* The first one also tries out formats and compiles what reads them. */
		s->image_cost_ms = s->images++ ? clock_ms() - start : 0;
		log_debug("image of %llu KiB in %llu ms", (unsigned long long)(bytes >> 10),
			(unsigned long long)s->image_cost_ms);
	}
	succession_thaw(s);
	return err;
}

int leaving_file_is_image(struct succession *s, int fd)
{
	struct journal *journal;
	uint32_t slot = 0; /* this process has made no image */
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	int err = succession_put(s, KEEPER_CUSTODY_IMAGE, slot, (uint64_t)st.st_size, fd);
	if (!err)
		err = succession_new_journal(s, &journal);
	if (!err)
		succession_switch(s, journal, slot, 0);
	return err;
}

int leaving_first_image(struct succession *s)
{
	cleanup_close int fd = -1;
	struct journal *journal;
	uint64_t bytes;
	bool lossy = false;
	int slot = leaving_write_image(s, false, &lossy, &bytes, &fd);
	int err = slot < 0 ? slot : succession_new_journal(s, &journal);

	if (err < 0) {
		if (slot >= 0)
			succession_drop(s, KEEPER_CUSTODY_IMAGE, (uint32_t)slot);
		return err;
	}
	succession_switch(s, journal, (uint32_t)slot, 0);
	s->plain_fd = TAKE_FD(fd);
	leaving_say_lossy(s, lossy);
	return 0;
}

/* ---- copying ahead ---- */

void leaving_forget_rounds(struct succession *s)
{
	state_writer_destroy(s->round);
	s->round = NULL;
	close_fd(&s->round_fd);
	for (; s->rounds; s->rounds--)
		succession_drop(s, KEEPER_CUSTODY_PRECOPY, s->rounds - 1);
	device_precopy_forget(s->device);
}

static void leaving_precopied(struct succession *s, int err, uint64_t left)
{
	struct keeper_saved saved = {.code = err, .left = left};

	if (!err)
		err = state_finish(s->round);
	saved.bytes = state_written(s->round);
	state_writer_destroy(s->round);
	s->round = NULL;
	if (!err)
		err = succession_put(
			s, KEEPER_CUSTODY_PRECOPY, s->rounds++, saved.bytes, s->round_fd);
	close_fd(&s->round_fd);
	saved.code = err;
	if (err) {
		/* What this round copied is marked as copied: all of it is copied again. */
		leaving_forget_rounds(s);
		snprintf(
			saved.text, sizeof(saved.text), "copying ahead failed: %s", strerror(-err));
	}
	channel_send(s->channel_fd, KEEPER_DEVICE_PRECOPIED, &saved, -1);
}

bool leaving_precopy_slice(struct succession *s)
{
	uint64_t left = 0;
	int r = device_precopy(s->device, s->round, PRECOPY_SLICE_NS, &left);

	if (r > 0)
		return true;
	leaving_precopied(s, r, left);
	return false;
}

void leaving_precopy(struct succession *s)
{
	struct keeper_saved saved = {.code = -EBUSY};

	/* Rounds that belong to the image that counts have the same places in custody. */
	if (s->base_rounds && s->journal)
		leaving_image(s);
	if (!s->round && !s->base_rounds && s->rounds < KEEPER_MAX_PRECOPY &&
		(s->journal || s->given_up)) {
		s->round_fd = succession_new_memory("vgpu-precopy");
		saved.code = s->round_fd < 0
				     ? s->round_fd
				     : state_writer_create(STATE_IMAGE, s->round_fd, &s->round);
	}
	if (saved.code < 0) {
		close_fd(&s->round_fd);
		snprintf(saved.text, sizeof(saved.text), "nothing can be copied ahead: %s",
			strerror(-saved.code));
		channel_send(s->channel_fd, KEEPER_DEVICE_PRECOPIED, &saved, -1);
	}
}

/* ---- on request ---- */

static void leaving_answer(struct succession *s, struct keeper_saved *saved)
{
	struct leaving_reasons reasons = {.text = saved->text, .size = sizeof(saved->text)};

	if (saved->lossy || (saved->code == -EBUSY && !saved->text[0]))
		device_check(s->device, leaving_reason, &reasons);
	if (saved->code < 0 && !saved->text[0])
		snprintf(saved->text, sizeof(saved->text), "the state cannot be saved: %s",
			strerror(-saved->code));
	saved->stopped_ns = s->frozen_since ? clock_ns() - s->frozen_since : 0;
	if (saved->code < 0)
		succession_thaw(s);
	channel_send(s->channel_fd, KEEPER_DEVICE_SAVED, saved, -1);
}

void leaving_save(struct succession *s)
{
	struct keeper_saved saved = {0};
	bool lossy = false, precopied = s->rounds > 0;

	succession_freeze(s);
	succession_forget_spare(s); /* a successor's journal goes into its place */
	if (s->round) { /* asked to end in the middle of a round: what it has does not count */
		leaving_forget_rounds(s);
		precopied = false;
	}
	int slot = leaving_write_image(s, precopied, &lossy, &saved.bytes, NULL);
	saved.code = slot < 0 ? slot : 0;
	saved.lossy = lossy;
	leaving_answer(s, &saved);
}

/* While frozen. */
static int leaving_write_file(struct succession *s, int fd, bool *ret_lossy, uint64_t *ret_bytes)
{
	struct state_writer *w;
	int err = state_writer_create(STATE_FILE, fd, &w);

	if (err < 0)
		return err;
	err = leaving_write(s, w, false, ret_lossy);
	*ret_bytes = state_written(w);
	state_writer_destroy(w);
	return err;
}

static void leaving_answer_file(struct succession *s, bool exact, int fd)
{
	struct keeper_saved saved = {0};
	bool lossy = false;

	succession_freeze(s);
	int err = leaving_write_file(s, fd, &lossy, &saved.bytes);
	if (!err && lossy && exact)
		err = -EBUSY;
	saved.code = err;
	saved.lossy = lossy;
	leaving_answer(s, &saved);
}

static void leaving_answer_no(struct succession *s, int code, const char *why)
{
	struct keeper_saved saved = {.code = code};

	close_fd(&s->stop_fd);
	snprintf(saved.text, sizeof(saved.text), "%s", why);
	leaving_answer(s, &saved);
}

static void leaving_stop_again(void *data);

/*
 * Asleep, only a byte or a kick of the guest wakes it. What it is owed already would never come, so
 * the moment must be one at which nothing is.
 */
static void leaving_stop(struct succession *s)
{
	succession_freeze(s);
	device_finish_all(s->device); /* what this completes is answered at once */
	if (!connections_pending(s->connections)) {
		cleanup_close int fd = TAKE_FD(s->stop_fd);
		leaving_answer_file(s, s->stop_exact, fd);
		return;
	}
	if (++s->stop_tries >= STOP_TRIES) {
		leaving_answer_no(
			s, -EBUSY, "its guest is at work just now (try again when it rests)");
		return;
	}
	succession_thaw(s);
	loop_set_timer(s->loop, STOP_TRY_MS, leaving_stop_again, s);
}

static void leaving_stop_again(void *data)
{
	struct succession *s = data;

	if (s->stop_fd >= 0 && !s->frozen_since)
		leaving_stop(s);
}

void leaving_save_file(struct succession *s, const struct keeper_save *save, int fd)
{
	cleanup_close int file = fd;

	if (!save->stop) {
		leaving_answer_file(s, save->exact, file);
		return;
	}
	succession_forget_spare(s);
	close_fd(&s->stop_fd);
	s->stop_fd = TAKE_FD(file);
	s->stop_exact = save->exact;
	s->stop_tries = 0;
	leaving_stop(s);
}

int succession_write_file(struct succession *s, int fd)
{
	bool lossy = false, was_frozen = succession_frozen(s);
	uint64_t bytes;

	succession_freeze(s);
	int err = leaving_write_file(s, fd, &lossy, &bytes);
	/* The front end hears only of success or not. */
	if (!err && lossy)
		leaving_notice(s, "the VM's state was not saved exactly");
	if (!was_frozen)
		succession_thaw(s);
	return err;
}

static void leaving_note_refusal(void *data, bool refused, const char *text)
{
	bool *any = data;
	*any = *any || refused;
}

int succession_saveable(struct succession *s)
{
	bool refused = false;

	device_check(s->device, leaving_note_refusal, &refused);
	return refused ? -EBUSY : 0;
}

/* The successor did not make it. What it may have written to the anchor does not count. */
void leaving_thaw(struct succession *s)
{
	if (s->round) /* PRECOPY is answered all the same */
		leaving_precopied(s, -ECANCELED, 0);
	leaving_forget_rounds(s);
	if (s->stop_fd >= 0)
		leaving_answer_no(s, -ECANCELED, "it was not needed any more");
	if (!s->frozen_since)
		return;
	if (s->anchor)
		succession_write_anchor(s);
	succession_drop(s, KEEPER_CUSTODY_IMAGE, succession_free_image_slot(s));
	succession_thaw(s);
}

static void leaving_checked(void *data, bool refused, const char *text)
{
	const struct succession *s = data;
	struct keeper_checked checked = {
		.verdict = refused ? KEEPER_CHECK_REFUSED : KEEPER_CHECK_LOSSY};

	snprintf(checked.text, sizeof(checked.text), "%s", text);
	channel_send(s->channel_fd, KEEPER_DEVICE_CHECKED, &checked, -1);
}

void leaving_check(struct succession *s)
{
	const struct keeper_checked last = {.verdict = KEEPER_CHECK_FINE};

	device_check(s->device, leaving_checked, s);
	channel_send(s->channel_fd, KEEPER_DEVICE_CHECKED, &last, -1);
}
