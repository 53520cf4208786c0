/* SPDX-License-Identifier: Apache-2.0 */
#include "renderer/virgl/virgl.h"

#include "renderer/format.h"
#include "renderer/virgl/capset.h"
#include "renderer/virgl/clip_planes.h"
#include "renderer/virgl/contents.h"
#include "renderer/virgl/fences.h"
#include "renderer/virgl/fidelity.h"
#include "renderer/virgl/gl_context.h"
#include "renderer/virgl/programs.h"
#include "renderer/virgl/queries.h"
#include "renderer/virgl/raster_threads.h"
#include "renderer/virgl/readback.h"
#include "renderer/virgl/shader_compiler.h"
#include "renderer/virgl/streamout.h"

#include "base/attend.h"
#include "base/checked.h"
#include "base/cleanup.h"
#include "base/idmap.h"
#include "base/log.h"

#include <epoxy/egl.h>
#include <epoxy/gl.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <virgl/virglrenderer.h>

/* The library's box has the same six fields in the same order. */
struct virgl_box {
	uint32_t x, y, z, w, h, d;
};

#define CAP_BUFFER_STORAGE (1u << 31) /* needs blob resources, which are not offered */
#define CAP2_VIDEO_MEMORY  (1u << 2)
#define CAP2_MEMORY_INFO   (1u << 3) /* the device answers: stream_resource_ops.memory_info */

/* The library tells neither of these of a resource. */
struct virgl_resource_note {
	struct renderer_resource_desc desc;
	bool attached; /* it has a backing */
};

#define BIND_CUSTOM  (1u << 17)
#define BIND_STAGING (1u << 19)

/* base/attend.h, for a software GPU's drawing threads: they wake who waits, each of them once. */
#define VIRGL_ATTEND_NS      60000u
#define VIRGL_ATTEND_LAST_NS 2000000u /* of drawing, by the thread that has this CPU */
#define VIRGL_ATTEND_AWAY    4u

struct renderer {
	struct renderer_events events;
	void *events_data;
	struct virgl_renderer_callbacks callbacks;
	char *render_node; /* NULL: software */
	uint64_t vram_bytes;
	bool exact_only;
	char description[128];
	uint64_t context_bytes;
	struct virgl_fences *fences;
	EGLContext current;     /* GL context of the last work */
	bool unfenced;          /* it was given work that no fence stands behind */
	uint64_t last_fence;    /* highest id asked for */
	bool failed;            /* and said so */
	uint64_t reported;      /* highest id passed up */
	bool query_asked;       /* a query's result was asked for since the last fence */
	uint64_t library_fence; /* our id at which the library's own fence stands; 0: none */
	struct idmap resources; /* struct virgl_resource_note */
	struct contents *contents;
	struct fidelity *fidelity;
	struct attend attend;
	struct raster_threads *raster; /* NULL: hardware draws */
};

/* ---- what the library calls ---- */

static void library_write_fence(void *cookie, uint32_t fence)
{
	struct renderer *r = cookie;
	r->library_fence = 0;
}

static int library_get_drm_fd(void *cookie)
{
	const struct renderer *r = cookie;
	return r->render_node ? open(r->render_node, O_RDWR | O_CLOEXEC) : -1;
}

/* The library gives its log no cookie, so this one limit is for the process. */
static void __attribute__((format(printf, 1, 0))) library_log(const char *format, va_list args)
{
	static struct log_limit limit = LOG_LIMIT_INIT;
	char text[256];

	if (!log_limit_pass(&limit))
		return;
	vsnprintf(text, sizeof(text), format, args);
	size_t n = strlen(text);
	while (n && text[n - 1] == '\n')
		text[--n] = '\0';
	if (n)
		log_info("renderer: %s", text);
}

/* ---- lifetime ---- */

static void virgl_forget_resources(struct renderer *r)
{
	uint32_t cursor = 0, id;

	while (idmap_next(&r->resources, &cursor, &id)) {
		free(idmap_remove(&r->resources, id));
		cursor = 0;
	}
	idmap_finish(&r->resources);
}

static void virgl_set_vram(struct renderer *r, uint64_t bytes)
{
	r->vram_bytes = bytes;
}

static void virgl_destroy(struct renderer *r)
{
	if (!r)
		return;
	raster_threads_destroy(r->raster);
	virgl_fences_destroy(r->fences);
	fidelity_destroy(r->fidelity);
	contents_destroy(r->contents);
	virgl_renderer_cleanup(r);
	streamout_forget();
	queries_forget();
	virgl_forget_resources(r);
	free(r->render_node);
	free(r);
}

