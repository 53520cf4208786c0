/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * A vGPU whose VM owns hardware is in one of a few states (direct_private.h). Most have a job, done
 * in a process of its own (direct_job.c): entering the state starts it, and what it came to is an
 * event. One table says for each state and event what is done, which gives the next state. An event
 * that has no cell changes nothing.
 *
 *   PLANNING ─ row CREATING, with the plan ─ APPLYING ─ row DEFINED ─ GIVING ─ READY ⇄ BOUND
 *      │ bad: nothing was done                 │ bad                              ▲      │ left
 *      ▼                                       ▼                                  └─ SCRUBBING
 *    gone ◀─────── row deleted ◀─────────── UNDOING ◀─ RETIRING ◀─ row DELETING ◀── delete
 *                                     bad: STUCK, again   (nobody may open it any more; scrub)
 *
 * The row's phase is the journal. At start CREATING is undone, DELETING looked at, so that its
 * files are watched, then retired and undone, DEFINED looked at: all as planned is ready; another
 * start of the node plans and applies anew; anything else is failed, with what differs, and nothing
 * is forced.
 */
#include "control/direct_private.h"

#include "base/checked.h"
#include "control/gpus.h"
#include "control/tenant.h"
#include "control/vgpu.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* What an action answers when it has freed the vGPU. */
#define ENDED DIRECT_STATE_COUNT

typedef enum direct_state (*direct_action)(struct vgpu *v, const struct direct_result *result);

/* --- telling --- */

void direct_tell(struct vgpu *v, const struct error *err)
{
	struct vgpu_waiter done = v->direct->done;

	v->direct->done = (struct vgpu_waiter){0};
	if (done.done)
		done.done(done.data, err);
}

static void tell_result(struct vgpu *v, const struct direct_result *result)
{
	struct error err;

	error_set(&err, -result->code, "%s", result->text);
	direct_tell(v, &err);
}

static void set_failure(struct vgpu *v, const char *why)
{
	snprintf(v->failure, sizeof(v->failure), "%.*s", (int)sizeof(v->failure) - 1, why);
}

/* What the store misses, the next start finds a step behind. */
static void set_phase(struct vgpu *v, enum phase phase)
{
	struct error err;

	if (store_set_phase(v->d->store, v->def.name, phase, v->direct->what, &err) < 0)
		log_warning("%s", err.text);
	v->def.phase = phase;
}

/* --- actions: making --- */

/* Leaves no trace; tells `err`. */
static enum direct_state end_with(struct vgpu *v, const struct error *err)
{
	struct vgpu_waiter done = v->direct->done;
	struct vgpud *d = v->d;
	const struct definition def = v->def;

	vgpu_free(v);
	tenant_forget(d, &def);
	vgpud_share_changed(d, def.gpu);
	if (done.done)
		done.done(done.data, err);
	return ENDED;
}

static enum direct_state never_was(struct vgpu *v, const struct direct_result *result)
{
	struct error err;

	error_set(&err, -result->code, "%s", result->text);
	return end_with(v, &err);
}

static void take_plan(struct vgpu *v, const struct direct_result *result)
{
	struct stored_plan *stored = &v->direct->stored;

	stored->plan = *result->plan;
	/* What others stand on is undone with the last of them, to what it was before the first. */
	for (uint32_t i = 0; i < stored->plan.count; i++) {
		struct change *c = &stored->plan.list[i];
		const struct change *first = c->shared ? direct_shared(v, c) : NULL;
		if (first)
			memcpy(c->before, first->before, sizeof(c->before));
	}
	memcpy(stored->boot, result->boot, sizeof(stored->boot));
	stored->owner_uid = v->direct->owner.uid;
	stored->owner_gid = v->direct->owner.gid;
}

static enum direct_state planned(struct vgpu *v, const struct direct_result *result)
{
	struct error err;

	take_plan(v, result);
	if (store_insert_planned(v->d->store, &v->def, &v->direct->stored, v->direct->what, &err) <
		0)
		return end_with(v, &err);
	v->direct->in_store = true;
	if (direct_tell_rules(v, RULES_TAKE, NULL, &err) == 0)
		return DIRECT_APPLYING;
	v->direct->code = err.code;
	set_failure(v, err.text);
	return DIRECT_UNDOING;
}

