/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Protocol 3's timelines. A sync is a 64-bit value that only the connection sees; SYNC_WRITE and
 * completed batches of SUBMIT_CMD2 set it, and SYNC_WAIT answers with an eventfd that becomes
 * readable once values were reached. A wait that timed out is forgotten when the next one is made.
 */

#include "frontend/vtest/internal.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

struct vtest_sync {
	unsigned refs;
	uint64_t value;
};

struct vtest_point {
	struct vtest_sync *sync; /* a reference; NULL: reached */
	uint64_t value;
};

struct vtest_wait {
	struct vtest_wait *next;
	int fd;
	uint64_t until_ms; /* UINT64_MAX: for ever */
	unsigned missing;  /* points that must still be reached */
	unsigned n;
	struct vtest_point points[];
};

struct vtest_submit_fence {
	struct device_fence fence;
	struct vtest *v;
	unsigned n;
	struct vtest_point points[];
};

static void vtest_sync_release(struct vtest_sync *sync)
{
	if (sync && --sync->refs == 0)
		free(sync);
}

static void vtest_points_release(struct vtest_point *points, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		vtest_sync_release(points[i].sync);
}

/* Reads n {id, value} triples; on failure no reference is held. */
static int vtest_points_read(
	struct vtest *v, const uint32_t *dwords, unsigned n, struct vtest_point *ret)
{
	for (unsigned i = 0; i < n; i++) {
		struct vtest_sync *sync = idmap_get(&v->syncs, dwords[3 * i]);
		if (!sync) {
			vtest_points_release(ret, i);
			return vtest_fail(v, -ENOENT, "unknown sync");
		}
		sync->refs++;
		ret[i].sync = sync;
		ret[i].value = dwords[3 * i + 1] | (uint64_t)dwords[3 * i + 2] << 32;
	}
	return 0;
}

static void vtest_wait_free(struct vtest *v, struct vtest_wait **at)
{
	struct vtest_wait *wait = *at;

	*at = wait->next;
	vtest_points_release(wait->points, wait->n);
	close_fd(&wait->fd);
	free(wait);
	v->wait_count--;
	v->budget->fds--;
}

/* Marks what is reached; true when the wait is over. */
static bool vtest_wait_check(struct vtest_wait *wait)
{
	for (unsigned i = 0; i < wait->n && wait->missing; i++) {
		struct vtest_point *point = &wait->points[i];
		if (!point->sync || point->sync->value < point->value)
			continue;
		vtest_sync_release(point->sync);
		point->sync = NULL;
		wait->missing--;
	}
	return !wait->missing;
}

static void vtest_wait_signal(const struct vtest_wait *wait)
{
	/* The client holds the same eventfd and can fill it up: then it is readable anyway. */
	(void)!eventfd_write(wait->fd, 1);
}

static void vtest_sync_set(struct vtest *v, struct vtest_sync *sync, uint64_t value)
{
	sync->value = value;
	for (struct vtest_wait **at = &v->waits; *at;) {
		if (vtest_wait_check(*at)) {
			vtest_wait_signal(*at);
			vtest_wait_free(v, at);
		} else {
			at = &(*at)->next;
		}
	}
}

static void vtest_waits_expire(struct vtest *v)
{
	uint64_t now = clock_ms();

	for (struct vtest_wait **at = &v->waits; *at;) {
		if ((*at)->until_ms <= now)
			vtest_wait_free(v, at);
		else
			at = &(*at)->next;
	}
}

int vtest_on_sync_create(struct vtest *v, void *payload, size_t size)
{
	struct vtest_sync *sync;
	uint32_t id;
	int err;

	if (v->syncs.count >= VTEST_MAX_SYNCS)
		return -ENOSPC;
	sync = calloc(1, sizeof(*sync));
	if (!sync)
		return -ENOMEM;
	sync->refs = 1;
	memcpy(&sync->value, payload, sizeof(sync->value));
	while (!v->next_sync || idmap_get(&v->syncs, v->next_sync))
		v->next_sync++;
	id = v->next_sync++;
	err = idmap_add(&v->syncs, id, sync);
	if (err) {
		free(sync);
		return err;
	}
	return vtest_reply(v, 1, VTEST_SYNC_CREATE, &id, 1);
}

