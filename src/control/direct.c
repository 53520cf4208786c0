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
#include "control/direct_actions.h"

#include "control/tenant.h"
#include "control/vgpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* --- telling --- */

void direct_tell(struct vgpu *v, const struct error *err)
{
	struct vgpu_waiter done = v->direct->done;

	v->direct->done = (struct vgpu_waiter){0};
	if (done.done)
		done.done(done.data, err);
}

void direct_tell_result(struct vgpu *v, const struct direct_result *result)
{
	struct error err;

	error_set(&err, -result->code, "%s", result->text);
	direct_tell(v, &err);
}

void direct_set_failure(struct vgpu *v, const char *why)
{
	snprintf(v->failure, sizeof(v->failure), "%.*s", (int)sizeof(v->failure) - 1, why);
}

void direct_set_phase(struct vgpu *v, enum phase phase)
{
	struct error err;

	if (store_set_phase(v->d->store, v->def.name, phase, v->direct->what, &err) < 0)
		log_warning("%s", err.text);
	v->def.phase = phase;
}

enum direct_state direct_end_with(struct vgpu *v, const struct error *err)
{
	struct vgpu_waiter done = v->direct->done;
	struct vgpud *d = v->d;
	const struct definition def = v->def;

	vgpu_free(v);
	tenant_forget(d, &def);
	vgpud_share_changed(d, def.gpu);
	if (done.done)
		done.done(done.data, err);
	return DIRECT_ENDED;
}

/* --- the table --- */

/* clang-format off */
static direct_action *const actions[DIRECT_STATE_COUNT][DIRECT_EVENT_COUNT] = {
	[DIRECT_PLANNING]   = {[DIRECT_DONE] = direct_planned, [DIRECT_BAD] = direct_never_was},
	[DIRECT_APPLYING]   = {[DIRECT_DONE] = direct_applied, [DIRECT_BAD] = direct_undo_creation},
	[DIRECT_GIVING]     = {[DIRECT_DONE] = direct_created, [DIRECT_BAD] = direct_not_given},
	[DIRECT_CHECKING]   = {[DIRECT_DONE] = direct_is_ready, [DIRECT_BAD] = direct_has_failed,
			       [DIRECT_OTHER_BOOT] = direct_other_boot},
	[DIRECT_REPLANNING] = {[DIRECT_DONE] = direct_replanned, [DIRECT_BAD] = direct_has_failed},
	[DIRECT_REAPPLYING] = {[DIRECT_DONE] = direct_is_ready, [DIRECT_BAD] = direct_has_failed},
	/* rule 1: one VM has it; rule 5: nobody else sees what it left */
	[DIRECT_READY]      = {[DIRECT_OPENED] = direct_is_bound, [DIRECT_LEFT] = direct_left,
			       [DIRECT_DELETE] = direct_retire, [DIRECT_SCRUB] = direct_scrub,
			       [DIRECT_RETRY] = direct_check},
	[DIRECT_BOUND]      = {[DIRECT_OPENED] = direct_is_bound, [DIRECT_LEFT] = direct_left,
			       [DIRECT_RETRY] = direct_check},
	[DIRECT_SCRUBBING]  = {[DIRECT_DONE] = direct_scrubbed, [DIRECT_BAD] = direct_not_clean},
	[DIRECT_LOOKING]    = {[DIRECT_DONE] = direct_looked, [DIRECT_BAD] = direct_stays},
	[DIRECT_RETIRING]   = {[DIRECT_DONE] = direct_empty_and_undo, [DIRECT_BAD] = direct_stays},
	[DIRECT_UNDOING]    = {[DIRECT_DONE] = direct_ended, [DIRECT_BAD] = direct_stuck},
	[DIRECT_STUCK]      = {[DIRECT_RETRY] = direct_undo_again, [DIRECT_DELETE] = direct_undo_again},
	[DIRECT_FAILED]     = {[DIRECT_DELETE] = direct_retire, [DIRECT_RETRY] = direct_check},
};
/* clang-format on */

void direct_event(struct vgpu *v, enum direct_event event, const struct direct_result *result)
{
	direct_action *act = actions[v->direct->state][event];

	if (!act)
		return;
	enum direct_state next = act(v, result);
	if (next == DIRECT_ENDED)
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
