/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hibernation: the state goes to a file, the device process ends, and what stays is the file's
 * descriptor, the connections and what a guest gave. The first byte of a client or a VMM, the first
 * kick of a guest, or a new connection wakes it. Nothing is read here: what was said is still there
 * for the process that wakes up.
 *
 * A process that is killed from outside while it wakes up is followed by another one, as in a
 * recovery. When waking fails by itself the file is kept and nothing but WAKE tries again. When
 * nobody is left to wake up for, or nobody was there when it fell asleep and it cannot be woken,
 * the file is let go and a fresh process started.
 */
#include "keeper/keeper.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define SLEEP_SHADER_BYTES (4u << 20) /* that much memory is worth the time it saves waking */

int sleep_hibernate(struct keeper *k, int fd, bool exact, char *why, size_t size)
{
	const struct keeper_save save = {.exact = exact, .stop = true};
	struct takeover *t = &k->takeover;

	t->file_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (t->file_fd < 0) {
		snprintf(why, size, "the file cannot be kept: %s", strerror(errno));
		return -errno;
	}
	t->bytes = 0;
	t->lossy = false;
	t->paused_at = 0;
	takeover_enter(k, PHASE_HIBERNATE, k->config->step_ms * KEEPER_FILE_STEPS);
	takeover_ask(k->current, KEEPER_DEVICE_SAVE_FILE, &save, sizeof(save), t->file_fd,
		KEEPER_DEVICE_SAVED);
	job_progress(k, "saving");
	return 0;
}

static void sleep_not(struct keeper *k, int code, const char *why)
{
	struct device_process *d = k->current;

	close_fd(&k->takeover.file_fd);
	d->late_answers = d->owes;
	outbox_message(d, KEEPER_DEVICE_THAW, NULL, 0, -1);
	job_done(k, code, why);
	takeover_done(k, false);
}

void sleep_saved(struct keeper *k, const void *payload)
{
	const struct keeper_saved *saved = payload;
	struct takeover *t = &k->takeover;

	if (saved->code) {
		sleep_not(k, saved->code, saved->text);
		return;
	}
	t->bytes = saved->bytes;
	t->lossy = saved->lossy;
	memcpy(t->why, saved->text, sizeof(t->why));
	shaders_collect(k);
	takeover_enter(k, PHASE_HIBERNATE_END, 0);
	device_kill(k->current, "its state is in a file");
}

void sleep_timeout(struct keeper *k, const void *payload)
{
	sleep_not(k, -ETIMEDOUT, "the state was not saved in time");
}

void sleep_save_died(struct keeper *k, const void *payload)
{
	close_fd(&k->takeover.file_fd);
	job_current_died(k, payload);
}

/* --- asleep --- */

static void sleep_on_kick(void *data, uint32_t events)
{
	sleep_wake(data);
}

static void sleep_unwatch(struct keeper *k)
{
	struct takeover *t = &k->takeover;

	peers_listen_to(k, false);
	for (unsigned i = 0; i < KEEPER_MAX_RINGS; i++) {
		loop_remove(t->kick_sources[i]);
		t->kick_sources[i] = NULL;
	}
}

static void sleep_watch(struct keeper *k)
{
	struct takeover *t = &k->takeover;

	peers_listen_to(k, true);
	for (unsigned i = 0; i < KEEPER_MAX_RINGS; i++) {
		const struct custody_item *kick = custody_get(&k->custody, KEEPER_CUSTODY_KICK, i);
		/* What cannot be waited for is no eventfd, so it never wakes anybody. */
		if (kick && loop_add_fd(k->loop, kick->fd, EPOLLIN, sleep_on_kick, k,
				    &t->kick_sources[i]) < 0)
			t->kick_sources[i] = NULL;
	}
}

/* Takes it out of custody with whatever it was for; a fresh process follows. */
static void sleep_discard(struct keeper *k)
{
	struct takeover *t = &k->takeover;

	sleep_unwatch(k);
	close_fd(&t->file_fd);
	t->wake_failed = false;
	log_info("nobody is left to wake up for");
	custody_finish(&k->custody);
	takeover_enter(k, PHASE_SERVING, 0);
	peers_go_on(k, false);
	peers_end_sent(k);
	int r = device_start(k);
	if (r == 0)
		return;
	snprintf(k->failure, sizeof(k->failure), "no new device process could be started: %s",
		strerror(-r));
	device_fail(k);
}

void sleep_peer_gone(struct keeper *k)
{
	if (k->takeover.had_peers && !peers_alive(k))
		sleep_discard(k);
}

