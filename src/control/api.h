/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_API_H
#define VGPU_CONTROL_API_H

/*
 * The API's routes: one table for dispatch and for docs/api.md (`vgpud --print-api`). Paths may end
 * in one NAME and a fixed word after it.
 */

#include "control/http.h"
#include "control/vgpud.h"

#include <stdio.h>

/* X(method, path, handler, summary, request, answer) */
#define API_ROUTES(X)                                                                              \
	X("GET", "/v1/gpus", api_gpu_list, "The GPUs of this node", "", "an array of GPU")         \
	X("GET", "/v1/gpus/NAME", api_gpu_show,                                                    \
		"One GPU, and what its node makes of it: each method possible, or why not", "",    \
		"shown GPU")                                                                       \
	X("POST", "/v1/gpus/NAME/policy", api_gpu_policy, "How its vGPUs share it",                \
		"{policy, slice_ms?}: slice_ms: 1 to 30; by the number of vGPUs if not given",     \
		"GPU")                                                                             \
	X("POST", "/v1/gpus/NAME/mode", api_gpu_mode, "Which method it is kept for",               \
		"{mode}: any, emulate, forward, mediate or passthrough", "GPU")                    \
	X("POST", "/v1/gpus/NAME/scrub", api_gpu_scrub,                                            \
		"Empties the memory of a GPU in passthrough once more, while no VM has it", "{}",  \
		"GPU")                                                                             \
	X("POST", "/v1/gpus/NAME/release", api_gpu_release,                                        \
		"Anybody may have the GPU, although not all that was left in its memory could be " \
		"emptied; only root and vgpud's own user may",                                     \
		"{unscrubbed: true}", "GPU")                                                       \
	X("GET", "/v1/types", api_type_list, "What each GPU offers", "?gpu=NAME: only that GPU's", \
		"an array of type")                                                                \
	X("GET", "/v1/vgpus", api_vgpu_list, "All vGPUs", "", "an array of vGPU")                  \
	X("POST", "/v1/vgpus", api_vgpu_create, "Creates a vGPU; answers when it is ready",        \
		"{name, gpu, type?, method?, tenant?, owner?}: tenant: one that the asking user "  \
		"named first, or nobody (root: any); owner: with mediate and passthrough the "     \
		"user whose VM it is for; who asks if not given",                                  \
		"201 and the vGPU")                                                                \
	X("GET", "/v1/vgpus/NAME", api_vgpu_show, "One vGPU", "", "vGPU")                          \
	X("DELETE", "/v1/vgpus/NAME", api_vgpu_delete,                                             \
		"Deletes a vGPU; refused while something holds it",                                \
		"?force=1: ends what holds it", "{}")                                              \
	X("GET", "/v1/vgpus/NAME/stats", api_vgpu_stats, "Its counters", "", "stats")              \
	X("GET", "/v1/vgpus/NAME/screenshot", api_vgpu_screenshot, "What a head shows",            \
		"?head=N: 0 if not given", "image/png")                                            \
	X("POST", "/v1/vgpus/NAME/move", api_vgpu_move,                                            \
		"Moves it to another GPU under its guest; the same GPU: replaces its process",     \
		"{gpu, exact?, precopy?}: exact: refuse rather than lose anything; precopy: "      \
		"false: copy nothing ahead",                                                       \
		"result")                                                                          \
	X("POST", "/v1/vgpus/NAME/snapshot", api_vgpu_snapshot, "Its state as a file",             \
		"?exact=1: refuse rather than lose anything",                                      \
		"application/x-vgpustate, and the result as header `Vgpu-Result`")                 \
	X("POST", "/v1/vgpus/NAME/restore", api_vgpu_restore, "Loads a state into it",             \
		"the file, at most 64 GiB", "result")                                              \
	X("POST", "/v1/vgpus/NAME/hibernate", api_vgpu_hibernate,                                  \
		"Saves its state and ends its device process until its guest goes on", "",         \
		"result")                                                                          \
	X("POST", "/v1/vgpus/NAME/wake", api_vgpu_wake, "Wakes it from hibernation", "", "result") \
	X("GET", "/v1/vgpus/NAME/check", api_vgpu_check,                                           \
		"What saving it would lose, or why it would be refused, now", "",                  \
		"{name, verdict: fine, lossy or refused, reasons: array of {verdict, text}}")      \
	X("GET", "/v1/vgpus/NAME/progress", api_vgpu_progress, "Of the operation under way", "",   \
		"{operation: string or null, step, done_bytes, total_bytes}")                      \
	X("GET", "/v1/vgpus/NAME/qemu-args", api_vgpu_qemu_args, "Arguments for a stock QEMU",     \
		"?vga=1: with a boot screen, ?memory=SIZE", "{args: array of strings, note}")      \
	X("POST", "/v1/vgpus/NAME/bind", api_vgpu_bind,                                            \
		"Binds a process of the asking user to it",                                        \
		"{pid?, label?}: the asking process if not given", "{socket, environment}")        \
	X("POST", "/v1/vgpus/NAME/unbind", api_vgpu_unbind,                                        \
		"Ends the binding of the asking process (root: any)", "", "{}")                    \
	X("GET", "/v1/node", api_node, "The node's memory: whose it is, and over-commit", "",      \
		"node")                                                                            \
	X("POST", "/v1/node/overcommit", api_node_overcommit,                                      \
		"Turns memory over-commit (root, or vgpud's own user); answers when all VMs are "  \
		"locked and KSM runs",                                                             \
		"{on: boolean}", "node")                                                           \
	X("POST", "/v1/node/vms", api_node_vms,                                                    \
		"What libvirt's qemu hook is told (root, or vgpud's own user): may that VM "       \
		"start? An error says why not",                                                    \
		"?domain=NAME&operation=WORD; the domain's definition, at most 512 KiB",           \
		"{admit: true}")                                                                   \
	X("GET", "/v1/stats", api_stats, "The counters of all vGPUs", "", "an array of stats")     \
	X("GET", "/v1/samples", api_samples, "The counters of all vGPUs, again and again",         \
		"?interval_ms=N: 100 to 60000, else 1000",                                         \
		"application/x-ndjson: a sample each line, until you hang up")                     \
	X("GET", "/v1/events", api_events, "What happened lately; waits for news when asked",      \
		"?after=NUMBER, ?wait=1", "an array of event")                                     \
	X("GET", "/v1/advise", api_advise,                                                         \
		"Which method suits a need on this node, the best first",                          \
		"?need=NAME,NAME: performance, density, isolation, migration, no-hardware; "       \
		"?vms=N, ?guest=linux or windows, ?gpu=NAME: only that GPU",                       \
		"advice")                                                                          \
	X("GET", "/v1/doctor", api_doctor, "What works on this node and what does not", "",        \
		"an array of check")                                                               \
	X("GET", "/metrics", api_metrics, "All counters for Prometheus", "",                       \
		"text/plain; version=0.0.4")

struct api;

int api_create(struct vgpud *d, struct api **ret);
void api_destroy(struct api *api); /* NULL-safe */

/* http_handler and http_upload; `data` is the struct api. */
void api_handle(void *data, struct http_request *request);
int api_upload(void *data, const struct http_request *request);

/* Where anybody on this node may ask: knows nothing but /metrics. */
void api_handle_metrics(void *data, struct http_request *request);

/* docs/api.md */
void api_print(FILE *out);

#endif
