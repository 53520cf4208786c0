/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_FRONTEND_VTEST_LINGER_H
#define VGPU_FRONTEND_VTEST_LINGER_H

/*
 * Theory of operation
 *
 * Mesa goes on at once with most answers: before it writes to a buffer it asks whether that is
 * busy, five times a frame with five buffers; a frame's fence is made and then waited for; a
 * program that waits for each frame draws the next one. Going to sleep and being woken again costs
 * more than such a client takes. So after an answer its next message is attended (base/attend.h)
 * before the turn ends, unless the loop has anybody else to call.
 *
 * A client that does other things first, or that has no processor to go on with, is found out
 * there. So time that is lost stays far below a hundredth, and one that idles costs nothing.
 */

#define VTEST_LINGER_NS   100000u
#define VTEST_LINGER_AWAY 2u

struct vtest;

/* At the end of a turn. 1: something came; 0: nothing did, or it was not looked for; -errno. */
int vtest_linger(struct vtest *v);

#endif
