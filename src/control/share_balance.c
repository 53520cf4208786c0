/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps equal-share exact, and those quick that use little.
 *
 * The kernel divides by weight among those that are ready to run at a moment; one that waits for
 * its client's next request now and then comes off worse by what it could not use just then, though
 * it could use it later. So what each used and waited for is accounted for (scheduler/deficit.h),
 * and the weight of who is owed something is raised a little, and of who owes lowered, until it is
 * even.
 *
 * It also gives each its part of every few ms, so one that draws a small frame now and then waits
 * several times for the others within that frame, though it takes far less than its share in all.
 * Who used less than half of its share since the last time, and neither owes anything nor waited
 * most of the time, is light: it is in a group of its own beside the one of all the others, which
 * weighs nearly nothing beside it, and its slices are shorter than theirs, which lets the kernel
 * take the CPU from one of them at once. Both only decide who is first, as long as it stays light;
 * when it does not, it is so until the next look and is charged for what it took.
 *
 * The kernel's own division is the rule and this the correction: when vgpud is gone, the last
 * weights stay.
 */
#include "control/share.h"

#include "base/checked.h"
#include "base/clock.h"
#include "control/share_groups.h"
#include "control/share_stop.h"
#include "control/vgpud.h"
#include "host/cpu_slice.h"
#include "scheduler/deficit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BALANCE_MS       250u
#define BALANCE_IDLE_MS  2000u /* while nobody draws */
#define BALANCE_FULL_MS  500u  /* a balance of its part of so much doubles the weight, */
#define BALANCE_FULL_NS  (200LL * SCHED_MS) /* but no more than that, */
#define BALANCE_LEAST_NS (10LL * SCHED_MS)  /* and no less: such balances come and go */
#define BALANCE_MOST     500                /* thousandths of the weight */

#define BALANCE_ACCURACY_US 10000u
#define BALANCE_LIGHT_DEBT  (-20LL * SCHED_MS)           /* who owes more is not light */
#define BALANCE_LIGHT_SLICE 3u                           /* quarters of the slice of the others */
#define BALANCE_LATE_NS     (1000u * (uint64_t)SCHED_MS) /* until who stopped may be light again */

struct balance {
	struct deficit deficit;
	uint64_t settled_ns;
	bool active;          /* somebody drew since the last time */
	bool told, gives_way; /* what the group of all but the light ones was told */
	bool refused;         /* that it gives way, and said so */
};

static struct balance *balance_of(struct vgpud *d, const struct gpu *gpu)
{
	struct balance **at = &d->balances[gpu - d->gpus];
	const struct sched_gpu *now = &gpu->sched;

	if (*at && ((*at)->deficit.gpu.slice_ms != now->slice_ms ||
			   (*at)->deficit.gpu.policy != now->policy)) {
		free(*at);
		*at = NULL;
	}
	if (!*at)
		*at = calloc(1, sizeof(**at));
	if (*at && !(*at)->deficit.cpus)
		deficit_init(&(*at)->deficit, now, d->share.cpus * 1000, false);
	return *at;
}

/* Counters that only grow, from those of its group. Returns what it did since the last time. */
static struct deficit_use balance_count(struct vgpu *v, struct balance *b)
{
	struct deficit_use now = {0}, *last = &v->share.last, before = v->share.sum;

	if (share_groups_usage(v, &now) < 0)
		return (struct deficit_use){0};
	if (now.ran_ns > last->ran_ns)
		v->share.sum.ran_ns += now.ran_ns - last->ran_ns;
	if (now.waited_ns > last->waited_ns)
		v->share.sum.waited_ns += now.waited_ns - last->waited_ns;
	b->active |= now.ran_ns > last->ran_ns + BALANCE_MS * SCHED_MS / 100;
	*last = now;
	deficit_used(&b->deficit, v->share.id, &v->share.sum);
	return (struct deficit_use){.ran_ns = v->share.sum.ran_ns - before.ran_ns,
		.waited_ns = v->share.sum.waited_ns - before.waited_ns};
}

