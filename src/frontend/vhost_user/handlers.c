/* SPDX-License-Identifier: Apache-2.0 */
#include "handlers.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <string.h>

#define KNOWN_PROTOCOL_FEATURES (VHOST_USER_PROTOCOL_FEATURES(KNOWN_BIT) 0)
#define KNOWN_BIT(name, bit)    (1ull << (bit)) |

static uint64_t offered_features(const struct vhost_user *vu)
{
	return virtio_gpu_features(vu->gpu) | 1ull << VIRTIO_BIT_VERSION_1 |
	       1ull << VIRTIO_BIT_RING_INDIRECT_DESC | 1ull << VIRTIO_BIT_RING_EVENT_IDX |
	       1ull << VHOST_USER_BIT_PROTOCOL;
}

static uint64_t offered_protocol_features(const struct vhost_user *vu)
{
	bool state = vu->ops->state_save && vu->ops->state_load;
	return KNOWN_PROTOCOL_FEATURES & ~(state ? 0 : 1ull << VHOST_USER_PROTOCOL_DEVICE_STATE);
}

int handler_refuse(struct vhost_user *vu, int err, const char *why)
{
	vu->why = why;
	return err;
}

void handler_reply(struct vu_message *m, uint64_t value)
{
	m->payload.u64 = value;
	m->size = sizeof(value);
}

struct ring *handler_ring(struct vhost_user *vu, uint64_t index)
{
	if (index < KEEPER_MAX_RINGS)
		return &vu->rings[index];
	vu->why = "ring index out of range";
	return NULL;
}

bool handler_drained(struct vhost_user *vu, struct ring *only)
{
	bool idle = true;

	for (unsigned i = 0; i < KEEPER_MAX_RINGS; i++) {
		struct ring *ring = &vu->rings[i];
		if (only && ring != only)
			continue;
		ring->draining = true;
		idle = idle && !ring->in_flight;
	}
	return idle;
}

void handler_undrain(struct vhost_user *vu)
{
	for (unsigned i = 0; i < KEEPER_MAX_RINGS; i++)
		vu->rings[i].draining = false;
	session_wake(vu);
}

/* The handler of channel->in would return SESSION_AGAIN. The rings it waits for are draining. */
static bool must_wait(struct vhost_user *vu)
{
	const struct vu_message *m = &vu->channel.in;

	switch (m->request) {
	case VHOST_USER_RESET_DEVICE:
	case VHOST_USER_SET_MEM_TABLE:
	case VHOST_USER_REM_MEM_REG:
		return !handler_drained(vu, NULL);
	case VHOST_USER_GET_VRING_BASE:
		return m->payload.state.index < KEEPER_MAX_RINGS &&
		       !handler_drained(vu, &vu->rings[m->payload.state.index]);
	case VHOST_USER_CHECK_DEVICE_STATE:
		return transfer_busy(&vu->transfer);
	default:
		return false;
	}
}

/* ---- features ---- */

int handle_GET_FEATURES(struct vhost_user *vu, struct vu_message *m)
{
	handler_reply(m, offered_features(vu));
	return 0;
}

int handle_SET_FEATURES(struct vhost_user *vu, struct vu_message *m)
{
	/* QEMU 7.2 acknowledges bits that were not offered (RING_RESET): they mean nothing here. */
	uint64_t features = m->payload.u64 & offered_features(vu);

	if (m->payload.u64 & (1ull << VIRTIO_BIT_RING_PACKED | 1ull << VIRTIO_BIT_IN_ORDER))
		return handler_refuse(vu, -EINVAL, "packed or in-order rings were not offered");
	if (vu->features_set && features == vu->features)
		return 0;
	for (unsigned i = 0; i < KEEPER_MAX_RINGS; i++) {
		if (vu->rings[i].started)
			return handler_refuse(vu, -EBUSY, "features changed while a ring runs");
	}
	vu->features = features;
	vu->features_set = true;
	virtio_gpu_set_features(vu->gpu, features & virtio_gpu_features(vu->gpu));
	bool enabled = !(features >> VHOST_USER_BIT_PROTOCOL & 1);
	for (unsigned i = 0; i < KEEPER_MAX_RINGS; i++)
		vu->rings[i].enabled = vu->rings[i].enabled || enabled;
	return 0;
}

int handle_GET_PROTOCOL_FEATURES(struct vhost_user *vu, struct vu_message *m)
{
	handler_reply(m, offered_protocol_features(vu));
	return 0;
}

int handle_SET_PROTOCOL_FEATURES(struct vhost_user *vu, struct vu_message *m)
{
	vu->protocol_features = m->payload.u64 & offered_protocol_features(vu);
	return 0;
}

int handle_GET_QUEUE_NUM(struct vhost_user *vu, struct vu_message *m)
{
	handler_reply(m, KEEPER_MAX_RINGS);
	return 0;
}

