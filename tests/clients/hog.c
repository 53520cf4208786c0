/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hog MIB: takes that much GPU memory in textures of 16 MiB, each one filled, and says
 * `took N MiB` after each. Ends with status 4 and `refused after N MiB: error 0xNNN` at the first
 * GL error; with `took all` and status 0 when nothing refused it, after holding the memory for the
 * seconds of a second argument.
 */
#include <EGL/egl.h>
#include <EGL/eglext.h>
#include <GLES2/gl2.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SIDE         2048
#define TEXTURE_MIB  16
#define EXIT_REFUSED 4

static int open_context(void)
{
	static const EGLint version[] = {EGL_CONTEXT_CLIENT_VERSION, 2, EGL_NONE};
	static const EGLint any[] = {
		EGL_RENDERABLE_TYPE, EGL_OPENGL_ES2_BIT, EGL_SURFACE_TYPE, 0, EGL_NONE};
	EGLDisplay display =
		eglGetPlatformDisplay(EGL_PLATFORM_SURFACELESS_MESA, EGL_DEFAULT_DISPLAY, NULL);
	EGLConfig config;
	EGLint count;

	if (!eglInitialize(display, NULL, NULL) || !eglBindAPI(EGL_OPENGL_ES_API) ||
		!eglChooseConfig(display, any, &config, 1, &count) || count < 1)
		return -1;

	EGLContext context = eglCreateContext(display, config, EGL_NO_CONTEXT, version);
	return eglMakeCurrent(display, EGL_NO_SURFACE, EGL_NO_SURFACE, context) ? 0 : -1;
}

/* Returns a GL error or GL_NO_ERROR. */
static GLenum take(void)
{
	static unsigned char row[SIDE * 4];
	unsigned char pixel[4];
	GLuint texture, framebuffer;

	glGenTextures(1, &texture);
	glBindTexture(GL_TEXTURE_2D, texture);
	glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_MIN_FILTER, GL_NEAREST);
	glTexImage2D(GL_TEXTURE_2D, 0, GL_RGBA, SIDE, SIDE, 0, GL_RGBA, GL_UNSIGNED_BYTE, NULL);
	glTexSubImage2D(GL_TEXTURE_2D, 0, 0, 0, SIDE, 1, GL_RGBA, GL_UNSIGNED_BYTE, row);
	glGenFramebuffers(1, &framebuffer);
	glBindFramebuffer(GL_FRAMEBUFFER, framebuffer);
	glFramebufferTexture2D(GL_FRAMEBUFFER, GL_COLOR_ATTACHMENT0, GL_TEXTURE_2D, texture, 0);
	glClear(GL_COLOR_BUFFER_BIT);
	glReadPixels(0, 0, 1, 1, GL_RGBA, GL_UNSIGNED_BYTE, pixel);
	return glGetError();
}

int main(int argc, char **argv)
{
	int mib = argc > 1 ? atoi(argv[1]) : 256;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (open_context())
		return EXIT_FAILURE;
	printf("renderer: %s\n", (const char *)glGetString(GL_RENDERER));
	for (int taken = 0; taken < mib; taken += TEXTURE_MIB) {
		GLenum error = take();

		if (error != GL_NO_ERROR) {
			printf("refused after %d MiB: error 0x%x\n", taken, error);
			return EXIT_REFUSED;
		}
		printf("took %d MiB\n", taken + TEXTURE_MIB);
	}
	printf("took all\n");
	if (argc > 2)
		sleep((unsigned)atoi(argv[2]));
	return EXIT_SUCCESS;
}
