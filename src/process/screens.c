/* SPDX-License-Identifier: Apache-2.0 */
#include "process/screens.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "process/channel.h"

#include "protocol/screen.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

struct screen_memory {
	struct vgpu_screen *header; /* NULL: the head is off */
	size_t size;
	uint32_t width;
};

struct screens {
	int channel_fd;
	struct screen_memory heads[DISPLAY_MAX_HEADS];
	struct log_limit log; /* a guest changes modes as often as it likes */
};

int screens_create(int channel_fd, struct screens **ret)
{
	struct screens *screens = calloc(1, sizeof(*screens));
	if (!screens)
		return -ENOMEM;
	screens->channel_fd = channel_fd;
	screens->log = (struct log_limit)LOG_LIMIT_INIT;
	*ret = screens;
	return 0;
}

static void screens_unmap(struct screen_memory *memory)
{
	if (memory->header)
		munmap(memory->header, memory->size);
	memory->header = NULL;
}

void screens_destroy(struct screens *screens)
{
	if (!screens)
		return;
	for (size_t i = 0; i < DISPLAY_MAX_HEADS; i++)
		screens_unmap(&screens->heads[i]);
	free(screens);
}

static int screens_map(struct screens *screens, uint32_t head, uint32_t width, uint32_t height)
{
	struct screen_memory *memory = &screens->heads[head];
	size_t size = VGPU_SCREEN_PIXELS_OFFSET + (size_t)width * height * 4;
	cleanup_close int fd = memfd_create("vgpu-screen", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || ftruncate(fd, (off_t)size) < 0 ||
		fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0)
		return -errno;
	struct vgpu_screen *header = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (header == MAP_FAILED)
		return -errno;
	*header = (struct vgpu_screen){.magic = VGPU_SCREEN_MAGIC,
		.version = VGPU_SCREEN_VERSION,
		.width = width,
		.height = height};
	*memory = (struct screen_memory){.header = header, .size = size, .width = width};
	const struct keeper_custody custody = {
		.kind = KEEPER_CUSTODY_SCREEN, .index = head, .a = width, .b = height};
	return channel_send(screens->channel_fd, KEEPER_DEVICE_CUSTODY, &custody, fd);
}

static void screens_mode(void *data, uint32_t head, uint32_t width, uint32_t height)
{
	struct screens *screens = data;

	screens_unmap(&screens->heads[head]);
	if (!width || !height) {
		const struct keeper_custody custody = {
			.kind = KEEPER_CUSTODY_SCREEN, .index = head};
		channel_send(screens->channel_fd, KEEPER_DEVICE_RELEASE, &custody, -1);
		return;
	}
	int err = screens_map(screens, head, width, height);
	if (err < 0)
		log_limited(&screens->log, LOG_LEVEL_ERROR,
			"no memory for the picture of head %u: %s", head, strerror(-err));
}

static void screens_update(void *data, uint32_t head, const struct display_rect *rect,
	const uint8_t *pixels, uint32_t stride)
{
	const struct screens *screens = data;
	struct vgpu_screen *header = screens->heads[head].header;

	if (!header || stride != screens->heads[head].width * 4)
		return;
	uint8_t *to = (uint8_t *)header + VGPU_SCREEN_PIXELS_OFFSET;
	__atomic_add_fetch(&header->sequence, 1, __ATOMIC_SEQ_CST);
	for (uint32_t y = rect->y; y < rect->y + rect->h; y++) {
		size_t at = (size_t)y * stride + (size_t)rect->x * 4;
		memcpy(to + at, pixels + at, (size_t)rect->w * 4);
	}
	header->frames++;
	__atomic_add_fetch(&header->sequence, 1, __ATOMIC_SEQ_CST);
}

static void screens_cursor(void *data, const struct display_cursor *cursor, const uint32_t *image)
{
	/* A screenshot shows the picture without the pointer, as QEMU's does. */
}

const struct display_ops screens_display_ops = {
	.mode = screens_mode,
	.update = screens_update,
	.cursor = screens_cursor,
};
