/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_RENDERER_VIRGL_PROGRAMS_H
#define VGPU_RENDERER_VIRGL_PROGRAMS_H

/*
 * How many GL programs there are. The library makes one for each combination of shaders (and of
 * what it varies them by) that a guest draws with, and on a CPU each is compiled to machine code of
 * hundreds of KiB, so their number is what a quota must know. It is counted where the library calls
 * GL: process-wide, as the pointers are that are stood behind.
 */

#include <stdint.h>

/* Once GL is there. Without its entry points nothing is counted. */
void programs_install(void);
uint64_t programs_live(void);

#endif
