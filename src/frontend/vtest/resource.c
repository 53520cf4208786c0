/* SPDX-License-Identifier: Apache-2.0 */

/* Resources and the movement of their contents. */

#include "frontend/vtest/internal.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "renderer/format.h"
#include "state/section.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* VIRGL_BIND_*, as virgl_hw.h numbers them. */
#define VIRGL_BIND_DISPLAY_TARGET (1u << 7)
#define VIRGL_BIND_CUSTOM         (1u << 17)
#define VIRGL_BIND_SCANOUT        (1u << 18)

#define VTEST_FENCE_SIZE 8u /* bytes */

/* The shape Mesa gives the buffer it makes for each fence, and gives to no other. */
static bool vtest_is_fence(const struct vtest_resource_create *create)
{
	return create->bind == VIRGL_BIND_CUSTOM && !create->target &&
	       create->width == VTEST_FENCE_SIZE && create->data_size == VTEST_FENCE_SIZE;
}

/*
 * The most guest-side bytes a resource can need: what it is charged for, rounded up to a page. More
 * is refused: shared memory is made by this process.
 */
static uint64_t vtest_backing_limit(const struct renderer_resource_desc *desc)
{
	const uint64_t page = 4096;
	uint64_t bytes = 0;

	return format_resource_size(desc, &bytes) ? (bytes + page - 1) & ~(page - 1) : 0;
}

static int vtest_attach_shm(struct vtest *v, struct vtest_resource *resource, uint32_t size)
{
	struct iovec iov;
	int err;

	if (resource->is_fence)
		err = vtest_shm_get_fence(v, &resource->shm);
	else
		err = vtest_shm_get(v, size, &resource->shm);
	if (err)
		return err;
	resource->backing = size;
	iov = (struct iovec){.iov_base = resource->shm.map, .iov_len = size};
	return device_resource_attach_backing(v->client, resource->handle, &iov, 1);
}

static void vtest_resource_free(struct vtest *v, struct vtest_resource *resource)
{
	vtest_shm_put(v, &resource->shm);
	free(resource);
}

/* Everything but the answer. On failure nothing is left behind. */
static int vtest_resource_make(struct vtest *v, uint32_t handle,
	const struct vtest_resource_create *create, struct vtest_resource **ret)
{
	const struct renderer_resource_desc desc = {
		.target = create->target,
		.format = create->format,
		.bind = create->bind,
		.width = create->width,
		.height = create->height,
		.depth = create->depth,
		.array_size = create->array_size,
		.last_level = create->last_level,
		.nr_samples = create->nr_samples,
	};
	struct vtest_resource *resource;
	int err;

	if (v->resources.count >= VTEST_MAX_RESOURCES)
		return -ENOSPC;
	if (create->data_size > vtest_backing_limit(&desc))
		return vtest_fail(v, -EINVAL, "asks for more shared memory than it can hold");
	resource = calloc(1, sizeof(*resource));
	if (!resource)
		return -ENOMEM;
	resource->handle = handle;
	resource->bind = create->bind;
	resource->is_fence = vtest_is_fence(create);
	err = idmap_add(&v->resources, handle, resource);
	if (err)
		goto fail_free;
	err = device_resource_create(v->client, handle, &desc);
	if (err)
		goto fail_remove;
	err = device_context_attach(v->client, VTEST_CONTEXT, handle);
	if (!err && create->data_size)
		err = vtest_attach_shm(v, resource, create->data_size);
	if (err)
		goto fail_destroy;
	*ret = resource;
	return 0;

fail_destroy:
	device_resource_destroy(v->client, handle);
fail_remove:
	idmap_remove(&v->resources, handle);
fail_free:
	vtest_resource_free(v, resource);
	return err;
}

/* The lowest unused handle from the last one on; never 0. */
static uint32_t vtest_new_handle(struct vtest *v)
{
	while (!v->next_handle || idmap_get(&v->resources, v->next_handle))
		v->next_handle++;
	return v->next_handle++;
}

static int vtest_resource_answer(struct vtest *v, uint32_t id, struct vtest_resource *resource)
{
	int err = 0;

	if (v->version >= 3)
		err = vtest_reply(v, 1, id, &resource->handle, 1);
	/* The descriptor rides with a byte of its own: a plain read() of the id would lose it. */
	if (!err && resource->shm.map) {
		const struct vtest_pass pass = {
			resource->shm.fd, KEEPER_CUSTODY_SHARED, resource->shm.number};
		err = vtest_send(v, "", 1, &pass);
		v->answered = resource;
	}
	return err;
}

