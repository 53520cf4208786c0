/* SPDX-License-Identifier: Apache-2.0 */
#include "handlers.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>

/* ---- rings ---- */

int handle_SET_VRING_NUM(struct vhost_user *vu, struct vu_message *m)
{
	struct ring *ring = handler_ring(vu, m->payload.state.index);
	uint32_t num = m->payload.state.num;

	if (!ring)
		return -EINVAL;
	if (ring->started && num != ring->num)
		return handler_refuse(vu, -EBUSY, "ring size changed while it runs");
	if (!num || num > VIRTQUEUE_MAX_SIZE || (num & (num - 1)))
		return handler_refuse(vu, -EINVAL, "ring size is not a power of two up to 1024");
	ring->num = (uint16_t)num;
	return 0;
}

int handle_SET_VRING_ADDR(struct vhost_user *vu, struct vu_message *m)
{
	const struct vhost_user_vring_addr *addr = &m->payload.addr;
	struct ring *ring = handler_ring(vu, addr->index);

	if (!ring)
		return -EINVAL;
	if (ring->started && (addr->desc != ring->addr.desc || addr->used != ring->addr.used ||
				     addr->avail != ring->addr.avail))
		return handler_refuse(vu, -EBUSY, "ring addresses changed while it runs");
	ring->addr = *addr;
	ring->have_addr = true;
	return 0;
}

int handle_SET_VRING_BASE(struct vhost_user *vu, struct vu_message *m)
{
	struct ring *ring = handler_ring(vu, m->payload.state.index);

	if (!ring)
		return -EINVAL;
	if (ring->started)
		return handler_refuse(vu, -EBUSY, "ring base changed while it runs");
	if (m->payload.state.num > UINT16_MAX)
		return handler_refuse(vu, -EINVAL, "ring base beyond 65535");
	ring->vq.last_avail = (uint16_t)m->payload.state.num;
	return 0;
}

int handle_GET_VRING_BASE(struct vhost_user *vu, struct vu_message *m)
{
	struct ring *ring = handler_ring(vu, m->payload.state.index);

	if (!ring)
		return -EINVAL;
	if (!handler_drained(vu, ring))
		return SESSION_AGAIN;
	ring->draining = false;
	if (vu->replaying)
		ring_settle(ring);
	if (ring->started) {
		session_release(vu, KEEPER_CUSTODY_KICK, ring->index);
		ring_stop(ring);
	}
	m->payload.state.num = ring->vq.last_avail;
	m->size = sizeof(m->payload.state);
	return 0;
}

int handle_SET_VRING_ENABLE(struct vhost_user *vu, struct vu_message *m)
{
	struct ring *ring = handler_ring(vu, m->payload.state.index);

	if (!ring)
		return -EINVAL;
	if (m->payload.state.num > 1)
		return handler_refuse(vu, -EINVAL, "ring enabled with neither 0 nor 1");
	ring->enabled = m->payload.state.num;
	session_wake(vu);
	return 0;
}

/* The fd of a SET_VRING_KICK, _CALL or _ERR, now the caller's; -1 where the front end gave none. */
static int vring_fd(struct vhost_user *vu, struct vu_message *m, struct ring **ret, int *ret_fd)
{
	uint64_t value = m->payload.u64;
	bool none = value & VHOST_USER_VRING_NO_FD;

	*ret = handler_ring(vu, value & VHOST_USER_VRING_INDEX_MASK);
	*ret_fd = -1;
	if (!*ret)
		return -EINVAL;
	if (value & ~(uint64_t)(VHOST_USER_VRING_INDEX_MASK | VHOST_USER_VRING_NO_FD))
		return handler_refuse(vu, -EINVAL, "ring descriptor message with unknown bits");
	if (none != !m->fds.count)
		return handler_refuse(vu, -EINVAL, "ring descriptor and its flag do not agree");
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

int handle_SET_VRING_KICK(struct vhost_user *vu, struct vu_message *m)
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

int handle_SET_VRING_CALL(struct vhost_user *vu, struct vu_message *m)
{
	return vring_set_fd(vu, m, KEEPER_CUSTODY_CALL);
}

int handle_SET_VRING_ERR(struct vhost_user *vu, struct vu_message *m)
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

/*
 * In a replay the region is the one that was made then, or one that took its place since; false:
 * there is none, it is made now.
 */
static bool inflight_again(struct vhost_user *vu, struct vhost_user_inflight *in)
{
	if (vu->inflight_fd < 0) {
		vu->inflight_at = (struct keeper_custody){.kind = KEEPER_CUSTODY_INFLIGHT};
		vu->inflight_fd = vu->keep->take(vu->keep->data, &vu->inflight_at);
	}
	if (vu->inflight_fd < 0) {
		vu->inflight_fd = -1;
		return false;
	}
	in->mmap_size = vu->inflight_at.a;
	in->mmap_offset = vu->inflight_at.b;
	if (inflight_attach(&vu->inflight, in, vu->inflight_fd) < 0)
		return false;
	vu->reply_fd = fcntl(vu->inflight_fd, F_DUPFD_CLOEXEC, 3);
	return vu->reply_fd >= 0;
}

int handle_GET_INFLIGHT_FD(struct vhost_user *vu, struct vu_message *m)
{
	struct vhost_user_inflight *in = &m->payload.inflight;
	uint64_t size;

	if (inflight_busy(vu))
		return handler_refuse(vu, -EBUSY, "inflight region asked for while a ring runs");
	if (vu->replaying && inflight_again(vu, in)) {
		session_claim(vu, KEEPER_CUSTODY_INFLIGHT, 0);
		return 0;
	}
	int err = inflight_create(
		&vu->inflight, in->num_queues, in->queue_size, &vu->reply_fd, &size);
	if (err)
		return handler_refuse(vu, err, "inflight region cannot be made");
	in->mmap_size = size;
	in->mmap_offset = 0;
	session_custody(vu, KEEPER_CUSTODY_INFLIGHT, 0, (const uint64_t[3]){size}, vu->reply_fd);
	return 0;
}

int handle_SET_INFLIGHT_FD(struct vhost_user *vu, struct vu_message *m)
{
	const struct vhost_user_inflight *in = &m->payload.inflight;

	if (m->fds.count != 1)
		return handler_refuse(vu, -EINVAL, "no file in SET_INFLIGHT_FD");
	if (inflight_busy(vu))
		return handler_refuse(vu, -EBUSY, "inflight region changed while a ring runs");
	int err = inflight_attach(&vu->inflight, in, m->fds.fd[0]);
	if (err)
		return handler_refuse(vu, err, "inflight region does not fit its numbers");
	session_custody(vu, KEEPER_CUSTODY_INFLIGHT, 0,
		(const uint64_t[3]){in->mmap_size, in->mmap_offset}, m->fds.fd[0]);
	return 0;
}
