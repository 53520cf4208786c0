/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_HOST_CGROUP_H
#define VGPU_HOST_CGROUP_H

/*
 * Groups of processes between which the kernel divides CPU time: control groups of version 1 (the
 * `cpu` hierarchy) or 2 (the `cpu` controller, where it is delegated to us), below the group this
 * process is in.
 *
 * In version 2 the groups are "threaded": cpu is a controller that allows it, and then processes
 * may stay in the group above, so a service manager can go on starting and restarting vgpud there.
 *
 * `name` is a path below that place, at most three folders deep, from letters, digits, '-', '_',
 * '.' and '/'. Errors are -errno of the kernel; -ENAMETOOLONG.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CGROUP_PATH_MAX   512
#define CGROUP_NO_LIMIT   0u
#define CGROUP_WEIGHT_1   100u /* the weight of a process outside of all groups */
#define CGROUP_WEIGHT_MAX 10000u
#define CGROUP_PERIOD_MAX 1000000u /* us */
#define CGROUP_QUOTA_MIN  1000u    /* us */
#define CGROUP_MOVES_MAX  16u

struct cgroup {
	char dir[CGROUP_PATH_MAX];
	unsigned version; /* 1 or 2 */
};

struct cgroup_cpu {
	uint32_t weight;    /* 1..CGROUP_WEIGHT_MAX */
	uint32_t quota_us;  /* CPU time in each period; CGROUP_NO_LIMIT */
	uint32_t period_us; /* CGROUP_QUOTA_MIN..CGROUP_PERIOD_MAX */
};

/*
 * Finds the place for our groups; `proc` is /proc/self but for tests. -errno, and in `why` what is
 * missing: that there is such a place does not say yet that groups can be made, see cgroup_try().
 */
int cgroup_find(struct cgroup *ret, const char *proc, char *why, size_t size);

/* Makes a group, limits it and removes it. */
int cgroup_try(const struct cgroup *cgroup, const char *name);

/* Makes the group, and those above it; one that is there is left as it is. */
int cgroup_make(const struct cgroup *cgroup, const char *name);
/* -EINVAL for numbers out of range; version 1 also while a group below has a larger limit. */
int cgroup_set(const struct cgroup *cgroup, const char *name, const struct cgroup_cpu *cpu);
int cgroup_set_weight(const struct cgroup *cgroup, const char *name, uint32_t weight);
/*
 * Whoever wakes up in a group beside it takes the CPU from it at once (cpu.idle). Its weight is the
 * least there is meanwhile, and cannot be set. Of Linux 6.15 and newer only, -EOPNOTSUPP: since 6.6
 * its turn would be protected all the same, and shorter slices beside it would not count any more
 * (f553741ac8c0). Taking it back is no error where it cannot be.
 */
int cgroup_set_gives_way(const struct cgroup *cgroup, const char *name, bool gives_way);
/* -EBUSY: processes are in it, or groups. 0 also when there is none. */
int cgroup_remove(const struct cgroup *cgroup, const char *name);
/* Removes the groups below `name` that are empty and for which `keep` is false. */
void cgroup_sweep(const struct cgroup *cgroup, const char *name,
	bool (*keep)(void *data, const char *entry), void *data);
bool cgroup_exists(const struct cgroup *cgroup, const char *name);
/* All processes of one group go to another; both are there. -EBUSY: more than CGROUP_MOVES_MAX. */
int cgroup_move(const struct cgroup *cgroup, const char *from, const char *to);

/*
 * CPU time that its processes have used, and that its threads were ready to run and did not. Both
 * may go back, by what a process or thread that ended had.
 */
int cgroup_usage(const struct cgroup *cgroup, const char *name, uint64_t *ret_ran_ns,
	uint64_t *ret_waited_ns);

/* The file that takes the pid of who shall be in it; "" as name: where vgpud is. */
int cgroup_procs(const struct cgroup *cgroup, const char *name, char *ret, size_t size);

#endif
