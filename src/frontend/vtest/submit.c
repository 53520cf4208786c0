/* SPDX-License-Identifier: Apache-2.0 */

/* Command streams, and waiting for them. */

#include "frontend/vtest/internal.h"

#include "base/checked.h"

#include <errno.h>
#include <string.h>

/* VIRGL_BIND_* of buffers whose contents or very existence says that earlier work is complete. */
#define VTEST_BIND_COMPLETION                                                                      \
	((1u << 15) /* QUERY_BUFFER */ | (1u << 17) /* CUSTOM */ | (1u << 19) /* STAGING */)

int vtest_on_submit_cmd(struct vtest *v, void *payload, size_t size)
{
	bool frame_ends = v->frame_ends;

	v->frame_ends = false;
	if (!size)
		return 0;
	v->work++;
	int err = device_submit(v->client, VTEST_CONTEXT, payload, size / 4);
	/* The client will wait for it; until that is heard of, a good part of it can be drawn. */
	if (!err && frame_ends)
		device_start_drawing(v->client);
	return err;
}

static void vtest_busy_fence_done(struct device_fence *fence)
{
	struct vtest *v = container_of(fence, struct vtest, busy_fence);

	v->busy_fence_armed = false;
	v->work_done = MAX(v->work_done, v->busy_fence_work);
}

/* Without blocking: is something submitted still incomplete? Asks for a fence if there is none. */
static int vtest_is_busy(struct vtest *v, bool *ret)
{
	if (v->work_done != v->work && !v->busy_fence_armed) {
		v->busy_fence = (struct device_fence){.done = vtest_busy_fence_done};
		v->busy_fence_work = v->work;
		v->busy_fence_armed = true;
		int err = device_fence(v->client, VTEST_CONTEXT, &v->busy_fence);
		if (err) {
			v->busy_fence_armed = false;
			return err;
		}
	}
	if (v->busy_fence_armed)
		device_poll(v->dev);
	*ret = v->work_done != v->work;
	return 0;
}

/* Waits until everything submitted is complete. */
static void finish_work(struct vtest *v)
{
	if (v->work_done == v->work)
		return;
	device_finish(v->client, VTEST_CONTEXT);
	v->work_done = v->work;
}

int vtest_on_busy_wait(struct vtest *v, void *payload, size_t size)
{
	struct vtest_resource *resource;
	uint32_t handle, flags, answer;
	bool busy = false;
	int err = 0;

	memcpy(&handle, payload, sizeof(handle));
	memcpy(&flags, (const uint8_t *)payload + 4, sizeof(flags));
	resource = idmap_get(&v->resources, handle);
	if (!v->has_context && handle)
		return -ENOENT;
	if (v->has_context && (!resource || (resource->bind & VTEST_BIND_COMPLETION))) {
		v->linger.frame_over = flags & VTEST_BUSY_WAIT_FLAG_WAIT;
		if (v->linger.frame_over)
			finish_work(v);
		else
			err = vtest_is_busy(v, &busy);
	}
	if (err)
		return err;
	if (v->has_context && device_context_lost(v->client, VTEST_CONTEXT))
		return -EIO;
	if (resource && resource->is_fence && !resource->counted && !busy) {
		resource->counted = true;
		if (!v->display_frames)
			vtest_count_frame(v);
	}
	answer = busy;
	return vtest_reply(v, 1, VTEST_RESOURCE_BUSY_WAIT, &answer, 1);
}