/* What the store misses, the next start carries out once more, which changes nothing. */
static void note_carried_out(struct vgpu *v)
{
	struct stored_plan *stored = &v->direct->stored;
	struct error err;

	if (stored->boot[0] != DIRECT_BOOT_BEGUN)
		return;
	memmove(stored->boot, stored->boot + 1, strlen(stored->boot));
	if (store_set_plan(v->d->store, v->def.name, stored, v->direct->what, &err) < 0)
		log_warning("%s", err.text);
}

static enum direct_state is_ready(struct vgpu *v, const struct direct_result *result)
{
	note_carried_out(v);
	v->failure[0] = '\0';
	direct_take_files(v, &result->files);
	direct_watch(v);
	direct_scan(v);
	if (result->done)
		events_add(&v->d->events, v->def.name,
			"ready: %s is set aside for its VM (%u changes made)",
			v->direct->stored.plan.device, result->done);
	return DIRECT_READY;
}

static enum direct_state undo_with(struct vgpu *v, int code, const char *why)
{
	v->stopping = true;
	v->direct->code = code;
	set_failure(v, why);
	return DIRECT_UNDOING;
}

static enum direct_state undo_creation(struct vgpu *v, const struct direct_result *result)
{
	direct_note(v, RULES_NOT_TAKEN, NULL);
	return undo_with(v, -result->code, result->text);
}

/*
 * From here on it is defined: it is not undone, but gone on with, by whoever comes after. Whose
 * data is in the GPU is on the disk before its owner may open it.
 */
static enum direct_state applied(struct vgpu *v, const struct direct_result *result)
{
	struct error err;

	int r = store_set_phase(v->d->store, v->def.name, PHASE_DEFINED, v->direct->what, &err);
	if (r == 0) {
		v->def.phase = PHASE_DEFINED;
		r = direct_tell_rules(v, RULES_TAKEN, NULL, &err);
	}
	if (r == 0)
		return DIRECT_GIVING;
	direct_note(v, RULES_NOT_TAKEN, NULL);
	set_phase(v, PHASE_DELETING);
	return undo_with(v, err.code, err.text);
}

static enum direct_state created(struct vgpu *v, const struct direct_result *result)
{
	events_add(&v->d->events, v->def.name, "created on %s, type %s: %s", v->def.gpu,
		v->def.type.name, v->direct->stored.plan.device);
	is_ready(v, result);
	v->direct->state = DIRECT_READY; /* for whoever is told */
	direct_tell(v, NULL);
	return DIRECT_READY;
}

static enum direct_state not_given(struct vgpu *v, const struct direct_result *result)
{
	set_phase(v, PHASE_DELETING);
	v->direct->code = -result->code;
	set_failure(v, result->text);
	direct_note(v, RULES_SCRUB, NULL);
	return DIRECT_RETIRING;
}

/* --- actions: after a start --- */

static enum direct_state has_failed(struct vgpu *v, const struct direct_result *result)
{
	direct_unwatch(v);
	v->vm.pid = 0;
	set_failure(v, result->text);
	events_add(&v->d->events, v->def.name, "failed: %s", result->text);
	return DIRECT_FAILED;
}

static enum direct_state other_boot(struct vgpu *v, const struct direct_result *result)
{
	events_add(&v->d->events, v->def.name,
		"the node was started anew: what its VM needs is set up again");
	return DIRECT_REPLANNING;
}

static enum direct_state replanned(struct vgpu *v, const struct direct_result *result)
{
	struct error err;

	take_plan(v, result);
	snprintf(v->direct->stored.boot, sizeof(v->direct->stored.boot), "%c%.38s",
		DIRECT_BOOT_BEGUN, result->boot);
	if (store_set_plan(v->d->store, v->def.name, &v->direct->stored, v->direct->what, &err) ==
		0)
		return DIRECT_REAPPLYING;
	set_failure(v, err.text);
	return DIRECT_FAILED;
}

/* Its GPU was gone for a while, or is to be looked at again. */
static enum direct_state check(struct vgpu *v, const struct direct_result *result)
{
	direct_unwatch(v);
	v->vm.pid = 0;
	return DIRECT_CHECKING;
}

/* --- actions: a VM --- */

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

static enum direct_state is_bound(struct vgpu *v, const struct direct_result *result)
{
	struct direct *x = v->direct;
	struct error err;

