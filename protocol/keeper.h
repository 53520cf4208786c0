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

#include <stdint.h>

#define KEEPER_PROTOCOL_VERSION 2u
#define KEEPER_TEXT_MAX         256
#define KEEPER_NAME_MAX         64
#define KEEPER_MAX_MEMORY       32 /* guest-memory regions in custody */
#define KEEPER_MAX_RINGS        2
#define KEEPER_MAX_HEADS        16 /* screens in custody */

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
	/* keeper → device */                                                                      \
	X(CONNECTION, KEEPER, 1) /* struct keeper_connection; fd: the accepted socket */           \
	X(VERDICT, KEEPER, 0)    /* struct keeper_verdict: may this guest memory be served? */     \
	X(DISCONNECT, KEEPER, 0) /* struct keeper_closed: end that connection */                   \
	X(QUIT, KEEPER, 0)       /* no payload: finish and exit 0 */

#define KEEPER_CONTROL_MESSAGES(X)                                                                 \
	/* vgpud → keeper */                                                                       \
	X(HELLO, CONTROL, 0)     /* struct keeper_hello */                                         \
	X(BIND, CONTROL, 1)      /* struct keeper_bind; fd: pidfd of the holder */                 \
	X(UNBIND, CONTROL, 0)    /* no payload: end the binding and its connections */             \
	X(ADOPT, CONTROL, 1)     /* struct keeper_bind; fd: a connected vhost-user socket */       \
	X(GET_SCREEN, CONTROL, 0)/* struct keeper_screen.head */                                   \
	X(GET_STATS, CONTROL, 0) /* no payload */                                                  \
	X(STOP, CONTROL, 0)      /* no payload: end the device process and the keeper */           \
	/* keeper → vgpud */                                                                       \
	X(STATUS, KEEPER, 0)     /* struct keeper_status: after HELLO and after every change */    \
	X(RESULT, KEEPER, 0)     /* struct keeper_result: answer to BIND, UNBIND, ADOPT, refusals */\
	X(SCREEN, KEEPER, 1)     /* struct keeper_screen; fd: screen memfd, see protocol/screen.h */\
	X(STATS, KEEPER, 1)      /* no payload; fd: stats memfd, see protocol/stats.h */           \
	X(EVENT, KEEPER, 0)      /* struct keeper_text: a notice, refusal or failure as it happens */
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

enum keeper_custody_kind {
	KEEPER_CUSTODY_MEMORY, /* index: region slot; a: gpa, b: size, c: offset in the file */
	KEEPER_CUSTODY_KICK,   /* index: ring */
	KEEPER_CUSTODY_CALL,
	KEEPER_CUSTODY_ERR,
	KEEPER_CUSTODY_INFLIGHT, /* a: size, b: offset */
	KEEPER_CUSTODY_GPU_SOCKET,
	KEEPER_CUSTODY_SCREEN, /* index: head; a: width, b: height */
	KEEPER_CUSTODY_KIND_COUNT
};

struct keeper_custody {
	uint32_t kind;
	uint32_t index;
	uint64_t a, b, c;
};

struct keeper_ready {
	uint32_t version;
	uint32_t pad;
	char renderer[KEEPER_TEXT_MAX];
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

enum keeper_binding_kind { KEEPER_BINDING_NONE, KEEPER_BINDING_VM, KEEPER_BINDING_PROCESS };

struct keeper_bind {
	uint32_t kind;
	uint32_t pid, uid;
	uint32_t pad;
	char label[KEEPER_TEXT_MAX]; /* what `bound_to` shows */
};

enum keeper_state {
	KEEPER_STATE_STARTING, /* the device process is initialising */
	KEEPER_STATE_READY,    /* it serves; no binding */
	KEEPER_STATE_BOUND,    /* a VM or client holds it */
	KEEPER_STATE_FAILED,   /* the device process died; `failure` says why */
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
	uint32_t starts; /* device processes started so far */
	char uuid[40];
	char name[KEEPER_NAME_MAX];
	char renderer[KEEPER_TEXT_MAX];
	char bound_to[KEEPER_TEXT_MAX];
	char failure[KEEPER_TEXT_MAX];
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
