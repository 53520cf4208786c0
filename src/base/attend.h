/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_BASE_ATTEND_H
#define VGPU_BASE_ATTEND_H

/*
 * Theory of operation
 *
 * Who sleeps until something happens is woken from another CPU, or on one that went idle a moment
 * before, and that costs up to a tenth of a short frame. So what is about to happen is attended
 * awake. Between two looks the CPU is left to the other threads of the same task group
 * (sched_yield): a drawing thread of this process that is wanted on it goes first. Threads of other
 * groups, a client's mostly, share the CPU with who looks; so it must be over soon.
 *
 * What that may cost is bounded twice: nanoseconds of looking, and how often somebody else had the
 * CPU meanwhile. Beyond either the caller goes to sleep as usual.
 *
 * It pays only where the event comes from another CPU while this one looks. When the last look took
 * long, somebody else had this CPU and perhaps brought the event about there, and a sleeper would
 * have been woken as soon or sooner. That counts as in vain, as not seeing the end does; where it
 * happens in a row, attending is mostly left out (base/worthwhile.h). It is left out for as long
 * after one look that was dear: whoever else wants this CPU keeps it for its whole turn, where a
 * sleeper would have come before it.
 */

#include "base/worthwhile.h"

#include <stdbool.h>
#include <stdint.h>

#define ATTEND_AWAY_NS 20000u /* a look that took longer: somebody else had the CPU */

struct attend {
	uint32_t busy_ns; /* of looking, about */
	uint32_t last_ns; /* a last look that took longer is in vain */
	uint32_t dear_ns; /* any look that took longer is dear; 0: none is */
	unsigned away;    /* so often may somebody else have the CPU */
	struct worthwhile worthwhile;
};

/* Until over() says so, which must not sleep; false: it did not, or was not asked. */
bool attend(struct attend *a, bool (*over)(void *data), void *data);

#endif
