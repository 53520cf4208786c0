/* SPDX-License-Identifier: Apache-2.0 */
#include "session.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <string.h>

/*
 * One function a request: 0, -errno with vu->why set, or SESSION_AGAIN. A request that has its own
 * reply leaves it in the message's payload and size. A failure is reported in the acknowledgement
 * where the front end asked for one; where it did not, it cannot know, and the connection ends.
 */

#define OFFERED_PROTOCOL_FEATURES (VHOST_USER_PROTOCOL_FEATURES(OFFERED_BIT) 0)
#define OFFERED_BIT(name, bit)    (1ull << (bit)) |

static uint64_t offered_features(const struct vhost_user *vu)
{
	return virtio_gpu_features(vu->gpu) | 1ull << VIRTIO_BIT_VERSION_1 |
	       1ull << VIRTIO_BIT_RING_INDIRECT_DESC | 1ull << VIRTIO_BIT_RING_EVENT_IDX |
	       1ull << VHOST_USER_BIT_PROTOCOL;
}

static int refuse(struct vhost_user *vu, int err, const char *why)
{
	vu->why = why;
	return err;
}

static void reply_u64(struct vu_message *m, uint64_t value)
{
	m->payload.u64 = value;
	m->size = sizeof(value);
}

static struct ring *ring_of(struct vhost_user *vu, uint64_t index)
{
	if (index < KEEPER_MAX_RINGS)
		return &vu->rings[index];
	vu->why = "ring index out of range";
	return NULL;
}

/* True when nothing of the ring (NULL: of any) is in flight; it takes nothing more meanwhile. */
static bool drained(struct vhost_user *vu, struct ring *only)
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

static void undrain(struct vhost_user *vu)
{
	for (unsigned i = 0; i < KEEPER_MAX_RINGS; i++)
		vu->rings[i].draining = false;
	session_wake(vu);
}

/* ---- features ---- */

static int handle_GET_FEATURES(struct vhost_user *vu, struct vu_message *m)
{
	reply_u64(m, offered_features(vu));
	return 0;
}

static int handle_SET_FEATURES(struct vhost_user *vu, struct vu_message *m)
{
	/* QEMU 7.2 acknowledges bits that were not offered (RING_RESET): they mean nothing here. */
	uint64_t features = m->payload.u64 & offered_features(vu);

	if (m->payload.u64 & (1ull << VIRTIO_BIT_RING_PACKED | 1ull << VIRTIO_BIT_IN_ORDER))
		return refuse(vu, -EINVAL, "packed or in-order rings were not offered");
	if (vu->features_set && features == vu->features)
		return 0;
	for (unsigned i = 0; i < KEEPER_MAX_RINGS; i++) {
		if (vu->rings[i].started)
			return refuse(vu, -EBUSY, "features changed while a ring runs");
	}
	vu->features = features;
	vu->features_set = true;
	virtio_gpu_set_features(vu->gpu, features & virtio_gpu_features(vu->gpu));
	bool enabled = !(features >> VHOST_USER_BIT_PROTOCOL & 1);
	for (unsigned i = 0; i < KEEPER_MAX_RINGS; i++)
		vu->rings[i].enabled = vu->rings[i].enabled || enabled;
	return 0;
}

static int handle_GET_PROTOCOL_FEATURES(struct vhost_user *vu, struct vu_message *m)
{
	reply_u64(m, OFFERED_PROTOCOL_FEATURES);
	return 0;
}

static int handle_SET_PROTOCOL_FEATURES(struct vhost_user *vu, struct vu_message *m)
{
	vu->protocol_features = m->payload.u64 & OFFERED_PROTOCOL_FEATURES;
	return 0;
}

static int handle_GET_QUEUE_NUM(struct vhost_user *vu, struct vu_message *m)
{
	reply_u64(m, KEEPER_MAX_RINGS);
	return 0;
}

static int handle_SET_OWNER(struct vhost_user *vu, struct vu_message *m)
{
	return 0;
}

/* Deprecated; the document recommends to disable all rings. */
static int handle_RESET_OWNER(struct vhost_user *vu, struct vu_message *m)
{
	for (unsigned i = 0; i < KEEPER_MAX_RINGS; i++)
		vu->rings[i].enabled = false;
	return 0;
}

/*
 * QEMU from 8.2 sends this for a guest's reset, after it stopped the rings. It keeps its view of
 * the memory table, the call fds and the features, so they stay.
 */
