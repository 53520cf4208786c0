/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_PROCESS_QUIET_H
#define VGPU_PROCESS_QUIET_H

/*
 * A guest that does nothing shall cost nothing. The keeper, which sees that from the counters, says
 * IDLE and waits for RESTING and looks no more; the process gives back the memory that it can do
 * without before that, and says AWAKE as soon as anything wakes it, before it does anything else.
 * Nothing here runs by a clock.
 *
 * Given back: what is made again when it is needed (succession_rest(), called before); what malloc
 * holds free; and the pages of programs and libraries that nobody can have written to. Those stay
 * in the host's page cache and come back without reading, but are no longer this process' own, so a
 * host that is short of memory can take them at once.
 */

#include "base/loop.h"

/* IDLE has come. AWAKE follows when that loop is woken next. */
void quiet_begin(struct loop *loop, int channel_fd);

#endif