	x->clean = false;
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

static enum direct_state scrub(struct vgpu *v, const struct direct_result *result)
{
	if (v->def.method != METHOD_PASSTHROUGH)
		return DIRECT_READY;
	begin_emptying(v);
	return DIRECT_SCRUBBING;
}

static enum direct_state left(struct vgpu *v, const struct direct_result *result)
{
	v->vm.pid = 0;
	direct_note(v, RULES_LEAVE, NULL);
	events_add(&v->d->events, v->def.name, "released");
	return scrub(v, result);
}

/* --- actions: the end --- */

static enum direct_state undo(struct vgpu *v, const struct direct_result *result)
{
	direct_unwatch(v);
	if (v->def.phase == PHASE_DELETING)
		direct_note(v, RULES_GIVE_BACK, NULL);
	return DIRECT_UNDOING;
}

static enum direct_state retire(struct vgpu *v, const struct direct_result *result)
{
	v->vm.pid = 0;
	if (direct_is_empty(v))
		return undo(v, result);
	begin_emptying(v);
	return DIRECT_RETIRING;
}

/* Its deletion goes on, and who opens it meanwhile is seen. */
static enum direct_state looked(struct vgpu *v, const struct direct_result *result)
{
	direct_take_files(v, &result->files);
	direct_watch(v);
	return DIRECT_RETIRING;
}

/* Whoever had it open when it was to be taken away may have left something. */
static enum direct_state undo_again(struct vgpu *v, const struct direct_result *result)
{
	bool held = v->direct->held;

	v->direct->held = false;
	if (!held)
		return undo(v, result);
	begin_emptying(v);
	return DIRECT_RETIRING;
}

/* Somebody asked for its deletion while it was scrubbed. */
static bool is_to_go(const struct vgpu *v)
{
	return v->def.phase == PHASE_DELETING;
}

static enum direct_state not_clean(struct vgpu *v, const struct direct_result *result);

static enum direct_state scrubbed(struct vgpu *v, const struct direct_result *result)
{
	struct direct *x = v->direct;

	if (x->touched) {
		const struct direct_result touched = touched_result(v);
		x->opened = true; /* it is emptied again when nobody has it */
		return not_clean(v, &touched);
	}
	x->scrub = result->scrub;
	x->clean = x->watched && !x->opened && !x->seen_pid;
	direct_note_scrub(v, &x->scrub);
	events_add(&v->d->events, v->def.name,
		"its GPU is empty: %llu MiB were zeroed and read back",
		(unsigned long long)(x->scrub.bytes >> 20));
	if (is_to_go(v))
		return retire(v, NULL);
	direct_scan(v);
	x->state = DIRECT_READY;
	direct_tell(v, NULL);
	return DIRECT_READY;
}

static enum direct_state not_clean(struct vgpu *v, const struct direct_result *result)
{
	if (result->scrub.done)
		v->direct->scrub = result->scrub;
	direct_note_scrub(v, &result->scrub);
	events_add(&v->d->events, v->def.name, "not scrubbed: %s", result->text);
	if (is_to_go(v))
		return retire(v, NULL);
	direct_scan(v);
	v->direct->state = DIRECT_READY;
	tell_result(v, result);
	return DIRECT_READY;
}

static enum direct_state stays(struct vgpu *v, const struct direct_result *result);

static enum direct_state empty_and_undo(struct vgpu *v, const struct direct_result *result)
{
	if (v->direct->touched) {
		const struct direct_result touched = touched_result(v);
		return stays(v, &touched);
	}
	if (result->scrub.done) {
		v->direct->scrub = result->scrub;
		direct_note_scrub(v, &result->scrub);
	}
	return undo(v, result);
}

/* It cannot be emptied, so nobody else may have the GPU: the vGPU stays its owner's. */
static enum direct_state stays(struct vgpu *v, const struct direct_result *result)
{
	struct direct *x = v->direct;

	if (result->scrub.done)
		x->scrub = result->scrub;
	direct_note_scrub(v, &result->scrub);
	v->stopping = false;
	set_phase(v, PHASE_DEFINED);
	events_add(&v->d->events, v->def.name, "not deleted: %s", result->text);
	tell_result(v, result);
	return DIRECT_REAPPLYING;
}

static enum direct_state ended(struct vgpu *v, const struct direct_result *result)
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
	return end_with(v, x->code ? &why : NULL);
}

static int on_retry(sd_event_source *source, uint64_t usec, void *data)
{
	struct vgpu *v = data;

	v->direct->retry = sd_event_source_disable_unref(v->direct->retry);
	direct_event(v, DIRECT_RETRY, NULL);
	return 0;
}

