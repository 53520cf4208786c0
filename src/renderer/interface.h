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
	bool exact_only;         /* offer guests only what can be saved exactly (method emulate) */
};

/* How a resource's contents survive being read and written back on this host. */
enum renderer_fidelity {
	RENDERER_EXACT,
	RENDERER_LOSSY, /* something changes: low bits, undefined parts */
	RENDERER_UNREADABLE,
};

enum renderer_query_state { RENDERER_QUERY_UNUSED, RENDERER_QUERY_ACTIVE, RENDERER_QUERY_ENDED };

struct renderer_query {
	enum renderer_query_state state;
	uint64_t value; /* of what ended; of what is active: so far */
};

#define RENDERER_STREAMOUT_BUFFERS 4

/* A transform feedback object: what was captured since it began. */
struct renderer_streamout {
	bool begun;
	uint64_t bytes[RENDERER_STREAMOUT_BUFFERS];    /* written behind each target's offset */
	uint64_t vertices[RENDERER_STREAMOUT_BUFFERS]; /* per vertex stream, for draws of its result
							*/
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

	/* Video memory is reported to guests of from now on; see struct renderer_config. */
	void (*set_vram)(struct renderer *r, uint64_t bytes);

	/* GL renderer string of the host's driver, for people. Lives as long as the renderer. */
	const char *(*description)(struct renderer *r);

	/* Bytes of the host's that a context takes, and a sub-context, before anything is drawn. */
	uint64_t (*context_bytes)(struct renderer *r);

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
	/* `iov` stays the caller's and must stay valid until detached or destroyed. The renderer
	 * keeps the pointer and reads the list each time: between calls its owner may change where
	 * the entries point. */
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

	/* Programs that the host's driver keeps compiled now. May be NULL. */
	uint64_t (*programs)(struct renderer *r);

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
	/* The driver begins with what was submitted, now and not when it must; NULL: it does. */
	void (*flush)(struct renderer *r);
	/* Blocks until all work submitted so far is complete, and delivers the due upcalls. */
	void (*finish)(struct renderer *r);

	/* Copies a rectangle of level 0 into `dst` as B8G8R8X8, top row first, `stride` bytes a
	 * row. */
	int (*read_pixels)(struct renderer *r, uint32_t id, const struct renderer_box *rect,
		void *dst, uint32_t stride);

	/* ---- state: what device_save() and device_load() need; nothing here is on the way of a
	 * frame. The driver has finished all work (finish) before any of it. ---- */

	enum renderer_fidelity (*fidelity)(
		struct renderer *r, const struct renderer_resource_desc *desc);
	/*
	 * What was found out for that so far, for other processes on this host: its size, at most
	 * FORMATS_FILE_MAX (protocol/formats.h); 0: there is nothing to find out; or -errno.
	 */
	int (*fidelity_save)(struct renderer *r, void *bytes, size_t size);
	/*
	 * Counts where nothing was found out yet. Any bytes; -ESTALE: true elsewhere, -EBADMSG: no
	 * such thing.
	 */
	int (*fidelity_load)(struct renderer *r, const void *bytes, size_t size);
	/*
	 * One part of a resource, numbered and laid out as renderer/format.h says
	 * (format_content_part): `size` is exactly the part's. Part of a resource whose bytes are
	 * its backing (staging): -ENODATA.
	 */
	int (*content_read)(struct renderer *r, uint32_t id, uint32_t part, void *dst, size_t size);
	int (*content_write)(
		struct renderer *r, uint32_t id, uint32_t part, const void *src, size_t size);
	/* After a run of these: nothing of it may slow drawing down. NULL: nothing does. */
	void (*content_done)(struct renderer *r);

	/*
	 * Nothing is drawn for now: what memory can be made again is given back. `compiler`: what
	 * the driver compiles with as well; only where it keeps compiled shaders (Mesa that does
	 * not links shaders to what it had when it compiled them). May be NULL.
	 */
	void (*rest)(struct renderer *r, bool compiler);

	/*
	 * Ids of the query objects that submit() made since the last call, in the order in which
	 * the stream made them; at most `max`. What the ids are is the renderer's own matter.
	 */
	unsigned (*queries_made)(struct renderer *r, uint32_t *ret_ids, unsigned max);
	/* Reads it; an active one goes on being counted. */
	int (*query_save)(struct renderer *r, uint32_t query, struct renderer_query *ret);
	/*
	 * An ended one answers, and decides conditional rendering, as the saved one would; an
	 * active one (made active by the stream before) goes on from there.
	 */
	int (*query_load)(struct renderer *r, uint32_t query, const struct renderer_query *saved);

	/* Of the transform feedback object that the context's last submit() bound. */
	int (*streamout_save)(struct renderer *r, uint32_t ctx_id, struct renderer_streamout *ret);
	int (*streamout_load)(
		struct renderer *r, uint32_t ctx_id, const struct renderer_streamout *saved);

	/*
	 * Can a guest that was promised this capset run here? 0; -EOPNOTSUPP with what is missing
	 * in `why`.
	 */
	int (*capset_covers)(struct renderer *r, uint32_t id, uint32_t version, const void *saved,
		size_t saved_size, char *why, size_t why_size);

	/* Exports level 0 as a dma-buf, or -ENOTSUP (always, without a render node). */
	int (*export_dmabuf)(struct renderer *r, uint32_t id, struct renderer_dmabuf *ret);
};

/* "null", "virgl", …; NULL when there is none of that name. */
const struct renderer_ops *renderer_find(const char *name);

#endif
