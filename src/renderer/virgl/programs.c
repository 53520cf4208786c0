/* SPDX-License-Identifier: Apache-2.0 */
#include "renderer/virgl/programs.h"

#include <epoxy/egl.h>
#include <epoxy/gl.h>

static struct {
	PFNGLCREATEPROGRAMPROC create;
	PFNGLDELETEPROGRAMPROC delete;
	uint64_t live;
} programs;

static GLuint create_program(void)
{
	GLuint name = programs.create();

	programs.live += name != 0;
	return name;
}

/* The library deletes each of its programs once. */
static void delete_program(GLuint name)
{
	programs.delete(name);
	programs.live -= name && programs.live;
}

void programs_install(void)
{
	programs.create = (PFNGLCREATEPROGRAMPROC)eglGetProcAddress("glCreateProgram");
	programs.delete = (PFNGLDELETEPROGRAMPROC)eglGetProcAddress("glDeleteProgram");
	programs.live = 0;
	if (!programs.create || !programs.delete)
		return;
	epoxy_glCreateProgram = create_program;
	epoxy_glDeleteProgram = delete_program;
}

uint64_t programs_live(void)
{
	return programs.live;
}
