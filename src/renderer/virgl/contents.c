/* SPDX-License-Identifier: Apache-2.0 */
#include "renderer/virgl/contents.h"

#include "renderer/format.h"
#include "renderer/virgl/gl_context.h"
#include "renderer/virgl/samples.h"

#include "base/checked.h"
#include "base/cleanup.h"

#include <epoxy/gl.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <virgl/virglrenderer.h>

#define CONTENTS_FLAT_ID CONTENTS_FIRST_ID /* a sample's way to and from the transfers */

enum {
	BIND_DEPTH_STENCIL = 1 << 0,
	BIND_RENDER_TARGET = 1 << 1,
	BIND_SAMPLER_VIEW = 1 << 3,
};

struct contents {
	EGLContext own; /* EGL_NO_CONTEXT: not made yet */
	struct samples *samples;
	bool samples_tried;
	GLuint framebuffer;
	GLuint target;         /* see contents_let_go() */
	GLuint librarys, ours; /* framebuffers with it, in context 0 and our own */
};

/* The library's box has the same six fields in the same order. */
struct contents_box {
	uint32_t x, y, z, w, h, d;
};

/* What one call works on. */
struct contents_job {
	uint32_t id;
	const struct renderer_resource_desc *desc;
	struct format_content_part part;
	GLuint texture;
};

int contents_create(struct contents **ret)
{
	struct contents *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->own = EGL_NO_CONTEXT;
	*ret = c;
	return 0;
}

/* ---- our own context ---- */

static int own_begin(struct contents *c)
{
	EGLDisplay display;

	virgl_renderer_force_ctx_0();
	display = eglGetCurrentDisplay();
	if (c->own == EGL_NO_CONTEXT)
		c->own = gl_context_shared(display);
	if (c->own == EGL_NO_CONTEXT)
		return -ENOTSUP;
	/* What was just uploaded there is there before it is used here. */
	GLsync uploaded = glFenceSync(GL_SYNC_GPU_COMMANDS_COMPLETE, 0);
	glFlush();
	bool current = eglMakeCurrent(display, EGL_NO_SURFACE, EGL_NO_SURFACE, c->own);
	if (current)
		glWaitSync(uploaded, 0, GL_TIMEOUT_IGNORED);
	glDeleteSync(uploaded);
	if (!current)
		return -ENOTSUP;
	if (!c->framebuffer)
		glGenFramebuffers(1, &c->framebuffer);
	return 0;
}

/* Other contexts see what was written here once it is complete. */
static void own_end(void)
{
	glFinish();
	virgl_renderer_force_ctx_0();
}

static void delete_target(struct contents *c)
{
	if (!c->target)
		return;
	virgl_renderer_force_ctx_0();
	glDeleteFramebuffers(1, &c->librarys);
	glDeleteTextures(1, &c->target);
}

void contents_rest(struct contents *c)
{
	if (c->own == EGL_NO_CONTEXT || own_begin(c) < 0)
		return;
	EGLDisplay display = eglGetCurrentDisplay();
	samples_destroy(TAKE_PTR(c->samples));
	c->samples_tried = false;
	glDeleteFramebuffers(1, &c->framebuffer);
	glDeleteFramebuffers(1, &c->ours);
	c->framebuffer = c->ours = 0;
	own_end();
	eglDestroyContext(display, c->own);
	c->own = EGL_NO_CONTEXT;
}

void contents_destroy(struct contents *c)
{
	if (!c)
		return;
	contents_rest(c);
	delete_target(c);
	free(c);
}

static void forget_errors(void)
{
	/* A lost context may report its loss for ever. */
	for (unsigned i = 0; i < 16 && glGetError() != GL_NO_ERROR; i++)
		;
}

static uint32_t resource_texture(uint32_t id)
{
	struct virgl_renderer_resource_info info;

	memset(&info, 0, sizeof(info));
	/* Its status tells of formats without a fourcc, which is no matter here. */
	virgl_renderer_resource_get_info((int)id, &info);
	return info.tex_id;
}

/* ---- the library's transfers ---- */