static enum direct_state stuck(struct vgpu *v, const struct direct_result *result)
{
	struct direct *x = v->direct;
	uint64_t ms =
		MIN((uint64_t)DIRECT_RETRY_MS << MIN(x->attempts, 8u), (uint64_t)DIRECT_RETRY_MAX);

	x->held = result->code == -EBUSY && v->def.phase == PHASE_DELETING &&
		  v->def.method == METHOD_PASSTHROUGH;
	if (x->attempts++ == 0)
		events_add(&v->d->events, v->def.name, "not undone yet: %s", result->text);
	if (v->def.phase == PHASE_CREATING && x->done.done) { /* why there is something to undo */
		struct error err;
		error_set(&err, x->code, "%s", v->failure);
		direct_tell(v, &err);
	}
	if (v->def.phase == PHASE_DELETING)
		direct_note(v, RULES_STUCK, result->text);
	set_failure(v, result->text);
	x->retry = sd_event_source_disable_unref(x->retry);
	if (sd_event_add_time_relative(
		    v->d->event, &x->retry, CLOCK_MONOTONIC, ms * 1000, 100000, on_retry, v) < 0)
		log_error("%s: no timer", v->def.name);
	tell_result(v, result);
	return DIRECT_STUCK;
}

/* --- the table --- */

/* clang-format off */
static const direct_action actions[DIRECT_STATE_COUNT][DIRECT_EVENT_COUNT] = {
	[DIRECT_PLANNING]   = {[DIRECT_DONE] = planned, [DIRECT_BAD] = never_was},
	[DIRECT_APPLYING]   = {[DIRECT_DONE] = applied, [DIRECT_BAD] = undo_creation},
	[DIRECT_GIVING]     = {[DIRECT_DONE] = created, [DIRECT_BAD] = not_given},
	[DIRECT_CHECKING]   = {[DIRECT_DONE] = is_ready, [DIRECT_BAD] = has_failed,
			       [DIRECT_OTHER_BOOT] = other_boot},
	[DIRECT_REPLANNING] = {[DIRECT_DONE] = replanned, [DIRECT_BAD] = has_failed},
	[DIRECT_REAPPLYING] = {[DIRECT_DONE] = is_ready, [DIRECT_BAD] = has_failed},
	/* rule 1: one VM has it; rule 5: nobody else sees what it left */
	[DIRECT_READY]      = {[DIRECT_OPENED] = is_bound, [DIRECT_LEFT] = left,
			       [DIRECT_DELETE] = retire, [DIRECT_SCRUB] = scrub,
			       [DIRECT_RETRY] = check},
	[DIRECT_BOUND]      = {[DIRECT_OPENED] = is_bound, [DIRECT_LEFT] = left,
			       [DIRECT_RETRY] = check},
	[DIRECT_SCRUBBING]  = {[DIRECT_DONE] = scrubbed, [DIRECT_BAD] = not_clean},
	[DIRECT_LOOKING]    = {[DIRECT_DONE] = looked, [DIRECT_BAD] = stays},
	[DIRECT_RETIRING]   = {[DIRECT_DONE] = empty_and_undo, [DIRECT_BAD] = stays},
	[DIRECT_UNDOING]    = {[DIRECT_DONE] = ended, [DIRECT_BAD] = stuck},
	[DIRECT_STUCK]      = {[DIRECT_RETRY] = undo_again, [DIRECT_DELETE] = undo_again},
	[DIRECT_FAILED]     = {[DIRECT_DELETE] = retire, [DIRECT_RETRY] = check},
};
/* clang-format on */

void direct_event(struct vgpu *v, enum direct_event event, const struct direct_result *result)
{
	direct_action act = actions[v->direct->state][event];

	if (!act)
		return;
	enum direct_state next = act(v, result);
	if (next == ENDED)
		return;
	v->direct->state = next;
	if (direct_has_job(next))
		direct_work(v);
}

/* --- a vGPU's part --- */

struct direct *direct_new(void)
{
	struct direct *x = calloc(1, sizeof(*x));

	if (!x)
		return NULL;
	void *page = mmap(NULL, sizeof(*x->progress), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED) {
		free(x);
		return NULL;
	}
	x->progress = page;
	return x;
}

void direct_free(struct vgpu *v)
{
	struct direct *x = v->direct;

	if (!x)
		return;
	direct_unwatch(v);
	sd_event_source_disable_unref(x->retry);
	sd_event_source_disable_unref(x->later);
	munmap(x->progress, sizeof(*x->progress));
	free(x);
	v->direct = NULL;
}
