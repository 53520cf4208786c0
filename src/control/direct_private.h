/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_DIRECT_PRIVATE_H
#define VGPU_CONTROL_DIRECT_PRIVATE_H

/* What the files about vGPUs whose VM owns hardware share. */

#include "control/direct.h"
#include "control/rules.h"
#include "host/holder.h"

#include <stdatomic.h>

#define DIRECT_LOOK_SOON_S 2u    /* while a VM is pinning its memory */
#define DIRECT_LOOK_S      60u   /* who has it open is looked at so often, beside each notice */
#define DIRECT_RETRY_MS    5000u /* after an undoing that failed; doubles up to: */
#define DIRECT_RETRY_MAX   60000u
#define DIRECT_PLAN_MS     15000u /* for what the kernel says of a GPU */
#define DIRECT_LOCK_MS     12000u /* for requests of an earlier vgpud */
#define DIRECT_LATER_MS    200u   /* while vgpud has as many processes as it may */
#define DIRECT_LATER_MOST  300u

/* X(NAME, what the API calls it in phase DEFINED; NULL: what it does then, or that it failed) */
#define DIRECT_STATES(X)                                                                           \
	X(PLANNING, "creating")   /* what is to be changed */                                      \
	X(APPLYING, "creating")   /* changes it, all but who may open it */                        \
	X(GIVING, "creating")     /* its owner may open it */                                      \
	X(CHECKING, "starting")   /* after a start of vgpud: is all as it was left? */             \
	X(REPLANNING, "starting") /* after a start of the node: all anew */                        \
	X(REAPPLYING, "starting")                                                                  \
	X(READY, "ready")         /* a VM may open it */                                           \
	X(BOUND, "bound")         /* one has */                                                    \
	X(SCRUBBING, "scrubbing") /* the VM is gone */                                             \
	X(LOOKING, "deleting")    /* after a start of vgpud: by which files it may be opened */    \
	X(RETIRING, "deleting")   /* nobody may open it any more; scrubs */                        \
	X(UNDOING, "deleting")                                                                     \
	X(STUCK, "deleting") /* could not be undone; is tried again */                             \
	X(FAILED, "failed")

/* Before the start of the node in a plan of which not all may be carried out yet. */
#define DIRECT_BOOT_BEGUN '+'

enum direct_state {
#define X(name, text) DIRECT_##name,
	DIRECT_STATES(X)
#undef X
		DIRECT_STATE_COUNT
};

enum direct_event {
	DIRECT_DONE,       /* its job: all as it should be */
	DIRECT_BAD,        /* its job: not, and why */
	DIRECT_OTHER_BOOT, /* the plan is of another start of the node */
	DIRECT_OPENED,     /* somebody has its file open */
	DIRECT_LEFT,       /* and nobody any more */
	DIRECT_DELETE,
	DIRECT_SCRUB, /* somebody asks for it */
	DIRECT_RETRY,
	DIRECT_EVENT_COUNT
};

/* The VFIO files by which a VM can have its hardware open, below /dev. */
#define DIRECT_FILES_MAX 9 /* a group's, and the own one of each function of a card */
struct direct_files {
	char name[DIRECT_FILES_MAX][HOLDER_FILE_MAX];
	size_t count;
};

/* What a job came to. */
struct direct_result {
	int code; /* 0 or -errno */
	uint32_t done, left;
	char text[CHANGE_SENTENCE_MAX]; /* code < 0: why; else what was left as it is, or "" */
	struct direct_files files;      /* that are there now */
	uint64_t window;                /* bytes of its GPU's window, as the bus tells; 0: none */
	char boot[STORED_BOOT_MAX];     /* of the node now */
	struct direct_scrub_report scrub;
	struct change_plan *plan; /* NULL: it is not a planning job; freed after the event */
};

/* Written by the job, read by vgpud; on a page that both have. */
struct direct_progress {
	uint64_t bytes, total_bytes;
	char step[32];
	/* What is opened from now on may be written to behind the zeroes. */
	atomic_bool emptying;
};

