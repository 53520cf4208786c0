/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_RENDERER_VIRGL_SAMPLES_H
#define VGPU_RENDERER_VIRGL_SAMPLES_H

/*
 * Copies one sample of one layer between textures with and without several samples, bit for bit.
 * GL has no transfer for that, so it is drawn: each pixel fetches its texel and writes it, and the
 * sample mask lets it reach one sample only.
 *
 * Colour goes through integer views of both textures where the driver can make them: then it is
 * bits that travel, whatever they mean. Where it cannot, texels travel as what they are, which is
 * exact for most formats; who needs to know tries it out. Depth travels as a depth, stencil by
 * ARB_shader_stencil_export or one bit at a time.
 *
 * Works in the current GL context, which must be one of our own (gl_context.h), desktop GL 3.2 or
 * later.
 */

#include <stdint.h>

struct samples;

/* Part of a texture: level 0, the layer of an array, the sample of several. */
struct samples_image {
	uint32_t texture; /* GL name */
	uint32_t target;  /* GL_TEXTURE_2D, GL_TEXTURE_2D_MULTISAMPLE(_ARRAY) */
	uint32_t layer, sample;
};

/* -ENOTSUP: this driver cannot; -ENOMEM. */
int samples_create(struct samples **ret);
void samples_destroy(struct samples *s); /* NULL-safe; its GL context is current */

/*
 * Both textures have the same format, of `bytes` bytes a texel, and are `width` x `height`.
 * -ENOTSUP: the format cannot be drawn to or fetched from; -EIO: GL reported an error.
 */
int samples_copy(struct samples *s, const struct samples_image *src,
	const struct samples_image *dst, uint32_t width, uint32_t height, unsigned bytes);

/*
 * Depth of 24 bits of one sample, as integers, from and to memory of `width` x `height`: a depth
 * that travels as a float loses its last bits in drivers that convert by multiplication. The
 * texture's stencil stays as it is.
 */
int samples_depth24_read(struct samples *s, const struct samples_image *src, uint32_t width,
	uint32_t height, uint32_t *ret_depths);
int samples_depth24_write(struct samples *s, const struct samples_image *dst, uint32_t width,
	uint32_t height, const uint32_t *depths);

#endif