static int transfer_once(const struct contents_job *job, bool write, void *bytes)
{
	const struct format_content_part *p = &job->part;
	struct contents_box box = {.z = p->layer, .w = p->width, .h = p->height, .d = 1};
	struct iovec iov = {bytes, p->bytes};

	/* Of a part's own size, so that the library asks for no more than is there. */
	uint32_t stride = 0, layer_stride = 0;
	if (job->desc->target != PIPE_BUFFER) {
		struct format_block block = format_block(job->desc->format);
		stride = (p->width + block.width - 1u) / block.width * block.bytes;
		layer_stride = (uint32_t)p->bytes;
	}
	virgl_renderer_force_ctx_0();
	forget_errors();
	int err = write ? virgl_renderer_transfer_write_iov(job->id, 0, (int)p->level, stride,
				  layer_stride, (struct virgl_box *)&box, 0, &iov, 1)
			: virgl_renderer_transfer_read_iov(job->id, 0, p->level, stride,
				  layer_stride, (struct virgl_box *)&box, 0, &iov, 1);
	return err || glGetError() != GL_NO_ERROR ? -EIO : 0;
}

static bool all_bytes_are(const uint8_t *bytes, size_t n, uint8_t value)
{
	return n == 0 || (bytes[0] == value && memcmp(bytes, bytes + 1, n - 1) == 0);
}

/* A read that moved nothing leaves one filling, and then the other. */
static int transfer_read(const struct contents_job *job, void *dst)
{
	static const uint8_t fillings[] = {0xa5, 0x5a};

	for (size_t i = 0; i < ARRAY_SIZE(fillings); i++) {
		memset(dst, fillings[i], job->part.bytes);
		int err = transfer_once(job, false, dst);
		if (err || !all_bytes_are(dst, job->part.bytes, fillings[i]))
			return err;
	}
	return -EIO;
}

/* ---- Z24X8, and compressed layers ---- */

static GLenum gl_target(const struct renderer_resource_desc *desc)
{
	static const GLenum targets[] = {
		[PIPE_TEXTURE_1D] = GL_TEXTURE_1D,
		[PIPE_TEXTURE_2D] = GL_TEXTURE_2D,
		[PIPE_TEXTURE_3D] = GL_TEXTURE_3D,
		[PIPE_TEXTURE_CUBE] = GL_TEXTURE_CUBE_MAP,
		[PIPE_TEXTURE_RECT] = GL_TEXTURE_RECTANGLE,
		[PIPE_TEXTURE_1D_ARRAY] = GL_TEXTURE_1D_ARRAY,
		[PIPE_TEXTURE_2D_ARRAY] = GL_TEXTURE_2D_ARRAY,
		[PIPE_TEXTURE_CUBE_ARRAY] = GL_TEXTURE_CUBE_MAP_ARRAY,
	};
	if (desc->nr_samples > 1)
		return desc->target == PIPE_TEXTURE_2D_ARRAY ? GL_TEXTURE_2D_MULTISAMPLE_ARRAY
							     : GL_TEXTURE_2D_MULTISAMPLE;
	return targets[desc->target];
}

static void attach_depth(const struct contents_job *job)
{
	const struct format_content_part *p = &job->part;
	GLenum target = gl_target(job->desc);
	GLint level = (GLint)p->level;

	switch (job->desc->target) {
	case PIPE_TEXTURE_1D:
		glFramebufferTexture1D(
			GL_FRAMEBUFFER, GL_DEPTH_ATTACHMENT, target, job->texture, level);
		break;
	case PIPE_TEXTURE_2D:
	case PIPE_TEXTURE_RECT:
		glFramebufferTexture2D(
			GL_FRAMEBUFFER, GL_DEPTH_ATTACHMENT, target, job->texture, level);
		break;
	case PIPE_TEXTURE_CUBE:
		glFramebufferTexture2D(GL_FRAMEBUFFER, GL_DEPTH_ATTACHMENT,
			GL_TEXTURE_CUBE_MAP_POSITIVE_X + p->layer, job->texture, level);
		break;
	default:
		glFramebufferTextureLayer(
			GL_FRAMEBUFFER, GL_DEPTH_ATTACHMENT, job->texture, level, (GLint)p->layer);
	}
}