struct direct {
	enum direct_state state;
	bool waiting, working; /* for its job's turn on that GPU; at it */
	struct stored_plan stored;
	bool begun;     /* by this vgpud */
	bool in_store;  /* there is a row of it */
	bool malformed; /* and its plan is none that a vgpud wrote */
	struct plan_owner owner;
	char what[96];           /* begins its sentences */
	struct vgpu_waiter done; /* who asked for what is under way */
	int code;                /* why its creation failed; the text is in v->failure */
	/* Who has it open. */
	struct direct_files files;
	sd_event_source *inotify[DIRECT_FILES_MAX]; /* of each, where it could be watched */
	sd_event_source *look, *retry;
	sd_event_source *later; /* its job, for which there was no process */
	unsigned late;          /* how often */
	bool watching, scanning, scan_again;
	bool opened;                        /* since the last scan */
	uint32_t seen_pid;                  /* who has it, in the last scan; 0: nobody */
	char seen[KEEPER_TEXT_MAX];         /* and for people */
	char domain[VGPU_NAME_LONGEST + 1]; /* of the VM that has it; "": not told */
	/*
	 * An administrator takes the risk of what is in its GPU's memory, and nobody was seen to
	 * open its file since. That nobody has since a scrub nothing can tell: an open of another
	 * node of the device, as in a mount namespace, is no notice.
	 */
	bool released;
	bool touched; /* opened while the memory was emptied: what was zeroed may not be now */
	bool held; /* its undoing met, or waits for, somebody who has it open: he may write to it */
	struct direct_scrub_report scrub;
	uint64_t window; /* of its GPU, bytes: so much is emptied, whatever its type says */
	unsigned attempts;
	struct direct_progress *progress;
};

/* --- direct.c --- */
/* Something happened; may free v. */
void direct_event(struct vgpu *v, enum direct_event event, const struct direct_result *result);
/* Tells whoever asked, if anybody did. */
void direct_tell(struct vgpu *v, const struct error *err);

/* --- direct_make.c --- */
/* The same change in the plan of another vGPU; NULL: nobody else stands on it. */
const struct change *direct_shared(const struct vgpu *v, const struct change *change);

/* --- direct_work.c --- */
/* Starts the job of its state, or has it wait for its turn. */
void direct_work(struct vgpu *v);
/* How long the job of its state may take at most. */
uint32_t direct_limit_ms(const struct vgpu *v);

/* --- direct_job.c --- */
/* Does that state have one? */
bool direct_has_job(enum direct_state state);
/* Was its plan made for that start of the node? */
bool direct_is_of_boot(const struct vgpu *v, const char *boot);
/* In the job's process: does it; `data` is the vGPU. */
json_t *direct_job(const void *data);

/* --- direct_wire.c: a result on its way from the job's process to vgpud --- */
json_t *direct_result_to_json(const struct direct_result *result);
/* False: the job came to nothing that it should. `ret->plan` is the caller's to free. */
bool direct_result_from_json(json_t *json, struct direct_result *ret);

/* --- direct_scrub.c: in the job's process --- */
/* Bytes of the window through which its GPU is emptied; 0: it has none, or none is emptied. */
uint64_t direct_window(const struct vgpu *v);
/*
 * Resets its functions and empties their memory. 0: all is clean, or it was not to be done; else
 * -errno and why.
 */
int direct_scrub_work(const struct vgpu *v, struct direct_result *ret);

/* --- direct_rules.c --- */
/* 0 or -errno and why not; `trouble` with RULES_STUCK. */
int direct_tell_rules(
	struct vgpu *v, enum rules_event event, const char *trouble, struct error *err);
/* The same where nothing can be done about a refusal. */
void direct_note(struct vgpu *v, enum rules_event event, const char *trouble);
void direct_note_scrub(struct vgpu *v, const struct direct_scrub_report *scrub);
int direct_ask_remove(const struct vgpu *v, bool force, const char *what, struct error *err);
/* May its GPU go as it is? Else what its owner may have left is emptied first, always. */
bool direct_is_empty(const struct vgpu *v);

/* --- direct_bound.c --- */
/* Those are its files now: what was watched under other names is not any more. */
void direct_take_files(struct vgpu *v, const struct direct_files *files);
void direct_watch(struct vgpu *v);
void direct_unwatch(struct vgpu *v);
/* Who has it open now? */
void direct_scan(struct vgpu *v);

#endif
