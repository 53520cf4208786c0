/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device process died under connections: another one takes over from what is in custody. What
 * the new one puts there counts at once, so if it dies too, the one after it goes on from there.
 *
 * A process that dies again and again would keep the node busy for ever. One that had served for
 * KEEPER_SERVED_MS before it died got somewhere and does not count. For the others it matters who
 * ended them:
 *
 *   by itself     it crashed, hung, did not start or could not load, and so will those after it:
 *                 given up after `recoveries` in KEEPER_RECOVERY_MS. One that said that it cannot
 *                 start (its GPU is full or away for a moment) is followed by the next after a
 *                 while.
 *   from outside  by SIGKILL, which says nothing about the guest, so the guest is not ended for it.
 *                 But whoever kills may never stop (the kernel, out of memory): after KEEPER_KILLS
 *                 in a row the next start waits, for longer each time, up to a few seconds. The
 *                 first ones do not, for their guest is waiting.
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
#define KEEPER_LOAD_STEPS 20u /* times `step_ms` */
#define KEEPER_KILLS      20u /* from outside in a row that nobody waits after */
#define KEEPER_DELAYS     5u  /* a delay doubles so many times */

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

static bool recover_had_served(const struct takeover *t)
{
	return t->served_at && clock_ms() - t->served_at >= KEEPER_SERVED_MS;
}

static bool recover_too_often(struct keeper *k)
{
	struct takeover *t = &k->takeover;
	uint64_t now = clock_ms();

	if (recover_had_served(t))
		return false;
	if (!t->window_at || now - t->window_at >= KEEPER_RECOVERY_MS) {
		t->window_at = now;
		t->in_window = 0;
	}
	return ++t->in_window > k->config->recoveries;
}

static uint64_t recover_delay(const struct keeper *k, uint32_t doubled)
{
	return (uint64_t)k->config->delay_ms << MIN(doubled, KEEPER_DELAYS);
}

uint64_t recover_killed(struct keeper *k)
{
	struct takeover *t = &k->takeover;

	if (recover_had_served(t))
		t->killed = 0;
	t->served_at = 0;
	if (++t->killed <= KEEPER_KILLS)
		return 0;
	uint64_t delay = recover_delay(k, t->killed - KEEPER_KILLS - 1);
	if (t->killed == KEEPER_KILLS + 1)
		control_event(k, "something kills its device processes: %.100s; now with delays",
			k->failure);
	log_warning("%s; another one in %llu ms", k->failure, (unsigned long long)delay);
	return delay;
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

/* The one that died did so by itself: *ret_delay ms until the next one; false: it is given up. */
static bool recover_died(struct keeper *k, uint64_t *ret_delay)
{
	struct takeover *t = &k->takeover;

	if (recover_too_often(k))
		return false;
	t->served_at = 0;
	*ret_delay = 0;
	if (t->again)
		return true;
	/* It said that it could not start, and so would the next one at once. */
	log_warning("%s; another one is tried soon", k->failure);
	*ret_delay = recover_delay(k, t->in_window);
	return true;
}

void recover_begin(struct keeper *k, const void *payload)
{
	struct takeover *t = &k->takeover;
	char died[KEEPER_TEXT_MAX];
	uint64_t delay;

	if (!recover_possible(k)) {
		recover_give_up(k);
		return;
	}
	memcpy(died, k->failure, sizeof(died));
	if (!t->blame && t->again) {
		delay = recover_killed(k);
	} else if (!recover_died(k, &delay)) {
		snprintf(k->failure, sizeof(k->failure), "given up after %u recoveries: %.200s",
			k->config->recoveries, died);
		recover_give_up(k);
		return;
	}
	if (!recover_under_way(k)) {
		t->paused_at = clock_ns();
		memcpy(t->why, died, sizeof(t->why));
		log_warning("%s; another one takes over", died);
	}
	if (delay)
		takeover_enter(k, PHASE_RECOVER_START, delay);
	else
		recover_start(k);
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
	t->last_replay_ns = MIN(loaded->replay_ns, t->last_pause_ns);
	if (loaded->lossy) {
		control_event(k, "recovered with a loss: %.100s (%.80s); pause %llu ms",
			loaded->text, t->why, (unsigned long long)(t->last_pause_ns / 1000000));
	} else {
		control_event(k, "recovered: %.160s; pause %llu ms, %llu of them to draw again",
			t->why, (unsigned long long)(t->last_pause_ns / 1000000),
			(unsigned long long)(t->last_replay_ns / 1000000));
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
