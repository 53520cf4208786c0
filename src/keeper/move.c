/* SPDX-License-Identifier: Apache-2.0 */
/*
 * To a new device process under a running guest: on another GPU, or the same with a newer program.
 * The current process serves on while contents are copied ahead in rounds, as long as that makes
 * what is left smaller. It is killed after its successor has said that it serves, never before;
 * until then every failure ends with THAW, and the guest goes on where it was.
 */
#include "keeper/keeper.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "keeper/stats.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define MOVE_LEFT_ENOUGH (8u << 20) /* bytes: that much is copied while the guest waits */

int move_begin(struct keeper *k, const struct keeper_move *move, char *why, size_t size)
{
	struct takeover *t = &k->takeover;
	struct device_process *next = device_slot(k);
	struct device_args args = k->args;
	int r = next ? 0 : -EBUSY;

	if (!r && move->n_args)
		r = device_args_read(move->n_args, move->args, &args);
	if (!r)
		r = device_spawn(next, &args);
	if (r < 0) {
		snprintf(why, size, "a new device process cannot be started: %s", strerror(-r));
		return r;
	}
	next->staging = true;
	k->next = next;
	k->next_args = args;
	t->bytes = 0;
	t->left = UINT64_MAX;
	t->rounds = 0;
	t->rounds_given = 0;
	t->lossy = false;
	t->paused_at = 0;
	takeover_enter(k, PHASE_MOVE_START, 0);
	job_progress(k, "starting");
	return 0;
}

/* The next one is given up. What the current one is owed must be said by the caller. */
static void move_drop_next(struct keeper *k)
{
	struct device_process *next = TAKE_PTR(k->next);

	if (!next)
		return;
	/*
	 * Both write to the same anchor. If the current one dies before it could make its own image
	 * and journal count again, those that the next one made are needed.
	 */
	custody_merge(&k->custody, &next->staged, true);
	device_dismiss(next);
}

static void move_fail(struct keeper *k, int code, const char *why)
{
	struct device_process *d = k->current;
	char text[KEEPER_TEXT_MAX];

	snprintf(text, sizeof(text), "%.200s; the source goes on", why);
	move_drop_next(k);
	if (!d->pid) { /* it died while the next one took over */
		job_done(k, code, why);
		recover_begin(k, NULL);
		return;
	}
	d->late_answers = d->owes;
	if (k->takeover.phase != PHASE_MOVE_START)
		outbox_message(d, KEEPER_DEVICE_THAW, NULL, 0, -1);
	if (k->takeover.paused_at) {
		k->takeover.last_pause_ns = takeover_since_ns(k->takeover.paused_at);
		k->takeover.last_replay_ns = 0;
	}
	job_done(k, code, text);
	takeover_done(k, false);
}

void move_cancel(struct keeper *k, const char *why)
{
	move_drop_next(k);
	job_done(k, -ECANCELED, why);
}

/* Rounds from `first` on are of an earlier move: no image that counts needs them any more. */
static void move_drop_rounds(struct keeper *k, uint32_t first)
{
	for (uint32_t i = first; i < KEEPER_MAX_PRECOPY; i++) {
		const struct keeper_custody what = {.kind = KEEPER_CUSTODY_PRECOPY, .index = i};
		custody_release(&k->custody, &what);
	}
}

/* The next one is the current one from here on, and the one before it is gone. */
static void move_commit(struct keeper *k, bool taken_over)
{
	struct device_process *last = k->current, *d = k->next;

	k->current = d;
	k->next = NULL;
	d->restored = taken_over && last->restored;
	d->served = taken_over ? last->served : 0; /* a binding that ended meanwhile ends it too */
	d->staging = false;
	move_drop_rounds(k, k->takeover.rounds_given);
	custody_merge(&k->custody, &d->staged, false);
	if (custody_get(&k->custody, KEEPER_CUSTODY_MEMORY, 0))
		custody_claim_memory(&k->custody);
	k->args = k->next_args;
	close_fd(&k->stats_fd);
	k->stats_fd = TAKE_FD(d->stats_fd);
	memcpy(k->renderer, d->renderer, sizeof(k->renderer));
	device_dismiss(last);
	k->takeover.moves++;
	log_info("another device process took over: %s", k->renderer);
	if (!taken_over)
		peers_end_sent(k); /* only those whose peer is gone */
	job_done(k, 0, k->takeover.why);
	takeover_done(k, taken_over);
}

static void move_precopy(struct keeper *k)
{
	takeover_enter(k, PHASE_MOVE_PRECOPY, k->config->step_ms);
	takeover_ask(k->current, KEEPER_DEVICE_PRECOPY, NULL, 0, -1, KEEPER_DEVICE_PRECOPIED);
	job_progress(k, "copying");
}

static void move_save(struct keeper *k)
{
	k->takeover.saved_images = 0;
	k->takeover.sent_at = clock_ns();
	takeover_enter(k, PHASE_MOVE_SAVE, k->config->step_ms);
	takeover_ask(k->current, KEEPER_DEVICE_SAVE, NULL, 0, -1, KEEPER_DEVICE_SAVED);
	job_progress(k, "saving");
}

