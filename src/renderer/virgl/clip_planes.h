/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_RENDERER_VIRGL_CLIP_PLANES_H
#define VGPU_RENDERER_VIRGL_CLIP_PLANES_H

/*
 * libvirglrenderer ends the last vertex stage of every program with code for the eight clip planes
 * of old OpenGL, switched by a uniform. Hardly any guest uses them, but a software GPU runs that
 * code for every vertex. This leaves the block out of the GLSL on its way to the driver.
 *
 * It looks for exactly the text the library is known to write (0.10 to 1.3) and passes anything
 * else through unchanged. With GL_CLIP_DISTANCE disabled the block has no effect, so neither has
 * its absence; whoever turns clip planes on must switch this off and have older shaders made again.
 *
 * The library calls GL through libepoxy's function pointers, and those are the process': so is
 * this.
 */

#include <stdbool.h>
#include <stddef.h>

void clip_planes_leave_out(bool leave_out);
bool clip_planes_left_out(void);

/*
 * The block in a shader's source: its offset, and its length in *ret_len; -1 when there is none.
 * Exposed for tests.
 */
long clip_planes_find(const char *source, size_t len, size_t *ret_len);

#endif
