/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_FRONTEND_VHOST_USER_TRANSFER_H
#define VGPU_FRONTEND_VHOST_USER_TRANSFER_H

/*
 * The whole device's state over a pipe of the front end (vhost-user, "Transferring the back-end
 * state"), for a VM monitor that migrates. The owner makes and takes a state file in a memfd of
 * ours; the bytes move between it and the pipe as the front end reads or writes, so one that does
 * neither costs nothing but its own migration, and that after TRANSFER_IDLE_MS.
 */

#include "base/loop.h"

#include <stdbool.h>
#include <stdint.h>

#define TRANSFER_IDLE_MS 10000u
#define TRANSFER_MAX     (4ull << 30) /* bytes of a state that is taken in */

struct vhost_user;

struct transfer {
	struct vhost_user *vu;
	int pipe, file, timer_fd; /* -1: not under way */
	struct loop_source *source, *timer_source;
	bool loading;
	uint64_t at, size;
	int result; /* of the last one: 0 or -errno; -ENODATA: there was none */
};

void transfer_init(struct transfer *t, struct vhost_user *vu);
void transfer_finish(struct transfer *t); /* abandons what is under way */

/* Takes `pipe`. -EBUSY, -errno: nothing was begun. */
int transfer_begin(struct transfer *t, bool loading, int pipe);
bool transfer_busy(const struct transfer *t);
/* Whether it went well, once; -EBUSY while it is under way. */
int transfer_result(struct transfer *t);

#endif
