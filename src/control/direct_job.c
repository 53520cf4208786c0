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
#include "host/scrub.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define LOCK_AGAIN_US 20000u

/* --- in the job's process --- */

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
static json_t *list_files(const struct vgpu *v)
{
	const struct change_plan *plan = &v->direct->stored.plan;
	char path[SYSFS_PATH_MAX], names[HOLDER_VFIO_MAX][HOLDER_FILE_MAX];
	struct direct_files files = {0};
	json_t *list = json_array();

	for (uint32_t i = 0; i < plan->count; i++) {
		const struct change *c = &plan->list[i];
		if (!change_is_gift(c) && c->kind != CHANGE_VFIO)
			continue;
		snprintf(path, sizeof(path), "%s/bus/%s/devices/%s", v->d->roots.sys,
			pci_address_valid(c->subject) ? "pci" : "mdev", c->subject);
		cleanup_close int dir = sysfs_open(AT_FDCWD, path);
		size_t n = dir < 0 ? 0 : holder_vfio_files(dir, names);
		for (size_t k = 0; k < n; k++)
			add_file(&files, names[k]);
	}
	for (size_t i = 0; i < files.count; i++)
		json_array_append_new(list, json_string(files.name[i]));
	return list;
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

/* Was its plan made for that start of the node? */
static bool is_of_boot(const struct vgpu *v, const char *boot)
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

	if (is_of_boot(v, ret->boot) && v->direct->stored.boot[0] == DIRECT_BOOT_BEGUN) {
		reapply_job(v, ret); /* an earlier vgpud ended before it had */
		return;
	}
	if (!is_of_boot(v, ret->boot))
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

static json_t *text(const char *s)
{
	json_t *json = json_string(s);

	return json ? json : json_string("?"); /* not UTF-8 */
}

static json_t *plan_to_json(const struct change_plan *plan)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < plan->count; i++) {
		const struct change *c = &plan->list[i];
		json_array_append_new(list,
			json_pack("{s:s, s:o, s:o, s:o, s:b}", "kind", change_kind_word(c->kind),
				"subject", text(c->subject), "before", text(c->before), "after",
				text(c->after), "shared", c->shared));
	}
	return json_pack("{s:o, s:o}", "device", text(plan->device), "changes", list);
}

static json_t *job_main(const void *data)
{
	const struct vgpu *v = data;
	struct direct_result *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	read_boot(v, r->boot);
	if (lock_gpu(v, r) == 0)
		jobs[v->direct->state](v, r);
	json_t *json = json_pack("{s:i, s:o, s:i, s:i, s:o, s:I, s:o}", "code", r->code, "text",
		text(r->text), "done", (int)r->done, "left", (int)r->left, "files", list_files(v),
		"window", (json_int_t)(direct_window(v) & INT64_MAX), "boot", text(r->boot));
	if (r->plan && r->code == 0)
		json_object_set_new(json, "plan", plan_to_json(r->plan));
	if (r->scrub.done)
		json_object_set_new(json, "scrub",
			json_pack("{s:s, s:o, s:I, s:I, s:I}", "verdict", r->scrub.verdict, "text",
				text(r->scrub.text), "bytes", (json_int_t)r->scrub.bytes, "took_ms",
				(json_int_t)r->scrub.took_ms, "time_ms",
				(json_int_t)r->scrub.time_ms));
	return json;
}

/* --- in vgpud --- */

static bool copy(const char *from, char *ret, size_t size)
{
	return (size_t)snprintf(ret, size, "%s", from) < size;
}

static bool change_from_json(json_t *json, struct change *ret)
{
	const char *kind, *subject, *before, *after;
	int shared;

	*ret = (struct change){0};
	if (json_unpack(json, "{s:s, s:s, s:s, s:s, s:b}", "kind", &kind, "subject", &subject,
		    "before", &before, "after", &after, "shared", &shared) < 0 ||
		!copy(subject, ret->subject, sizeof(ret->subject)) ||
		!copy(before, ret->before, sizeof(ret->before)) ||
		!copy(after, ret->after, sizeof(ret->after)))
		return false;
	ret->kind = change_kind_from_word(kind);
	ret->shared = shared;
	return change_valid(ret);
}

/* NULL: it is none. */
static struct change_plan *plan_from_json(json_t *json)
{
	struct change_plan *plan = calloc(1, sizeof(*plan));
	const char *device;
	json_t *list;

	bool good = plan &&
		    json_unpack(json, "{s:s, s:o}", "device", &device, "changes", &list) == 0 &&
		    copy(device, plan->device, sizeof(plan->device)) && json_array_size(list) > 0 &&
		    json_array_size(list) <= CHANGES_MAX;
	for (size_t i = 0; good && i < json_array_size(list); i++)
		good = change_from_json(json_array_get(list, i), &plan->list[plan->count++]);
	if (good)
		return plan;
	free(plan);
	return NULL;
}

static void scrub_from_json(json_t *json, struct direct_scrub_report *ret)
{
	json_int_t bytes = 0, took_ms = 0, time_ms = 0;
	const char *verdict = "", *words = "";

	if (json_unpack(json, "{s:s, s:s, s:I, s:I, s:I}", "verdict", &verdict, "text", &words,
		    "bytes", &bytes, "took_ms", &took_ms, "time_ms", &time_ms) < 0)
		return;
	ret->done = true;
	copy(verdict, ret->verdict, sizeof(ret->verdict));
	copy(words, ret->text, sizeof(ret->text));
	ret->bytes = (uint64_t)bytes;
	ret->took_ms = (uint64_t)took_ms;
	ret->time_ms = (uint64_t)time_ms;
}

