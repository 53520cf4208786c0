/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_KEEPER_TAKEOVER_H
#define VGPU_KEEPER_TAKEOVER_H

/*
 * How a running guest gets from one device process to the next: a state machine whose phases are
 * below and whose table is in takeover.c. What a device process needs of its predecessor is in
 * custody; connections stay open here. A successor is told in this order: GIVE each item, RESUME
 * each connection, LOAD or LOAD_FILE; it answers LOADED.
 *
 *   recover     current died ─▶ RECOVER_START ─READY▶ RECOVER_LOAD ─LOADED▶ serving
 *   move        MOVE_START ─READY▶ MOVE_PRECOPY ⇄ MOVE_PRELOAD ─▶ MOVE_SAVE ─SAVED▶ MOVE_LOAD ─▶
 *   hibernate   HIBERNATE ─SAVED▶ HIBERNATE_END ─its death▶ ASLEEP
 *   wake        ASLEEP ─byte, kick, WAKE▶ WAKE_START ─READY▶ WAKE_LOAD ─LOADED▶ serving
 *   others      SNAPSHOT, RESTORE, CHECK: one answer
 *
 * Rules:
 *  - Until a successor has said LOADED 0 its predecessor or, in recovery and waking, what is in
 *    custody or in the file can be gone back to: so what a successor puts into custody is staged,
 *    except in recovery, where it is the only one and every prefix of its messages is consistent.
 *  - A process that is not asked for an answer must not give one; one that was not waited for any
 *    longer may still come and is dropped.
 *  - In phases that *hold*, connections that come wait, and ends of connections are put off: the
 *    one that takes over is told of them afterwards.
 *  - The death of the current process is recovered from in every phase that has one.
 *  - A process may be held (hold.h) while nothing is under way, and at no other time.
 */

#include "protocol/keeper.h"

#include <stdbool.h>
#include <stdint.h>

struct keeper;
struct device_process;
struct packet;
struct loop_source;

enum takeover_phase {
	PHASE_SERVING, /* or starting, failed: nothing is under way */
	PHASE_RECOVER_START,
	PHASE_RECOVER_LOAD,
	PHASE_MOVE_START,
	PHASE_MOVE_PRECOPY, /* the current one copies a round ahead */
	PHASE_MOVE_PRELOAD, /* the next one loads it */
	PHASE_MOVE_SAVE,
	PHASE_MOVE_LOAD,
	PHASE_SNAPSHOT,
	PHASE_RESTORE,
	PHASE_CHECK,
	PHASE_HIBERNATE,
	PHASE_HIBERNATE_END,
	PHASE_ASLEEP, /* no process; after a wake that failed only WAKE wakes */
	PHASE_WAKE_START,
	PHASE_WAKE_LOAD,
	PHASE_COUNT
};

enum takeover_event {
	/* Payload: struct keeper_saved, or keeper_checked. */
	EVENT_PRECOPIED,
	EVENT_SAVED,
	EVENT_LOADED,
	EVENT_CHECKED,
	/* No payload. */
	EVENT_CURRENT_READY,
	EVENT_NEXT_READY,
	EVENT_CURRENT_DIED, /* unexpectedly; k->failure says how */
	EVENT_NEXT_DIED,    /* takeover.why says how */
	EVENT_TIMEOUT,
	EVENT_COUNT
};

/* What vgpud asked for; one at a time. */
struct job {
	uint32_t type; /* enum keeper_control_message; 0 (HELLO): none */
	bool exact, at_once;
	uint64_t began_ns;
};

struct takeover {
	enum takeover_phase phase;
	bool blame; /* the process that died last crashed or hung, nobody killed it from outside */
	uint64_t deadline;  /* ms; 0: none */
	uint64_t paused_at; /* ns; since then the guest is not served */
	uint64_t bytes;     /* of the state, so far */
	uint64_t left;      /* MOVE_PRECOPY: written again since the last round */
	uint64_t sent_at;   /* ns: SAVE or SAVE_FILE was sent */
	bool lossy;
	bool again;      /* MOVE: another round; recovery: the dead one did not refuse to start */
	unsigned rounds; /* precopied for this move */
	uint32_t rounds_given; /* PRECOPY items before this one were given to the next process */
	/*
	 * The slot of the newest image since SAVE. One before it was made in case of a crash, when
	 * SAVE had not been read yet: it is not complete without its journal.
	 */
	uint32_t saved_images;
	bool load_late; /* MOVE_LOAD: the next one is being killed; LOADED may still come first */
	int file_fd;    /* of a hibernated vGPU; -1: none */
	bool had_peers; /* when it fell asleep */
	bool wake_failed;
	struct loop_source *kick_sources[KEEPER_MAX_RINGS];
	uint32_t load_steps; /* RECOVER_LOAD: time-outs it was given more time after */
	uint64_t served_at;  /* ms: the last recovery or waking was done */
	uint64_t window_at;  /* ms: those that died by themselves are counted since then */
	uint32_t in_window;
	uint32_t killed; /* from outside in a row, none of which had served for long */
	uint32_t recoveries, moves, wakes; /* of the keeper's life */
	uint64_t last_pause_ns, last_replay_ns;
	char why[KEEPER_TEXT_MAX];
	struct job job;
};

