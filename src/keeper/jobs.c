/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What vgpud asks for and waits for: one at a time, ended by one DONE. A second one, and one that
 * does not fit the state of the vGPU, is refused by a DONE of its own, which changes nothing.
 */
#include "keeper/keeper.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

typedef int (*job_begin_fn)(struct keeper *k, const struct packet *p, char *why, size_t size);

struct job_kind {
	const char *name;
	bool asleep; /* needs a hibernated vGPU; else one whose process is ready */
	job_begin_fn begin;
};

static void job_send_done(struct keeper *k, const struct keeper_done *done)
{
	control_send(k, KEEPER_CONTROL_DONE, done, -1);
}

void job_done(struct keeper *k, int code, const char *text)
{
	struct takeover *t = &k->takeover;
	struct keeper_done done = {.code = code, .bytes = t->bytes, .lossy = t->lossy};

	if (!t->job.type)
		return;
	done.pause_ns = t->paused_at ? takeover_since_ns(t->paused_at) : 0;
	done.total_ns = takeover_since_ns(t->job.began_ns);
	if (t->phase == PHASE_ASLEEP)
		done.left_bytes = custody_bytes(&k->custody, CUSTODY_ALL & ~CUSTODY_GUEST) +
				  keeper_private_bytes();
	snprintf(done.text, sizeof(done.text), "%s",
		code < 0 && !text[0] ? strerror(MIN(-code, 4095)) : text);
	t->job.type = 0;
	t->paused_at = 0;
	job_send_done(k, &done);
}

void job_progress(struct keeper *k, const char *step)
{
	struct takeover *t = &k->takeover;
	struct keeper_progress progress = {.bytes = t->bytes, .total_bytes = t->bytes};

	if (!t->job.type)
		return;
	if (t->left != UINT64_MAX)
		progress.total_bytes = t->bytes + MIN(t->left, UINT64_MAX - t->bytes);
	snprintf(progress.step, sizeof(progress.step), "%s", step);
	control_send(k, KEEPER_CONTROL_PROGRESS, &progress, -1);
}

/* --- how each begins --- */

static int begin_move(struct keeper *k, const struct packet *p, char *why, size_t size)
{
	const struct keeper_move *move = (const void *)p->payload;

	if (k->current->restored && !peers_sent(k)) {
		snprintf(why, size,
			"it holds a restored state that no guest uses, which would be lost (move "
			"first, then restore there)");
		return -EBUSY;
	}
	k->takeover.job.exact = move->exact;
	k->takeover.job.at_once = move->at_once;
	return move_begin(k, move, why, size);
}

static int begin_snapshot(struct keeper *k, const struct packet *p, char *why, size_t size)
{
	const struct keeper_save *asked = (const void *)p->payload;
	const struct keeper_save save = {.exact = asked->exact, .stop = false};

	takeover_enter(k, PHASE_SNAPSHOT, k->config->step_ms * KEEPER_FILE_STEPS);
	takeover_ask(k->current, KEEPER_DEVICE_SAVE_FILE, &save, sizeof(save), p->fd,
		KEEPER_DEVICE_SAVED);
	job_progress(k, "saving");
	return 0;
}

static int begin_restore(struct keeper *k, const struct packet *p, char *why, size_t size)
{
	const struct keeper_load load = {.recover = false};

	if (k->binding.kind != KEEPER_BINDING_NONE) {
		snprintf(why, size,
			"restore under a guest or client that has moved on since is refused (stop "
			"it first: %.120s)",
			k->binding.label);
		return -EBUSY;
	}
	takeover_enter(k, PHASE_RESTORE, k->config->step_ms * KEEPER_FILE_STEPS);
	takeover_ask(k->current, KEEPER_DEVICE_LOAD_FILE, &load, sizeof(load), p->fd,
		KEEPER_DEVICE_LOADED);
	job_progress(k, "loading");
	return 0;
}

static int begin_hibernate(struct keeper *k, const struct packet *p, char *why, size_t size)
{
	const struct keeper_save *asked = (const void *)p->payload;

	return sleep_hibernate(k, p->fd, asked->exact, why, size);
}

static int begin_wake(struct keeper *k, const struct packet *p, char *why, size_t size)
{
	job_progress(k, "loading");
	sleep_wake(k);
	return 0;
}

static int begin_check(struct keeper *k, const struct packet *p, char *why, size_t size)
{
	takeover_enter(k, PHASE_CHECK, k->config->step_ms);
	takeover_ask(k->current, KEEPER_DEVICE_CHECK, NULL, 0, -1, KEEPER_DEVICE_CHECKED);
	return 0;
}