void sleep_ended(struct keeper *k, const void *payload)
{
	struct takeover *t = &k->takeover;

	/* Screens are memory too, of pictures that whoever wakes up makes anew. */
	custody_drop_kinds(
		&k->custody, (CUSTODY_STATE & ~CUSTODY_BIT(SHADERS)) | CUSTODY_BIT(SCREEN));
	if (custody_bytes(&k->custody, CUSTODY_BIT(SHADERS)) > SLEEP_SHADER_BYTES)
		custody_drop_kinds(&k->custody, CUSTODY_BIT(SHADERS));
	k->state = KEEPER_STATE_HIBERNATED;
	k->failure[0] = '\0';
	t->had_peers = peers_sent(k);
	t->wake_failed = false;
	takeover_enter(k, PHASE_ASLEEP, 0);
	sleep_watch(k);
	log_info("hibernated: %llu bytes", (unsigned long long)t->bytes);
	if (t->lossy)
		control_event(k, "hibernated with a loss: %.200s", t->why);
	job_done(k, 0, t->why);
	if (peers_waiting(k))
		sleep_wake(k);
	else
		sleep_peer_gone(k);
}

/* --- waking --- */

/* Nothing but WAKE tries again; unless nobody would, then the next client gets a fresh process. */
static void sleep_give_up(struct keeper *k)
{
	struct takeover *t = &k->takeover;

	k->state = KEEPER_STATE_FAILED;
	t->wake_failed = true;
	log_error("waking failed: %s", k->failure);
	control_event(k, "waking failed: %.160s; %s", k->failure,
		t->had_peers ? "the state is kept"
			     : "nobody used it: its state is let go, a fresh process starts");
	takeover_enter(k, PHASE_ASLEEP, 0);
	job_done(k, -EIO, k->failure);
	peers_undo_closed(k);
	if (t->had_peers)
		sleep_peer_gone(k);
	else
		sleep_discard(k);
}

static void sleep_start(struct keeper *k)
{
	uint32_t served = k->current->served; /* the state is still that binding's */
	bool restored = k->current->restored;
	int r = device_start(k);

	if (r < 0) {
		snprintf(k->failure, sizeof(k->failure), "no device process could be started: %s",
			strerror(-r));
		sleep_give_up(k);
		return;
	}
	k->current->staging = true;
	k->current->served = served;
	k->current->restored = restored;
	takeover_enter(k, PHASE_WAKE_START, 0);
}

void sleep_wake(struct keeper *k)
{
	struct takeover *t = &k->takeover;

	if (t->phase != PHASE_ASLEEP)
		return; /* two that wake it can come at once, in one batch of events */
	sleep_unwatch(k);
	t->wake_failed = false;
	t->paused_at = clock_ns();
	sleep_start(k);
}

void sleep_ready(struct keeper *k, const void *payload)
{
	struct takeover *t = &k->takeover;

	lseek(t->file_fd, 0, SEEK_SET);
	takeover_enter(k, PHASE_WAKE_LOAD, k->config->step_ms * KEEPER_FILE_STEPS);
	if (k->shaders.given && !custody_get(&k->custody, KEEPER_CUSTODY_SHADERS, 0))
		shaders_give(k->current); /* they were too large to be kept in memory */
	takeover_give(k->current, false, CUSTODY_ALL & ~CUSTODY_BIT(SCREEN), 0, 0, t->file_fd);
}

void sleep_loaded(struct keeper *k, const void *payload)
{
	const struct keeper_saved *loaded = payload;
	struct takeover *t = &k->takeover;
	struct device_process *d = k->current;

	if (loaded->code) {
		snprintf(d->failed_text, sizeof(d->failed_text), "%s", loaded->text);
		d->failed_said = true;
		device_kill(d, "it could not load the state"); /* sleep_wake_failed() follows */
		return;
	}
	d->staging = false;
	custody_merge(&k->custody, &d->staged, false);
	close_fd(&t->file_fd);
	t->wakes++;
	t->served_at = clock_ms();
	t->last_pause_ns = takeover_since_ns(t->paused_at);
	t->last_replay_ns = 0;
	if (loaded->lossy) {
		t->lossy = true;
		control_event(k, "woken with a loss: %.180s; pause %llu ms", loaded->text,
			(unsigned long long)(t->last_pause_ns / 1000000));
	} else {
		control_event(k, "woken: pause %llu ms",
			(unsigned long long)(t->last_pause_ns / 1000000));
	}
	job_done(k, 0, loaded->text);
	takeover_done(k, true);
}

void sleep_wake_timeout(struct keeper *k, const void *payload)
{
	device_kill(k->current, "it did not load the state in time");
}

void sleep_wake_failed(struct keeper *k, const void *payload)
{
	struct takeover *t = &k->takeover;

	if (t->blame || k->stopping) {
		sleep_give_up(k);
		return;
	}
	/* Killed from outside: what is in the file is as good as it was. */
	log_warning("%s; another one wakes up", k->failure);
	peers_undo_closed(k);
	uint64_t delay = recover_killed(k);
	if (delay)
		takeover_enter(k, PHASE_WAKE_START, delay);
	else
		sleep_start(k);
}

void sleep_delayed(struct keeper *k, const void *payload)
{
	sleep_start(k);
}
