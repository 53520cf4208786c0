/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Memory shared with the client: one memfd a resource, sealed so that the client cannot shrink it
 * under us. It takes up the vGPU's VRAM: it is the node's memory, made because the client asked.
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
#include "state/section.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int vtest_shm_make(size_t size, int *ret_fd)
{
	cleanup_close int fd = memfd_create("vtest", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
		return -errno;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* What a predecessor shared: refused if reading it could end us. */
static int vtest_shm_check(int fd, size_t size)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;

	if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(fd, &st) < 0)
		return -EBADMSG;
	return (uint64_t)st.st_size == size ? 0 : -EBADMSG;
}

/*
 * A predecessor's memory of that number, or new memory: then it is put into custody, unless it is
 * only a dummy for memory that the predecessor let go of later on.
 */
static int vtest_shm_open(struct vtest *v, uint64_t number, size_t size, bool dummy, int *ret_fd)
{
	cleanup_close int fd = v->frozen ? vtest_take(v, KEEPER_CUSTODY_SHARED, number) : -ENOENT;
	int err;

	if (fd >= 0) {
		err = vtest_shm_check(fd, size);
	} else {
		err = vtest_shm_make(size, &fd);
		if (!err && !dummy)
			err = vtest_put(v, KEEPER_CUSTODY_SHARED, number, size, fd);
	}
	if (!err)
		*ret_fd = TAKE_FD(fd);
	return err;
}

/* Whole pages, and the kernel's records of the file and the mapping. */
static uint64_t vtest_shm_cost(size_t size)
{
	const uint64_t page = 4096, records = 1024;

	return (((uint64_t)size + page - 1) & ~(page - 1)) + records;
}

static int vtest_shm_new(
	struct vtest *v, uint64_t number, size_t size, bool dummy, struct vtest_shm *ret)
{
	cleanup_close int fd = -1;
	void *map;

	if (v->mappings >= VTEST_MAX_MAPPINGS || v->budget->mappings >= VTEST_ALL_MAPPINGS)
		return -ENOSPC;
	int err = device_client_charge(v->client, vtest_shm_cost(size));
	if (err)
		return err;
	err = vtest_shm_open(v, number, size, dummy, &fd);
	if (err)
		goto uncharge;
	map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED) {
		err = -errno;
		goto uncharge;
	}
	*ret = (struct vtest_shm){.map = map, .size = size, .number = number, .fd = TAKE_FD(fd)};
	v->mappings++;
	v->budget->mappings++;
	v->pool_fds++;
	v->budget->fds++;
	return 0;

uncharge:
	device_uncharge(v->dev, vtest_shm_cost(size));
	return err;
}

/*
 * Which memory is used depends on nothing but this connection's messages, so that running them
 * again comes to the same.
 */
int vtest_shm_get(struct vtest *v, size_t size, struct vtest_shm *ret)
{
	bool small = size <= VTEST_POOL_BYTES;

	if (small && v->pool_count) {
		*ret = v->pool[--v->pool_count];
		/* If its record was executed, the client has it back and has written to it since.
		 */
		if (!vtest_done_before(v))
			memset(ret->map, 0, ret->size);
		return 0;
	}
	return vtest_shm_new(
		v, v->next_shared++, small ? VTEST_POOL_BYTES : size, vtest_done_before(v), ret);
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
	/* With `keep`, pool_max is this connection's share of the budget: see vtest_shm_get(). */
	if (shm->shared || (shm->size == VTEST_POOL_BYTES && v->pool_fds <= v->pool_max &&
				   (v->keep || v->budget->fds <= v->budget->max_fds)))
		return;
	vtest_shm_close_fd(v, shm);
}

static void vtest_shm_free(struct vtest *v, struct vtest_shm *shm)
{
	munmap(shm->map, shm->size);
	device_uncharge(v->dev, vtest_shm_cost(shm->size));
	v->mappings--;
	v->budget->mappings--;
	vtest_shm_close_fd(v, shm);
	if (!vtest_output_holds(v, KEEPER_CUSTODY_SHARED, shm->number))
		vtest_drop(v, KEEPER_CUSTODY_SHARED, shm->number);
	shm->map = NULL;
}

void vtest_shm_put(struct vtest *v, struct vtest_shm *shm)
{
	if (!shm->map || shm->shared)
		return;
	if (shm->fd >= 0 && shm->size == VTEST_POOL_BYTES && v->pool_count < VTEST_POOL_SIZE) {
		v->pool[v->pool_count++] = *shm;
		shm->map = NULL;
		return;
	}
	vtest_shm_free(v, shm);
}

/* ---- saving and loading ---- */

int vtest_shm_restore(
	struct vtest *v, uint64_t number, size_t size, bool pooled, struct vtest_shm *ret)
{
	if (!number || number >= v->next_shared || !size || (pooled && size != VTEST_POOL_BYTES))
		return -EBADMSG;
	int err = vtest_shm_new(v, number, size, true, ret);
	if (err)
		return err;
	err = vtest_output_give(v, KEEPER_CUSTODY_SHARED, number, ret->fd);
	if (!pooled)
		vtest_shm_close_fd(v, ret);
	return err;
}

void vtest_shm_save(struct vtest *v, struct state_writer *w)
{
	state_put_u32(w, v->pool_max);
	state_put_u64(w, v->fence_page.map ? v->fence_page.number : 0);
	state_put_u32(w, v->pool_count);
	for (unsigned i = 0; i < v->pool_count; i++)
		state_put_u64(w, v->pool[i].number);
}

int vtest_shm_load(struct vtest *v, struct state_reader *r)
{
	uint32_t pool_max = state_get_u32(r);
	uint64_t page = state_get_u64(r);
	uint32_t count = state_get_u32(r);
	int err = 0;

	if (pool_max > VTEST_POOL_MAX_FDS || count > VTEST_POOL_SIZE)
		return -EBADMSG;
	v->pool_max = pool_max;
	if (page) {
		err = vtest_shm_restore(v, page, VTEST_POOL_BYTES, true, &v->fence_page);
		v->fence_page.shared = true;
	}
	for (uint32_t i = 0; i < count && !err; i++) {
		err = vtest_shm_restore(v, state_get_u64(r), VTEST_POOL_BYTES, true, &v->pool[i]);
		v->pool_count += v->pool[i].map != NULL;
	}
	return err;
}

void vtest_shm_finish(struct vtest *v)
{
	while (v->pool_count)
		vtest_shm_free(v, &v->pool[--v->pool_count]);
	if (v->fence_page.map)
		vtest_shm_free(v, &v->fence_page);
}
