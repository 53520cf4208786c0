/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_FRONTEND_VTEST_LINGER_H
#define VGPU_FRONTEND_VTEST_LINGER_H

/*
 * Theory of operation
 *
 * Before it writes to a buffer, Mesa asks whether that is busy, blocks for the answer, and goes on
 * at once: with five buffers written in a frame that is five round trips. Going to sleep and being
 * woken again costs more than such a client takes, so after an answer of that kind its next message
 * is looked for for up to 100 microseconds before the turn ends.
 *
 * A client that has no processor to go on with, because this process looks for its message there,
 * or that does other things first, is found out: each time in vain, looking is left out for twice
 * as many answers as before. So time that is lost stays far below a hundredth.
 */

#include <stdbool.h>

#define VTEST_LINGER_NS     100000u
#define VTEST_LINGER_MISSES 10u /* then one answer in 1024 is tried */

struct vtest;

struct vtest_linger {
	bool wanted;     /* the client waits for nothing but the answer at hand */
	unsigned misses; /* in a row */
	unsigned skip;   /* so many answers are not lingered for */
};

/* At the end of a turn. 1: something came; 0: nothing did, or it was not looked for; -errno. */
int vtest_linger(struct vtest *v);

#endif
