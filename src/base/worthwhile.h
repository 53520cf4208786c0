/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_BASE_WORTHWHILE_H
#define VGPU_BASE_WORTHWHILE_H

/*
 * Whether to try something that costs a little and mostly pays, but not everywhere: each time in
 * vain, in a row, it is left out twice as often as before; once it pays it is tried again always.
 * Zeroed: tried.
 */

#include <stdbool.h>

#define WORTHWHILE_MISSES 10u /* from then on one occasion in 1024 is tried */

struct worthwhile {
	unsigned misses; /* in a row */
	unsigned skip;   /* so many occasions are left out from here */
};

static inline bool worthwhile_try(struct worthwhile *w)
{
	if (!w->skip)
		return true;
	w->skip--;
	return false;
}

static inline void worthwhile_told(struct worthwhile *w, bool paid)
{
	if (paid)
		w->misses = 0;
	else if (w->misses < WORTHWHILE_MISSES)
		w->misses++;
	w->skip = (1u << w->misses) - 1;
}

/* It cost so much that it is not to be tried again soon. */
static inline void worthwhile_lost(struct worthwhile *w)
{
	w->misses = WORTHWHILE_MISSES;
	worthwhile_told(w, false);
}

#endif
