/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_SLICE_USAGE_H
#define VGPU_CONTROL_SLICE_USAGE_H

/*
 * What a GPU's driver says of device processes (host/drm_usage.h), asked by a thread of its own: a
 * driver that hangs keeps whoever asks it waiting for ever, and that must be neither the thread of
 * the time slices nor vgpud. While it hangs nothing is found out any more, and all else goes on.
 *
 * The thread neither allocates nor logs, and sleeps until it is asked.
 */

#include "host/drm_usage.h"

#include <stdbool.h>
#include <stdint.h>

struct slice_usage;

/* In that thread; must not call back, nor wait for who may be calling. */
typedef void slice_usage_told(void *data, uint32_t id, uint64_t used_ns);

/* 0 or -errno. */
int slice_usage_create(slice_usage_told *told, void *data, struct slice_usage **ret);
/*
 * NULL-safe. Nobody is told anything from then on. One whose driver hangs is left behind, with its
 * thread, after a second.
 */
void slice_usage_destroy(struct slice_usage *u);

/*
 * Those are the descriptors of `id`'s device process from now on, taken; none: it has none. What
 * was asked about others is not told any more. -ENOSPC: closed, and nothing is told of it.
 */
int slice_usage_set(struct slice_usage *u, uint32_t id, const struct drm_usage *usage);

/* All are asked, and told one by one. Never waits; NULL-safe. */
void slice_usage_ask(struct slice_usage *u);

#endif