static int handle_RESET_DEVICE(struct vhost_user *vu, struct vu_message *m)
{
	if (!drained(vu, NULL))
		return SESSION_AGAIN;
	undrain(vu);
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

static int handle_SET_BACKEND_REQ_FD(struct vhost_user *vu, struct vu_message *m)
{
	/* Nothing is ever asked of QEMU there: it manages the configuration's events itself. */
	return m->fds.count ? 0 : refuse(vu, -EINVAL, "no channel in SET_BACKEND_REQ_FD");
}

static int handle_GPU_SET_SOCKET(struct vhost_user *vu, struct vu_message *m)
{
	static const uint64_t none[3];
	int fd = fdpass_take(&m->fds);

	if (fd < 0)
		return refuse(vu, -EINVAL, "no socket in GPU_SET_SOCKET");
	session_custody(vu, KEEPER_CUSTODY_GPU_SOCKET, 0, none, fd);
	int err = display_socket_attach(vu->display, fd);
	return err ? refuse(vu, err, "the GPU socket cannot be used") : 0;
}

/* ---- memory ---- */

/* Before mappings go away: backings are let go of, and nothing in flight points there. */
static bool memory_change_begin(struct vhost_user *vu)
{
	if (!drained(vu, NULL))
		return false;
	virtio_gpu_memory_change_begin(vu->gpu);
	return true;
}

static void memory_change_end(struct vhost_user *vu)
{
	virtio_gpu_memory_change_end(vu->gpu);
	for (unsigned i = 0; i < KEEPER_MAX_RINGS; i++)
		ring_remap(&vu->rings[i]);
	undrain(vu);
}

/* The keeper has a say before any ring is served from the new table. */
static void memory_submit(struct vhost_user *vu)
{
	vu->memory_serial++;
	vu->memory_approved = false;
	vu->ops->memory_done(vu->ops_data, vu->memory_serial);
}

static int memory_add(struct vhost_user *vu, const struct vhost_user_region *at, int fd)
{
	unsigned slot;
	int err = guest_memory_add(&vu->memory, at, fd, &slot, &vu->why);

	if (err)
		return err;
	session_custody(vu, KEEPER_CUSTODY_MEMORY, slot,
		(const uint64_t[3]){at->gpa, at->size, at->offset}, fd);
	return 0;
}

static void memory_remove(struct vhost_user *vu, unsigned slot)
{
	guest_memory_remove(&vu->memory, slot);
	session_release(vu, KEEPER_CUSTODY_MEMORY, slot);
}

/* Regions that stay keep their mapping, so that addresses into them stay good. */
static int memory_replace(struct vhost_user *vu, const struct vhost_user_mem_table *table,
	const struct fdpass_fds *fds)
{
	bool keep[KEEPER_MAX_MEMORY] = {false}, have[VHOST_USER_MAX_REGIONS] = {false};

	for (unsigned i = 0; i < table->count; i++) {
		int slot = guest_memory_find(&vu->memory, &table->regions[i], fds->fd[i]);
		if (slot >= 0 && !keep[slot])
			keep[slot] = have[i] = true;
	}
	for (unsigned slot = 0; slot < KEEPER_MAX_MEMORY; slot++) {
		if (!keep[slot] && vu->memory.slot[slot].at.size)
			memory_remove(vu, slot);
	}
	for (unsigned i = 0; i < table->count; i++) {
		int err = have[i] ? 0 : memory_add(vu, &table->regions[i], fds->fd[i]);
		if (err)
			return err;
	}
	return 0;
}

static int handle_SET_MEM_TABLE(struct vhost_user *vu, struct vu_message *m)
{
	const struct vhost_user_mem_table *table = &m->payload.table;

	if (table->count > VHOST_USER_MAX_REGIONS ||
		m->size < 8 + table->count * sizeof(table->regions[0]) ||
		m->fds.count != table->count)
		return refuse(vu, -EINVAL, "memory table does not match its regions");
	if (!memory_change_begin(vu))
		return SESSION_AGAIN;
	int err = memory_replace(vu, table, &m->fds);
	memory_change_end(vu);
	/* After a failure too: the old table is gone, and what is left must not be served. */
	vu->memory_approved = false;
	if (!err)
		memory_submit(vu);
	return err;
}

static int handle_GET_MAX_MEM_SLOTS(struct vhost_user *vu, struct vu_message *m)
{
	reply_u64(m, KEEPER_MAX_MEMORY);
	return 0;
}

static int handle_ADD_MEM_REG(struct vhost_user *vu, struct vu_message *m)
{
	if (m->fds.count != 1)
		return refuse(vu, -EINVAL, "no file in ADD_MEM_REG");
	/* Nothing moves, so requests in flight and backings are not touched. */
	int err = memory_add(vu, &m->payload.reg.region, m->fds.fd[0]);
	if (!err)
		memory_submit(vu);
	return err;
}

static int handle_REM_MEM_REG(struct vhost_user *vu, struct vu_message *m)
{
	int slot = guest_memory_find(&vu->memory, &m->payload.reg.region, -1);

	if (slot < 0)
		return refuse(vu, slot, "no such memory region");
	if (!memory_change_begin(vu))
		return SESSION_AGAIN;
	memory_remove(vu, (unsigned)slot);
	memory_change_end(vu);
	return 0;
}

/* ---- rings ---- */

static int handle_SET_VRING_NUM(struct vhost_user *vu, struct vu_message *m)
{
	struct ring *ring = ring_of(vu, m->payload.state.index);
	uint32_t num = m->payload.state.num;

	if (!ring)
		return -EINVAL;
	if (ring->started && num != ring->num)
		return refuse(vu, -EBUSY, "ring size changed while it runs");
	if (!num || num > VIRTQUEUE_MAX_SIZE || (num & (num - 1)))
		return refuse(vu, -EINVAL, "ring size is not a power of two up to 1024");
	ring->num = (uint16_t)num;
	return 0;
}

static int handle_SET_VRING_ADDR(struct vhost_user *vu, struct vu_message *m)
{
	const struct vhost_user_vring_addr *addr = &m->payload.addr;
	struct ring *ring = ring_of(vu, addr->index);

	if (!ring)
		return -EINVAL;
	if (ring->started && (addr->desc != ring->addr.desc || addr->used != ring->addr.used ||
				     addr->avail != ring->addr.avail))
		return refuse(vu, -EBUSY, "ring addresses changed while it runs");
	ring->addr = *addr;
	ring->have_addr = true;
	return 0;
}

static int handle_SET_VRING_BASE(struct vhost_user *vu, struct vu_message *m)
{
	struct ring *ring = ring_of(vu, m->payload.state.index);

	if (!ring)
		return -EINVAL;
	if (ring->started)
		return refuse(vu, -EBUSY, "ring base changed while it runs");
	if (m->payload.state.num > UINT16_MAX)
		return refuse(vu, -EINVAL, "ring base beyond 65535");
	ring->vq.last_avail = (uint16_t)m->payload.state.num;
	return 0;
}

static int handle_GET_VRING_BASE(struct vhost_user *vu, struct vu_message *m)
{
	struct ring *ring = ring_of(vu, m->payload.state.index);

	if (!ring)
		return -EINVAL;
	if (!drained(vu, ring))
		return SESSION_AGAIN;
	ring->draining = false;
	if (ring->started) {
		session_release(vu, KEEPER_CUSTODY_KICK, ring->index);
		ring_stop(ring);
	}
	m->payload.state.num = ring->vq.last_avail;
	m->size = sizeof(m->payload.state);
	return 0;
}

static int handle_SET_VRING_ENABLE(struct vhost_user *vu, struct vu_message *m)
{
	struct ring *ring = ring_of(vu, m->payload.state.index);

	if (!ring)
		return -EINVAL;
	if (m->payload.state.num > 1)
		return refuse(vu, -EINVAL, "ring enabled with neither 0 nor 1");
	ring->enabled = m->payload.state.num;
	session_wake(vu);
	return 0;
}

/* The fd of a SET_VRING_KICK, _CALL or _ERR, now the caller's; -1 where the front end gave none. */
static int vring_fd(struct vhost_user *vu, struct vu_message *m, struct ring **ret, int *ret_fd)
{
	uint64_t value = m->payload.u64;
	bool none = value & VHOST_USER_VRING_NO_FD;

	if (value & ~(uint64_t)(VHOST_USER_VRING_INDEX_MASK | VHOST_USER_VRING_NO_FD))
		return refuse(vu, -EINVAL, "ring descriptor message with unknown bits");
	*ret = ring_of(vu, value & VHOST_USER_VRING_INDEX_MASK);
	if (!*ret)
		return -EINVAL;
	if (none != !m->fds.count)
		return refuse(vu, -EINVAL, "ring descriptor and its flag do not agree");
	*ret_fd = fdpass_take(&m->fds);
	return 0;
}

static void vring_custody(struct vhost_user *vu, uint32_t kind, uint32_t index, int fd)
{
	static const uint64_t none[3];

	if (fd >= 0)
		session_custody(vu, kind, index, none, fd);
	else
		session_release(vu, kind, index);
}

static int handle_SET_VRING_KICK(struct vhost_user *vu, struct vu_message *m)
{
	struct ring *ring;
	int fd;
	int err = vring_fd(vu, m, &ring, &fd);

	if (err)
		return err;
	err = ring_start(ring, fd, &vu->why);
	if (err)
		return err;
	vring_custody(vu, KEEPER_CUSTODY_KICK, ring->index, ring->kick_fd);
	return 0;
}

static int vring_set_fd(struct vhost_user *vu, struct vu_message *m, uint32_t kind)
{
	struct ring *ring;
	int fd;
	int err = vring_fd(vu, m, &ring, &fd);

	if (err)
		return err;
	int *to = kind == KEEPER_CUSTODY_CALL ? &ring->call_fd : &ring->err_fd;
	close_fd(to);
	*to = fd;
	ring_fd_ready(fd);
	vring_custody(vu, kind, ring->index, fd);
	return 0;
}

static int handle_SET_VRING_CALL(struct vhost_user *vu, struct vu_message *m)
{
	return vring_set_fd(vu, m, KEEPER_CUSTODY_CALL);
}

static int handle_SET_VRING_ERR(struct vhost_user *vu, struct vu_message *m)
{
	return vring_set_fd(vu, m, KEEPER_CUSTODY_ERR);
}

/* ---- inflight ---- */

static bool inflight_busy(struct vhost_user *vu)
{
	for (unsigned i = 0; i < KEEPER_MAX_RINGS; i++) {
		if (vu->rings[i].started)
			return true;
	}
	return false;
}

static int handle_GET_INFLIGHT_FD(struct vhost_user *vu, struct vu_message *m)
{
	struct vhost_user_inflight *in = &m->payload.inflight;
	uint64_t size;

	if (inflight_busy(vu))
		return refuse(vu, -EBUSY, "inflight region asked for while a ring runs");
	int err = inflight_create(
		&vu->inflight, in->num_queues, in->queue_size, &vu->reply_fd, &size);
	if (err)
		return refuse(vu, err, "inflight region cannot be made");
	in->mmap_size = size;
	in->mmap_offset = 0;
	session_custody(vu, KEEPER_CUSTODY_INFLIGHT, 0, (const uint64_t[3]){size}, vu->reply_fd);
	return 0;
}

static int handle_SET_INFLIGHT_FD(struct vhost_user *vu, struct vu_message *m)
{
	const struct vhost_user_inflight *in = &m->payload.inflight;

	if (m->fds.count != 1)
		return refuse(vu, -EINVAL, "no file in SET_INFLIGHT_FD");
	if (inflight_busy(vu))
		return refuse(vu, -EBUSY, "inflight region changed while a ring runs");
	int err = inflight_attach(&vu->inflight, in, m->fds.fd[0]);
	if (err)
		return refuse(vu, err, "inflight region does not fit its numbers");
	session_custody(vu, KEEPER_CUSTODY_INFLIGHT, 0,
		(const uint64_t[3]){in->mmap_size, in->mmap_offset}, m->fds.fd[0]);
	return 0;
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
static int handle_GET_CONFIG(struct vhost_user *vu, struct vu_message *m)
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

static int handle_SET_CONFIG(struct vhost_user *vu, struct vu_message *m)
{
	const struct vhost_user_config *config = &m->payload.config;
	uint32_t size = config->size;

	if (!config_fits(m))
		return refuse(vu, -EINVAL, "configuration write out of range");
	/* Like reads: what lies beyond this device's structure is ignored. */
	while (size && virtio_gpu_config_write(vu->gpu, config->offset, config->data, size) < 0)
		size = size > 4 ? (size - 1) & ~3u : 0;
	return size || !config->size ? 0 : refuse(vu, -EINVAL, "configuration write refused");
}

/* ---- dispatch ---- */

typedef int (*message_handler)(struct vhost_user *vu, struct vu_message *m);

static const message_handler handlers[VHOST_USER_REQUEST_LIMIT] = {
#define X(name, id, min, max, fds, reply, feature) [id] = handle_##name,
	VHOST_USER_MESSAGES(X)
#undef X
};

static int message_refused(struct vhost_user *vu, const struct vu_message_row *row)
{
	if (!row->name)
		return refuse(vu, -EOPNOTSUPP, "request not known here");
	if (row->feature != VHOST_USER_PROTOCOL_NONE &&
		!(vu->protocol_features >> row->feature & 1))
		return refuse(vu, -EOPNOTSUPP, "request of a feature that was not negotiated");
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
		reply_u64(m, result < 0 ? (uint64_t)-result : 0);
	if (ack || row->own_reply)
		vu_channel_reply(&vu->channel, TAKE_FD(vu->reply_fd));
}

void session_dispatch(struct vhost_user *vu)
{
	struct vu_message *m = &vu->channel.in;
	const struct vu_message_row *row = vu_message_row(m->request);

	vu->why = NULL;
	int result = message_refused(vu, row);
	if (!result)
		result = handlers[m->request](vu, m);
	if (vu->ended)
		return;
	if (result == SESSION_AGAIN) {
		if (!vu->waiting) {
			vu->waiting = true;
			vu->wait_until_ms = clock_ms() + SESSION_DRAIN_MS;
			/* The viewer is the peer that waits for us now: it will not answer. */
			display_socket_abandon_info(vu->display);
		}
		return;
	}
	vu->waiting = false;
	message_answer(vu, row, result);
	vu_channel_next(&vu->channel);
}
