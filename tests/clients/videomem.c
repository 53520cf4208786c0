/* SPDX-License-Identifier: Apache-2.0 */
/*
 * videomem: what GL_NVX_gpu_memory_info says, `total KIB available KIB`, before and after a texture
 * of 16 MiB was made and drawn to. Status 5: the extension is missing.
 */
#include <epoxy/egl.h>
#include <epoxy/gl.h>
#include <stdio.h>
#include <stdlib.h>

#define SIDE            2048
#define EXIT_NO_SUPPORT 5

static int open_context(void)
{
	static const EGLint any[] = {
		EGL_RENDERABLE_TYPE, EGL_OPENGL_BIT, EGL_SURFACE_TYPE, 0, EGL_NONE};
	EGLDisplay display =
		eglGetPlatformDisplayEXT(EGL_PLATFORM_SURFACELESS_MESA, EGL_DEFAULT_DISPLAY, NULL);
	EGLConfig config;
	EGLint count;

	if (!eglInitialize(display, NULL, NULL) || !eglBindAPI(EGL_OPENGL_API) ||
		!eglChooseConfig(display, any, &config, 1, &count) || count < 1)
		return -1;

	EGLContext context = eglCreateContext(display, config, EGL_NO_CONTEXT, NULL);
	return eglMakeCurrent(display, EGL_NO_SURFACE, EGL_NO_SURFACE, context) ? 0 : -1;
}

static void tell(void)
{
	GLint total = -1, available = -1;

	glGetIntegerv(GL_GPU_MEMORY_INFO_DEDICATED_VIDMEM_NVX, &total);
	glGetIntegerv(GL_GPU_MEMORY_INFO_CURRENT_AVAILABLE_VIDMEM_NVX, &available);
	printf("total %d available %d\n", total, available);
}

static void take(void)
{
	GLuint texture, framebuffer;

	glGenTextures(1, &texture);
	glBindTexture(GL_TEXTURE_2D, texture);
	glTexImage2D(GL_TEXTURE_2D, 0, GL_RGBA8, SIDE, SIDE, 0, GL_RGBA, GL_UNSIGNED_BYTE, NULL);
	glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_MIN_FILTER, GL_NEAREST);
	glGenFramebuffers(1, &framebuffer);
	glBindFramebuffer(GL_FRAMEBUFFER, framebuffer);
	glFramebufferTexture2D(GL_FRAMEBUFFER, GL_COLOR_ATTACHMENT0, GL_TEXTURE_2D, texture, 0);
	glClear(GL_COLOR_BUFFER_BIT);
	glFinish();
}

int main(void)
{
	if (open_context())
		return EXIT_FAILURE;
	printf("renderer: %s\n", (const char *)glGetString(GL_RENDERER));
	if (!epoxy_has_gl_extension("GL_NVX_gpu_memory_info"))
		return EXIT_NO_SUPPORT;
	tell();
	take();
	tell();
	return EXIT_SUCCESS;
}
