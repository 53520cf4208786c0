/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM has the hardware and leaves it, what it left behind is emptied, and the vGPU goes. What
 * could not be emptied, or was opened meanwhile, stays its owner's.
 */
#include "control/direct_actions.h"

#include "base/checked.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* --- a VM --- */

/* Before a job that empties its memory. */
static void begin_emptying(struct vgpu *v)
{
	v->direct->touched = false;
	v->direct->progress->emptying = false;
	if (v->direct->files.count)
		direct_watch(v);
	direct_note(v, RULES_SCRUB, NULL);
}

/* What a job that emptied it came to, if somebody had its file open meanwhile. */
static struct direct_result touched_result(const struct vgpu *v)
{
	struct direct_result result = {.code = -EBUSY};

	snprintf(result.text, sizeof(result.text),
		"%s: somebody opened it while its memory was emptied (end that, and do it again)",
		v->direct->what);
	return result;
}

enum direct_state direct_is_bound(struct vgpu *v, const struct direct_result *result)
{
	struct direct *x = v->direct;
	struct error err;

	x->released = false;
	if (v->vm.pid) { /* another has it now */
		v->vm.pid = 0;
		direct_note(v, RULES_LEAVE, NULL);
	}
	/* Nobody can take it away again, so a rule that is broken is said, loudly. */
	if (direct_tell_rules(v, RULES_BIND, NULL, &err) < 0)
		events_add(&v->d->events, v->def.name, "bound against the rules: %s", err.text);
	v->vm.pid = x->seen_pid;
	memcpy(v->vm.label, x->seen, sizeof(v->vm.label));
	events_add(&v->d->events, v->def.name, "bound to %s", v->vm.label);
	return DIRECT_BOUND;
}

enum direct_state direct_scrub(struct vgpu *v, const struct direct_result *result)
{
	if (v->def.method != METHOD_PASSTHROUGH)
		return DIRECT_READY;
	begin_emptying(v);
	return DIRECT_SCRUBBING;
}

enum direct_state direct_left(struct vgpu *v, const struct direct_result *result)
{
	v->vm.pid = 0;
	direct_note(v, RULES_LEAVE, NULL);
	events_add(&v->d->events, v->def.name, "released");
	return direct_scrub(v, result);
}

/* --- the end --- */

static enum direct_state undo(struct vgpu *v, const struct direct_result *result)
{
	direct_unwatch(v);
	if (v->def.phase == PHASE_DELETING)
		direct_note(v, RULES_GIVE_BACK, NULL);
	return DIRECT_UNDOING;
}

enum direct_state direct_retire(struct vgpu *v, const struct direct_result *result)
{
	v->vm.pid = 0;
	if (direct_is_empty(v))
		return undo(v, result);
	begin_emptying(v);
	return DIRECT_RETIRING;
}

/* Its deletion goes on, and who opens it meanwhile is seen. */
enum direct_state direct_looked(struct vgpu *v, const struct direct_result *result)
{
	direct_take_files(v, &result->files);
	direct_watch(v);
	return DIRECT_RETIRING;
}

/* Whoever had it open when it was to be taken away may have left something. */
enum direct_state direct_undo_again(struct vgpu *v, const struct direct_result *result)
{
	if (!v->direct->held)
		return undo(v, result);
	begin_emptying(v);
	return DIRECT_RETIRING;
}

/* Somebody asked for its deletion while it was scrubbed. */
static bool is_to_go(const struct vgpu *v)
{
	return v->def.phase == PHASE_DELETING;
}

enum direct_state direct_scrubbed(struct vgpu *v, const struct direct_result *result)
{
	struct direct *x = v->direct;

	if (x->touched) {
		const struct direct_result touched = touched_result(v);
		x->opened = true; /* it is emptied again when nobody has it */
		return direct_not_clean(v, &touched);
	}
	x->scrub = result->scrub;
	direct_note_scrub(v, &x->scrub);
	events_add(&v->d->events, v->def.name,
		"its GPU is empty: %llu MiB were zeroed and read back",
		(unsigned long long)(x->scrub.bytes >> 20));
	if (is_to_go(v))
		return direct_retire(v, NULL);
	direct_scan(v);
	x->state = DIRECT_READY;
	direct_tell(v, NULL);
	return DIRECT_READY;
}

