/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_RENDERER_VIRGL_SHADER_COMPILER_H
#define VGPU_RENDERER_VIRGL_SHADER_COMPILER_H

/*
 * What GL keeps to compile shaders with. Mesa makes the language's built-in functions, 6 MiB of
 * them, when a context compiles or links its first shader, and drops them when no context needs
 * them any more: when each was told so by glReleaseShaderCompiler(), a hint of OpenGL 4.1.
 * Compiling after that makes them again, in some ms. So it is seen here which contexts compile.
 * Process-wide, as the pointers are that are stood behind.
 *
 * Not for a Mesa that keeps no compiled shaders: what is left of a compiled shader there still
 * points at built-in functions (those of images, atomics, barriers), and linking it with another
 * one follows that. One that keeps them compiles all of a new program's shaders again.
 */

/* Once GL is there. Without its entry points nothing is released. */
void shader_compiler_install(void);

/* Nobody draws for now. Another GL context is current after it. */
void shader_compiler_release(void);

#endif