static int virgl_init_library(struct renderer *r)
{
	int flags = VIRGL_RENDERER_USE_EGL;

	if (!r->render_node)
		flags |= VIRGL_RENDERER_USE_SURFACELESS;
	r->callbacks = (struct virgl_renderer_callbacks){
		.version = 2,
		.write_fence = library_write_fence,
		.get_drm_fd = r->render_node ? library_get_drm_fd : NULL,
	};
	virgl_set_debug_callback(library_log);
	return virgl_renderer_init(r, flags, &r->callbacks) == 0 ? 0 : -ENODEV;
}

static int virgl_create(const struct renderer_config *config, const struct renderer_events *events,
	void *events_data, struct renderer **ret)
{
	struct renderer *r = calloc(1, sizeof(*r));
	int err = -ENOMEM;

	if (!r)
		return err;
	r->events = *events;
	r->events_data = events_data;
	r->vram_bytes = config->vram_bytes;
	r->exact_only = config->exact_only;
	r->attend = (struct attend){.busy_ns = VIRGL_ATTEND_NS,
		.last_ns = VIRGL_ATTEND_LAST_NS,
		.away = VIRGL_ATTEND_AWAY};
	idmap_init(&r->resources, 0);
	if (config->render_node && !(r->render_node = strdup(config->render_node)))
		goto free_renderer;
	err = virgl_init_library(r);
	if (err < 0)
		goto free_renderer;
	virgl_renderer_force_ctx_0();
	snprintf(r->description, sizeof(r->description), "virgl (%s)",
		(const char *)glGetString(GL_RENDERER));
	r->context_bytes = gl_context_bytes((const char *)glGetString(GL_VERSION) ?: "");
	r->current = eglGetCurrentContext();
	err = virgl_fences_create(&r->fences);
	if (err >= 0)
		err = contents_create(&r->contents);
	if (err >= 0)
		err = fidelity_create(r->contents, &r->fidelity);
	if (err >= 0 && !r->render_node)
		err = raster_threads_create(&r->raster);
	if (err < 0)
		goto cleanup_library;
	programs_install();
	queries_install();
	readback_install();
	shader_compiler_install();
	streamout_install();
	clip_planes_leave_out(!config->plain_shaders);
	*ret = r;
	return 0;

cleanup_library:
	fidelity_destroy(r->fidelity);
	contents_destroy(r->contents);
	virgl_fences_destroy(r->fences);
	virgl_renderer_cleanup(r);
free_renderer:
	free(r->render_node);
	free(r);
	return err;
}

static const char *virgl_description(struct renderer *r)
{
	return r->description;
}

static uint64_t virgl_context_bytes(struct renderer *r)
{
	return r->context_bytes;
}

/* ---- order between GL contexts ---- */

/*
 * Called after anything that may have made another GL context current. What the previous one was
 * given gets a fence, so that fences and finish() made later stand behind it too.
 */
static void virgl_note_context(struct renderer *r, bool worked)
{
	EGLContext now = eglGetCurrentContext();

	if (now != r->current && r->unfenced && r->current != EGL_NO_CONTEXT) {
		EGLDisplay display = eglGetCurrentDisplay();
		if (eglMakeCurrent(display, EGL_NO_SURFACE, EGL_NO_SURFACE, r->current)) {
			virgl_fences_push(r->fences, 0);
			eglMakeCurrent(display, EGL_NO_SURFACE, EGL_NO_SURFACE, now);
		} /* else: it was destroyed, and its work with it */
		r->unfenced = false;
	}
	r->current = now;
	r->unfenced |= worked;
}

/* ---- capabilities ---- */

static int virgl_capset_info(struct renderer *r, unsigned index, struct renderer_capset *ret)
{
	static const uint32_t ids[] = {CAPSET_VIRGL, CAPSET_VIRGL2};

	if (index >= ARRAY_SIZE(ids))
		return -ENOENT;
	ret->id = ids[index];
	virgl_renderer_get_cap_set(ids[index], &ret->max_version, &ret->max_size);
	return ret->max_size ? 0 : -ENOENT;
}

