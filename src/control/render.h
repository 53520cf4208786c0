/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_RENDER_H
#define VGPU_CONTROL_RENDER_H

/*
 * What control knows as JSON, Prometheus text and PNG. Field tables here are the documentation's
 * too. Names are a contract: added, never renamed.
 */

#include "control/vgpud.h"

#include <jansson.h>
#include <stdio.h>

/* X(name, type, meaning) */
#define RENDER_GPU_FIELDS(X)                                                                       \
	X(name, "string", "softN, or made from the PCI address or render node")                    \
	X(kind, "string", "soft, pci, render, or mdev: a parent of mediated devices")              \
	X(driver, "string or null", "kernel driver; llvmpipe for a soft GPU; null: none")          \
	X(pci_address, "string or null", "as lspci shows it")                                      \
	X(render_node, "string or null", "its device file")                                        \
	X(state, "string",                                                                         \
		"free, shared, mediated, passthrough; taking, scrubbing, giving back, "            \
		"unscrubbed, faulted: see vgpud(8)")                                               \
	X(method, "string or null", "of what it carries; null while free, or several")             \
	X(type, "string or null", "the type it carries; null while free or mixed")                 \
	X(vram_mib, "number", "all of it")                                                         \
	X(vram_free_mib, "number", "not given to a vGPU")                                          \
	X(vgpus, "number", "how many it carries")                                                  \
	X(policy, "string", "best-effort, equal-share or fixed-share")                             \
	X(slice_ms, "number or null", "slice of that policy; null with best-effort")               \
	X(enforced_by, "string or null", "cgroup-v1, cgroup-v2, accounts or slices; or nothing")   \
	X(mixed, "boolean", "whether vGPUs of several types may share it")                         \
	X(standby, "number", "initialised keepers with device processes kept for it")              \
	X(standby_ready, "number", "of those now; software GPUs share them")                       \
	X(standby_used, "number", "vGPUs that were started from one, since vgpud started")         \
	X(standby_missing, "number", "vGPUs that were not, because there was none")                \
	X(mode, "string", "the method it is kept for, or any")                                     \
	X(left_by, "string or null", "whose data may be in its memory after passthrough")

#define RENDER_TYPE_FIELDS(X)                                                                      \
	X(name, "string", "GPU-MIB, or from the config file")                                      \
	X(gpu, "string", "whose it is")                                                            \
	X(vram_mib, "number", "quota of a vGPU")                                                   \
	X(max_instances, "number", "on a GPU that carries nothing else")                           \
	X(available_instances, "number", "how many more fit now")                                  \
	X(max_width, "number", "pixels")                                                           \
	X(max_height, "number", "pixels")                                                          \
	X(heads, "number", "screens")                                                              \
	X(hibernate_idle_s, "number", "a vGPU idle for longer is hibernated; 0: never")            \
	X(weight, "number", "in equal-share, beside those of others")                              \
	X(share_percent, "number", "of the GPU, in fixed-share")                                   \
	X(max_fps, "number", "frames a second at most; 0: no limit")