static void balance_forget(struct vgpud *d, struct balance *b, const char *gpu)
{
	for (unsigned i = 0; i < SCHED_VGPUS_MAX; i++) {
		const struct vgpu *v = d->vgpus;
		uint32_t id = b->deficit.vgpus[i].id;
		while (v && (v->share.id != id || strcmp(v->def.gpu, gpu) != 0))
			v = v->next;
		if (!v)
			deficit_remove(&b->deficit, id);
	}
}

/* `part_ns`: what it is entitled to in BALANCE_FULL_MS. */
static uint32_t balance_gain(const struct balance *b, uint32_t id, uint64_t part_ns)
{
	if (b->deficit.gpu.policy != SCHED_EQUAL_SHARE)
		return SHARE_GAIN_ONE;
	int64_t full = MAX(MIN((int64_t)part_ns, BALANCE_FULL_NS), BALANCE_LEAST_NS);
	int64_t gain = deficit_balance_ns(&b->deficit, id) * SHARE_GAIN_ONE / full;

	return (uint32_t)(SHARE_GAIN_ONE + MAX(MIN(gain, BALANCE_MOST), -BALANCE_MOST));
}

/* One that waited nearly all the time wants more than it gets: it is not light, it is late. */
static bool balance_is_light(const struct balance *b, const struct vgpu *v,
	const struct deficit_use *did, uint64_t part_ns, uint64_t step_ns)
{
	bool was = v->share.light;

	if (!was && b->settled_ns < v->share.late_until_ns)
		return false;
	if (deficit_balance_ns(&b->deficit, v->share.id) < BALANCE_LIGHT_DEBT)
		return false;
	return did->ran_ns < (was ? part_ns / 4 * 3 : part_ns / 2) &&
	       did->ran_ns + did->waited_ns < (was ? step_ns / 4 * 3 : step_ns / 3 * 2);
}

static void balance_correct(struct vgpu *v, uint32_t gain, bool light, uint64_t slice_ns)
{
	uint32_t pid = v->have_status ? v->status.device_pid : 0;
	bool changed = light != v->share.light;

	if (changed && !light)
		v->share.late_until_ns = clock_ns() + BALANCE_LATE_NS;
	v->share.light = light;
	int moved = share_groups_place(v);
	if (moved < 0)
		log_debug("%s: its group stays as it is: %s", v->def.name, strerror(-moved));
	if (gain != v->share.gain)
		vgpu_share_correct(v, gain);
	if (!pid || (!changed && v->share.slice_pid == pid))
		return;
	v->share.slice_pid = pid;
	int r = cpu_slice_set((pid_t)pid, light ? slice_ns / 4 * BALANCE_LIGHT_SLICE : slice_ns);
	if (r < 0)
		log_debug("%s: its slice stays as it is: %s", v->def.name, strerror(-r));
}

void vgpud_share_begin_anew(struct vgpud *d, const struct gpu *gpu)
{
	for (struct vgpu *v = d->vgpus; v; v = v->next) {
		if (strcmp(v->def.gpu, gpu->name) != 0)
			continue;
		if (v->share.slice_pid && v->have_status &&
			v->share.slice_pid == v->status.device_pid)
			cpu_slice_set((pid_t)v->share.slice_pid, 0);
		v->share.slice_pid = 0;
		v->share.light = false;
	}
}

static void balance_give_way(
	const struct vgpud *d, const struct gpu *gpu, struct balance *b, bool any_light)
{
	bool gives_way = any_light && !b->refused && gpu->sched.policy == SCHED_FIXED_SHARE;

	if (b->told && b->gives_way == gives_way)
		return;
	b->told = true;
	b->gives_way = gives_way;
	int r = share_groups_give_way(d, gpu, gives_way);
	b->refused |= r < 0 && gives_way;
	if (r < 0)
		log_info("%s: vGPUs that use little may wait for others, up to 4 ms now and then: "
			 "%s",
			gpu->name, r == -EOPNOTSUPP ? "this needs Linux 6.15" : strerror(-r));
}

