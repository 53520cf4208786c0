/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs (direct_job.c) have their turns: one at a time on a GPU, with a limit of its own, and what
 * it came to is an event of its vGPU's.
 */
#include "control/direct_private.h"

#include "base/checked.h"
#include "control/slice_types.h"
#include "host/scrub.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
	if (result && json && direct_result_from_json(json, result)) {
		x->window = result->window ?: x->window;
		event = result->code < 0 ? DIRECT_BAD : DIRECT_DONE;
		if (x->state == DIRECT_CHECKING && event == DIRECT_DONE &&
			!direct_is_of_boot(v, result->boot))
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
		&v->d->children, v->d->event, direct_job, v, direct_limit_ms(v), on_job_done, v);
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
