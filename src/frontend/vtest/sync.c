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
#include "state/section.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

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
	/* An answer that is not sent yet takes the descriptor over. */
	if (!vtest_send_owns(v, wait->fd)) {
		if (!vtest_output_holds(v, KEEPER_CUSTODY_EVENT, wait->number))
			vtest_drop(v, KEEPER_CUSTODY_EVENT, wait->number);
		close_fd(&wait->fd);
	}
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
	sync->id = id;
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
	const struct vtest_pass pass = {wait->fd, KEEPER_CUSTODY_EVENT, wait->number};
	int err = vtest_reply(v, 0, VTEST_SYNC_WAIT, NULL, 0);

	return err ? err : vtest_send(v, "", 1, &pass);
}

/* The eventfd that a predecessor gave the client, or a new one. */
static int vtest_wait_open(struct vtest *v, struct vtest_wait *wait)
{
	wait->number = v->next_event++;
	wait->fd = v->replaying ? vtest_take(v, KEEPER_CUSTODY_EVENT, wait->number) : -ENOENT;
	if (wait->fd >= 0)
		return 0;
	wait->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (wait->fd < 0)
		return -errno;
	return vtest_done_before(v) ? 0
				    : vtest_put(v, KEEPER_CUSTODY_EVENT, wait->number, 0, wait->fd);
}

/* Time runs differently when messages are run again: what expired then makes room now. */
static void vtest_waits_make_room(struct vtest *v)
{
	struct vtest_wait **first = NULL;

	for (struct vtest_wait **at = &v->waits; *at; at = &(*at)->next)
		if (!first || (*at)->until_ms < (*first)->until_ms)
			first = at;
	if (first)
		vtest_wait_free(v, first);
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
	if (v->replaying && v->wait_count >= VTEST_MAX_WAITS)
		vtest_waits_make_room(v);
	if (v->wait_count >= VTEST_MAX_WAITS || v->budget->fds >= v->budget->max_fds)
		return -ENOSPC;
	wait = calloc(1, sizeof(*wait) + n * sizeof(wait->points[0]));
	if (!wait)
		return -ENOMEM;
	err = vtest_wait_open(v, wait);
	if (!err)
		err = vtest_points_read(v, dwords + 2, n, wait->points);
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

/* ---- saving and loading: nothing is pending in the device ---- */

void vtest_syncs_save(struct vtest *v, struct state_writer *w)
{
	uint32_t cursor = 0, id;
	const struct vtest_sync *sync;

	state_put_u32(w, v->syncs.count);
	while ((sync = idmap_next(&v->syncs, &cursor, &id))) {
		state_put_u32(w, id);
		state_put_u64(w, sync->value);
	}
	state_put_u32(w, v->wait_count);
	for (const struct vtest_wait *wait = v->waits; wait; wait = wait->next) {
		state_put_u64(w, wait->number);
		state_put_u64(w, wait->until_ms);
		state_put_u32(w, wait->missing);
		state_put_u32(w, wait->n);
		for (unsigned i = 0; i < wait->n; i++) {
			sync = wait->points[i].sync;
			/* A sync without a name is not set any more: id 0. */
			state_put_u32(
				w, sync && idmap_get(&v->syncs, sync->id) == sync ? sync->id : 0);
			state_put_u32(w, !sync);
			state_put_u64(w, wait->points[i].value);
		}
	}
}

static int vtest_sync_load(struct vtest *v, struct state_reader *r)
{
	struct vtest_sync *sync = calloc(1, sizeof(*sync));

	if (!sync)
		return -ENOMEM;
	sync->refs = 1;
	sync->id = state_get_u32(r);
	sync->value = state_get_u64(r);
	int err = !sync->id || state_bad(r) ? -EBADMSG : idmap_add(&v->syncs, sync->id, sync);
	if (err)
		free(sync);
	return err;
}

static int vtest_point_load(struct vtest *v, struct state_reader *r, struct vtest_point *ret)
{
	uint32_t id = state_get_u32(r);
	bool reached = state_get_u32(r);

	ret->value = state_get_u64(r);
	if (reached || state_bad(r))
		return state_bad(r) ? -EBADMSG : 0;
	ret->sync = id ? idmap_get(&v->syncs, id) : calloc(1, sizeof(*ret->sync));
	if (!ret->sync)
		return id ? -EBADMSG : -ENOMEM;
	ret->sync->refs++;
	return 0;
}

/* Appends. What is half loaded goes with the connection. */
static int vtest_wait_load(struct vtest *v, struct state_reader *r, struct vtest_wait **at)
{
	uint64_t number = state_get_u64(r), until = state_get_u64(r);
	uint32_t missing = state_get_u32(r), n = state_get_u32(r);

	if (state_bad(r) || n > VTEST_WAIT_MAX_SYNCS || !missing || missing > n ||
		v->budget->fds >= v->budget->max_fds)
		return -EBADMSG;
	struct vtest_wait *wait = calloc(1, sizeof(*wait) + n * sizeof(wait->points[0]));
	if (!wait)
		return -ENOMEM;
	wait->number = number;
	wait->until_ms = until;
	wait->missing = missing;
	wait->n = n;
	wait->fd = -1;
	*at = wait;
	v->wait_count++;
	v->budget->fds++;
	int err = 0;
	for (unsigned i = 0; i < n && !err; i++)
		err = vtest_point_load(v, r, &wait->points[i]);
	if (err)
		return err;
	wait->fd = vtest_take(v, KEEPER_CUSTODY_EVENT, number);
	if (wait->fd < 0) /* over meanwhile: the records that follow will end it again */
		wait->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return wait->fd < 0 ? -errno : vtest_output_give(v, KEEPER_CUSTODY_EVENT, number, wait->fd);
}

int vtest_syncs_load(struct vtest *v, struct state_reader *r)
{
	struct vtest_wait **at = &v->waits;
	uint32_t count = state_get_u32(r);
	int err = count > VTEST_MAX_SYNCS ? -EBADMSG : 0;

	for (uint32_t i = 0; i < count && !err; i++)
		err = vtest_sync_load(v, r);
	if (err)
		return err;
	count = state_get_u32(r);
	err = count > VTEST_MAX_WAITS ? -EBADMSG : 0;
	for (uint32_t i = 0; i < count && !err; i++) {
		err = vtest_wait_load(v, r, at);
		if (!err)
			at = &(*at)->next;
	}
	return err;
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
