/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps equal-share exact. The kernel divides by weight among those that are ready to run at a
 * moment; one that waits for its client's next request now and then comes off worse by what it
 * could not use just then, though it could use it later. So what each used and waited for is
 * accounted for (scheduler/deficit.h), and the weight of who is owed something is raised a little,
 * and of who owes lowered, until it is even.
 *
 * The kernel's own division is the rule and this the correction: when vgpud is gone, the last
 * weights stay, at most BALANCE_MOST away from what they should be.
 */
#include "control/share.h"

#include "base/checked.h"
#include "base/clock.h"
#include "control/share_stop.h"
#include "control/vgpud.h"
#include "scheduler/deficit.h"

#include <stdlib.h>
#include <string.h>

#define BALANCE_MS      250u
#define BALANCE_IDLE_MS 2000u              /* while nobody draws */
#define BALANCE_FULL_NS (200LL * SCHED_MS) /* a balance of so much would double the weight */
#define BALANCE_MOST    500                /* thousandths of the weight */

struct balance {
	struct deficit deficit;
	bool active; /* somebody drew since the last time */
};

static struct balance *balance_of(struct vgpud *d, const struct gpu *gpu)
{
	struct balance **at = &d->balances[gpu - d->gpus];
	const struct sched_gpu *now = &gpu->sched;

	if (*at && (*at)->deficit.gpu.slice_ms != now->slice_ms) {
		free(*at);
		*at = NULL;
	}
	if (!*at)
		*at = calloc(1, sizeof(**at));
	if (*at && !(*at)->deficit.cpus)
		deficit_init(&(*at)->deficit, now, d->share.cpus * 1000, false);
	return *at;
}

/* Counters that only grow, from those of its group. */
static void balance_count(struct vgpu *v, struct balance *b)
{
	struct deficit_use now = {0}, *last = &v->share.last;

	if (vgpu_share_usage(v, &now) < 0)
		return;
	if (now.ran_ns > last->ran_ns)
		v->share.sum.ran_ns += now.ran_ns - last->ran_ns;
	if (now.waited_ns > last->waited_ns)
		v->share.sum.waited_ns += now.waited_ns - last->waited_ns;
	b->active |= now.ran_ns > last->ran_ns + BALANCE_MS * SCHED_MS / 100;
	*last = now;
	deficit_used(&b->deficit, v->share.id, &v->share.sum);
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

static uint32_t balance_gain(const struct balance *b, uint32_t id)
{
	int64_t gain = deficit_balance_ns(&b->deficit, id) * SHARE_GAIN_ONE / BALANCE_FULL_NS;

	return (uint32_t)(SHARE_GAIN_ONE + MAX(MIN(gain, BALANCE_MOST), -BALANCE_MOST));
}

static void balance_gpu(struct vgpud *d, const struct gpu *gpu, struct balance *b)
{
	b->active = false;
	balance_forget(d, b, gpu->name);
	for (struct vgpu *v = d->vgpus; v; v = v->next) {
		if (strcmp(v->def.gpu, gpu->name) != 0)
			continue;
		const struct sched_vgpu params = vgpu_share_params(v, gpu);
		if (!v->share.id)
			v->share.id = ++d->share.last_id;
		deficit_add(&b->deficit, v->share.id, &params); /* or it is there */
		balance_count(v, b);
	}
	deficit_settle(&b->deficit, clock_ns());
	for (struct vgpu *v = d->vgpus; v; v = v->next) {
		uint32_t gain = balance_gain(b, v->share.id);
		if (!strcmp(v->def.gpu, gpu->name) && gain != v->share.gain)
			vgpu_share_correct(v, gain);
	}
}

static int on_time(sd_event_source *source, uint64_t usec, void *data)
{
	struct vgpud *d = data;
	bool active = false, any = false;

	for (size_t i = 0; i < d->n_gpus; i++) {
		const struct gpu *gpu = &d->gpus[i];
		bool shared = d->share.by == SHARE_BY_GROUPS && gpu->enforcer && !gpu->slices &&
			      gpu->sched.policy == SCHED_EQUAL_SHARE &&
			      vgpud_gpu_use(d, gpu->name, NULL).vgpus > 1;
		struct balance *b = shared ? balance_of(d, gpu) : NULL;
		if (!b)
			continue;
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
	int r = sd_event_add_time_relative(
		d->event, &d->balance_timer, CLOCK_MONOTONIC, BALANCE_MS * 1000ull, 0, on_time, d);
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
