/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_RULES_PRIVATE_H
#define VGPU_CONTROL_RULES_PRIVATE_H

/* Shared by rules.c (what may happen) and rules_refuse.c (what is said when it may not). */

#include "control/rules.h"

/* Why not; rules_refuse.c has the words of each. */
enum reason {
	FINE, /* nothing is against it */
	VM_HAS_ANOTHER,
	HELD,
	HELD_IN_USE,
	HELD_ENDABLE,
	OTHER_TYPE,
	OTHER_METHOD,
	SLICES,
	FIXED,
	KEPT_PASSTHROUGH,
	KEPT_VGPUS,
	KEPT_METHOD,
	CARRIES,
	PASSED,
	LEFTOVERS,
	LEFTOVERS_MODE,
	BUSY,
	FAULT,
	NOT_THERE,
	STRAY,
	REASON_COUNT
};

struct question {
	const struct rules_gpu *gpu;
	enum rules_event event;
	const struct rules_subject *subject;
	const struct rules_vgpu *other; /* one that is in the way */
};

/* One line: the rule, what holds it, the way out; `what` begins it. -errno of that reason. */
int rules_refuse(const struct question *q, enum reason reason, const char *what, struct error *err);

#endif
