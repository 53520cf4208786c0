/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is done in a process of its own: reading what the kernel says of a GPU, and changing it.
 * The process has a copy of all that vgpud knew when it was started and hands back JSON.
 *
 * One at a time works on a GPU, of this vgpud or an earlier one: each holds the GPU's lock, which
 * the writers that it starts (host/sysfs_write.h) inherit. So a request that an ended vgpud left in
 * the kernel is waited for, and nobody decides by what the node shows while it is on its way.
 */
#include "control/direct_private.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "control/gpus.h"
#include "control/kill_point.h"
#include "control/slice_types.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define LOCK_AGAIN_US 20000u

static void on_step(void *data, uint32_t at, const struct change *change)
{
	const struct vgpu *v = data;
	struct direct_progress *progress = v->direct->progress;

	kill_point();
	progress->bytes = at;
	progress->total_bytes = v->direct->stored.plan.count;
	snprintf(progress->step, sizeof(progress->step), "%s", change_kind_word(change->kind));
}

static struct change_node node_of(const struct vgpu *v)
{
	return (struct change_node){.roots = &v->d->roots,
		.kernel = &v->d->kernel,
		.limit_ms = VFIO_STEP_MS,
		.step = on_step,
		.data = (void *)(uintptr_t)v};
}

/* Held until the process ends, and by its writers until they have. */
static int lock_gpu(const struct vgpu *v, struct direct_result *ret)
{
	uint64_t end = clock_ms() + DIRECT_LOCK_MS;
	char path[VGPUD_PATH_MAX];

	snprintf(path, sizeof(path), "%.79s/gpus/%.63s.lock", v->d->run_dir, v->def.gpu);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		ret->code = -errno;
		snprintf(ret->text, sizeof(ret->text), "%s: %s: %s (see the run directory)",
			v->direct->what, path, strerror(errno));
		return ret->code;
	}
	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (clock_ms() >= end) {
			ret->code = -ETIMEDOUT;
			snprintf(ret->text, sizeof(ret->text),
				"%s: an earlier request to the kernel about %s has not returned "
				"(end whoever has the device open; see dmesg)",
				v->direct->what, v->def.gpu);
			return ret->code;
		}
		usleep(LOCK_AGAIN_US);
	}
	return 0;
}

static void read_boot(const struct vgpu *v, char *ret)
{
	cleanup_close int proc = sysfs_open(AT_FDCWD, v->d->roots.proc);

	ret[0] = '\0';
	if (proc >= 0)
		sysfs_read(proc, "sys/kernel/random/boot_id", ret, STORED_BOOT_MAX);
}

static void take_result(const struct change_result *from, struct direct_result *ret)
{
	ret->code = from->code;
	ret->done = from->done;
	ret->left = from->left;
	memcpy(ret->text, from->sentence, sizeof(ret->text));
}

static void take_error(const struct error *err, struct direct_result *ret)
{
	ret->code = -err->code;
	snprintf(ret->text, sizeof(ret->text), "%.*s", (int)sizeof(ret->text) - 1, err->text);
}

static void add_file(struct direct_files *files, const char *name)
{
	for (size_t i = 0; i < files->count; i++) {
		if (!strcmp(files->name[i], name))
			return;
	}
	if (files->count < DIRECT_FILES_MAX)
		snprintf(files->name[files->count++], HOLDER_FILE_MAX, "%.63s", name);
}

/* Of all that it may open, also where the plan is of a vgpud that knew nothing of own files. */
static void find_files(const struct vgpu *v, struct direct_files *ret)
{
	const struct change_plan *plan = &v->direct->stored.plan;
	char path[SYSFS_PATH_MAX], names[HOLDER_VFIO_MAX][HOLDER_FILE_MAX];

	for (uint32_t i = 0; i < plan->count; i++) {
		const struct change *c = &plan->list[i];
		if (!change_is_gift(c) && c->kind != CHANGE_VFIO)
			continue;
		snprintf(path, sizeof(path), "%s/bus/%s/devices/%s", v->d->roots.sys,
			pci_address_valid(c->subject) ? "pci" : "mdev", c->subject);
		cleanup_close int dir = sysfs_open(AT_FDCWD, path);
		size_t n = dir < 0 ? 0 : holder_vfio_files(dir, names);
		for (size_t k = 0; k < n; k++)
			add_file(ret, names[k]);
	}
}

static int plan(const struct vgpu *v, const struct host_facts *facts, struct change_plan *ret,
	struct error *err)
{
	if (v->def.method == METHOD_MEDIATE)
		return slice_plan(v, facts, ret, err);
	return plan_passthrough(facts, &v->direct->owner, v->direct->what, ret, err);
}

static void plan_job(const struct vgpu *v, struct direct_result *ret)
{
	const struct direct *x = v->direct;
	struct host_facts *facts = calloc(1, sizeof(*facts));
	struct change_plan *plans = calloc(1, sizeof(*plans));
	const struct gpu *gpu = vgpud_find_gpu(v->d, v->def.gpu);
	const struct change_node node = node_of(v);
	struct error err = {0};

	if (!facts || !plans || !gpu) {
		error_set(&err, gpu ? ENOMEM : ENODEV, "%s: %s", x->what,
			gpu ? "out of memory (free some)" : "its GPU is gone (plug it in)");
		take_error(&err, ret);
		free(plans);
	} else {
		gpus_facts(v->d, gpu, NULL, facts);
		if (plan(v, facts, plans, &err) < 0)
			take_error(&err, ret);
		change_plan_settle(&node, plans);
		ret->plan = plans;
	}
	free(facts);
}

