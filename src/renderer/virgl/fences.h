/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_RENDERER_VIRGL_FENCES_H
#define VGPU_RENDERER_VIRGL_FENCES_H

/*
 * GL sync objects in the order they were made, and one thread that waits for them. The thread is
 * started at creation, so that none has to start after lock-down, and sleeps while the queue is
 * empty.
 */

#include <stdbool.h>
#include <stdint.h>

struct virgl_fences;

/*
 * The calling thread has a current EGL context; the waiting thread gets one that shares with it.
 * -ENODEV: it could not.
 */
int virgl_fences_create(struct virgl_fences **ret);
void virgl_fences_destroy(struct virgl_fences *fences); /* NULL-safe */

/*
 * Puts a fence behind what the current GL context was given, and flushes. `id` is reported by
 * virgl_fences_reap(); 0: a fence nobody asked for, that later ones wait for. Ids rise.
 */
int virgl_fences_push(struct virgl_fences *fences, uint64_t id);

/* Readable when virgl_fences_reap() has news. */
int virgl_fences_fd(const struct virgl_fences *fences);
/* Highest id complete so far, 0: none yet. */
uint64_t virgl_fences_reap(struct virgl_fences *fences);

/* The driver lost a fence: nothing can be known to be complete any more. */
bool virgl_fences_failed(struct virgl_fences *fences);

/* Blocks until every fence pushed so far is complete, or has failed. */
void virgl_fences_wait(struct virgl_fences *fences);

#endif
