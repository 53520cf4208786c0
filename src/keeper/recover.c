/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device process died under connections: another one takes over from what is in custody. What
 * the new one puts there counts at once, so if it dies too, the one after it goes on from there.
 *
 * A process that dies again and again is given up after `recoveries` in KEEPER_RECOVERY_MS; one
 * that had served for KEEPER_SERVED_MS before it died does not count, for it got somewhere. One
 * that cannot start (its GPU is full or away for a moment) is followed by the next after a while.
 *
 * Running the journal again takes as long as it takes: a process is ended only when it has been at
 * one thing for too long, or for KEEPER_LOAD_STEPS in all.
 */
#include "keeper/keeper.h"

#include "base/checked.h"
#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define KEEPER_SERVED_MS  500u
#define KEEPER_LOAD_STEPS 20u  /* times `step_ms` */
#define KEEPER_DELAY_MS   100u /* after the first that cannot start; then twice that, … */
#define KEEPER_DELAYS     5u   /* … so many times */

static bool recover_under_way(const struct keeper *k)
{
	return k->takeover.phase == PHASE_RECOVER_START || k->takeover.phase == PHASE_RECOVER_LOAD;
}

static bool recover_possible(const struct keeper *k)
{
	return !k->stopping && k->current->served == k->binding_number && peers_sent(k) &&
	       custody_get(&k->custody, KEEPER_CUSTODY_ANCHOR, 0) &&
	       (k->takeover.again || recover_under_way(k));
}

bool recover_too_often(struct keeper *k)
{
	struct takeover *t = &k->takeover;
	uint64_t now = clock_ms();

	if (t->served_at && now - t->served_at >= KEEPER_SERVED_MS)
		return false;
	if (!t->window_at || now - t->window_at >= KEEPER_RECOVERY_MS) {
		t->window_at = now;
		t->in_window = 0;
	}
	return ++t->in_window > k->config->recoveries;
}

static void recover_give_up(struct keeper *k)
{
	takeover_enter(k, PHASE_SERVING, 0);
	device_fail(k);
}

static void recover_start(struct keeper *k)
{
	char died[KEEPER_TEXT_MAX];

	memcpy(died, k->failure, sizeof(died));
	int r = device_start(k);
	if (r < 0) {
		snprintf(k->failure, sizeof(k->failure),
			"%.160s, and no new one could be started: %s", died, strerror(-r));
		recover_give_up(k);
		return;
	}
	k->current->served = k->binding_number;
	takeover_enter(k, PHASE_RECOVER_START, 0);
}

void recover_begin(struct keeper *k, const void *payload)
{
	struct takeover *t = &k->takeover;
	char died[KEEPER_TEXT_MAX];

	if (!recover_possible(k)) {
		recover_give_up(k);
		return;
	}
	memcpy(died, k->failure, sizeof(died));
	if (recover_too_often(k)) {
		snprintf(k->failure, sizeof(k->failure), "given up after %u recoveries: %.200s",
			k->config->recoveries, died);
		recover_give_up(k);
		return;
	}
	t->served_at = 0;
	if (!recover_under_way(k)) {
		t->paused_at = clock_ns();
		memcpy(t->why, died, sizeof(t->why));
		log_warning("%s; another one takes over", died);
	}
	if (t->again) {
		recover_start(k);
		return;
	}
	/* It said that it could not start, and so would the next one at once. */
	log_warning("%s; another one is tried soon", died);
	takeover_enter(k, PHASE_RECOVER_START,
		(uint64_t)KEEPER_DELAY_MS << MIN(t->in_window, KEEPER_DELAYS));
}

void recover_delayed(struct keeper *k, const void *payload)
{
	recover_start(k);
}

void recover_ready(struct keeper *k, const void *payload)
{
	k->takeover.load_steps = 0;
	k->watched_since_ns = clock_ns();
	takeover_enter(k, PHASE_RECOVER_LOAD, k->config->step_ms);
	takeover_give(k->current, true, CUSTODY_ALL & ~CUSTODY_BIT(SCREEN), ~0u, 0, -1);
}

void recover_loaded(struct keeper *k, const void *payload)
{
	const struct keeper_saved *loaded = payload;
	struct takeover *t = &k->takeover;

	if (loaded->code) {
		snprintf(k->failure, sizeof(k->failure),
			"the state could not be taken over: %.120s (%.80s)", loaded->text, t->why);
		log_error("%s", k->failure);
		control_event(k, "failed: %s", k->failure);
		device_replace(k, "it could not take over the state");
		return;
	}
	t->recoveries++;
	t->served_at = clock_ms();
	t->last_pause_ns = takeover_since_ns(t->paused_at);
	if (loaded->lossy) {
		control_event(k, "recovered with a loss: %.100s (%.80s); pause %llu ms",
			loaded->text, t->why, (unsigned long long)(t->last_pause_ns / 1000000));
	} else {
		control_event(k, "recovered: %.180s; pause %llu ms", t->why,
			(unsigned long long)(t->last_pause_ns / 1000000));
	}
	takeover_done(k, true);
}

void recover_timeout(struct keeper *k, const void *payload)
{
	if (++k->takeover.load_steps < KEEPER_LOAD_STEPS && !watch_hangs(k))
		takeover_enter(k, PHASE_RECOVER_LOAD, k->config->step_ms);
	else
		device_kill(k->current, "it did not take over in time");
}
