/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_TESTS_VTEST_LIFE_H
#define VGPU_TESTS_VTEST_LIFE_H

/*
 * A vtest connection over several lives of its process, and the little of a keeper and of the
 * process' own part that this needs: custody, an anchor, images, the journal, resuming.
 *
 * What is in struct life outlives the process; struct process ends with it, without any clean-up.
 */

#include "fake_device.h"

#include "frontend/vtest/internal.h"
#include "state/journal.h"

#include <stdbool.h>
#include <stdint.h>

#define LIFE_CUSTODY     512
#define LIFE_CONNECTION  7u
#define LIFE_JOURNAL_MAX (256u << 10)

struct life_entry {
	struct keeper_custody what;
	int fd; /* -1: free */
};

/* In memory that all processes share. */
struct life_anchor {
	uint64_t current; /* as in struct keeper_anchor; 0: nothing was begun */
	uint64_t history; /* of the fake device, for the test to compare */
	uint64_t images, recoveries, records;
	bool closed;
	char reason[VTEST_REASON_MAX];
};

struct life {
	struct life_entry custody[LIFE_CUSTODY];
	struct life_anchor *anchor;
	int socket;      /* the connection's end of the vGPU */
	int channel;     /* custody goes there too, for a keeper in another process; -1 */
	uint32_t seed;   /* images are made at random moments; 0: only when the journal is full */
	uint64_t limit;  /* of the journal */
	bool no_journal; /* an image is made at the end of a life instead: a move */
};

struct process {
	struct life *life;
	struct device dev;
	struct vtest_budget budget;
	struct frontend_keep keep;
	struct loop *loop;
	struct vtest *vtest;
	struct journal *journal;
	bool image_wanted, over;
	int err; /* of resuming */
};

void life_init(struct life *life, int socket);
void life_put(struct life *life, const struct keeper_custody *what, int fd);
struct life_entry *life_find(struct life *life, const struct keeper_custody *what);
void life_drop(struct life *life, const struct keeper_custody *what);
unsigned life_count(const struct life *life, uint32_t kind);

/* Begins, or takes over from the process before. False: it could not (p->err). */
bool process_start(struct life *life, struct process *p);
/* One turn, and an image if it is due. */
void process_step(struct process *p);
int process_image(struct process *p);
/* Ends in good order, with the connection's own clean-up; what is in custody stays. */
void process_stop(struct process *p);

/*
 * Every place at which a process may end: called before and after each system call, journal entry,
 * custody message and device operation. The test defines it.
 */
void life_point(void);

#endif
