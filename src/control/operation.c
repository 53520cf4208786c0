/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * move, snapshot, restore, hibernate, wake and check are one message to the keeper each, and end
 * with its DONE. vgpud checks the rules before and keeps the store in step:
 *
 *   move: row says moving_to ─ MOVE ─ DONE ok: row says gpu │ DONE not ok: moving_to is cleared
 *
 * A vgpud that ends in between leaves moving_to in the row. The next one asks the keeper how many
 * moves it has made: more than are noted in the row, and it is there. While moving_to is set the
 * vGPU counts on both GPUs. A link that breaks during a move is settled in the same way.
 *
 * Files are made here, without a name in the state directory, and handed on as descriptors: nothing
 * is left behind, whoever ends.
 */
#include "control/vgpud.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "control/direct.h"
#include "control/gpu_rules.h"
#include "control/gpus.h"
#include "control/vgpu.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IDLE_LOOK_MS  1000u  /* how often the policy looks, at most */
#define IDLE_RETRY_MS 60000u /* after an attempt that was refused */
#define ATTEMPTS      3u     /* of an operation, where the device process was just starting */

struct operation {
	struct vgpud *d;
	const char *verb;
	enum keeper_control_message type;
	char name[VGPU_NAME_LONGEST + 1], what[96];
	union {
		struct keeper_move move;
		struct keeper_save save;
	} payload;
	int fd; /* -1: none */
	bool started;
	unsigned attempts;
	char gpu[TYPES_NAME_MAX]; /* of a move */
	struct keeper_progress progress;
	struct vgpu_outcome outcome;
	vgpu_outcome_done done;
	void *data;
};

/* --- the end --- */

/* A reason that says what to do itself keeps its words. */
static void operation_error(const struct operation *o, struct error *err)
{
	static const struct {
		int code;
		const char *advice;
	} advice[] = {
		{EBUSY, "wait for that, and try again"},
		{EALREADY, "there is nothing to do"},
		{ENOSPC, "free some space and try again; the vGPU goes on"},
		{EFBIG, "free some of the guest's resources; the vGPU goes on"},
		{ENOTSUP, "see `vgpuctl check`"},
		{EBADMSG, "give a whole file: see `vgpuctl inspect FILE`"},
		{EINVAL, "give a file that `vgpuctl inspect FILE` can read"},
		{ESTALE, "stop the guest at the moment of the snapshot, or use a new vGPU"},
		{ECONNRESET, "see `vgpuctl show` and its keeper.log"},
		{ETIMEDOUT, "see `vgpuctl show`; the vGPU goes on, or is recovered"},
	};
	const struct keeper_done *done = &o->outcome.done;
	const char *why = done->text[0] ? done->text : strerror(-done->code);
	const char *what = "see `vgpuctl show`; the vGPU goes on";
	size_t len = strlen(why);

	for (size_t i = 0; i < ARRAY_SIZE(advice); i++) {
		if (advice[i].code == -done->code)
			what = advice[i].advice;
	}
	if (len && why[len - 1] == ')')
		error_set(err, -done->code, "%s: %s", o->what, why);
	else
		error_set(err, -done->code, "%s: %s (%s)", o->what, why, what);
}

/* The row follows; what is in memory does in any case, and the row at the next start at last. */
static void move_done(struct vgpu *v, bool moved)
{
	const struct type *type =
		types_like(v->d->types, v->d->n_types, v->def.moving_to, &v->def.type);
	struct error err;
	int r = 0;

	char left[TYPES_NAME_MAX] = "";
	if (moved && strcmp(v->def.moving_to, v->def.gpu) != 0) {
		snprintf(left, sizeof(left), "%s", v->def.gpu);
		if (type)
			v->def.type = *type;
		snprintf(v->def.gpu, sizeof(v->def.gpu), "%s", v->def.moving_to);
		r = store_set_gpu(
			v->d->store, v->def.name, v->def.gpu, v->def.type.name, v->def.name, &err);
	} else {
		r = store_set_move(v->d->store, v->def.name, "", 0, v->def.name, &err);
	}
	v->def.moving_to[0] = '\0';
	if (r < 0)
		log_warning("the row of %s stays as it was: %s", v->def.name, err.text);
	if (left[0]) {
		vgpu_share_join(v); /* on the new one first, so the old group is empty */
		vgpud_share_changed(v->d, left);
		gpu_left(v->d, left);
	}
}

