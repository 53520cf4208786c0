/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_ARBITER_H
#define VGPU_CONTROL_ARBITER_H

/*
 * Whose turn it is on one GPU: reads the claims of its vGPUs, asks the policy
 * (scheduler/slices.h), and writes their pages (protocol/slice_pages.h). No thread, clock or
 * descriptor: its owner says what time it is and does what it asks for. Memory is only the caller's
 * and nothing is logged, so it may run in a thread beside others that fork.
 *
 *   AWAY      has no slice and wants none
 *   WAITS     wants one
 *   HAS       the one whose slice it is, until it returns it
 *   HELD      did not return its slice in time, or took what was not given: its process is stopped
 *             by force, but for its own slices, until it returns one
 *
 * What a slice cost is the time from its grant to its return or its end by force, as seen here; the
 * device process has no say in it. Up to a sixth of that in which it used nothing, by the
 * kernel's account, is free, or who thinks between frames would get less than who does not. What a
 * process uses outside of its slices (by the kernel's account, where there is one) is charged as
 * well, and beyond what the odd message may cost it is HELD. One that is idle in ARBITER_CALM
 * slices of its own in a row is AWAY again.
 *
 * A guest that waits for each frame wants nothing for a moment after it, and that is where slices
 * often end. So one that had work until the end of its slice, or came back soon the last times, is
 * expected to want the next one for a while; if it is the next by what it used, it is given it, and
 * charged for it, before it has asked. One that is not the next does not keep its slice for that
 * moment.
 *
 * Device processes that are at work already take pages up only when they get to it, one after the
 * other; gated beside others that are not yet, one would wait for turns of which nobody knows, and
 * those would be HELD for what they could not know. So all pages are open until the last one has
 * taken its own up, and the first slice begins then, but no later than arbiter_settle() says.
 *
 * A slice at whose end nobody else wants anything goes on, except in fixed-share, whatever its
 * owner does in it. With nobody who wants or has anything there is nothing to do.
 */

#include "protocol/slice_pages.h"
#include "scheduler/slices.h"

#define ARBITER_HOLD_NS    20000000u /* how long one is held, unless that is said again … */
#define ARBITER_RENEW_NS   10000000u /* … after so long */
#define ARBITER_FORCED_NS  4000000u  /* one that was stopped is stopped so long after its slice */
#define ARBITER_IDLE_NS    500000u   /* without work, and a slice is returned */
#define ARBITER_YIELD_NS   100000u   /* the same, when another one is next */
#define ARBITER_THINK_NS   1500000u  /* who comes back later than that is not expected */
#define ARBITER_POLICE_NS  20000000u
#define ARBITER_OUTSIDE_NS 3000000u /* may be used outside, and … */
#define ARBITER_OUTSIDE    16u      /* … a part in so many of the time */
#define ARBITER_CALM       50u
#define ARBITER_CALM_PART  20u /* of a slice, used: less is idle */
#define ARBITER_SETTLE_NS  250000000u
#define ARBITER_LEAST_NS   20000u /* any slice costs as much, ours to arrange it included */

struct arbiter_ops {
	/* That page has changed: whoever waits for its word looks again. */
	void (*wake)(void *data, struct slice_page *page);
	/* Its device process is stopped for `ns` from now, or goes on: 0. */
	void (*hold)(void *data, uint32_t id, uint64_t ns);
	/* Its device process used so much so far; false: it cannot be told, at least not at once.
	 */
	bool (*used)(void *data, uint32_t id, uint64_t *ret_ns);
	/* arbiter_sampled() is wanted soon for those of whom it can be told later. May be NULL. */
	void (*sample)(void *data);
};

enum arbiter_state { ARBITER_AWAY, ARBITER_WAITS, ARBITER_HAS, ARBITER_HELD };

struct arbiter_vgpu {
	uint32_t id; /* 0: free */
	enum arbiter_state state;
	struct slice_page *page;
	const struct slice_claim *claim;
	uint64_t until_ns;       /* as in the page */
	uint64_t expected_until; /* it may want its next slice without having said so */
	uint64_t returned_at;    /* it wants nothing since then; 0: not known */
	uint64_t thinks_ns;      /* for so long it usually wants nothing */
	uint64_t withdrawn;      /* so often it had to be told that it has no slice */
	bool absent;             /* it has no device process, and wants nothing */
	bool outside;            /* it is HELD for what it did outside of its slices */
	bool guilty;             /* HELD, or in its slice only because it is its turn */
	unsigned calm;
	uint64_t held_at;                /* 0: it is not stopped */
	uint64_t counted_at, counted_ns; /* what it had used then; 0: not known */
	uint64_t own_ns;                 /* its slices took so long, until the last one's end */
	struct {
		uint64_t at, used_ns, own_ns; /* at 0: there was none yet */
		bool idle;                    /* in its own slices, it hardly used anything */
	} sample;
	uint64_t allowed_ns; /* it may use so much more outside of its slices */
	uint64_t slices;     /* it had, since it was added */
};

struct arbiter {
	struct slices slices;
	const struct arbiter_ops *ops;
	void *data;
	bool open;
	uint64_t settle_until; /* 0: it is settled */
	struct arbiter_vgpu vgpus[SCHED_VGPUS_MAX];
	struct arbiter_vgpu *has; /* NULL: nobody */
	uint64_t began_ns, force_ns;
	uint64_t unless_ns; /* its slice is over by then, unless work was given in it; 0: it was */
	bool untouched;     /* its owner may not have begun to use it */
	uint64_t beat_at, police_at;
	uint64_t next_ns; /* the last step asked to be called again then */
};

/* 0 or -EINVAL. */
int arbiter_init(
	struct arbiter *a, const struct sched_gpu *gpu, const struct arbiter_ops *ops, void *data);
/*
 * Who is there may be at work, and is given pages now: open until all have taken them up, but not
 * after `until`. ARBITER_SETTLE_LATER: until this is called again, for somebody may still be added.
 */
#define ARBITER_SETTLE_LATER UINT64_MAX
void arbiter_settle(struct arbiter *a, uint64_t until);
/* Another policy; who is there stays, and what was used is forgotten. -EINVAL. */
int arbiter_set_policy(struct arbiter *a, const struct sched_gpu *gpu);

/*
 * `page` and `claim` stay the caller's and mapped until it is removed; the page is initialised
 * here. -EINVAL, -EEXIST, -ENOSPC.
 */
int arbiter_add(struct arbiter *a, uint32_t id, const struct sched_vgpu *params,
	struct slice_page *page, const struct slice_claim *claim);
/* At any time. Its page is open from then on, and its process goes on. */
void arbiter_remove(struct arbiter *a, uint32_t id);
/* Another weight or share. */
int arbiter_set_params(struct arbiter *a, uint32_t id, const struct sched_vgpu *params);
/*
 * Another device process: what it uses is counted anew. Without one (`there` false) what the last
 * one wanted, had or did wrong is over.
 */
void arbiter_renew(struct arbiter *a, uint32_t id, bool there, uint64_t now);

/*
 * Its device process had used so much not long before now. What that is more than its own slices
 * took since the last time was used outside of them.
 */
void arbiter_sampled(struct arbiter *a, uint32_t id, uint64_t used_ns, uint64_t now);

/*
 * Does all that is due, and is called again at the time returned (UINT64_MAX: never), or earlier
 * when a vGPU woke us or something was called above. `now`: CLOCK_MONOTONIC, ns.
 */
uint64_t arbiter_step(struct arbiter *a, uint64_t now);

/* NULL: nobody. */
const struct arbiter_vgpu *arbiter_find(const struct arbiter *a, uint32_t id);

#endif
