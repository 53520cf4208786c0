/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_RENDERER_VIRGL_GL_CONTEXT_H
#define VGPU_RENDERER_VIRGL_GL_CONTEXT_H

/*
 * GL contexts of our own beside those of the library: textures and buffers are common to all,
 * everything else (bindings, framebuffers, modes) is not, so nothing of the library's has to be put
 * back after work in one of these.
 */

#include <epoxy/egl.h>

/*
 * A context that shares objects with the current one and has the same configuration and version;
 * EGL_NO_CONTEXT when there cannot be one. The caller destroys it.
 */
EGLContext gl_context_shared(EGLDisplay display);

#endif
