/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks at the device process from outside, once a second while it has connections: has it been at
 * one thing for too long (its anchor says since when), and did its guest do anything (its counters
 * say)? One that runs the journal again is looked at too, for the record that its predecessor hung
 * at is in there. Both pages are the device process' own, so nothing here trusts them: a process
 * that lies is not found to hang, or found to do so and ended, which harms its own guest alone.
 *
 * Who idles costs nothing: it is told IDLE, and from its RESTING to its AWAKE it is not looked at.
 * One that hangs answers nothing and is looked at; one that lies harms, again, its own guest alone.
 */
#include "keeper/keeper.h"

#include "base/checked.h"
#include "base/clock.h"
#include "protocol/stats.h"

#include <unistd.h>

void watch_begin(struct keeper *k)
{
	k->active_at = clock_ms();
	k->told_idle = false;
	k->quiet = k->quiet_asked = false;
	shaders_awake(k); /* a predecessor may have rested */
	k->watch_at = k->active_at + KEEPER_WATCH_MS;
	k->watched_since_ns = clock_ns();
	keeper_set_timer(k);
}

bool watch_hangs(struct keeper *k)
{
	const struct custody_item *item = custody_get(&k->custody, KEEPER_CUSTODY_ANCHOR, 0);
	struct keeper_anchor anchor;

	if (!item || pread(item->fd, &anchor, sizeof(anchor), 0) != (ssize_t)sizeof(anchor) ||
		anchor.magic != KEEPER_ANCHOR_MAGIC || !anchor.busy_since) {
		hold_since_ns(k, 0);
		return false;
	}
	/* What a predecessor left there does not count, nor does what it was held. */
	uint64_t since = MAX(anchor.busy_since, k->watched_since_ns);
	uint64_t held = hold_since_ns(k, since);
	return takeover_since_ns(since + MIN(held, UINT64_MAX - since)) / 1000000 >=
	       k->config->hang_ms;
}

static uint64_t watch_activity(const struct keeper *k)
{
	struct vgpu_stats stats;

	if (k->stats_fd < 0 ||
		pread(k->stats_fd, &stats, sizeof(stats), 0) != (ssize_t)sizeof(stats))
		return 0;
	return stats.submits_total + stats.commands_total + stats.frames_total +
	       stats.transfer_to_host_bytes_total + stats.transfer_from_host_bytes_total +
	       stats.fences_total;
}

static void watch_look(struct keeper *k, uint64_t now)
{
	uint64_t activity = watch_activity(k);

	if (activity == k->activity)
		return;
	k->activity = activity;
	k->active_at = now;
}

static void watch_idle(struct keeper *k, uint64_t now)
{
	watch_look(k, now);
	bool idle = now - k->active_at >= KEEPER_IDLE_MS;
	if (idle == k->told_idle)
		return;
	k->told_idle = idle;
	control_status(k);
}

static void watch_quieten(struct keeper *k, uint64_t now)
{
	if (k->quiet_asked || now - MAX(k->active_at, k->awake_at) < KEEPER_QUIET_MS)
		return;
	k->quiet_asked = device_send(k->current, KEEPER_DEVICE_IDLE, NULL, -1) == 0;
}

void watch_quiet(struct keeper *k, bool quiet)
{
	/* AWAKE without a rest is that of a rest before a takeover, which came to nothing. */
	if (!k->quiet_asked || quiet == k->quiet)
		return;
	k->quiet = quiet;
	if (quiet)
		shaders_rest(k);
	if (!quiet) {
		shaders_awake(k);
		k->quiet_asked = false;
		k->awake_at = clock_ms();
		k->watch_at = k->awake_at + KEEPER_WATCH_MS;
	}
	keeper_set_timer(k);
}

uint64_t watch_idle_ns(struct keeper *k)
{
	uint64_t now = clock_ms();

	watch_look(k, now); /* who asks does not wait for the next second */
	if (!k->active_at || now - k->active_at < KEEPER_WATCH_MS)
		return 0;
	return (now - k->active_at) * 1000000;
}

void watch_check_time(struct keeper *k, uint64_t now)
{
	if (!k->watch_at || now < k->watch_at)
		return;
	k->watch_at = now + KEEPER_WATCH_MS;
	usage_look(k->current);
	if (k->state != KEEPER_STATE_READY)
		return;
	if (!takeover_holds(k)) {
		watch_idle(k, now);
		watch_quieten(k, now);
	} else if (k->takeover.phase != PHASE_RECOVER_LOAD)
		return;
	if (peers_sent(k) && watch_hangs(k))
		device_kill(k->current, "it hung");
}

uint64_t watch_next_time(const struct keeper *k)
{
	bool looks = peers_count(k) ? !k->quiet || !k->told_idle : !k->quiet;

	return k->state == KEEPER_STATE_READY && looks && k->watch_at ? k->watch_at : UINT64_MAX;
}
