/* SPDX-License-Identifier: Apache-2.0 */
/* A vGPU whose VM owns hardware is made; or was, and is looked at after a start of vgpud. */
#include "control/direct_actions.h"

#include <stdio.h>
#include <string.h>

enum direct_state direct_never_was(struct vgpu *v, const struct direct_result *result)
{
	struct error err;

	error_set(&err, -result->code, "%s", result->text);
	return direct_end_with(v, &err);
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

enum direct_state direct_planned(struct vgpu *v, const struct direct_result *result)
{
	struct error err;

	take_plan(v, result);
	if (store_insert_planned(v->d->store, &v->def, &v->direct->stored, v->direct->what, &err) <
		0)
		return direct_end_with(v, &err);
	v->direct->in_store = true;
	if (direct_tell_rules(v, RULES_TAKE, NULL, &err) == 0)
		return DIRECT_APPLYING;
	v->direct->code = err.code;
	direct_set_failure(v, err.text);
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

enum direct_state direct_is_ready(struct vgpu *v, const struct direct_result *result)
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
	direct_set_failure(v, why);
	return DIRECT_UNDOING;
}

enum direct_state direct_undo_creation(struct vgpu *v, const struct direct_result *result)
{
	direct_note(v, RULES_NOT_TAKEN, NULL);
	return undo_with(v, -result->code, result->text);
}

/*
 * From here on it is defined: it is not undone, but gone on with, by whoever comes after. Whose
 * data is in the GPU is on the disk before its owner may open it.
 */
enum direct_state direct_applied(struct vgpu *v, const struct direct_result *result)
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
	direct_set_phase(v, PHASE_DELETING);
	return undo_with(v, err.code, err.text);
}

enum direct_state direct_created(struct vgpu *v, const struct direct_result *result)
{
	events_add(&v->d->events, v->def.name, "created on %s, type %s: %s", v->def.gpu,
		v->def.type.name, v->direct->stored.plan.device);
	direct_is_ready(v, result);
	v->direct->state = DIRECT_READY; /* for whoever is told */
	direct_tell(v, NULL);
	return DIRECT_READY;
}

enum direct_state direct_not_given(struct vgpu *v, const struct direct_result *result)
{
	direct_set_phase(v, PHASE_DELETING);
	v->direct->code = -result->code;
	direct_set_failure(v, result->text);
	direct_note(v, RULES_SCRUB, NULL);
	return DIRECT_RETIRING;
}

/* --- after a start --- */

enum direct_state direct_has_failed(struct vgpu *v, const struct direct_result *result)
{
	direct_unwatch(v);
	v->vm.pid = 0;
	direct_set_failure(v, result->text);
	events_add(&v->d->events, v->def.name, "failed: %s", result->text);
	return DIRECT_FAILED;
}

enum direct_state direct_other_boot(struct vgpu *v, const struct direct_result *result)
{
	events_add(&v->d->events, v->def.name,
		"the node was started anew: what its VM needs is set up again");
	return DIRECT_REPLANNING;
}

enum direct_state direct_replanned(struct vgpu *v, const struct direct_result *result)
{
	struct error err;

	take_plan(v, result);
	snprintf(v->direct->stored.boot, sizeof(v->direct->stored.boot), "%c%.38s",
		DIRECT_BOOT_BEGUN, result->boot);
	if (store_set_plan(v->d->store, v->def.name, &v->direct->stored, v->direct->what, &err) ==
		0)
		return DIRECT_REAPPLYING;
	direct_set_failure(v, err.text);
	return DIRECT_FAILED;
}

/* Its GPU was gone for a while, or is to be looked at again. */
enum direct_state direct_check(struct vgpu *v, const struct direct_result *result)
{
	direct_unwatch(v);
	v->vm.pid = 0;
	return DIRECT_CHECKING;
}