/* Whether it moved is known; but for a broken link, after which the next STATUS tells. */
static void operation_settle(struct vgpu *v, const struct error *err)
{
	if (!err || (err->code != ECONNRESET && err->code != ETIMEDOUT))
		move_done(v, !err);
	else if (v->link)
		link_ask_status(v->link);
}

/* Frees the operation. The callee may start the next one. */
static void operation_end(struct operation *o, const struct error *err)
{
	struct vgpu *v = vgpud_find_vgpu(o->d, o->name);

	if (v && v->operation == o) {
		v->operation = NULL;
		if (v->def.moving_to[0] && o->type == KEEPER_CONTROL_MOVE)
			operation_settle(v, err);
		if (!err && o->type == KEEPER_CONTROL_HIBERNATE)
			v->hibernate_not_before_ms = 0;
		if (!err && o->type == KEEPER_CONTROL_MOVE)
			events_add(&o->d->events, o->name, "moved to %s: the pause was %.1f ms",
				v->def.gpu, (double)o->outcome.done.pause_ns / 1e6);
	}
	o->done(o->data, err, &o->outcome);
	close_fd(&o->fd);
	free(o);
}

static void operation_end_code(struct operation *o, int code, const char *why)
{
	struct error err;

	o->outcome.done = (struct keeper_done){.code = code};
	snprintf(o->outcome.done.text, sizeof(o->outcome.done.text), "%s", why);
	operation_error(o, &err);
	operation_end(o, &err);
}

/* --- what the keeper says --- */

static void on_progress(void *data, const struct keeper_progress *progress)
{
	((struct operation *)data)->progress = *progress;
}

static void on_checked(void *data, const struct keeper_checked *checked)
{
	struct vgpu_outcome *outcome = &((struct operation *)data)->outcome;

	if (outcome->n_reasons < VGPU_REASONS && checked->text[0])
		outcome->reasons[outcome->n_reasons++] = *checked;
}

static void on_keeper_there(void *data, const struct error *err);

/* A client has just left: a fresh process is being made, and that takes a moment. */
static bool operation_again(struct operation *o, const struct keeper_done *done)
{
	struct vgpu *v = vgpud_find_vgpu(o->d, o->name);
	struct error err;

	return done->code == -EAGAIN && v && v->have_status &&
	       v->status.state == KEEPER_STATE_STARTING && ++o->attempts < ATTEMPTS &&
	       vgpu_ensure(v, o->what, on_keeper_there, o, &err) == 0;
}

static void on_done(void *data, const struct keeper_done *done)
{
	struct operation *o = data;
	struct error err;

	if (operation_again(o, done))
		return;
	o->outcome.done = *done;
	if (done->code < 0) {
		operation_error(o, &err);
		operation_end(o, &err);
		return;
	}
	/* One reason of a lossy result comes with DONE if none came before. */
	if (done->lossy && done->text[0] && !o->outcome.n_reasons) {
		struct keeper_checked *reason = &o->outcome.reasons[o->outcome.n_reasons++];
		*reason = (struct keeper_checked){.verdict = KEEPER_CHECK_LOSSY};
		memcpy(reason->text, done->text, sizeof(reason->text));
	}
	operation_end(o, NULL);
}

static const struct link_operation_ops operation_ops = {on_progress, on_checked, on_done};

/* --- the beginning --- */

static const void *operation_payload(const struct operation *o)
{
	if (o->type == KEEPER_CONTROL_MOVE)
		return &o->payload.move;
	if (o->type == KEEPER_CONTROL_SNAPSHOT || o->type == KEEPER_CONTROL_HIBERNATE)
		return &o->payload.save;
	return NULL;
}

