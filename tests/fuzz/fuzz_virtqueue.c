/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A split virtqueue in guest memory that is the input: the first bytes choose size, features and
 * index, the rest is the memory's image. Takes and returns chains until the queue is empty or
 * broken, touching every byte a chain names.
 */

#include "frontend/vhost_user/virtqueue.h"

#include "base/checked.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MEMORY 0x8000u
#define UVA    0x7f0000000000ull

/* Two regions that touch, so that ranges can cross a border. */
static uint8_t *make_memory(struct guest_memory *mem)
{
	struct vhost_user_region low = {0, MEMORY / 2, UVA, 0};
	struct vhost_user_region high = {MEMORY / 2, MEMORY / 2, UVA + MEMORY, MEMORY / 2};
	const char *reason;
	unsigned slot;
	int fd = memfd_create("guest", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, MEMORY) < 0)
		abort();
	guest_memory_init(mem);
	if (guest_memory_add(mem, &low, fd, &slot, &reason) ||
		guest_memory_add(mem, &high, fd, &slot, &reason))
		abort();
	uint8_t *image = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return image;
}

static unsigned touch(const struct virtqueue_chain *chain)
{
	unsigned sum = 0;

	for (unsigned i = 0; i < chain->n_out + chain->n_in; i++) {
		volatile uint8_t *at = chain->iov[i].iov_base;
		sum += at[0] + at[chain->iov[i].iov_len - 1];
	}
	return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct guest_memory mem;
	static uint8_t *image;
	static struct virtqueue_chain chain;
	const char *reason;

	if (!image)
		image = make_memory(&mem);
	if (size < 4)
		return 0;
	struct virtqueue vq = {
		.event_idx = data[0] & 1,
		.indirect = data[0] & 2,
		.last_avail = (uint16_t)(data[2] | data[3] << 8),
	};
	uint16_t num = (uint16_t)(1u << (data[1] % 9));
	size_t len = MIN(size - 4, (size_t)MEMORY);
	memset(image, 0, MEMORY);
	memcpy(image, data + 4, len);
	uint64_t avail = 16u * num, used = (avail + 6 + 2u * num + 3) & ~3ull;
	if (virtqueue_map(&vq, &mem, num, UVA, UVA + avail, UVA + used) < 0)
		return 0;
	for (unsigned i = 0; i < 2u * num; i++) {
		int r = virtqueue_peek(&vq, &mem, &chain, &reason);
		if (r <= 0)
			break;
		virtqueue_advance(&vq);
		virtqueue_push(&vq, chain.head, touch(&chain));
		(void)virtqueue_should_call(&vq);
	}
	(void)virtqueue_enable_kicks(&vq);
	return 0;
}
