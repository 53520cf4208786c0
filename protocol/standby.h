/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_PROTOCOL_STANDBY_H
#define VGPU_PROTOCOL_STANDBY_H

/*
 * How a stand-by becomes a vGPU. A stand-by is a keeper with its device process, started before
 * anybody asked for it: the driver is initialised and everything locked down, but it has no name,
 * no folder and no socket, and has seen no tenant.
 *
 *   vgpud ──ASSIGN──▶ keeper ──CONFIGURE──▶ vgpu-device
 *
 * ASSIGN comes at most once, from the vgpud that started it, over the socket pair that it gave it:
 * a stand-by ends when that closes. CONFIGURE comes at most once and before the first connection.
 * Both carry the command line that the device process would have been started with; only
 * what STANDBY_LATE_OPTIONS names may differ from the one that it was started with.
 */

#include <stdint.h>

#define STANDBY_ARGS_MAX 1024 /* bytes; what MOVE and every keeper have room for */

/* Options of vgpu-device that may be told late; each takes a value. */
#define STANDBY_LATE_OPTIONS(X)                                                                    \
	X("name")                                                                                  \
	X("vram-mib")                                                                              \
	X("heads")                                                                                 \
	X("max-width")                                                                             \
	X("max-height")                                                                            \
	X("max-fps")

struct standby_args {
	uint32_t n;
	uint32_t pad;
	char text[STANDBY_ARGS_MAX]; /* n strings, each with its terminator */
};

struct standby_assign {
	struct standby_args device;
	uint32_t group; /* of the sockets clients use; (gid_t)-1: unchanged */
	uint32_t shaders_by_user;
	uint64_t shaders_mib;
	char run_dir[192]; /* the vGPU's own; every text is terminated */
	char name[64];
	char uuid[40];
	char cpu_group[480]; /* file that takes the pids of device processes; "": none */
	char shaders[192];   /* folder of its tenant's compiled shaders; "": none */
};

#endif