static const struct job_kind kinds[KEEPER_CONTROL_MESSAGE_COUNT] = {
	[KEEPER_CONTROL_MOVE] = {"a move", false, begin_move},
	[KEEPER_CONTROL_SNAPSHOT] = {"a snapshot", false, begin_snapshot},
	[KEEPER_CONTROL_RESTORE] = {"a restore", false, begin_restore},
	[KEEPER_CONTROL_HIBERNATE] = {"hibernation", false, begin_hibernate},
	[KEEPER_CONTROL_WAKE] = {"waking", true, begin_wake},
	[KEEPER_CONTROL_CHECK] = {"a check", false, begin_check},
};

/* Why a vGPU that serves, or would, cannot do it now; NULL: it can. */
static const char *job_obstacle(const struct keeper *k)
{
	if (k->state == KEEPER_STATE_FAILED)
		return k->failure;
	if (k->state != KEEPER_STATE_READY || !k->current->pid || k->stopping)
		return "its device process is starting";
	if (device_is_used(k))
		return "its last client's work is being finished";
	if (k->current->owes)
		return "its device process has not answered the last request yet";
	return NULL;
}

static int job_refuse(const struct keeper *k, const struct job_kind *kind, char *why, size_t size)
{
	const struct takeover *t = &k->takeover;
	bool asleep = t->phase == PHASE_ASLEEP;

	if (t->job.type) {
		snprintf(why, size, "%s is under way", kinds[t->job.type].name);
	} else if (asleep && !kind->asleep) {
		snprintf(why, size, "it is hibernated (wake it first)");
	} else if (t->phase != PHASE_SERVING && !asleep) {
		snprintf(why, size, "%s is under way",
			takeover_status(k) == KEEPER_STATE_RECOVERING ? "a recovery" : "waking");
	} else if (kind->asleep) {
		snprintf(why, size, "it is not hibernated");
		return asleep ? 0 : -EBUSY;
	} else {
		const char *obstacle = job_obstacle(k);
		snprintf(why, size, "%s", obstacle ?: "");
		return obstacle ? -EAGAIN : 0;
	}
	return -EBUSY;
}

void job_request(struct keeper *k, struct packet *p)
{
	struct takeover *t = &k->takeover;
	struct keeper_done refusal = {0};

	refusal.code = job_refuse(k, &kinds[p->type], refusal.text, sizeof(refusal.text));
	if (!refusal.code) {
		refusal.text[0] = '\0';
		t->job = (struct job){.type = p->type, .began_ns = clock_ns()};
		t->bytes = 0;
		t->left = UINT64_MAX;
		t->lossy = false;
		t->paused_at = 0;
		refusal.code = kinds[p->type].begin(k, p, refusal.text, sizeof(refusal.text));
		if (refusal.code)
			t->job.type = 0;
	}
	if (refusal.code)
		job_send_done(k, &refusal);
}

/* --- how those end that are no takeover --- */

static void job_over(struct keeper *k, int code, const char *text)
{
	job_done(k, code, text);
	takeover_done(k, false);
}

void job_snapshot_saved(struct keeper *k, const void *payload)
{
	const struct keeper_saved *saved = payload;
	struct takeover *t = &k->takeover;

	outbox_message(k->current, KEEPER_DEVICE_THAW, NULL, 0, -1);
	t->bytes = saved->bytes;
	t->lossy = saved->lossy;
	t->paused_at = clock_ns() - MIN(saved->stopped_ns, takeover_since_ns(t->job.began_ns));
	job_over(k, saved->code, saved->text);
}

void job_restored(struct keeper *k, const void *payload)
{
	const struct keeper_saved *loaded = payload;

	k->takeover.bytes = loaded->bytes;
	k->takeover.lossy = loaded->lossy;
	if (loaded->code) {
		job_done(k, loaded->code, loaded->text);
		device_replace(k, "it could not load a state");
		return;
	}
	k->current->restored = true;
	control_event(k, "restored, to be looked at: no guest or client takes it up, and it goes "
			 "when the next one leaves");
	job_done(k, 0,
		loaded->lossy ? loaded->text
			      : "its screens can be looked at; no guest or client takes it up");
	takeover_done(k, false);
}

void job_checked(struct keeper *k, const void *payload)
{
	const struct keeper_checked *checked = payload;

	if (checked->text[0])
		control_send(k, KEEPER_CONTROL_CHECKED, checked, -1);
	else
		job_over(k, 0, "");
}

void job_timeout(struct keeper *k, const void *payload)
{
	struct device_process *d = k->current;

	d->late_answers = d->owes;
	if (k->takeover.phase == PHASE_RESTORE) {
		job_done(k, -ETIMEDOUT, "the state was not loaded in time");
		device_replace(k, "it did not load a state in time");
		return;
	}
	outbox_message(d, KEEPER_DEVICE_THAW, NULL, 0, -1);
	job_over(k, -ETIMEDOUT, "the device process did not answer in time");
}

void job_current_died(struct keeper *k, const void *payload)
{
	job_done(k, -EIO, k->failure);
	recover_begin(k, NULL);
}
