/* SPDX-License-Identifier: Apache-2.0 */
/* How a vGPU whose VM owns hardware begins: made, or found in the store; and how its end begins. */
#include "control/direct_private.h"

#include "control/vgpu.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Enters a state that has a job. */
static void begin(struct vgpu *v, enum direct_state state, const char *verb)
{
	snprintf(v->direct->what, sizeof(v->direct->what), "%s %s", verb, v->def.name);
	v->direct->state = state;
	direct_work(v);
}

int direct_create(struct vgpud *d, const struct definition *def, const struct plan_owner *owner,
	vgpu_done done, void *data, const char *what, struct error *err)
{
	struct vgpu *v = vgpu_new(d, def);

	if (v && !v->direct) {
		vgpu_free(v);
		v = NULL;
	}
	if (!v)
		return error_set(err, ENOMEM, "%s: out of memory (free some)", what);
	v->direct->begun = true;
	v->direct->owner = *owner;
	v->direct->done = (struct vgpu_waiter){done, data};
	snprintf(v->direct->stored.slice, sizeof(v->direct->stored.slice), "%.*s",
		(int)sizeof(v->direct->stored.slice) - 1, def->type.slice);
	const struct gpu *gpu = vgpud_find_gpu(d, def->gpu);
	v->direct->stored.vram_mib = gpu && gpu->vram_told ? gpu->vram_mib : 0;
	begin(v, DIRECT_PLANNING, "create");
	return 0;
}

/* The states from which a deletion can begin, and what is to be said in others. */
static int may_delete(const struct vgpu *v, bool force, const char *what, struct error *err)
{
	const struct direct *x = v->direct;

	if (x->done.done || (v->def.phase != PHASE_DEFINED && x->state != DIRECT_STUCK))
		return error_set(err, EBUSY, "%s: it is %s (wait for that)", what, direct_state(v));
	int r = direct_ask_remove(v, force, what, err);
	if (r < 0)
		return r;
	if (x->state != DIRECT_SCRUBBING && (x->working || x->waiting))
		return error_set(err, EBUSY, "%s: it is %s (wait for that)", what, direct_state(v));
	return 0;
}

int direct_delete(
	struct vgpu *v, bool force, vgpu_done done, void *data, const char *what, struct error *err)
{
	struct direct *x = v->direct;
	struct direct_result nothing = {0};

	if (x->malformed && !force)
		return error_set(err, EINVAL, "%s: %s", what, v->failure);
	int r = x->malformed ? 0 : may_delete(v, force, what, err);
	if (r == 0 && v->def.phase == PHASE_DEFINED)
		r = store_set_phase(v->d->store, v->def.name, PHASE_DELETING, what, err);
	if (r < 0)
		return r;
	v->def.phase = PHASE_DELETING;
	x->done = (struct vgpu_waiter){done, data};
	snprintf(x->what, sizeof(x->what), "delete %s", v->def.name);
	if (x->malformed) { /* nothing is known to be undone */
		x->state = DIRECT_UNDOING;
		direct_event(v, DIRECT_DONE, &nothing);
		return 0;
	}
	x->retry = sd_event_source_disable_unref(x->retry);
	direct_event(v, DIRECT_DELETE, NULL);
	return 0;
}

int direct_scrub_gpu(
	struct vgpud *d, const char *gpu, vgpu_done done, void *data, struct error *err)
{
	struct vgpu *v = d->vgpus;
	char what[96];

	snprintf(what, sizeof(what), "gpu scrub %.64s", gpu);
	while (v && (strcmp(v->def.gpu, gpu) != 0 || v->def.method != METHOD_PASSTHROUGH))
		v = v->next;
	if (!v)
		return error_set(err, EINVAL,
			"%s: it is in passthrough for nobody, and its own driver looks after its "
			"memory (create a vGPU with --method passthrough)",
			what);
	if (v->vm.pid)
		return error_set(err, EBUSY, "%s: %s is held by %s (shut that VM down first)", what,
			v->def.name, v->vm.label);
	if (v->direct->state != DIRECT_READY || v->direct->done.done)
		return error_set(err, EBUSY, "%s: %s is %s (wait for that)", what, v->def.name,
			vgpu_state(v));
	v->direct->done = (struct vgpu_waiter){done, data};
	memcpy(v->direct->what, what, sizeof(what));
	direct_event(v, DIRECT_SCRUB, NULL);
	return 0;
}

const struct change *direct_shared(const struct vgpu *v, const struct change *change)
{
	for (const struct vgpu *other = v->d->vgpus; other; other = other->next) {
		if (other == v || !other->direct)
			continue;
		const struct change_plan *plan = &other->direct->stored.plan;
		for (uint32_t i = 0; i < plan->count; i++) {
			const struct change *c = &plan->list[i];
			if (c->kind == change->kind && !strcmp(c->subject, change->subject))
				return c;
		}
	}
	return NULL;
}

/* --- found in the store --- */

/* What is begun with a row of each phase. */
static const struct {
	enum direct_state state;
	const char *verb;
} begins[PHASE_COUNT] = {
	[PHASE_CREATING] = {DIRECT_UNDOING, "undo the creation of"},
	[PHASE_DEFINED] = {DIRECT_CHECKING, "serve"},
	[PHASE_DELETING] = {DIRECT_LOOKING, "delete"},
};

static bool load(struct vgpu *v)
{
	struct direct *x = v->direct;
	struct error err;

	if (x->in_store || x->malformed)
		return x->in_store;
	if (store_get_plan(v->d->store, v->def.name, &x->stored, &err) < 0) {
		x->malformed = true;
		x->state = DIRECT_FAILED;
		snprintf(v->failure, sizeof(v->failure), "%.*s", (int)sizeof(v->failure) - 1,
			err.text);
		events_add(&v->d->events, v->def.name, "failed: %s", v->failure);
		v->def.phase = PHASE_DEFINED; /* it stays until somebody looks at it */
		return false;
	}
	x->owner = (struct plan_owner){x->stored.owner_uid, x->stored.owner_gid, DIRECT_OWNER_MODE};
	x->in_store = true;
	return true;
}

void direct_load(struct vgpu *v)
{
	load(v);
}

void direct_start(struct vgpu *v)
{
	struct direct *x = v->direct;

	if (x->malformed || x->working || x->waiting)
		return;
	bool first = !x->begun;
	if (!load(v))
		return;
	x->begun = true;
	if (first && v->def.phase == PHASE_DEFINED) {
		direct_note(v, RULES_TAKE, NULL);
		direct_note(v, RULES_TAKEN, NULL);
	} else if (first && v->def.phase == PHASE_DELETING) {
		direct_note(v, RULES_SCRUB, NULL);
	}
	if (first)
		begin(v, begins[v->def.phase].state, begins[v->def.phase].verb);
	else
		direct_event(v, DIRECT_RETRY, NULL);
}
