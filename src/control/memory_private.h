/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_MEMORY_PRIVATE_H
#define VGPU_CONTROL_MEMORY_PRIVATE_H

#include "control/memory.h"
#include "host/ksm.h"

#include <stdbool.h>
#include <systemd/sd-event.h>

#define MEMORY_BOOT_MAX 40

enum memory_vm_stage { MEMORY_VM_PREPARED, MEMORY_VM_RUNNING };

/* A VM that the libvirt hook told of. */
struct memory_vm {
	struct memory_vm *next;
	char name[LEDGER_NAME_MAX];
	enum ledger_kind kind;
	enum memory_vm_stage stage;
	uint64_t bytes;
};

struct node_memory {
	struct vgpud *d;
	enum memory_switch state;
	/* Of KSM, noted with the switch. */
	char boot[MEMORY_BOOT_MAX]; /* in which it was turned; "": not known */
	unsigned before;            /* `run` then */
	bool switched;              /* by vgpud */
	bool by_hand;               /* and by somebody else since, which was told */
	vgpu_done done;             /* of who asked; NULL: nobody waits */
	void *done_data;
	sd_event_source *timer; /* patience while LOCKING; looks at KSM while ON */
	struct memory_vm *vms;  /* sorted by name */
};

/* memory.c */
extern const char *const memory_switch_names[MEMORY_SWITCH_COUNT];

/* memory_admit.c */
/* What is where now; the caller finishes the ledger. 0 or -errno: it is not all. */
int memory_ledger(const struct vgpud *d, struct ledger *ret);
/* The libvirt domain's name, else the holder's label. */
const char *memory_vm_name(const struct vgpu *v);
bool memory_has_vm(const struct vgpu *v); /* that gave its keeper memory */
enum ledger_kind memory_kind(const struct vgpu *v);
/* Tells its keeper the mode, and whether what it asks for fits. */
void memory_tell(struct vgpu *v);

/* memory_vms.c */
void memory_vms_read(struct node_memory *m);
void memory_vms_finish(struct node_memory *m);
struct memory_vm *memory_vms_find(const struct node_memory *m, const char *name);

#endif
