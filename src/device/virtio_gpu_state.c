/* SPDX-License-Identifier: Apache-2.0 */

/*
 * client id, u64 accepted features, n backings {resource, n entries {u64 address, u32 length, u32
 * 0}}, by rising resource.
 */
#include "device/virtio_gpu_private.h"

#include "base/log.h"
#include "device/private.h"
#include "state/section.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int by_handle(const void *a, const void *b)
{
	const struct gpu_backing *x = *(struct gpu_backing *const *)a,
				 *y = *(struct gpu_backing *const *)b;
	return x->handle < y->handle ? -1 : x->handle > y->handle;
}

void virtio_gpu_save(struct virtio_gpu *gpu, struct state_writer *w)
{
	struct gpu_backing **backings = calloc(gpu->backings.count + 1u, sizeof(*backings));
	struct gpu_backing *backing;
	uint32_t cursor = 0, n = 0;

	if (!backings) {
		/* What was announced and does not come is refused by whoever loads it. */
		log_limited(&gpu->dev->log, LOG_LEVEL_WARNING, "%s: no memory to save its guest",
			gpu->dev->name);
		return;
	}
	while ((backing = idmap_next(&gpu->backings, &cursor, NULL)))
		backings[n++] = backing;
	qsort(backings, n, sizeof(*backings), by_handle);
	state_put_u32(w, device_client_id(gpu->client));
	state_put_u64(w, gpu->accepted);
	state_put_u32(w, n);
	for (uint32_t i = 0; i < n; i++) {
		state_put_u32(w, backings[i]->handle);
		state_put_u32(w, backings[i]->n);
		state_put(w, backings[i]->entries, backings[i]->n * sizeof(*backings[i]->entries));
	}
	free(backings);
}

static int load_backing(struct virtio_gpu *gpu, struct state_reader *r)
{
	uint32_t handle = state_get_u32(r), n = state_get_u32(r);

	if (!n || n > DEVICE_MAX_BACKING || !device_find_resource(gpu->client, handle))
		return -EBADMSG;
	struct gpu_backing *backing = gpu_new_backing(gpu, handle, n);
	if (!backing)
		return -ENOMEM;
	state_get(r, backing->entries, n * sizeof(*backing->entries));
	int err = state_bad(r) ? -EBADMSG : idmap_add(&gpu->backings, handle, backing);
	if (err < 0) {
		gpu_free_backing(gpu, backing);
		return err;
	}
	/* As after any change of the memory map: who has no memory any more does without. */
	err = gpu_attach(gpu, backing, device_resource_reattach);
	if (err < 0)
		log_limited(&gpu->dev->log, LOG_LEVEL_WARNING,
			"%s: resource %u lost its guest memory: %s", gpu->dev->name, handle,
			strerror(-err));
	return 0;
}

int virtio_gpu_load(struct virtio_gpu *gpu, struct state_reader *r)
{
	uint32_t id = state_get_u32(r);
	uint64_t accepted = state_get_u64(r);
	uint32_t n = state_get_u32(r);
	int err = 0;

	if (state_bad(r))
		return -EBADMSG;
	struct device_client *client = device_client_claim(gpu->dev, id);
	if (!client)
		return -ENOENT;
	/* Not a reset: the screens that were loaded stay on. */
	device_client_destroy(gpu->client);
	gpu->client = client;
	gpu->accepted = accepted & gpu->offered;
	while (n-- && !err)
		err = load_backing(gpu, r);
	if (err < 0) /* nothing is there by halves */
		device_client_reset(client);
	return err;
}