static int note_move(struct vgpu *v, const struct operation *o, struct error *err)
{
	int r = store_set_move(v->d->store, v->def.name, o->gpu, v->status.moves, o->what, err);
	if (r < 0)
		return r;
	snprintf(v->def.moving_to, sizeof(v->def.moving_to), "%s", o->gpu);
	v->def.moves_before = v->status.moves;
	return 0;
}

static void on_keeper_there(void *data, const struct error *err)
{
	struct operation *o = data;
	struct vgpu *v = vgpud_find_vgpu(o->d, o->name);
	struct error why;

	if (err || !v || !v->link) {
		if (!err)
			operation_end_code(o, -ECONNRESET, "its keeper is gone");
		else
			operation_end(o, err);
		return;
	}
	if (o->type == KEEPER_CONTROL_MOVE && note_move(v, o, &why) < 0) {
		operation_end(o, &why);
		return;
	}
	int r = link_operate(v->link, o->type, operation_payload(o), o->fd, &operation_ops, o);
	if (r < 0)
		operation_end_code(o, r, strerror(-r));
}

static struct operation *operation_new(struct vgpu *v, const char *verb,
	enum keeper_control_message type, vgpu_outcome_done done, void *data, struct error *err)
{
	if (v->direct) {
		direct_refuse(v, verb, err);
		return NULL;
	}
	if (v->def.phase != PHASE_DEFINED) {
		error_set(err, EBUSY, "%s %s: it is %s (wait for that)", verb, v->def.name,
			vgpu_state(v));
		return NULL;
	}
	if (v->operation || v->def.moving_to[0]) {
		error_set(err, EBUSY, "%s %s: a %s of it is under way (wait for that)", verb,
			v->def.name, v->operation ? v->operation->verb : "move");
		return NULL;
	}
	struct operation *o = calloc(1, sizeof(*o));
	if (!o) {
		error_set(err, ENOMEM, "%s %s: out of memory (free some)", verb, v->def.name);
		return NULL;
	}
	o->d = v->d;
	o->verb = verb;
	o->type = type;
	o->fd = -1;
	o->done = done;
	o->data = data;
	snprintf(o->name, sizeof(o->name), "%s", v->def.name);
	snprintf(o->what, sizeof(o->what), "%s %s", verb, v->def.name);
	return o;
}

static void operation_drop(struct operation *o)
{
	close_fd(&o->fd);
	free(o);
}

/* Takes `o`; after an error nothing is called. */
static int operation_start(struct vgpu *v, struct operation *o, struct error *err)
{
	v->operation = o;
	int r = vgpu_ensure(v, o->what, on_keeper_there, o, err);
	if (r < 0) {
		v->operation = NULL;
		operation_drop(o);
	}
	return r;
}

static int operation_take_fd(struct operation *o, int fd, struct error *err)
{
	o->fd = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : fd;
	if (o->fd >= 0)
		return 0;
	int code = fd >= 0 ? errno : -fd;
	return error_set(err, code, "%s: no file for the state: %s (free some space)", o->what,
		strerror(code));
}

int vgpud_state_file(const struct vgpud *d)
{
	int fd = open(d->state_dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR))
		return fd < 0 ? -errno : fd;
	/* A file system without them. */
	char path[PATH_MAX + 16];
	snprintf(path, sizeof(path), "%s/state.XXXXXX", d->state_dir);
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	unlink(path);
	return fd;
}

/* --- the operations --- */

int vgpu_pack_args(char *const *args, char *text, size_t size, uint32_t *ret_n)
{
	size_t used = 0;
	uint32_t count = 0;

	for (; *args; args++, count++) {
		size_t n = strlen(*args) + 1;
		if (n > size - used)
			return -E2BIG;
		memcpy(text + used, *args, n);
		used += n;
	}
	*ret_n = count;
	return 0;
}

