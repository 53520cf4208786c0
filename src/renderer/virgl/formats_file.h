/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_RENDERER_VIRGL_FORMATS_FILE_H
#define VGPU_RENDERER_VIRGL_FORMATS_FILE_H

/*
 * protocol/formats.h, written and read, and the key that says on which host it is true.
 */

#include "protocol/formats.h"

#include <stddef.h>

/*
 * Stands for everything that what is found may depend on: vendor, renderer and version of GL, the
 * build of every object in this process (driver, libraries, this program, the kernel's own page)
 * and the kind of processor, for which software drivers generate code. The library's context is
 * current, and the driver is loaded.
 */
uint64_t formats_file_key(void);

void formats_file_write(
	struct formats_file *ret, uint64_t key, const uint8_t found[FORMATS_COUNT][FORMATS_KINDS]);

/*
 * Any bytes. -EBADMSG: they are no such file; -ESTALE: of another version or key. `ret` (enum
 * formats_found) is changed only when it is 0.
 */
int formats_file_read(
	const void *bytes, size_t size, uint64_t key, uint8_t ret[FORMATS_COUNT][FORMATS_KINDS]);

#endif
