/* SPDX-License-Identifier: Apache-2.0 */
/* The keeper of a vGPU: its folder, and how it is started, found again and ended. */
#include "control/vgpu_private.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "control/direct.h"
#include "control/gpus.h"
#include "control/standby.h"
#include "control/tenant.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

void vgpu_remove_dir(const struct vgpu *v)
{
	static const char *const files[] = {
		"keeper.sock", "vhost-user.sock", "vtest.sock", "keeper.log", "keeper.lock"};

	cleanup_close int dir = open(v->dir, O_DIRECTORY | O_CLOEXEC);
	for (size_t i = 0; dir >= 0 && i < ARRAY_SIZE(files); i++)
		unlinkat(dir, files[i], 0);
	if (rmdir(v->dir) < 0 && errno != ENOENT)
		log_warning("%s cannot be removed: %s", v->dir, strerror(errno));
}

void vgpu_last_words(const struct vgpu *v, char *ret, size_t size)
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

/* --- timers --- */

void vgpu_set_source(
	struct vgpu *v, sd_event_source **source, uint64_t ms, sd_event_time_handler_t handler)
{
	*source = sd_event_source_disable_unref(*source);
	int r = sd_event_add_time(
		v->d->event, source, CLOCK_MONOTONIC, (clock_ms() + ms) * 1000, 1000, handler, v);
	if (r < 0)
		log_error("%s: no timer: %s", v->def.name, strerror(-r));
}

void vgpu_set_timer(struct vgpu *v, uint64_t ms, sd_event_time_handler_t handler)
{
	vgpu_set_source(v, &v->timer, ms, handler);
}

/* --- one that does not answer, and the end --- */

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

/*
 * A keeper runs and cannot be talked to: for a moment that is normal (it is starting, or ending);
 * one of another version, or one that hangs, is tried again ever more rarely, and told. One that
 * shall stop is killed after `patience` attempts. May free v.
 */
void vgpu_try_later(struct vgpu *v, unsigned patience)
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

int vgpu_on_retry(sd_event_source *source, uint64_t usec, void *data)
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

void vgpu_stop(struct vgpu *v)
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
