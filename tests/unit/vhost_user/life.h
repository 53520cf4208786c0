/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_TESTS_VHOST_USER_LIFE_H
#define VGPU_TESTS_VHOST_USER_LIFE_H

/*
 * A vhost-user connection over several lives of its process, and the little of a keeper and of the
 * process' own part that this needs: custody, an anchor, images, the journal, resuming.
 *
 * What is in struct life outlives the process; struct process is abandoned, without any clean-up,
 * when a life ends by life_point() jumping out of it.
 */

#include "front.h"

#include "frontend/keep.h"

#define LIFE_CUSTODY    256
#define LIFE_CONNECTION 5u
#define LIFE_SCREEN_W   300u
#define LIFE_SCREEN_H   200u

struct life_entry {
	struct keeper_custody what;
	int fd; /* -1: free */
};

struct life {
	struct front front; /* the peer: it uses `turn` */
	struct life_entry custody[LIFE_CUSTODY];
	uint64_t current; /* the anchor's word; 0: nothing was begun */
	int socket;       /* the back end's end of the connection */
	struct process *process;
	unsigned processes, images, records, turns;
	uint32_t random; /* images are made at random moments; 0: only when due */
	uint64_t limit;  /* of the journal */
	bool hold;       /* the device answers later, one request a turn */
	bool move;       /* no journal: an image is made at the end of a life */
	bool refuse_memory, verdicts_wait;
	unsigned asked; /* memory verdicts */
	uint8_t *screen;
	bool shown, paint; /* paint: the guest shows the screen anew, in the next turn */
	bool ask_info;     /* the device asks for the viewer's modes at each request */
};

struct process {
	struct life *life;
	unsigned number;
	struct device dev;
	struct frontend_keep keep;
	struct loop *loop;
	struct vhost_user *vu;
	struct journal *journal;
	bool image_wanted;
	bool live; /* nothing can be taken any more */
	unsigned rounds;
};

void life_init(struct life *l);
struct life_entry *life_find(struct life *l, const struct keeper_custody *what);
unsigned life_count(const struct life *l, uint32_t kind);
/* One turn of the process; a new one takes over where there is none. */
void life_turn(struct front *f);
/* 0, or why a process could not begin or take over. */
int process_start(struct life *l, struct process *p);
int process_image(struct process *p);

/*
 * Every place at which a process may end: before and after each system call, journal entry, custody
 * message, mark and device operation. The test defines it.
 */
void life_point(void);
/* A process could not take over. The test defines it. */
void life_failed(int err);

#endif
