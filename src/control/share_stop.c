/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every few ms what device processes used is settled (scheduler/deficit.h), and the keeper of each
 * one that has to stop is told for how long. It continues it by its own clock, at most
 * DEFICIT_STOP_MAX_NS later, so when this vgpud is killed all run on at once, and as soon as the
 * next one settles they are held again. Accounts begin anew then.
 *
 *   fast   somebody's share can be too small for what it draws: in fixed-share one that draws, in
 *          equal-share two
 *   slow   somebody draws, or did a moment ago
 *   idle   clients are connected and nobody draws
 *   off    no GPU has such a policy, or nobody is connected: there is no timer
 *
 * What was used since the last time is charged at the next one, however late that is, so whoever
 * begins to draw while the clock is slow gains nothing in the end.
 */
#include "control/share_stop.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "control/vgpud.h"
#include "host/cpu_time.h"
#include "scheduler/deficit.h"

#include <stdlib.h>
#include <string.h>

#define STOP_FIXED_MS    4u
#define STOP_EQUAL_MS    8u
#define STOP_SLOW_MS     40u
#define STOP_IDLE_MS     250u
#define STOP_FAST_FOR_NS (250ull * SCHED_MS) /* and no longer after the last reason for it */
#define STOP_SLOW_FOR_NS (2000ull * SCHED_MS)
#define STOP_DRAWS       50u   /* who used a part in so many of a CPU draws */
#define STOP_RUNS        1000u /* and in so many, did something */

_Static_assert(
	DEFICIT_STOP_MAX_NS <= KEEPER_HOLD_MAX_NS, "a keeper holds for as long as it is told");

struct stop_gpu {
	struct deficit deficit;
	uint64_t settled_ns, fast_ns, ran_ns; /* when: the last time, there was reason for it */
};

struct share_stop {
	sd_event_source *timer;
	uint64_t due_ms;                       /* the period it was set for */
	struct stop_gpu *gpus[VGPUD_MAX_GPUS]; /* NULL: nobody draws there */
};

/* --- whom it is about --- */

static bool stop_is_enforced(const struct vgpud *d, const struct gpu *gpu)
{
	return d->share.by == SHARE_BY_ACCOUNTS && !gpu->slices && gpu->enforcer &&
	       gpu->sched.policy != SCHED_BEST_EFFORT;
}

/* A vGPU that nobody is connected to has nothing to draw. */
static bool stop_is_used(const struct vgpu *v, const struct gpu *gpu)
{
	return !strcmp(v->def.gpu, gpu->name) && v->link && v->have_status &&
	       v->status.device_pid && v->status.connections;
}

static bool stop_is_needed(const struct vgpud *d, const struct gpu *gpu)
{
	unsigned used = 0;

	if (!stop_is_enforced(d, gpu))
		return false;
	for (const struct vgpu *v = d->vgpus; v; v = v->next)
		used += stop_is_used(v, gpu);
	return used > (gpu->sched.policy == SCHED_EQUAL_SHARE);
}

static struct stop_gpu *stop_gpu_of(struct vgpud *d, const struct gpu *gpu, uint64_t now)
{
	struct stop_gpu **at = &d->share.stop->gpus[gpu - d->gpus];
	struct stop_gpu *s = *at;

	if (s && s->deficit.gpu.policy == gpu->sched.policy &&
		s->deficit.gpu.slice_ms == gpu->sched.slice_ms)
		return s;
	free(s);
	*at = s = calloc(1, sizeof(*s));
	if (s && deficit_init(&s->deficit, &gpu->sched, vgpud_share_cpus(d), true) < 0) {
		free(s);
		*at = s = NULL;
	}
	if (s)
		s->settled_ns = s->ran_ns = now; /* somebody came, and will draw */
	return s;
}

/* --- what they used --- */

void vgpu_share_stop_forget(struct vgpu *v)
{
	cpu_time_close(TAKE_PTR(v->share.time));
}

