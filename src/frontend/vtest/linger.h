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
 * A client that does other things first, or that needs this CPU to go on with, is found out there,
 * for each kind of answer: then one in 1024 is lingered for. So it is after somebody else who
 * wanted the CPU kept it for long. One that is quick now and then costs up to VTEST_LINGER_NS of
 * CPU time each time it is not, charged to its vGPU; one that idles nothing.
 */

#include "base/attend.h"

/* Half a system call: the message came from another CPU, and not because this one was left to it.
 */
#define VTEST_LINGER_LAST_NS 5000u
#define VTEST_LINGER_NS      100000u
#define VTEST_LINGER_DEAR_NS 1000000u /* another vGPU had the CPU, for its slice */
#define VTEST_LINGER_AWAY    1u

/* After which answers: a client may be quick with one kind and think after the other. */
enum vtest_linger_kind {
	VTEST_LINGER_REQUEST,
	VTEST_LINGER_FRAME, /* what was drawn is complete */
	VTEST_LINGER_KINDS
};

struct vtest_linger {
	struct attend kinds[VTEST_LINGER_KINDS];
	bool answers;                /* something was answered since, */
	enum vtest_linger_kind last; /* last of this kind */
	bool frame_over;             /* the message at hand waited for what was drawn */
};

struct vtest;

void vtest_linger_init(struct vtest *v);
/* At the end of a turn. 1: something came; 0: nothing did, or it was not looked for; -errno. */
int vtest_linger(struct vtest *v);

#endif
