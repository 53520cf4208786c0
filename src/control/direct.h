/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_DIRECT_H
#define VGPU_CONTROL_DIRECT_H

/*
 * vGPUs whose VM owns hardware: a whole GPU (passthrough) or a slice of one (mediate). They have no
 * keeper and no device process; QEMU opens their VFIO file itself. vgpud changes the node so that
 * it can (host/change.h), sees who has the file open, empties the GPU's memory behind a VM, and
 * sets the node back. docs/decisions/0019-direct.md is the theory; direct.c has the table of
 * states.
 *
 * Whatever waits in a driver is done in a process of its own, one at a time for each GPU. What was
 * planned is on the disk before the first change, so the next vgpud finishes or undoes what one
 * that ended left behind.
 */

#include "control/store_plan.h"
#include "control/vgpud.h"
#include "host/plan.h"

#include <jansson.h>

/* Of a VFIO file: its owner's alone. The group has the users that run other tenants' VMs. */
#define DIRECT_OWNER_MODE 0600u

/* What the last emptying of its GPU's memory came to. */
struct direct_scrub_report {
	bool done;                 /* there was one */
	char verdict[16];          /* "clean", "partial", "failed" */
	char text[320];            /* why it is not clean; "": it is */
	uint64_t bytes;            /* that were seen to be zero */
	uint64_t took_ms, time_ms; /* since 1970 */
};

/* A new vGPU's part; NULL: out of memory. */
struct direct *direct_new(void);

/* Is it one of these? */
bool method_is_direct(enum method method);

/* The kinds of create, delete, state and so on for them; contracts as in control/vgpud.h. */
int direct_create(struct vgpud *d, const struct definition *def, const struct plan_owner *owner,
	vgpu_done done, void *data, const char *what, struct error *err);
int direct_delete(struct vgpu *v, bool force, vgpu_done done, void *data, const char *what,
	struct error *err);
const char *direct_state(const struct vgpu *v);

/*
 * One that the store has: its plan. Of all, before any is started: what one of them undoes, another
 * may stand on.
 */
void direct_load(struct vgpu *v);
/* One that the store has: looked at, finished or undone. Again when its GPU is back. */
void direct_start(struct vgpu *v);
void direct_free(struct vgpu *v);

/* `verb` is not for such a vGPU. -ENOTSUP, why, and what to do instead. */
int direct_refuse(const struct vgpu *v, const char *verb, struct error *err);

/* What is under way, and how far it is; NULL: nothing. */
const char *direct_operation(const struct vgpu *v, struct keeper_progress *ret);

/* A VM came or went: who has hardware open is looked at now. */
void direct_look(struct vgpud *d);

/* Adds what the API says of it beside other vGPUs' fields. */
void direct_render(const struct vgpu *v, json_t *json);
/* NULL, and why: it cannot be given to a VM now. */
json_t *direct_qemu_args(const struct vgpu *v, struct error *err);

/*
 * That GPU may be given to anybody, although what was left in its memory was not emptied. 0 or
 * -errno and why not.
 */
int direct_release(struct vgpud *d, const char *gpu, const char *what, struct error *err);

/* Empties its memory once more; `done` as in vgpu_create(). Refused while a VM has it. */
int direct_scrub_gpu(
	struct vgpud *d, const char *gpu, vgpu_done done, void *data, struct error *err);

#endif
