/* SPDX-License-Identifier: Apache-2.0 */
#include "renderer/virgl/shader_compiler.h"

#include <epoxy/egl.h>
#include <epoxy/gl.h>
#include <stddef.h>

/* What more contexts than these keep stays until they end. */
#define CONTEXTS_MAX 64u

static struct {
	PFNGLCOMPILESHADERPROC compile;
	PFNGLLINKPROGRAMPROC link;
	PFNGLRELEASESHADERCOMPILERPROC release;
	EGLDisplay display;
	EGLContext contexts[CONTEXTS_MAX]; /* that compiled since the last release */
	size_t n;
} compiler;

static void note_context(EGLContext context)
{
	for (size_t i = compiler.n; i; i--)
		if (compiler.contexts[i - 1] == context)
			return;
	if (compiler.n < CONTEXTS_MAX)
		compiler.contexts[compiler.n++] = context;
}

static void compile_shader(GLuint shader)
{
	note_context(eglGetCurrentContext());
	compiler.compile(shader);
}

static void link_program(GLuint program)
{
	note_context(eglGetCurrentContext());
	compiler.link(program);
}

void shader_compiler_install(void)
{
	compiler.n = 0;
	compiler.display = eglGetCurrentDisplay();
	compiler.compile = (PFNGLCOMPILESHADERPROC)eglGetProcAddress("glCompileShader");
	compiler.release =
		(PFNGLRELEASESHADERCOMPILERPROC)eglGetProcAddress("glReleaseShaderCompiler");
	compiler.link = (PFNGLLINKPROGRAMPROC)eglGetProcAddress("glLinkProgram");
	if (!compiler.compile || !compiler.link || !compiler.release)
		return;
	epoxy_glCompileShader = compile_shader;
	epoxy_glLinkProgram = link_program;
}

void shader_compiler_release(void)
{
	while (compiler.n) {
		EGLContext context = compiler.contexts[--compiler.n];
		/* One that ended meanwhile is no context any more, or another's that compiles. */
		if (eglMakeCurrent(compiler.display, EGL_NO_SURFACE, EGL_NO_SURFACE, context))
			compiler.release();
	}
}
