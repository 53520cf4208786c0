/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A connection that outlives its process: what is recorded, kept in custody, and run again.
 *
 * A message. Its descriptors are put into custody (REGION, numbered by message) while its bytes are
 * still in the socket; its bytes are received into the wire; it is recorded, executed and answered
 * there, the journal is marked, and what is answered is sent. Wherever the process is killed its
 * successor finds the message in the socket, in the wire or in the journal, and an answer either in
 * the wire, where what is not sent yet is known to the byte, or not given at all. A message that
 * has to wait for the rings is recorded only when its turn has come.
 *
 * The numbered descriptors stay until an image makes the message's replay needless, or another
 * message takes the place of what they are: a replay then goes on with a stand-in. A replay of what
 * was executed tells the keeper nothing: what the messages led to is in its custody already.
 *
 * Replies and memory. What a replay cannot know for certain is either irrelevant (the answer was
 * given: it is in the wire) or was recorded with the message (session_remember).
 */

#include "session.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>

#define EMPTY_JOURNAL                                                                              \
	4096u /* bytes: a record that does not fit into this little used never will                \
	       */

/* ---- the journal ---- */

struct journal *session_journal(struct vhost_user *vu)
{
	return vu->keep ? vu->keep->journal(vu->keep->data) : NULL;
}

static void session_pause(struct vhost_user *vu, const struct journal *j)
{
	vu->full = j;
	vu->full_at = journal_bytes(j);
	vu->paused = true;
	vu->keep->image_due(vu->keep->data);
}

bool session_has_room(struct vhost_user *vu, size_t size)
{
	const struct journal *j = session_journal(vu);

	/* Little is gained by an image when there is hardly anything to forget. */
	if (!j || !journal_due(j, size) || journal_bytes(j) < EMPTY_JOURNAL)
		return true;
	/* Asked once: when no image could be made, the journal is used to its end. */
	if (vu->full == j && vu->full_at <= journal_bytes(j))
		return true;
	session_pause(vu, j);
	return false;
}

int session_record(struct vhost_user *vu, enum journal_kind kind, uint64_t position,
	const struct iovec *parts, unsigned n_parts)
{
	struct journal *j = session_journal(vu);
	int err = j ? journal_record(j, kind, vu->connection, position, parts, n_parts) : 0;

	if (!err)
		return 0;
	if (journal_bytes(j) < EMPTY_JOURNAL)
		return -E2BIG;
	session_pause(vu, j);
	return -EAGAIN;
}

void session_executed(struct vhost_user *vu)
{
	vu->executing = NULL;
	journal_executed(session_journal(vu));
}

bool session_remember(struct vhost_user *vu, bool now)
{
	struct journal *j = session_journal(vu);
	uint8_t byte = now;
	const struct iovec iov = {&byte, 1};
	size_t size;

	if (vu->loading && !vu->replaying)
		return now;
	if (vu->replaying) {
		const uint8_t *then = journal_next_payload(j, &size);
		if (then && size == 1)
			return *then != 0;
	}
	(void)journal_payload(j, &iov, 1, 0, 1);
	return now;
}

/* ---- descriptors of messages ---- */

static uint64_t message_fd_key(uint64_t message, unsigned index)
{
	return message * SESSION_MESSAGE_FDS + index;
}

static struct keeper_custody message_custody(const struct vhost_user *vu, uint64_t key)
{
	return (struct keeper_custody){
		.kind = KEEPER_CUSTODY_REGION, .index = vu->connection, .a = key};
}

static void message_fd_drop(struct vhost_user *vu, uint64_t key)
{
	struct keeper_custody what = message_custody(vu, key);
	vu->keep->drop(vu->keep->data, &what);
}

static int message_fd_take(struct vhost_user *vu, uint64_t message, unsigned index)
{
	struct keeper_custody what = message_custody(vu, message_fd_key(message, index));
	return vu->keep->take(vu->keep->data, &what);
}

static int hold_fd(void *data, unsigned index, int fd)
{
	struct vhost_user *vu = data;
	struct keeper_custody what = message_custody(vu, message_fd_key(vu->messages + 1, index));

	return session_journal(vu) ? vu->keep->put(vu->keep->data, &what, fd) : 0;
}

static uint64_t *session_held(struct vhost_user *vu, uint32_t kind, uint32_t index)
{
	bool single = kind != KEEPER_CUSTODY_MEMORY && kind < KEEPER_CUSTODY_SCREEN;
	return single && index < KEEPER_MAX_RINGS ? &vu->held[kind][index] : NULL;
}

void session_unclaim(struct vhost_user *vu, uint32_t kind, uint32_t index)
{
	uint64_t *held = session_held(vu, kind, index);

	if (!held || !*held)
		return;
	message_fd_drop(vu, *held - 1);
	*held = 0;
}

