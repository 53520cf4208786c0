/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hog MIB [SECONDS [query]]: takes that much GPU memory in textures of 16 MiB, each filled with a
 * colour that is read back, and says `took N MiB` after each. Ends with status 4 and
 * `refused after N MiB: REASON` at the first GL error or wrong pixel; with `took all` and status 0
 * when nothing was refused, after holding the memory for SECONDS. With `query` each texture's
 * filling is also counted by an occlusion query whose result is waited for: the one place where a
 * guest's driver waits for more than a fence.
 */
#include <EGL/egl.h>
#include <EGL/eglext.h>
#include <GLES3/gl3.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SIDE         2048
#define TEXTURE_MIB  16
#define EXIT_REFUSED 4

static int open_context(void)
{
	static const EGLint version[] = {EGL_CONTEXT_CLIENT_VERSION, 3, EGL_NONE};
	static const EGLint any[] = {
		EGL_RENDERABLE_TYPE, EGL_OPENGL_ES3_BIT, EGL_SURFACE_TYPE, 0, EGL_NONE};
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

/* Takes one texture; returns why it is not usable, or NULL. */
static const char *take(int number, bool query)
{
	const GLubyte wanted[4] = {
		(GLubyte)(number * 7 % 256), 85, (GLubyte)(255 - number % 256), 255};
	GLuint texture, framebuffer, counter, result = 0;
	GLubyte pixel[4] = {0};

	glGenTextures(1, &texture);
	glBindTexture(GL_TEXTURE_2D, texture);
	glTexStorage2D(GL_TEXTURE_2D, 1, GL_RGBA8, SIDE, SIDE);
	glGenFramebuffers(1, &framebuffer);
	glBindFramebuffer(GL_FRAMEBUFFER, framebuffer);
	glFramebufferTexture2D(GL_FRAMEBUFFER, GL_COLOR_ATTACHMENT0, GL_TEXTURE_2D, texture, 0);
	if (query) {
		glGenQueries(1, &counter);
		glBeginQuery(GL_ANY_SAMPLES_PASSED, counter);
	}
	glClearColor((float)wanted[0] / 255, (float)wanted[1] / 255, (float)wanted[2] / 255, 1);
	glClear(GL_COLOR_BUFFER_BIT);
	if (query) {
		glEndQuery(GL_ANY_SAMPLES_PASSED);
		glGetQueryObjectuiv(counter, GL_QUERY_RESULT, &result);
	}
	glReadPixels(SIDE - 1, SIDE - 1, 1, 1, GL_RGBA, GL_UNSIGNED_BYTE, pixel);
	switch (glGetError()) {
	case GL_NO_ERROR:
		return memcmp(pixel, wanted, 4) ? "it reads back as something else" : NULL;
	case GL_OUT_OF_MEMORY:
		return "out of memory";
	default:
		return "a GL error";
	}
}

int main(int argc, char **argv)
{
	int mib = argc > 1 ? atoi(argv[1]) : 256;
	bool query = argc > 3 && strcmp(argv[3], "query") == 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (open_context())
		return EXIT_FAILURE;
	printf("renderer: %s\n", (const char *)glGetString(GL_RENDERER));
	for (int taken = 0; taken < mib; taken += TEXTURE_MIB) {
		const char *why = take(taken / TEXTURE_MIB, query);

		if (why) {
			printf("refused after %d MiB: %s\n", taken, why);
			return EXIT_REFUSED;
		}
		printf("took %d MiB\n", taken + TEXTURE_MIB);
	}
	printf("took all\n");
	if (argc > 2)
		sleep((unsigned)atoi(argv[2]));
	return EXIT_SUCCESS;
}
