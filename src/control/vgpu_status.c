/* SPDX-License-Identifier: Apache-2.0 */
/* What the keeper of a vGPU says, and what follows when it says nothing any more. */
#include "control/vgpu_private.h"

#include "base/cleanup.h"
#include "control/gpu_rules.h"
#include "control/memory.h"
#include "control/share_stop.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static void on_stats_fd(void *data, int code, const char *text, int *fd)
{
	struct vgpu *v = data;
	struct stat file;

	/* The keeper made it; still, a read may only be tried where it is sure to end. */
	if (code == 0 && fstat(*fd, &file) == 0 && S_ISREG(file.st_mode)) {
		close_fd(&v->stats_fd);
		v->stats_fd = TAKE_FD(*fd);
	}
}

static void vgpu_report_change(struct vgpu *v, const struct keeper_status *was, bool first)
{
	const struct keeper_status *now = &v->status;
	struct events *events = &v->d->events;

	double pause_ms = (double)now->last_pause_ns / 1e6;

	if (!first && now->recoveries != was->recoveries)
		events_add(events, v->def.name,
			"recovered: a new device process went on in its place; the pause was "
			"%.1f ms",
			pause_ms);
	if (!first && now->wakes != was->wakes)
		events_add(events, v->def.name, "woken: the pause was %.1f ms", pause_ms);
	if (!first && now->binding_kind == was->binding_kind && now->state == was->state)
		return;
	if (now->state == KEEPER_STATE_RECOVERING && (first || was->state != now->state))
		events_add(events, v->def.name, "recovering: %s", now->failure);
	else if (now->state == KEEPER_STATE_HIBERNATED && (first || was->state != now->state))
		events_add(events, v->def.name, "hibernated");
	else if (now->state == KEEPER_STATE_FAILED && (first || was->state != KEEPER_STATE_FAILED))
		events_add(events, v->def.name, "failed: %s", now->failure);
	else if (now->binding_kind != (first ? 0 : was->binding_kind))
		events_add(events, v->def.name, "%s%s",
			now->binding_kind ? "bound to " : "released", now->bound_to);
	else if (now->state == KEEPER_STATE_READY &&
		 (first || was->state == KEEPER_STATE_STARTING ||
			 was->state == KEEPER_STATE_FAILED))
		events_add(events, v->def.name, "ready: %s", now->renderer);
}

static void on_intruder_out(void *data, int code, const char *text, int *fd)
{
	const struct vgpu *v = data;

	if (code < 0)
		log_warning("%s: a VM that has another vGPU stays: %s", v->def.name, text);
}

/* Its keeper cannot know that the VM it let in has a device, too. */
static void vgpu_keep_rule_1(struct vgpu *v)
{
	const struct vgpu *has = vgpu_vm_has_device(v);
	struct error err;
	char what[96];

	if (!has)
		return;
	snprintf(what, sizeof(what), "refused to %.64s", v->status.bound_to);
	rules_vm_admit(v->def.name, has->def.name, what, &err);
	events_add(&v->d->events, v->def.name, "%s", err.text);
	link_request(v->link, KEEPER_CONTROL_UNBIND, NULL, -1, on_intruder_out, v);
}

static void vgpu_on_status(void *data, const struct keeper_status *status)
{
	struct vgpu *v = data;
	struct keeper_status was = v->status;
	bool first = !v->have_status;

	if (!status->uuid[0]) /* a stand-by that has not read yet whose it is */
		return;
	if (status->version != KEEPER_PROTOCOL_VERSION) {
		link_destroy(TAKE_PTR(v->link));
		vgpu_try_later(v, 1);
		return;
	}
	if (strcmp(status->uuid, v->def.uuid) != 0) {
		link_destroy(TAKE_PTR(v->link));
		v->foreign = true; /* it is left alone, with its folder */
		if (v->stopping)
			vgpu_gone(v);
		else
			vgpu_fail(v, "an unknown keeper holds its folder");
		return;
	}
	v->spoke = true;
	v->was_standby = false;
	v->foreign = false;
	v->silent = 0;
	v->status = *status;
	v->have_status = true;
	v->lost = false;
	if (v->stopping) {
		if (first)
			vgpu_stop(v);
		return;
	}
	if (first)
		vgpu_share_join(v);
	vgpud_share_stop_watch(v->d);
	slicing_status(v);
	memory_vgpu_status(v);
	if (v->def.phase == PHASE_DEFINED)
		vgpu_report_change(v, &was, first);
	if (first || was.binding_pid != status->binding_pid)
		vgpu_keep_rule_1(v);
	if (!status->device_pid)
		close_fd(&v->stats_fd);
	if (vgpu_serves(v) && status->device_pid &&
		(v->stats_fd < 0 || v->stats_pid != status->device_pid)) {
		v->stats_pid = status->device_pid;
		link_request(v->link, KEEPER_CONTROL_GET_STATS, NULL, -1, on_stats_fd, v);
	}
	if (v->def.phase == PHASE_DEFINED)
		vgpu_operation_status(v);
	if (vgpu_serves(v)) {
		v->timer = sd_event_source_disable_unref(v->timer);
		vgpu_tell(v, NULL);
	} else if (status->state == KEEPER_STATE_FAILED) {
		struct error err;
		error_set(&err, EIO, "%s: %s (see `vgpuctl show %s`)", v->def.name, status->failure,
			v->def.name);
		vgpu_tell(v, &err);
	}
}

static void vgpu_on_event(void *data, const char *text)
{
	struct vgpu *v = data;

	if (strncmp(text, "failed: ", 8) != 0) /* the status says that */
		events_add(&v->d->events, v->def.name, "%s", text);
}

void vgpu_keeper_ended(struct vgpu *v)
{
	char words[200], why[KEEPER_TEXT_MAX];

	close_fd(&v->stats_fd);
	v->silent = 0;
	if (v->stopping) {
		vgpu_gone(v);
		return;
	}
	vgpu_operation_keeper_ended(v); /* and with it both device processes */
	vgpu_last_words(v, words, sizeof(words));
	snprintf(why, sizeof(why), "its keeper ended%s", words);
	vgpu_fail(v, why);
}

static void vgpu_on_lost(void *data)
{
	struct vgpu *v = data;

	link_destroy(TAKE_PTR(v->link));
	slicing_lost(v);
	memory_vgpu_lost(v);
	if (!v->spoke && link_keeper_runs(v->dir)) {
		vgpu_try_later(v, 1);
	} else if (link_keeper_runs(v->dir)) {
		/* It lives and the link broke; or it is just ending, its lock the last to go. */
		v->lost = true;
		vgpu_set_timer(v, VGPU_ENDING_MS, vgpu_on_retry);
	} else if (v->was_standby && !v->stopping) {
		vgpu_start(v);
	} else {
		vgpu_keeper_ended(v);
	}
}

const struct link_ops vgpu_link_ops = {
	.status = vgpu_on_status, .event = vgpu_on_event, .lost = vgpu_on_lost};