static int vtest_resource_create(
	struct vtest *v, uint32_t id, const struct vtest_resource_create *create)
{
	struct vtest_resource *resource = NULL;
	uint32_t handle = create->handle;
	int err;

	if (v->version >= 3) {
		if (handle)
			return vtest_fail(
				v, -EINVAL, "since protocol 3 the server chooses handles");
		handle = vtest_new_handle(v);
	}
	if (!handle)
		return vtest_fail(v, -EINVAL, "handle 0");
	err = vtest_resource_make(v, handle, create, &resource);
	return resource ? vtest_resource_answer(v, id, resource) : err;
}

int vtest_on_resource_create(struct vtest *v, void *payload, size_t size)
{
	struct vtest_resource_create create = {0};

	memcpy(&create, payload, offsetof(struct vtest_resource_create, data_size));
	return vtest_resource_create(v, VTEST_RESOURCE_CREATE, &create);
}

int vtest_on_resource_create2(struct vtest *v, void *payload, size_t size)
{
	struct vtest_resource_create create;

	memcpy(&create, payload, sizeof(create));
	return vtest_resource_create(v, VTEST_RESOURCE_CREATE2, &create);
}

int vtest_resource_create_early(struct vtest *v, const void *payload)
{
	struct vtest_resource_create create;
	struct vtest_resource *resource = NULL;
	uint32_t handle;
	int err;

	memcpy(&create, payload, sizeof(create));
	handle = v->version >= 3 ? vtest_new_handle(v) : create.handle;
	if (!handle || (v->version >= 3 && create.handle))
		return 0;
	if (vtest_resource_make(v, handle, &create, &resource) || !resource) {
		v->reason[0] = '\0';
		return 0;
	}
	err = vtest_resource_answer(v, VTEST_RESOURCE_CREATE2, resource);
	return err ? err : 1;
}

int vtest_on_resource_unref(struct vtest *v, void *payload, size_t size)
{
	struct vtest_resource *resource;
	uint32_t handle;
	int err;

	memcpy(&handle, payload, sizeof(handle));
	resource = idmap_remove(&v->resources, handle);
	if (!resource)
		return -ENOENT;
	err = device_resource_destroy(v->client, handle);
	vtest_resource_free(v, resource);
	return err;
}

/* ---- saving and loading ---- */

enum vtest_resource_flags { RESOURCE_FENCE = 1, RESOURCE_COUNTED = 2, RESOURCE_POOLED = 4 };

void vtest_resources_save(struct vtest *v, struct state_writer *w)
{
	uint32_t cursor = 0, handle;
	const struct vtest_resource *resource;

	state_put_u32(w, v->resources.count);
	while ((resource = idmap_next(&v->resources, &cursor, &handle))) {
		const struct vtest_shm *shm = &resource->shm;
		state_put_u32(w, handle);
		state_put_u32(w, resource->bind);
		state_put_u32(w, (resource->is_fence ? RESOURCE_FENCE : 0) |
					 (resource->counted ? RESOURCE_COUNTED : 0) |
					 (shm->map && shm->fd >= 0 ? RESOURCE_POOLED : 0));
		state_put_u32(w, shm->map ? resource->backing : 0);
		state_put_u64(w, shm->map && !shm->shared ? shm->number : 0);
		state_put_u64(w, shm->map ? shm->size : 0);
	}
}

static int vtest_resource_restore(struct vtest *v, struct vtest_resource *resource, uint64_t number,
	uint64_t size, bool pooled)
{
	int err = 0;

	if (!resource->backing)
		return number || size ? -EBADMSG : 0;
	if (resource->backing > size || size > MAX(VTEST_POOL_BYTES, resource->backing))
		return -EBADMSG;
	if (number)
		err = vtest_shm_restore(v, number, size, pooled, &resource->shm);
	else if (v->fence_page.map)
		resource->shm = v->fence_page;
	else
		err = -EBADMSG;
	if (err)
		return err;
	const struct iovec iov = {resource->shm.map, resource->backing};
	return device_resource_reattach(v->client, resource->handle, &iov, 1);
}

static int vtest_resource_load(struct vtest *v, struct state_reader *r)
{
	struct vtest_resource *resource = calloc(1, sizeof(*resource));
	uint64_t number, size;
	uint32_t flags;
	int err;

	if (!resource)
		return -ENOMEM;
	resource->handle = state_get_u32(r);
	resource->bind = state_get_u32(r);
	flags = state_get_u32(r);
	resource->is_fence = flags & RESOURCE_FENCE;
	resource->counted = flags & RESOURCE_COUNTED;
	resource->backing = state_get_u32(r);
	number = state_get_u64(r);
	size = state_get_u64(r);
	err = !resource->handle || state_bad(r)
		      ? -EBADMSG
		      : idmap_add(&v->resources, resource->handle, resource);
	if (err) {
		free(resource);
		return err;
	}
	return vtest_resource_restore(v, resource, number, size, flags & RESOURCE_POOLED);
}

