/* SPDX-License-Identifier: Apache-2.0 */
#include "control/share.h"

#include "base/checked.h"
#include "control/share_groups.h"
#include "control/share_stop.h"
#include "control/vgpud.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#define SHARE_WEIGHT_LARGEST  400u /* with all that is added to it about what the kernel knows */
#define SHARE_SWEEP_MS        500u
#define SHARE_LIGHT_PERIOD_US 200000u
#define SHARE_PERIOD_US                                                                            \
	10000u /* a limited process waits at most about so long for its next part                  \
		*/

_Static_assert(TYPES_INSTANCES <= SCHED_VGPUS_MAX, "all vGPUs of a GPU can be scheduled");

/* FNV-1a: vgpuds with run directories of their own have groups of their own. */
static uint32_t hash(const char *text)
{
	uint32_t h = 2166136261u;

	for (; *text; text++)
		h = (h ^ (unsigned char)*text) * 16777619u;
	return h;
}

/* --- entitlements --- */

/* By its type as it is now, unlike VRAM and screens; one that has no type any more by its VRAM. */
struct sched_vgpu vgpu_share_params(const struct vgpu *v, const struct gpu *gpu)
{
	const struct type *type = vgpud_find_type(v->d, v->def.type.name);
	uint64_t vram = v->def.type.vram_mib, by_vram = vram * SCHED_WHOLE / MAX(gpu->vram_mib, 1u);
	struct sched_vgpu params = {.weight = SCHED_WEIGHT_DEFAULT,
		.share = (uint32_t)MAX(MIN(by_vram, SCHED_WHOLE), 1u)};

	if (type) {
		params.weight = type->weight;
		params.share = type->share_percent ? type->share_percent * (SCHED_WHOLE / 100)
						   : sched_share_of(type->max_instances);
	}
	return params;
}

/* Soft GPUs are all made of the same CPUs, so each has its part of them. */
uint32_t vgpud_share_cpus(const struct vgpud *d)
{
	uint32_t soft = 0;

	for (size_t i = 0; i < d->n_gpus; i++)
		soft += gpu_is_soft(&d->gpus[i]);
	return MAX(d->share.cpus * 1000 / MAX(soft, 1u), 1u);
}

static bool gpu_is_grouped(const struct vgpud *d, const struct gpu *gpu)
{
	return d->share.by == SHARE_BY_GROUPS && gpu && gpu->enforcer && !gpu->slices;
}

/*
 * So much CPU time in each period that it comes in parts of a slice at least, and of what the
 * kernel can count.
 */
static void share_limit(
	const struct gpu *gpu, uint32_t cpus, uint32_t cap, size_t n_vgpus, struct cgroup_cpu *ret)
{
	uint64_t rate = MAX((uint64_t)cpus * cap / 1000, 1u); /* millionths of a CPU */
	uint64_t slice_us = sched_slice_ns(&gpu->sched, n_vgpus) / 1000;
	uint64_t period = MAX(slice_us * SCHED_WHOLE / rate, SHARE_PERIOD_US);

	ret->period_us = (uint32_t)MIN(period, CGROUP_PERIOD_MAX);
	ret->quota_us = (uint32_t)MAX(ret->period_us * rate / SCHED_WHOLE, CGROUP_QUOTA_MIN);
}

/* Its share, over so long that what is light does not notice. */
static void share_limit_light(const struct vgpud *d, uint32_t share, struct cgroup_cpu *ret)
{
	uint64_t rate = (uint64_t)vgpud_share_cpus(d) * share / 1000; /* millionths of a CPU */

	ret->period_us = SHARE_LIGHT_PERIOD_US;
	ret->quota_us = (uint32_t)MAX(ret->period_us * rate / SCHED_WHOLE, CGROUP_QUOTA_MIN);
}

/* --- groups --- */

static uint32_t share_weight(const struct vgpu *v)
{
	uint64_t weight = (uint64_t)v->share.weight * v->share.gain / SHARE_GAIN_ONE;

	return (uint32_t)MAX(MIN(weight, CGROUP_WEIGHT_MAX), 1u);
}

