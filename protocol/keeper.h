/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_PROTOCOL_KEEPER_H
#define VGPU_PROTOCOL_KEEPER_H

/*
 * The two private protocols of a vGPU's keeper. Both run over Unix SOCK_SEQPACKET, one message a
 * packet, native byte order (both ends are on one machine and come from one build; the version is
 * checked all the same because a keeper outlives upgrades of vgpud).
 *
 *   device channel:  keeper <-> vgpu-device, an inherited socket pair. The device is not trusted.
 *                    It also inherits its page of counters (protocol/stats.h), made by the keeper
 *                    for this one process.
 *   control channel: vgpud <-> keeper, RUN_DIR/vgpus/NAME/keeper.sock, mode 0600.
 *
 * Each row: X(name, from, fds). `fds` is how many descriptors ride along: exactly that many, any
 * other count is a protocol error and ends the channel.
 */

#include "protocol/custody.h"
#include "protocol/formats.h"
#include "protocol/keeper_memory.h"
#include "protocol/keeper_share.h"
#include "protocol/standby.h"

#include <stdint.h>

#define KEEPER_PROTOCOL_VERSION 8u
#define KEEPER_TEXT_MAX         256
#define KEEPER_NAME_MAX         64

/* clang-format off */
#define KEEPER_DEVICE_MESSAGES(X)                                                                  \
	/* device → keeper */                                                                      \
	X(READY, DEVICE, 0)      /* struct keeper_ready */                                         \
	X(CUSTODY, DEVICE, 1)    /* struct keeper_custody; fd: what is put into custody */         \
	X(RELEASE, DEVICE, 0)    /* struct keeper_custody: forget that kind and index */           \
	X(MEMORY_DONE, DEVICE, 0)/* struct keeper_verdict.serial: all regions of a table were sent */\
	X(CLOSED, DEVICE, 0)     /* struct keeper_closed: a connection ended */                    \
	X(NOTICE, DEVICE, 0)     /* struct keeper_text: for the operator */                        \
	X(FAILED, DEVICE, 0)     /* struct keeper_text: why this process is about to exit */       \
	X(PRECOPIED, DEVICE, 0)  /* struct keeper_saved: a round of PRECOPY is in custody */       \
	X(SAVED, DEVICE, 0)      /* struct keeper_saved: answer to SAVE and SAVE_FILE */           \
	X(LOADED, DEVICE, 0)     /* struct keeper_saved: answer to each LOAD, LOAD_FILE, LOAD_PRECOPY */ \
	X(CHECKED, DEVICE, 0)    /* struct keeper_checked: one for each reason, and one without text */ \
	X(FORMATS, DEVICE, 0)    /* struct keeper_formats: for the file of --formats; before READY */ \
	/* keeper → device */                                                                      \
	X(CONNECTION, KEEPER, 1) /* struct keeper_connection; fd: the accepted socket */           \
	X(VERDICT, KEEPER, 0)    /* struct keeper_verdict: may this guest memory be served? */     \
	X(DISCONNECT, KEEPER, 0) /* struct keeper_closed: end that connection */                   \
	X(QUIT, KEEPER, 0)       /* no payload: finish and exit 0 */                               \
	X(PRECOPY, KEEPER, 0)    /* no payload: copy contents to a new image while serving */      \
	X(SAVE, KEEPER, 0)       /* no payload: stop serving, put an image into custody */         \
	X(SAVE_FILE, KEEPER, 1)  /* struct keeper_save; fd: file to write a snapshot to */         \
	X(THAW, KEEPER, 0)       /* no payload: go on serving after SAVE or SAVE_FILE */           \
	X(CHECK, KEEPER, 0)      /* no payload: what would be lossy or refused now? */             \
	X(GIVE, KEEPER, 1)       /* struct keeper_custody; fd: what a predecessor put there */     \
	X(RESUME, KEEPER, 1)     /* struct keeper_connection; fd: a predecessor's connection */    \
	X(LOAD_PRECOPY, KEEPER, 0) /* no payload: load the precopied contents given so far */      \
	X(LOAD, KEEPER, 0)       /* struct keeper_load: all was given, take over */                \
	X(LOAD_FILE, KEEPER, 1)  /* struct keeper_load; fd: a snapshot file to load instead */     \
	X(SHADERS, KEEPER, 1)    /* no payload; fd: archive of compiled shaders, to read only */   \
	X(GRANT, KEEPER, 1)      /* struct keeper_grant; fd: that part of its time slices */          \
	X(CONFIGURE, KEEPER, 0)  /* struct standby_args: whose vGPU a stand-by is from now on */   \
	X(IDLE, KEEPER, 0)       /* no payload: its guest is idle */                               \
	X(RESTING, DEVICE, 0)    /* no payload: IDLE was read, AWAKE comes before any work */    \
	X(AWAKE, DEVICE, 0)      /* no payload: it was woken; once after each RESTING */

