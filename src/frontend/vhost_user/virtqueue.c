/* SPDX-License-Identifier: Apache-2.0 */
#include "virtqueue.h"

#include "base/checked.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "virtio 1 rings are little-endian");
_Static_assert(sizeof(struct virtqueue_desc) == 16, "wire size");

#define AVAIL_FLAG_NO_INTERRUPT 1u
#define USED_FLAG_NO_NOTIFY     1u

/* Both rings begin with flags and index, 16 bits each, and end with the other side's event. */
enum { RING_FLAGS, RING_INDEX, RING_ENTRIES };

static uint16_t load16(const uint16_t *at)
{
	return __atomic_load_n(at, __ATOMIC_RELAXED);
}

static void store16(uint16_t *at, uint16_t value)
{
	__atomic_store_n(at, value, __ATOMIC_RELAXED);
}

static struct virtqueue_used *used_entries(const struct virtqueue *vq)
{
	return (struct virtqueue_used *)(vq->used + RING_ENTRIES);
}

static uint16_t *used_event(const struct virtqueue *vq)
{
	return vq->avail + RING_ENTRIES + vq->num;
}

static uint16_t *avail_event(const struct virtqueue *vq)
{
	return (uint16_t *)(used_entries(vq) + vq->num);
}

int virtqueue_map(struct virtqueue *vq, struct guest_memory *mem, uint16_t num, uint64_t desc_uva,
	uint64_t avail_uva, uint64_t used_uva)
{
	uint64_t event = vq->event_idx ? sizeof(uint16_t) : 0;

	if (!num || num > VIRTQUEUE_MAX_SIZE || (num & (num - 1)))
		return -EINVAL;
	if (desc_uva % 16 || avail_uva % 2 || used_uva % 4)
		return -EINVAL;
	void *desc = guest_memory_from_uva(mem, desc_uva, 16u * (uint64_t)num);
	void *avail = guest_memory_from_uva(mem, avail_uva, 4u + 2u * (uint64_t)num + event);
	void *used = guest_memory_from_uva(mem, used_uva, 4u + 8u * (uint64_t)num + event);
	if (!desc || !avail || !used)
		return -EFAULT;
	vq->desc = desc;
	vq->avail = avail;
	vq->used = used;
	vq->num = num;
	vq->used_idx = load16(vq->used + RING_INDEX);
	vq->signalled_valid = false;
	return 0;
}

void virtqueue_unmap(struct virtqueue *vq)
{
	vq->num = 0;
	vq->desc = NULL;
	vq->avail = vq->used = NULL;
}

/* ---- chains ---- */

/* Where descriptors are read from: the queue's own table, or an indirect one. */
struct table {
	const uint64_t *ring; /* NULL: indirect */
	uint64_t gpa;
	uint32_t count;
	uint32_t seen; /* descriptors read from it */
};

static int table_read(
	struct guest_memory *mem, const struct table *table, uint32_t i, struct virtqueue_desc *ret)
{
	if (!table->ring)
		return guest_memory_read(mem, table->gpa + 16u * (uint64_t)i, ret, sizeof(*ret));
	uint64_t words[2] = {
		__atomic_load_n(&table->ring[2 * i], __ATOMIC_RELAXED),
		__atomic_load_n(&table->ring[2 * i + 1], __ATOMIC_RELAXED),
	};
	memcpy(ret, words, sizeof(*ret));
	return 0;
}

static int chain_reserve(struct virtqueue_chain *chain, unsigned more)
{
	unsigned need = chain->n_out + chain->n_in + more;

	if (need <= chain->capacity)
		return 0;
	if (need > VIRTQUEUE_MAX_IOV)
		return -E2BIG;
	unsigned capacity = MIN(MAX(need, MAX(2 * chain->capacity, 64u)), VIRTQUEUE_MAX_IOV);
	struct iovec *iov = reallocarray(chain->iov, capacity, sizeof(*iov));
	if (!iov)
		return -ENOMEM;
	chain->iov = iov;
	chain->capacity = capacity;
	return 0;
}

static int chain_add(struct virtqueue_chain *chain, struct guest_memory *mem,
	const struct virtqueue_desc *desc, const char **ret_reason)
{
	bool write = desc->flags & VIRTQUEUE_DESC_WRITE;

	if (!desc->len) {
		*ret_reason = "descriptor of no length";
		return -EPROTO;
	}
	if (!write && chain->n_in) {
		*ret_reason = "readable descriptor after a writable one";
		return -EPROTO;
	}
	int n = chain_reserve(chain, KEEPER_MAX_MEMORY);
	if (!n) {
		unsigned at = chain->n_out + chain->n_in;
		n = guest_memory_translate(
			mem, desc->addr, desc->len, chain->iov + at, chain->capacity - at);
	}
	if (n == -ENOMEM)
		return n;
	if (n < 0) {
		*ret_reason = n == -EFAULT ? "descriptor outside guest memory" : "chain too long";
		return -EPROTO;
	}
	*(write ? &chain->n_in : &chain->n_out) += (unsigned)n;
	return 0;
}

