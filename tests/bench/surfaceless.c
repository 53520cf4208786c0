/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preloaded into QEMU's vhost-user-gpu so that it can be measured beside vgpu-device on a machine
 * with no GPU. Two things keep the unmodified program from working there: it does not ask
 * libvirglrenderer for a surfaceless display, and it exports every scanout as a dma-buf, which
 * crashes inside EGL when there is no DRM node. Here the first is asked for and the second refused;
 * nothing on the way of a draw is touched.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define USE_SURFACELESS (1 << 3)

int virgl_renderer_init(void *cookie, int flags, void *callbacks);
int virgl_renderer_get_fd_for_texture(uint32_t texture, int *fd);
int virgl_renderer_get_fd_for_texture2(uint32_t texture, int *fd, int *stride, int *offset);

int virgl_renderer_init(void *cookie, int flags, void *callbacks)
{
	int (*real)(void *, int, void *);

	*(void **)&real = dlsym(RTLD_NEXT, "virgl_renderer_init");
	if (!real)
		return -ENOSYS;
	return real(cookie, flags | USE_SURFACELESS, callbacks);
}

int virgl_renderer_get_fd_for_texture(uint32_t texture, int *fd)
{
	return -ENOTSUP;
}

int virgl_renderer_get_fd_for_texture2(uint32_t texture, int *fd, int *stride, int *offset)
{
	return -ENOTSUP;
}
