/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_ISOLATION_ISOLATION_H
#define VGPU_ISOLATION_ISOLATION_H

/*
 * Theory of operation
 *
 * vgpu-device parses what hostile guests send and feeds it to a large GL driver: it is assumed to
 * be taken over one day. These four stages, called once each and in this order from the main
 * thread, take away what it does not need before it reads the first guest byte:
 *
 *   isolation_begin        first thing in main(): descriptors, environment, no_new_privs, no core
 *   isolation_namespaces   before any thread: unprivileged user, namespaces, no capabilities, W^X
 *   (the caller opens the render node, initialises the renderer, creates one context)
 *   isolation_filesystem   an empty, read-only root for all threads
 *   isolation_filter       resource limits and the system-call list, on all threads
 *   (from here on guest bytes may be read)
 *
 * isolation_namespaces() forks. The caller continues in the child, the *device*, which is process 1
 * of its own pid namespace. The parent, the *monitor*, keeps the process id that whoever started
 * vgpu-device knows; it exists because only a process outside the device that still has
 * capabilities can exchange the root under threads that have none, and because process 1 cannot
 * report its own death. It ends exactly as the device ends: same exit status, same signal. Each
 * dies with the other, and the monitor dies with its own parent *thread* (PR_SET_PDEATHSIG).
 * Exit status ISOLATION_EXIT_ABORTED is reserved: the device aborted; the monitor dies by SIGABRT.
 *
 * Each protection is one layer of ISOLATION_LAYERS. In strict mode, a stage that cannot have one of
 * its layers fails; in best-effort mode it goes on; in both, isolation_layer() says which are
 * missing and why. Nothing is ever skipped without a trace there.
 *
 * Deliberately not here: cgroup limits (whoever starts the process), choosing descriptors and
 * render nodes, and LD_* variables: the loader has read them before main(), so the parent must
 * execute vgpu-device with an environment of its own making.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* X(name, text): in the order in which they are put up. */
#define ISOLATION_LAYERS(X)                                                                        \
	X(DESCRIPTORS, "inherited descriptors closed")                                             \
	X(ENVIRONMENT, "fixed environment")                                                        \
	X(NO_NEW_PRIVS, "no new privileges")                                                       \
	X(USER, "user namespace")                                                                  \
	X(UNPRIVILEGED, "unprivileged user")                                                       \
	X(MOUNT, "mount namespace")                                                                \
	X(NET, "network namespace")                                                                \
	X(IPC, "IPC namespace")                                                                    \
	X(UTS, "UTS namespace")                                                                    \
	X(CGROUP, "cgroup namespace")                                                              \
	X(PID, "pid namespace")                                                                    \
	X(CAPABILITIES, "no capabilities")                                                         \
	X(NO_DUMP, "no core dump, no tracing")                                                     \
	X(WRITE_XOR_EXECUTE, "no memory both writable and executable")                             \
	X(EMPTY_ROOT, "empty root directory")                                                      \
	X(LIMITS, "resource limits")                                                               \
	X(SYSTEM_CALLS, "system-call filter")

enum isolation_layer {
#define X(name, text) ISOLATION_LAYER_##name,
	ISOLATION_LAYERS(X)
#undef X
		ISOLATION_LAYER_COUNT
};

enum isolation_mode {
	ISOLATION_STRICT,      /* a missing layer is an error */
	ISOLATION_BEST_EFFORT, /* a missing layer is reported */
	ISOLATION_OFF,         /* isolation_begin() only, for debugging */
};

#define ISOLATION_PENDING      1 /* isolation_layer(): its stage has not run */
#define ISOLATION_EXIT_ABORTED 134
#define ISOLATION_NO_GROUP     ((gid_t)-1)
#define ISOLATION_MAX_KEPT_FDS 16

struct isolation_config {
	enum isolation_mode mode;
	/* Descriptors to keep beside 0, 1 and 2, in any order; at most ISOLATION_MAX_KEPT_FDS. */
	const int *keep_fds;
	unsigned n_keep_fds;
	/* "NAME=VALUE" added to the fixed environment; NULL-terminated, or NULL. */
	const char *const *environment;
	/* Drawing is on the CPU: the driver is forced to software and ioctl() is forbidden. */
	bool software;
	/* The driver may start threads after lock-down, as hardware drivers do for each context. */
	bool threads_later;
	/* Who to become when started as root; 0: 65534. */
	uid_t uid;
	gid_t gid;
	gid_t node_group;           /* group of the render node, kept when root; or none */
	uint64_t max_fds;           /* open descriptors; 0: 1024 */
	uint64_t max_address_space; /* bytes; 0: unlimited */
	uint64_t scratch_bytes;     /* size of a private file system in memory; 0: none */
	/*
	 * For porting to another driver: a forbidden call is named on standard error before the
	 * process ends (exit status 159). Weaker than killing it: not for production.
	 */
	bool trace;
};

struct isolation;

/*
 * Copies what it needs of `config`. Must run before anything else opens descriptors, reads the
 * environment or starts a thread. -EINVAL: too many descriptors or a malformed variable.
 */
int isolation_begin(const struct isolation_config *config, struct isolation **ret);

/* Returns in the device only; the monitor never comes back. -EBUSY: there are threads already. */
int isolation_namespaces(struct isolation *iso);

/*
 * After isolation_namespaces(), once: a descriptor of the root of the private file system, the
 * caller's; -errno says why there is none (no layer: nothing is less protected without it).
 */
int isolation_take_scratch(struct isolation *iso);

/* From here on no path resolves. Libraries and drivers must have been loaded. */
int isolation_filesystem(struct isolation *iso);

/* Once this has returned 0 there is no way back. */
int isolation_filter(struct isolation *iso);

/* 0: in force; ISOLATION_PENDING; or -errno: it could not be had. */
int isolation_layer(const struct isolation *iso, enum isolation_layer layer);

const char *isolation_layer_name(enum isolation_layer layer);

/*
 * "user namespace: Operation not permitted; …", or "" when nothing is missing so far. Returns how
 * many layers are missing. Always terminates `buf` (size > 0); cuts off what does not fit.
 */
unsigned isolation_missing(const struct isolation *iso, char *buf, size_t size);

void isolation_destroy(struct isolation *iso); /* NULL-safe; undoes nothing */

#endif
