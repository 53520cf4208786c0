/* SPDX-License-Identifier: Apache-2.0 */
#include "output.h"

#include <EGL/eglext.h>
#include <GLES2/gl2.h>
#include <GLES2/gl2ext.h>
#include <errno.h>
#include <gbm.h>
#include <stdio.h>

#include "kms.h"

#define DEFAULT_WIDTH  640u
#define DEFAULT_HEIGHT 480u

static int fail(const char *what)
{
	fprintf(stderr, "scene: %s failed (EGL 0x%x)\n", what, (unsigned)eglGetError());
	return -EIO;
}

/* The configuration whose pixels are what the screen's buffers hold. */
static int choose_config(EGLDisplay display, bool screen, EGLConfig *ret_config)
{
	const EGLint wanted[] = {
		EGL_SURFACE_TYPE,
		screen ? EGL_WINDOW_BIT : 0,
		EGL_RENDERABLE_TYPE,
		EGL_OPENGL_ES2_BIT,
		EGL_RED_SIZE,
		8,
		EGL_GREEN_SIZE,
		8,
		EGL_BLUE_SIZE,
		8,
		EGL_DEPTH_SIZE,
		screen ? 16 : 0,
		EGL_NONE,
	};
	EGLConfig configs[64];
	EGLint count = 0, visual = 0;

	if (!eglChooseConfig(display, wanted, configs, 64, &count) || count == 0)
		return fail("eglChooseConfig");
	for (int i = 0; i < count; i++) {
		eglGetConfigAttrib(display, configs[i], EGL_NATIVE_VISUAL_ID, &visual);
		if (!screen || visual == GBM_FORMAT_XRGB8888) {
			*ret_config = configs[i];
			return 0;
		}
	}
	return fail("a config with XRGB8888");
}

static int make_framebuffer(struct output *output)
{
	glGenRenderbuffers(2, output->renderbuffers);
	glBindRenderbuffer(GL_RENDERBUFFER, output->renderbuffers[0]);
	glRenderbufferStorage(
		GL_RENDERBUFFER, GL_RGBA8_OES, (GLsizei)output->width, (GLsizei)output->height);
	glBindRenderbuffer(GL_RENDERBUFFER, output->renderbuffers[1]);
	glRenderbufferStorage(GL_RENDERBUFFER, GL_DEPTH_COMPONENT16, (GLsizei)output->width,
		(GLsizei)output->height);
	glGenFramebuffers(1, &output->framebuffer);
	glBindFramebuffer(GL_FRAMEBUFFER, output->framebuffer);
	glFramebufferRenderbuffer(
		GL_FRAMEBUFFER, GL_COLOR_ATTACHMENT0, GL_RENDERBUFFER, output->renderbuffers[0]);
	glFramebufferRenderbuffer(
		GL_FRAMEBUFFER, GL_DEPTH_ATTACHMENT, GL_RENDERBUFFER, output->renderbuffers[1]);
	if (glCheckFramebufferStatus(GL_FRAMEBUFFER) != GL_FRAMEBUFFER_COMPLETE)
		return fail("framebuffer object");
	return 0;
}

static int open_context(struct output *output)
{
	static const EGLint version[] = {EGL_CONTEXT_CLIENT_VERSION, 2, EGL_NONE};
	bool screen = output->kms != NULL;
	EGLConfig config;
	int r;

	output->display =
		screen ? eglGetPlatformDisplay(EGL_PLATFORM_GBM_KHR, kms_device(output->kms), NULL)
		       : eglGetPlatformDisplay(
				 EGL_PLATFORM_SURFACELESS_MESA, EGL_DEFAULT_DISPLAY, NULL);
	if (!eglInitialize(output->display, NULL, NULL) || !eglBindAPI(EGL_OPENGL_ES_API))
		return fail("eglInitialize");
	r = choose_config(output->display, screen, &config);
	if (r)
		return r;
	if (screen) {
		output->surface = eglCreatePlatformWindowSurface(
			output->display, config, kms_surface(output->kms), NULL);
		if (output->surface == EGL_NO_SURFACE)
			return fail("eglCreatePlatformWindowSurface");
	}
	output->context = eglCreateContext(output->display, config, EGL_NO_CONTEXT, version);
	if (output->context == EGL_NO_CONTEXT)
		return fail("eglCreateContext");
	if (!eglMakeCurrent(output->display, output->surface, output->surface, output->context))
		return fail("eglMakeCurrent");
	return screen ? 0 : make_framebuffer(output);
}

int output_open(struct output *output, const struct output_options *options)
{
	int r;

	*output = (struct output){
		.width = options->width,
		.height = options->height,
		.surface = EGL_NO_SURFACE,
	};
	if (options->card) {
		r = kms_open(&output->kms, options->card, options->head, &output->width,
			&output->height);
		if (r)
			return r;
	} else if (!output->width) {
		output->width = DEFAULT_WIDTH;
		output->height = DEFAULT_HEIGHT;
	}
	return open_context(output);
}

void output_close(struct output *output)
{
	eglMakeCurrent(output->display, EGL_NO_SURFACE, EGL_NO_SURFACE, EGL_NO_CONTEXT);
	if (output->context)
		eglDestroyContext(output->display, output->context);
	if (output->surface != EGL_NO_SURFACE)
		eglDestroySurface(output->display, output->surface);
	eglTerminate(output->display);
	kms_close(output->kms);
}

int output_show(struct output *output)
{
	if (!output->kms) {
		glFinish();
		return glGetError() == GL_NO_ERROR ? 0 : -EIO;
	}
	if (!eglSwapBuffers(output->display, output->surface))
		return fail("eglSwapBuffers");
	return kms_flip(output->kms);
}
