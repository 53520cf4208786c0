/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_HOST_SCRUB_MEMORY_H
#define VGPU_HOST_SCRUB_MEMORY_H

/*
 * The part of scrubbing that touches the memory, in a process of its own. A mapped BAR whose
 * device goes away ends whoever touches it (SIGBUS), and one that hangs has to be ended: both must
 * not be the process that has to say so. Private to host/scrub.
 */

#include "host/scrub.h"

struct scrub_memory {
	const char *path; /* resourceN, or resourceN_wc */
	uint64_t window;  /* size of that file, bytes */
	uint64_t bytes;   /* to be scrubbed, from its start; a multiple of the page size */
	const struct scrub_request *request;
};

/*
 * Fills step, code and figures of `ret` and returns the code; see scrub_vram(). SCRUB_AFTER: all
 * passes are done.
 */
int scrub_memory(const struct scrub_memory *memory, unsigned limit_ms, struct scrub_result *ret);

#endif
