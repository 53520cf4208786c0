/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_SLICE_THREAD_H
#define VGPU_CONTROL_SLICE_THREAD_H

/*
 * The one thread for each GPU that is shared by time slices: it runs the arbiter, and sleeps until
 * a vGPU wakes it or a slice is due to end. Nothing it does waits for the rest of vgpud: it
 * allocates, opens and logs nothing, so vgpud may fork at any time, and holds its lock only while
 * it looks at pages. All functions here are for vgpud's main thread.
 *
 * A vGPU that wakes it for nothing is not listened to for MUTE_NS.
 */

#include "protocol/slice_pages.h"
#include "scheduler/policy.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct slice_thread;

/* What is shared with one vGPU's device processes. */
struct slice_pages {
	struct slice_page *page; /* NULL: there are none */
	struct slice_claim *claim;
	int page_fd, claim_fd, wake_fd;
};

/* 0 or -errno. The page can be written by nobody else, whoever has its descriptor. */
int slice_pages_create(struct slice_pages *ret);
void slice_pages_finish(struct slice_pages *pages); /* also of none */

/* 0 or -errno. */
int slice_thread_create(const struct sched_gpu *gpu, struct slice_thread **ret);
/*
 * All pages are open until their device processes have taken them up (arbiter_settle()): from this
 * call with `all_there` for ARBITER_SETTLE_NS at most; without, until there is one with it.
 */
void slice_thread_settle(struct slice_thread *t, bool all_there);
/* NULL-safe; all pages are open then, and those that are held go on. */
void slice_thread_destroy(struct slice_thread *t);
/* 0 or -EINVAL; nothing happens when it is as it was. */
int slice_thread_set_policy(struct slice_thread *t, const struct sched_gpu *gpu);

/* `id` above 0; `pages` stay the caller's. Also for one that is there, with other parameters. */
int slice_thread_add(struct slice_thread *t, uint32_t id, const struct sched_vgpu *params,
	const struct slice_pages *pages);
void slice_thread_remove(struct slice_thread *t, uint32_t id);
/* The keeper's control socket, to stop its device process by; duplicated. -1: none now. */
int slice_thread_set_link(struct slice_thread *t, uint32_t id, int fd);
/* Its device process from now on; 0: none. `software`: what it costs is CPU time. */
void slice_thread_set_process(struct slice_thread *t, uint32_t id, pid_t pid, bool software);

#endif