/* What this device offers, where that is not what the library can do. */
static void virgl_adjust_caps(const struct renderer *r, uint8_t *caps, size_t size)
{
	uint32_t bits, bits2, mib = (uint32_t)MIN(r->vram_bytes >> 20, (uint64_t)UINT32_MAX);

	if (size < CAPSET_VIDEO_MEMORY_AT + sizeof(mib))
		return;
	memcpy(&bits, caps + CAPSET_BITS_AT, sizeof(bits));
	memcpy(&bits2, caps + CAPSET_BITS2_AT, sizeof(bits2));
	bits &= ~CAP_BUFFER_STORAGE;
	bits2 |= CAP2_VIDEO_MEMORY | CAP2_MEMORY_INFO;
	memcpy(caps + CAPSET_BITS_AT, &bits, sizeof(bits));
	memcpy(caps + CAPSET_BITS2_AT, &bits2, sizeof(bits2));
	memcpy(caps + CAPSET_VIDEO_MEMORY_AT, &mib, sizeof(mib));
}

static bool virgl_format_exact(void *data, uint32_t format, bool many)
{
	return fidelity_format_exact(((struct renderer *)data)->fidelity, format, many);
}

static int virgl_capset_get(
	struct renderer *r, uint32_t id, uint32_t version, void *buf, size_t size)
{
	uint32_t max_version = 0, max_size = 0;

	if (id != CAPSET_VIRGL && id != CAPSET_VIRGL2)
		return -EINVAL;
	virgl_renderer_get_cap_set(id, &max_version, &max_size);
	if (!max_size || version > max_version)
		return -EINVAL;
	uint8_t *caps = calloc(1, max_size);
	if (!caps)
		return -ENOMEM;
	/* The library tries out framebuffers in the current context and leaves none bound there. */
	virgl_renderer_force_ctx_0();
	virgl_renderer_fill_caps(id, version, caps);
	if (r->exact_only)
		capset_keep_exact(caps, max_size, virgl_format_exact, r);
	virgl_note_context(r, false);
	if (id == CAPSET_VIRGL2)
		virgl_adjust_caps(r, caps, max_size);
	memset(buf, 0, size);
	memcpy(buf, caps, MIN(size, max_size));
	free(caps);
	return 0;
}

static int virgl_capset_covers(struct renderer *r, uint32_t id, uint32_t version, const void *saved,
	size_t saved_size, char *why, size_t why_size)
{
	uint32_t max_version = 0, max_size = 0;

	virgl_renderer_get_cap_set(id, &max_version, &max_size);
	cleanup_free uint8_t *here = calloc(1, MAX(max_size, 1u));
	if (!here)
		return -ENOMEM;
	if (virgl_capset_get(r, id, MIN(version, max_version), here, max_size) < 0) {
		snprintf(why, why_size, "capability set %u", id);
		return -EOPNOTSUPP;
	}
	return capset_covers(saved, saved_size, here, max_size, why, why_size) ? 0 : -EOPNOTSUPP;
}

/* ---- contexts and resources ---- */

static int virgl_context_create(struct renderer *r, uint32_t ctx_id, const char *name)
{
	int err = virgl_renderer_context_create(ctx_id, (uint32_t)strlen(name), name);

	/*
	 * The library leaves the new GL context current and still believes in the one before it:
	 * what that context submits next would be drawn in the new one.
	 */
	virgl_renderer_force_ctx_0();
	virgl_note_context(r, false);
	return err ? -ENOMEM : 0;
}

static void virgl_context_destroy(struct renderer *r, uint32_t ctx_id)
{
	virgl_renderer_context_destroy(ctx_id);
	virgl_note_context(r, false);
}

static void virgl_context_attach(struct renderer *r, uint32_t ctx_id, uint32_t resource_id)
{
	virgl_renderer_ctx_attach_resource((int)ctx_id, (int)resource_id);
}

static void virgl_context_detach(struct renderer *r, uint32_t ctx_id, uint32_t resource_id)
{
	virgl_renderer_ctx_detach_resource((int)ctx_id, (int)resource_id);
	virgl_note_context(r, false);
}