int vtest_on_sync_unref(struct vtest *v, void *payload, size_t size)
{
	uint32_t id;
	struct vtest_sync *sync;

	memcpy(&id, payload, sizeof(id));
	sync = idmap_remove(&v->syncs, id);
	if (!sync)
		return -ENOENT;
	vtest_sync_release(sync);
	return 0;
}

int vtest_on_sync_read(struct vtest *v, void *payload, size_t size)
{
	uint32_t id, answer[2];
	const struct vtest_sync *sync;

	memcpy(&id, payload, sizeof(id));
	sync = idmap_get(&v->syncs, id);
	if (!sync)
		return -ENOENT;
	memcpy(answer, &sync->value, sizeof(answer));
	return vtest_reply(v, 2, VTEST_SYNC_READ, answer, 2);
}

int vtest_on_sync_write(struct vtest *v, void *payload, size_t size)
{
	uint32_t dwords[3];
	struct vtest_sync *sync;

	memcpy(dwords, payload, sizeof(dwords));
	sync = idmap_get(&v->syncs, dwords[0]);
	if (!sync)
		return -ENOENT;
	vtest_sync_set(v, sync, dwords[1] | (uint64_t)dwords[2] << 32);
	return 0;
}

static int vtest_wait_answer(struct vtest *v, const struct vtest_wait *wait)
{
	int err = vtest_reply(v, 0, VTEST_SYNC_WAIT, NULL, 0);

	return err ? err : vtest_send(v, "", 1, wait->fd);
}

int vtest_on_sync_wait(struct vtest *v, void *payload, size_t size)
{
	const uint32_t *dwords = payload;
	unsigned n = (unsigned)(size / 4 - 2) / 3;
	struct vtest_wait *wait;
	int err;

	if ((size / 4 - 2) % 3)
		return vtest_fail(v, -EINVAL, "length is not 2 + 3 n");
	vtest_waits_expire(v);
	if (v->wait_count >= VTEST_MAX_WAITS || v->budget->fds >= v->budget->max_fds)
		return -ENOSPC;
	wait = calloc(1, sizeof(*wait) + n * sizeof(wait->points[0]));
	if (!wait)
		return -ENOMEM;
	wait->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	err = wait->fd < 0 ? -errno : vtest_points_read(v, dwords + 2, n, wait->points);
	if (err) {
		close_fd(&wait->fd);
		free(wait);
		return err;
	}
	wait->n = n;
	wait->missing = dwords[0] & VTEST_SYNC_WAIT_FLAG_ANY ? MIN(n, 1u) : n;
	wait->until_ms = dwords[1] > INT_MAX ? UINT64_MAX : clock_ms() + dwords[1];
	wait->next = v->waits;
	v->waits = wait;
	v->wait_count++;
	v->budget->fds++;
	bool over = vtest_wait_check(wait);
	if (over)
		vtest_wait_signal(wait);
	err = vtest_wait_answer(v, wait);
	if (over || err || !dwords[1])
		vtest_wait_free(v, &v->waits);
	return err;
}

static void vtest_submit_fence_done(struct device_fence *fence)
{
	struct vtest_submit_fence *submit = container_of(fence, struct vtest_submit_fence, fence);
	struct vtest *v = submit->v;

	for (unsigned i = 0; i < submit->n; i++)
		vtest_sync_set(v, submit->points[i].sync, submit->points[i].value);
	vtest_points_release(submit->points, submit->n);
	free(submit);
	v->fence_count--;
}

