/* SPDX-License-Identifier: Apache-2.0 */
#include "renderer/virgl/gl_context.h"

#include <epoxy/gl.h>

EGLContext gl_context_shared(EGLDisplay display)
{
	EGLContext current = eglGetCurrentContext();
	EGLint config_id = 0, n = 0;
	EGLConfig config;
	GLint major = 0, minor = 0;

	if (current == EGL_NO_CONTEXT ||
		!eglQueryContext(display, current, EGL_CONFIG_ID, &config_id))
		return EGL_NO_CONTEXT;
	const EGLint config_attribs[] = {EGL_CONFIG_ID, config_id, EGL_NONE};
	if (!eglChooseConfig(display, config_attribs, &config, 1, &n) || n != 1)
		return EGL_NO_CONTEXT;
	glGetIntegerv(GL_MAJOR_VERSION, &major);
	glGetIntegerv(GL_MINOR_VERSION, &minor);
	const EGLint attribs[] = {
		EGL_CONTEXT_CLIENT_VERSION, major, EGL_CONTEXT_MINOR_VERSION_KHR, minor, EGL_NONE};
	return eglCreateContext(display, config, current, attribs);
}