static int virgl_resource_create(
	struct renderer *r, uint32_t id, const struct renderer_resource_desc *desc)
{
	struct virgl_renderer_resource_create_args args = {
		.handle = id,
		.target = desc->target,
		/* The library maps bytes of a buffer and reads texels: past its end. */
		.format = desc->target == PIPE_BUFFER ? VIRGL_FORMAT_R8_UNORM : desc->format,
		.bind = desc->bind,
		.width = desc->width,
		.height = desc->height,
		.depth = desc->depth,
		.array_size = desc->array_size,
		.last_level = desc->last_level,
		.nr_samples = desc->nr_samples,
		.flags = desc->flags,
	};
	struct virgl_resource_note *note = id < CONTENTS_FIRST_ID ? calloc(1, sizeof(*note)) : NULL;
	if (!note)
		return -ENOMEM;
	note->desc = *desc;
	int err = virgl_renderer_resource_create(&args, NULL, 0);
	virgl_note_context(r, false);
	if (!err) {
		err = idmap_add(&r->resources, id, note);
		if (!err)
			return 0;
		virgl_renderer_resource_unref(id);
	}
	free(note);
	return err == ENOMEM || err == -ENOMEM ? -ENOMEM : -EINVAL;
}

static void virgl_resource_destroy(struct renderer *r, uint32_t id)
{
	virgl_renderer_resource_unref(id);
	free(idmap_remove(&r->resources, id));
	virgl_note_context(r, false);
}

static int virgl_attach_iov(struct renderer *r, uint32_t id, struct iovec *iov, unsigned n)
{
	struct virgl_resource_note *note = idmap_get(&r->resources, id);

	if (!note || virgl_renderer_resource_attach_iov((int)id, iov, (int)n))
		return -EINVAL;
	note->attached = true;
	return 0;
}

static void virgl_detach_iov(struct renderer *r, uint32_t id)
{
	struct virgl_resource_note *note = idmap_get(&r->resources, id);
	struct iovec *iov = NULL;
	int n = 0;

	virgl_renderer_resource_detach_iov((int)id, &iov, &n);
	if (note)
		note->attached = false;
	virgl_note_context(r, false);
}

static int virgl_transfer_to_host(struct renderer *r, const struct renderer_transfer *t)
{
	struct virgl_box box = {t->box.x, t->box.y, t->box.z, t->box.w, t->box.h, t->box.d};
	int err = virgl_renderer_transfer_write_iov(t->resource_id, t->ctx_id, (int)t->level,
		t->stride, t->layer_stride, &box, t->offset, (struct iovec *)(uintptr_t)t->iov,
		t->n_iov);
	virgl_note_context(r, true);
	return err ? -EINVAL : 0;
}

static int virgl_transfer_from_host(struct renderer *r, const struct renderer_transfer *t)
{
	struct virgl_box box = {t->box.x, t->box.y, t->box.z, t->box.w, t->box.h, t->box.d};
	int err = virgl_renderer_transfer_read_iov(t->resource_id, t->ctx_id, t->level, t->stride,
		t->layer_stride, &box, t->offset, (struct iovec *)(uintptr_t)t->iov, (int)t->n_iov);
	virgl_note_context(r, false);
	return err ? -EINVAL : 0;
}

static int virgl_submit(struct renderer *r, uint32_t ctx_id, uint32_t *dwords, size_t n, bool asks)
{
	if (n > INT_MAX)
		return -EINVAL;
	int err = virgl_renderer_submit_cmd(dwords, (int)ctx_id, (int)n);
	virgl_note_context(r, true);
	r->query_asked |= asks;
	return err ? -EINVAL : 0;
}

static uint64_t virgl_programs(struct renderer *r)
{
	return programs_live();
}

static bool virgl_leaves_out_clip_planes(const struct renderer *r)
{
	return clip_planes_left_out();
}

static void virgl_keep_clip_planes(struct renderer *r)
{
	clip_planes_leave_out(false);
}

/* ---- fences ---- */

/* The library looks after query results only when one of its own fences has completed. */
static void virgl_library_fence(struct renderer *r, uint64_t id)
{
	if (!r->query_asked)
		return;
	r->query_asked = false;
	if (virgl_renderer_create_fence((int)(uint32_t)id, 0) == 0)
		r->library_fence = id;
}

static int virgl_fence_create(struct renderer *r, uint64_t fence_id)
{
	r->last_fence = fence_id;
	virgl_library_fence(r, fence_id);
	int err = virgl_fences_push(r->fences, fence_id);
	if (!err)
		r->unfenced = false;
	return err;
}

static void virgl_report(struct renderer *r, uint64_t done)
{
	if (done <= r->reported)
		return;
	if (r->library_fence && r->library_fence <= done) {
		virgl_renderer_poll();
		virgl_note_context(r, false);
	}
	r->reported = done;
	r->events.fence(r->events_data, done);
}

