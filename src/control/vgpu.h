/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_VGPU_H
#define VGPU_CONTROL_VGPU_H

/* What the parts of control that make and place vGPUs share. */

#include "control/vgpud.h"

#define VGPU_DEVICE_TEXTS 7
#define VGPU_DEVICE_ARGS  26

/* Adds it to the node's list; NULL: out of memory. */
struct vgpu *vgpu_new(struct vgpud *d, const struct definition *def);
/* Out of the list; says and ends nothing. */
void vgpu_free(struct vgpu *v);
/* Finds its keeper or starts one; may free it when it was to be deleted. */
void vgpu_start(struct vgpu *v);
/* Writes the row and starts the keeper of a vGPU that was checked. `done` as in vgpu_create(). */
int vgpu_begin(struct vgpud *d, const struct definition *def, vgpu_done done, void *data,
	const char *what, struct error *err);

/* The options of vgpu-device. */
struct vgpu_device_args {
	char text[VGPU_DEVICE_TEXTS][TYPES_NAME_MAX];
	char node[VGPUD_PATH_MAX];
	char formats[VGPUD_PATH_MAX];
	char *args[VGPU_DEVICE_ARGS]; /* ends with NULL; they are in here, or the vGPU's and GPU's
				       */
};

/* Those for this vGPU on that GPU. */
void vgpu_device_args(const struct vgpu *v, const struct gpu *gpu, struct vgpu_device_args *ret);

/*
 * Writes them one after another, each with its terminator; *ret_n: how many. -E2BIG: they do not
 * fit (operation.c).
 */
int vgpu_pack_args(char *const *args, char *text, size_t size, uint32_t *ret_n);

/* operation.c: its keeper has spoken. Ends a move that an earlier vgpud began; the idle policy. */
void vgpu_operation_status(struct vgpu *v);
/* Its keeper has ended, and whatever moved with it. */
void vgpu_operation_keeper_ended(struct vgpu *v);

#endif
