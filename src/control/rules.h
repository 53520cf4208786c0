/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_RULES_H
#define VGPU_CONTROL_RULES_H

/*
 * The node's rules 1, 2, 3 and 5, over all four methods, as one table: in each state of a GPU, what
 * may happen to it, and where that leads. Pure; docs/decisions/0018-rules.md is its theory.
 *
 *   1  a VM has at most one vGPU; a vGPU has at most one VM
 *   2  all vGPUs of one GPU are of one type and one method, unless it is configured mixed
 *   3  a GPU in passthrough carries no vGPUs; a GPU with vGPUs cannot go to passthrough
 *   5  nobody sees what another tenant left in a GPU's memory
 *
 * A state is made of three things. What the GPU's vGPUs make of it is never stored: free, shared,
 * mixed, mediated or passthrough follows from the list of vGPUs; a GPU that carries none and was
 * not zeroed after its last is unscrubbed. Over that lies the *phase* (taking, scrubbing, giving
 * back, faulted; GPU_FREE: none), which whoever takes GPUs keeps. A GPU that is not on the node is
 * gone, whatever else it is.
 *
 * control/gpu_rules.h asks about the GPUs of a vgpud and takes them from state to state.
 *
 * Who takes GPUs (passthrough) tells, in this order:
 *   TAKE          before the first write        TAKEN: vfio-pci has it, and a VM may at any time
 *                                               NOT_TAKEN: its own driver has it again
 *   BIND, LEAVE   a VM opens it, closes it      STUCK (after TAKE, SCRUB, GIVE_BACK): neither
 *   SCRUB         before its memory is written  SCRUBBED; or SCRUB_PARTIAL, SCRUB_FAILED
 *   GIVE_BACK     before the first write        GIVEN_BACK
 *   OVERRIDE      an administrator takes the risk of what could not be zeroed
 * REMOVE is asked when its vGPU is to be deleted: then SCRUB, GIVE_BACK, and its row goes last. Not
 * zeroed, the GPU does not go back: the row goes after SCRUB_PARTIAL. From TAKEN, or BIND, on its
 * memory is its vGPU's owner's (`left_by`, on the disk) until SCRUBBED or OVERRIDE; where these
 * lead to GPU_GIVING_BACK, because no vGPU is left, the GPU is to be given back without being asked
 * for. After a restart: TAKE and TAKEN again for a passthrough vGPU whose GPU vfio-pci has.
 * VANISHED and RETURNED come from the inventory.
 */

#include "base/error.h"
#include "control/types.h"

enum rules_event {
	/* A vGPU is made: rules_event_of_method() */
	RULES_ADD_SHARE, /* emulate, forward */
	RULES_ADD_MEDIATE,
	RULES_ADD_PASSTHROUGH,
	RULES_MOVE_IN, /* from another GPU */
	RULES_REMOVE,
	RULES_MODE, /* kept for a method, or for any */
	RULES_BIND, /* a VM takes a vGPU of it */
	RULES_LEAVE,
	RULES_TAKE,
	RULES_TAKEN,
	RULES_NOT_TAKEN,
	RULES_STUCK,
	RULES_SCRUB,
	RULES_SCRUBBED,
	RULES_SCRUB_PARTIAL,
	RULES_SCRUB_FAILED,
	RULES_GIVE_BACK,
	RULES_GIVEN_BACK,
	RULES_OVERRIDE,
	RULES_VANISHED,
	RULES_RETURNED,
	RULES_EVENT_COUNT
};

/* For people. */
extern const char *const rules_event_names[RULES_EVENT_COUNT];
enum rules_event rules_event_of_method(enum method method);

/* One vGPU on the GPU asked about. */
struct rules_vgpu {
	const char *name;
	enum method method;
	const char *type;
	const char *vm; /* what holds it, for people; NULL: nothing */
};

/* One GPU. */
struct rules_gpu {
	const char *name;
	enum gpu_state phase;
	bool gone, mixed;
	bool kept; /* for method `mode` alone */
	enum method mode;
	const char *left_by; /* whose data may be in its memory; "": it was zeroed */
	const char *trouble; /* GPU_FAULTED: why */
	const struct rules_vgpu *vgpus;
	size_t n_vgpus;
};

/* What an event is about; what it does not need may be left out. */
struct rules_subject {
	const char *vgpu;    /* its name */
	enum method method;  /* ADD, MOVE_IN; MODE: the one to keep it for, METHOD_COUNT: any */
	const char *type;    /* ADD, MOVE_IN */
	const char *owner;   /* ADD_PASSTHROUGH: whose data may be in the GPU it gets */
	const char *holds;   /* BIND: the vGPU that this VM has already; NULL: none */
	bool force;          /* REMOVE: what holds it is ended, where that is possible */
	const char *trouble; /* STUCK: why */
};

enum gpu_state rules_state(const struct rules_gpu *gpu);

/*
 * May that happen? 0 and the phase it leads to, or -errno and one line: the rule, what holds it,
 * how to free it. `what` begins the line.
 */
int rules_check(const struct rules_gpu *gpu, enum rules_event event,
	const struct rules_subject *subject, const char *what, enum gpu_state *ret_phase,
	struct error *err);

/* Rule 1 for a VM that would get `vgpu` and holds `holds` (NULL: nothing) already. 0 or -EBUSY. */
int rules_vm_admit(const char *vgpu, const char *holds, const char *what, struct error *err);

/* How many are of another type than this (rule 2 leaves no room beside those). */
size_t rules_other_types(const struct rules_gpu *gpu, const char *type);

#endif