/* GL's 32-bit depth is the 24 bits and their own first 8 behind them. */
static int depth24_read(const struct contents_job *job, struct contents *c, void *dst)
{
	uint32_t *texels = dst;
	size_t n = job->part.bytes / sizeof(*texels);

	glBindFramebuffer(GL_FRAMEBUFFER, c->framebuffer);
	attach_depth(job);
	glDrawBuffer(GL_NONE);
	glReadBuffer(GL_NONE);
	glReadPixels(0, 0, (GLsizei)job->part.width, (GLsizei)job->part.height, GL_DEPTH_COMPONENT,
		GL_UNSIGNED_INT, dst);
	glBindFramebuffer(GL_FRAMEBUFFER, 0);
	for (size_t i = 0; i < n; i++)
		texels[i] >>= 8;
	return 0;
}

/* Rounded up, so that drivers that cut off arrive at the same as those that round. */
static uint32_t depth24_to_gl(uint32_t depth)
{
	uint32_t exact = depth << 8 | depth >> 16;
	return depth && exact != UINT32_MAX ? exact + 1 : exact;
}

static int depth24_write(const struct contents_job *job, const void *src)
{
	const struct format_content_part *p = &job->part;
	GLsizei w = (GLsizei)p->width, h = (GLsizei)p->height;
	GLint level = (GLint)p->level, layer = (GLint)p->layer;
	GLenum target = gl_target(job->desc);
	cleanup_free uint32_t *texels = malloc(p->bytes);

	if (!texels)
		return -ENOMEM;
	memcpy(texels, src, p->bytes);
	for (size_t i = 0; i < p->bytes / sizeof(*texels); i++)
		texels[i] = depth24_to_gl(texels[i] & 0xffffff);
	glBindTexture(target, job->texture);
	switch (job->desc->target) {
	case PIPE_TEXTURE_1D:
		glTexSubImage1D(target, level, 0, w, GL_DEPTH_COMPONENT, GL_UNSIGNED_INT, texels);
		break;
	case PIPE_TEXTURE_1D_ARRAY:
	case PIPE_TEXTURE_2D:
	case PIPE_TEXTURE_RECT:
		glTexSubImage2D(
			target, level, 0, layer, w, h, GL_DEPTH_COMPONENT, GL_UNSIGNED_INT, texels);
		break;
	case PIPE_TEXTURE_CUBE:
		glTexSubImage2D(GL_TEXTURE_CUBE_MAP_POSITIVE_X + p->layer, level, 0, 0, w, h,
			GL_DEPTH_COMPONENT, GL_UNSIGNED_INT, texels);
		break;
	default:
		glTexSubImage3D(target, level, 0, 0, layer, w, h, 1, GL_DEPTH_COMPONENT,
			GL_UNSIGNED_INT, texels);
	}
	glBindTexture(target, 0);
	return 0;
}

static bool is_compressed(const struct renderer_resource_desc *desc)
{
	struct format_block block = format_block(desc->format);
	return block.width > 1 && block.height > 1;
}

static int compressed_read(const struct contents_job *job, void *dst)
{
	const struct format_content_part *p = &job->part;

	glGetCompressedTextureSubImage(job->texture, (GLint)p->level, 0, 0, (GLint)p->layer,
		(GLsizei)p->width, (GLsizei)p->height, 1, (GLsizei)p->bytes, dst);
	return 0;
}

/* The library reads it as a colour attachment where it can be one: encoded anew, not as it was. */
static int shared_exponent_read(const struct contents_job *job, void *dst)
{
	const struct format_content_part *p = &job->part;
	bool lines = job->desc->target == PIPE_TEXTURE_1D_ARRAY; /* layers are lines */
	GLint y = lines ? (GLint)p->layer : 0, z = lines ? 0 : (GLint)p->layer;

	glGetTextureSubImage(job->texture, (GLint)p->level, 0, y, z, (GLsizei)p->width,
		(GLsizei)p->height, 1, GL_RGB, GL_UNSIGNED_INT_5_9_9_9_REV, (GLsizei)p->bytes, dst);
	return 0;
}

/* One sample, by our own GL; `way` says how. */
enum contents_way { WAY_TRANSFER, WAY_DEPTH24, WAY_COMPRESSED, WAY_SHARED_EXPONENT };

