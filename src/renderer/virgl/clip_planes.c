/* SPDX-License-Identifier: Apache-2.0 */
#include "renderer/virgl/clip_planes.h"

#include <epoxy/egl.h>
#include <epoxy/gl.h>
#include <stdlib.h>
#include <string.h>

/* Process-wide, as the pointer it stands behind is; used by the one thread that owns the library.
 */
static struct {
	bool leave_out;
	PFNGLSHADERSOURCEPROC driver;
} clip_planes;

static const char block_start[] = "if (clip_plane_enabled) {\n";
static const char block_line[] = "gl_ClipDistance[";
static const char block_end[] = "}\n";

static bool line_assigns_distance(const char *line, size_t len)
{
	const char *found = memmem(line, len, block_line, sizeof(block_line) - 1);
	return found && memmem(line, len, "] = dot(", 8) && len >= 2 && line[len - 1] == ';';
}

long clip_planes_find(const char *source, size_t len, size_t *ret_len)
{
	const char *end = source + len;
	const char *start = memmem(source, len, block_start, sizeof(block_start) - 1);

	if (!start)
		return -1;
	const char *at = start + sizeof(block_start) - 1;
	for (;;) {
		const char *newline = memchr(at, '\n', (size_t)(end - at));
		if (!newline)
			return -1;
		size_t line = (size_t)(newline + 1 - at);
		if (line == sizeof(block_end) - 1 && memcmp(at, block_end, line) == 0) {
			*ret_len = (size_t)(newline + 1 - start);
			return start - source;
		}
		if (!line_assigns_distance(at, line - 1))
			return -1;
		at = newline + 1;
	}
}

/* A copy of the string without the block, or NULL: pass it as it is. */
static char *without_block(const char *string, size_t len, GLint *ret_len)
{
	size_t block;
	long at = clip_planes_find(string, len, &block);
	char *copy = at >= 0 ? malloc(len) : NULL;

	if (!copy)
		return NULL;
	memcpy(copy, string, (size_t)at);
	memcpy(copy + at, string + at + block, len - (size_t)at - block);
	*ret_len = (GLint)(len - block);
	return copy;
}

#define MAX_STRINGS 16

static void shader_source(
	GLuint shader, GLsizei count, const GLchar *const *strings, const GLint *lengths)
{
	const GLchar *passed[MAX_STRINGS] = {NULL};
	GLint passed_lengths[MAX_STRINGS] = {0};
	char *copies[MAX_STRINGS];

	if (!clip_planes.leave_out || count < 1 || count > MAX_STRINGS) {
		clip_planes.driver(shader, count, strings, lengths);
		return;
	}
	for (GLsizei i = 0; i < count; i++) {
		size_t len = lengths && lengths[i] >= 0 ? (size_t)lengths[i] : strlen(strings[i]);
		passed_lengths[i] = (GLint)len;
		copies[i] = without_block(strings[i], len, &passed_lengths[i]);
		passed[i] = copies[i] ? copies[i] : strings[i];
	}
	clip_planes.driver(shader, count, passed, passed_lengths);
	for (GLsizei i = 0; i < count; i++)
		free(copies[i]);
}

void clip_planes_leave_out(bool leave_out)
{
	if (!clip_planes.driver)
		clip_planes.driver = (PFNGLSHADERSOURCEPROC)eglGetProcAddress("glShaderSource");
	clip_planes.leave_out = leave_out && clip_planes.driver;
	if (clip_planes.leave_out)
		epoxy_glShaderSource = shader_source;
}

bool clip_planes_left_out(void)
{
	return clip_planes.leave_out;
}
