/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_GPUS_H
#define VGPU_CONTROL_GPUS_H

/*
 * The GPUs of this node as vgpud has them, and their types: read when it starts and anew when the
 * kernel says that something changed, or now and then where the kernel cannot say.
 *
 * A GPU that went keeps its place in the array, marked `gone`, so that nothing which points at a
 * GPU has to move; nothing finds it by name until it is back. Its vGPUs are shown as failed, with
 * the reason. Nothing of theirs is ended: what serves a GPU that is gone ends by itself or goes on.
 */

#include "control/vgpud.h"
#include "host/aer.h"
#include "host/facts.h"

#include <jansson.h>

#define GPUS_SETTLE_MS   250u  /* of silence, after the kernel's last word */
#define GPUS_PATIENCE_MS 2000u /* after its first: by then they are read in any case */
#define GPUS_RESCAN_S    10u   /* without uevents, if the configuration does not say */
#define GPUS_SHOW_MS     5000u /* for all that a driver says of one GPU */

/* Where the inventory is read: "" for the node's own sysfs, procfs, /dev and modules. */
int gpus_set_root(struct vgpud *d, const char *root, struct error *err);
/* At start: the GPUs and all types. Says nothing. */
void gpus_read(struct vgpud *d);
/* The same again: what came, went or changed becomes an event. */
void gpus_rescan(struct vgpud *d);
/* What slices a GPU offers was told anew. */
void gpus_types_changed(struct vgpud *d);
/* Which vGPUs have a GPU that can carry them; what changed becomes an event. */
void gpus_check_vgpus(struct vgpud *d);
/* Follows changes from now on. */
void gpus_watch(struct vgpud *d);
void gpus_close(struct vgpud *d);
/* Are changes followed? And how, or why not. */
bool gpus_hotplug(const struct vgpud *d, char *ret, size_t size);

/* gpus_errors.c: errors of PCI Express become events. What GPUs have counted up to now. */
void gpus_errors_begin(struct vgpud *d);
void gpus_errors_close(struct vgpud *d);
/* A function has one; `data` is the vgpud. */
void gpus_error(void *data, const char *address, enum aer_stage stage);

/* A vGPU left it: what was kept for more of them ends with the last. */
void gpu_left(struct vgpud *d, const char *gpu);

/* Can its GPU carry it now? Sets its `gpu_fault`. */
bool vgpu_gpu_usable(struct vgpu *v);

/*
 * gpus_show.c: all that sysfs and procfs tell of it, in a process that may wait. `use`: what is on
 * it; NULL: nothing, as far as whoever asks is concerned.
 */
void gpus_facts(const struct vgpud *d, const struct gpu *gpu, const struct gpu_use *use,
	struct host_facts *ret);
/* An object of REPORT_GPU_FIELDS (host/report.h); NULL: it could not be had in time.
 */
typedef void (*gpus_shown)(void *data, json_t *report);
/* -EAGAIN or -errno, and why. `done` is called once, later. */
int gpus_show(
	struct vgpud *d, const struct gpu *gpu, gpus_shown done, void *data, struct error *err);

#endif
