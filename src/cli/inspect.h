/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CLI_INSPECT_H
#define VGPU_CLI_INSPECT_H

/*
 * Reads a saved state without vgpud. The file is hostile: what the reader (state/section.h) does
 * not check is checked here. Payloads are laid out as device/state.h says.
 */

#include "base/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All that it holds, as docs/man/vgpuctl.1 says; pictures go to `png_dir` unless that is NULL. */
int inspect_read(int fd, const char *name, const char *png_dir, json_t **ret, struct error *err);

/* What a picture is made of. */
struct picture {
	uint32_t format, width, height;
	const uint8_t *bytes;
	uint64_t size;
};

/* "B8G8R8A8_UNORM"; "?" */
const char *inspect_format_name(uint32_t format);
/* -ENOTSUP: no picture can be made of that format; -EINVAL: the size is not right. */
int inspect_write_png(const struct picture *picture, const char *path);

#endif
