/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_BASE_ATTEND_H
#define VGPU_BASE_ATTEND_H

/*
 * Theory of operation
 *
 * Who sleeps until something happens is woken from another CPU, or on one that went idle a moment
 * before, and that costs up to a tenth of a short frame. So what is about to happen is attended
 * awake, but behind everybody else: between two looks the CPU is left to whoever wants it
 * (sched_yield), first of all to whoever brings the event about. Only when nobody does are looks
 * taken one after another.
 *
 * What that may cost is bounded twice: nanoseconds of looking, and how often somebody else had the
 * CPU meanwhile, because the kernel puts who yields behind the others for a slice. Beyond either
 * the caller goes to sleep as usual; where that happens in a row, attending is mostly left out.
 */

#include "base/worthwhile.h"

#include <stdbool.h>
#include <stdint.h>

#define ATTEND_TURN_NS 20000u /* a look that took longer: somebody else had the CPU */

struct attend {
	uint32_t busy_ns; /* of looking, at most */
	unsigned away;    /* so often may somebody else have the CPU */
	struct worthwhile worthwhile;
};

/* Until over() says so, which must not sleep; false: it did not, or was not asked. */
bool attend(struct attend *a, bool (*over)(void *data), void *data);

#endif