static int table_enter_indirect(struct table *table, const struct virtqueue *vq,
	const struct virtqueue_desc *desc, const char **ret_reason)
{
	uint64_t end;

	if (!vq->indirect)
		*ret_reason = "indirect descriptor without the feature";
	else if (!table->ring)
		*ret_reason = "indirect descriptor in an indirect table";
	else if (desc->flags & VIRTQUEUE_DESC_NEXT)
		*ret_reason = "indirect descriptor is not the last";
	else if (!desc->len || desc->len % 16 || desc->len / 16 > VIRTQUEUE_MAX_TABLE)
		*ret_reason = "indirect table of a bad length";
	else if (!checked_add(desc->addr, desc->len, &end))
		*ret_reason = "indirect table outside guest memory";
	else {
		*table = (struct table){.gpa = desc->addr, .count = desc->len / 16};
		return 0;
	}
	return -EPROTO;
}

int virtqueue_gather(struct virtqueue *vq, struct guest_memory *mem, uint16_t head,
	struct virtqueue_chain *chain, const char **ret_reason)
{
	struct table table = {.ring = vq->desc, .count = vq->num};
	struct virtqueue_desc desc = {.flags = VIRTQUEUE_DESC_NEXT, .next = head};
	uint64_t bytes = 0;
	int err;

	chain->n_out = chain->n_in = 0;
	chain->head = head;
	*ret_reason = NULL;
	while (desc.flags & VIRTQUEUE_DESC_NEXT) {
		if (desc.next >= table.count)
			*ret_reason = "descriptor index beyond its table";
		else if (++table.seen > table.count)
			*ret_reason = "descriptor chain is a loop";
		else if (table_read(mem, &table, desc.next, &desc) < 0)
			*ret_reason = "indirect table outside guest memory";
		if (*ret_reason)
			return -EPROTO;
		if (desc.flags & VIRTQUEUE_DESC_INDIRECT) {
			err = table_enter_indirect(&table, vq, &desc, ret_reason);
			if (err)
				return err;
			desc = (struct virtqueue_desc){.flags = VIRTQUEUE_DESC_NEXT};
			continue;
		}
		err = chain_add(chain, mem, &desc, ret_reason);
		if (err)
			return err;
		bytes += desc.len;
		if (bytes > UINT32_MAX) {
			*ret_reason = "chain longer than 4 GiB";
			return -EPROTO;
		}
	}
	return 1;
}

int virtqueue_peek(struct virtqueue *vq, struct guest_memory *mem, struct virtqueue_chain *chain,
	const char **ret_reason)
{
	uint16_t idx = __atomic_load_n(vq->avail + RING_INDEX, __ATOMIC_ACQUIRE);
	uint16_t waiting = (uint16_t)(idx - vq->last_avail);

	if (!waiting)
		return 0;
	if (waiting > vq->num) {
		*ret_reason = "avail index jumped";
		return -EPROTO;
	}
	uint16_t head = load16(vq->avail + RING_ENTRIES + vq->last_avail % vq->num);
	return virtqueue_gather(vq, mem, head, chain, ret_reason);
}

void virtqueue_advance(struct virtqueue *vq)
{
	vq->last_avail++;
}

/* ---- the used ring ---- */

void virtqueue_push(struct virtqueue *vq, uint16_t head, uint32_t written)
{
	struct virtqueue_used *entry = &used_entries(vq)[vq->used_idx % vq->num];

	__atomic_store_n(&entry->id, head, __ATOMIC_RELAXED);
	__atomic_store_n(&entry->len, written, __ATOMIC_RELAXED);
	vq->used_idx++;
	__atomic_store_n(vq->used + RING_INDEX, vq->used_idx, __ATOMIC_RELEASE);
}

bool virtqueue_should_call(struct virtqueue *vq)
{
	/* The used index must be out before the driver's wish is read: it does the reverse. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!vq->event_idx)
		return !(load16(vq->avail + RING_FLAGS) & AVAIL_FLAG_NO_INTERRUPT);

	uint16_t was = vq->signalled;
	bool valid = vq->signalled_valid;
	vq->signalled = vq->used_idx;
	vq->signalled_valid = true;
	if (!valid)
		return true;
	uint16_t event = load16(used_event(vq));
	return (uint16_t)(vq->used_idx - event - 1) < (uint16_t)(vq->used_idx - was);
}

bool virtqueue_enable_kicks(struct virtqueue *vq)
{
	if (vq->event_idx)
		store16(avail_event(vq), vq->last_avail);
	else
		store16(vq->used + RING_FLAGS, 0);
	/* The wish must be out before the index is read again: the driver does the reverse. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return load16(vq->avail + RING_INDEX) != vq->last_avail;
}

void virtqueue_disable_kicks(struct virtqueue *vq)
{
	if (!vq->event_idx) /* with the event index, an index left behind does it */
		store16(vq->used + RING_FLAGS, USED_FLAG_NO_NOTIFY);
}

uint16_t virtqueue_shown(const struct virtqueue *vq)
{
	return __atomic_load_n(vq->used + RING_INDEX, __ATOMIC_ACQUIRE);
}

bool virtqueue_untouched(const struct virtqueue *vq)
{
	const struct virtqueue_used *entry = used_entries(vq);

	if (load16(vq->used + RING_INDEX))
		return false;
	for (unsigned i = 0; i < vq->num; i++) {
		if (__atomic_load_n(&entry[i].id, __ATOMIC_RELAXED) ||
			__atomic_load_n(&entry[i].len, __ATOMIC_RELAXED))
			return false;
	}
	return true;
}
