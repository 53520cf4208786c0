/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Memory shared with the client: one memfd a resource, sealed so that the client cannot shrink it
 * under us.
 *
 * Small ones are used again. The client keeps its old mapping of such a buffer as long as it likes:
 * the pool is the connection's own, so all it can reach that way is its own next buffer.
 *
 * Mesa makes an 8-byte buffer for each fence, keeps it a second, and neither reads nor writes it.
 * At a thousand frames a second that is a thousand descriptors and mappings, so all fence buffers
 * of a connection lie in one page. A client that stored something there would find its other
 * fences' bytes, and nobody else's.
 */

#include "frontend/vtest/internal.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Descriptors of small buffers kept open, in use or free; beyond it they are not pooled. */
#define VTEST_POOL_MAX_FDS (4 * VTEST_POOL_SIZE)

static int vtest_shm_new(size_t size, struct vtest_shm *ret)
{
	cleanup_close int fd = memfd_create("vtest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	void *map;

	if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
		return -errno;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	*ret = (struct vtest_shm){.map = map, .size = size, .fd = TAKE_FD(fd)};
	return 0;
}

int vtest_shm_get(struct vtest *v, size_t size, struct vtest_shm *ret)
{
	bool small = size <= VTEST_POOL_BYTES;
	int err;

	if (small && v->pool_count) {
		*ret = v->pool[--v->pool_count];
		memset(ret->map, 0, ret->size);
		return 0;
	}
	if (v->mappings >= VTEST_MAX_MAPPINGS || v->budget->mappings >= VTEST_ALL_MAPPINGS)
		return -ENOSPC;
	err = vtest_shm_new(small ? VTEST_POOL_BYTES : size, ret);
	if (err)
		return err;
	v->mappings++;
	v->budget->mappings++;
	v->pool_fds++;
	v->budget->fds++;
	return 0;
}

int vtest_shm_get_fence(struct vtest *v, struct vtest_shm *ret)
{
	if (!v->fence_page.map) {
		int err = vtest_shm_get(v, VTEST_POOL_BYTES, &v->fence_page);
		if (err)
			return err;
		v->fence_page.shared = true;
	}
	*ret = v->fence_page;
	return 0;
}

static void vtest_shm_close_fd(struct vtest *v, struct vtest_shm *shm)
{
	if (shm->fd < 0)
		return;
	close_fd(&shm->fd);
	v->pool_fds--;
	v->budget->fds--;
}

void vtest_shm_sent(struct vtest *v, struct vtest_shm *shm)
{
	if (shm->shared || (shm->size == VTEST_POOL_BYTES && v->pool_fds <= VTEST_POOL_MAX_FDS &&
				   v->budget->fds <= v->budget->max_fds))
		return;
	vtest_shm_close_fd(v, shm);
}

static void vtest_shm_free(struct vtest *v, struct vtest_shm *shm)
{
	munmap(shm->map, shm->size);
	v->mappings--;
	v->budget->mappings--;
	vtest_shm_close_fd(v, shm);
	shm->map = NULL;
}

void vtest_shm_put(struct vtest *v, struct vtest_shm *shm)
{
	if (!shm->map || shm->shared)
		return;
	if (shm->fd >= 0 && v->pool_count < VTEST_POOL_SIZE) {
		v->pool[v->pool_count++] = *shm;
		shm->map = NULL;
		return;
	}
	vtest_shm_free(v, shm);
}

void vtest_shm_finish(struct vtest *v)
{
	while (v->pool_count)
		vtest_shm_free(v, &v->pool[--v->pool_count]);
	if (v->fence_page.map)
		vtest_shm_free(v, &v->fence_page);
}