/* May it go there? Its own GPU takes it in any case. */
static int admit_move(const struct vgpu *v, const char *gpu_name, const char *what,
	const struct gpu **ret, struct error *err)
{
	const struct vgpud *d = v->d;
	const struct gpu *gpu = vgpud_find_gpu(d, gpu_name);

	if (!gpu)
		return error_set(err, ENOENT,
			"%s: GPU '%.64s' does not exist (see `vgpuctl gpu list`)", what, gpu_name);
	*ret = gpu;
	const struct type *type = types_like(d->types, d->n_types, gpu_name, &v->def.type);
	const struct rules_subject subject = {.vgpu = v->def.name,
		.method = v->def.method,
		.type = type ? type->name : vgpud_gpu_use(d, gpu_name, NULL).type};
	int r = 0;
	if (strcmp(gpu_name, v->def.gpu) != 0)
		r = gpu_ask(d, gpu_name, RULES_MOVE_IN, &subject, what, err);
	if (r == 0)
		r = gpu_draws(gpu, what, err);
	if (r < 0 || !strcmp(gpu_name, v->def.gpu))
		return r;
	if (!type)
		return error_set(err, ENOTSUP,
			"%s: %s offers no type like %s, of %llu MiB with %u heads of %ux%u (see "
			"`vgpuctl type list %s`)",
			what, gpu_name, v->def.type.name, (unsigned long long)v->def.type.vram_mib,
			v->def.type.heads, v->def.type.max_width, v->def.type.max_height, gpu_name);
	struct gpu_use use = vgpud_gpu_use(d, gpu_name, type->name);
	r = types_method(gpu, v->def.method, what, err);
	return r < 0 ? r : types_room(gpu, type, &use, what, err);
}

int vgpu_move(struct vgpu *v, const char *gpu_name, bool exact, bool precopy,
	vgpu_outcome_done done, void *data, struct error *err)
{
	struct vgpu_device_args options = {0};
	const struct gpu *gpu = NULL;
	struct operation *o = operation_new(v, "move", KEEPER_CONTROL_MOVE, done, data, err);

	if (!o)
		return -err->code;
	int r = admit_move(v, gpu_name, o->what, &gpu, err);
	if (r == 0) {
		vgpu_device_args(v, gpu, &options);
		r = vgpu_pack_args(options.args, o->payload.move.args, sizeof(o->payload.move.args),
			&o->payload.move.n_args);
		if (r < 0)
			error_set(err, -r, "%s: its options are too long (use shorter paths)",
				o->what);
	}
	if (r < 0) {
		operation_drop(o);
		return r;
	}
	o->payload.move.exact = exact || v->def.method == METHOD_EMULATE;
	o->payload.move.at_once = !precopy;
	snprintf(o->gpu, sizeof(o->gpu), "%s", gpu->name);
	return operation_start(v, o, err);
}

int vgpu_snapshot(
	struct vgpu *v, int fd, bool exact, vgpu_outcome_done done, void *data, struct error *err)
{
	struct operation *o =
		operation_new(v, "snapshot", KEEPER_CONTROL_SNAPSHOT, done, data, err);

	if (!o)
		return -err->code;
	o->payload.save.exact = exact || v->def.method == METHOD_EMULATE;
	int r = operation_take_fd(o, fd, err);
	if (r < 0) {
		operation_drop(o);
		return r;
	}
	return operation_start(v, o, err);
}

int vgpu_restore(struct vgpu *v, int fd, vgpu_outcome_done done, void *data, struct error *err)
{
	struct operation *o = operation_new(v, "restore", KEEPER_CONTROL_RESTORE, done, data, err);

	if (!o)
		return -err->code;
	int r = operation_take_fd(o, fd, err);
	if (r < 0) {
		operation_drop(o);
		return r;
	}
	return operation_start(v, o, err);
}

int vgpu_hibernate(
	struct vgpu *v, bool exact, vgpu_outcome_done done, void *data, struct error *err)
{
	struct operation *o =
		operation_new(v, "hibernate", KEEPER_CONTROL_HIBERNATE, done, data, err);