void takeover_init(struct takeover *t);
void takeover_event(struct keeper *k, enum takeover_event event, const void *payload);
/* Enters a phase that must be over within `ms` (0: another clock ends it, or nothing). */
void takeover_enter(struct keeper *k, enum takeover_phase phase, uint64_t ms);
/* Back to serving: does what was put off. `taken_over`: by a process that loaded the state. */
void takeover_done(struct keeper *k, bool taken_over);
/* The current process is about to be replaced for another reason than its death. */
void takeover_cancel(struct keeper *k, const char *why);
bool takeover_holds(const struct keeper *k);
uint32_t takeover_status(const struct keeper *k); /* the state that vgpud sees */
/* Sends a message whose answer of type `answer` that process then owes. */
void takeover_ask(struct device_process *d, uint32_t type, const void *payload, uint32_t size,
	int fd, uint32_t answer);
/* GIVE, RESUME and LOAD, or LOAD_FILE with `fd`. `kinds`, `images`, `rounds`: outbox_give(). */
void takeover_give(struct device_process *d, bool recover, uint32_t kinds, uint32_t images,
	uint32_t rounds, int fd);
uint64_t takeover_since_ns(uint64_t ns);
void takeover_check_time(struct keeper *k, uint64_t now);
uint64_t takeover_next_time(const struct keeper *k);

void takeover_serve(struct keeper *k, const void *payload); /* a first process is ready */

/* recover.c */
void recover_begin(struct keeper *k, const void *payload);
/* Counts one that was killed from outside: the next one is started after so many ms. */
uint64_t recover_killed(struct keeper *k);
void recover_delayed(struct keeper *k, const void *payload);
void recover_ready(struct keeper *k, const void *payload);
void recover_loaded(struct keeper *k, const void *payload);
void recover_timeout(struct keeper *k, const void *payload);

/* move.c */
int move_begin(struct keeper *k, const struct keeper_move *move, char *why, size_t size);
void move_ready(struct keeper *k, const void *payload);
void move_precopied(struct keeper *k, const void *payload);
void move_preloaded(struct keeper *k, const void *payload);
void move_saved(struct keeper *k, const void *payload);
void move_loaded(struct keeper *k, const void *payload);
void move_current_died(struct keeper *k, const void *payload);
void move_next_died(struct keeper *k, const void *payload);
void move_timeout(struct keeper *k, const void *payload);
void move_cancel(struct keeper *k, const char *why);

/* sleep.c */
int sleep_hibernate(struct keeper *k, int fd, bool exact, char *why, size_t size);
void sleep_saved(struct keeper *k, const void *payload);
void sleep_save_died(struct keeper *k, const void *payload);
void sleep_timeout(struct keeper *k, const void *payload);
void sleep_ended(struct keeper *k, const void *payload);
void sleep_wake(struct keeper *k); /* from ASLEEP */
void sleep_delayed(struct keeper *k, const void *payload);
void sleep_ready(struct keeper *k, const void *payload);
void sleep_loaded(struct keeper *k, const void *payload);
void sleep_wake_failed(struct keeper *k, const void *payload);
void sleep_wake_timeout(struct keeper *k, const void *payload);
void sleep_peer_gone(struct keeper *k); /* in ASLEEP: nobody left to wake for? */

/* jobs.c */
/* What vgpud asks for. Takes p->fd or leaves it; DONE says what came of it. */
void job_request(struct keeper *k, struct packet *p);
void job_done(struct keeper *k, int code, const char *text); /* nothing if there is no job */
void job_progress(struct keeper *k, const char *step);
void job_snapshot_saved(struct keeper *k, const void *payload);
void job_restored(struct keeper *k, const void *payload);
void job_checked(struct keeper *k, const void *payload);
void job_timeout(struct keeper *k, const void *payload);
void job_current_died(struct keeper *k, const void *payload);

#endif
