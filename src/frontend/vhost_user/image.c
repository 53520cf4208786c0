/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The payload of a vhost-user connection's CONNECTION section, version 1: little-endian, in the
 * order of image_save(). What is read is checked on its own and against each other before any of it
 * takes effect; descriptors come from custody, and are checked like those of a front end.
 */

#include "session.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "state/section.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define IMAGE_VERSION 1u

enum image_flags {
	IMAGE_FEATURES_SET = 1,
	IMAGE_APPROVED = 2,
	IMAGE_ASKED = 4,
	IMAGE_INFLIGHT = 8, /* the front end has a region */
};

enum image_ring_flags {
	IMAGE_RING_ADDR = 1,
	IMAGE_RING_STARTED = 2,
	IMAGE_RING_ENABLED = 4,
	IMAGE_RING_BROKEN = 8,
	IMAGE_RING_POLLED = 16,
	IMAGE_RING_CALL = 32,
	IMAGE_RING_ERR = 64,
};

struct image_ring {
	uint32_t num, flags, last_avail;
	uint64_t taken_total;
	struct vhost_user_vring_addr addr;
};

struct image_region {
	uint32_t slot;
	struct guest_region was; /* .at, .dev, .ino */
};

struct image {
	uint32_t flags, memory_serial, n_regions, n_drops;
	uint64_t consumed, messages, numbers, features, protocol_features;
	struct vhost_user_inflight inflight;
	struct image_region region[KEEPER_MAX_MEMORY];
	struct image_ring ring[KEEPER_MAX_RINGS];
	uint64_t drops[SESSION_MAX_DROPS + KEEPER_CUSTODY_SCREEN * KEEPER_MAX_RINGS];
};

/* ---- writing ---- */

static void save_memory(const struct vhost_user *vu, struct state_writer *w)
{
	uint32_t n = 0;

	for (unsigned i = 0; i < KEEPER_MAX_MEMORY; i++)
		n += vu->memory.slot[i].at.size != 0;
	state_put_u32(w, n);
	for (uint32_t i = 0; i < KEEPER_MAX_MEMORY; i++) {
		const struct guest_region *region = &vu->memory.slot[i];
		if (!region->at.size)
			continue;
		state_put_u32(w, i);
		state_put(w, &region->at, sizeof(region->at));
		state_put_u64(w, region->dev);
		state_put_u64(w, region->ino);
	}
}

static void save_ring(const struct ring *ring, struct state_writer *w)
{
	uint32_t flags = (ring->have_addr ? IMAGE_RING_ADDR : 0u) |
			 (ring->started ? IMAGE_RING_STARTED : 0u) |
			 (ring->enabled ? IMAGE_RING_ENABLED : 0u) |
			 (ring->broken ? IMAGE_RING_BROKEN : 0u) |
			 (ring->polled ? IMAGE_RING_POLLED : 0u) |
			 (ring->call_fd >= 0 ? IMAGE_RING_CALL : 0u) |
			 (ring->err_fd >= 0 ? IMAGE_RING_ERR : 0u);

	state_put_u32(w, ring->num);
	state_put_u32(w, flags);
	state_put_u32(w, ring->vq.last_avail);
	state_put_u64(w, ring->taken_total);
	state_put(w, &ring->addr, sizeof(ring->addr));
}

/* Descriptors that the image makes needless, for who loads it: dropping may not have been reached.
 */
static void save_drops(const struct vhost_user *vu, struct state_writer *w)
{
	const uint64_t *held = &vu->held[0][0];
	unsigned n_held = KEEPER_CUSTODY_SCREEN * KEEPER_MAX_RINGS;
	uint32_t n = vu->n_drops;

	for (unsigned i = 0; i < n_held; i++)
		n += held[i] != 0;
	state_put_u32(w, n);
	for (unsigned i = 0; i < vu->n_drops; i++)
		state_put_u64(w, vu->drops[i]);
	for (unsigned i = 0; i < n_held; i++) {
		if (held[i])
			state_put_u64(w, held[i] - 1);
	}
}

