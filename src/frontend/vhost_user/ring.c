/* SPDX-License-Identifier: Apache-2.0 */
#include "ring.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/iov.h"

#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#define RING_SMALL_IOV  16u  /* entries that a reusable request has room for */
#define RING_SMALL_COPY 256u /* bytes likewise */
#define RING_FOREIGN    (1ull << 63)

struct ring_request {
	struct virtio_gpu_request gpu;
	struct ring *ring;
	struct ring_request *next, **link; /* in ring->requests; `next` also in ring->spare */
	uint16_t head;
	bool silent;      /* replayed; nobody waits for it */
	uint32_t written; /* completed and not returned yet */
	struct ring_request *deferred;
	/* kept: the readable bytes, private */
	struct iovec copy;
	uint8_t *copy_large;
	uint8_t copy_small[RING_SMALL_COPY];
	unsigned n_iov;
	struct iovec iov[];
};

void ring_init(struct ring *ring, struct vhost_user *vu, uint32_t index)
{
	*ring = (struct ring){
		.vu = vu,
		.index = index,
		.kick_fd = -1,
		.call_fd = -1,
		.err_fd = -1,
	};
}

void ring_finish(struct ring *ring)
{
	ring_stop(ring);
	close_fd(&ring->call_fd);
	close_fd(&ring->err_fd);
	while (ring->spare) {
		struct ring_request *request = ring->spare;
		ring->spare = request->next;
		free(request);
	}
}

static void ring_signal(int fd)
{
	uint64_t one = 1;

	/* EAGAIN: the counter is full, so the other side has a call waiting already. */
	if (fd >= 0 && write(fd, &one, sizeof(one)) < 0)
		return;
}

