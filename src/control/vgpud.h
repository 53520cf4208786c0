/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_VGPUD_H
#define VGPU_CONTROL_VGPUD_H

/*
 * The control plane of one node: what GPUs there are, what vGPUs are defined, and the rules.
 *
 * One thread, one sd-event loop. Nothing here waits: an operation that needs a keeper and was
 * accepted ends in exactly one call of its `done` function, perhaps before it returns. Definitions
 * are in the store; everything about running processes is learnt from their keepers, so vgpud can
 * be killed at any moment and the next one finds what runs.
 */

#include "base/error.h"
#include "base/log.h"
#include "control/child.h"
#include "control/config.h"
#include "control/events.h"
#include "control/link.h"
#include "control/share.h"
#include "control/slicing.h"
#include "control/store.h"
#include "control/types.h"
#include "host/sysfs.h"
#include "host/vfio.h"
#include "metrics/account.h"
#include "protocol/stats.h"

#include <limits.h>
#include <stdbool.h>
#include <systemd/sd-event.h>

#define VGPUD_MAX_GPUS    80
#define VGPUD_PATH_MAX    192
#define VGPUD_RUN_DIR_MAX 80
#define VGPUD_FORMATS_MAX 120    /* with a GPU's name within VGPUD_PATH_MAX */
#define VGPU_CREATE_MS    20000u /* longer than a keeper gives its device process */
#define VGPU_STOP_MS      6000u
#define VGPU_RETRY_MS     200u   /* between two attempts to reach a keeper that runs */
#define VGPU_ENDING_MS    20u    /* by then a keeper that is ending is gone, mostly */
#define VGPU_BACK_OFF_MS  60000u /* at most, between attempts at one that does not speak to us */
#define VGPU_SILENT_MAX   10u    /* attempts before it is said to be unreachable */
#define VGPU_WAITERS      16
#define VGPU_NEEDS_MIB    48u /* of memory, before it has drawn anything */

/* `err` NULL: it worked. */
typedef void (*vgpu_done)(void *data, const struct error *err);
/* `fd` is the callee's to take by setting it to -1. */
typedef void (*vgpu_fd_done)(void *data, const struct error *err, int *fd);

/* What an operation that takes its time came to: see protocol/keeper.h, DONE and CHECKED. */
#define VGPU_REASONS 64u
struct vgpu_outcome {
	struct keeper_done done;
	struct keeper_checked reasons[VGPU_REASONS];
	unsigned n_reasons;
};
/* `err` NULL: it worked, and `outcome` is there during the call. */
typedef void (*vgpu_outcome_done)(
	void *data, const struct error *err, const struct vgpu_outcome *outcome);

struct direct;
struct node_memory;
struct operation;
struct slice_types_cache;
struct standbys;

struct vgpu_waiter {
	vgpu_done done;
	void *data;
};

/*
 * One vGPU. What it is comes from `def`; what it does from `status`, which is valid while `link`
 * is there and the keeper has spoken. `failure` is said when there is no keeper to say it.
 */