int vtest_resources_load(struct vtest *v, struct state_reader *r)
{
	uint32_t count = state_get_u32(r);
	int err = count > VTEST_MAX_RESOURCES ? -EBADMSG : 0;

	for (uint32_t i = 0; i < count && !err; i++)
		err = vtest_resource_load(v, r);
	return err;
}

void vtest_resources_finish(struct vtest *v)
{
	for (;;) {
		uint32_t cursor = 0, id;
		struct vtest_resource *resource = idmap_next(&v->resources, &cursor, &id);
		if (!resource)
			break;
		idmap_remove(&v->resources, id);
		vtest_resource_free(v, resource);
	}
	idmap_finish(&v->resources);
}

static int vtest_transfer(struct vtest *v, enum device_transfer_direction direction,
	const struct renderer_transfer *t)
{
	struct vtest_resource *resource = idmap_get(&v->resources, t->resource_id);

	if (!resource)
		return -ENOENT;
	if (direction == DEVICE_TO_HOST)
		v->work++;
	if (direction == DEVICE_FROM_HOST &&
		(resource->bind & (VIRGL_BIND_DISPLAY_TARGET | VIRGL_BIND_SCANOUT))) {
		v->display_frames = true;
		vtest_count_frame(v);
	}
	return device_transfer(v->client, direction, t);
}

static int vtest_transfer_shared(
	struct vtest *v, enum device_transfer_direction direction, const void *payload)
{
	struct vtest_transfer2 t;

	memcpy(&t, payload, sizeof(t));
	return vtest_transfer(v, direction,
		&(struct renderer_transfer){
			.ctx_id = VTEST_CONTEXT,
			.resource_id = t.handle,
			.level = t.level,
			.box = {t.x, t.y, t.z, t.width, t.height, t.depth},
			.offset = t.offset,
		});
}

int vtest_on_transfer_get2(struct vtest *v, void *payload, size_t size)
{
	return vtest_transfer_shared(v, DEVICE_FROM_HOST, payload);
}

int vtest_on_transfer_put2(struct vtest *v, void *payload, size_t size)
{
	return vtest_transfer_shared(v, DEVICE_TO_HOST, payload);
}

/* `iov` holds the bytes that are, or will be, inside the stream. */
static int vtest_transfer_inline(struct vtest *v, enum device_transfer_direction direction,
	const struct vtest_transfer *t, const struct iovec *iov)
{
	if (!t->data_size)
		return vtest_fail(v, -EINVAL, "no data");
	return vtest_transfer(v, direction,
		&(struct renderer_transfer){
			.ctx_id = VTEST_CONTEXT,
			.resource_id = t->handle,
			.level = t->level,
			.stride = t->stride,
			.layer_stride = t->layer_stride,
			.box = {t->x, t->y, t->z, t->width, t->height, t->depth},
			.iov = iov,
			.n_iov = 1,
		});
}

int vtest_on_transfer_put(struct vtest *v, void *payload, size_t size)
{
	struct vtest_transfer t;
	struct iovec iov;

	memcpy(&t, payload, sizeof(t));
	iov.iov_base = (uint8_t *)payload + sizeof(t);
	iov.iov_len = t.data_size;
	return vtest_transfer_inline(v, DEVICE_TO_HOST, &t, &iov);
}

int vtest_on_transfer_get(struct vtest *v, void *payload, size_t size)
{
	struct vtest_transfer t;
	struct iovec iov;
	int err;

	memcpy(&t, payload, sizeof(t));
	if (t.data_size > VTEST_INLINE_MAX)
		return vtest_fail(v, -EINVAL, "more than %u bytes", VTEST_INLINE_MAX);
	if (!idmap_get(&v->resources, t.handle))
		return -ENOENT;
	cleanup_free void *data = calloc(1, MAX(t.data_size, 1u));
	if (!data)
		return -ENOMEM;
	iov = (struct iovec){.iov_base = data, .iov_len = t.data_size};
	err = vtest_transfer_inline(v, DEVICE_FROM_HOST, &t, &iov);
	/* Raw bytes: this answer has no header. */
	return err ? err : vtest_send(v, data, t.data_size, NULL);
}
