/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_PROTOCOL_FORMATS_H
#define VGPU_PROTOCOL_FORMATS_H

/*
 * What trying every format on a host's driver has found: STATE_DIR/formats/NAME, one file for each
 * thing that is drawn on. Made by a device process before it is READY, stored by its keeper, read
 * by every device process that draws on the same thing. Native byte order: it never leaves the
 * machine. A file that is not exactly so, or of another key, counts as none.
 */

#include <stdint.h>

#define FORMATS_MAGIC   0x4d465056u /* "VPFM" */
#define FORMATS_VERSION 1u          /* also of the way formats are tried */
#define FORMATS_COUNT   512u        /* VIRGL_FORMAT_* */

enum formats_kind {
	FORMATS_FLAT,    /* one layer, one sample */
	FORMATS_VOLUME,  /* 3D */
	FORMATS_LAYERS,  /* arrays and cubes */
	FORMATS_SAMPLES, /* several samples */
	FORMATS_KINDS
};

enum formats_found {
	FORMATS_NOT_TRIED,
	FORMATS_EXACT,
	FORMATS_LOSSY,
	FORMATS_UNREADABLE,
	FORMATS_IMPOSSIBLE, /* the driver makes no such resource */
	FORMATS_FOUND_COUNT
};

#define FORMATS_FILE_MAX 1536u /* bytes, also of other versions */

struct formats_file {
	uint32_t magic, version;
	uint64_t key; /* of driver, libraries, program and processor */
	uint64_t sum; /* FNV-1a, 64 bits, over `found` */
	uint8_t found[FORMATS_COUNT][FORMATS_KINDS / 2]; /* 4 bits a kind, the lower ones first */
};

#endif