struct vgpu {
	struct vgpud *d;
	struct vgpu *next;
	struct definition def;
	char dir[VGPUD_PATH_MAX];
	struct link *link; /* NULL: no keeper, or not reached yet */
	bool have_status;
	struct keeper_status status;
	char failure[KEEPER_TEXT_MAX];
	char gpu_fault[160]; /* why its GPU cannot carry it now; "" : it can */
	int stats_fd;        /* -1: not asked yet, or no device process */
	uint32_t stats_pid;  /* device process that stats_fd was asked for */
	struct metrics_account account;
	uint32_t account_keeper;   /* pid of the keeper whose device processes are in it */
	sd_event_source *timer;    /* retry, or the end of patience with one that shall stop */
	sd_event_source *patience; /* with a creation, whatever keeper it waits for */
	bool stopping;             /* STOP was sent or is due */
	bool lost;                 /* its link broke; whether its keeper ended is not known yet */
	bool spoke;                /* the keeper, on this link */
	bool was_standby;          /* its keeper; until that has spoken for this vGPU */
	bool foreign;              /* its folder is another definition's keeper's */
	struct {
		uint32_t pid;                /* 0: none */
		char label[KEEPER_TEXT_MAX]; /* for people */
		uint64_t pinned;             /* bytes of its memory, when it was looked at last */
	} vm; /* what has the device itself open: of methods mediate and passthrough */
	struct vgpu_share share;
	struct vgpu_slices slices;
	unsigned silent;  /* attempts in a row at which its keeper said nothing */
	pid_t keeper_pid; /* 0: not known; its own while its lock is held */
	struct vgpu_waiter ready[VGPU_WAITERS]; /* for READY, or failure */
	unsigned n_ready;
	struct vgpu_waiter gone;          /* the one delete under way */
	struct operation *operation;      /* the one under way; NULL: none */
	struct direct *direct;            /* NULL: it has a keeper (direct.h) */
	uint32_t memory_answered;         /* serial of its keeper's last ASKING; 0: none yet */
	uint64_t hibernate_not_before_ms; /* the policy's last attempt failed */
};

struct vgpud {
	sd_event *event;
	struct config config;
	char run_dir[VGPUD_RUN_DIR_MAX];
	char keeper_path[CONFIG_PATH_MAX], device_path[CONFIG_PATH_MAX];
	gid_t group; /* (gid_t)-1: none */
	struct gpu gpus[VGPUD_MAX_GPUS];
	size_t n_gpus;
	struct type types[TYPES_MAX];
	size_t n_types;
	struct host_roots roots;    /* where the inventory is read */
	struct vfio_kernel kernel;  /* where requests to the kernel go */
	char *root_paths;           /* what they point into; NULL: the usual places */
	struct gpus_watch *watch;   /* NULL: not watched yet */
	struct gpus_errors *errors; /* NULL: none looked at yet */
	struct children children;
	struct children
		lookups; /* of users' names, beside those: few, as anybody can ask for them */
	struct store *store;
	struct standbys *standbys;        /* NULL: none is kept */
	struct node_memory *memory;       /* NULL: not open */
	struct slice_types_cache *slices; /* slice_types.h */
	struct share share;
	struct balance *balances[VGPUD_MAX_GPUS];     /* NULL: none */
	struct slice_thread *slicers[VGPUD_MAX_GPUS]; /* NULL: none */
	sd_event_source *balance_timer;               /* NULL: no GPU is in equal-share */
	char state_dir[PATH_MAX];
	char shaders_dir[VGPUD_FORMATS_MAX]; /* protocol/shaders.h; "": they are not kept */
	char formats_dir[VGPUD_FORMATS_MAX]; /* protocol/formats.h; "": they are not kept */
	sd_event_source *idle_timer;         /* the policy of hibernation; NULL: nobody has one */
	struct vgpu *vgpus;                  /* sorted by name */
	struct events events;
};

/* --- finding --- */
const struct gpu *vgpud_find_gpu(const struct vgpud *d, const char *name);
const struct type *vgpud_find_type(const struct vgpud *d, const char *name);
struct vgpu *vgpud_find_vgpu(const struct vgpud *d, const char *name);
/* As what it uses that GPU: it is there, or about to be; NULL: it does not. */
const struct type *vgpu_type_on(const struct vgpu *v, const char *gpu);
/* What is on that GPU; `of_type` counts the vGPUs of that type (may be NULL). */
struct gpu_use vgpud_gpu_use(const struct vgpud *d, const char *gpu, const char *type);

/*
 * "creating", "starting", "ready", "bound", "hibernated", "moving", "recovering", "failed",
 * "scrubbing", "stopping" or "deleting"
 */
const char *vgpu_state(const struct vgpu *v);
/* Why it is failed; "" when it never was. */
const char *vgpu_failure(const struct vgpu *v);
bool vgpu_bound(const struct vgpu *v);
/* What holds it, for people; "": nothing. */
const char *vgpu_holder(const struct vgpu *v);

