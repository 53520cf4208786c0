/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a vGPU, seen from vgpud:
 *
 *   row CREATING ─ keeper started ─ READY ─▶ row DEFINED ⇄ keeper lost, found or started again
 *        │ failure                             │ delete
 *        └──────────▶ STOP ─ keeper gone ─ row deleted ◀── row DELETING
 */
#include "control/vgpud.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "control/direct.h"
#include "control/gpu_rules.h"
#include "control/gpus.h"
#include "control/memory.h"
#include "control/share_stop.h"
#include "control/standby.h"
#include "control/tenant.h"
#include "control/vgpu.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

/* Who connects is served, if only once it is awake or has recovered. */
static bool vgpu_serves(const struct vgpu *v)
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

/* Tells everyone who waits; they may start to wait anew. */
static void vgpu_tell(struct vgpu *v, const struct error *err)
{
	struct vgpu_waiter waiters[VGPU_WAITERS];
	unsigned n = v->n_ready;

	memcpy(waiters, v->ready, n * sizeof(*waiters));
	v->n_ready = 0;
	for (unsigned i = 0; i < n; i++)
		waiters[i].done(waiters[i].data, err);
}

static int vgpu_wait(
	struct vgpu *v, const char *what, vgpu_done done, void *data, struct error *err)
{
	if (v->n_ready == VGPU_WAITERS)
		return error_set(err, EAGAIN,
			"%s: too many requests wait for %s already (try again later)", what,
			v->def.name);
	v->ready[v->n_ready++] = (struct vgpu_waiter){done, data};
	return 0;
}

static void vgpu_fail(struct vgpu *v, const char *why)
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

/* --- the folder --- */

