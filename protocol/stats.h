/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_PROTOCOL_STATS_H
#define VGPU_PROTOCOL_STATS_H

/*
 * A vGPU's counters: one page of shared memory that the keeper makes and seals for one device
 * process, which writes it, and that vgpud reads at any time without asking. Each value is a
 * naturally aligned 64-bit word written with relaxed atomics, so every single value is whole;
 * values among each other may be a moment apart. The reader treats the page as hostile: it copies
 * and never trusts.
 */

#include <stdint.h>

#define VGPU_STATS_MAGIC   0x53555056u /* "VPUS" */
#define VGPU_STATS_VERSION 1u

/* X(name, kind, help): kind is COUNTER (only grows) or GAUGE. Appended to, never reordered. */
#define VGPU_STATS_TABLE(X)                                                                        \
	X(vram_limit_bytes, GAUGE, "VRAM quota")                                                   \
	X(vram_used_bytes, GAUGE, "VRAM in use now")                                               \
	X(vram_peak_bytes, GAUGE, "highest VRAM use so far")                                       \
	X(clients, GAUGE, "connected clients")                                                     \
	X(contexts, GAUGE, "rendering contexts now")                                               \
	X(resources, GAUGE, "resources now")                                                       \
	X(submits_total, COUNTER, "command buffers executed")                                      \
	X(commands_total, COUNTER, "commands executed")                                            \
	X(draws_total, COUNTER, "draw, clear, blit and compute commands executed")                 \
	X(stream_bytes_total, COUNTER, "bytes of command stream")                                  \
	X(transfer_to_host_bytes_total, COUNTER, "bytes moved from guest memory")                  \
	X(transfer_from_host_bytes_total, COUNTER, "bytes moved to guest memory")                  \
	X(fences_total, COUNTER, "fences completed")                                               \
	X(frames_total, COUNTER, "screen flushes and client frames")                               \
	X(quota_refusals_total, COUNTER, "allocations refused by the VRAM quota")                  \
	X(contexts_lost_total, COUNTER, "contexts ended because they broke a rule")                \
	X(requests_refused_total, COUNTER, "malformed requests answered with an error")

struct vgpu_stats {
	uint32_t magic;
	uint32_t version;
#define X(name, kind, help) uint64_t name;
	VGPU_STATS_TABLE(X)
#undef X
};

#define VGPU_STATS_SIZE 4096u /* bytes of the memfd */

static inline void vgpu_stats_set(uint64_t *value, uint64_t to)
{
	__atomic_store_n(value, to, __ATOMIC_RELAXED);
}

static inline void vgpu_stats_add(uint64_t *value, uint64_t by)
{
	vgpu_stats_set(value, __atomic_load_n(value, __ATOMIC_RELAXED) + by);
}

#endif
