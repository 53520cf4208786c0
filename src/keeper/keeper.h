/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_KEEPER_KEEPER_H
#define VGPU_KEEPER_KEEPER_H

/*
 * The keeper of one vGPU: what must outlive both a crash of the device process and a restart of
 * vgpud lives here and nowhere else. Small enough to read in one sitting, and trusted.
 *
 *   vgpud ──keeper.sock──▶ control ┐
 *   VM ────vhost-user.sock──▶      ├─ keeper ──socket pair──▶ vgpu-device (its child, not trusted)
 *   process ──vtest.sock──▶  peers ┘    └ custody of fds, binding, memory locks
 *
 * States (keeper_state): STARTING until the device process says READY; READY; BOUND while a VM or
 * process holds it; FAILED when the device process died and nothing could be taken over. From
 * FAILED the next connection or BIND starts a new device process, at most KEEPER_RESTARTS times in
 * KEEPER_RESTART_WINDOW_MS; connections that come while one starts wait for it. RECOVERING, MOVING
 * and HIBERNATED are phases of takeover.h.
 *
 * A device process serves one binding. When that is over a new process takes its place, so nobody
 * meets the memory of whoever came before; the counters go on, in a page of the new one's own.
 * Within a binding a process can be followed by another one without the guest noticing
 * (takeover.h), so there can be two: the current one and the next. Those that were killed to make
 * room are only waited for.
 *
 * It parses nothing a guest sends. What the device process sends is checked by the message table;
 * a message that breaks it ends the device process. Nothing here blocks: a vgpud that stops reading
 * is cut off, a device process that does so for KEEPER_STUCK_MS is killed.
 */

#include "base/log.h"
#include "base/loop.h"
#include "base/process_times.h"
#include "keeper/binding.h"
#include "keeper/config.h"
#include "keeper/custody.h"
#include "keeper/hold.h"
#include "keeper/memory.h"
#include "keeper/outbox.h"
#include "keeper/shaders.h"
#include "keeper/takeover.h"
#include "protocol/keeper_table.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct rusage;

/* What a device process is started with, and what one of its successors may be instead. */
struct device_args {
	unsigned n; /* 0: those of the keeper's own command line */
	char text[sizeof(((struct keeper_move *)NULL)->args)]; /* n strings, each terminated */
};

struct connection {
	struct keeper *keeper;
	uint32_t id; /* 0: free */
	struct keeper_connection info;
	int fd;
	struct loop_source *source;
	bool sent;              /* the device process has it */
	bool gone;              /* the peer is; only the device's last work is left */
	uint64_t disconnect_at; /* ms; 0: not due */
	/* Seen during a takeover, done when that is over. */
	bool hung_up, disconnect, closed;
};

struct device_process {
	struct keeper *keeper;
	pid_t pid; /* 0: none */
	int pidfd, channel, stderr_fd;
	int stats_fd;    /* its page of counters until it is the current one; or -1 */
	uint32_t served; /* number of the binding it has served; 0: none yet */
	bool restored;   /* it holds a snapshot that nobody is connected to */
	bool ready;      /* it has said so */
	uint32_t driver; /* whose compiled shaders it can use; 0: nobody's */
	bool replaced;   /* it was killed to make room for the next */
	bool quitting;   /* QUIT was sent */
	bool staging;    /* what it puts into custody does not count yet: it is in `staged` */
	struct custody staged;
	/* Bits 1 << enum keeper_device_message: answers it owes, and those nobody waits for. */
	uint32_t owes, late_answers;
	struct outbox outbox;
	char renderer[KEEPER_TEXT_MAX];
	struct loop_source *pidfd_source, *channel_source, *stderr_source;
	uint64_t start_time;
	struct process_times times; /* what it has cost, when that was last looked at */
	uint64_t kill_at;           /* ms; 0: not due */
	const char *late;           /* why it is killed then */
	const char *kill_reason;
	uint64_t stuck_since; /* ms; its channel has been full from then on; 0: it is not */
	uint64_t resend_at;   /* ms; 0: not due */
	uint64_t sent;        /* messages it was sent */
	struct keeper_verdict verdict; /* the newest, while verdict_waits */
	bool verdict_waits;
	uint32_t claim_serial;             /* of the MEMORY_DONE that is not looked at yet, */
	bool claim_waits;                  /* while there is one: see memory_claim.h */
	uint32_t memory_serial;            /* of the verdict that it waits for, */
	bool memory_waits;                 /* while it does: see memory.h */
	char failed_text[KEEPER_TEXT_MAX]; /* the last FAILED, or the last line on its stderr */
	bool failed_said;                  /* failed_text is from FAILED */
	char line[KEEPER_TEXT_MAX];        /* of stderr, so far */
	size_t line_len;
};

