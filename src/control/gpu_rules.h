/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_GPU_RULES_H
#define VGPU_CONTROL_GPU_RULES_H

/*
 * The rules (control/rules.h) over the GPUs of this node. Whoever would do something to a GPU asks
 * before; who takes GPUs and gives them back tells, before and after each step.
 */

#include "control/rules.h"
#include "control/vgpud.h"

/* What it is now, as the table calls it. */
enum gpu_state gpu_state(const struct vgpud *d, const struct gpu *gpu);
/* The method of what it carries; NULL: it carries nothing, or vGPUs of several. */
const char *gpu_method(const struct vgpud *d, const struct gpu *gpu);
/* The type of what it carries; NULL: as above. */
const char *gpu_type(const struct vgpud *d, const struct gpu *gpu);

/*
 * May that happen to the GPU of that name, wherever it is? 0 or -errno and one line, which `what`
 * begins.
 */
int gpu_ask(const struct vgpud *d, const char *gpu, enum rules_event event,
	const struct rules_subject *subject, const char *what, struct error *err);

/*
 * The same; and then it has happened. The phase changes, and with it whose data may be in its
 * memory, which is on the disk when this returns (-ENOSPC, -EIO: it is not, and nothing has
 * changed). `subject->vgpu` is the vGPU that it is taken for, `subject->trouble` why it is stuck.
 * The caller does what the new phase asks for.
 */
int gpu_tell(struct vgpud *d, const char *gpu, enum rules_event event,
	const struct rules_subject *subject, const char *what, enum gpu_state *ret_phase,
	struct error *err);

/* Whose data a vGPU of that definition leaves: its tenant's, or its own. */
void gpu_owner(const struct definition *def, char ret[static GPU_OWNER_MAX]);

/*
 * Rule 1 across methods: the vGPU other than `but` that this VM has; NULL: none. A VM is known by
 * its process (0: not known) or its libvirt domain (NULL: not known).
 */
const struct vgpu *vgpud_vm_has(
	const struct vgpud *d, uint32_t pid, const char *domain, const struct vgpu *but);

/*
 * The same for one that a keeper let a VM have, which knows nothing of devices: the vGPU whose
 * device that VM has open itself; NULL: none.
 */
const struct vgpu *vgpu_vm_has_device(const struct vgpu *v);

/* What the store remembers of all GPUs; of one that came. -EINVAL: it has nothing usable of it. */
int gpu_rules_open(struct vgpud *d, struct error *err);
int gpu_rules_read(struct vgpud *d, struct gpu *gpu, struct error *err);

#define GPU_MODE_ANY "any"

/* Keeps a GPU for one method, or for any; also in the store. 0 or -errno. */
int vgpud_set_mode(struct vgpud *d, const char *gpu, const char *mode, struct error *err);
/* As vgpud_set_mode() takes it. */
const char *gpu_mode_name(const struct gpu *gpu);

#endif