#define KEEPER_CONTROL_MESSAGES(X)                                                                 \
	/* vgpud → keeper */                                                                       \
	X(HELLO, CONTROL, 0)     /* struct keeper_hello */                                         \
	X(BIND, CONTROL, 1)      /* struct keeper_bind; fd: pidfd of the holder */                 \
	X(UNBIND, CONTROL, 0)    /* no payload: end the binding and its connections */             \
	X(ADOPT, CONTROL, 1)     /* struct keeper_bind; fd: a connected vhost-user socket */       \
	X(GET_SCREEN, CONTROL, 0)/* struct keeper_screen.head */                                   \
	X(GET_STATS, CONTROL, 0) /* no payload */                                                  \
	X(GROUP, CONTROL, 0)     /* struct keeper_group: the device processes' from now on */      \
	X(HOLD, CONTROL, 0)      /* struct keeper_hold; has no answer, see there */                \
	X(GRANT, CONTROL, 1)     /* struct keeper_grant; fd: for all device processes; no answer */ \
	X(MEMORY, CONTROL, 0)    /* struct keeper_memory; no answer but STATUS */                  \
	X(MEMORY_GRANT, CONTROL, 0) /* struct keeper_memory_grant; no answer but STATUS */         \
	X(STOP, CONTROL, 0)      /* no payload: end the device process and the keeper */           \
	X(MOVE, CONTROL, 0)      /* struct keeper_move: to a new device process; DONE follows */   \
	X(SNAPSHOT, CONTROL, 1)  /* struct keeper_save; fd: file to write; DONE follows */         \
	X(RESTORE, CONTROL, 1)   /* no payload; fd: snapshot file; DONE follows */                 \
	X(HIBERNATE, CONTROL, 1) /* struct keeper_save.exact; fd: empty file; DONE follows */      \
	X(WAKE, CONTROL, 0)      /* no payload; DONE follows */                                    \
	X(CHECK, CONTROL, 0)     /* no payload; CHECKED for each reason, DONE at the end */        \
	/* keeper → vgpud */                                                                       \
	X(STATUS, KEEPER, 0)     /* struct keeper_status: after HELLO and after every change */    \
	X(RESULT, KEEPER, 0)     /* struct keeper_result: to BIND, UNBIND, ADOPT, GROUP, refusals */\
	X(SCREEN, KEEPER, 1)     /* struct keeper_screen; fd: screen memfd, see protocol/screen.h */\
	X(STATS, KEEPER, 1)      /* no payload; fd: stats memfd, see protocol/stats.h */           \
	X(EVENT, KEEPER, 0)      /* struct keeper_text: a notice, refusal or failure as it happens */ \
	X(PROGRESS, KEEPER, 0)   /* struct keeper_progress: of what is under way */                \
	X(CHECKED, KEEPER, 0)    /* struct keeper_checked */                                       \
	X(DONE, KEEPER, 0)       /* struct keeper_done: the end of MOVE … CHECK, or its refusal */ \
	/* vgpud → keeper, to a stand-by */                                                        \
	X(ASSIGN, CONTROL, 1)    /* struct standby_assign; fd: the lock of its folder */
/* clang-format on */

enum keeper_device_message {
#define X(name, from, fds) KEEPER_DEVICE_##name,
	KEEPER_DEVICE_MESSAGES(X)
#undef X
		KEEPER_DEVICE_MESSAGE_COUNT
};

enum keeper_control_message {
#define X(name, from, fds) KEEPER_CONTROL_##name,
	KEEPER_CONTROL_MESSAGES(X)
#undef X
		KEEPER_CONTROL_MESSAGE_COUNT
};

struct keeper_ready {
	uint32_t version;
	uint32_t driver; /* whose compiled shaders it can use: protocol/shaders.h; 0: nobody's */
	char renderer[KEEPER_TEXT_MAX];
};

/* protocol/formats.h; the keeper stores it and does not look. */
struct keeper_formats {
	uint32_t size; /* bytes; at most FORMATS_FILE_MAX */
	uint32_t pad;
	uint8_t bytes[FORMATS_FILE_MAX];
};

struct keeper_text {
	char text[KEEPER_TEXT_MAX];
};

enum keeper_connection_kind { KEEPER_CONNECTION_VHOST_USER, KEEPER_CONNECTION_VTEST };

struct keeper_connection {
	uint32_t id; /* chosen by the keeper, unique over its life */
	uint32_t kind;
	uint32_t pid, uid; /* of the peer, as SO_PEERCRED said */
};

struct keeper_closed {
	uint32_t id;
	uint32_t pad;
	char reason[KEEPER_TEXT_MAX]; /* "" : the peer closed it */
};

/*
 * After a change of guest memory the device sends CUSTODY for each region, then MEMORY_DONE with a
 * serial, and serves no ring until VERDICT with that serial comes back with ok = 1. The keeper
 * refuses memory that another vGPU's keeper already holds (rule 1: one vGPU per VM).
 */
