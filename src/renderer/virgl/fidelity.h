/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_RENDERER_VIRGL_FIDELITY_H
#define VGPU_RENDERER_VIRGL_FIDELITY_H

/*
 * Which formats survive being read and written back on this host, found out by trying: a small
 * resource is made, a pattern written, read and compared. Each format and kind of resource is tried
 * when it is first asked for, and the answer kept; what another process found on the same host
 * (protocol/formats.h) needs not be tried.
 */

#include "renderer/virgl/contents.h"

#include <stdbool.h>

struct fidelity;

/* The library's context 0 is current. */
int fidelity_create(struct contents *contents, struct fidelity **ret);
void fidelity_destroy(struct fidelity *f); /* NULL-safe */

/* A struct formats_file of what was found so far: its size. -ENOMEM: memory ran out on the way. */
int fidelity_save(const struct fidelity *f, void *bytes, size_t size);
/* As formats_file_read(); before anything was tried. */
int fidelity_load(struct fidelity *f, const void *bytes, size_t size);

/* Leaves the library's context 0 current. */
enum renderer_fidelity fidelity_of(struct fidelity *f, const struct renderer_resource_desc *desc);

/* True when every kind of texture the host can make of it, of one sample or of `many`, is exact. */
bool fidelity_format_exact(struct fidelity *f, uint32_t format, bool many);

#endif
