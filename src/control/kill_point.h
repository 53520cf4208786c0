/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_KILL_POINT_H
#define VGPU_CONTROL_KILL_POINT_H

/*
 * Where tests have vgpud killed: VGPUD_KILL_AT=N in its environment ends it, as a kill would, when
 * it or one of its children passes the N-th point. There is one before and after each write to the
 * store, and before, in and after each request to the kernel. One process-wide setting, read once
 * at start; without it a point costs a comparison.
 */

#include <stdbool.h>

/* Call it in the process that shall be killed, before it starts others. */
void kill_points_init(void);

void kill_point(void);

/*
 * The point inside a request: true when vgpud was just killed there, and the caller is what goes on
 * without it. It makes the request and ends.
 */
bool kill_point_in_request(void);

#endif
