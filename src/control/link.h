/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_LINK_H
#define VGPU_CONTROL_LINK_H

/*
 * vgpud's end of a keeper: starts one or finds a running one, asks it things and hears from it.
 *
 * A keeper holds an exclusive lock on keeper.lock in its vGPU's folder from before it is executed
 * until it ends, so whether one runs is never a guess. Requests are answered in the order in which
 * they were sent; none waits longer than LINK_ANSWER_MS, after which the link is given up. So is
 * one whose keeper says nothing at all for that long.
 */

#include "protocol/keeper.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#define LINK_ANSWER_MS    5000u
#define LINK_OPERATION_MS 600000u /* without a word about an operation */

struct link;

struct link_ops {
	void (*status)(void *data, const struct keeper_status *status);
	void (*event)(void *data, const char *text);
	/* The link is over; the callee may destroy it. Requests under way were answered before. */
	void (*lost)(void *data);
};

struct link_spawn {
	const char *keeper, *device;   /* programs */
	const char *dir, *name, *uuid; /* dir NULL: a stand-by, which gets them later */
	char *const *device_args;      /* ends with NULL */
	gid_t group;                   /* (gid_t)-1: none */
	const char *cpu_group;         /* file that takes the pids of device processes; "" : none */
	const char *shaders;           /* the tenant's folder; "" : none */
	uint64_t shaders_mib;
	bool shaders_by_user; /* each user is a tenant */
};

/* Starts a keeper. -EBUSY: one is running for that folder. A stand-by has no name yet. */
int link_start(sd_event *event, const struct link_spawn *spawn, const struct link_ops *ops,
	void *data, struct link **ret);

/*
 * Makes a stand-by the keeper of a folder in which none runs (-EBUSY). From now on `ops` are called
 * with `data`; a STATUS without a UUID was sent before.
 */
struct standby_assign;
int link_assign(struct link *link, const char *dir, const struct standby_assign *assign,
	const struct link_ops *ops, void *data);

/* Connects to a running keeper. -ENOENT / -ECONNREFUSED: it does not listen (yet). */
int link_connect(sd_event *event, const char *dir, const struct link_ops *ops, void *data,
	struct link **ret);

/* True when a keeper runs for that folder. */
bool link_keeper_runs(const char *dir);

/* The keeper's process, as known without its word; 0: not known. Its own while its lock is held. */
pid_t link_keeper_pid(const struct link *link);

/* Its socket, to say HOLD from another thread; -1: it is lost. */
int link_fd(const struct link *link);

void link_destroy(struct link *link); /* NULL-safe; requests under way are answered -ECONNRESET */

/* `fd` (or -1) is the callee's to take by setting *fd to -1. */
typedef void (*link_answer)(void *data, int code, const char *text, int *fd);

/*
 * Sends a request whose answer is RESULT, SCREEN or STATS; `answer` is called later exactly once,
 * unless this returns an error. STOP has no answer: pass NULL. `fd` stays the caller's.
 */
int link_request(struct link *link, enum keeper_control_message type, const void *payload, int fd,
	link_answer answer, void *data);

/* How an operation that takes its time goes on: MOVE, SNAPSHOT, RESTORE, HIBERNATE, WAKE, CHECK. */
struct link_operation_ops {
	void (*progress)(void *data, const struct keeper_progress *progress);
	void (*checked)(void *data, const struct keeper_checked *checked);
	/* Exactly once, also when the link is lost (-ECONNRESET). May start the next one. */
	void (*done)(void *data, const struct keeper_done *done);
};

/* Starts one; -EBUSY while another is under way. `fd` stays the caller's. */
int link_operate(struct link *link, enum keeper_control_message type, const void *payload, int fd,
	const struct link_operation_ops *ops, void *data);

/* Asks for a STATUS that is as of now. */
int link_ask_status(struct link *link);

#endif
