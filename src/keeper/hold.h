/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_KEEPER_HOLD_H
#define VGPU_KEEPER_HOLD_H

/*
 * The device process is stopped by force for a while, because vgpud said HOLD: it took more than
 * its share. Only the current one, while it serves; one that takes over, is taken over from, saves,
 * starts or ends is never held, and a hold ends when that begins.
 */

#include "protocol/keeper.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct device_process;
struct keeper;
struct loop_source;

#define HOLD_CHILDREN 8

struct hold {
	int timer_fd; /* -1: none yet */
	struct loop_source *timer;
	struct device_process *device; /* it is held; NULL: none is */
	uint64_t since_ns, until_ns;   /* by base/clock.h */
	uint64_t total_ns;             /* of the holds that are over */
	uint64_t told_ns;              /* vgpud was told of the total then */
	struct {
		pid_t pid; /* 0: none */
		int pidfd;
	} children[HOLD_CHILDREN];
	struct device_process *parent; /* of those, when they were last looked for; or NULL */
	uint64_t busy_since, busy_total_ns, last_total_ns; /* hold_since_ns() */
};

void hold_init(struct hold *hold);

/*
 * From now on for `ns`, at most KEEPER_HOLD_MAX_NS, instead of what is left of an earlier one; 0:
 * it goes on now. Nothing happens where none may be held.
 */
void hold_ask(struct keeper *k, uint64_t ns);
/* It goes on now, if it is held. */
void hold_end(struct keeper *k);
/* That process is no more. */
void hold_forget(struct device_process *d);

/* How long device processes of this keeper were held so far. */
uint64_t hold_total_ns(const struct keeper *k);
/*
 * Of the time since then; to be asked at every look at a process that has been at one thing since
 * `since` (0: it is at nothing). What it was held between the look before and then counts too.
 */
uint64_t hold_since_ns(struct keeper *k, uint64_t since);

#endif
