/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_KEEPER_CONFIG_H
#define VGPU_KEEPER_CONFIG_H

/*
 * What a keeper is told when it starts, and the times and sizes it goes by.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define KEEPER_MAX_CONNECTIONS   256u
#define KEEPER_READY_MS          15000u /* a device process not READY by then is killed */
#define KEEPER_QUIT_MS           2000u  /* from QUIT to SIGKILL */
#define KEEPER_LAST_WORDS_MS     500u   /* from the end of its channel to its own end */
#define KEEPER_DRAIN_MS          2000u  /* a dead client's last bytes may be worked off this long */
#define KEEPER_RESEND_MS         50u    /* a full channel is looked at again, if it tells nothing */
#define KEEPER_CROWDED_MS        5u     /* the kernel had no room for one more descriptor */
#define KEEPER_STUCK_MS          10000u /* a device process that takes no message so long is killed */
#define KEEPER_RESTARTS          3u
#define KEEPER_RESTART_WINDOW_MS 60000u
#define KEEPER_LOG_MAX           (1u << 20) /* bytes; then the log starts over */
#define KEEPER_PROCESSES         8u         /* current, next, and killed ones not yet gone */
#define KEEPER_WATCH_MS          1000u      /* hanging and idling are looked for this often */
#define KEEPER_IDLE_MS           5000u      /* without work for so long it is told to be idle */
#define KEEPER_QUIET_MS          2000u      /* for so long, and it gives back memory */
#define KEEPER_HANG_MS           20000u     /* at one thing for so long it is killed */
#define KEEPER_STEP_MS           30000u     /* for each step of a takeover */
#define KEEPER_FILE_STEPS        4u         /* times that, where a file is read or written */
#define KEEPER_RECOVERIES        10u
#define KEEPER_RECOVERY_MS       60000u /* in that time */
#define KEEPER_DELAY_MS          100u   /* the shortest, where a recovery waits */

struct keeper_config {
	const char *run_dir; /* this vGPU's; NULL: a stand-by's, see standby.c */
	const char *name;
	const char *uuid;
	const char *device; /* the vgpu-device program */
	char **device_args;
	int n_device_args;
	int control_fd;        /* a first control connection, or -1 */
	int lock_fd;           /* held while the keeper lives, or -1 */
	gid_t group;           /* of the sockets clients use; (gid_t)-1: unchanged */
	const char *cpu_group; /* file that takes the pids of device processes; NULL: none */
	uint32_t hang_ms, step_ms, recoveries, delay_ms;
	const char *shaders_dir; /* of its tenant; NULL: compiled shaders end with the binding */
	uint64_t shaders_bytes;  /* of all in there */
	uint32_t shaders_ms;     /* between two looks at what a long binding compiled */
	bool shaders_by_user;    /* each user is a tenant */
};

#endif