static enum contents_way contents_way(const struct renderer_resource_desc *desc, bool write)
{
	if (desc->target == PIPE_BUFFER)
		return WAY_TRANSFER;
	if (desc->format == VIRGL_FORMAT_Z24X8_UNORM)
		return WAY_DEPTH24;
	if (write || !epoxy_is_desktop_gl() || epoxy_gl_version() < 45)
		return WAY_TRANSFER;
	if (is_compressed(desc) && desc->target != PIPE_TEXTURE_2D)
		return WAY_COMPRESSED;
	return desc->format == VIRGL_FORMAT_R9G9B9E5_FLOAT ? WAY_SHARED_EXPONENT : WAY_TRANSFER;
}

static int flat_access(struct contents *c, struct contents_job *job, bool write, void *bytes)
{
	enum contents_way way = contents_way(job->desc, write);

	if (way == WAY_TRANSFER)
		return write ? transfer_once(job, true, bytes) : transfer_read(job, bytes);
	if (!epoxy_is_desktop_gl())
		return -ENOTSUP;
	job->texture = resource_texture(job->id);
	if (!job->texture)
		return -ENOENT;
	int err = own_begin(c);
	if (!err) {
		forget_errors();
		glPixelStorei(GL_PACK_ALIGNMENT, 1);
		glPixelStorei(GL_UNPACK_ALIGNMENT, 1);
		if (way == WAY_COMPRESSED)
			err = compressed_read(job, bytes);
		else if (way == WAY_SHARED_EXPONENT)
			err = shared_exponent_read(job, bytes);
		else
			err = write ? depth24_write(job, bytes) : depth24_read(job, c, bytes);
		if (!err && glGetError() != GL_NO_ERROR)
			err = -EIO;
	}
	own_end();
	return err;
}

/* ---- several samples ---- */

static int flat_create(const struct contents_job *job, struct renderer_resource_desc *ret)
{
	*ret = (struct renderer_resource_desc){
		.target = PIPE_TEXTURE_2D,
		.format = job->desc->format,
		.bind = job->desc->bind &
			(BIND_DEPTH_STENCIL | BIND_RENDER_TARGET | BIND_SAMPLER_VIEW),
		.width = job->part.width,
		.height = job->part.height,
		.depth = 1,
		.array_size = 1,
	};
	struct virgl_renderer_resource_create_args args = {
		.handle = CONTENTS_FLAT_ID,
		.target = ret->target,
		.format = ret->format,
		.bind = ret->bind,
		.width = ret->width,
		.height = ret->height,
		.depth = 1,
		.array_size = 1,
	};
	virgl_renderer_force_ctx_0();
	return virgl_renderer_resource_create(&args, NULL, 0) ? -ENOMEM : 0;
}

/* 24 bits of depth lie that far up in a texel; -1: the format has none. */
static int depth24_shift(uint32_t format)
{
	return format == VIRGL_FORMAT_Z24X8_UNORM         ? 0
	       : format == VIRGL_FORMAT_S8_UINT_Z24_UNORM ? 8
							  : -1;
}

static struct samples_image many_samples(const struct contents_job *job)
{
	return (struct samples_image){
		resource_texture(job->id), gl_target(job->desc), job->part.layer, job->part.sample};
}

/* Our context is current on success. */
static int samples_begin(struct contents *c)
{
	int err = own_begin(c);

	if (!err && !c->samples_tried) {
		c->samples_tried = true;
		samples_create(&c->samples);
	}
	return err ? err : c->samples ? 0 : -ENOTSUP;
}

/* All that the format has, between the resource and the flat one. */
static int sample_copy(struct contents *c, const struct contents_job *job, bool write)
{
	const struct format_content_part *p = &job->part;
	struct samples_image many = many_samples(job);
	struct samples_image one = {resource_texture(CONTENTS_FLAT_ID), GL_TEXTURE_2D, 0, 0};

	if (!many.texture || !one.texture)
		return -ENOENT;
	int err = samples_begin(c);
	if (!err)
		err = samples_copy(c->samples, write ? &one : &many, write ? &many : &one, p->width,
			p->height, format_block(job->desc->format).bytes);
	own_end();
	return err;
}

