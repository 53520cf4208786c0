/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_RENDERER_VIRGL_CONTENTS_H
#define VGPU_RENDERER_VIRGL_CONTENTS_H

/*
 * Theory of operation
 *
 * Reads and writes the parts of a resource (renderer/format.h), each in the packed layout of its
 * format. Three ways:
 *
 * - the library's transfers, one layer at a time, which are exact for nearly everything. They
 * report success when GL failed, so GL is asked, and what was to be filled is filled with a known
 * value before;
 * - GL of our own for Z24X8, which the library scales by floating point and so changes, and for
 *   reading compressed layers, of which the library reads all to give one;
 * - for several samples: sample by sample into and out of a resource with one, which is then
 *   transferred (samples.h).
 *
 * Our GL works in a context of its own, made when it is first needed. The driver has finished all
 * work before any of this is called, and every call leaves the library's context 0 current.
 */

#include "renderer/interface.h"

struct contents;

int contents_create(struct contents **ret);
void contents_destroy(struct contents *c); /* NULL-safe; before the library ends */

/*
 * `size` is exactly the part's. -EINVAL: there is no such part, or another size; -EIO: the driver
 * did not do it; -ENOTSUP: no way is known on this driver; -ENOENT.
 */
int contents_read(struct contents *c, uint32_t id, const struct renderer_resource_desc *desc,
	uint32_t part, void *dst, size_t size);
int contents_write(struct contents *c, uint32_t id, const struct renderer_resource_desc *desc,
	uint32_t part, const void *src, size_t size);

/*
 * After a run of these. A driver keeps a context's last framebuffer as its target, also when none
 * is bound any more, and llvmpipe draws at once, instead of with the rest of the frame, whatever
 * samples a texture that is a target in any context. So the contexts used here get another target.
 */
void contents_let_go(struct contents *c);

/* Gives back the context of its own. */
void contents_rest(struct contents *c);

/* The library's resources of this id and above are our own. */
#define CONTENTS_FIRST_ID 0xfffffff0u

#endif