void session_claim(struct vhost_user *vu, uint32_t kind, uint32_t index)
{
	uint64_t *held = session_held(vu, kind, index);
	uint64_t key = message_fd_key(vu->messages, 0);

	if (!held || *held == key + 1)
		return;
	session_unclaim(vu, kind, index);
	*held = key + 1;
}

static bool session_claimed(const struct vhost_user *vu, uint64_t key)
{
	for (unsigned kind = 0; kind < KEEPER_CUSTODY_SCREEN; kind++) {
		for (unsigned i = 0; i < KEEPER_MAX_RINGS; i++) {
			if (vu->held[kind][i] == key + 1)
				return true;
		}
	}
	return false;
}

void session_keep_fds(struct vhost_user *vu)
{
	const struct vu_message *m = &vu->channel.in;
	bool memory =
		m->request == VHOST_USER_SET_MEM_TABLE || m->request == VHOST_USER_ADD_MEM_REG;

	if (!session_journal(vu))
		return;
	for (unsigned i = 0; i < m->fds.count; i++) {
		uint64_t key = message_fd_key(vu->messages, i);
		if (memory && vu->n_drops < SESSION_MAX_DROPS)
			vu->drops[vu->n_drops++] = key;
		else if (!session_claimed(vu, key))
			message_fd_drop(vu, key);
	}
	if (!memory || vu->replaying)
		return;
	/* Old memory is pinned until then, and there is not room for many. */
	if (vu->n_drops > SESSION_MAX_DROPS - SESSION_MESSAGE_FDS)
		session_pause(vu, NULL);
	else
		vu->keep->image_due(vu->keep->data);
}

/* An image counts: no message before it will be replayed. */
static void drop_fds(struct vhost_user *vu)
{
	for (unsigned i = 0; i < vu->n_drops; i++)
		message_fd_drop(vu, vu->drops[i]);
	vu->n_drops = 0;
	for (uint32_t kind = 0; kind < KEEPER_CUSTODY_SCREEN; kind++) {
		for (uint32_t i = 0; i < KEEPER_MAX_RINGS; i++)
			session_unclaim(vu, kind, i);
	}
}

