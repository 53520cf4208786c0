/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_SCHEDULER_SLICES_H
#define VGPU_SCHEDULER_SLICES_H

/*
 * Time slices of one render node: whose turn it is to submit, and for how long.
 *
 * The enforcer says who wants the GPU (slices_want), asks whose turn it is (slices_next), lets that
 * one submit for grant.length_ns, and says what it used (slices_end): the time from its grant to
 * its last fence, as the GPU's fences tell it and not the device process. What still submits
 * grant.force_ns after the grant is stopped by force.
 *
 * Order: each vGPU has a count of what it used divided by its weight, and the lowest count that
 * wants is next; so what one used beyond its slice is charged, and its next slice is shorter by as
 * much. Who comes back from doing nothing starts where the others are, less SLICES_CREDIT_NS: so
 * much of the time that it did not want is saved up, because a guest that waits for each frame
 * wants nothing for a moment after each. Who is behind by a slice when it comes back does not wait
 * for the end of another's (slices_preempt). In fixed-share a vGPU has a budget that grows with its
 * share of the time, up to SLICES_SAVED_NS, and no turn while that is less than a slice.
 *
 * Without a hand-shake (slices_open(): whoever wants submits, nothing is asked or told): always in
 * best-effort, and in equal-share while there is one vGPU on the GPU. That changes with
 * slices_add() and slices_remove() only.
 */

#include "scheduler/policy.h"

#include <stdbool.h>

#define SLICES_GRACE_NS  (8u * (uint64_t)SCHED_MS) /* a draw that began in time may end */
#define SLICES_CREDIT_NS (10u * (uint64_t)SCHED_MS)
#define SLICES_SAVED_NS  (40 * (int64_t)SCHED_MS)

struct slices_vgpu {
	uint32_t id; /* 0: free */
	struct sched_vgpu params;
	struct sched_entitlement due;
	bool wants;
	uint64_t count;     /* ns used * SCHED_WEIGHT_MAX / due.weight */
	uint64_t over_ns;   /* of its last slice, not made up for yet */
	int64_t budget_ns;  /* fixed-share */
	uint64_t length_ns; /* of its present or last slice */
};

struct slices {
	struct sched_gpu gpu;
	struct sched_time time;
	struct slices_vgpu vgpus[SCHED_VGPUS_MAX];
	uint32_t holder; /* 0: nobody */
	uint64_t count;  /* of the last one whose turn it was, then */
};

struct slices_grant {
	uint32_t id;        /* 0: nobody, see wait_ns */
	uint64_t length_ns; /* SCHED_SLICE_MIN_MS..SCHED_SLICE_MAX_MS */
	uint64_t force_ns;
	uint64_t wait_ns; /* id 0: ask again by then; UINT64_MAX: when someone wants or comes */
};

/* 0 or -EINVAL. */
int slices_init(struct slices *s, const struct sched_gpu *gpu);

/* `id` above 0. 0, -EINVAL, -EEXIST or -ENOSPC. */
int slices_add(struct slices *s, uint32_t id, const struct sched_vgpu *params);
/* At any time. One that goes inside its slice ends it: the next call of slices_next() is due. */
void slices_remove(struct slices *s, uint32_t id);

/* Another weight or share. -EINVAL, -ENOENT. */
int slices_set_params(struct slices *s, uint32_t id, const struct sched_vgpu *params);

bool slices_open(const struct slices *s);

/* -ENOENT. Who stops wanting inside its slice keeps it until slices_end(). */
int slices_want(struct slices *s, uint32_t id, bool wants);

/* `now` as for sched_time_pass(). 0, or -EBUSY: a slice has not been ended. */
int slices_next(struct slices *s, uint64_t now, struct slices_grant *ret);

/*
 * Should the slice at hand, of which so much is used, end now because another one has waited for
 * longer than it ought to?
 */
bool slices_preempt(const struct slices *s, uint64_t used_ns);

/* Would another one that wants the GPU be before that one, had it used so much more? */
bool slices_other_first(const struct slices *s, uint32_t id, uint64_t used_ns);

/*
 * The end of a slice, early or late, of which `used_ns` were used. -ENOENT: it is not that one's
 * slice (it was removed, say), and nothing is charged.
 */
int slices_end(struct slices *s, uint32_t id, uint64_t used_ns);

/* What one took outside of its slices counts the same. -ENOENT. */
int slices_charge(struct slices *s, uint32_t id, uint64_t used_ns);

#endif