void vhost_user_save(struct vhost_user *vu, struct state_writer *w)
{
	uint32_t flags = (vu->features_set ? IMAGE_FEATURES_SET : 0u) |
			 (vu->memory_approved ? IMAGE_APPROVED : 0u) |
			 (vu->memory_asked ? IMAGE_ASKED : 0u) |
			 (vu->inflight.map ? IMAGE_INFLIGHT : 0u);
	const struct vhost_user_inflight in = {
		.num_queues = vu->inflight.num_queues, .queue_size = vu->inflight.queue_size};

	vu->saved = session_journal(vu);
	vu->saved_at = journal_bytes(vu->saved);
	vu->was_saved = true;
	state_put_u32(w, IMAGE_VERSION);
	state_put_u32(w, flags);
	state_put_u64(w, vu->channel.consumed);
	state_put_u64(w, vu->messages);
	state_put_u64(w, vu->numbers);
	state_put_u64(w, vu->features);
	state_put_u64(w, vu->protocol_features);
	state_put_u32(w, vu->memory_serial);
	state_put(w, &in, sizeof(in));
	save_memory(vu, w);
	for (unsigned i = 0; i < KEEPER_MAX_RINGS; i++)
		save_ring(&vu->rings[i], w);
	save_drops(vu, w);
	display_socket_save(vu->display, w);
	virtio_gpu_save(vu->gpu, w);
}

/* ---- reading ---- */

static bool load_ring(struct image_ring *ring, struct state_reader *r)
{
	ring->num = state_get_u32(r);
	ring->flags = state_get_u32(r);
	ring->last_avail = state_get_u32(r);
	ring->taken_total = state_get_u64(r);
	state_get(r, &ring->addr, sizeof(ring->addr));
	bool power = ring->num && !(ring->num & (ring->num - 1));
	bool can_start = power && ring->flags & IMAGE_RING_ADDR;
	return (power || !ring->num) && ring->num <= VIRTQUEUE_MAX_SIZE &&
	       ring->last_avail <= UINT16_MAX && (can_start || !(ring->flags & IMAGE_RING_STARTED));
}

/* The part that belongs to the front end. Everything is read; -EBADMSG when it cannot be right. */
static int load_image(struct image *image, struct state_reader *r)
{
	bool fine = state_get_u32(r) == IMAGE_VERSION;

	image->flags = state_get_u32(r);
	image->consumed = state_get_u64(r);
	image->messages = state_get_u64(r);
	image->numbers = state_get_u64(r);
	image->features = state_get_u64(r);
	image->protocol_features = state_get_u64(r);
	image->memory_serial = state_get_u32(r);
	state_get(r, &image->inflight, sizeof(image->inflight));
	image->n_regions = state_get_u32(r);
	if (!fine || image->n_regions > KEEPER_MAX_MEMORY || image->numbers >> 62)
		return -EBADMSG;
	for (uint32_t i = 0; i < image->n_regions; i++) {
		struct image_region *region = &image->region[i];
		region->slot = state_get_u32(r);
		state_get(r, &region->was.at, sizeof(region->was.at));
		region->was.dev = state_get_u64(r);
		region->was.ino = state_get_u64(r);
	}
	for (unsigned i = 0; i < KEEPER_MAX_RINGS; i++)
		fine = load_ring(&image->ring[i], r) && fine;
	image->n_drops = state_get_u32(r);
	if (!fine || image->n_drops > ARRAY_SIZE(image->drops))
		return -EBADMSG;
	for (uint32_t i = 0; i < image->n_drops; i++)
		image->drops[i] = state_get_u64(r);
	return state_bad(r) ? -EBADMSG : 0;
}

/* ---- taking up ---- */

static int image_take(struct vhost_user *vu, struct keeper_custody *what)
{
	uint32_t kind = what->kind, index = what->index;
	int fd = vu->keep->take(vu->keep->data, what);

	return fd >= 0 && (what->kind != kind || what->index != index) ? -EBADMSG : fd;
}

/* A descriptor that may have been taken back or replaced since the image: never none. */
static int image_take_any(struct vhost_user *vu, uint32_t kind, uint32_t index)
{
	struct keeper_custody what = {.kind = kind, .index = index};
	int fd = image_take(vu, &what);
	return fd >= 0 ? fd : session_stand_in();
}

static int apply_memory(struct vhost_user *vu, const struct image *image)
{
	int err = 0;

	for (uint32_t i = 0; i < image->n_regions && !err; i++) {
		const struct image_region *region = &image->region[i];
		const struct vhost_user_region *at = &region->was.at;
		struct keeper_custody what = {.kind = KEEPER_CUSTODY_MEMORY, .index = region->slot};
		cleanup_close int fd = image_take(vu, &what);
		bool same =
			fd >= 0 && what.a == at->gpa && what.b == at->size && what.c == at->offset;
		err = guest_memory_restore(&vu->memory, region->slot, &region->was, same ? fd : -1);
	}
	return err;
}

