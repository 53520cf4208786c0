/* SPDX-License-Identifier: Apache-2.0 */
#include "keeper/keeper.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef void (*takeover_fn)(struct keeper *k, const void *payload);

struct takeover_row {
	bool holds;      /* connections that come wait, ends are put off */
	uint32_t status; /* what vgpud sees; KEEPER_STATE_COUNT: the process' own state */
	takeover_fn on[EVENT_COUNT];
};

#define OWN KEEPER_STATE_COUNT

/*
 * What happens in which phase; an event without an entry changes nothing. Answers come only from
 * the process that was asked (channel.c), so each phase has one that it waits for.
 */
static const struct takeover_row rows[PHASE_COUNT] = {
	[PHASE_SERVING] = {false, OWN,
		{
			[EVENT_CURRENT_READY] = takeover_serve,
			[EVENT_CURRENT_DIED] = recover_begin,
		}},
	[PHASE_RECOVER_START] = {true, KEEPER_STATE_RECOVERING,
		{
			[EVENT_CURRENT_READY] = recover_ready,
			[EVENT_CURRENT_DIED] = recover_begin,
			[EVENT_TIMEOUT] = recover_delayed,
		}},
	[PHASE_RECOVER_LOAD] = {true, KEEPER_STATE_RECOVERING,
		{
			[EVENT_LOADED] = recover_loaded,
			[EVENT_CURRENT_DIED] = recover_begin,
			[EVENT_TIMEOUT] = recover_timeout,
		}},
	[PHASE_MOVE_START] = {false, KEEPER_STATE_MOVING,
		{
			[EVENT_NEXT_READY] = move_ready,
			[EVENT_CURRENT_DIED] = move_current_died,
			[EVENT_NEXT_DIED] = move_next_died,
		}},
	[PHASE_MOVE_PRECOPY] = {false, KEEPER_STATE_MOVING,
		{
			[EVENT_PRECOPIED] = move_precopied,
			[EVENT_CURRENT_DIED] = move_current_died,
			[EVENT_NEXT_DIED] = move_next_died,
			[EVENT_TIMEOUT] = move_timeout,
		}},
	[PHASE_MOVE_PRELOAD] = {false, KEEPER_STATE_MOVING,
		{
			[EVENT_LOADED] = move_preloaded,
			[EVENT_CURRENT_DIED] = move_current_died,
			[EVENT_NEXT_DIED] = move_next_died,
			[EVENT_TIMEOUT] = move_timeout,
		}},
	[PHASE_MOVE_SAVE] = {true, KEEPER_STATE_MOVING,
		{
			[EVENT_SAVED] = move_saved,
			[EVENT_CURRENT_DIED] = move_current_died,
			[EVENT_NEXT_DIED] = move_next_died,
			[EVENT_TIMEOUT] = move_timeout,
		}},
	/* The image is in custody: the next one goes on also if the current one dies. */
	[PHASE_MOVE_LOAD] = {true, KEEPER_STATE_MOVING,
		{
			[EVENT_LOADED] = move_loaded,
			[EVENT_NEXT_DIED] = move_next_died,
			[EVENT_TIMEOUT] = move_timeout,
		}},
	[PHASE_SNAPSHOT] = {false, OWN,
		{
			[EVENT_SAVED] = job_snapshot_saved,
			[EVENT_CURRENT_DIED] = job_current_died,
			[EVENT_TIMEOUT] = job_timeout,
		}},
	[PHASE_RESTORE] = {true, OWN,
		{
			[EVENT_LOADED] = job_restored,
			[EVENT_CURRENT_DIED] = job_current_died,
			[EVENT_TIMEOUT] = job_timeout,
		}},
	[PHASE_CHECK] = {false, OWN,
		{
			[EVENT_CHECKED] = job_checked,
			[EVENT_CURRENT_DIED] = job_current_died,
			[EVENT_TIMEOUT] = job_timeout,
		}},
	[PHASE_HIBERNATE] = {true, OWN,
		{
			[EVENT_SAVED] = sleep_saved,
			[EVENT_CURRENT_DIED] = sleep_save_died,
			[EVENT_TIMEOUT] = sleep_timeout,
		}},
	[PHASE_HIBERNATE_END] = {true, KEEPER_STATE_HIBERNATED,
		{
			[EVENT_CURRENT_DIED] = sleep_ended,
		}},
	[PHASE_ASLEEP] = {true, KEEPER_STATE_HIBERNATED, {NULL}},
	[PHASE_WAKE_START] = {true, KEEPER_STATE_HIBERNATED,
		{
			[EVENT_CURRENT_READY] = sleep_ready,
			[EVENT_CURRENT_DIED] = sleep_wake_failed,
			[EVENT_TIMEOUT] = sleep_delayed,
		}},
	[PHASE_WAKE_LOAD] = {true, KEEPER_STATE_HIBERNATED,
		{
			[EVENT_LOADED] = sleep_loaded,
			[EVENT_CURRENT_DIED] = sleep_wake_failed,
			[EVENT_TIMEOUT] = sleep_wake_timeout,
		}},
};