	if (!o)
		return -err->code;
	o->payload.save.exact = exact || v->def.method == METHOD_EMULATE;
	cleanup_close int fd = vgpud_state_file(v->d);
	int r = operation_take_fd(o, fd, err);
	if (r < 0) {
		operation_drop(o);
		return r;
	}
	return operation_start(v, o, err);
}

int vgpu_wake(struct vgpu *v, vgpu_outcome_done done, void *data, struct error *err)
{
	struct operation *o = operation_new(v, "wake", KEEPER_CONTROL_WAKE, done, data, err);
	return o ? operation_start(v, o, err) : -err->code;
}

int vgpu_check(struct vgpu *v, vgpu_outcome_done done, void *data, struct error *err)
{
	struct operation *o = operation_new(v, "check", KEEPER_CONTROL_CHECK, done, data, err);
	return o ? operation_start(v, o, err) : -err->code;
}

const char *vgpu_operation(const struct vgpu *v, struct keeper_progress *ret)
{
	if (v->direct)
		return direct_operation(v, ret);
	if (!v->operation)
		return NULL;
	*ret = v->operation->progress;
	return v->operation->verb;
}

/* --- after every word of its keeper --- */

static uint32_t idle_limit_s(const struct vgpu *v)
{
	const struct type *type = vgpud_find_type(v->d, v->def.type.name);

	if (type && type->hibernate_idle_s != TYPES_IDLE_NODE)
		return type->hibernate_idle_s;
	return v->d->config.hibernate_idle_s;
}

static void on_idle_hibernated(
	void *data, const struct error *err, const struct vgpu_outcome *outcome)
{
	struct vgpud *d = data;

	if (err)
		events_add(&d->events, "", "not hibernated: %s", err->text);
}

static void hibernate_if_idle(struct vgpu *v)
{
	const struct keeper_status *s = &v->status;
	uint32_t limit_s = idle_limit_s(v);
	struct error err;

	if (!limit_s || v->operation || v->stopping || v->def.moving_to[0] ||
		(s->state != KEEPER_STATE_READY && s->state != KEEPER_STATE_BOUND) ||
		s->idle_ns / 1000000000u < limit_s || clock_ms() < v->hibernate_not_before_ms)
		return;
	v->hibernate_not_before_ms = clock_ms() + IDLE_RETRY_MS;
	/* Nobody asked for it, so nobody may lose anything by it. */
	if (vgpu_hibernate(v, true, on_idle_hibernated, v->d, &err) < 0)
		on_idle_hibernated(v->d, &err, NULL);
}

void vgpu_operation_status(struct vgpu *v)
{
	const struct keeper_status *s = &v->status;

	if (v->def.moving_to[0] && !v->operation && s->state != KEEPER_STATE_MOVING) {
		bool moved = s->moves > v->def.moves_before;
		move_done(v, moved);
		events_add(&v->d->events, v->def.name,
			moved ? "moved to %s while no vgpud watched"
			      : "still on %s: its move failed",
			v->def.gpu);
	}
	hibernate_if_idle(v);
}

void vgpu_operation_keeper_ended(struct vgpu *v)
{
	if (v->def.moving_to[0])
		move_done(v, false);
}

static int on_idle_timer(sd_event_source *source, uint64_t usec, void *data)
{
	struct vgpud *d = data;

	for (struct vgpu *v = d->vgpus; v; v = v->next) {
		if (idle_limit_s(v) && v->link && v->have_status && v->status.device_pid)
			link_ask_status(v->link);
	}
	sd_event_source_set_time_relative(source, IDLE_LOOK_MS * 1000ull);
	return sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

int vgpud_watch_idle(struct vgpud *d)
{
	bool any = d->config.hibernate_idle_s;

	for (size_t i = 0; i < d->n_types; i++)
		any |= d->types[i].hibernate_idle_s &&
		       d->types[i].hibernate_idle_s != TYPES_IDLE_NODE;
	if (!any)
		return 0;
	return sd_event_add_time_relative(d->event, &d->idle_timer, CLOCK_MONOTONIC,
		IDLE_LOOK_MS * 1000ull, 100000, on_idle_timer, d);
}