static int apply_inflight(struct vhost_user *vu, const struct image *image)
{
	struct vhost_user_inflight in = image->inflight;
	struct keeper_custody what = {.kind = KEEPER_CUSTODY_INFLIGHT};

	vu->inflight_fd = image_take(vu, &what);
	if (vu->inflight_fd < 0) {
		vu->inflight_fd = -1;
		return 0; /* what follows asks for one, or there is none */
	}
	vu->inflight_at = what;
	if (!(image->flags & IMAGE_INFLIGHT))
		return 0;
	in.mmap_size = what.a;
	in.mmap_offset = what.b;
	/* One that came later may be smaller: a record says so, and replaces this one. */
	(void)inflight_attach(&vu->inflight, &in, vu->inflight_fd);
	return 0;
}

static int apply_ring(struct vhost_user *vu, unsigned index, const struct image_ring *was)
{
	struct ring *ring = &vu->rings[index];
	const char *reason;
	int err = 0;

	ring->num = (uint16_t)was->num;
	ring->addr = was->addr;
	ring->have_addr = was->flags & IMAGE_RING_ADDR;
	ring->enabled = was->flags & IMAGE_RING_ENABLED;
	ring->taken_total = 0; /* a ring that goes on is not one that begins */
	ring->vq.last_avail = (uint16_t)was->last_avail;
	if (was->flags & IMAGE_RING_CALL)
		ring->call_fd = image_take_any(vu, KEEPER_CUSTODY_CALL, index);
	if (was->flags & IMAGE_RING_ERR)
		ring->err_fd = image_take_any(vu, KEEPER_CUSTODY_ERR, index);
	ring_fd_ready(ring->call_fd);
	ring_fd_ready(ring->err_fd);
	if (was->flags & IMAGE_RING_STARTED) {
		bool polled = was->flags & IMAGE_RING_POLLED;
		int kick = polled ? -1 : image_take_any(vu, KEEPER_CUSTODY_KICK, index);
		err = ring_start(ring, kick, &reason);
	}
	ring->broken = was->flags & IMAGE_RING_BROKEN;
	ring->taken_total = was->taken_total;
	return err;
}

static int image_apply(struct vhost_user *vu, const struct image *image, struct state_reader *r)
{
	vu->channel.consumed = image->consumed;
	vu->messages = image->messages;
	vu->numbers = image->numbers;
	vu->features = image->features;
	vu->features_set = image->flags & IMAGE_FEATURES_SET;
	vu->protocol_features = image->protocol_features;
	vu->memory_serial = image->memory_serial;
	vu->memory_approved = image->flags & IMAGE_APPROVED;
	vu->memory_asked = image->flags & IMAGE_ASKED;
	if (vu->features_set)
		virtio_gpu_set_features(vu->gpu, vu->features & virtio_gpu_features(vu->gpu));
	for (uint32_t i = 0; i < image->n_drops; i++) {
		struct keeper_custody what = {.kind = KEEPER_CUSTODY_REGION,
			.index = vu->connection,
			.a = image->drops[i]};
		vu->keep->drop(vu->keep->data, &what);
	}
	int err = apply_memory(vu, image);
	if (!err)
		err = apply_inflight(vu, image);
	for (unsigned i = 0; i < KEEPER_MAX_RINGS && !err; i++)
		err = apply_ring(vu, i, &image->ring[i]);
	if (err)
		return err;
	struct keeper_custody what = {.kind = KEEPER_CUSTODY_GPU_SOCKET};
	err = display_socket_load(vu->display, r, image_take(vu, &what));
	/* The client brings its backings along, in guest memory: that had to be there first. */
	return err ? err : virtio_gpu_load(vu->gpu, r);
}

int vhost_user_load(struct vhost_user *vu, struct state_reader *r)
{
	if (!vu->keep)
		return -EINVAL;
	vhost_user_freeze(vu);
	vu->loading = true;
	display_socket_hold(vu->display);
	if (!r) {
		session_resume_input(vu);
		return 0;
	}
	cleanup_free struct image *image = calloc(1, sizeof(*image));
	if (!image)
		return -ENOMEM;
	int err = load_image(image, r);
	if (err)
		return err;
	vu->quiet = true;
	err = image_apply(vu, image, r);
	vu->quiet = false;
	session_resume_input(vu);
	if (!err && state_bad(r))
		err = -EBADMSG;
	return err;
}

int vhost_user_load_device(struct vhost_user *vu, struct state_reader *r)
{
	cleanup_free struct image *image = calloc(1, sizeof(*image));
	if (!image)
		return -ENOMEM;
	int err = load_image(image, r);
	if (!err)
		err = display_socket_skip(r);
	if (!err)
		err = virtio_gpu_load(vu->gpu, r);
	return !err && state_bad(r) ? -EBADMSG : err;
}