/* The plan's changes of who may open it, or all the others. */
static void plan_part(const struct vgpu *v, bool owners, struct change_plan *ret)
{
	const struct change_plan *plan = &v->direct->stored.plan;

	ret->count = 0;
	for (uint32_t i = 0; i < plan->count; i++) {
		if (change_is_gift(&plan->list[i]) == owners)
			ret->list[ret->count++] = plan->list[i];
	}
}

static void apply_part(const struct vgpu *v, bool owners, struct direct_result *ret)
{
	const struct change_node node = node_of(v);
	struct change_result result;
	struct change_plan part;

	plan_part(v, owners, &part);
	change_apply(&node, &part, v->direct->what, &result);
	take_result(&result, ret);
}

static void apply_job(const struct vgpu *v, struct direct_result *ret)
{
	apply_part(v, false, ret);
}

static void give_job(const struct vgpu *v, struct direct_result *ret)
{
	apply_part(v, true, ret);
}

/* Of a vGPU that is there: whatever is not yet as planned. */
static void reapply_job(const struct vgpu *v, struct direct_result *ret)
{
	apply_part(v, false, ret);
	uint32_t done = ret->done;
	if (ret->code == 0)
		give_job(v, ret);
	ret->done += done;
}

bool direct_is_of_boot(const struct vgpu *v, const char *boot)
{
	const char *of = v->direct->stored.boot;

	return !strcmp(of + (of[0] == DIRECT_BOOT_BEGUN), boot);
}

/* Who may open it is given again; in all else nothing is forced. */
static void check_job(const struct vgpu *v, struct direct_result *ret)
{
	const struct change_node node = node_of(v);
	struct change_result result;
	struct change_plan part;

	if (direct_is_of_boot(v, ret->boot) && v->direct->stored.boot[0] == DIRECT_BOOT_BEGUN) {
		reapply_job(v, ret); /* an earlier vgpud ended before it had */
		return;
	}
	if (!direct_is_of_boot(v, ret->boot))
		return;
	plan_part(v, false, &part);
	change_check(&node, &part, v->direct->what, &result);
	take_result(&result, ret);
	if (ret->code == 0)
		give_job(v, ret);
}

static void scrub_job(const struct vgpu *v, struct direct_result *ret)
{
	direct_scrub_work(v, ret);
}

/* What every job tells is all that is asked: its files. */
static void look_job(const struct vgpu *v, struct direct_result *ret)
{
	(void)v;
	ret->code = 0;
}

/* Takes the file from its owner, before its memory is emptied for good. */
static void retire_job(const struct vgpu *v, struct direct_result *ret)
{
	const struct change_plan *plan = &v->direct->stored.plan;
	const struct change_node node = node_of(v);
	struct change_result result;
	bool keep[CHANGES_MAX];

	if (v->direct->held) { /* half of it may be undone: what is to be emptied is taken again */
		apply_part(v, false, ret);
		if (ret->code < 0)
			return;
	}
	for (uint32_t i = 0; i < plan->count; i++)
		keep[i] = !change_is_gift(&plan->list[i]);
	change_undo(&node, plan, keep, v->direct->what, &result);
	take_result(&result, ret);
	if (ret->code == 0)
		direct_scrub_work(v, ret);
}

static void undo_job(const struct vgpu *v, struct direct_result *ret)
{
	const struct change_plan *plan = &v->direct->stored.plan;
	const struct change_node node = node_of(v);
	struct change_result result;
	bool keep[CHANGES_MAX];

	for (uint32_t i = 0; i < plan->count; i++)
		keep[i] = plan->list[i].shared && direct_shared(v, &plan->list[i]);
	change_undo(&node, plan, keep, v->direct->what, &result);
	take_result(&result, ret);
}

static void (*const jobs[DIRECT_STATE_COUNT])(const struct vgpu *v, struct direct_result *ret) = {
	[DIRECT_PLANNING] = plan_job,
	[DIRECT_APPLYING] = apply_job,
	[DIRECT_GIVING] = give_job,
	[DIRECT_CHECKING] = check_job,
	[DIRECT_REPLANNING] = plan_job,
	[DIRECT_REAPPLYING] = reapply_job,
	[DIRECT_SCRUBBING] = scrub_job,
	[DIRECT_LOOKING] = look_job,
	[DIRECT_RETIRING] = retire_job,
	[DIRECT_UNDOING] = undo_job,
};

bool direct_has_job(enum direct_state state)
{
	return jobs[state] != NULL;
}

json_t *direct_job(const void *data)
{
	const struct vgpu *v = data;
	struct direct_result *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	read_boot(v, r->boot);
	if (lock_gpu(v, r) == 0)
		jobs[v->direct->state](v, r);
	find_files(v, &r->files);
	r->window = direct_window(v);
	return direct_result_to_json(r);
}
