/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_RENDERER_VIRGL_CAPSET_H
#define VGPU_RENDERER_VIRGL_CAPSET_H

/*
 * What a guest is promised: the capability sets VIRGL and VIRGL2 as bytes. Their layout (struct
 * virgl_caps_v1 and _v2 of the virgl protocol) is fixed for ever by its guests, and grows only at
 * its end: what a shorter set lacks counts as zero. Pure functions.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CAPSET_VIRGL  1u
#define CAPSET_VIRGL2 2u

/* Offsets of words that others change. */
#define CAPSET_BITS_AT         392u /* what the host can do */
#define CAPSET_BITS2_AT        688u /* more of the same */
#define CAPSET_VIDEO_MEMORY_AT 692u /* MiB */

/*
 * Is all that `saved` promises also in `here`? False: the first thing missing is in `why`, in
 * words.
 */
bool capset_covers(const void *saved, size_t saved_size, const void *here, size_t here_size,
	char *why, size_t why_size);

/* Is the format exact, in every shape it can have; with several samples when `many`? */
typedef bool capset_exact(void *data, uint32_t format, bool many);

/* Takes out the formats that are not, and video codecs, whose state nobody can read. */
void capset_keep_exact(void *capset, size_t size, capset_exact *exact, void *data);

#endif