struct control {
	int fd; /* -1: vgpud is not there */
	struct loop_source *source;
	bool hello;
};

struct keeper {
	const struct keeper_config *config;
	struct keeper_config own_config; /* of one that was a stand-by, */
	struct standby_assign assigned;  /* with these texts */
	struct loop *loop;
	int dir_fd, vms_dir, signal_fd;
	int listeners[3];        /* by enum listener */
	enum keeper_state state; /* STARTING, READY or FAILED; BOUND is READY with a binding */
	bool stopping;
	struct device_process processes[KEEPER_PROCESSES];
	struct device_process *current; /* pid 0: there is none */
	struct device_process *next;    /* NULL: there is none */
	struct device_args args;        /* of the current one and those that follow it */
	struct device_args next_args;   /* of those that follow the next one */
	struct takeover takeover;
	struct hold hold;
	struct memory memory;
	struct keeper_shaders shaders;
	struct control control;
	struct custody custody;
	struct binding binding;
	uint32_t binding_number;           /* of the present or next binding; from 1 */
	int stats_fd;                      /* counters of this or the last device process; or -1 */
	int group_fd;                      /* takes the pids of device processes; or -1 */
	int grant_fds[KEEPER_GRANT_PARTS]; /* of their time slices; or -1 */
	int holder_pidfd;
	struct loop_source *holder_source;
	struct connection connections[KEEPER_MAX_CONNECTIONS];
	uint32_t next_id;
	uint32_t starts;
	struct process_times ended; /* what the device processes have cost that are no more */
	uint64_t restarts_at[KEEPER_RESTARTS]; /* ms, a ring */
	unsigned restart_next;
	uint64_t watch_at;         /* ms; 0: not due */
	uint64_t active_at;        /* ms: the guest last did something */
	uint64_t activity;         /* sum of counters then */
	bool told_idle;            /* to vgpud */
	bool quiet_asked;          /* IDLE was sent */
	bool quiet;                /* and answered: until AWAKE nothing is looked at */
	uint64_t awake_at;         /* ms: when AWAKE came last */
	uint64_t watched_since_ns; /* what hung before that is not this process' doing */
	char renderer[KEEPER_TEXT_MAX];
	char failure[KEEPER_TEXT_MAX];
	struct log_limit notices;
};

/* main.c: everything that is done at a time of its own. */
void keeper_set_timer(struct keeper *k);
uint64_t keeper_private_bytes(void); /* of memory, of this process alone */
int keeper_open_dir(struct keeper *k);
void keeper_join_group(struct keeper *k);

/* device.c: life and death */
void device_init_all(struct keeper *k);
struct device_process *device_slot(struct keeper *k); /* a free one, or NULL */
/* `n` strings in a text of that size, as messages carry them; -EINVAL. */
int device_args_read(uint32_t n, const char text[STANDBY_ARGS_MAX], struct device_args *ret);
/* Starts one in that slot; READY or its death follows. 0 or -errno, then the slot is free. */
int device_spawn(struct device_process *d, const struct device_args *args);
int device_start(struct keeper *k);   /* the current one; 0 or -errno */
void device_ensure(struct keeper *k); /* from FAILED: starts one unless it is too often */
/* The word after `option` on that process' command line; NULL: it has none. */
const char *device_option(const struct device_process *d, const char *option);
void device_kill(struct device_process *d, const char *reason); /* its death follows */
/* Kills one that is neither current nor next any more; nothing it says counts. */
void device_dismiss(struct device_process *d);
/* Nothing could be taken over: connections end, k->failure says why. */
void device_fail(struct keeper *k);
/*
 * Has it served another binding than the present one? What it has is that one's, and must not be
 * there when the next one is served; the last client's bytes are being worked off, no more.
 */
bool device_is_used(const struct keeper *k);
/* Ends a device process that has served another binding than the present one; false: it has not. */
bool device_renew(struct keeper *k);
void device_replace(struct keeper *k, const char *reason); /* by a fresh one; connections end */
void device_quit(struct keeper *k);
void device_on_channel(void *data, uint32_t events);
bool device_read_message(struct device_process *d); /* false: there is no more now or ever */
void device_check_time(struct keeper *k, uint64_t now);
uint64_t device_next_time(const struct keeper *k); /* UINT64_MAX: none */

