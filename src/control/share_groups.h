/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_SHARE_GROUPS_H
#define VGPU_CONTROL_SHARE_GROUPS_H

/*
 * The control groups of a soft GPU that has a policy:
 *
 *   BASE-GPU                 competes with this node's other processes
 *   BASE-GPU/all             all its vGPUs but those that are light now
 *   BASE-GPU/all/vgpu-NAME   has the vGPU's weight, and limit
 *   BASE-GPU/vgpu-NAME       instead, while it is light: before all others, but never with more
 * than its share, as it may stop being light while no vgpud looks
 *
 * The kernel picks by virtual deadlines, and among many that each ran for a tick more than their
 * slice somebody's is past at most times: who wakes up beside all of them waits for that one, and
 * its tick. Beside one group that holds them all, nobody's is, as long as that always wants the
 * CPU. In fixed-share it does not: each of its groups is kept from running for most of the time,
 * and when it comes back its turn is protected. There it gives way, while any vGPU is light: to all
 * others of the node a CPU that draws for such a group is as good as an idle one.
 *
 * Keepers put device processes into the group below `all`; share_balance.c has them moved.
 */

#include "host/cgroup.h"
#include "scheduler/deficit.h"

#include <stdbool.h>
#include <stddef.h>

struct gpu;
struct vgpu;
struct vgpud;

#define SHARE_NAME 256

/* Its group while it is light or not, into SHARE_NAME bytes. */
void share_group_name(const struct vgpu *v, bool light, char *ret);
/* Either of its groups is there. */
bool share_group_exists(const struct vgpu *v);

/* The two groups of a GPU with so many vGPUs. 0 or -errno. */
int share_groups_set_gpu(const struct vgpud *d, const struct gpu *gpu, size_t n_vgpus);
/* Does `all` give way? -EOPNOTSUPP: not with this kernel (cgroup_set_gives_way()); -errno. */
int share_groups_give_way(const struct vgpud *d, const struct gpu *gpu, bool gives_way);
/* Both groups of a vGPU: that in `all`, and that while it is light, but for its weight. 0 or
 * -errno. */
int share_groups_set_vgpu(
	const struct vgpu *v, const struct cgroup_cpu *cpu, const struct cgroup_cpu *light);
int share_groups_set_weight(const struct vgpu *v, uint32_t weight);
/* Its processes go to where they belong; they are there, mostly. 0 or -errno. */
int share_groups_place(const struct vgpu *v);
/* What was used and waited for in both of its groups, as cgroup_usage(). 0 or -errno. */
int share_groups_usage(const struct vgpu *v, struct deficit_use *ret);

#endif