#define RENDER_VGPU_FIELDS(X)                                                                      \
	X(name, "string", "")                                                                      \
	X(uuid, "string", "")                                                                      \
	X(gpu, "string", "")                                                                       \
	X(type, "string", "")                                                                      \
	X(method, "string", "forward, emulate, mediate or passthrough")                            \
	X(tenant, "string or null", "whose it is; those of one share compiled shaders")            \
	X(state, "string",                                                                         \
		"creating, starting, ready, bound, hibernated, moving, recovering, scrubbing, "    \
		"failed, stopping or deleting")                                                    \
	X(pid, "number or null", "of its device process")                                          \
	X(keeper_pid, "number or null", "of its keeper")                                           \
	X(renderer, "string or null", "as the device process says")                                \
	X(vram_used_mib, "number",                                                                 \
		"what its guests cost the host, rounded up: see vram_used_bytes")                  \
	X(vram_mib, "number", "its quota")                                                         \
	X(bound_to, "string or null", "the VM or process that holds it")                           \
	X(connections, "number", "of what holds it")                                               \
	X(starts, "number", "device processes started so far")                                     \
	X(failure, "string or null", "why its device process ended last")                          \
	X(recoveries, "number", "times a new device process went on for one that died")            \
	X(moves, "number", "to another GPU, or another process on the same")                       \
	X(wakes, "number", "from hibernation")                                                     \
	X(last_pause_ms, "number", "of its guest at the last move, recovery or wake")              \
	X(last_replay_ms, "number", "of that pause, in which a journal was run again")             \
	X(operation, "string or null", "move, snapshot, restore, hibernate, wake or check")        \
	X(max_width, "number", "pixels")                                                           \
	X(max_height, "number", "pixels")                                                          \
	X(heads, "number", "screens")                                                              \
	X(vhost_user_socket, "string or null", "for a VM; null with mediate and passthrough")      \
	X(vtest_socket, "string or null", "for processes; null with mediate and passthrough")      \
	X(device, "string or null",                                                                \
		"what the VM is given: PCI address of a GPU or VF, UUID of a mediated device")     \
	X(bound_pid, "number or null", "process of what holds it")                                 \
	X(bound_domain, "string or null", "its name as a VM, with mediate and passthrough")        \
	X(owner_uid, "number or null", "who may open its VFIO file")                               \
	X(owner_gid, "number or null", "the group of that file, which may not")                    \
	X(scrub, "object or null",                                                                 \
		"the last emptying of the GPU behind a VM: {verdict: clean, partial or failed; "   \
		"text: why; bytes: seen to be zero; took_ms; time_ms: since 1970}")

/* Beside METRICS_TABLE. */
#define RENDER_STATS_FIELDS(X)                                                                     \
	X(frame_time_ns_total, "number", "sum of the times in `frame_times`")                      \
	X(frame_times, "array of {up_to_ms, frames}",                                              \
		"how many frames took at most that and more than the row before; up_to_ms null: "  \
		"all slower ones")

#define RENDER_SAMPLE_FIELDS(X)                                                                    \
	X(time_ms, "number", "since 1970, UTC")                                                    \
	X(interval_ns, "number or null", "since the sample before it; null: it is the first")      \
	X(missed, "number", "samples that were left out before it: you read too slowly")           \
	X(vgpus, "array of stats", "all vGPUs, by name")

#define RENDER_EVENT_FIELDS(X)                                                                     \
	X(number, "number", "rises by one")                                                        \
	X(time_ms, "number", "since 1970, UTC")                                                    \
	X(vgpu, "string or null", "")                                                              \
	X(text, "string", "")

#define RENDER_RESULT_FIELDS(X)                                                                    \
	X(gpu, "string", "where it is now")                                                        \
	X(state_bytes, "number", "size of the state")                                              \
	X(pause_ms, "number", "its guest was not served for")                                      \
	X(total_ms, "number", "it took in all")                                                    \
	X(held_bytes, "number", "hibernate: memory that is still held for it")                     \
	X(lossy, "array of strings", "what is not exactly as it was, and why; empty: nothing")

#define RENDER_CHECK_FIELDS(X)                                                                     \
	X(check, "string", "what was looked at")                                                   \
	X(status, "string", "ok, warn or fail")                                                    \
	X(detail, "string", "what was found")                                                      \
	X(advice, "string or null", "what to do")

json_t *render_gpu(const struct vgpud *d, const struct gpu *gpu);
json_t *render_type(const struct vgpud *d, const struct type *type);
json_t *render_vgpu(const struct vgpu *v);
json_t *render_result(const struct vgpu *v, const struct vgpu_outcome *outcome);
json_t *render_state_check(const struct vgpu *v, const struct vgpu_outcome *outcome);
json_t *render_stats(struct vgpu *v);
json_t *render_event(const struct event *event);
/* `vga`: the variant with a boot screen. `memory`: its size as QEMU reads it, or NULL. */
json_t *render_qemu_args(const struct vgpu *v, bool vga, const char *memory);
json_t *render_bind(const struct vgpu *v);

/* Prometheus' text; malloc'd, NULL when out of memory. */
char *render_metrics(const struct vgpud *d, size_t *ret_size);

/*
 * Reads the screen memfd (protocol/screen.h; its writer is not trusted and chose the descriptor)
 * and encodes it as PNG. `ret` is malloc'd. -ENODATA: nothing is shown; -EPROTO: it is no screen of
 * at most `max_width` x `max_height` pixels.
 */
int render_png(
	int screen_fd, uint32_t max_width, uint32_t max_height, void **ret, size_t *ret_size);

#endif
