/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_PROTOCOL_STATE_H
#define VGPU_PROTOCOL_STATE_H

/*
 * The saved state of a vGPU: a header and sections. One format for all uses: the image that one
 * device process leaves to the next (in a memfd, sections as they are) and snapshot files
 * (sections compressed, each with its CRC-32C). Little-endian. Whoever reads it treats it as
 * hostile.
 *
 * A reader refuses another magic or byte order, a newer major version, an unknown section that is
 * marked critical, and whatever does not fit its length; it skips unknown sections that are not
 * critical, and bytes at the end of a section that it does not know (a newer minor version may add
 * some). What a section's payload is made of is said where it is written; names of fields there are
 * those of virtio-gpu and of the virgl protocol.
 */

#include <stdint.h>

#define STATE_MAGIC      "VGPUSTAT" /* 8 bytes, no terminator */
#define STATE_MAJOR      1u
#define STATE_MINOR      0u
#define STATE_BYTE_ORDER 0x01020304u

struct state_header {
	char magic[8];
	uint16_t major, minor;
	uint32_t byte_order;
};

enum state_flags {
	STATE_CRITICAL = 1, /* who does not know the section must refuse the whole */
	STATE_ZSTD = 2,     /* the payload is one zstd frame of stored_size bytes */
	STATE_CRC = 4,      /* crc is set */
};

struct state_section_header {
	uint32_t type;    /* enum state_section_type */
	uint16_t version; /* now 1 for all; a reader treats another one as an unknown section */
	uint16_t flags;
	uint64_t stored_size; /* bytes that follow; the next header comes at the next multiple of 8
			       */
	uint64_t size;        /* bytes of payload; without STATE_ZSTD the same */
	uint32_t crc;         /* CRC-32C of the bytes that follow; 0 without STATE_CRC */
	uint32_t header_crc;  /* of this header before this field; 0 without STATE_CRC */
};

/*
 * X(number, NAME, critical, help). Numbers are for ever; 12 is retired. A section may come many
 * times unless its owner refuses that; the order below is the order in which they are written.
 */
#define STATE_SECTIONS(X)                                                                          \
	X(1, SOURCE, 1, "who wrote it, and the capsets that the guest was promised")               \
	X(2, DEVICE, 1, "type of the vGPU, heads, what they show")                                 \
	X(3, CLIENT, 1, "one client: the VM, or one vtest connection")                             \
	X(4, RESOURCE, 1, "one resource: handle, id, shape")                                       \
	X(5, CONTENT, 1, "pixels or bytes of a part of a resource")                                \
	X(6, CONTEXT, 1, "one context: handle, name, attached resources")                          \
	X(7, OBJECTS, 1, "virgl stream that makes a context's sub-contexts and objects")           \
	X(8, QUERIES, 1, "progress and results of a context's queries")                            \
	X(9, BINDINGS, 1, "virgl stream that binds and sets everything of a context")              \
	X(10, STREAMOUT, 1, "how far transform feedback has got")                                  \
	X(11, CONNECTION, 1, "state of a front end's connection")                                  \
	X(13, LOSSY, 0, "what could not be saved exactly, in words")                               \
	X(15, FORMATS, 0,                                                                          \
		"what its writer found out about its driver's formats: protocol/formats.h")        \
	X(14, END, 1, "u64 number of sections before it, u32 chain: see below")

/*
 * The chain in END is one CRC-32C over the file's header and then crc and header_crc of every
 * section before END, in order: so nothing can be left out, added or moved. END is stored as it is.
 * Between sections lie only zeros.
 */

enum state_section_type {
#define X(number, name, critical, help) STATE_##name = (number),
	STATE_SECTIONS(X)
#undef X
};

/* Beyond this nobody needs to read on: of one section, and of all together. */
#define STATE_SECTION_MAX (1ull << 30)
#define STATE_TOTAL_MAX   (64ull << 30)

#endif