void ring_fd_ready(int fd)
{
	/* A front end may hand over a full counter: writing to it must not block. */
	if (fd >= 0)
		(void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

static void ring_break(struct ring *ring, const char *reason)
{
	ring->broken = true;
	ring_signal(ring->err_fd);
	log_limited(&ring->vu->log_limit, LOG_LEVEL_WARNING, "ring %u stopped: %s", ring->index,
		reason);
}

/* ---- requests ---- */

static struct ring_request *ring_request_new(struct ring *ring, const struct virtqueue_chain *chain)
{
	unsigned n = chain->n_out + chain->n_in;
	struct ring_request *request = ring->spare;

	if (n <= RING_SMALL_IOV && request) {
		ring->spare = request->next;
	} else {
		request = malloc(sizeof(*request) + MAX(n, RING_SMALL_IOV) * sizeof(struct iovec));
		if (!request)
			return NULL;
	}
	request->gpu = (struct virtio_gpu_request){
		.out = request->iov,
		.n_out = chain->n_out,
		.in = request->iov + chain->n_out,
		.n_in = chain->n_in,
	};
	request->ring = ring;
	request->head = chain->head;
	request->silent = false;
	request->copy = (struct iovec){0};
	request->copy_large = NULL;
	request->n_iov = n;
	if (n)
		memcpy(request->iov, chain->iov, n * sizeof(struct iovec));
	request->next = ring->requests;
	request->link = &ring->requests;
	if (request->next)
		request->next->link = &request->next;
	ring->requests = request;
	return request;
}

static void ring_request_free(struct ring_request *request)
{
	struct ring *ring = request->ring;

	*request->link = request->next;
	if (request->next)
		request->next->link = request->link;
	ring->vu->copied -= request->copy_large ? request->copy.iov_len : 0;
	free(TAKE_PTR(request->copy_large));
	if (request->n_iov <= RING_SMALL_IOV) {
		request->next = ring->spare;
		ring->spare = request;
	} else {
		free(request);
	}
}

/* Reads the request's bytes, once, and has it executed from the copy. */
static int ring_request_copy(struct ring_request *request, size_t size)
{
	uint8_t *to = request->copy_small;

	if (size > RING_SMALL_COPY) {
		to = request->copy_large = malloc(size);
		if (!to)
			return -ENOMEM;
		request->ring->vu->copied += size;
	}
	request->copy = (struct iovec){.iov_base = to, .iov_len = size};
	iov_read(request->gpu.out, request->gpu.n_out, 0, to, size);
	request->gpu.out = &request->copy;
	request->gpu.n_out = size ? 1 : 0;
	return 0;
}

static bool ring_head_in_flight(const struct ring *ring, uint16_t head)
{
	return ring->in_flight_heads[head / 64] >> (head % 64) & 1;
}

static void ring_mark_head(struct ring *ring, uint16_t head, bool in_flight)
{
	uint64_t bit = 1ull << (head % 64);

	if (in_flight)
		ring->in_flight_heads[head / 64] |= bit;
	else
		ring->in_flight_heads[head / 64] &= ~bit;
}

static void ring_call(struct ring *ring)
{
	ring->pushed = false;
	if (virtqueue_should_call(&ring->vq))
		ring_signal(ring->call_fd);
}

/* The driver has it back, unless the ring ended meanwhile. */
static void ring_return(struct ring_request *request)
{
	struct ring *ring = request->ring;
	struct vhost_user *vu = ring->vu;

	if (ring->started && !ring->broken && !vu->ended) {
		inflight_return_begin(ring->own, request->head);
		inflight_return_begin(ring->tracked, request->head);
		virtqueue_push(&ring->vq, request->head, request->written);
		inflight_return_end(ring->own, request->head, ring->vq.used_idx);
		inflight_return_end(ring->tracked, request->head, ring->vq.used_idx);
		ring->pushed = true;
		if (!ring->serving)
			ring_call(ring);
	}
	ring_mark_head(ring, request->head, false);
	vu->iov_in_flight -= request->n_iov;
	ring->in_flight--;
	ring_request_free(request);
	/* Room was made, for a chain of any ring that had to wait, or for a message that did. */
	if (vu->starved || (ring->draining && !ring->in_flight)) {
		vu->starved = false;
		session_wake(vu);
	}
}

void ring_return_deferred(struct vhost_user *vu)
{
	while (vu->deferred) {
		struct ring_request *request = vu->deferred;
		vu->deferred = request->deferred;
		ring_return(request);
	}
	vu->deferred_end = &vu->deferred;
}

void ring_complete(struct virtio_gpu_request *gpu_request, uint32_t written)
{
	struct ring_request *request = container_of(gpu_request, struct ring_request, gpu);
	struct vhost_user *vu = request->ring->vu;

	/* Only now: an earlier request may complete in the middle of a later one's execution. */
	if (vu->executing == request)
		session_executed(vu);
	request->written = written;
	if (request->silent) {
		ring_request_free(request);
	} else if (vu->loading) { /* the journal is being read: its mark comes first */
		request->deferred = NULL;
		*vu->deferred_end = request;
		vu->deferred_end = &request->deferred;
	} else {
		ring_return(request);
	}
}

/* ---- lifecycle ---- */

static void ring_on_kick(void *data, uint32_t events)
{
	struct ring *ring = data;
	struct vhost_user *vu = ring->vu;
	uint64_t count;

	ssize_t n = read(ring->kick_fd, &count, sizeof(count));
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		/* Not an eventfd, or its pipe's other end is gone: it would be readable for ever.
		 */
		loop_remove(ring->kick_source);
		ring->kick_source = NULL;
	}
	unsigned budget = ring->index == VIRTIO_GPU_CURSOR_QUEUE ? SESSION_CURSOR_BUDGET
								 : SESSION_RING_BUDGET;
	if (ring_serve(ring, budget))
		session_wake(vu);
}

/*
 * QEMU before 8.2 says nothing of a guest's reset. The driver then starts from index 0 with an
 * empty used ring, which a guest that was merely paused does not.
 */
static void ring_notice_reset(struct ring *ring)
{
	bool reset = ring->index == VIRTIO_GPU_CONTROL_QUEUE && ring->taken_total &&
		     !ring->vq.last_avail && virtqueue_untouched(&ring->vq);

	if (!session_remember(ring->vu, reset))
		return;
	ring->taken_total = 0;
	virtio_gpu_reset(ring->vu->gpu);
}

static int ring_map(struct ring *ring, const char **ret_reason)
{
	struct vhost_user *vu = ring->vu;

	ring->vq.event_idx = vu->features >> VIRTIO_BIT_RING_EVENT_IDX & 1;
	ring->vq.indirect = vu->features >> VIRTIO_BIT_RING_INDIRECT_DESC & 1;
	if (!ring->num || !ring->have_addr) {
		*ret_reason = "ring started before its size and addresses were set";
		return -EINVAL;
	}
	int err = virtqueue_map(&ring->vq, &vu->memory, ring->num, ring->addr.desc,
		ring->addr.avail, ring->addr.used);
	*ret_reason = err == -EFAULT ? "ring outside guest memory" : "ring of a bad alignment";
	return err;
}

/* Of a ring that begins: what the wire's queue says is what the front end's region says. */
static void ring_begin_own(struct ring *ring)
{
	uint16_t heads[VIRTQUEUE_MAX_SIZE];
	uint64_t number;

	inflight_reset(ring->own);
	if (ring->tracked)
		inflight_copy(ring->own, ring->tracked, ring->num);
	unsigned n = inflight_recover(ring->own, ring->num, ring->vq.used_idx, heads, &number);
	/* Numbered like no record is: the front end's numbers are not this connection's. */
	for (unsigned i = 0; i < n; i++)
		inflight_take(ring->own, heads[i], RING_FOREIGN | i);
	ring->own->features = (uint16_t)(ring->vq.last_avail - ring->vq.used_idx - n);
}

/* What a predecessor took and did not return comes first. */
static int ring_recover(struct ring *ring)
{
	struct vhost_user *vu = ring->vu;

	free(TAKE_PTR(ring->resubmit));
	ring->n_resubmit = ring->next_resubmit = 0;
	ring->tracked = inflight_queue(&vu->inflight, ring->index, ring->num);
	ring->own = vu->keep ? &vu->wire->ring[ring->index].queue : NULL;
	if (vu->quiet) /* what the regions say is of later: ring_resume() */
		return 0;
	if (!ring->tracked) {
		if (ring->own)
			ring_begin_own(ring);
		return 0;
	}
	ring->resubmit = calloc(ring->num, sizeof(*ring->resubmit));
	if (!ring->resubmit)
		return -ENOMEM;
	ring->n_resubmit = inflight_recover(
		ring->tracked, ring->num, ring->vq.used_idx, ring->resubmit, &ring->counter);
	/* The front end's base may date from before those were taken; the region knows. */
	if (ring->n_resubmit)
		ring->vq.last_avail = (uint16_t)(ring->vq.used_idx + ring->n_resubmit);
	if (ring->own)
		ring_begin_own(ring);
	return 0;
}

int ring_watch(struct ring *ring)
{
	if (ring->kick_fd < 0 || ring->kick_source || ring->vu->frozen)
		return 0;
	return loop_add_fd(
		ring->vu->loop, ring->kick_fd, EPOLLIN, ring_on_kick, ring, &ring->kick_source);
}

void ring_unwatch(struct ring *ring)
{
	loop_remove(TAKE_PTR(ring->kick_source));
}

int ring_resume(struct ring *ring)
{
	uint16_t heads[VIRTQUEUE_MAX_SIZE];
	uint64_t number;
	unsigned missing = 0;

	ring_remap(ring);
	if (!ring->started || ring->broken || !ring->own)
		return 0;
	free(TAKE_PTR(ring->resubmit));
	ring->n_resubmit = ring->next_resubmit = 0;
	ring->resubmit = calloc(ring->num, sizeof(*ring->resubmit));
	if (!ring->resubmit)
		return -ENOMEM;
	unsigned n = inflight_recover(ring->own, ring->num, ring->vq.used_idx, heads, &number);
	for (unsigned i = 0; i < n; i++) {
		if (!ring_head_in_flight(ring, heads[i]))
			ring->resubmit[missing++] = heads[i];
	}
	ring->n_resubmit = missing;
	/* Beyond what was used and is in flight only by what the front end began with. */
	ring->vq.last_avail = (uint16_t)(ring->vq.used_idx + n + (uint16_t)ring->own->features);
	if (!(number & RING_FOREIGN))
		ring->vu->numbers = MAX(ring->vu->numbers, number);
	inflight_copy(ring->tracked, ring->own, ring->num);
	ring_signal(ring->call_fd); /* the predecessor may have shown an index and not said so */
	return 0;
}

int ring_start(struct ring *ring, int fd, const char **ret_reason)
{
	cleanup_close int kick = fd;

	if (ring->started) { /* a new kick fd for a running ring is an exchange */
		loop_remove(TAKE_PTR(ring->kick_source));
		close_fd(&ring->kick_fd);
	} else {
		if (ring->in_flight) {
			*ret_reason = "ring started while requests of it are in flight";
			return -EBUSY;
		}
		int err = ring_map(ring, ret_reason);
		if (err)
			return err;
		ring_notice_reset(ring);
		err = ring_recover(ring);
		if (err) {
			*ret_reason = "out of memory";
			return err;
		}
		ring->broken = ring->draining = ring->pushed = false;
	}
	ring->polled = kick < 0;
	ring_fd_ready(kick);
	ring->kick_fd = TAKE_FD(kick);
	ring->started = true;
	int err = ring_watch(ring);
	if (err) {
		*ret_reason = "kick descriptor cannot be watched";
		ring_stop(ring);
		return err;
	}
	session_wake(ring->vu);
	return 0;
}

void ring_stop(struct ring *ring)
{
	loop_remove(TAKE_PTR(ring->kick_source));
	close_fd(&ring->kick_fd);
	free(TAKE_PTR(ring->resubmit));
	ring->started = ring->broken = ring->polled = false;
	ring->tracked = ring->own = NULL;
	ring->n_resubmit = ring->next_resubmit = 0;
	ring->ready_ns = 0;
	virtqueue_unmap(&ring->vq);
}

void ring_remap(struct ring *ring)
{
	const char *reason;
	struct virtqueue was = ring->vq;

	if (!ring->started || ring->broken)
		return;
	if (ring_map(ring, &reason) < 0) {
		ring_break(ring, reason);
		return;
	}
	ring->vq.signalled = was.signalled;
	ring->vq.signalled_valid = was.signalled_valid;
}

/* ---- serving ---- */

/* The next chain, from what a predecessor left or from the ring: 1, 0 none, -errno. */
static int ring_next(struct ring *ring, const char **ret_reason)
{
	struct vhost_user *vu = ring->vu;

	if (ring->next_resubmit < ring->n_resubmit)
		return virtqueue_gather(&ring->vq, &vu->memory, ring->resubmit[ring->next_resubmit],
			&vu->scratch, ret_reason);
	return virtqueue_peek(&ring->vq, &vu->memory, &vu->scratch, ret_reason);
}

static void ring_advance(struct ring *ring)
{
	if (ring->next_resubmit < ring->n_resubmit)
		ring->next_resubmit++;
	else
		virtqueue_advance(&ring->vq);
}

/* Marks and records it; 0, or why it cannot be executed now: -EAGAIN, or ever. */
static int ring_keep(struct ring *ring, struct ring_request *request)
{
	struct vhost_user *vu = ring->vu;
	uint64_t number = vu->numbers++;
	uint32_t head[2] = {ring->index, request->head};
	const struct iovec parts[] = {{head, sizeof(head)}, request->copy};

	inflight_take(ring->tracked, request->head, number);
	inflight_take(ring->own, request->head, number);
	int err = session_record(vu, JOURNAL_REQUEST, number, parts, ARRAY_SIZE(parts));
	if (err) {
		inflight_untake(ring->own, request->head);
		inflight_untake(ring->tracked, request->head);
		return err;
	}
	vu->executing = request;
	return 0;
}

static void ring_execute(struct ring *ring, struct ring_request *request)
{
	struct vhost_user *vu = ring->vu;

	ring_mark_head(ring, request->head, true);
	vu->iov_in_flight += request->n_iov;
	ring->in_flight++;
	ring->taken_total++;
	virtio_gpu_request(vu->gpu, (enum virtio_gpu_queue)ring->index, &request->gpu);
	if (vu->executing == request)
		session_executed(vu);
}

static bool ring_must_wait(struct vhost_user *vu, unsigned n, size_t size)
{
	bool starved = (vu->iov_in_flight && vu->iov_in_flight + n > SESSION_MAX_IOV) ||
		       (vu->copied && vu->copied + size > SESSION_MAX_COPIES);

	vu->starved = vu->starved || starved;
	return starved || !session_has_room(vu, size);
}

static void ring_leave(struct ring *ring)
{
	if (!ring->ready_ns)
		ring->ready_ns = clock_ns();
}

/* Requests were taken by a turn that began then. */
static void ring_waited(struct ring *ring, uint64_t began)
{
	uint64_t since = ring->ready_ns ?: loop_woken_ns(ring->vu->loop);

	ring->ready_ns = 0;
	if (since && began > since)
		device_waited(ring->vu->dev, began - since);
}

static int ring_fail_take(struct ring *ring, int err, const char *reason)
{
	ring_break(ring, err == -ENOMEM ? "out of memory" : reason);
	return err;
}

/* Takes one request: 1, 0 when there is none or it has to wait, -errno when the ring is broken. */
static int ring_take(struct ring *ring)
{
	struct vhost_user *vu = ring->vu;
	const struct virtqueue_chain *chain = &vu->scratch;
	const char *reason;
	int err = 0;

	int r = ring_next(ring, &reason);
	if (r == 0)
		return 0;
	if (r == 1 && ring_head_in_flight(ring, chain->head)) {
		reason = "descriptor made available again before it was used";
		r = -EPROTO;
	}
	if (r < 0)
		return ring_fail_take(ring, r, reason);
	/* More than any command has is not looked at: the interpreter sees a short one. */
	size_t size = vu->keep ? MIN(iov_size(chain->iov, chain->n_out), SESSION_MAX_COPY) : 0;
	if (ring_must_wait(vu, chain->n_out + chain->n_in, size)) {
		ring_leave(ring);
		return 0;
	}
	struct ring_request *request = ring_request_new(ring, chain);
	if (!request)
		return ring_fail_take(ring, -ENOMEM, NULL);
	if (vu->keep) {
		err = ring_request_copy(request, size);
		if (!err)
			err = ring_keep(ring, request);
	} else {
		inflight_take(ring->tracked, chain->head, ring->counter++);
	}
	if (err) {
		ring_request_free(request);
		if (err != -EAGAIN)
			return ring_fail_take(ring, err, "request larger than the journal");
		ring_leave(ring);
		return 0;
	}
	ring_advance(ring);
	ring_execute(ring, request);
	return 1;
}

/* ---- replaying ---- */

void ring_settle(struct ring *ring)
{
	if (ring->started && !ring->broken && ring->own)
		ring->vq.last_avail =
			(uint16_t)(virtqueue_shown(&ring->vq) + (uint16_t)ring->own->features);
}

/* True with the chain in vu->scratch, when the driver waits for that very request. */
static bool ring_still_wants(struct ring *ring, uint16_t head, uint64_t number)
{
	struct vhost_user *vu = ring->vu;
	const char *reason;

	/* A mark of this number was made in this ring as it is now: stopping it drains it. */
	return ring->started && !ring->broken && ring->own && head < ring->num &&
	       !ring_head_in_flight(ring, head) &&
	       inflight_has(ring->own, ring->num, virtqueue_shown(&ring->vq), head, number) &&
	       virtqueue_gather(&ring->vq, &vu->memory, head, &vu->scratch, &reason) == 1;
}

int ring_replay(struct ring *ring, uint16_t head, uint64_t number, const void *bytes, size_t size)
{
	struct vhost_user *vu = ring->vu;
	struct virtqueue_chain nothing = {.head = head};
	bool wanted = ring_still_wants(ring, head, number);

	struct ring_request *request = ring_request_new(ring, wanted ? &vu->scratch : &nothing);
	if (!request)
		return -ENOMEM;
	request->copy = (struct iovec){.iov_base = (void *)(uintptr_t)bytes, .iov_len = size};
	request->gpu.out = &request->copy;
	request->gpu.n_out = size ? 1 : 0;
	vu->numbers = MAX(vu->numbers, number + 1);
	if (wanted) {
		ring_execute(ring, request);
		return 0;
	}
	request->silent = true;
	ring->taken_total++;
	virtio_gpu_request(vu->gpu, (enum virtio_gpu_queue)ring->index, &request->gpu);
	return 0;
}

/* ---- the turn of a ring ---- */

static bool ring_active(const struct ring *ring)
{
	return ring->started && ring->enabled && !ring->broken && !ring->draining &&
	       !ring->serving && session_may_serve(ring->vu);
}

bool ring_pending(struct ring *ring)
{
	if (!ring->started || !ring->enabled || ring->broken)
		return false;
	return ring->polled || ring->next_resubmit < ring->n_resubmit ||
	       virtqueue_enable_kicks(&ring->vq);
}

bool ring_serve(struct ring *ring, unsigned budget)
{
	struct vhost_user *vu = ring->vu;
	uint64_t began = 0;
	bool more = true;

	if (!ring_active(ring))
		return false;
	ring->serving = true;
	virtqueue_disable_kicks(&ring->vq);
	while (budget && more) {
		uint64_t now = began ? 0 : clock_ns();
		int r = ring_take(ring);
		if (r == 1 && !began) {
			began = now;
			ring_waited(ring, began);
		}
		budget--;
		/* The interpreter may have ended everything: look at nothing but the state. */
		if (r < 0 || vu->ended || !ring->started || ring->broken)
			more = false;
		else if (r == 0)
			more = !vu->starved && virtqueue_enable_kicks(&ring->vq);
	}
	ring->serving = false;
	if (more)
		ring_leave(ring);
	if (ring->pushed && ring->started && !ring->broken)
		ring_call(ring);
	if (guest_memory_broken(&vu->memory) || inflight_broken(&vu->inflight))
		session_fail(vu, "the file behind the guest's memory was cut short");
	return more && !vu->ended;
}