/* The folder, and the sockets of a keeper that runs, are the group's; done anew at each start. */
static int vgpu_make_dir(struct vgpu *v)
{
	static const char *const sockets[] = {"vhost-user.sock", "vtest.sock"};
	gid_t group = v->d->group;

	if (mkdir(v->dir, 0750) < 0 && errno != EEXIST)
		return -errno;
	cleanup_close int dir = open(v->dir, O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (dir < 0 || (group != (gid_t)-1 && fchown(dir, (uid_t)-1, group) < 0) ||
		fchmod(dir, 0750) < 0) /* whatever the umask */
		return -errno;
	for (size_t i = 0; group != (gid_t)-1 && i < ARRAY_SIZE(sockets); i++) {
		if (fchownat(dir, sockets[i], (uid_t)-1, group, AT_SYMLINK_NOFOLLOW) < 0 &&
			errno != ENOENT)
			return -errno;
	}
	return 0;
}

static void vgpu_remove_dir(const struct vgpu *v)
{
	static const char *const files[] = {
		"keeper.sock", "vhost-user.sock", "vtest.sock", "keeper.log", "keeper.lock"};

	cleanup_close int dir = open(v->dir, O_DIRECTORY | O_CLOEXEC);
	for (size_t i = 0; dir >= 0 && i < ARRAY_SIZE(files); i++)
		unlinkat(dir, files[i], 0);
	if (rmdir(v->dir) < 0 && errno != ENOENT)
		log_warning("%s cannot be removed: %s", v->dir, strerror(errno));
}

/* The last line a keeper that ended has written, for the reason. */
static void keeper_last_words(const struct vgpu *v, char *ret, size_t size)
{
	char path[VGPUD_PATH_MAX + 16], buf[512] = "";

	snprintf(path, sizeof(path), "%s/keeper.log", v->dir);
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	off_t end = fd >= 0 ? lseek(fd, 0, SEEK_END) : 0;
	off_t from = end > (off_t)sizeof(buf) - 1 ? end - (off_t)sizeof(buf) + 1 : 0;
	ssize_t n = end > 0 ? pread(fd, buf, sizeof(buf) - 1, from) : 0;
	while (n > 0 && buf[n - 1] == '\n')
		n--;
	buf[MAX(n, 0)] = '\0';
	char *line = strrchr(buf, '\n');
	line = line ? line + 1 : buf;
	if (line[0] == '<' && line[1] && line[2] == '>')
		line += 3;
	snprintf(ret, size, "%s%.180s", *line ? ": " : "", line);
}

/* --- the end --- */

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

/* The keeper of a vGPU that shall not be is gone: the last step. */
static void vgpu_gone(struct vgpu *v)
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

static void vgpu_kill_keeper(const struct vgpu *v)
{
	/* While its lock is held the keeper lives, so this is its pid and nobody else's. */
	if (v->keeper_pid && !v->foreign && link_keeper_runs(v->dir)) {
		log_warning("%s: its keeper does not stop and is killed", v->def.name);
		kill(v->keeper_pid, SIGKILL);
	}
}

static int vgpu_on_stop_timeout(sd_event_source *source, uint64_t usec, void *data)
{
	vgpu_kill_keeper(data);
	return 0;
}

static void vgpu_set_source(
	struct vgpu *v, sd_event_source **source, uint64_t ms, sd_event_time_handler_t handler)
{
	*source = sd_event_source_disable_unref(*source);
	int r = sd_event_add_time(
		v->d->event, source, CLOCK_MONOTONIC, (clock_ms() + ms) * 1000, 1000, handler, v);
	if (r < 0)
		log_error("%s: no timer: %s", v->def.name, strerror(-r));
}

static void vgpu_set_timer(struct vgpu *v, uint64_t ms, sd_event_time_handler_t handler)
{
	vgpu_set_source(v, &v->timer, ms, handler);
}

static void vgpu_keeper_ended(struct vgpu *v);
static int vgpu_on_retry(sd_event_source *source, uint64_t usec, void *data);

/*
 * A keeper runs and cannot be talked to: for a moment that is normal (it is starting, or ending);
 * one of another version, or one that hangs, is tried again ever more rarely, and told. One that
 * shall stop is killed after `patience` attempts. May free v.
 */
static void vgpu_try_later(struct vgpu *v, unsigned patience)
{
	char why[KEEPER_TEXT_MAX];
	unsigned beyond = ++v->silent > VGPU_SILENT_MAX ? v->silent - VGPU_SILENT_MAX : 0;
	uint64_t ms = (uint64_t)VGPU_RETRY_MS << MIN(beyond, 16u);

	if (v->stopping && v->silent > patience)
		vgpu_kill_keeper(v);
	vgpu_set_timer(v, v->stopping ? VGPU_RETRY_MS : MIN(ms, VGPU_BACK_OFF_MS), vgpu_on_retry);
	if (v->silent < VGPU_SILENT_MAX || v->stopping)
		return;
	snprintf(why, sizeof(why),
		"its keeper (pid %d) does not speak to this vgpud: it hangs, or is of another "
		"version (delete the vGPU, or end that process)",
		(int)v->keeper_pid);
	vgpu_fail(v, why);
}

static int vgpu_on_retry(sd_event_source *source, uint64_t usec, void *data)
{
	struct vgpu *v = data;

	if (v->lost && !link_keeper_runs(v->dir)) {
		v->lost = false;
		v->timer = sd_event_source_disable_unref(v->timer);
		vgpu_keeper_ended(v);
	} else {
		vgpu_start(v);
	}
	return 0;
}

/* Ends the keeper, wherever it stands; vgpu_gone() follows, perhaps at once. */
static void vgpu_stop(struct vgpu *v)
{
	v->stopping = true;
	if (v->link) {
		if (link_request(v->link, KEEPER_CONTROL_STOP, NULL, -1, NULL, NULL) < 0)
			log_warning("%s: STOP could not be sent", v->def.name);
		vgpu_set_timer(v, VGPU_STOP_MS, vgpu_on_stop_timeout);
	} else if (link_keeper_runs(v->dir)) {
		vgpu_set_timer(v, VGPU_RETRY_MS, vgpu_on_retry);
	} else {
		vgpu_gone(v);
	}
}

/* --- what its keeper says --- */

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

static void vgpu_keeper_ended(struct vgpu *v)
{
	char words[200], why[KEEPER_TEXT_MAX];

	close_fd(&v->stats_fd);
	v->silent = 0;
	if (v->stopping) {
		vgpu_gone(v);
		return;
	}
	vgpu_operation_keeper_ended(v); /* and with it both device processes */
	keeper_last_words(v, words, sizeof(words));
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

static const struct link_ops vgpu_link_ops = {
	.status = vgpu_on_status, .event = vgpu_on_event, .lost = vgpu_on_lost};

/* --- the beginning --- */

/* As a device process takes it: by address where there is one, for a node's number changes. */
static void gpu_device_node(const struct vgpud *d, const struct gpu *gpu, char *ret, size_t size)
{
	int root = (int)(strlen(d->roots.sys) - strlen("/sys"));

	if (gpu->pci_address[0])
		snprintf(ret, size, "%.*s%spci:%s", root, d->roots.sys, root ? "/" : "",
			gpu->pci_address);
	else
		snprintf(ret, size, "%s", gpu->render_node);
}

void vgpu_device_args(const struct vgpu *v, const struct gpu *gpu, struct vgpu_device_args *ret)
{
	const struct config *config = &v->d->config;
	const struct type *type = &v->def.type;
	static char name[] = "--name", renderer[] = "--renderer", vram[] = "--vram-mib",
		    heads[] = "--heads", width[] = "--max-width", height[] = "--max-height",
		    node[] = "--render-node", dmabuf[] = "--dmabuf", lockdown[] = "--lockdown",
		    exact[] = "--exact-only", formats[] = "--formats", fps[] = "--max-fps";
	char *options[] = {name, renderer, vram, heads, width, height, fps};
	bool hardware = gpu->render_node[0] && v->def.method == METHOD_FORWARD;
	unsigned n = 0;

	snprintf(ret->text[0], TYPES_NAME_MAX, "%s", v->def.name);
	snprintf(ret->text[1], TYPES_NAME_MAX, "%s", config->renderer);
	snprintf(ret->text[2], TYPES_NAME_MAX, "%llu", (unsigned long long)type->vram_mib);
	snprintf(ret->text[3], TYPES_NAME_MAX, "%u", type->heads);
	snprintf(ret->text[4], TYPES_NAME_MAX, "%u", type->max_width);
	snprintf(ret->text[5], TYPES_NAME_MAX, "%u", type->max_height);
	/* As the type is now that it has there: its guest has not seen it. */
	const struct type *there =
		strcmp(gpu->name, v->def.gpu) == 0
			? vgpud_find_type(v->d, type->name)
			: types_like(v->d->types, v->d->n_types, gpu->name, type);
	snprintf(ret->text[6], TYPES_NAME_MAX, "%u", there ? there->max_fps : 0);
	static_assert(ARRAY_SIZE(options) == VGPU_DEVICE_TEXTS, "each has its room");
	for (unsigned i = 0; i < ARRAY_SIZE(options); i++) {
		ret->args[n++] = options[i];
		ret->args[n++] = ret->text[i];
	}
	if (hardware) {
		gpu_device_node(v->d, gpu, ret->node, sizeof(ret->node));
		ret->args[n++] = node;
		ret->args[n++] = ret->node;
		if (config->dmabuf)
			ret->args[n++] = dmabuf;
	}
	if (v->def.method == METHOD_EMULATE)
		ret->args[n++] = exact;
	if (v->d->formats_dir[0]) {
		/* All software GPUs are drawn by the same driver. */
		snprintf(ret->formats, sizeof(ret->formats), "%s/%s", v->d->formats_dir,
			hardware ? gpu->name : "software");
		ret->args[n++] = formats;
		ret->args[n++] = ret->formats;
	}
	ret->args[n++] = lockdown;
	ret->args[n++] = (char *)(uintptr_t)config->lockdown;
	ret->args[n] = NULL;
}

static int vgpu_start_keeper(struct vgpu *v, const struct gpu *gpu)
{
	struct vgpu_device_args options = {0};
	char cpu_group[CGROUP_PATH_MAX], shaders[VGPUD_PATH_MAX];

	vgpu_device_args(v, gpu, &options);
	tenant_folder(v->d, &v->def, shaders, sizeof(shaders));
	vgpu_share_prepare(v, cpu_group, sizeof(cpu_group));
	struct link_spawn spawn = {.keeper = v->d->keeper_path,
		.device = v->d->device_path,
		.dir = v->dir,
		.name = v->def.name,
		.uuid = v->def.uuid,
		.device_args = options.args,
		.group = v->d->group,
		.cpu_group = cpu_group,
		.shaders = shaders,
		.shaders_mib = v->d->config.shader_cache_mib,
		.shaders_by_user = !v->def.tenant[0]};
	int r = vgpu_make_dir(v);
	if (r < 0)
		return r;
	standbys_want(v->d->standbys, gpu, v->def.method);
	bool died = v->was_standby; /* then a fresh one this time */
	v->was_standby =
		!died && standbys_take(v->d->standbys, v, &spawn, &vgpu_link_ops, &v->link) == 0;
	if (v->was_standby)
		return 0;
	return link_start(v->d->event, &spawn, &vgpu_link_ops, v, &v->link);
}

void vgpu_start(struct vgpu *v)
{
	char why[KEEPER_TEXT_MAX];
	const struct gpu *gpu = vgpud_find_gpu(v->d, v->def.gpu);
	bool runs = link_keeper_runs(v->dir);
	int r;

	if (v->direct) {
		direct_start(v);
		return;
	}
	v->timer = sd_event_source_disable_unref(v->timer);
	if (v->link)
		return;
	if (v->stopping && !runs) {
		vgpu_gone(v);
		return;
	}
	if (runs && vgpu_make_dir(v) < 0)
		log_warning("%s: %s cannot be given to the group: %s", v->def.name, v->dir,
			strerror(errno));
	if (runs)
		r = link_connect(v->d->event, v->dir, &vgpu_link_ops, v, &v->link);
	else
		r = vgpu_gpu_usable(v) ? vgpu_start_keeper(v, gpu) : -ENODEV;
	if (r == 0) {
		v->spoke = false;
		v->keeper_pid = link_keeper_pid(v->link);
	}
	if (r == -ENOENT || r == -ECONNREFUSED || r == -EBUSY || r == -EAGAIN) {
		vgpu_try_later(v, VGPU_SILENT_MAX); /* it runs, and will listen */
		return;
	}
	if (r == -ENODEV && v->gpu_fault[0])
		snprintf(why, sizeof(why), "%s", v->gpu_fault);
	else
		snprintf(why, sizeof(why), "its keeper cannot be started: %s", strerror(-r));
	if (r < 0)
		vgpu_fail(v, why);
}

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

/* --- requests to the keeper --- */

int vgpu_ensure(struct vgpu *v, const char *what, vgpu_done done, void *data, struct error *err)
{
	if (v->direct)
		return direct_refuse(v, what, err);
	if (v->def.phase != PHASE_DEFINED)
		return error_set(err, EBUSY, "%s: %s is %s (wait for that)", what, v->def.name,
			vgpu_state(v));
	if (v->link && v->have_status && v->status.state != KEEPER_STATE_STARTING) {
		done(data, NULL); /* a failed device process is restarted by the request itself */
		return 0;
	}
	int r = vgpu_wait(v, what, done, data, err);
	if (r == 0 && !v->link && !v->timer)
		vgpu_start(v);
	return r;
}

struct asking {
	struct vgpud *d;
	char name[VGPU_NAME_LONGEST + 1];
	char what[96];
	enum keeper_control_message type;
	bool until_ready; /* the answer is given when the device process serves */
	struct keeper_bind bind;
	struct keeper_screen screen;
	int fd;
	vgpu_fd_done done;
	void *data;
};

static void asking_end(struct asking *a, const struct error *err, int *fd)
{
	int none = -1;

	a->done(a->data, err, fd ? fd : &none);
	close_fd(&a->fd);
	free(a);
}

static void asking_end_code(struct asking *a, int code, const char *text)
{
	struct error err;

	if (code == -EBUSY || code == -EPERM)
		error_set(&err, -code, "%s: %s (end that first, or create another vGPU)", a->what,
			text);
	else
		error_set(&err, -code, "%s: %s (see `vgpuctl show %s`)", a->what, text, a->name);
	asking_end(a, &err, NULL);
}

static void on_asked_and_ready(void *data, const struct error *err)
{
	asking_end(data, err, NULL);
}

static void on_keeper_answer(void *data, int code, const char *text, int *fd)
{
	struct asking *a = data;
	struct vgpu *v = vgpud_find_vgpu(a->d, a->name);
	struct error err;

	if (code == -ENOENT && a->type == KEEPER_CONTROL_GET_SCREEN && v &&
		v->status.state == KEEPER_STATE_HIBERNATED) {
		error_set(&err, ENOENT,
			"%s: it hibernates and shows nothing (wake it: vgpuctl wake %s)", a->name,
			a->name);
		asking_end(a, &err, NULL);
		return;
	}
	if (code < 0) {
		asking_end_code(a, code, text);
		return;
	}
	if (a->until_ready && v && !vgpu_serves(v)) {
		if (vgpu_wait(v, a->what, on_asked_and_ready, a, &err) < 0)
			asking_end(a, &err, NULL);
		return;
	}
	asking_end(a, NULL, fd);
}

static void on_keeper_there(void *data, const struct error *err)
{
	struct asking *a = data;
	struct vgpu *v = vgpud_find_vgpu(a->d, a->name);
	const void *payload = a->type == KEEPER_CONTROL_GET_SCREEN ? (void *)&a->screen : &a->bind;

	/* A failed device process is restarted by the request; a keeper that is missing is not. */
	if (!v || !v->link) {
		struct error gone;
		error_set(&gone, EIO, "%s: its keeper is gone (see `vgpuctl show %s`)", a->what,
			a->name);
		asking_end(a, err ? err : &gone, NULL);
		return;
	}
	int r = link_request(v->link, a->type, payload, a->fd, on_keeper_answer, a);
	if (r < 0)
		asking_end_code(a, r, strerror(-r));
}

static int ask(struct vgpu *v, const struct asking *request, int fd, struct error *err)
{
	struct asking *a = malloc(sizeof(*a));

	if (!a)
		return error_set(err, ENOMEM, "%s: out of memory (free some)", request->what);
	*a = *request;
	a->d = v->d;
	a->fd = -1;
	snprintf(a->name, sizeof(a->name), "%s", v->def.name);
	if (fd >= 0) {
		a->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		if (a->fd < 0) {
			free(a);
			return error_set(err, errno, "%s: %s (see vgpud's limits)", request->what,
				strerror(errno));
		}
	}
	int r = vgpu_ensure(v, a->what, on_keeper_there, a, err);
	if (r < 0) {
		close_fd(&a->fd);
		free(a);
	}
	return r;
}

int vgpu_bind(struct vgpu *v, const struct keeper_bind *bind, int pidfd, vgpu_fd_done done,
	void *data, struct error *err)
{
	struct asking a = {.type = KEEPER_CONTROL_BIND,
		.until_ready = true,
		.bind = *bind,
		.done = done,
		.data = data};
	snprintf(a.what, sizeof(a.what), "bind %s", v->def.name);
	return ask(v, &a, pidfd, err);
}

int vgpu_unbind(struct vgpu *v, vgpu_fd_done done, void *data, struct error *err)
{
	struct asking a = {.type = KEEPER_CONTROL_UNBIND, .done = done, .data = data};
	snprintf(a.what, sizeof(a.what), "unbind %s", v->def.name);
	return ask(v, &a, -1, err);
}

int vgpu_adopt(struct vgpu *v, const struct keeper_bind *bind, int fd, vgpu_fd_done done,
	void *data, struct error *err)
{
	struct asking a = {.type = KEEPER_CONTROL_ADOPT, .bind = *bind, .done = done, .data = data};
	snprintf(a.what, sizeof(a.what), "serve %s", v->def.name);
	return ask(v, &a, fd, err);
}

int vgpu_screen(struct vgpu *v, uint32_t head, vgpu_fd_done done, void *data, struct error *err)
{
	struct asking a = {.type = KEEPER_CONTROL_GET_SCREEN,
		.screen = {.head = head},
		.done = done,
		.data = data};
	snprintf(a.what, sizeof(a.what), "screenshot %s", v->def.name);
	return ask(v, &a, -1, err);
}

bool vgpu_stats(const struct vgpu *v, struct vgpu_stats *ret)
{
	if (v->stats_fd < 0 || pread(v->stats_fd, ret, sizeof(*ret), 0) != (ssize_t)sizeof(*ret))
		return false;
	return ret->magic == VGPU_STATS_MAGIC && ret->version == VGPU_STATS_VERSION;
}
