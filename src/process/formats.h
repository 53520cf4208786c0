/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_PROCESS_FORMATS_H
#define VGPU_PROCESS_FORMATS_H

/*
 * The file of --formats: what an earlier device process found out about the formats of what is
 * drawn on (protocol/formats.h). Where it does not say, and only exact formats are offered, this
 * process finds it out before it is READY, and tells the keeper.
 */

#include "protocol/formats.h"

#include <stdbool.h>
#include <stddef.h>

struct device;

struct formats {
	const char *path; /* NULL: there is no such file, and nobody is told */
	uint8_t bytes[FORMATS_FILE_MAX];
	size_t size; /* 0: none was read */
	bool known;  /* the renderer goes by it */
};

/* While files can still be opened. `path` stays the caller's; NULL: none. */
void formats_read(struct formats *formats, const char *path);
/* Before the device is used. */
void formats_use(struct formats *formats, struct device *dev);
/* What the device has found out by now; nothing where it was known. */
void formats_tell(const struct formats *formats, struct device *dev, int channel_fd);

#endif
