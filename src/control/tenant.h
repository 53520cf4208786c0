/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_TENANT_H
#define VGPU_CONTROL_TENANT_H

/*
 * Who shares compiled shaders: the vGPUs of one tenant, each through its keeper. A vGPU without a
 * tenant shares with none; its keeper then tells its users apart. Each tenant has a folder in
 * STATE_DIR/shaders (protocol/shaders.h), from the start of its first vGPU's keeper until its last
 * vGPU is deleted.
 */

#include "control/vgpud.h"

/* The folder of `def`'s tenant, made if it is not there; "": nothing is shared or kept. */
void tenant_folder(const struct vgpud *d, const struct definition *def, char *ret, size_t size);
/* A vGPU of that definition is no more: its folder goes unless another one is of that tenant. */
void tenant_forget(struct vgpud *d, const struct definition *def);
/*
 * A vGPU of that tenant is about to be made by that user, which from now on may name it, if nobody
 * else does. What an earlier tenant of that name left in its folder is gone then: it is machine
 * code of whoever that was. -EPERM, whose it is, and what to do; -ENOSPC, -EIO: the database;
 * -errno: that folder cannot be removed, and what to do.
 */
int tenant_name(
	struct vgpud *d, const char *tenant, uid_t asker, const char *what, struct error *err);
/* The folder of `def`'s tenant goes, unless a vGPU is of that tenant. 0 or -errno: it is there. */
int tenant_remove_folder(const struct vgpud *d, const struct definition *def);
/* Anybody may name it from now on, unless it has something left. */
void tenant_let_go(struct vgpud *d, const char *tenant);
/* At start: tenants and folders that no vGPU has, and all when nothing shall be kept, are removed.
 */
void tenant_clean(const struct vgpud *d);

#endif
