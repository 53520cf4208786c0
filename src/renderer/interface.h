/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_RENDERER_INTERFACE_H
#define VGPU_RENDERER_INTERFACE_H

/*
 * What draws. A renderer executes streams that were already checked and owns everything that has to
 * do with the host's driver; it knows nothing of guests, sockets, quotas or clients.
 *
 * One renderer exists per device process. All calls come from one thread. Ids are chosen by the
 * device, unique over the process, never 0. Calls return 0 or -errno unless they say otherwise.
 *
 * Implementations: null (keeps pixels of 2D resources, draws nothing), virgl (libvirglrenderer).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct renderer;

/* Fields and units as in virtio-gpu RESOURCE_CREATE_3D (virtio 1.2, 5.7.6.8). */
struct renderer_resource_desc {
	uint32_t target; /* PIPE_TEXTURE_*, PIPE_BUFFER is 0 */
	uint32_t format; /* VIRGL_FORMAT_* */
	uint32_t bind;   /* VIRGL_BIND_* */
	uint32_t width, height, depth;
	uint32_t array_size;
	uint32_t last_level;
	uint32_t nr_samples;
	uint32_t flags; /* VIRTIO_GPU_RESOURCE_FLAG_Y_0_TOP */
};

struct renderer_box {
	uint32_t x, y, z;
	uint32_t w, h, d; /* texels; bytes in w for buffers */
};

struct renderer_transfer {
	uint32_t ctx_id; /* 0: no context */
	uint32_t resource_id;
	uint32_t level;
	uint32_t stride, layer_stride; /* bytes; 0: those of the level */
	struct renderer_box box;
	uint64_t offset; /* into the scatter list, bytes */
	/* Where the bytes are; n_iov == 0: the resource's attached backing. */
	const struct iovec *iov;
	unsigned n_iov;
};

struct renderer_capset {
	uint32_t id; /* VIRTIO_GPU_CAPSET_VIRGL, _VIRGL2, … */
	uint32_t max_version;
	uint32_t max_size; /* bytes */
};

/* Upcalls, always from inside renderer_ops.poll or .finish, on the calling thread. */
struct renderer_events {
	/* Everything submitted before fence_create(fence_id), and before every earlier fence, is
	 * complete. Ids arrive in rising order; one call may stand for several fences. */
	void (*fence)(void *data, uint64_t fence_id);
	/* The host's driver failed for good: pending fences will not complete. Comes once. */
	void (*failed)(void *data, const char *why);
};

struct renderer_config {
	const char *render_node; /* path; NULL: the software GPU */
	uint64_t vram_bytes;     /* reported to guests as their video memory */
	bool plain_shaders;      /* leave translated shaders as they are */
};

struct renderer_dmabuf {
	int fd; /* the caller's */
	uint32_t width, height, stride, fourcc;
	uint64_t modifier;
	bool y0_top;
};

struct renderer_ops {
	const char *name;

	/* Initialises the host's driver. After the first context no file is opened any more. */
	int (*create)(const struct renderer_config *config, const struct renderer_events *events,
		void *events_data, struct renderer **ret);
	void (*destroy)(struct renderer *r);

	/* GL renderer string of the host's driver, for people. Lives as long as the renderer. */
	const char *(*description)(struct renderer *r);

	/* -ENOENT past the last index. */
	int (*capset_info)(struct renderer *r, unsigned index, struct renderer_capset *ret);
	/* Writes at most `size` bytes, zero-filling; -EINVAL for an unknown id or version. */
	int (*capset_get)(
		struct renderer *r, uint32_t id, uint32_t version, void *buf, size_t size);

	int (*context_create)(struct renderer *r, uint32_t ctx_id, const char *name);
	void (*context_destroy)(struct renderer *r, uint32_t ctx_id);
	void (*context_attach)(struct renderer *r, uint32_t ctx_id, uint32_t resource_id);
	void (*context_detach)(struct renderer *r, uint32_t ctx_id, uint32_t resource_id);

	int (*resource_create)(
		struct renderer *r, uint32_t id, const struct renderer_resource_desc *desc);
	void (*resource_destroy)(struct renderer *r, uint32_t id);
	/* `iov` stays the caller's and must stay valid until detached or destroyed. */
	int (*resource_attach_iov)(struct renderer *r, uint32_t id, struct iovec *iov, unsigned n);
	void (*resource_detach_iov)(struct renderer *r, uint32_t id);

	int (*transfer_to_host)(struct renderer *r, const struct renderer_transfer *t);
	int (*transfer_from_host)(struct renderer *r, const struct renderer_transfer *t);

	/*
	 * Executes `n` dwords. `asks_query`: a query's result is asked for in there. -EINVAL: the
	 * context is lost, nothing it submits will run again.
	 */
	int (*submit)(
		struct renderer *r, uint32_t ctx_id, uint32_t *dwords, size_t n, bool asks_query);

	/*
	 * Clip-plane code is left out of translated shaders until keep_clip_planes() is called,
	 * which concerns shaders created from then on: the caller creates the older ones again.
	 */
	bool (*leaves_out_clip_planes)(const struct renderer *r);
	void (*keep_clip_planes)(struct renderer *r);

	/* Asks for events.fence(fence_id) once all work so far is complete. Ids must rise. */
	int (*fence_create)(struct renderer *r, uint64_t fence_id);
	/* Readable when poll() has something to do; -1: fences complete in poll() only by timer. */
	int (*poll_fd)(struct renderer *r);
	void (*poll)(struct renderer *r);
	/* Blocks until all work submitted so far is complete, and delivers the due upcalls. */
	void (*finish)(struct renderer *r);

	/* Copies a rectangle of level 0 into `dst` as B8G8R8X8, top row first, `stride` bytes a
	 * row. */
	int (*read_pixels)(struct renderer *r, uint32_t id, const struct renderer_box *rect,
		void *dst, uint32_t stride);

	/* Exports level 0 as a dma-buf, or -ENOTSUP (always, without a render node). */
	int (*export_dmabuf)(struct renderer *r, uint32_t id, struct renderer_dmabuf *ret);
};

/* "null", "virgl", …; NULL when there is none of that name. */
const struct renderer_ops *renderer_find(const char *name);

#endif
