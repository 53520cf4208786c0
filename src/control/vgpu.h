/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_VGPU_H
#define VGPU_CONTROL_VGPU_H

/* What the parts of control that make and place vGPUs share. */

#include "control/vgpud.h"

/* Adds it to the node's list; NULL: out of memory. */
struct vgpu *vgpu_new(struct vgpud *d, const struct definition *def);
/* Finds its keeper or starts one; may free it when it was to be deleted. */
void vgpu_start(struct vgpu *v);
/* Writes the row and starts the keeper of a vGPU that was checked. `done` as in vgpu_create(). */
int vgpu_begin(struct vgpud *d, const struct definition *def, vgpu_done done, void *data,
	const char *what, struct error *err);

#endif
