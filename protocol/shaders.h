/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_PROTOCOL_SHADERS_H
#define VGPU_PROTOCOL_SHADERS_H

/*
 * What the drivers of one tenant's device processes compiled: an archive, one file for each driver
 * (and, of a vGPU without a tenant, for each user) in STATE_DIR/shaders/TENANT. Written by keepers,
 * replaced as a whole, read by device processes. Native byte order: it never leaves the machine.
 *
 *   struct shaders_file │ contents │ struct shaders_entry [entries] │ texts, 20 bytes each
 */

#include <stdint.h>

#define SHADERS_MAGIC      0x48535056u /* "VPSH" */
#define SHADERS_VERSION    1u
#define SHADERS_FILE_MAX   (24u << 20) /* bytes; leaves room in a process' own files */
#define SHADERS_MAX        65536u      /* entries; texts */
#define SHADERS_KEY_BYTES  40u         /* hex digits */
#define SHADERS_TEXT_BYTES 20u         /* SHA-1 of a source text the driver has compiled before */

/* As the driver writes it (github.com/ValveSoftware/Fossilize, fossilize_db.cpp). */
struct shaders_header {
	uint32_t bytes, format, crc, bytes_uncompressed;
};

struct shaders_entry {
	char key[SHADERS_KEY_BYTES];
	struct shaders_header header;
	uint64_t offset; /* of its contents in the file */
};

struct shaders_file {
	uint32_t magic, version;
	uint32_t driver; /* struct keeper_ready.driver */
	uint32_t entries, texts;
	uint32_t crc;    /* of the tables of entries and texts */
	uint64_t tables; /* offset of the first table */
};

#endif
