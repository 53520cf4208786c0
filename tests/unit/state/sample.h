/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_TESTS_STATE_SAMPLE_H
#define VGPU_TESTS_STATE_SAMPLE_H

/*
 * Fixed data: what tests/golden/state/1.0.vgpustate holds. Never changed, or old files could not be
 * compared any more; a new version gets a sample of its own.
 */

#include "state/section.h"

#include <stdbool.h>

/* One of each kind of section; `fill` is a run (compresses), the rest noise (does not). */
struct sample_section {
	enum state_section_type type;
	uint32_t number;
	const char *text;
	uint32_t noise, fill;
};

extern const struct sample_section sample_sections[];
extern const unsigned sample_count;

void sample_write(struct state_writer *w);
/* All of it, in order, to the end: 0; the reader's error; or -EILSEQ, another content. */
int sample_read(struct state_reader *r);

/* A memfd with these bytes, read from its start; aborts when that cannot be. */
int sample_fd(const void *bytes, size_t n);
/* All bytes of a file; the caller frees them. */
void *sample_bytes(int fd, size_t *ret_n);

#endif
