/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a vGPU, seen from vgpud:
 *
 *   row CREATING ─ keeper started ─ READY ─▶ row DEFINED ⇄ keeper lost, found or started again
 *        │ failure                             │ delete
 *        └──────────▶ STOP ─ keeper gone ─ row deleted ◀── row DELETING
 *
 * vgpu_keeper.c starts, finds and ends its keeper, vgpu_status.c takes in what that says, and
 * vgpu_ask.c asks it for something.
 */
#include "control/vgpu_private.h"

#include "base/cleanup.h"
#include "control/direct.h"
#include "control/gpu_rules.h"
#include "control/gpus.h"
#include "control/share_stop.h"
#include "control/tenant.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const keeper_state_names[KEEPER_STATE_COUNT] = {
	[KEEPER_STATE_STARTING] = "starting",
	[KEEPER_STATE_READY] = "ready",
	[KEEPER_STATE_BOUND] = "bound",
	[KEEPER_STATE_FAILED] = "failed",
	[KEEPER_STATE_HIBERNATED] = "hibernated",
	[KEEPER_STATE_RECOVERING] = "recovering",
	[KEEPER_STATE_MOVING] = "moving",
};

const char *vgpu_state(const struct vgpu *v)
{
	if (v->direct)
		return direct_state(v);
	if (v->def.phase == PHASE_CREATING)
		return v->stopping ? "stopping" : "creating";
	if (v->def.phase == PHASE_DELETING)
		return "deleting";
	if (v->gpu_fault[0])
		return "failed";
	if (v->have_status && v->status.state < KEEPER_STATE_COUNT)
		return keeper_state_names[v->status.state];
	return v->failure[0] ? "failed" : "starting";
}

const char *vgpu_failure(const struct vgpu *v)
{
	if (v->gpu_fault[0])
		return v->gpu_fault;
	return v->have_status ? v->status.failure : v->failure;
}

const char *vgpu_holder(const struct vgpu *v)
{
	return v->vm.pid ? v->vm.label : v->status.bound_to;
}

bool vgpu_bound(const struct vgpu *v)
{
	if (v->direct)
		return v->vm.pid != 0;
	return v->have_status && v->status.binding_kind != KEEPER_BINDING_NONE;
}

bool vgpu_serves(const struct vgpu *v)
{
	static const bool serves[KEEPER_STATE_COUNT] = {
		[KEEPER_STATE_READY] = true,
		[KEEPER_STATE_BOUND] = true,
		[KEEPER_STATE_HIBERNATED] = true,
		[KEEPER_STATE_MOVING] = true,
	};
	return v->have_status && v->status.state < KEEPER_STATE_COUNT && serves[v->status.state];
}

/* --- waiting --- */

void vgpu_tell(struct vgpu *v, const struct error *err)
{
	struct vgpu_waiter waiters[VGPU_WAITERS];
	unsigned n = v->n_ready;

	memcpy(waiters, v->ready, n * sizeof(*waiters));
	v->n_ready = 0;
	for (unsigned i = 0; i < n; i++)
		waiters[i].done(waiters[i].data, err);
}

int vgpu_wait(struct vgpu *v, const char *what, vgpu_done done, void *data, struct error *err)
{
	if (v->n_ready == VGPU_WAITERS)
		return error_set(err, EAGAIN,
			"%s: too many requests wait for %s already (try again later)", what,
			v->def.name);
	v->ready[v->n_ready++] = (struct vgpu_waiter){done, data};
	return 0;
}

void vgpu_fail(struct vgpu *v, const char *why)
{
	struct error err;

	v->have_status = false;
	snprintf(v->failure, sizeof(v->failure), "%s", why);
	if (v->def.phase == PHASE_DEFINED && v->silent <= VGPU_SILENT_MAX) /* said once is enough */
		events_add(&v->d->events, v->def.name, "failed: %s", why);
	error_set(&err, EIO, "%s: %s (see `vgpuctl show %s` and its keeper.log)", v->def.name, why,
		v->def.name);
	vgpu_tell(v, &err);
}

/* --- its place in the list --- */

struct vgpu *vgpu_new(struct vgpud *d, const struct definition *def)
{
	struct vgpu *v = calloc(1, sizeof(*v));

	if (!v)
		return NULL;
	*v = (struct vgpu){.d = d, .def = *def, .stats_fd = -1, .share.gain = SHARE_GAIN_ONE};
	if (method_is_direct(def->method) && !(v->direct = direct_new())) {
		free(v);
		return NULL;
	}
	snprintf(v->dir, sizeof(v->dir), "%.79s/vgpus/%.63s", d->run_dir, def->name);
	struct vgpu **at = &d->vgpus;
	while (*at && strcmp((*at)->def.name, def->name) < 0)
		at = &(*at)->next;
	v->next = *at;
	*at = v;
	return v;
}

void vgpud_free_vgpus(struct vgpud *d)
{
	while (d->vgpus)
		vgpu_free(d->vgpus);
}

void vgpu_free(struct vgpu *v)
{
	for (struct vgpu **at = &v->d->vgpus; *at; at = &(*at)->next) {
		if (*at == v) {
			*at = v->next;
			break;
		}
	}
	vgpu_share_stop_forget(v);
	link_destroy(v->link);
	sd_event_source_disable_unref(v->timer);
	sd_event_source_disable_unref(v->patience);
	close_fd(&v->stats_fd);
	slicing_leave(v);
	direct_free(v);
	free(v);
}