enum direct_state direct_not_clean(struct vgpu *v, const struct direct_result *result)
{
	if (result->scrub.done)
		v->direct->scrub = result->scrub;
	direct_note_scrub(v, &result->scrub);
	events_add(&v->d->events, v->def.name, "not scrubbed: %s", result->text);
	if (is_to_go(v))
		return direct_retire(v, NULL);
	direct_scan(v);
	v->direct->state = DIRECT_READY;
	direct_tell_result(v, result);
	return DIRECT_READY;
}

enum direct_state direct_empty_and_undo(struct vgpu *v, const struct direct_result *result)
{
	if (v->direct->touched) {
		const struct direct_result touched = touched_result(v);
		return direct_stays(v, &touched);
	}
	if (result->scrub.done) {
		v->direct->scrub = result->scrub;
		direct_note_scrub(v, &result->scrub);
	}
	return undo(v, result);
}

/* It cannot be emptied, so nobody else may have the GPU: the vGPU stays its owner's. */
enum direct_state direct_stays(struct vgpu *v, const struct direct_result *result)
{
	struct direct *x = v->direct;

	if (x->held && result->code == -ETIMEDOUT) /* its undoing is under way, and does not end */
		return direct_stuck(v, result);
	x->held = false;
	if (result->scrub.done)
		x->scrub = result->scrub;
	direct_note_scrub(v, &result->scrub);
	v->stopping = false;
	direct_set_phase(v, PHASE_DEFINED);
	events_add(&v->d->events, v->def.name, "not deleted: %s", result->text);
	direct_tell_result(v, result);
	return DIRECT_REAPPLYING;
}

enum direct_state direct_ended(struct vgpu *v, const struct direct_result *result)
{
	struct direct *x = v->direct;
	bool created = v->def.phase != PHASE_CREATING;
	struct error err, why;

	if (result->left)
		events_add(&v->d->events, v->def.name, "left as it is: %s", result->text);
	if (created && !x->malformed)
		direct_note(v, RULES_GIVEN_BACK, NULL);
	if (store_delete(v->d->store, v->def.name, x->what, &err) < 0)
		log_warning("%s: the row stays until the next start: %s", v->def.name, err.text);
	if (created)
		events_add(&v->d->events, v->def.name, "deleted");
	else if (!x->done.done)
		events_add(&v->d->events, v->def.name,
			"its creation, which an earlier vgpud began, is undone (%u changes)",
			result->done);
	error_set(&why, x->code, "%s", v->failure);
	return direct_end_with(v, x->code ? &why : NULL);
}

static int on_retry(sd_event_source *source, uint64_t usec, void *data)
{
	struct vgpu *v = data;

	v->direct->retry = sd_event_source_disable_unref(v->direct->retry);
	direct_event(v, DIRECT_RETRY, NULL);
	return 0;
}

enum direct_state direct_stuck(struct vgpu *v, const struct direct_result *result)
{
	struct direct *x = v->direct;
	uint64_t ms =
		MIN((uint64_t)DIRECT_RETRY_MS << MIN(x->attempts, 8u), (uint64_t)DIRECT_RETRY_MAX);

	x->held = (result->code == -EBUSY || result->code == -ETIMEDOUT) &&
		  v->def.phase == PHASE_DELETING && v->def.method == METHOD_PASSTHROUGH;
	if (x->attempts++ == 0)
		events_add(&v->d->events, v->def.name, "not undone yet: %s", result->text);
	if (v->def.phase == PHASE_CREATING && x->done.done) { /* why there is something to undo */
		struct error err;
		error_set(&err, x->code, "%s", v->failure);
		direct_tell(v, &err);
	}
	if (v->def.phase == PHASE_DELETING)
		direct_note(v, RULES_STUCK, result->text);
	direct_set_failure(v, result->text);
	x->retry = sd_event_source_disable_unref(x->retry);
	if (sd_event_add_time_relative(
		    v->d->event, &x->retry, CLOCK_MONOTONIC, ms * 1000, 100000, on_retry, v) < 0)
		log_error("%s: no timer", v->def.name);
	direct_tell_result(v, result);
	return DIRECT_STUCK;
}