int handle_SET_OWNER(struct vhost_user *vu, struct vu_message *m)
{
	return 0;
}

/* Deprecated; the document recommends to disable all rings. */
int handle_RESET_OWNER(struct vhost_user *vu, struct vu_message *m)
{
	for (unsigned i = 0; i < KEEPER_MAX_RINGS; i++)
		vu->rings[i].enabled = false;
	return 0;
}

/*
 * QEMU from 8.2 sends this for a guest's reset, after it stopped the rings. It keeps its view of
 * the memory table, the call fds and the features, so they stay.
 */
int handle_RESET_DEVICE(struct vhost_user *vu, struct vu_message *m)
{
	if (!handler_drained(vu, NULL))
		return SESSION_AGAIN;
	handler_undrain(vu);
	for (unsigned i = 0; i < KEEPER_MAX_RINGS; i++) {
		struct ring *ring = &vu->rings[i];
		if (ring->started)
			session_release(vu, KEEPER_CUSTODY_KICK, i);
		ring_stop(ring);
		ring->enabled = !(vu->features >> VHOST_USER_BIT_PROTOCOL & 1);
		ring->vq.last_avail = 0;
		ring->taken_total = 0;
	}
	virtio_gpu_reset(vu->gpu);
	return 0;
}

int handle_SET_BACKEND_REQ_FD(struct vhost_user *vu, struct vu_message *m)
{
	/* Nothing is ever asked of QEMU there: it manages the configuration's events itself. */
	return m->fds.count ? 0 : handler_refuse(vu, -EINVAL, "no channel in SET_BACKEND_REQ_FD");
}

int handle_GPU_SET_SOCKET(struct vhost_user *vu, struct vu_message *m)
{
	static const uint64_t none[3];
	int fd = fdpass_take(&m->fds);

	if (fd < 0)
		return handler_refuse(vu, -EINVAL, "no socket in GPU_SET_SOCKET");
	session_custody(vu, KEEPER_CUSTODY_GPU_SOCKET, 0, none, fd);
	int err = display_socket_attach(vu->display, fd, vu->messages);
	return err ? handler_refuse(vu, err, "the GPU socket cannot be used") : 0;
}

/* ---- configuration space ---- */

static bool config_fits(const struct vu_message *m)
{
	const struct vhost_user_config *config = &m->payload.config;

	return m->size >= 12 && config->size == m->size - 12 &&
	       range_inside(config->offset, config->size, VHOST_USER_MAX_CONFIG);
}

/*
 * QEMU asks for the structure it knows, which may be longer than ours: fields that this device
 * does not have read as zero. A reply without payload says that it failed.
 */
int handle_GET_CONFIG(struct vhost_user *vu, struct vu_message *m)
{
	struct vhost_user_config *config = &m->payload.config;
	uint32_t done = 0;

	if (!config_fits(m)) {
		m->size = 0;
		return 0;
	}
	memset(config->data, 0, config->size);
	if (virtio_gpu_config_read(vu->gpu, config->offset, config->data, config->size) == 0)
		return 0;
	while (config->size - done >= 4 &&
		virtio_gpu_config_read(vu->gpu, config->offset + done, config->data + done, 4) == 0)
		done += 4;
	if (!done)
		m->size = 0;
	return 0;
}

int handle_SET_CONFIG(struct vhost_user *vu, struct vu_message *m)
{
	const struct vhost_user_config *config = &m->payload.config;
	uint32_t size = config->size;

	if (!config_fits(m))
		return handler_refuse(vu, -EINVAL, "configuration write out of range");
	/* Like reads: what lies beyond this device's structure is ignored. */
	while (size && virtio_gpu_config_write(vu->gpu, config->offset, config->data, size) < 0)
		size = size > 4 ? (size - 1) & ~3u : 0;
	return size || !config->size ? 0
				     : handler_refuse(vu, -EINVAL, "configuration write refused");
}

/* ---- the device's state ---- */

static int state_begin(struct vhost_user *vu, struct vu_message *m)
{
	const struct vhost_user_state *state = &m->payload.device_state;

	if (m->fds.count != 1 || state->direction > VHOST_USER_STATE_LOAD ||
		state->phase != VHOST_USER_STATE_STOPPED)
		return -EINVAL;
	for (unsigned i = 0; i < KEEPER_MAX_RINGS; i++) {
		if (vu->rings[i].started)
			return -EBUSY;
	}
	/* What a predecessor began ended with it: the front end finds its pipe closed. */
	return vu->quiet ? 0
			 : transfer_begin(&vu->transfer, state->direction == VHOST_USER_STATE_LOAD,
				   fdpass_take(&m->fds));
}

