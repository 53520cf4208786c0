/* SPDX-License-Identifier: Apache-2.0 */
#include "inflight.h"

#include "virtqueue.h"

#include "base/checked.h"
#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define INFLIGHT_VERSION 1u
#define INFLIGHT_ALIGN   64u /* of each queue's part: no two share a cache line */

static size_t inflight_stride(uint16_t queue_size)
{
	size_t size = sizeof(struct vhost_user_inflight_queue) +
		      queue_size * sizeof(struct vhost_user_inflight_desc);
	return (size + INFLIGHT_ALIGN - 1) / INFLIGHT_ALIGN * INFLIGHT_ALIGN;
}

static struct vhost_user_inflight_desc *inflight_descs(struct vhost_user_inflight_queue *queue)
{
	return (struct vhost_user_inflight_desc *)(queue + 1);
}

static bool inflight_numbers_fit(uint16_t num_queues, uint16_t queue_size)
{
	return num_queues && num_queues <= KEEPER_MAX_RINGS && queue_size &&
	       queue_size <= VIRTQUEUE_MAX_SIZE;
}

static int inflight_map(struct inflight *inflight, int fd, uint64_t offset, uint64_t size)
{
	uint64_t lead = offset % 4096;
	size_t len = (size_t)((lead + size + 4095) / 4096 * 4096);
	void *map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)(offset - lead));

	if (map == MAP_FAILED)
		return -errno;
	struct guard *guard;
	int err = guard_add(map, len, &guard);
	if (err) {
		munmap(map, len);
		return err;
	}
	inflight_finish(inflight);
	inflight->map = map;
	inflight->map_len = len;
	inflight->guard = guard;
	inflight->queues = (uint8_t *)map + lead;
	return 0;
}