static void balance_gpu(struct vgpud *d, const struct gpu *gpu, struct balance *b)
{
	struct sched_vgpu params[SCHED_VGPUS_MAX] = {0};
	struct sched_entitlement due[SCHED_VGPUS_MAX];
	struct vgpu *vgpus[SCHED_VGPUS_MAX];
	struct deficit_use did[SCHED_VGPUS_MAX];
	uint64_t now = clock_ns(), step = now - b->settled_ns;
	size_t n = 0;

	b->active = false;
	balance_forget(d, b, gpu->name);
	for (struct vgpu *v = d->vgpus; v && n < SCHED_VGPUS_MAX; v = v->next) {
		if (strcmp(v->def.gpu, gpu->name) != 0)
			continue;
		params[n] = vgpu_share_params(v, gpu);
		if (!v->share.id)
			v->share.id = ++d->share.last_id;
		deficit_add(&b->deficit, v->share.id, &params[n]); /* or it is there */
		did[n] = balance_count(v, b);
		vgpus[n++] = v;
	}
	deficit_settle(&b->deficit, now);
	bool first = !b->settled_ns, any_light = false;
	b->settled_ns = now;
	if (first || sched_entitle(&gpu->sched, params, n, due) < 0)
		return;
	for (size_t i = 0; i < n; i++) {
		uint64_t us = (uint64_t)vgpud_share_cpus(d) * due[i].share / 1000; /* a second */
		bool light = balance_is_light(b, vgpus[i], &did[i], step / 1000 * us / 1000, step);
		uint32_t gain = balance_gain(b, vgpus[i]->share.id, BALANCE_FULL_MS * us);
		balance_correct(vgpus[i], gain, light, sched_slice_ns(&gpu->sched, n));
		any_light |= light;
	}
	balance_give_way(d, gpu, b, any_light);
}

static int on_time(sd_event_source *source, uint64_t usec, void *data)
{
	struct vgpud *d = data;
	bool active = false, any = false;

	for (size_t i = 0; i < d->n_gpus; i++) {
		const struct gpu *gpu = &d->gpus[i];
		bool shared = d->share.by == SHARE_BY_GROUPS && gpu->enforcer && !gpu->slices &&
			      vgpud_gpu_use(d, gpu->name, NULL).vgpus > 1;
		struct balance *b = shared ? balance_of(d, gpu) : d->balances[i];
		if (!b)
			continue;
		if (!shared) {
			balance_give_way(d, gpu, b, false); /* the others are gone */
			continue;
		}
		balance_gpu(d, gpu, b);
		active |= b->active;
		any = true;
	}
	if (!any) {
		d->balance_timer = sd_event_source_disable_unref(source);
		return 0;
	}
	sd_event_source_set_time_relative(
		source, (active ? BALANCE_MS : BALANCE_IDLE_MS) * 1000ull);
	sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	return 0;
}

void vgpud_share_watch(struct vgpud *d)
{
	if (d->balance_timer)
		return;
	int r = sd_event_add_time_relative(d->event, &d->balance_timer, CLOCK_MONOTONIC,
		BALANCE_MS * 1000ull, BALANCE_ACCURACY_US, on_time, d);
	if (r < 0)
		log_warning("equal shares are as exact as the kernel makes them: no timer");
}

void vgpud_share_close(struct vgpud *d)
{
	d->balance_timer = sd_event_source_disable_unref(d->balance_timer);
	vgpud_share_stop_close(d);
	vgpud_share_sweep(d);
	for (size_t i = 0; i < d->n_gpus; i++) {
		free(d->balances[i]);
		d->balances[i] = NULL;
	}
}
