/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A connection that outlives its process. In the order in which a message is handled, and what a
 * successor does when the process ended there:
 *
 *   received    its bytes lie in the wire: it handles them
 *   recorded    the record counts as consumed; it executes it, and takes from custody whatever the
 *               predecessor had put there for it
 *   executed    answers were produced but not sent: it produces them again
 *   marked      it executes the record again, inside only, and produces the answers again
 *   sent        as many bytes of answers as were sent are dropped
 *
 * A RESOURCE_CREATE2 that is answered ahead of its turn has a record of its own before that of the
 * submit it overtakes, with its place in the stream in front; when its turn comes, a record without
 * bytes moves the position over it.
 *
 * For this to come to the same, handling depends on messages only: which shared memory and which
 * numbers are used does not depend on other connections or on time. What does depend on time (is
 * something still busy, the value of a timeline) changes no length of an answer.
 */

#include "frontend/vtest/internal.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "state/section.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#define VTEST_SECTION_VERSION 1u
/* Connections that may share the budget of descriptors. */
#define VTEST_KEEP_SHARES 256u
/* Images that are waited for in vain. */
#define VTEST_KEEP_TRIES 16u

int vtest_keep(struct vtest *v, const struct frontend_keep *keep, uint32_t connection)
{
	v->keep = keep;
	v->connection = connection;
	v->pool_max = MIN(VTEST_POOL_MAX_FDS, v->budget->max_fds / VTEST_KEEP_SHARES);
	/* The wire is made when the first byte comes: a predecessor's may be there to be loaded. */
	return 0;
}

/* ---- custody ---- */

static struct keeper_custody vtest_custody(
	const struct vtest *v, uint32_t kind, uint64_t number, uint64_t size)
{
	return (struct keeper_custody){
		.kind = kind, .index = v->connection, .a = number, .b = size};
}

int vtest_put(struct vtest *v, uint32_t kind, uint64_t number, uint64_t size, int fd)
{
	const struct keeper_custody what = vtest_custody(v, kind, number, size);

	return v->keep ? v->keep->put(v->keep->data, &what, fd) : 0;
}

void vtest_drop(struct vtest *v, uint32_t kind, uint64_t number)
{
	const struct keeper_custody what = vtest_custody(v, kind, number, 0);

	if (v->keep)
		v->keep->drop(v->keep->data, &what);
}

int vtest_take(struct vtest *v, uint32_t kind, uint64_t number)
{
	struct keeper_custody what = vtest_custody(v, kind, number, 0);

	return v->keep ? v->keep->take(v->keep->data, &what) : -ENOENT;
}

/* ---- the journal ---- */

static struct journal *vtest_journal(const struct vtest *v)
{
	return v->keep ? v->keep->journal(v->keep->data) : NULL;
}

/* Until there was an image. A new journal without room, or no image for long, is the end. */
static int vtest_wait_for_room(struct vtest *v, const struct journal *journal)
{
	uint64_t bytes = journal_bytes(journal);

	if (v->full_journal && (v->full_journal != journal || bytes < v->full_bytes))
		return vtest_fail(v, -ENOBUFS, "a message is larger than the journal");
	if (v->full_tries++ >= VTEST_KEEP_TRIES)
		return vtest_fail(v, -ENOBUFS, "the journal is full and no image can be made");
	v->full_journal = journal;
	v->full_bytes = bytes;
	if (!v->image_due)
		v->keep->image_due(v->keep->data);
	v->image_due = v->waiting = true;
	return 0;
}

int vtest_record(struct vtest *v, enum journal_kind kind, uint64_t position, uint64_t early_at,
	const void *bytes, size_t size)
{
	struct journal *journal = vtest_journal(v);
	const struct iovec parts[] = {
		{&early_at, early_at ? sizeof(early_at) : 0},
		{(void *)(uintptr_t)bytes, size},
	};
	int err;

	if (!journal)
		return 1;
	if (journal_due(journal, size)) {
		v->image_due = true;
		v->keep->image_due(v->keep->data);
	}
	err = journal_record(journal, kind, v->connection, position, parts, ARRAY_SIZE(parts));
	if (err == -ENOSPC)
		return vtest_wait_for_room(v, journal);
	v->full_journal = NULL;
	v->full_tries = 0;
	return err < 0 ? vtest_fail(v, err, "the journal cannot be written") : 1;
}

void vtest_executed(struct vtest *v)
{
	journal_executed(vtest_journal(v));
}