int inflight_create(struct inflight *inflight, uint16_t num_queues, uint16_t queue_size,
	int *ret_fd, uint64_t *ret_size)
{
	if (!inflight_numbers_fit(num_queues, queue_size))
		return -EINVAL;
	uint64_t size = num_queues * inflight_stride(queue_size);
	cleanup_close int fd = memfd_create("vgpu-inflight", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
		return -errno;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	int err = inflight_map(inflight, fd, 0, size);
	if (err)
		return err;
	inflight->num_queues = num_queues;
	inflight->queue_size = queue_size;
	*ret_fd = TAKE_FD(fd);
	*ret_size = size;
	return 0;
}

int inflight_attach(struct inflight *inflight, const struct vhost_user_inflight *message, int fd)
{
	struct stat st;

	if (!inflight_numbers_fit(message->num_queues, message->queue_size) ||
		message->mmap_offset % INFLIGHT_ALIGN)
		return -EINVAL;
	uint64_t need = message->num_queues * inflight_stride(message->queue_size);
	if (need > message->mmap_size || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
		!range_inside(message->mmap_offset, need, (uint64_t)st.st_size))
		return -EINVAL;
	int err = inflight_map(inflight, fd, message->mmap_offset, need);
	if (err)
		return err;
	inflight->num_queues = message->num_queues;
	inflight->queue_size = message->queue_size;
	return 0;
}

void inflight_finish(struct inflight *inflight)
{
	if (inflight->map) {
		guard_remove(inflight->guard);
		munmap(inflight->map, inflight->map_len);
	}
	*inflight = (struct inflight){0};
}

bool inflight_broken(const struct inflight *inflight)
{
	return guard_broken(inflight->guard);
}

struct vhost_user_inflight_queue *inflight_queue(
	struct inflight *inflight, unsigned index, uint16_t num)
{
	if (!inflight->map || index >= inflight->num_queues || num > inflight->queue_size)
		return NULL;
	return (struct vhost_user_inflight_queue *)(inflight->queues +
						    index * inflight_stride(inflight->queue_size));
}

void inflight_take(struct vhost_user_inflight_queue *queue, uint16_t head, uint64_t counter)
{
	if (!queue)
		return;
	struct vhost_user_inflight_desc *desc = &inflight_descs(queue)[head];
	__atomic_store_n(&desc->counter, counter, __ATOMIC_RELAXED);
	__atomic_store_n(&desc->inflight, 1, __ATOMIC_RELEASE);
}

void inflight_return_begin(struct vhost_user_inflight_queue *queue, uint16_t head)
{
	if (!queue)
		return;
	struct vhost_user_inflight_desc *desc = &inflight_descs(queue)[head];
	desc->next = queue->last_batch_head;
	__atomic_store_n(&queue->last_batch_head, head, __ATOMIC_RELEASE);
}

void inflight_return_end(struct vhost_user_inflight_queue *queue, uint16_t head, uint16_t used_idx)
{
	if (!queue)
		return;
	__atomic_store_n(&inflight_descs(queue)[head].inflight, 0, __ATOMIC_RELEASE);
	__atomic_store_n(&queue->used_idx, used_idx, __ATOMIC_RELEASE);
}

struct recovered {
	uint64_t counter;
	uint16_t head;
};

static int recovered_compare(const void *a, const void *b)
{
	const struct recovered *x = a, *y = b;
	return x->counter < y->counter ? -1 : x->counter > y->counter;
}

/* The predecessor died between showing the used index and unmarking what it covers. */
static void inflight_finish_batch(
	struct vhost_user_inflight_queue *queue, uint16_t num, uint16_t used_idx)
{
	uint16_t batch = (uint16_t)(used_idx - queue->used_idx);
	uint16_t head = queue->last_batch_head;

	for (unsigned i = 0; i < batch && i < num && head < num; i++) {
		struct vhost_user_inflight_desc *desc = &inflight_descs(queue)[head];
		__atomic_store_n(&desc->inflight, 0, __ATOMIC_RELAXED);
		head = __atomic_load_n(&desc->next, __ATOMIC_RELAXED);
	}
	__atomic_store_n(&queue->used_idx, used_idx, __ATOMIC_RELEASE);
}

void inflight_untake(struct vhost_user_inflight_queue *queue, uint16_t head)
{
	if (queue)
		__atomic_store_n(&inflight_descs(queue)[head].inflight, 0, __ATOMIC_RELEASE);
}

bool inflight_has(struct vhost_user_inflight_queue *queue, uint16_t num, uint16_t used_idx,
	uint16_t head, uint64_t counter)
{
	const struct vhost_user_inflight_desc *desc = &inflight_descs(queue)[head];

	if (queue->version != INFLIGHT_VERSION)
		return false;
	inflight_finish_batch(queue, num, used_idx);
	return __atomic_load_n(&desc->inflight, __ATOMIC_ACQUIRE) && desc->counter == counter;
}

void inflight_reset(struct vhost_user_inflight_queue *queue)
{
	queue->version = 0;
	queue->features = 0;
}

void inflight_copy(struct vhost_user_inflight_queue *to,
	const struct vhost_user_inflight_queue *from, uint16_t num)
{
	if (!to || !from)
		return;
	memcpy(to + 1, from + 1, num * sizeof(struct vhost_user_inflight_desc));
	to->desc_num = num;
	to->last_batch_head = from->last_batch_head;
	to->used_idx = from->used_idx;
	__atomic_store_n(&to->version, INFLIGHT_VERSION, __ATOMIC_RELEASE);
}

unsigned inflight_recover(struct vhost_user_inflight_queue *queue, uint16_t num, uint16_t used_idx,
	uint16_t *heads, uint64_t *ret_counter)
{
	struct recovered found[VIRTQUEUE_MAX_SIZE];
	unsigned n = 0;

	*ret_counter = 0;
	if (!queue)
		return 0;
	if (queue->version != INFLIGHT_VERSION) {
		queue->features = 0;
		queue->desc_num = num;
		queue->used_idx = used_idx;
		for (unsigned i = 0; i < num; i++)
			inflight_descs(queue)[i] = (struct vhost_user_inflight_desc){0};
		__atomic_store_n(&queue->version, INFLIGHT_VERSION, __ATOMIC_RELEASE);
		return 0;
	}
	inflight_finish_batch(queue, num, used_idx);
	for (uint16_t i = 0; i < num; i++) {
		struct vhost_user_inflight_desc *desc = &inflight_descs(queue)[i];
		if (!__atomic_load_n(&desc->inflight, __ATOMIC_ACQUIRE))
			continue;
		uint64_t counter = __atomic_load_n(&desc->counter, __ATOMIC_RELAXED);
		found[n++] = (struct recovered){.counter = counter, .head = i};
		*ret_counter = MAX(*ret_counter, counter);
	}
	qsort(found, n, sizeof(found[0]), recovered_compare);
	for (unsigned i = 0; i < n; i++)
		heads[i] = found[i].head;
	if (*ret_counter < UINT64_MAX)
		++*ret_counter;
	return n;
}
