/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_RENDERER_NULL_H
#define VGPU_RENDERER_NULL_H

/*
 * Draws nothing: keeps the pixels of 2D textures and the bytes of buffers so that 2D guests, tests
 * and fuzzers have a device; accepts and ignores command streams; every fence is complete at once.
 * It offers no capset, so a guest that meets it runs in 2D.
 */

#include "renderer/interface.h"

extern const struct renderer_ops renderer_null;

#endif