static int share_set_vgpu(const struct vgpu *v, const struct gpu *gpu,
	const struct sched_entitlement *due, size_t n_vgpus)
{
	struct cgroup_cpu cpu = {.weight = share_weight(v)};

	if (due->cap < SCHED_WHOLE)
		share_limit(gpu, vgpud_share_cpus(v->d), due->cap, n_vgpus, &cpu);
	struct cgroup_cpu light = cpu;
	if (due->cap == SCHED_WHOLE)
		share_limit_light(v->d, due->share, &light);
	int r = share_groups_set_vgpu(v, &cpu, &light);
	int moved = r < 0 ? 0 : share_groups_place(v);
	if (moved < 0) /* its processes are in one with its limits all the same */
		log_debug("%s: its group stays as it is: %s", v->def.name, strerror(-moved));
	return r;
}

/* Groups of all vGPUs of a GPU, as its policy says. 0 or -errno. */
static int share_apply(struct vgpud *d, const struct gpu *gpu)
{
	struct sched_vgpu params[SCHED_VGPUS_MAX] = {0};
	struct sched_entitlement due[SCHED_VGPUS_MAX];
	struct vgpu *vgpus[SCHED_VGPUS_MAX];
	size_t n = 0;

	for (struct vgpu *v = d->vgpus; v && n < SCHED_VGPUS_MAX; v = v->next) {
		if (strcmp(v->def.gpu, gpu->name) != 0)
			continue;
		params[n] = vgpu_share_params(v, gpu);
		vgpus[n++] = v;
	}
	int r = sched_entitle(&gpu->sched, params, n, due);
	if (r == 0 && n)
		r = share_groups_set_gpu(d, gpu, n);
	uint32_t most = 1;
	for (size_t i = 0; r == 0 && i < n; i++)
		most = MAX(most, due[i].weight);
	for (size_t i = 0; r == 0 && i < n; i++) {
		/* Large numbers, so that corrections are more than rounding; they only compare. */
		vgpus[i]->share.weight = MAX(due[i].weight * SHARE_WEIGHT_LARGEST / most, 1u);
		if (gpu->sched.policy != SCHED_EQUAL_SHARE)
			vgpus[i]->share.gain = SHARE_GAIN_ONE;
		r = share_set_vgpu(vgpus[i], gpu, &due[i], n);
	}
	return r;
}

static const char *share_enforcer(const struct share *share, const struct gpu *gpu)
{
	static const char *const groups[] = {NULL, "cgroup-v1", "cgroup-v2"};

	if (gpu->slices)
		return "slices";
	if (share->by == SHARE_BY_GROUPS)
		return groups[share->cgroup.version];
	return share->by == SHARE_BY_ACCOUNTS ? "accounts" : NULL;
}

static void share_refresh(struct vgpud *d, struct gpu *gpu)
{
	bool wanted = gpu->sched.policy != SCHED_BEST_EFFORT;
	int r = 0;

	if (gpu->slices)
		r = slicing_apply(d, gpu);
	else if (wanted && d->share.by == SHARE_BY_GROUPS)
		r = share_apply(d, gpu);

	if (r < 0)
		log_warning("the shares of %s cannot be enforced: %s", gpu->name, strerror(-r));
	if (r < 0 && gpu->enforcer)
		events_add(&d->events, "", "%s: its policy is not enforced any more: %s", gpu->name,
			strerror(-r));
	gpu->enforcer = wanted && r == 0 ? share_enforcer(&d->share, gpu) : NULL;
	if (gpu_is_grouped(d, gpu))
		vgpud_share_watch(d);
	vgpud_share_stop_watch(d);
}

static struct gpu *share_find_gpu(struct vgpud *d, const char *name)
{
	const struct gpu *gpu = vgpud_find_gpu(d, name);

	return gpu ? &d->gpus[gpu - d->gpus] : NULL;
}