/* Sets syncs once the work so far is complete; without a ring, once it was executed. */
static int vtest_submit_signal(
	struct vtest *v, const struct vtest_batch *batch, const uint32_t *dwords)
{
	struct vtest_submit_fence *submit;
	int err;

	/* Not vtest_finish_work(): without new work that would leave the fences waiting. */
	if (v->fence_count >= VTEST_MAX_FENCES) {
		device_finish(v->client, VTEST_CONTEXT);
		v->work_done = v->work;
	}
	submit = calloc(1, sizeof(*submit) + batch->sync_count * sizeof(submit->points[0]));
	if (!submit)
		return -ENOMEM;
	err = vtest_points_read(v, dwords, batch->sync_count, submit->points);
	if (err) {
		free(submit);
		return err;
	}
	submit->v = v;
	submit->n = batch->sync_count;
	submit->fence.done = vtest_submit_fence_done;
	v->fence_count++;
	if (!(batch->flags & VTEST_SUBMIT_FLAG_RING_IDX)) {
		vtest_submit_fence_done(&submit->fence);
		return 0;
	}
	err = device_fence(v->client, VTEST_CONTEXT, &submit->fence);
	if (err) {
		vtest_points_release(submit->points, submit->n);
		free(submit);
		v->fence_count--;
	}
	return err;
}

static int vtest_submit_batch(
	struct vtest *v, uint32_t *dwords, size_t n, const struct vtest_batch *batch)
{
	int err = 0;

	if (batch->flags & ~VTEST_SUBMIT_FLAG_RING_IDX)
		return vtest_fail(v, -EOPNOTSUPP, "batch flags 0x%x", batch->flags);
	if (batch->ring_idx >= VTEST_MAX_TIMELINE_COUNT ||
		!range_inside(batch->cmd_offset, batch->cmd_size, n) ||
		batch->sync_count > VTEST_WAIT_MAX_SYNCS ||
		!range_inside(batch->sync_offset, 3ull * batch->sync_count, n))
		return vtest_fail(v, -EINVAL, "a batch points outside the message");
	if (batch->cmd_size) {
		v->work++;
		err = device_submit(
			v->client, VTEST_CONTEXT, dwords + batch->cmd_offset, batch->cmd_size);
	}
	if (!err && batch->sync_count)
		err = vtest_submit_signal(v, batch, dwords + batch->sync_offset);
	return err;
}

int vtest_on_submit_cmd2(struct vtest *v, void *payload, size_t size)
{
	uint32_t *dwords = payload;
	size_t n = size / 4;
	uint64_t count = dwords[0], run = 0;

	/* The last batch may be cut off after its last field. */
	if (count > VTEST_MAX_BATCHES)
		return vtest_fail(v, -EINVAL, "%u batches", dwords[0]);
	if (count && !range_inside(1 + (count - 1) * VTEST_BATCH_DWORDS,
			     sizeof(struct vtest_batch) / 4, n))
		return vtest_fail(v, -EINVAL, "%u batches do not fit", dwords[0]);
	/* A submit changes its dwords, perhaps those of a later batch: each is checked when used.
	 */
	for (uint64_t i = 0; i < count; i++) {
		struct vtest_batch batch;
		memcpy(&batch, dwords + 1 + i * VTEST_BATCH_DWORDS, sizeof(batch));
		/* Batches may share dwords, but not to run more of them than were sent. */
		run += batch.cmd_size;
		int err = run > n ? -EINVAL : vtest_submit_batch(v, dwords, n, &batch);
		if (err)
			return err;
	}
	return 0;
}

void vtest_syncs_finish(struct vtest *v)
{
	while (v->waits)
		vtest_wait_free(v, &v->waits);
	for (;;) {
		uint32_t cursor = 0, id;
		struct vtest_sync *sync = idmap_next(&v->syncs, &cursor, &id);
		if (!sync)
			break;
		idmap_remove(&v->syncs, id);
		vtest_sync_release(sync);
	}
	idmap_finish(&v->syncs);
}