static bool stop_open_time(struct vgpu *v)
{
	const struct keeper_status *s = &v->status;
	struct cpu_time *time = NULL;
	/* Of one that took over all counts: its keeper started it while its vGPU was charged. */
	bool from_birth = v->share.time_pid && v->share.time_pid != s->device_pid;

	if (v->share.time && v->share.time_pid == s->device_pid)
		return true;
	vgpu_share_stop_forget(v);
	if (cpu_time_open((pid_t)s->device_pid, s->device_start_time, from_birth, &time) < 0)
		return false;
	v->share.time = time;
	v->share.time_pid = s->device_pid;
	v->share.last = (struct deficit_use){0};
	return true;
}

/* CPU time since the last time, in ns. */
static uint64_t stop_count(struct vgpu *v, struct stop_gpu *s, uint64_t now)
{
	struct deficit_use use, *last = &v->share.last, *sum = &v->share.sum;

	if (!stop_open_time(v))
		return 0;
	cpu_time_read(v->share.time, now, &use.ran_ns, &use.waited_ns);
	uint64_t ran = use.ran_ns - last->ran_ns;
	sum->ran_ns += ran;
	sum->waited_ns += use.waited_ns - last->waited_ns;
	*last = use;
	deficit_used(&s->deficit, v->share.id, sum);
	return ran;
}

static void stop_count_all(struct vgpud *d, const struct gpu *gpu, struct stop_gpu *s, uint64_t now)
{
	uint64_t step = now - s->settled_ns;
	unsigned draw = 0, runs = 0;

	for (struct vgpu *v = d->vgpus; v; v = v->next) {
		if (!stop_is_used(v, gpu))
			continue;
		const struct sched_vgpu params = vgpu_share_params(v, gpu);
		if (!v->share.id)
			v->share.id = ++d->share.last_id;
		deficit_add(&s->deficit, v->share.id, &params); /* or it is there */
		uint64_t ran = stop_count(v, s, now);
		draw += ran > step / STOP_DRAWS;
		runs += ran > step / STOP_RUNS;
	}
	/* Alone, one has nobody to share with in equal-share. */
	if (draw > (gpu->sched.policy == SCHED_EQUAL_SHARE ? 1u : 0u))
		s->fast_ns = now;
	if (runs)
		s->ran_ns = now;
}

static void stop_forget_gone(struct vgpud *d, const struct gpu *gpu, struct stop_gpu *s)
{
	for (unsigned i = 0; i < SCHED_VGPUS_MAX; i++) {
		const struct vgpu *v = d->vgpus;
		uint32_t id = s->deficit.vgpus[i].id;
		while (v && (v->share.id != id || !stop_is_used(v, gpu)))
			v = v->next;
		if (!v)
			deficit_remove(&s->deficit, id);
	}
}

/* --- who stops --- */

static void stop_tell(struct vgpu *v, uint64_t ns, uint64_t now, uint64_t period_ns)
{
	const struct keeper_hold hold = {.ns = ns};
	uint64_t left = v->share.held_until_ns > now ? v->share.held_until_ns - now : 0;

	/* What it was told lasts until it is told again, or it goes on just when it is time. */
	if (ns ? left >= 2 * period_ns || left >= ns : !left)
		return;
	v->share.held_until_ns = ns ? now + ns : 0;
	link_request(v->link, KEEPER_CONTROL_HOLD, &hold, -1, NULL, NULL);
}

static uint64_t stop_period_ms(const struct gpu *gpu, const struct stop_gpu *s, uint64_t now)
{
	if (now - s->fast_ns < STOP_FAST_FOR_NS)
		return gpu->sched.policy == SCHED_FIXED_SHARE ? STOP_FIXED_MS : STOP_EQUAL_MS;
	return now - s->ran_ns < STOP_SLOW_FOR_NS ? STOP_SLOW_MS : STOP_IDLE_MS;
}

