/* SPDX-License-Identifier: Apache-2.0 */
#include "probe/probe.h"

#include <epoxy/egl.h>
#include <epoxy/gl.h>
#include <stdio.h>
#include <string.h>

#define DEVICES_MAX 32

#ifndef EGL_DRM_RENDER_NODE_FILE_EXT /* EGL_EXT_device_drm_render_node */
#define EGL_DRM_RENDER_NODE_FILE_EXT 0x3377
#endif

/* The one context; this program has no other state that outlives a function, but its scene. */
static EGLDisplay display = EGL_NO_DISPLAY;

static int fail(const char *what)
{
	fprintf(stderr, "vgpu-probe: %s: EGL error 0x%x\n", what, (unsigned)eglGetError());
	return -1;
}

static EGLDisplay display_of(const char *device)
{
	EGLDeviceEXT devices[DEVICES_MAX];
	EGLint n = 0;

	if (!device)
		return eglGetPlatformDisplayEXT(
			EGL_PLATFORM_SURFACELESS_MESA, EGL_DEFAULT_DISPLAY, NULL);
	if (!epoxy_has_egl_extension(EGL_NO_DISPLAY, "EGL_EXT_device_query") ||
		!eglQueryDevicesEXT(DEVICES_MAX, devices, &n))
		return EGL_NO_DISPLAY;
	for (EGLint i = 0; i < n; i++) {
		const char *has = eglQueryDeviceStringEXT(devices[i], EGL_EXTENSIONS);
		const char *file =
			has && strstr(has, "EGL_EXT_device_drm_render_node")
				? eglQueryDeviceStringEXT(devices[i], EGL_DRM_RENDER_NODE_FILE_EXT)
				: NULL;
		if (file && !strcmp(file, device))
			return eglGetPlatformDisplayEXT(EGL_PLATFORM_DEVICE_EXT, devices[i], NULL);
	}
	return EGL_NO_DISPLAY;
}

static EGLContext make_context(enum probe_api api)
{
	static const EGLint gl[] = {EGL_CONTEXT_MAJOR_VERSION, 3, EGL_CONTEXT_MINOR_VERSION, 3,
		EGL_CONTEXT_OPENGL_PROFILE_MASK, EGL_CONTEXT_OPENGL_CORE_PROFILE_BIT, EGL_NONE},
			    gles[] = {EGL_CONTEXT_MAJOR_VERSION, 2, EGL_NONE};

	if (!eglBindAPI(api == PROBE_GL ? EGL_OPENGL_API : EGL_OPENGL_ES_API))
		return EGL_NO_CONTEXT;
	return eglCreateContext(
		display, EGL_NO_CONFIG_KHR, EGL_NO_CONTEXT, api == PROBE_GL ? gl : gles);
}

static void copy(const GLubyte *text, char *ret)
{
	snprintf(ret, PROBE_TEXT_MAX, "%s", text ? (const char *)text : "?");
}

static unsigned count_words(const char *text)
{
	unsigned n = 0;

	while (text && *(text += strspn(text, " "))) {
		text += strcspn(text, " ");
		n++;
	}
	return n;
}

int probe_open(const char *device, enum probe_api api, struct probe_offer *ret)
{
	GLint n = 0;

	display = display_of(device);
	if (display == EGL_NO_DISPLAY || !eglInitialize(display, NULL, NULL))
		return fail(device ? device : "no display without a screen");
	EGLContext context = make_context(api);
	if (context == EGL_NO_CONTEXT ||
		!eglMakeCurrent(display, EGL_NO_SURFACE, EGL_NO_SURFACE, context))
		return fail(
			api == PROBE_GL ? "no context of OpenGL 3.3" : "no context of OpenGL ES");
	copy(glGetString(GL_RENDERER), ret->renderer);
	copy(glGetString(GL_VERSION), ret->version);
	if (api == PROBE_GL)
		glGetIntegerv(GL_NUM_EXTENSIONS, &n);
	ret->extensions = api == PROBE_GL ? (unsigned)n
					  : count_words((const char *)glGetString(GL_EXTENSIONS));
	return 0;
}

void probe_close(void)
{
	if (display == EGL_NO_DISPLAY)
		return;
	eglMakeCurrent(display, EGL_NO_SURFACE, EGL_NO_SURFACE, EGL_NO_CONTEXT);
	eglTerminate(display);
	display = EGL_NO_DISPLAY;
}

void probe_print_text(const char *text)
{
	putchar('"');
	for (; *text; text++) {
		bool plain = *text >= 0x20 && *text < 0x7f && *text != '"' && *text != '\\';
		putchar(plain ? *text : '?');
	}
	putchar('"');
}
