/* SPDX-License-Identifier: Apache-2.0 */
#include "renderer/virgl/gl_context.h"

#include "base/checked.h"

#include <stdlib.h>
#include <string.h>

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

static const struct {
	unsigned long mesa; /* major version that it came with */
	uint64_t bytes;
} context_costs[] = {
	{0, 2816ull << 10},
	{23, 10240ull << 10},
};

uint64_t gl_context_bytes(const char *version)
{
	const char *at = strstr(version, "Mesa ");
	unsigned long mesa = at ? strtoul(at + strlen("Mesa "), NULL, 10) : 0;
	uint64_t bytes = 0;

	for (size_t i = 0; i < ARRAY_SIZE(context_costs); i++) {
		if (mesa >= context_costs[i].mesa)
			bytes = context_costs[i].bytes;
	}
	return bytes;
}
