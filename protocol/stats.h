/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_PROTOCOL_STATS_H
#define VGPU_PROTOCOL_STATS_H

/*
 * A vGPU's counters: one page of shared memory that the keeper makes and seals for one device
 * process, which writes it, and that vgpud reads at any time without asking. Each value is a
 * naturally aligned 64-bit word written with relaxed atomics, so every single value is whole;
 * values among each other may be a moment apart. The reader treats the page as hostile: it copies
 * and never trusts.
 *
 * Rows are appended, so a reader finds zeros for those that an older device process does not know;
 * the version changes only when a row changes its meaning.
 *
 * Frames: a frame's time is the time from the one before it of the same client (of a VM: of the
 * same screen). After VGPU_FRAME_GAP_NS without one a client was idle, and the next frame has no
 * time: it is in frames_total and in no bucket.
 *
 * Waiting: a client's work is ready from the moment the device process knows of it (its socket or
 * its kick was reported) or left it to a later turn, until its turn begins. Meanwhile the process
 * served others, or made room in the journal. What the process cannot see is not in it: time in
 * which it had no CPU is for the kernel to tell (base/process_times.h).
 *
 * Fence time: how long the driver had unfinished work, as its fences tell. Only render nodes are
 * measured so; what a software GPU costs is CPU time.
 */

#include <stdint.h>

#define VGPU_STATS_MAGIC   0x53555056u /* "VPUS" */
#define VGPU_STATS_VERSION 1u

/*
 * X(name, kind, help): kind is COUNTER (only grows) or GAUGE; `help` is the documentation's, too.
 * Appended to, never reordered.
 */
#define VGPU_STATS_VALUES(X)                                                                       \
	X(vram_limit_bytes, GAUGE, "VRAM quota")                                                   \
	X(vram_used_bytes, GAUGE,                                                                  \
		"VRAM in use now: textures, buffers, shared memory, screens, objects; contexts "   \
		"and programs beyond 64 MiB")                                                      \
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
	X(requests_refused_total, COUNTER, "malformed requests answered with an error")            \
	X(wait_time_ns_total, COUNTER, "time in which work was ready and others were served")      \
	X(fence_time_ns_total, COUNTER, "time in which the driver had work, by its fences")

/*
 * The histogram of frame times. B(X, us, le): frames of at most `us` microseconds and more than the
 * row before; `le` is the same in seconds. Each second bound is 5 % above the frame time of 240,
 * 120, 60, 30, 15 and 7.5 frames a second, so that a steady rate does not fall on both sides of
 * one; the others lie between, down to 5 a second. What takes longer is in frames_slower_total.
 */
#define VGPU_FRAME_TIMES(B, X)                                                                     \
	B(X, 4375, "0.004375")                                                                     \
	B(X, 6250, "0.00625")                                                                      \
	B(X, 8750, "0.00875")                                                                      \
	B(X, 12500, "0.0125")                                                                      \
	B(X, 17500, "0.0175")                                                                      \
	B(X, 25000, "0.025")                                                                       \
	B(X, 35000, "0.035")                                                                       \
	B(X, 50000, "0.05")                                                                        \
	B(X, 70000, "0.07")                                                                        \
	B(X, 100000, "0.1")                                                                        \
	B(X, 140000, "0.14")                                                                       \
	B(X, 200000, "0.2")
#define VGPU_FRAME_TIMES_COUNT 12u /* and one for what is slower than all of them */
#define VGPU_FRAME_GAP_NS      1000000000u

#define VGPU_FRAME_ROW(X, us, le) X(frames_##us##us_total, COUNTER, "frames of up to " le " s")
#define VGPU_STATS_TABLE(X)                                                                        \
	VGPU_STATS_VALUES(X)                                                                       \
	VGPU_FRAME_TIMES(VGPU_FRAME_ROW, X)                                                        \
	X(frames_slower_total, COUNTER, "frames slower than that")                                 \
	X(frame_time_ns_total, COUNTER, "sum of the times of frames")

struct vgpu_stats {
	uint32_t magic;
	uint32_t version;
#define X(name, kind, help) uint64_t name;
	VGPU_STATS_TABLE(X)
#undef X
};

#define VGPU_STATS_SIZE 4096u /* bytes of the memfd */

/* Its buckets, VGPU_FRAME_TIMES_COUNT + 1 in the order of the table. */
static inline uint64_t *vgpu_stats_frames(struct vgpu_stats *stats)
{
	return &stats->frames_4375us_total;
}

static inline void vgpu_stats_set(uint64_t *value, uint64_t to)
{
	__atomic_store_n(value, to, __ATOMIC_RELAXED);
}

static inline void vgpu_stats_add(uint64_t *value, uint64_t by)
{
	vgpu_stats_set(value, __atomic_load_n(value, __ATOMIC_RELAXED) + by);
}

#endif