struct keeper_verdict {
	uint32_t serial;
	uint32_t ok;
	char reason[KEEPER_TEXT_MAX];
};

struct keeper_hello {
	uint32_t version;
	uint32_t pad;
};

struct keeper_save {
	uint32_t exact; /* refuse rather than lose anything */
	uint32_t stop;  /* SAVE_FILE: stay stopped, QUIT follows (hibernation) */
};

struct keeper_load {
	uint32_t recover; /* replay the journal that counts; 0: the image is complete */
	uint32_t images;  /* slots given: bit per slot */
	uint32_t blame;   /* the predecessor crashed or hung, nobody killed it from outside */
	uint32_t own;     /* LOAD_FILE: nobody else has the file, so it can count as an image */
};

struct keeper_saved {
	int32_t code;   /* 0, or -errno and why */
	uint32_t lossy; /* something was not saved exactly: `text` says what */
	uint64_t bytes;
	uint64_t stopped_ns; /* how long the guest was not served; a SAVE's is still growing */
	uint64_t left;       /* PRECOPIED: bytes written again since */
	uint64_t replay_ns;  /* LOADED: in which the journal was run again */
	char text[KEEPER_TEXT_MAX];
};

enum keeper_check_verdict { KEEPER_CHECK_FINE, KEEPER_CHECK_LOSSY, KEEPER_CHECK_REFUSED };

struct keeper_checked {
	uint32_t verdict;
	uint32_t pad;
	char text[KEEPER_TEXT_MAX]; /* what and why; "": that was all */
};

/* Command line of the new device process, for another GPU; n_args 0: the same as now. */
struct keeper_move {
	uint32_t n_args;
	uint32_t exact;   /* refuse rather than lose anything */
	uint32_t at_once; /* copy nothing ahead: less work in all, a longer pause */
	uint32_t pad;
	char args[1024]; /* n_args strings, each with its terminator */
};

struct keeper_progress {
	uint64_t bytes, total_bytes;
	char step[32]; /* "copying", "loading", … */
};

struct keeper_done {
	int32_t code; /* 0, or -errno and why */
	uint32_t lossy;
	uint64_t bytes;    /* size of the state */
	uint64_t pause_ns; /* from the last byte served before to the first after */
	uint64_t total_ns;
	uint64_t left_bytes; /* HIBERNATE: memory the keeper still holds for it */
	char text[KEEPER_TEXT_MAX];
};

enum keeper_binding_kind { KEEPER_BINDING_NONE, KEEPER_BINDING_VM, KEEPER_BINDING_PROCESS };

struct keeper_bind {
	uint32_t kind;
	uint32_t pid, uid;
	uint32_t pad;
	char label[KEEPER_TEXT_MAX]; /* what `bound_to` shows */
};

enum keeper_state {
	KEEPER_STATE_STARTING,   /* the device process is initialising */
	KEEPER_STATE_READY,      /* it serves; no binding */
	KEEPER_STATE_BOUND,      /* a VM or client holds it */
	KEEPER_STATE_FAILED,     /* the device process died; `failure` says why */
	KEEPER_STATE_HIBERNATED, /* no device process; the state is in a file, the guest waits */
	KEEPER_STATE_RECOVERING, /* a new device process takes over from a dead one */
	KEEPER_STATE_MOVING,     /* a second device process is being made ready */
	KEEPER_STATE_COUNT
};

struct keeper_status {
	uint32_t version;
	uint32_t state;
	uint32_t keeper_pid;
	uint32_t device_pid;        /* 0: none */
	uint64_t device_start_time; /* clock ticks since boot, field 22 of /proc/PID/stat */
	uint32_t binding_kind;
	uint32_t binding_pid;
	uint32_t connections;
	uint32_t starts;                   /* device processes started so far */
	uint32_t recoveries, moves, wakes; /* of this keeper's life */
	uint64_t idle_ns;                  /* since the guest last did something; 0: it is at it */
	uint64_t last_pause_ns;            /* of the last move, recovery or wake */
	uint64_t last_replay_ns;           /* of that, in which its journal was run again */
	char uuid[40];
	char name[KEEPER_NAME_MAX];
	char renderer[KEEPER_TEXT_MAX];
	char bound_to[KEEPER_TEXT_MAX];
	char failure[KEEPER_TEXT_MAX]; /* why it failed or recovers; "" when it serves or sleeps */
	/* What device processes cost beside that of device_pid: struct process_times. */
	uint64_t others_cpu_ns, others_delay_ns;
	uint64_t held_ns; /* in which its device processes were held, of this keeper's life */
	struct keeper_memory_status memory;
};

struct keeper_result {
	int32_t code; /* 0 or -errno */
	uint32_t pad;
	char text[KEEPER_TEXT_MAX];
};

struct keeper_screen {
	uint32_t head;
	uint32_t pad;
};

#endif
