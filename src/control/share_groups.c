/* SPDX-License-Identifier: Apache-2.0 */
#include "control/share_groups.h"

#include "base/checked.h"
#include "control/vgpud.h"

#include <stdio.h>
#include <string.h>

#define SHARE_ALL          "all"
#define SHARE_WEIGHT_LIGHT CGROUP_WEIGHT_MAX /* `all` has that of a new group, CGROUP_WEIGHT_1 */

/* With what stands before them, no name is one of the kernel's own files. */
static void gpu_group(const struct vgpud *d, const char *gpu, const char *below, char *ret)
{
	snprintf(ret, SHARE_NAME, "%s-%s%s", d->share.base, gpu, below);
}

void share_group_name(const struct vgpu *v, bool light, char *ret)
{
	snprintf(ret, SHARE_NAME, "%s-%s%s/vgpu-%s", v->d->share.base, v->def.gpu,
		light ? "" : "/" SHARE_ALL, v->def.name);
}

bool share_group_exists(const struct vgpu *v)
{
	char name[2][SHARE_NAME];

	share_group_name(v, false, name[0]);
	share_group_name(v, true, name[1]);
	return cgroup_exists(&v->d->share.cgroup, name[0]) ||
	       cgroup_exists(&v->d->share.cgroup, name[1]);
}

static int group_set(const struct vgpud *d, const char *name, const struct cgroup_cpu *cpu)
{
	int r = cgroup_make(&d->share.cgroup, name);

	return r < 0 ? r : cgroup_set(&d->share.cgroup, name, cpu);
}

/*
 * The GPU's group competes with the other processes of this node, its guests' among them, as its
 * vGPUs would without groups: as so many processes with a thread on each CPU.
 */
int share_groups_set_gpu(const struct vgpud *d, const struct gpu *gpu, size_t n_vgpus)
{
	uint64_t weight = (uint64_t)CGROUP_WEIGHT_1 * n_vgpus * d->share.cpus;
	const struct cgroup_cpu cpu = {.weight = (uint32_t)MIN(weight, CGROUP_WEIGHT_MAX)};
	char name[SHARE_NAME];

	gpu_group(d, gpu->name, "", name);
	int r = group_set(d, name, &cpu);
	gpu_group(d, gpu->name, "/" SHARE_ALL, name);
	return r < 0 ? r : cgroup_make(&d->share.cgroup, name);
}

int share_groups_give_way(const struct vgpud *d, const struct gpu *gpu, bool gives_way)
{
	char name[SHARE_NAME];

	gpu_group(d, gpu->name, "/" SHARE_ALL, name);
	return cgroup_set_gives_way(&d->share.cgroup, name, gives_way);
}

int share_groups_set_vgpu(
	const struct vgpu *v, const struct cgroup_cpu *cpu, const struct cgroup_cpu *light)
{
	struct cgroup_cpu before_all = *light;
	char name[SHARE_NAME];

	before_all.weight = SHARE_WEIGHT_LIGHT;
	share_group_name(v, false, name);
	int r = group_set(v->d, name, cpu);
	share_group_name(v, true, name);
	return r < 0 ? r : group_set(v->d, name, &before_all);
}

int share_groups_set_weight(const struct vgpu *v, uint32_t weight)
{
	char name[SHARE_NAME];

	share_group_name(v, false, name);
	return cgroup_set_weight(&v->d->share.cgroup, name, weight);
}

int share_groups_place(const struct vgpu *v)
{
	char from[SHARE_NAME], to[SHARE_NAME];

	share_group_name(v, !v->share.light, from);
	share_group_name(v, v->share.light, to);
	return cgroup_move(&v->d->share.cgroup, from, to);
}

int share_groups_usage(const struct vgpu *v, struct deficit_use *ret)
{
	struct deficit_use use[2];
	char name[SHARE_NAME];
	int r = 0;

	for (unsigned i = 0; r == 0 && i < 2; i++) {
		share_group_name(v, i, name);
		r = cgroup_usage(&v->d->share.cgroup, name, &use[i].ran_ns, &use[i].waited_ns);
	}
	if (r == 0)
		*ret = (struct deficit_use){.ran_ns = use[0].ran_ns + use[1].ran_ns,
			.waited_ns = use[0].waited_ns + use[1].waited_ns};
	return r;
}

/* --- groups that nobody needs --- */

struct sweep {
	struct vgpud *d;
	const struct gpu *gpu;
};

static bool share_keeps(void *data, const char *entry)
{
	const struct sweep *sweep = data;
	const struct vgpu *v =
		strncmp(entry, "vgpu-", 5) == 0 ? vgpud_find_vgpu(sweep->d, entry + 5) : NULL;

	return v && sweep->d->share.by == SHARE_BY_GROUPS &&
	       sweep->gpu->sched.policy != SCHED_BEST_EFFORT &&
	       !strcmp(v->def.gpu, sweep->gpu->name);
}

void vgpud_share_sweep(struct vgpud *d)
{
	static const char *const below[] = {"/" SHARE_ALL, ""}; /* `all` stays until it is empty */
	char name[SHARE_NAME];

	for (size_t i = 0; d->share.usable && i < d->n_gpus; i++) {
		struct sweep sweep = {d, &d->gpus[i]};
		for (unsigned j = 0; j < 2; j++) {
			gpu_group(d, sweep.gpu->name, below[j], name);
			if (cgroup_exists(&d->share.cgroup, name))
				cgroup_sweep(&d->share.cgroup, name, share_keeps, &sweep);
		}
		if (cgroup_exists(&d->share.cgroup, name))
			cgroup_remove(&d->share.cgroup, name);
	}
}