static int on_sweep(sd_event_source *source, uint64_t usec, void *data)
{
	vgpud_share_sweep(data);
	return 0;
}

void vgpud_share_changed(struct vgpud *d, const char *name)
{
	struct gpu *gpu = share_find_gpu(d, name);

	if (gpu)
		share_refresh(d, gpu);
	vgpud_share_sweep(d);
	/* The last process of who is gone may be ending just now. */
	if (d->share.usable && sd_event_add_time_relative(d->event, NULL, CLOCK_MONOTONIC,
				       SHARE_SWEEP_MS * 1000ull, 0, on_sweep, d) < 0)
		log_warning("a group of %s may stay behind, empty: no timer", name);
}

/* --- one vGPU --- */

static void on_joined(void *data, int code, const char *text, int *fd)
{
	struct vgpu *v = data;
	const struct gpu *gpu = vgpud_find_gpu(v->d, v->def.gpu);

	if (code == -ECONNRESET)
		return; /* it is told anew when it is there again */
	if (code < 0)
		events_add(&v->d->events, v->def.name, "its share of %s cannot be enforced: %s",
			v->def.gpu, text);
	else
		v->share.in_group = gpu_is_grouped(v->d, gpu);
	vgpud_share_sweep(v->d);
}

/* Where its device processes belong; false: nowhere in particular. */
static bool share_procs(struct vgpu *v, char *ret, size_t size)
{
	struct gpu *gpu = share_find_gpu(v->d, v->def.gpu);
	const struct cgroup *cgroup = &v->d->share.cgroup;
	char name[SHARE_NAME];

	if (!gpu)
		return false;
	share_refresh(v->d, gpu);
	if (v->slices.thread && v->slices.thread != v->d->slicers[gpu - v->d->gpus])
		slicing_leave(v); /* it came from a GPU that has them */
	if (!v->d->share.usable)
		return false;
	share_group_name(v, false, name);
	v->share.in_group |= share_group_exists(v); /* an earlier vgpud may have put it there */
	return v->share.in_group &&
	       cgroup_procs(cgroup, gpu_is_grouped(v->d, gpu) ? name : "", ret, size) == 0;
}

void vgpu_share_prepare(struct vgpu *v, char *ret, size_t size)
{
	if (!share_procs(v, ret, size))
		ret[0] = '\0';
}

void vgpu_share_join(struct vgpu *v)
{
	struct keeper_group group = {0};

	if (!v->link || !share_procs(v, group.procs, sizeof(group.procs)))
		return;
	int r = link_request(v->link, KEEPER_CONTROL_GROUP, &group, -1, on_joined, v);
	if (r < 0)
		events_add(&v->d->events, v->def.name, "its share of %s cannot be enforced: %s",
			v->def.gpu, strerror(-r));
}

void vgpu_share_correct(struct vgpu *v, uint32_t gain)
{
	v->share.gain = gain;
	share_groups_set_weight(v, share_weight(v));
}

/* --- policies --- */

static int policy_check(const struct vgpud *d, const struct gpu *gpu, const struct sched_gpu *sched,
	const char *policy, struct error *err)
{
	const char *name = gpu->name;

	if (sched->policy == SCHED_POLICY_COUNT)
		return error_set(err, EINVAL,
			"gpu policy %s: policy '%.32s' does not exist (choose best-effort, "
			"equal-share or fixed-share)",
			name, policy);
	if (sched_check_gpu(sched) < 0)
		return error_set(err, EINVAL,
			"gpu policy %s: a slice of %u ms is out of range (give %u to %u ms)", name,
			sched->slice_ms, SCHED_SLICE_MIN_MS, SCHED_SLICE_MAX_MS);
	if (sched->policy == SCHED_BEST_EFFORT)
		return 0;
	if (gpu->slices)
		return 0;
	if (d->share.by == SHARE_BY_NOTHING)
		return error_set(err, ENOTSUP,
			"gpu policy %s: %s cannot be enforced: %s (give vgpud a control group of "
			"its own with the cpu controller: Delegate=cpu; or set shares = auto)",
			name, policy, d->share.why);
	return 0;
}

