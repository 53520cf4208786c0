/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_MEMORY_H
#define VGPU_CONTROL_MEMORY_H

/*
 * Rule 4: the node's memory over-commit is a switch, and while it is on a vGPU serves a VM only
 * when all of that VM's memory is resident and locked. vgpud decides what fits (ledger.h), keepers
 * lock and watch (protocol/keeper_memory.h), the kernel merges (host/ksm.h).
 *
 *   OFF ──on──▶ LOCKING ─all served VMs are locked▶ STARTING ─KSM runs▶ ON ──off──▶ STOPPING ─▶ OFF
 *    ▲             │ one cannot be: named                │ refused           │ refused: still ON
 *    └─────────────┴─────────────────────────────────────┘
 *
 * Each step is noted in the store before it is taken; a vgpud that finds one unfinished takes it
 * again. What KSM was before, and whether vgpud switched it, is noted too: what others switched on
 * stays on. A change by hand is told and shown, and left as it is.
 */

#include "control/ledger.h"
#include "control/vgpud.h"

#include <jansson.h>

enum memory_switch {
	MEMORY_OFF,
	MEMORY_LOCKING,
	MEMORY_STARTING,
	MEMORY_ON,
	MEMORY_STOPPING,
	MEMORY_SWITCH_COUNT
};

struct node_memory;

/* Reads the store and goes on with what it finds there. */
int memory_open(struct vgpud *d, struct error *err);
void memory_close(struct vgpud *d); /* NULL-safe: also when it was not opened */

/* After each STATUS of that vGPU's keeper, and when its keeper is gone. */
void memory_vgpu_status(struct vgpu *v);
void memory_vgpu_lost(struct vgpu *v);

/* Turns the switch; `done` is called once, perhaps before this returns. -EBUSY: it is turning. */
int memory_overcommit(struct vgpud *d, bool on, vgpu_done done, void *data, struct error *err);
/* Is it on, or on its way there or back? Then what is reserved must fit. */
bool memory_is_overcommitted(const struct vgpud *d);

/* --- VMs that the libvirt hook tells of --- */

/* What libvirt's qemu hook was told, with the domain's definition. */
struct memory_vm_event {
	const char *domain, *operation;
	const char *xml;
	size_t xml_size;
};
/* 0: it may go on. -EINVAL: the definition is none; -ENOMEM, -EPERM: it may not start, and why. */
int memory_vm_event(struct vgpud *d, const struct memory_vm_event *event, struct error *err);

/* --- showing --- */

/* X(name, type, meaning) */
#define MEMORY_NODE_FIELDS(X)                                                                      \
	X(memory_mib, "number", "all that the node has")                                           \
	X(available_mib, "number", "without swapping, and within vgpud's control group")           \
	X(keep_free_mib, "number", "shall stay available: min_free_mib")                           \
	X(reserved_mib, "number", "of VMs whose memory is locked or pinned, or about to be")       \
	X(promised_mib, "number", "of that not resident yet")                                      \
	X(known_vms_mib, "number", "of all VMs that vgpud knows")                                  \
	X(overcommitted_mib, "number", "so much more than memory_mib that is")                     \
	X(merged_mib, "number", "saved by KSM now")                                                \
	X(overcommit, "string", "off, locking, starting, on or stopping")                          \
	X(vgpu_vms, "array of VM", "those that hold a vGPU")                                       \
	X(vms, "array of VM", "others that the libvirt hook told of")                              \
	X(ksm, "KSM", "")                                                                          \
	X(rules, "array of {rule, text}", "what the switch does, and what it does not")

#define MEMORY_VM_FIELDS(X)                                                                        \
	X(vm, "string", "libvirt's name, or the process")                                          \
	X(vgpu, "string or null", "that it holds")                                                 \
	X(kind, "string", "vgpu, passthrough, mediated or vm")                                     \
	X(memory_mib, "number", "")                                                                \
	X(locked_mib, "number", "locked and verified, or pinned by VFIO; of a VM with a vGPU")     \
	X(state, "string", "free, asking, locking, locked, refused; pinned; or prepared, running") \
	X(verified_ms, "number or null", "since 1970, UTC: the last full verification")            \
	X(holes, "number", "times that memory had been taken away and was put back")               \
	X(repaired_mib, "number", "how much in all")

#define MEMORY_KSM_FIELDS(X)                                                                       \
	X(present, "boolean", "in this kernel")                                                    \
	X(running, "boolean", "")                                                                  \
	X(switched_by_vgpud, "boolean", "")                                                        \
	X(run_before, "number or null", "as vgpud found it when it was turned on")                 \
	X(changed_by_hand, "boolean", "the switch is on, and KSM does not run; or the other way")  \
	X(run, "number or null", "the kernel's files of that name; null: it has none")             \
	X(pages_shared, "number or null", "")                                                      \
	X(pages_sharing, "number or null", "")                                                     \
	X(pages_unshared, "number or null", "")                                                    \
	X(pages_to_scan, "number or null", "")                                                     \
	X(sleep_millisecs, "number or null", "")                                                   \
	X(merge_across_nodes, "number or null", "")

/* Beside RENDER_VGPU_FIELDS. */
#define MEMORY_VGPU_FIELDS(X)                                                                      \
	X(vm_memory_mib, "number", "of the VM that holds it; 0: none")                             \
	X(vm_memory_locked_mib, "number", "resident and locked, verified")                         \
	X(vm_memory_state, "string", "none, free, asking, locking, locked or refused")             \
	X(memory_holes, "number", "times that some of it had been taken away and was put back")    \
	X(vm_refusal, "string or null", "why the last VM's memory was refused")

json_t *memory_show(const struct vgpud *d);
void memory_show_vgpu(const struct vgpu *v, json_t *json);

#endif