void vtest_count_frame(struct vtest *v)
{
	if (!vtest_done_before(v))
		v->hold_ns = device_client_frame(v->client);
}

/* ---- running a predecessor's records ---- */

/* A private copy of the message: running it may change it, and the journal is not only ours. */
static int vtest_replay_message(
	struct vtest *v, const uint8_t *bytes, size_t size, uint32_t *ret_id, void **ret)
{
	cleanup_free void *message = size ? malloc(size) : NULL;
	size_t whole = 0;

	if (!message)
		return size ? -ENOMEM : -EBADMSG;
	memcpy(message, bytes, size);
	int r = vtest_message_parse(v, message, size, ret_id, &whole);
	if (r < 0)
		return r;
	if (!r || whole != size)
		return vtest_fail(v, -EBADMSG, "a record is no message");
	*ret = TAKE_PTR(message);
	return 0;
}

static int vtest_replay_plain(struct vtest *v, const struct journal_record *record)
{
	cleanup_free void *message = NULL;
	uint64_t end;
	uint32_t id;

	if (!checked_add(v->in.consumed, record->size, &end) || record->position != end)
		return vtest_fail(v, -EBADMSG, "a record does not follow the one before");
	if (v->early_at && v->early_at == v->in.consumed)
		return vtest_fail(v, -EBADMSG, "an early answer could not be repeated");
	int err = vtest_replay_message(v, record->bytes, record->size, &id, &message);
	if (err)
		return err;
	v->in.consumed = end;
	return vtest_run(v, id, message, record->size);
}

static int vtest_replay_early(struct vtest *v, const struct journal_record *record)
{
	cleanup_free void *message = NULL;
	uint64_t at;
	uint32_t id;

	if (record->size < sizeof(at) || record->position != v->in.consumed || v->early_at)
		return vtest_fail(v, -EBADMSG, "a record does not follow the one before");
	memcpy(&at, record->bytes, sizeof(at));
	int err = vtest_replay_message(v, (const uint8_t *)record->bytes + sizeof(at),
		record->size - sizeof(at), &id, &message);
	if (err)
		return err;
	if (id != VTEST_RESOURCE_CREATE2 || at <= v->in.consumed || v->version < 2 ||
		!v->has_context)
		return vtest_fail(v, -EBADMSG, "a record is not what it says");
	err = vtest_resource_create_early(v, (uint8_t *)message + VTEST_HEADER_SIZE);
	if (err > 0)
		v->early_at = at;
	return MIN(err, 0);
}

static int vtest_replay_skip(struct vtest *v, const struct journal_record *record)
{
	if (!v->early_at || v->early_at != v->in.consumed || record->position <= v->in.consumed)
		return vtest_fail(v, -EBADMSG, "an early answer could not be repeated");
	v->in.consumed = record->position;
	v->early_at = 0;
	return 0;
}

int vtest_replay(struct vtest *v, const struct journal_record *record)
{
	static int (*const run[JOURNAL_KIND_COUNT])(
		struct vtest *, const struct journal_record *) = {
		[JOURNAL_VTEST] = vtest_replay_plain,
		[JOURNAL_VTEST_EARLY] = vtest_replay_early,
		[JOURNAL_VTEST_SKIP] = vtest_replay_skip,
	};
	int err;

	if (!v->frozen || record->kind >= JOURNAL_KIND_COUNT || !run[record->kind])
		return -EINVAL;
	if (v->state == VTEST_STATE_ENDED)
		return -ESHUTDOWN;
	v->replaying = true;
	v->replay_executed = record->executed;
	err = run[record->kind](v, record);
	if (!err)
		err = vtest_answer(v);
	v->replaying = v->replay_executed = false;
	if (err < 0)
		v->state = VTEST_STATE_ENDED;
	return err;
}

/* ---- freezing ---- */

void vtest_freeze(struct vtest *v)
{
	v->frozen = true;
	loop_remove(v->source);
	v->source = NULL;
}

static int vtest_go_on(struct vtest *v)
{
	int err = v->in.foreign ? vtest_input_adopt(v) : 0;

	if (err || v->state == VTEST_STATE_ENDED)
		return err;
	/* A socket that can be written to brings about a turn at once. */
	v->epoll_events = EPOLLIN | EPOLLOUT;
	return loop_add_fd(v->loop, v->fd, v->epoll_events, vtest_event, v, &v->source);
}

