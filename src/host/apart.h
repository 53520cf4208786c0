/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_HOST_APART_H
#define VGPU_HOST_APART_H

/*
 * What may wait inside the kernel, where no signal reaches (a driver that is asked for something),
 * is done in a process of its own. It is nobody's child: whoever waited for it to end could wait
 * as long as it does.
 */

/* Runs in that process, which has all that the caller has. 0 or -errno. */
typedef int (*apart_work)(const void *data);

/*
 * What the work returns; -ETIMEDOUT: it has not returned after `limit_ms`, and may do so at any
 * later time; -EIO: the process ended without a word; -errno: there is none.
 */
int apart_run(apart_work work, const void *data, unsigned limit_ms);

#endif