/* The depth between the resource and the words. */
static int sample_depth24(
	struct contents *c, const struct contents_job *job, bool write, void *bytes)
{
	const struct format_content_part *p = &job->part;
	int shift = depth24_shift(job->desc->format);
	struct samples_image many = many_samples(job);
	size_t n = p->bytes / sizeof(uint32_t);
	cleanup_free uint32_t *depths = calloc(n, sizeof(*depths));
	uint32_t *words = bytes;

	if (shift < 0)
		return 0;
	if (!depths)
		return -ENOMEM;
	for (size_t i = 0; i < n && write; i++)
		depths[i] = words[i] >> shift & 0xffffff;
	int err = samples_begin(c);
	if (!err)
		err = write ? samples_depth24_write(c->samples, &many, p->width, p->height, depths)
			    : samples_depth24_read(c->samples, &many, p->width, p->height, depths);
	own_end();
	for (size_t i = 0; i < n && !write; i++)
		words[i] = (words[i] & ~(0xffffffu << shift)) | depths[i] << shift;
	return err;
}

static int sample_access(struct contents *c, struct contents_job *job, bool write, void *bytes)
{
	struct renderer_resource_desc desc;
	struct contents_job flat = {.id = CONTENTS_FLAT_ID, .desc = &desc};

	int err = flat_create(job, &desc);
	if (err)
		return err;
	format_content_part(&desc, 0, &flat.part);
	if (write)
		err = flat_access(c, &flat, true, bytes);
	if (!err)
		err = sample_copy(c, job, write);
	if (!err && !write)
		err = flat_access(c, &flat, false, bytes);
	if (!err)
		err = sample_depth24(c, job, write, bytes);
	virgl_renderer_resource_unref(CONTENTS_FLAT_ID);
	return err;
}

static int contents_access(struct contents *c, uint32_t id,
	const struct renderer_resource_desc *desc, uint32_t part, bool write, void *bytes,
	size_t size)
{
	struct contents_job job = {.id = id, .desc = desc};

	if (!format_content_part(desc, part, &job.part) || job.part.bytes != size ||
		size > UINT32_MAX)
		return -EINVAL;
	return desc->nr_samples > 1 ? sample_access(c, &job, write, bytes)
				    : flat_access(c, &job, write, bytes);
}

int contents_read(struct contents *c, uint32_t id, const struct renderer_resource_desc *desc,
	uint32_t part, void *dst, size_t size)
{
	return contents_access(c, id, desc, part, false, dst, size);
}

int contents_write(struct contents *c, uint32_t id, const struct renderer_resource_desc *desc,
	uint32_t part, const void *src, size_t size)
{
	return contents_access(c, id, desc, part, true, (void *)(uintptr_t)src, size);
}

/* ---- what stays behind ---- */

static void make_target(struct contents *c)
{
	glGenTextures(1, &c->target);
	glBindTexture(GL_TEXTURE_2D, c->target);
	glTexImage2D(GL_TEXTURE_2D, 0, GL_RGBA8, 1, 1, 0, GL_RGBA, GL_UNSIGNED_BYTE, NULL);
	glBindTexture(GL_TEXTURE_2D, 0);
}

/* Drivers look at a new framebuffer when it is used, not when it is bound. */
static void use_target(const struct contents *c, GLuint *framebuffer)
{
	uint32_t texel;

	if (!*framebuffer)
		glGenFramebuffers(1, framebuffer);
	glBindFramebuffer(GL_FRAMEBUFFER, *framebuffer);
	glFramebufferTexture2D(GL_FRAMEBUFFER, GL_COLOR_ATTACHMENT0, GL_TEXTURE_2D, c->target, 0);
	glReadPixels(0, 0, 1, 1, GL_RGBA, GL_UNSIGNED_BYTE, &texel);
	glBindFramebuffer(GL_FRAMEBUFFER, 0);
	forget_errors();
}

void contents_let_go(struct contents *c)
{
	virgl_renderer_force_ctx_0();
	if (!c->target)
		make_target(c);
	use_target(c, &c->librarys);
	if (c->own != EGL_NO_CONTEXT && own_begin(c) == 0)
		use_target(c, &c->ours);
	own_end();
}
