/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_STATE_INTERNAL_H
#define VGPU_STATE_INTERNAL_H

/* What the writer and the reader of sections share. */

#include "protocol/state.h"

#include <stddef.h>
#include <stdint.h>

/*
 * CRC-32C (Castagnoli) of n more bytes, after those that gave `crc` (0: none). Our own: no library
 * that Debian keeps a stable interface for has it.
 */
uint32_t crc32c(uint32_t crc, const void *bytes, size_t n);
/* The same without the processor's instruction; for machines that lack it, and to compare. */
uint32_t crc32c_by_table(uint32_t crc, const void *bytes, size_t n);

/* Payload of END. */
struct state_trailer {
	uint64_t sections;
	uint32_t crc; /* what state_chain() gave over all of them */
};
#define STATE_TRAILER_SIZE 12u /* as stored: without the padding of the struct */

#define STATE_HEADER_CHECKED offsetof(struct state_section_header, header_crc)

/* The file's header begins the chain, both CRCs of each section go on with it. */
static inline uint32_t state_chain(uint32_t chain, const struct state_section_header *h)
{
	return crc32c(chain, &h->crc, sizeof(h->crc) + sizeof(h->header_crc));
}

static inline uint64_t state_padding(uint64_t size)
{
	return -size & 7;
}

_Static_assert(sizeof(struct state_header) == 16, "as stored");
_Static_assert(sizeof(struct state_section_header) == 32, "as stored");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "structs are stored as they are");

#endif