void move_ready(struct keeper *k, const void *payload)
{
	k->takeover.why[0] = '\0';
	if (k->state != KEEPER_STATE_READY)
		move_fail(k, -EAGAIN, "the device process was not ready");
	else if (peers_sent(k) && k->takeover.job.at_once)
		move_save(k);
	else if (peers_sent(k))
		move_precopy(k);
	else {
		stats_page_copy(k->stats_fd, k->next->stats_fd);
		move_commit(k, false);
	}
}

/* What DONE will say of the state: a part of it was lost? */
static bool move_takes(struct keeper *k, const struct keeper_saved *saved)
{
	struct takeover *t = &k->takeover;

	t->bytes += saved->bytes;
	if (saved->lossy) {
		t->lossy = true;
		memcpy(t->why, saved->text, sizeof(t->why));
	}
	return !(saved->lossy && t->job.exact);
}

void move_precopied(struct keeper *k, const void *payload)
{
	const struct keeper_saved *saved = payload;
	struct takeover *t = &k->takeover;
	uint32_t rounds = t->rounds_given + 1;

	if (!move_takes(k, saved)) {
		move_fail(k, -EOPNOTSUPP, saved->text);
		return;
	}
	if (saved->code < 0 || !custody_get(&k->custody, KEEPER_CUSTODY_PRECOPY, t->rounds_given)) {
		move_save(k); /* it can be copied all the same, at once */
		return;
	}
	move_drop_rounds(k, rounds);
	t->rounds++;
	bool shrinks = saved->left < t->left / 4 * 3;
	t->again = saved->left > MOVE_LEFT_ENOUGH && shrinks && rounds < KEEPER_MAX_PRECOPY;
	t->left = saved->left;
	takeover_enter(k, PHASE_MOVE_PRELOAD, k->config->step_ms);
	outbox_give(k->next, CUSTODY_BIT(PRECOPY) | CUSTODY_BIT(SHADERS), 0, t->rounds_given);
	t->rounds_given = rounds;
	takeover_ask(k->next, KEEPER_DEVICE_LOAD_PRECOPY, NULL, 0, -1, KEEPER_DEVICE_LOADED);
	job_progress(k, "copying");
}

void move_preloaded(struct keeper *k, const void *payload)
{
	const struct keeper_saved *loaded = payload;

	if (loaded->code)
		move_fail(k, loaded->code, loaded->text);
	else if (k->takeover.again)
		move_precopy(k);
	else
		move_save(k);
}

void move_saved(struct keeper *k, const void *payload)
{
	const struct keeper_saved *saved = payload;
	struct takeover *t = &k->takeover;
	uint64_t now = clock_ns();

	/* The guest was stopped after SAVE was sent, whatever the process says. */
	t->paused_at = now - MIN(saved->stopped_ns, now - t->sent_at);
	if (saved->code < 0 || !move_takes(k, saved)) {
		move_fail(k, saved->code < 0 ? saved->code : -EOPNOTSUPP, saved->text);
		return;
	}
	if (!t->saved_images) {
		move_fail(k, -EPROTO, "the device process said SAVED without an image");
		return;
	}
	stats_page_copy(
		k->stats_fd, k->next->stats_fd); /* it goes on counting where this stopped */
	t->load_late = false;
	takeover_enter(k, PHASE_MOVE_LOAD, k->config->step_ms);
	/* It has all rounds that the image needs; others are of an earlier move. */
	takeover_give(k->next, false, CUSTODY_ALL & ~(CUSTODY_BIT(SCREEN) | CUSTODY_BIT(PRECOPY)),
		t->saved_images, 0, -1);
	job_progress(k, "loading");
}

void move_loaded(struct keeper *k, const void *payload)
{
	const struct keeper_saved *loaded = payload;
	struct takeover *t = &k->takeover;

	if (loaded->code) {
		move_fail(k, loaded->code, loaded->text);
		return;
	}
	t->last_pause_ns = takeover_since_ns(t->paused_at);
	t->last_replay_ns = 0;
	if (t->load_late)
		k->next->kill_reason = NULL; /* it was not its fault: it is dead, and recovered */
	if (loaded->lossy) {
		t->lossy = true;
		memcpy(t->why, loaded->text, sizeof(t->why));
	}
	move_commit(k, true);
}

void move_current_died(struct keeper *k, const void *payload)
{
	char text[KEEPER_TEXT_MAX];

	snprintf(text, sizeof(text), "%.200s; it is started again where it was", k->failure);
	move_drop_next(k);
	job_done(k, -EIO, text);
	recover_begin(k, NULL);
}

void move_next_died(struct keeper *k, const void *payload)
{
	char text[KEEPER_TEXT_MAX];

	snprintf(text, sizeof(text), "the next one: %.230s", k->takeover.why);
	if (k->takeover.phase == PHASE_MOVE_LOAD && k->takeover.load_late)
		move_fail(k, -ETIMEDOUT, "a step took too long");
	else
		move_fail(k, -EIO, text);
}

/*
 * One that was told to load may have begun to serve, its LOADED not read yet. So it is killed, and
 * what it said before its death decides which of the two goes on.
 */
void move_timeout(struct keeper *k, const void *payload)
{
	if (k->takeover.phase != PHASE_MOVE_LOAD) {
		move_fail(k, -ETIMEDOUT, "a step took too long");
		return;
	}
	k->takeover.load_late = true;
	device_kill(k->next, "it did not take over in time");
}
