/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_PROTOCOL_SCREEN_H
#define VGPU_PROTOCOL_SCREEN_H

/*
 * What one head shows: a memfd the device process writes and others read (screenshots, VNC). A new
 * memfd is made for each change of size. Pixels begin at VGPU_SCREEN_PIXELS_OFFSET, B8G8R8X8, top
 * row first, stride = width * 4.
 *
 * Readers use pread(), never mmap(): the writer is not trusted and could shrink the file. They
 * check width and height against VGPU_SCREEN_MAX_SIDE and the file's size. `sequence` is odd while
 * the writer is inside an update: read it before and after, and try again when it changed.
 */

#include <stdint.h>

#define VGPU_SCREEN_MAGIC         0x43535056u /* "VPSC" */
#define VGPU_SCREEN_VERSION       1u
#define VGPU_SCREEN_PIXELS_OFFSET 4096u
#define VGPU_SCREEN_MAX_SIDE      16384u

struct vgpu_screen {
	uint32_t magic;
	uint32_t version;
	uint32_t width, height; /* pixels */
	uint64_t sequence;
	uint64_t frames; /* updates since the memfd was made */
};

#endif
