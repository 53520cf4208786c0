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
 * process holds it; FAILED when the device process died. From FAILED the next connection or BIND
 * starts a new device process, at most KEEPER_RESTARTS times in KEEPER_RESTART_WINDOW_MS;
 * connections that come while one starts wait for it.
 *
 * A device process serves one binding. When that is over a new process takes its place, so nobody
 * meets the memory of whoever came before; the counters go on, in a page of the new one's own.
 *
 * It parses nothing a guest sends. What the device process sends is checked by the message table;
 * a message that breaks it ends the device process. Nothing here blocks: a vgpud that stops reading
 * is cut off, a device process that does so for KEEPER_STUCK_MS is killed.
 *
 * It deliberately does not carry a running guest over to a new device process yet: connections
 * end with the process that served them.
 */

#include "base/log.h"
#include "base/loop.h"
#include "keeper/binding.h"
#include "keeper/custody.h"
#include "protocol/keeper_table.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define KEEPER_MAX_CONNECTIONS   256u
#define KEEPER_READY_MS          15000u /* a device process not READY by then is killed */
#define KEEPER_QUIT_MS           2000u  /* from QUIT to SIGKILL */
#define KEEPER_LAST_WORDS_MS     500u   /* from the end of its channel to its own end */
#define KEEPER_DRAIN_MS          2000u  /* a dead client's last bytes may be worked off this long */
#define KEEPER_RESEND_MS         50u    /* between two attempts at a channel that was full */
#define KEEPER_STUCK_MS          10000u /* a device process that takes no message so long is killed */
#define KEEPER_RESTARTS          3u
#define KEEPER_RESTART_WINDOW_MS 60000u
#define KEEPER_LOG_MAX           (1u << 20) /* bytes; then the log starts over */

struct keeper_config {
	const char *run_dir; /* this vGPU's */
	const char *name;
	const char *uuid;
	const char *device; /* the vgpu-device program */
	char **device_args;
	int n_device_args;
	int control_fd; /* a first control connection, or -1 */
	int lock_fd;    /* held while the keeper lives, or -1 */
	gid_t group;    /* of the sockets clients use; (gid_t)-1: unchanged */
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
};

struct device_process {
	pid_t pid; /* 0: none */
	int pidfd, channel, stderr_fd;
	uint32_t served; /* number of the binding it has served; 0: none yet */
	bool replaced;   /* it was killed to make room for the next */
	bool quitting;   /* QUIT was sent */
	struct loop_source *pidfd_source, *channel_source, *stderr_source;
	uint64_t start_time;
	uint64_t kill_at; /* ms; 0: not due */
	const char *late; /* why it is killed then */
	const char *kill_reason;
	uint64_t stuck_since; /* ms; its channel has been full from then on; 0: it is not */
	uint64_t resend_at;   /* ms; 0: not due */
	struct keeper_verdict verdict; /* the newest, while verdict_waits */
	bool verdict_waits;
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
	struct loop *loop;
	int dir_fd, vms_dir, signal_fd;
	int listeners[3];        /* by enum listener */
	enum keeper_state state; /* STARTING, READY or FAILED; BOUND is READY with a binding */
	bool stopping;
	struct device_process device;
	struct control control;
	struct custody custody;
	struct binding binding;
	uint32_t binding_number; /* of the present or next binding; from 1 */
	int stats_fd;            /* counters of this or the last device process; or -1 */
	int holder_pidfd;
	struct loop_source *holder_source;
	struct connection connections[KEEPER_MAX_CONNECTIONS];
	uint32_t next_id;
	uint32_t starts;
	uint64_t restarts_at[KEEPER_RESTARTS]; /* ms, a ring */
	unsigned restart_next;
	char renderer[KEEPER_TEXT_MAX];
	char failure[KEEPER_TEXT_MAX];
	struct log_limit notices;
};

/* main.c: everything that is done at a time of its own. */
void keeper_set_timer(struct keeper *k);

/* device.c */
int device_start(struct keeper *k);   /* 0 or -errno; READY or FAILED follows */
void device_ensure(struct keeper *k); /* from FAILED: starts one unless it is too often */
void device_kill(struct keeper *k, const char *reason); /* its death follows */
/* Ends a device process that has served another binding than the present one; false: it has not. */
bool device_renew(struct keeper *k);
void device_quit(struct keeper *k);
/*
 * 0; -EAGAIN: its channel is full now, and what waits (connections, the verdict) is sent when it is
 * not; or another -errno: it is being killed, or is dead.
 */
int device_send(struct keeper *k, uint32_t type, const void *payload, int fd);
void device_check_time(struct keeper *k, uint64_t now);
uint64_t device_next_time(const struct keeper *k); /* UINT64_MAX: none */

/* peers.c: VMs and processes */
int peers_listen(struct keeper *k);
void peers_unlisten(struct keeper *k);
/* Takes `fd`. `label` NULL: found from the peer. 0 or -errno with the reason in `why`. */
int peers_add(struct keeper *k, int fd, enum keeper_connection_kind kind,
	const struct keeper_bind *as, char *why, size_t size);
void peers_closed_by_device(struct keeper *k, uint32_t id);
void peers_send_waiting(struct keeper *k);
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
void control_status(struct keeper *k);
void control_event(struct keeper *k, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A listening socket in this vGPU's folder, its mode and group set. The fd or -errno. */
int keeper_listen(struct keeper *k, const char *name, int type, mode_t mode, gid_t group);

#endif