static void share_join_all(struct vgpud *d, const struct gpu *gpu)
{
	for (struct vgpu *v = d->vgpus; v; v = v->next) {
		if (!strcmp(v->def.gpu, gpu->name))
			vgpu_share_join(v);
	}
}

int vgpud_set_policy(
	struct vgpud *d, const char *name, const char *policy, uint32_t slice_ms, struct error *err)
{
	struct sched_gpu sched = {sched_policy_from_name(policy), slice_ms};
	struct gpu *gpu = share_find_gpu(d, name);
	char what[96];

	if (!gpu)
		return error_set(err, ENOENT,
			"%.64s: there is no GPU of that name (see `vgpuctl gpu list`)", name);
	int r = policy_check(d, gpu, &sched, policy, err);
	if (r < 0)
		return r;
	struct sched_gpu old = gpu->sched;
	gpu->sched = sched;
	if (gpu->slices)
		r = slicing_apply(d, gpu);
	else if (sched.policy != SCHED_BEST_EFFORT && d->share.by == SHARE_BY_GROUPS)
		r = share_apply(d, gpu);
	if (r < 0)
		error_set(err, -r, "gpu policy %s: the kernel refuses: %s (see `vgpuctl doctor`)",
			gpu->name, strerror(-r));
	snprintf(what, sizeof(what), "gpu policy %s", gpu->name);
	if (r == 0)
		r = store_set_policy(d->store, gpu->name, &sched, what, err);
	if (r < 0)
		gpu->sched = old;
	else
		events_add(&d->events, "", "%s: its policy is %s", gpu->name,
			sched_policy_names[sched.policy]);
	if (r == 0)
		vgpud_share_begin_anew(d, gpu);
	share_refresh(d, gpu);
	share_join_all(d, gpu);
	vgpud_share_sweep(d);
	return r;
}

static void share_probe_groups(struct vgpud *d)
{
	struct share *share = &d->share;
	char name[SHARE_NAME];
	cpu_set_t cpus;

	share->cpus = 1;
	if (sched_getaffinity(0, sizeof(cpus), &cpus) == 0)
		share->cpus = (uint32_t)MAX(CPU_COUNT(&cpus), 1);
	snprintf(share->base, sizeof(share->base), "vgpud-%08x", hash(d->run_dir));
	if (cgroup_find(&share->cgroup, "/proc/self", share->why, sizeof(share->why)) < 0)
		return;
	snprintf(name, sizeof(name), "%s-", share->base); /* no GPU has an empty name */
	int r = cgroup_try(&share->cgroup, name);
	share->usable = r == 0;
	if (r < 0)
		snprintf(share->why, sizeof(share->why), "no group can be made in %.200s: %s",
			share->cgroup.dir, strerror(-r));
}

static void share_probe(struct vgpud *d)
{
	struct share *share = &d->share;
	const char *wanted = d->config.shares;

	share_probe_groups(d);
	if (!strcmp(wanted, "accounts") || (!strcmp(wanted, "auto") && !share->usable))
		share->by = SHARE_BY_ACCOUNTS;
	else
		share->by = share->usable ? SHARE_BY_GROUPS : SHARE_BY_NOTHING;
}

int vgpud_share_open(struct vgpud *d, struct error *err)
{
	share_probe(d);
	for (size_t i = 0; i < d->n_gpus; i++) {
		struct gpu *gpu = &d->gpus[i];
		int r = store_get_policy(d->store, gpu->name, &gpu->sched, err);
		if (r == -EINVAL) {
			log_warning("%s", err->text);
			gpu->sched = (struct sched_gpu){.policy = SCHED_BEST_EFFORT};
		} else if (r < 0) {
			return r;
		}
		if (gpu->sched.policy != SCHED_BEST_EFFORT && d->share.by == SHARE_BY_NOTHING &&
			!gpu->slices)
			log_warning("%s is shared as best-effort, not as chosen: %s", gpu->name,
				d->share.why);
	}
	return 0;
}
