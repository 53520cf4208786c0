/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_SCHEDULER_DEFICIT_H
#define VGPU_SCHEDULER_DEFICIT_H

/*
 * Shares of a soft GPU by accounts: from the CPU time each vGPU's processes used and waited for,
 * what each is owed or owes. Where nothing else enforces shares, also who has to stop, and for how
 * long at most.
 *
 * Every few ms the enforcer says deficit_used() for each vGPU and deficit_settle() once; then
 * deficit_stop_ns() is valid until the next time. Each vGPU has a balance, in ns of CPU time: what
 * it was entitled to less what it took.
 *
 *   equal-share  what was used by all is divided among those who wanted it (ran or waited) in the
 *                last DEFICIT_WINDOW_NS, so one that waits for its client after each frame is owed
 *                what it missed meanwhile. Who is in debt by more than a slice stops, while another
 *                one that is owed something makes use of it; never else, so idle time is given on.
 *                All debts together are no more than what others are owed, and nothing is owed to
 *                one that has been idle for DEFICIT_IDLE_NS, or has all it wants.
 *   fixed-share  the balance grows with its share of the capacity. Who is in debt stops until it
 *                is not.
 *   best-effort  nobody stops.
 *
 * What a process took while it ought to have stopped is charged like everything else, so a process
 * that is stopped late, or not at all, gains nothing in the end. A debt is forgotten beyond
 * DEFICIT_DEBT_NS, in fixed-share also beyond what its share is in DEFICIT_STALL_NS, so nobody is
 * stopped for long for what it did long ago, and a claim beyond DEFICIT_CLAIM_NS.
 */

#include "scheduler/policy.h"

#include <stdbool.h>

#define DEFICIT_DEBT_NS     (1000LL * SCHED_MS)
#define DEFICIT_STALL_NS    (500LL * SCHED_MS)
#define DEFICIT_CLAIM_NS    (100LL * SCHED_MS)
#define DEFICIT_WINDOW_NS   (1000u * (uint64_t)SCHED_MS)
#define DEFICIT_IDLE_NS     (250u * (uint64_t)SCHED_MS)
#define DEFICIT_SAVED_NS    (20LL * SCHED_MS) /* the claim in fixed-share */
#define DEFICIT_STOP_MAX_NS (20u * (uint64_t)SCHED_MS)

/* Counters of one vGPU's processes since some time; a step of more than 2^40 ns counts as that. */
struct deficit_use {
	uint64_t ran_ns;    /* CPU time of all threads */
	uint64_t waited_ns; /* all threads were ready to run and did not */
};

struct deficit_vgpu {
	uint32_t id; /* 0: free */
	struct sched_vgpu params;
	struct deficit_use last, step; /* step: since the settlement before */
	bool known;                    /* `last` is valid */
	/* Of equal-share, less and less of what is long ago: time, what it ran and wanted in it. */
	uint64_t recent_ns, recent_ran_ns, recent_wants_ns;
	uint64_t idle_ns; /* for so long it has wanted nothing */
	int64_t balance_ns;
	uint64_t stop_ns;
};

struct deficit {
	struct sched_gpu gpu;
	uint64_t cpus; /* thousandths of a CPU */
	bool stops;
	struct sched_time time;
	struct deficit_vgpu vgpus[SCHED_VGPUS_MAX];
};

/*
 * `cpus`: CPU time the GPU has, in thousandths of a CPU, 1..1000000. `stops`: someone stops those
 * for which deficit_stop_ns() says so; else it never does. 0 or -EINVAL.
 */
int deficit_init(struct deficit *d, const struct sched_gpu *gpu, uint32_t cpus, bool stops);

/* `id` above 0. 0, -EINVAL, -EEXIST, or -ENOSPC: there are SCHED_VGPUS_MAX already. */
int deficit_add(struct deficit *d, uint32_t id, const struct sched_vgpu *params);
/* At any time, also while it is stopped: what it owed or was owed ends with it. */
void deficit_remove(struct deficit *d, uint32_t id);

/*
 * What its processes have used up to now. The first call counts nothing; counters that went back
 * (another process) count from 0. -ENOENT.
 */
int deficit_used(struct deficit *d, uint32_t id, const struct deficit_use *use);
/* Closes the accounts; `now` as for sched_time_pass(). */
void deficit_settle(struct deficit *d, uint64_t now);
/* What it is owed (above 0) or owes, in ns of CPU time; 0 when there is none of that id. */
int64_t deficit_balance_ns(const struct deficit *d, uint32_t id);
/* 0: it may run; else it stops for so long, or until the next settlement says otherwise. */
uint64_t deficit_stop_ns(const struct deficit *d, uint32_t id);

#endif