int handle_SET_DEVICE_STATE_FD(struct vhost_user *vu, struct vu_message *m)
{
	int err = state_begin(vu, m);

	if (err)
		log_limited(&vu->log_limit, LOG_LEVEL_WARNING,
			"the device's state is not transferred: %s", strerror(-err));
	handler_reply(m, VHOST_USER_STATE_NO_FD | (err ? 1u : 0u));
	return 0;
}

int handle_CHECK_DEVICE_STATE(struct vhost_user *vu, struct vu_message *m)
{
	int result = transfer_result(&vu->transfer);

	if (result == -EBUSY)
		return SESSION_AGAIN;
	if (result)
		log_limited(&vu->log_limit, LOG_LEVEL_WARNING,
			"transferring the device's state failed: %s", strerror(-result));
	handler_reply(m, result ? 1 : 0);
	return 0;
}

/* ---- dispatch ---- */

static int (*const handlers[VHOST_USER_REQUEST_LIMIT])(struct vhost_user *, struct vu_message *) = {
#define X(name, id, min, max, fds, reply, feature) [id] = handle_##name,
	VHOST_USER_MESSAGES(X)
#undef X
};

static int message_refused(struct vhost_user *vu, const struct vu_message_row *row)
{
	if (!row->name)
		return handler_refuse(vu, -EOPNOTSUPP, "request not known here");
	if (row->feature != VHOST_USER_PROTOCOL_NONE &&
		!(vu->protocol_features >> row->feature & 1))
		return handler_refuse(
			vu, -EOPNOTSUPP, "request of a feature that was not negotiated");
	return 0;
}

static void message_answer(struct vhost_user *vu, const struct vu_message_row *row, int result)
{
	struct vu_message *m = &vu->channel.in;
	bool ack = !row->own_reply && m->flags & VHOST_USER_FLAG_NEED_REPLY &&
		   vu->protocol_features >> VHOST_USER_PROTOCOL_REPLY_ACK & 1;

	if (result < 0 && !ack) {
		session_fail(vu, "%s (request %u): %s", row->name ? row->name : "unknown request",
			m->request, vu->why ? vu->why : "failed");
		return;
	}
	if (result < 0)
		log_limited(&vu->log_limit, LOG_LEVEL_WARNING, "%s (request %u) refused: %s",
			row->name ? row->name : "unknown request", m->request,
			vu->why ? vu->why : "failed");
	if (ack)
		handler_reply(m, result < 0 ? (uint64_t)-result : 0);
	bool given = vu->replaying &&
		     vu_channel_replied(&vu->channel, vu_channel_position(&vu->channel));
	if (given)
		close_fd(&vu->reply_fd);
	else if (ack || row->own_reply)
		vu_channel_reply(&vu->channel, TAKE_FD(vu->reply_fd));
}

/* Puts channel->in into the journal: 0, -errno. */
static int message_record(struct vhost_user *vu)
{
	const struct vu_message *m = &vu->channel.in;
	const uint32_t head[4] = {m->fds.count, m->request, m->flags, m->size};
	const struct iovec parts[] = {
		{(void *)(uintptr_t)head, sizeof(head)},
		{(void *)(uintptr_t)m->payload.bytes, m->size},
	};

	if (!vu->keep || vu->replaying)
		return 0;
	return session_record(vu, JOURNAL_VHOST_USER, vu_channel_position(&vu->channel), parts,
		ARRAY_SIZE(parts));
}

static void message_wait(struct vhost_user *vu)
{
	if (vu->waiting)
		return;
	vu->waiting = true;
	vu->wait_until_ms = clock_ms() + SESSION_DRAIN_MS;
	/* The viewer is the peer that waits for us now: it will not answer. */
	display_socket_abandon_info(vu->display);
}

static int message_execute(struct vhost_user *vu, const struct vu_message_row *row)
{
	vu->messages++;
	int result = message_refused(vu, row);
	if (!result)
		result = handlers[vu->channel.in.request](vu, &vu->channel.in);
	if (result < 0 && vu->keep) /* it had to wait before it was looked at */
		handler_undrain(vu);
	return result;
}

void session_dispatch(struct vhost_user *vu)
{
	const struct vu_message_row *row = vu_message_row(vu->channel.in.request);

	vu->why = NULL;
	/* What waits is not in the journal: a successor finds it received, and waits as well. */
	if (vu->keep && !message_refused(vu, row) && must_wait(vu)) {
		message_wait(vu);
		return;
	}
	int err = message_record(vu);
	if (err == -EAGAIN)
		return;
	if (err < 0) {
		session_fail(vu, "a message cannot be kept");
		return;
	}
	int result = message_execute(vu, row);
	if (vu->ended)
		return;
	if (result == SESSION_AGAIN) { /* only without keep */
		message_wait(vu);
		return;
	}
	if (vu->keep)
		session_keep_fds(vu);
	vu->waiting = false;
	message_answer(vu, row, result);
	if (vu->keep && !vu->replaying)
		session_executed(vu);
	vu_channel_next(&vu->channel);
}
