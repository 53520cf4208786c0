/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_RENDERER_VIRGL_GL_CONTEXT_H
#define VGPU_RENDERER_VIRGL_GL_CONTEXT_H

/*
 * GL contexts of our own beside those of the library: textures and buffers are common to all,
 * everything else (bindings, framebuffers, modes) is not, so nothing of the library's has to be put
 * back after work in one of these.
 */

#include <stdint.h>

#include <epoxy/egl.h>

/*
 * A context that shares objects with the current one and has the same configuration and version;
 * EGL_NO_CONTEXT when there cannot be one. The caller destroys it.
 */
EGLContext gl_context_shared(EGLDisplay display);

/*
 * Bytes that a context of that driver takes when nothing has been drawn. version: its GL_VERSION.
 * Measured on llvmpipe of Mesa 22.3 and 25.0 (tests/unit/device/test_vram.c measures again), so
 * that a journal runs the same way each time; what is no Mesa counts as the first.
 */
uint64_t gl_context_bytes(const char *version);

#endif