static int virgl_poll_fd(struct renderer *r)
{
	return virgl_fences_fd(r->fences);
}

static void virgl_take_news(struct renderer *r)
{
	virgl_report(r, virgl_fences_reap(r->fences));
	if (r->raster)
		raster_threads_watch(r->raster);
	if (r->failed || !virgl_fences_failed(r->fences))
		return;
	r->failed = true;
	r->events.failed(r->events_data, "the host's driver lost a fence");
}

static void virgl_poll(struct renderer *r)
{
	virgl_take_news(r);
}

static void virgl_flush(struct renderer *r)
{
	glFlush();
}

static bool virgl_sync_over(void *sync)
{
	return glClientWaitSync(sync, 0, 0) != GL_TIMEOUT_EXPIRED;
}

static void virgl_attend(struct renderer *r)
{
	GLsync sync = glFenceSync(GL_SYNC_GPU_COMMANDS_COMPLETE, 0);

	glFlush();
	if (sync)
		attend(&r->attend, virgl_sync_over, sync);
	glDeleteSync(sync);
}

static void virgl_finish(struct renderer *r)
{
	/* Who only ever finishes has made no fence yet, and 0 means none. */
	virgl_library_fence(r, MAX(r->last_fence, 1u));
	if (r->raster && raster_threads_alone(r->raster))
		virgl_attend(r);
	glFinish();
	r->unfenced = false;
	virgl_fences_wait(r->fences);
	if (r->library_fence) {
		virgl_renderer_poll();
		virgl_note_context(r, false);
	}
	virgl_take_news(r);
}

/* ---- screens ---- */

static int virgl_read_pixels(struct renderer *r, uint32_t id, const struct renderer_box *rect,
	void *dst, uint32_t stride)
{
	struct virgl_renderer_resource_info info;
	struct virgl_box box = {rect->x, rect->y, 0, rect->w, rect->h, 1};
	struct iovec iov = {dst, (size_t)stride * rect->h};

	memset(&info, 0, sizeof(info));
	/* Its status tells of formats without a fourcc, which is no matter here. */
	virgl_renderer_resource_get_info((int)id, &info);
	if (!info.handle)
		return -ENOENT;
	int err = virgl_renderer_transfer_read_iov(id, 0, 0, stride, 0, &box, 0, &iov, 1);
	virgl_note_context(r, false);
	if (err)
		return -EIO;
	for (uint32_t y = 0; y < rect->h; y++)
		format_to_bgra(
			info.virgl_format, (uint32_t *)((char *)dst + (size_t)y * stride), rect->w);
	return 0;
}

/* ---- contents ---- */

/* Bytes of these are the guest's memory: of staging always, of custom ones while there is some. */
static bool virgl_is_backing(const struct virgl_resource_note *note)
{
	return note->desc.target == PIPE_BUFFER &&
	       (note->desc.bind == BIND_STAGING ||
		       (note->desc.bind == BIND_CUSTOM && note->attached));
}

static int virgl_content_read(
	struct renderer *r, uint32_t id, uint32_t part, void *dst, size_t size)
{
	const struct virgl_resource_note *note = idmap_get(&r->resources, id);

	if (!note)
		return -ENOENT;
	if (virgl_is_backing(note))
		return -ENODATA;
	int err = contents_read(r->contents, id, &note->desc, part, dst, size);
	virgl_note_context(r, false);
	return err;
}

static int virgl_content_write(
	struct renderer *r, uint32_t id, uint32_t part, const void *src, size_t size)
{
	const struct virgl_resource_note *note = idmap_get(&r->resources, id);

	if (!note)
		return -ENOENT;
	if (virgl_is_backing(note))
		return -ENODATA;
	int err = contents_write(r->contents, id, &note->desc, part, src, size);
	virgl_note_context(r, true);
	return err;
}

static void virgl_content_done(struct renderer *r)
{
	contents_let_go(r->contents);
	virgl_note_context(r, false);
}

static enum renderer_fidelity virgl_fidelity(
	struct renderer *r, const struct renderer_resource_desc *desc)
{
	enum renderer_fidelity fidelity = fidelity_of(r->fidelity, desc);
	virgl_note_context(r, false);
	return fidelity;
}

static int virgl_fidelity_save(struct renderer *r, void *bytes, size_t size)
{
	return fidelity_save(r->fidelity, bytes, size);
}

static int virgl_fidelity_load(struct renderer *r, const void *bytes, size_t size)
{
	return fidelity_load(r->fidelity, bytes, size);
}