static void files_from_json(json_t *json, struct direct_files *ret)
{
	ret->count = 0;
	for (size_t i = 0; i < json_array_size(json) && ret->count < DIRECT_FILES_MAX; i++) {
		const char *name = json_string_value(json_array_get(json, i));
		if (name && copy(name, ret->name[ret->count], HOLDER_FILE_MAX))
			ret->count++;
	}
}

/* False: the job came to nothing that it should. */
static bool result_from_json(json_t *json, struct direct_result *ret)
{
	const char *words, *boot;
	json_int_t window;
	int done, left;
	json_t *files, *plan, *scrub;

	if (json_unpack(json, "{s:i, s:s, s:i, s:i, s:o, s:I, s:s}", "code", &ret->code, "text",
		    &words, "done", &done, "left", &left, "files", &files, "window", &window,
		    "boot", &boot) < 0)
		return false;
	ret->window = (uint64_t)MAX(window, 0);
	files_from_json(files, &ret->files);
	copy(words, ret->text, sizeof(ret->text));
	copy(boot, ret->boot, sizeof(ret->boot));
	ret->done = (uint32_t)MAX(done, 0);
	ret->left = (uint32_t)MAX(left, 0);
	scrub = json_object_get(json, "scrub");
	if (scrub)
		scrub_from_json(scrub, &ret->scrub);
	plan = json_object_get(json, "plan");
	if (plan)
		ret->plan = plan_from_json(plan);
	return !plan || ret->plan;
}

static void next_on_gpu(struct vgpud *d, const char *gpu);

static void on_job_done(void *data, json_t *json)
{
	struct vgpu *v = data;
	struct vgpud *d = v->d;
	struct direct *x = v->direct;
	struct direct_result *result = calloc(1, sizeof(*result));
	enum direct_event event = DIRECT_BAD;
	char gpu[TYPES_NAME_MAX];
	bool slice = v->def.method == METHOD_MEDIATE;

	memcpy(gpu, v->def.gpu, sizeof(gpu));
	x->working = false;
	if (result && json && result_from_json(json, result)) {
		x->window = result->window ?: x->window;
		event = result->code < 0 ? DIRECT_BAD : DIRECT_DONE;
		if (x->state == DIRECT_CHECKING && event == DIRECT_DONE &&
			!is_of_boot(v, result->boot))
			event = DIRECT_OTHER_BOOT;
	} else if (result) {
		result->code = -ETIMEDOUT;
		snprintf(result->text, sizeof(result->text),
			"%s: the kernel does not come to an end with %s (see dmesg)", x->what,
			v->def.gpu);
	}
	json_decref(json);
	if (result) {
		direct_event(v, event, result); /* may free v */
		free(result->plan);
	}
	free(result);
	if (slice)
		slice_types_refresh(d, gpu);
	next_on_gpu(d, gpu);
}

uint32_t direct_limit_ms(const struct vgpu *v)
{
	const struct change_plan *plan = &v->direct->stored.plan;
	/* What its driver told, and what the bus shows: either may be more, and both are bounded.
	 */
	uint64_t told = MIN(v->def.type.vram_mib, UINT64_MAX >> 20) << 20;
	bool scrubs = v->direct->state == DIRECT_SCRUBBING || v->direct->state == DIRECT_RETIRING;
	uint64_t ms = DIRECT_LOCK_MS + DIRECT_PLAN_MS;

	/* Three requests for each change, and one to reset what it is about. */
	ms += 4ull * VFIO_STEP_MS * plan->count;
	if (scrubs)
		ms += 2ull * scrub_limit_ms(MAX(told, v->direct->window));
	return (uint32_t)MIN(ms, (uint64_t)UINT32_MAX);
}

static bool gpu_busy(const struct vgpud *d, const char *gpu)
{
	for (const struct vgpu *v = d->vgpus; v; v = v->next) {
		if (v->direct && v->direct->working && !strcmp(v->def.gpu, gpu))
			return true;
	}
	return false;
}

static int on_later(sd_event_source *source, uint64_t usec, void *data)
{
	struct vgpu *v = data;

	v->direct->later = sd_event_source_disable_unref(v->direct->later);
	if (v->direct->waiting)
		direct_work(v); /* may free it */
	return 0;
}

/* Other vGPUs' processes end soon. False: it is of no use to wait (any longer). */
static bool work_later(struct vgpu *v)
{
	struct direct *x = v->direct;

	if (x->late++ >= DIRECT_LATER_MOST)
		return false;
	x->later = sd_event_source_disable_unref(x->later);
	x->waiting = sd_event_add_time_relative(v->d->event, &x->later, CLOCK_MONOTONIC,
			     DIRECT_LATER_MS * 1000ull, 0, on_later, v) >= 0;
	return x->waiting;
}

void direct_work(struct vgpu *v)
{
	struct direct *x = v->direct;

	x->waiting = gpu_busy(v->d, v->def.gpu);
	if (x->waiting)
		return;
	*x->progress = (struct direct_progress){0};
	x->working = true;
	int r = child_start(
		&v->d->children, v->d->event, job_main, v, direct_limit_ms(v), on_job_done, v);
	x->working = r == 0;
	if (r == 0)
		x->late = 0;
	if (r == 0 || (r == -EAGAIN && work_later(v)))
		return;
	x->late = 0;
	struct direct_result result = {.code = r};
	snprintf(result.text, sizeof(result.text), "%s: no process for it: %s (try again)", x->what,
		strerror(-r));
	direct_event(v, DIRECT_BAD, &result);
}

/* Whose turn is next there, by name. */
static void next_on_gpu(struct vgpud *d, const char *gpu)
{
	for (struct vgpu *v = d->vgpus; v; v = v->next) {
		if (v->direct && v->direct->waiting && !strcmp(v->def.gpu, gpu)) {
			direct_work(v);
			return;
		}
	}
}