/*
 * usage.c: what device processes cost. Looked at once a second while there are connections, and
 * before one is killed; what one cost after that is lost where its monitor was killed, too.
 */
void usage_look(struct device_process *d);
void usage_ended(struct device_process *d, const struct rusage *usage);
/* Of all but the current one. */
struct process_times usage_others(struct keeper *k);

/* channel.c: messages */
/*
 * 0; -EAGAIN: its channel is full now, and what waits (connections, the verdict, the outbox) is
 * sent when it is not; or another -errno: it is being killed, or is dead.
 */
int device_send(struct device_process *d, uint32_t type, const void *payload, int fd);
/* The newest verdict is sent, now or when the channel has room. */
void device_verdict(struct device_process *d, const struct keeper_verdict *verdict);
/* Sends what waits; called when the channel has room again. */
void device_resend(struct device_process *d, uint64_t now);

/* standby.c: before there is a vGPU */
bool standby_waits(const struct keeper *k); /* for ASSIGN */
int standby_open(struct keeper *k);
/* Takes `lock_fd`. -errno: it cannot be what it was to be, and ends. */
int standby_assign(struct keeper *k, const struct standby_assign *assign, int lock_fd);
void standby_channel_closed(struct keeper *k); /* vgpud's */

/* formats.c: what the process found, for all that come after it on the same GPU */
const char *formats_store(struct device_process *d, const struct keeper_formats *told);

/* watch.c: does it hang, does it idle? */
void watch_check_time(struct keeper *k, uint64_t now);
uint64_t watch_next_time(const struct keeper *k);
bool watch_hangs(struct keeper *k);             /* it is at one thing for too long */
void watch_begin(struct keeper *k);             /* the guest did something just now */
void watch_quiet(struct keeper *k, bool quiet); /* RESTING and AWAKE */
uint64_t watch_idle_ns(struct keeper *k);

/* group.c: the control group that device processes are in */
/* All that run and that will; `path` is a file that takes pids. 0 or -errno. */
int group_join(struct keeper *k, const char *path);
void group_enter(const struct keeper *k); /* by a new process, itself */

/* grant.c: what device processes wait for their time slices with */
void grant_init(struct keeper *k);
/* Takes `fd` unless it is refused: -EPROTO. */
int grant_take(struct keeper *k, const struct keeper_grant *grant, int fd);
/* The current one begins to serve; also where it has them already. */
void grant_give(struct keeper *k);
/* vgpud is not there any more: nobody waits for it until it moves on or gives new ones. */
void grant_orphaned(const struct keeper *k);

/* peers.c: VMs and processes */
int peers_listen(struct keeper *k);
void peers_unlisten(struct keeper *k);
/* Takes `fd`. `label` NULL: found from the peer. 0 or -errno with the reason in `why`. */
int peers_add(struct keeper *k, int fd, enum keeper_connection_kind kind,
	const struct keeper_bind *as, char *why, size_t size);
void peers_closed_by_device(struct device_process *d, uint32_t id);
void peers_send_waiting(struct keeper *k);
bool peers_sent(const struct keeper *k);  /* has a device process one whose peer is there? */
bool peers_alive(const struct keeper *k); /* is any peer there and has not hung up? */
bool peers_waiting(const struct keeper *k);
/* Does what was put off during a takeover. `taken_over`: what the successor closed is closed. */
void peers_go_on(struct keeper *k, bool taken_over);
void peers_undo_closed(struct keeper *k); /* what that successor closed is not */
/* All of a sleeping vGPU's: tells when a peer says something. */
void peers_listen_to(struct keeper *k, bool on);
void peers_end_sent(struct keeper *k); /* those the device process had */
void peers_end_all(struct keeper *k);
int peers_bind(struct keeper *k, const struct keeper_bind *bind, int pidfd, char *why, size_t size);
void peers_unbind(struct keeper *k);
void peers_check_time(struct keeper *k, uint64_t now);
uint64_t peers_next_time(const struct keeper *k);
unsigned peers_count(const struct keeper *k);

/* control.c: vgpud */
int control_listen(struct keeper *k);
int control_adopt_fd(struct keeper *k, int fd);
void control_send(struct keeper *k, uint32_t type, const void *payload, int fd);
void control_status(struct keeper *k);
void control_event(struct keeper *k, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A listening socket in this vGPU's folder, its mode and group set. The fd or -errno. */
int keeper_listen(struct keeper *k, const char *name, int type, mode_t mode, gid_t group);

#endif