/* ---- queries and transform feedback ---- */

/* Which context is current is only known to be the library's own idea after this. */
static void virgl_back_to_library(struct renderer *r, bool worked)
{
	virgl_renderer_force_ctx_0();
	virgl_note_context(r, worked);
}

static void virgl_rest(struct renderer *r, bool compiler)
{
	contents_rest(r->contents);
	if (compiler)
		shader_compiler_release();
	virgl_back_to_library(r, false);
}

static unsigned virgl_queries_made(struct renderer *r, uint32_t *ret_ids, unsigned max)
{
	return queries_made(ret_ids, max);
}

static int virgl_query_save(struct renderer *r, uint32_t query, struct renderer_query *ret)
{
	int err = queries_save(query, ret);
	virgl_back_to_library(r, false);
	return err;
}

static int virgl_query_load(struct renderer *r, uint32_t query, const struct renderer_query *saved)
{
	return queries_load(query, saved);
}

static int virgl_streamout_save(struct renderer *r, uint32_t ctx_id, struct renderer_streamout *ret)
{
	int err = streamout_save(ret);
	virgl_back_to_library(r, false);
	return err;
}

static int virgl_streamout_load(
	struct renderer *r, uint32_t ctx_id, const struct renderer_streamout *saved)
{
	int err = streamout_load(saved);
	virgl_back_to_library(r, false);
	return err;
}

static int virgl_export_dmabuf(struct renderer *r, uint32_t id, struct renderer_dmabuf *ret)
{
	struct virgl_renderer_resource_info info;
	int fd = -1, stride = 0, offset = 0;

	/* Without a render node the library crashes inside EGL here. */
	if (!r->render_node)
		return -ENOTSUP;
	memset(&info, 0, sizeof(info));
	if (virgl_renderer_resource_get_info((int)id, &info) != 0)
		return -ENOTSUP;
	int err = virgl_renderer_get_fd_for_texture2(info.tex_id, &fd, &stride, &offset);
	virgl_note_context(r, false);
	if (err || fd < 0 || offset)
		return -ENOTSUP;
	*ret = (struct renderer_dmabuf){
		.fd = fd,
		.width = info.width,
		.height = info.height,
		.stride = (uint32_t)stride,
		.fourcc = (uint32_t)info.drm_fourcc,
		.modifier = (1ull << 56) - 1, /* DRM_FORMAT_MOD_INVALID: implicit */
		.y0_top = info.flags & 1,
	};
	return 0;
}

const struct renderer_ops renderer_virgl = {
	.name = "virgl",
	.create = virgl_create,
	.destroy = virgl_destroy,
	.set_vram = virgl_set_vram,
	.description = virgl_description,
	.context_bytes = virgl_context_bytes,
	.capset_info = virgl_capset_info,
	.capset_get = virgl_capset_get,
	.context_create = virgl_context_create,
	.context_destroy = virgl_context_destroy,
	.context_attach = virgl_context_attach,
	.context_detach = virgl_context_detach,
	.resource_create = virgl_resource_create,
	.resource_destroy = virgl_resource_destroy,
	.resource_attach_iov = virgl_attach_iov,
	.resource_detach_iov = virgl_detach_iov,
	.transfer_to_host = virgl_transfer_to_host,
	.transfer_from_host = virgl_transfer_from_host,
	.submit = virgl_submit,
	.programs = virgl_programs,
	.leaves_out_clip_planes = virgl_leaves_out_clip_planes,
	.keep_clip_planes = virgl_keep_clip_planes,
	.fence_create = virgl_fence_create,
	.poll_fd = virgl_poll_fd,
	.poll = virgl_poll,
	.flush = virgl_flush,
	.finish = virgl_finish,
	.read_pixels = virgl_read_pixels,
	.capset_covers = virgl_capset_covers,
	.fidelity = virgl_fidelity,
	.fidelity_save = virgl_fidelity_save,
	.fidelity_load = virgl_fidelity_load,
	.content_read = virgl_content_read,
	.content_write = virgl_content_write,
	.content_done = virgl_content_done,
	.rest = virgl_rest,
	.queries_made = virgl_queries_made,
	.query_save = virgl_query_save,
	.query_load = virgl_query_load,
	.streamout_save = virgl_streamout_save,
	.streamout_load = virgl_streamout_load,
	.export_dmabuf = virgl_export_dmabuf,
};
