/* SPDX-License-Identifier: Apache-2.0 */
#include "renderer/virgl/readback.h"

#include <epoxy/egl.h>
#include <epoxy/gl.h>
#include <string.h>

static struct {
	PFNGLREADNPIXELSARBPROC pixels_arb;
	PFNGLREADNPIXELSKHRPROC pixels_khr;
	PFNGLGETNTEXIMAGEARBPROC image;
	PFNGLGETNCOMPRESSEDTEXIMAGEARBPROC compressed;
} driver;

/* The library tells rows' length only where the memory is not its own. */
static void clear_own(void *data, GLsizei size)
{
	GLint row_length = 0;

	glGetIntegerv(GL_PACK_ROW_LENGTH, &row_length);
	if (!row_length && size > 0)
		memset(data, 0, (size_t)size);
}

static void read_pixels_arb(GLint x, GLint y, GLsizei width, GLsizei height, GLenum format,
	GLenum type, GLsizei size, void *data)
{
	clear_own(data, size);
	driver.pixels_arb(x, y, width, height, format, type, size, data);
}

static void read_pixels_khr(GLint x, GLint y, GLsizei width, GLsizei height, GLenum format,
	GLenum type, GLsizei size, void *data)
{
	clear_own(data, size);
	driver.pixels_khr(x, y, width, height, format, type, size, data);
}

static void get_image(
	GLenum target, GLint level, GLenum format, GLenum type, GLsizei size, void *data)
{
	clear_own(data, size);
	driver.image(target, level, format, type, size, data);
}

static void get_compressed(GLenum target, GLint level, GLsizei size, void *data)
{
	clear_own(data, size);
	driver.compressed(target, level, size, data);
}

void readback_install(void)
{
	driver.pixels_arb = (PFNGLREADNPIXELSARBPROC)eglGetProcAddress("glReadnPixelsARB");
	driver.pixels_khr = (PFNGLREADNPIXELSKHRPROC)eglGetProcAddress("glReadnPixelsKHR");
	driver.image = (PFNGLGETNTEXIMAGEARBPROC)eglGetProcAddress("glGetnTexImageARB");
	driver.compressed = (PFNGLGETNCOMPRESSEDTEXIMAGEARBPROC)eglGetProcAddress(
		"glGetnCompressedTexImageARB");
	if (driver.pixels_arb)
		epoxy_glReadnPixelsARB = read_pixels_arb;
	if (driver.pixels_khr)
		epoxy_glReadnPixelsKHR = read_pixels_khr;
	if (driver.image)
		epoxy_glGetnTexImageARB = get_image;
	if (driver.compressed)
		epoxy_glGetnCompressedTexImageARB = get_compressed;
}