void takeover_init(struct takeover *t)
{
	*t = (struct takeover){.file_fd = -1};
}

void takeover_event(struct keeper *k, enum takeover_event event, const void *payload)
{
	takeover_fn fn = rows[k->takeover.phase].on[event];

	if (fn)
		fn(k, payload);
}

void takeover_enter(struct keeper *k, enum takeover_phase phase, uint64_t ms)
{
	if (phase != PHASE_SERVING)
		hold_end(k);
	k->takeover.phase = phase;
	k->takeover.deadline = ms ? clock_ms() + ms : 0;
	keeper_set_timer(k);
	control_status(k);
}

void takeover_serve(struct keeper *k, const void *payload)
{
	grant_give(k);
	watch_begin(k);
	peers_send_waiting(k);
}

void takeover_done(struct keeper *k, bool taken_over)
{
	if (k->state == KEEPER_STATE_READY)
		k->failure[0] = '\0'; /* what ended the one before it is over */
	takeover_enter(k, PHASE_SERVING, 0);
	grant_give(k);
	if (k->state == KEEPER_STATE_READY)
		watch_begin(k);
	peers_go_on(k, taken_over);
	if (k->state == KEEPER_STATE_READY)
		peers_send_waiting(k);
	control_status(k);
}

void takeover_cancel(struct keeper *k, const char *why)
{
	enum takeover_phase phase = k->takeover.phase;

	if (k->next)
		move_cancel(k, why);
	else if (phase == PHASE_SERVING)
		return;
	else
		job_done(k, -ECANCELED, why);
	close_fd(&k->takeover.file_fd); /* its process is gone before it was asleep */
	takeover_enter(k, PHASE_SERVING, 0);
}

bool takeover_holds(const struct keeper *k)
{
	return rows[k->takeover.phase].holds;
}

uint32_t takeover_status(const struct keeper *k)
{
	uint32_t status = rows[k->takeover.phase].status;

	if (status == OWN || k->takeover.wake_failed)
		status = k->state;
	if (status == KEEPER_STATE_READY && device_is_used(k))
		return KEEPER_STATE_STARTING; /* as soon as the last client's bytes are worked off
					       */
	if (status == KEEPER_STATE_READY && k->binding.kind != KEEPER_BINDING_NONE)
		status = KEEPER_STATE_BOUND;
	return status;
}

void takeover_ask(struct device_process *d, uint32_t type, const void *payload, uint32_t size,
	int fd, uint32_t answer)
{
	d->owes |= 1u << answer;
	outbox_message(d, type, payload, size, fd);
}

void takeover_give(struct device_process *d, bool recover, uint32_t kinds, uint32_t images,
	uint32_t rounds, int fd)
{
	struct keeper_load load = {
		.recover = recover, .blame = d->keeper->takeover.blame, .own = fd >= 0};

	for (uint32_t i = 0; i < KEEPER_IMAGES; i++) {
		if (images & 1u << i && custody_get(&d->keeper->custody, KEEPER_CUSTODY_IMAGE, i))
			load.images |= 1u << i;
	}
	outbox_give(d, kinds, images, rounds);
	outbox_resume(d);
	takeover_ask(d, fd >= 0 ? KEEPER_DEVICE_LOAD_FILE : KEEPER_DEVICE_LOAD, &load, sizeof(load),
		fd, KEEPER_DEVICE_LOADED);
}

uint64_t takeover_since_ns(uint64_t ns)
{
	uint64_t now = clock_ns();

	return ns && now > ns ? now - ns : 0;
}

void takeover_check_time(struct keeper *k, uint64_t now)
{
	struct takeover *t = &k->takeover;

	if (!t->deadline || now < t->deadline)
		return;
	t->deadline = 0;
	takeover_event(k, EVENT_TIMEOUT, NULL);
}

uint64_t takeover_next_time(const struct keeper *k)
{
	return k->takeover.deadline ?: UINT64_MAX;
}
