/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_ISOLATION_INTERNAL_H
#define VGPU_ISOLATION_INTERNAL_H

/* What the stages share. Nothing outside this folder includes it. */

#include "isolation/isolation.h"

struct isolation {
	enum isolation_mode mode;
	bool software, threads_later, trace;
	uid_t uid;
	gid_t gid, node_group;
	uint64_t max_fds, max_address_space;
	bool root;          /* started with effective uid 0 */
	bool in_user_ns;    /* then the user was switched before the fork */
	pid_t parent;       /* when the process began */
	int monitor_socket; /* to the monitor, or -1 */
	uint64_t scratch_bytes;
	int scratch; /* its descriptor, or -errno: why there is none */
	int layer[ISOLATION_LAYER_COUNT];
};

/* Remembers a layer's result (0 or -errno). Returns `result` if it must end the stage, else 0. */
int isolation_note(struct isolation *iso, enum isolation_layer layer, int result);

/* Empties all capability sets of the calling thread. 0 or -errno. */
int isolation_drop_capabilities(void);

/* PR_SET_PDEATHSIG and PR_SET_DUMPABLE do not survive a change of user; this sets both again. */
int isolation_forbid_dump(void);
int isolation_die_with_parent(void);

/* Becomes the unprivileged user, when started as root. 0 or -errno. */
int isolation_switch_user(const struct isolation *iso);

/* Needs capabilities: before the fork. The mount's descriptor, or -errno. */
int isolation_make_scratch(const struct isolation *iso, uint64_t bytes);

/* The monitor's whole life after the fork. `socket` and `device` are its own. */
_Noreturn void isolation_monitor_run(struct isolation *iso, pid_t device, int socket);

/* Called in the device: has the monitor exchange the root. 0 or -errno. */
int isolation_monitor_request_root(struct isolation *iso);

/* Filters; 0 or -errno. The first two act on the calling thread, the last on all threads. */
int isolation_filter_early(void);
int isolation_filter_monitor(void);
int isolation_filter_device(const struct isolation *iso);

#endif