/*
 * Is there memory for one more device process, beside what shall stay free? `ret_mib`: how much
 * there is.
 */
bool vgpud_has_memory(const struct vgpud *d, uint64_t *ret_mib);

/* --- doing --- */

/* Reads the store and finds or starts the keeper of every vGPU. */
int vgpud_reconcile(struct vgpud *d, struct error *err);

struct vgpu_request {
	const char *name, *gpu;
	const char *type;   /* NULL: what the GPU carries, else its default */
	const char *method; /* NULL: the GPU's default */
	const char *tenant; /* NULL: none */
	bool owned;         /* mediate, passthrough: it is for a VM of `owner`, not of who asks */
	uid_t owner_uid, asker_uid;
	gid_t owner_gid, asker_gid;
};
/* Checks now; what passes is created and `done` called when it is ready or has failed. */
int vgpu_create(struct vgpud *d, const struct vgpu_request *request, vgpu_done done, void *data,
	struct error *err);

/* Refused while something holds it, unless `force`. */
int vgpu_delete(struct vgpu *v, bool force, vgpu_done done, void *data, struct error *err);

/* Ends what holds it and forgets it on shutdown of vgpud; the keeper stays. */
void vgpud_free_vgpus(struct vgpud *d);

/* Calls `done` when its keeper and device process can serve, starting them when needed. */
int vgpu_ensure(struct vgpu *v, const char *what, vgpu_done done, void *data, struct error *err);

/* Binds a process to it; `pidfd` stays the caller's. */
int vgpu_bind(struct vgpu *v, const struct keeper_bind *bind, int pidfd, vgpu_fd_done done,
	void *data, struct error *err);
/* Ends what holds it, connections and all. */
int vgpu_unbind(struct vgpu *v, vgpu_fd_done done, void *data, struct error *err);
/* Gives it a connected vhost-user socket; `fd` stays the caller's. */
int vgpu_adopt(struct vgpu *v, const struct keeper_bind *bind, int fd, vgpu_fd_done done,
	void *data, struct error *err);
int vgpu_screen(struct vgpu *v, uint32_t head, vgpu_fd_done done, void *data, struct error *err);

/* --- operations on its state (operation.c): one at a time, another is refused with -EBUSY --- */

/* To that GPU, which may be its own: the device process is replaced. */
int vgpu_move(struct vgpu *v, const char *gpu, bool exact, bool precopy, vgpu_outcome_done done,
	void *data, struct error *err);
/* `fd`, an empty file, stays the caller's. */
int vgpu_snapshot(
	struct vgpu *v, int fd, bool exact, vgpu_outcome_done done, void *data, struct error *err);
int vgpu_restore(struct vgpu *v, int fd, vgpu_outcome_done done, void *data, struct error *err);
/* `exact`: refused rather than losing anything. */
int vgpu_hibernate(
	struct vgpu *v, bool exact, vgpu_outcome_done done, void *data, struct error *err);
int vgpu_wake(struct vgpu *v, vgpu_outcome_done done, void *data, struct error *err);
/* The outcome's reasons; none: everything would be exact. */
int vgpu_check(struct vgpu *v, vgpu_outcome_done done, void *data, struct error *err);
/* What is under way, and how far it is; NULL: nothing. */
const char *vgpu_operation(const struct vgpu *v, struct keeper_progress *ret);
/* An unnamed file for a state, in the state directory; -errno. */
int vgpud_state_file(const struct vgpud *d);
/* Idle vGPUs are hibernated from now on, as the configuration says. */
int vgpud_watch_idle(struct vgpud *d);

/* Copies its counters; false when there are none. What they say is the device process' claim. */
bool vgpu_stats(const struct vgpu *v, struct vgpu_stats *ret);
/* usage.c: what it has used up to now. Valid until asked again. */
const struct metrics_values *vgpu_usage(struct vgpu *v);

#endif