/* --- the end --- */

void vgpu_gone(struct vgpu *v)
{
	struct error err, why;
	struct vgpu_waiter gone = v->gone;
	bool created = v->def.phase != PHASE_CREATING;

	if (!v->foreign)
		vgpu_remove_dir(v);
	if (store_delete(v->d->store, v->def.name, "delete", &err) < 0)
		log_warning("%s: the row stays until the next start: %s", v->def.name, err.text);
	if (created)
		events_add(&v->d->events, v->def.name, "deleted");
	error_set(&why, EIO, "create %s: %s (see `vgpuctl doctor`)", v->def.name,
		v->failure[0] ? v->failure : "vgpud was interrupted");
	char gpu[TYPES_NAME_MAX];
	snprintf(gpu, sizeof(gpu), "%s", v->def.gpu);
	struct vgpud *d = v->d;
	const struct definition def = v->def;
	vgpu_free(v);
	tenant_forget(d, &def);
	gpu_left(d, gpu);
	vgpud_share_changed(d, gpu);
	if (gone.done)
		gone.done(gone.data, created ? NULL : &why);
}

/* --- create and delete --- */

struct creation {
	struct vgpu *v;
	vgpu_done done;
	void *data;
};

static void on_created(void *data, const struct error *err)
{
	struct creation *c = data;
	struct creation op = *c;
	struct vgpu *v = op.v;
	struct error store_err;

	free(c);
	v->patience = sd_event_source_disable_unref(v->patience);
	if (!err &&
		store_set_phase(v->d->store, v->def.name, PHASE_DEFINED, "create", &store_err) < 0)
		err = &store_err;
	if (err) {
		if (err == &store_err || v->have_status)
			snprintf(v->failure, sizeof(v->failure), "%.250s",
				err == &store_err ? err->text : v->status.failure);
		v->gone = (struct vgpu_waiter){op.done, op.data};
		vgpu_stop(v);
		return;
	}
	v->def.phase = PHASE_DEFINED;
	events_add(&v->d->events, v->def.name, "created on %s, type %s: %s", v->def.gpu,
		v->def.type.name, v->status.renderer);
	op.done(op.data, NULL);
}

static int vgpu_on_create_timeout(sd_event_source *source, uint64_t usec, void *data)
{
	vgpu_fail(data, "its keeper and device process were not ready in time");
	return 0;
}

int vgpu_begin(struct vgpud *d, const struct definition *def, vgpu_done done, void *data,
	const char *what, struct error *err)
{
	struct creation *c = malloc(sizeof(*c));
	struct vgpu *v = c ? vgpu_new(d, def) : NULL;

	if (!v) {
		free(c);
		return error_set(err, ENOMEM, "%s: out of memory (free some)", what);
	}
	*c = (struct creation){.v = v, .done = done, .data = data};
	int r = store_insert(d->store, def, what, err);
	if (r < 0) {
		vgpu_free(v);
		free(c);
		return r;
	}
	v->ready[v->n_ready++] = (struct vgpu_waiter){on_created, c};
	vgpu_set_source(v, &v->patience, VGPU_CREATE_MS, vgpu_on_create_timeout);
	vgpu_start(v); /* may free it */
	return 0;
}

int vgpu_delete(struct vgpu *v, bool force, vgpu_done done, void *data, struct error *err)
{
	char what[96];

	snprintf(what, sizeof(what), "delete %s", v->def.name);
	if (v->direct)
		return direct_delete(v, force, done, data, what, err);
	if (v->gone.done || v->def.phase != PHASE_DEFINED)
		return error_set(err, EBUSY, "%s: it is being %s (wait for that)", what,
			v->def.phase == PHASE_CREATING ? "created" : "deleted");
	const struct rules_subject subject = {.vgpu = v->def.name, .force = force};
	int r = gpu_ask(v->d, v->def.gpu, RULES_REMOVE, &subject, what, err);
	if (r == 0)
		r = store_set_phase(v->d->store, v->def.name, PHASE_DELETING, what, err);
	if (r < 0)
		return r;
	v->def.phase = PHASE_DELETING;
	v->gone = (struct vgpu_waiter){done, data};
	struct error deleted;
	error_set(&deleted, ENOENT, "%s: it is being deleted (create it again)", v->def.name);
	vgpu_tell(v, &deleted);
	vgpu_stop(v);
	return 0;
}

static int reconcile_row(void *data, const struct definition *def)
{
	struct vgpu *v = vgpu_new(data, def);

	if (!v)
		return -ENOMEM;
	/* Interrupted steps: a creation is undone, a deletion done. */
	v->stopping = def->phase != PHASE_DEFINED;
	return 0;
}

int vgpud_reconcile(struct vgpud *d, struct error *err)
{
	int r = store_each(d->store, reconcile_row, d, err);
	if (r < 0)
		return r;
	for (struct vgpu *v = d->vgpus; v; v = v->next) {
		if (v->direct)
			direct_load(v);
	}
	for (struct vgpu *v = d->vgpus, *next; v; v = next) {
		next = v->next;
		vgpu_start(v); /* may free it */
	}
	return 0;
}