/* Returns when to settle again, in ms from now. */
static uint64_t stop_settle(
	struct vgpud *d, const struct gpu *gpu, struct stop_gpu *s, uint64_t now)
{
	stop_forget_gone(d, gpu, s);
	stop_count_all(d, gpu, s, now);
	deficit_settle(&s->deficit, now);
	s->settled_ns = now;
	uint64_t period = stop_period_ms(gpu, s, now);
	for (struct vgpu *v = d->vgpus; v; v = v->next) {
		if (stop_is_used(v, gpu))
			stop_tell(v, deficit_stop_ns(&s->deficit, v->share.id), now,
				period * SCHED_MS);
	}
	return period;
}

static void stop_forget_times(struct vgpud *d, const struct gpu *gpu)
{
	for (struct vgpu *v = d->vgpus; v; v = v->next) {
		if (!strcmp(v->def.gpu, gpu->name))
			vgpu_share_stop_forget(v);
	}
}

/* UINT64_MAX: nobody needs it. */
static uint64_t stop_settle_all(struct vgpud *d, uint64_t now)
{
	uint64_t next = UINT64_MAX;

	for (size_t i = 0; i < d->n_gpus; i++) {
		const struct gpu *gpu = &d->gpus[i];
		struct stop_gpu **at = &d->share.stop->gpus[i];
		if (!stop_is_needed(d, gpu)) {
			if (*at)
				stop_forget_times(d, gpu);
			free(TAKE_PTR(*at));
			continue;
		}
		struct stop_gpu *s = stop_gpu_of(d, gpu, now);
		uint64_t due = s ? stop_settle(d, gpu, s, now) : STOP_IDLE_MS;
		next = MIN(next, due);
	}
	return next;
}

/* --- when --- */

static int on_time(sd_event_source *source, uint64_t usec, void *data)
{
	struct vgpud *d = data;
	struct share_stop *stop = d->share.stop;

	stop->due_ms = stop_settle_all(d, clock_ns());
	if (stop->due_ms == UINT64_MAX) {
		stop->timer = sd_event_source_disable_unref(source);
		return 0;
	}
	sd_event_source_set_time_relative(source, stop->due_ms * 1000);
	sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	return 0;
}

static bool stop_any_needed(const struct vgpud *d)
{
	for (size_t i = 0; i < d->n_gpus; i++) {
		if (stop_is_needed(d, &d->gpus[i]))
			return true;
	}
	return false;
}

void vgpud_share_stop_watch(struct vgpud *d)
{
	struct share_stop *stop = d->share.stop;

	if (d->share.by != SHARE_BY_ACCOUNTS || !stop_any_needed(d))
		return;
	if (!stop)
		d->share.stop = stop = calloc(1, sizeof(*stop));
	if (stop && stop->timer && stop->due_ms == STOP_IDLE_MS)
		sd_event_source_set_time_relative(stop->timer, STOP_FIXED_MS * 1000);
	if (!stop || stop->timer)
		return;
	stop->due_ms = STOP_FIXED_MS;
	/* An accuracy of 250 ms is the default, 1 us the best. */
	int r = sd_event_add_time_relative(
		d->event, &stop->timer, CLOCK_MONOTONIC, STOP_FIXED_MS * 1000, 1, on_time, d);
	if (r < 0)
		log_warning("shares are not enforced: no timer");
}

void vgpud_share_stop_close(struct vgpud *d)
{
	struct share_stop *stop = d->share.stop;

	for (struct vgpu *v = d->vgpus; v; v = v->next)
		vgpu_share_stop_forget(v);
	if (!stop)
		return;
	sd_event_source_disable_unref(stop->timer);
	for (size_t i = 0; i < VGPUD_MAX_GPUS; i++)
		free(stop->gpus[i]);
	free(TAKE_PTR(d->share.stop));
}
