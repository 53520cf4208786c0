/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CONTROL_API_INTERNAL_H
#define VGPU_CONTROL_API_INTERNAL_H

/* What the files that answer requests share. */

#include "control/api.h"

#define API_WAITERS 32

struct api_waiter {
	struct http_request *request;
	uint64_t after;
};

struct api_sampler;

struct api {
	struct vgpud *d;
	struct api_sampler *samplers; /* readers of /v1/samples */
	unsigned n_samplers;
	sd_event_source *timer; /* ends the waits for events */
	struct api_waiter waiters[API_WAITERS];
	unsigned n_waiters;
};

/* One request on its way to a keeper. */
struct api_call {
	struct api *api;
	struct http_request *request;
	char name[VGPU_NAME_LONGEST + 1];
	int fd; /* -1: none */
};

/* NULL when the request was answered: there is none of that name, or no memory. */
struct vgpu *api_find_vgpu(struct api *api, struct http_request *request, const char *name);
struct api_call *api_call_new(struct api *api, struct http_request *request, const char *name);
/* What was started with it answered `r`: after an error that is the answer, and the call is over.
 */
void api_call_started(struct api_call *call, int r, const struct error *err);
/* Answers with the error, or (NULL) with `answer`, which is taken; and frees the call. */
void api_call_end(struct api_call *call, const struct error *err, unsigned status, json_t *answer);
/* The request was answered already. */
void api_call_free(struct api_call *call);

/* api_advise.c */
void api_advise(struct api *api, struct http_request *request, const char *name);

/* api_create.c */
void api_vgpu_create(struct api *api, struct http_request *request, const char *name);

/* api_gpu.c; `name` is that of a GPU. */
const struct gpu *api_find_gpu(struct api *api, struct http_request *request, const char *name);
void api_gpu_show(struct api *api, struct http_request *request, const char *name);
void api_gpu_policy(struct api *api, struct http_request *request, const char *name);
void api_gpu_mode(struct api *api, struct http_request *request, const char *name);
void api_gpu_scrub(struct api *api, struct http_request *request, const char *name);
/*
 * What loosens a rule for all tenants is not for the whole group, which the users that run VMs are
 * in. 0; -EPERM and what to do.
 */
int api_root_only(const struct http_request *request, const char *what, struct error *err);
void api_gpu_release(struct api *api, struct http_request *request, const char *name);

/* api_node.c */
void api_node(struct api *api, struct http_request *request, const char *name);
void api_node_overcommit(struct api *api, struct http_request *request, const char *name);
void api_node_vms(struct api *api, struct http_request *request, const char *name);

/* api_samples.c */
void api_samples(struct api *api, struct http_request *request, const char *name);

/* api_vgpu.c; `name` is that of a vGPU. */
void api_vgpu_list(struct api *api, struct http_request *request, const char *name);
void api_vgpu_show(struct api *api, struct http_request *request, const char *name);
void api_vgpu_stats(struct api *api, struct http_request *request, const char *name);
void api_vgpu_delete(struct api *api, struct http_request *request, const char *name);
void api_vgpu_screenshot(struct api *api, struct http_request *request, const char *name);
void api_vgpu_qemu_args(struct api *api, struct http_request *request, const char *name);
void api_vgpu_bind(struct api *api, struct http_request *request, const char *name);
void api_vgpu_unbind(struct api *api, struct http_request *request, const char *name);

/* api_state.c; `name` is that of a vGPU. */
void api_vgpu_move(struct api *api, struct http_request *request, const char *name);
void api_vgpu_snapshot(struct api *api, struct http_request *request, const char *name);
void api_vgpu_restore(struct api *api, struct http_request *request, const char *name);
void api_vgpu_hibernate(struct api *api, struct http_request *request, const char *name);
void api_vgpu_wake(struct api *api, struct http_request *request, const char *name);
void api_vgpu_check(struct api *api, struct http_request *request, const char *name);
void api_vgpu_progress(struct api *api, struct http_request *request, const char *name);

#endif
