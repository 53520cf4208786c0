/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_FRONTEND_VHOST_USER_HANDLERS_H
#define VGPU_FRONTEND_VHOST_USER_HANDLERS_H

/*
 * One function a request: 0, -errno with vu->why set, or SESSION_AGAIN before anything was changed.
 * A request that has its own reply leaves it in the message's payload and size. A failure is
 * reported in the acknowledgement where the front end asked for one; where it did not, it cannot
 * know, and the connection ends.
 */

#include "session.h"

#define X(name, id, min, max, fds, reply, feature)                                                 \
	int handle_##name(struct vhost_user *vu, struct vu_message *m);
VHOST_USER_MESSAGES(X)
#undef X

/* Returns `err`, for a constant reason. */
int handler_refuse(struct vhost_user *vu, int err, const char *why);
void handler_reply(struct vu_message *m, uint64_t value);
/* NULL, with vu->why set, when there is no such ring. */
struct ring *handler_ring(struct vhost_user *vu, uint64_t index);

/*
 * True when nothing of the ring (NULL: of any) is in flight. Either way it takes nothing more until
 * handler_undrain().
 */
bool handler_drained(struct vhost_user *vu, struct ring *only);
void handler_undrain(struct vhost_user *vu);

#endif
