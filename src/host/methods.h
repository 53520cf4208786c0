/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_HOST_METHODS_H
#define VGPU_HOST_METHODS_H

/*
 * Which of the four methods a GPU can be used by, and if not, why not and what would make it so.
 * Pure: one table of conditions over the facts of host/facts.h. Each row says which methods it is
 * about, whether it forbids them or is only worth knowing, how it is said, and the way out.
 */

#include "host/facts.h"

#define METHODS_FINDINGS_MAX 16
#define METHODS_TEXT_MAX     320

struct host_finding {
	const char *condition; /* its name in the table: stable, for programs */
	bool forbids;          /* else it is a note */
	char text[METHODS_TEXT_MAX];
	char remedy[METHODS_TEXT_MAX]; /* what to do; "" : nothing can be done */
};

struct host_judgement {
	bool possible;                                      /* no finding forbids it */
	struct host_finding findings[METHODS_FINDINGS_MAX]; /* those that forbid come first */
	size_t n_findings;
};

void host_method_judge(
	const struct host_facts *facts, enum host_method method, struct host_judgement *ret);

/* Names of all conditions, for tests and documents: row i of the table; NULL after the last. */
const char *host_condition_name(size_t i);

#endif