void vtest_thaw(struct vtest *v)
{
	bool ended = v->state == VTEST_STATE_ENDED;
	int err;

	if (!v->frozen)
		return;
	v->frozen = v->waiting = v->image_due = v->held = false;
	v->hold_ns = 0;
	/* What was run again is done; before that shows outside it must not be run once more. */
	vtest_executed(v);
	err = vtest_go_on(v);
	if (err < 0)
		vtest_fail(v, err, "the connection cannot go on (%s)", strerror(-err));
	/* It ended while records were run: after the answers, as it would have. */
	if (ended && err >= 0)
		(void)vtest_output_flush(v);
	if (ended || err < 0)
		vtest_end(v);
}

bool vtest_pending(struct vtest *v)
{
	uint8_t *message;
	uint32_t id;
	size_t size;

	if (v->state == VTEST_STATE_ENDED)
		return false;
	/* A malformed one is handled, too: it ends the connection. */
	return v->out.first || v->in.foreign || vtest_input_peek(v, 0, &id, &message, &size) != 0;
}

/* ---- saving and loading ---- */

void vtest_save(struct vtest *v, struct state_writer *w)
{
	if (v->fence_count || v->busy_fence_armed)
		device_finish(v->client, VTEST_CONTEXT);
	state_put_u32(w, VTEST_SECTION_VERSION);
	state_put_u32(w, device_client_id(v->client));
	state_put_u32(w, v->state);
	state_put_u32(w, v->version);
	state_put_u32(w, v->has_context);
	state_put_u32(w, v->capset);
	state_put_u32(w, v->display_frames);
	state_put(w, v->name, sizeof(v->name));
	state_put_u64(w, v->in.consumed);
	state_put_u64(w, v->early_at);
	state_put_u32(w, v->next_handle);
	state_put_u32(w, v->next_sync);
	state_put_u64(w, v->next_shared);
	state_put_u64(w, v->next_event);
	state_put_u64(w, v->out.produced - v->out.bytes);
	vtest_output_save(v, w);
	vtest_shm_save(v, w);
	vtest_resources_save(v, w);
	vtest_syncs_save(v, w);
}

static int vtest_load_client(struct vtest *v, struct state_reader *r)
{
	if (state_get_u32(r) != VTEST_SECTION_VERSION)
		return state_bad(r) ? -EBADMSG : -ENOTSUP;
	struct device_client *client = device_client_claim(v->dev, state_get_u32(r));
	if (!client)
		return -EBADMSG;
	device_client_destroy(v->client);
	v->client = client;
	return 0;
}

static int vtest_load_session(struct vtest *v, struct state_reader *r)
{
	uint32_t state = state_get_u32(r);

	v->version = state_get_u32(r);
	v->has_context = state_get_u32(r);
	v->capset = state_get_u32(r);
	v->display_frames = state_get_u32(r);
	state_get(r, v->name, sizeof(v->name));
	v->name[sizeof(v->name) - 1] = '\0';
	v->in.consumed = state_get_u64(r);
	v->early_at = state_get_u64(r);
	v->next_handle = state_get_u32(r);
	v->next_sync = state_get_u32(r);
	v->next_shared = state_get_u64(r);
	v->next_event = state_get_u64(r);
	v->out.produced = state_get_u64(r);
	if (state_bad(r) || state >= VTEST_STATE_ENDED || v->version > VTEST_VERSION_MAX ||
		v->version == 1 || !v->next_shared || !v->next_event)
		return -EBADMSG;
	v->state = state;
	return 0;
}

static int vtest_load_wire(struct vtest *v)
{
	int fd = vtest_take(v, KEEPER_CUSTODY_WIRE, 0);

	/* Nothing was received before: everything is as the section says. */
	v->in.received = v->in.consumed;
	v->out.sent_already = v->out.produced;
	return fd < 0 ? 0 : vtest_input_load(v, fd, &v->out.sent_already);
}

int vtest_load(struct vtest *v, struct state_reader *r)
{
	int err;

	if (!v->frozen || v->in.wire)
		return -EINVAL;
	if (!r)
		return vtest_load_wire(v);
	err = vtest_load_client(v, r);
	if (!err)
		err = vtest_load_session(v, r);
	if (!err)
		err = vtest_load_wire(v);
	if (!err)
		err = vtest_output_load(v, r);
	if (!err)
		err = vtest_shm_load(v, r);
	if (!err)
		err = vtest_resources_load(v, r);
	if (!err)
		err = vtest_syncs_load(v, r);
	if (!err)
		err = vtest_output_take(v);
	return !err && state_bad(r) ? -EBADMSG : err;
}