int session_stand_in(void)
{
	return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

/*
 * What was received beyond what was dealt with so far, with its descriptors. Right after the last
 * record, and tried after each: nobody says which is the last, and when all are through custody
 * gives nothing any more.
 */
void session_resume_input(struct vhost_user *vu)
{
	unsigned n_fds = 0;

	fdpass_close(&vu->channel.in.fds);
	vu->channel.in.fds = (struct fdpass_fds){0};
	vu->resumed = vu_channel_resume(&vu->channel, vu->channel.consumed, &n_fds);
	for (unsigned i = 0; i < n_fds && !vu->resumed; i++) {
		int fd = message_fd_take(vu, vu->messages + 1, i);
		if (fd >= 0)
			vu_channel_adopt(&vu->channel, fd);
		else
			vu->resumed = fd;
	}
}

/* ---- keep, freeze, thaw ---- */

int vhost_user_keep(struct vhost_user *vu, const struct frontend_keep *keep, uint32_t connection)
{
	struct keeper_custody what = {.kind = KEEPER_CUSTODY_WIRE, .index = connection};
	cleanup_close int fd = keep->take(keep->data, &what), made = -1;
	struct wire *wire;

	int err = fd >= 0 ? wire_open(fd, &wire) : wire_create(&made, &wire);
	if (err)
		return err;
	what = (struct keeper_custody){
		.kind = KEEPER_CUSTODY_WIRE, .index = connection, .b = sizeof(*wire)};
	err = made >= 0 ? keep->put(keep->data, &what, made) : 0;
	if (err) {
		wire_destroy(wire, true);
		return err;
	}
	wire_destroy(vu->wire, vu->wire_shared);
	vu->wire = wire;
	vu->wire_shared = true;
	vu->keep = keep;
	vu->connection = connection;
	vu->channel.wire = &wire->socket;
	vu->channel.hold = hold_fd;
	vu->channel.hold_data = vu;
	display_socket_use(vu->display, &wire->display);
	return 0;
}

void vhost_user_freeze(struct vhost_user *vu)
{
	if (vu->frozen)
		return;
	display_socket_freeze(vu->display); /* who waits for the viewer is answered */
	vu->frozen = true;
	vu->was_saved = false;
	session_unwatch(vu);
	session_update_timer(vu);
}

bool vhost_user_pending(struct vhost_user *vu)
{
	bool pending = vu->ended ? !vu->told
				 : vu->waiting || vu->paused || vu->memory_asked ||
					   transfer_busy(&vu->transfer) ||
					   vu_channel_pending(&vu->channel) ||
					   vu_channel_busy(&vu->channel);

	for (unsigned i = 0; i < KEEPER_MAX_RINGS && !vu->ended; i++)
		pending = ring_pending(&vu->rings[i]) || pending;
	return pending;
}

static int session_take_over(struct vhost_user *vu)
{
	bool with_fd;
	size_t at;

	vu->quiet = false;
	session_executed(vu);
	int err = vu->resumed;
	(void)vu_channel_unsent(&vu->channel, &at, &with_fd);
	if (!err && with_fd) {
		vu->channel.out_fd = fcntl(vu->inflight_fd, F_DUPFD_CLOEXEC, 3);
		err = vu->channel.out_fd < 0 ? -EBADMSG : 0;
	}
	for (unsigned i = 0; i < KEEPER_MAX_RINGS && !err; i++)
		err = ring_resume(&vu->rings[i]);
	vu->loading = false;
	ring_return_deferred(vu);
	close_fd(&vu->inflight_fd);
	if (err)
		return err;
	if (vu->memory_asked)
		vu->ops->memory_done(vu->ops_data, vu->memory_serial);
	if (vu->n_drops)
		vu->keep->image_due(vu->keep->data);
	return 0;
}

void vhost_user_thaw(struct vhost_user *vu)
{
	const struct journal *j = session_journal(vu);
	bool loaded = vu->loading;

	if (!vu->frozen)
		return;
	if (loaded && session_take_over(vu) < 0)
		session_fail(vu, "what a predecessor left does not fit together");
	/* A journal that is another, or shorter, begins with the image saved meanwhile. */
	if (vu->was_saved && (!vu->saved_at || j != vu->saved || journal_bytes(j) < vu->saved_at))
		drop_fds(vu);
	vu->was_saved = vu->frozen = vu->paused = false;
	vu->wait_until_ms = clock_ms() + SESSION_DRAIN_MS;
	if (!vu->ended && session_watch_all(vu) < 0)
		session_fail(vu, "the socket cannot be watched");
	display_socket_thaw(vu->display, loaded);
	session_update_timer(vu);
	session_wake(vu);
}

/* ---- replaying ---- */

static int replay_message(struct vhost_user *vu, const struct journal_record *record)
{
	struct vu_message *m = &vu->channel.in;
	uint32_t head[4];

	if (record->size < sizeof(head))
		return -EBADMSG;
	memcpy(head, record->bytes, sizeof(head));
	const struct vu_message_row *row = vu_message_row(head[1]);
	if (head[3] != record->size - sizeof(head) || head[3] < row->min || head[3] > row->max ||
		head[0] > row->fds || record->position < vu->channel.consumed)
		return -EBADMSG;
	fdpass_close(&m->fds);
	*m = (struct vu_message){.request = head[1], .flags = head[2], .size = head[3]};
	memcpy(m->payload.bytes, (const uint8_t *)record->bytes + sizeof(head), m->size);
	vu->channel.end = record->position;
	for (unsigned i = 0; i < head[0]; i++) {
		int fd = message_fd_take(vu, vu->messages + 1, i);
		fd = fd >= 0 ? fd : session_stand_in();
		if (fd < 0)
			return fd;
		vu_channel_adopt(&vu->channel, fd);
	}
	session_dispatch(vu);
	session_resume_input(vu);
	/* In the first life the rings had drained, and nothing ended the connection. */
	return vu->waiting ? -EBADMSG : 0;
}

static int replay_request(struct vhost_user *vu, const struct journal_record *record)
{
	uint32_t head[2];

	if (record->size < sizeof(head))
		return -EBADMSG;
	memcpy(head, record->bytes, sizeof(head));
	if (head[0] >= KEEPER_MAX_RINGS || head[1] > UINT16_MAX || record->position >> 63)
		return -EBADMSG;
	return ring_replay(&vu->rings[head[0]], (uint16_t)head[1], record->position,
		(const uint8_t *)record->bytes + sizeof(head), record->size - sizeof(head));
}

int vhost_user_replay(struct vhost_user *vu, const struct journal_record *record)
{
	int err = 0;

	if (vu->ended) /* nothing follows the message that ended it */
		return 0;
	vu->replaying = true;
	vu->quiet = record->executed;
	switch (record->kind) {
	case JOURNAL_VHOST_USER:
		err = replay_message(vu, record);
		break;
	case JOURNAL_REQUEST:
		err = replay_request(vu, record);
		break;
	case JOURNAL_DISPLAY:
		err = display_socket_replay_modes(vu->display, record->bytes, record->size);
		break;
	default:
		err = -EBADMSG;
		break;
	}
	vu->replaying = vu->quiet = false;
	return err;
}
