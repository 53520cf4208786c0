/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_PROBE_PROBE_H
#define VGPU_PROBE_PROBE_H

/* The parts of vgpu-probe. One context at a time; failures are said on standard error. */

#include <stdbool.h>
#include <stdint.h>

#define PROBE_TEXT_MAX 256
#define PROBE_WARM_UP  20u /* frames in which shaders are compiled and buffers filled */

enum probe_api { PROBE_GL, PROBE_GLES };

/* What a context says of itself. */
struct probe_offer {
	char renderer[PROBE_TEXT_MAX];
	char version[PROBE_TEXT_MAX];
	unsigned extensions;
};

/* context.c: a context off screen, on the GPU of that render node (NULL: what Mesa chooses). */
int probe_open(const char *device, enum probe_api api, struct probe_offer *ret);
void probe_close(void);
/* As a JSON string: what is no plain ASCII is '?'. */
void probe_print_text(const char *text);

/*
 * scene.c, in a context of PROBE_GL: a lit and textured surface, drawn 32 times a frame with states
 * of their own, so that a frame is commands as well as pixels. Two frames are under way at a time,
 * as with a swap chain.
 */
int probe_scene_begin(void);
void probe_frame(unsigned number);
void probe_finish(void);
/* Draws one fixed frame and waits for it: a hash of its pixels. */
uint64_t probe_still(void);

#endif
