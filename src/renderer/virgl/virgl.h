/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_RENDERER_VIRGL_H
#define VGPU_RENDERER_VIRGL_H

/*
 * Theory of operation
 *
 * Executes virgl streams with libvirglrenderer, the decoder QEMU and crosvm use: on a DRM render
 * node through GBM, or on the software GPU (llvmpipe) through a surfaceless EGL display.
 *
 * The library is a singleton: one of these exists per process. It is never asked to watch fences
 * itself: its own ways (a poll per command, or a thread that wakes for every fence) cost more than
 * the work they wait for. Instead virgl/fences puts a GL sync object behind the work and waits in a
 * thread of its own when somebody wants an asynchronous answer, or the caller waits in finish().
 * The library's own fences are used only to make it look after query results.
 *
 * GL orders work within one GL context only. Several guest contexts (and sub-contexts) mean several
 * GL contexts, so whenever another one becomes current, a sync object is left in the one before.
 *
 * For saving and loading state: contents (and fidelity, samples) read and write the bytes of
 * resources, queries and streamout stand between the library and the driver for what GL cannot
 * tell, capset compares and trims what guests are promised.
 *
 * Not here: checking streams (stream), quotas (device).
 */

#include "renderer/interface.h"

extern const struct renderer_ops renderer_virgl;

#endif
