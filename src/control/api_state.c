/* SPDX-License-Identifier: Apache-2.0 */

/* Requests about a vGPU's state. Each is one operation of its keeper (operation.c). */

#include "control/api_internal.h"

#include "base/cleanup.h"
#include "control/render.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define STATE_CONTENT_TYPE "application/x-vgpustate"

static void on_result(void *data, const struct error *err, const struct vgpu_outcome *outcome)
{
	struct api_call *call = data;
	const struct vgpu *v = vgpud_find_vgpu(call->api->d, call->name);

	api_call_end(call, err, 200, err ? NULL : v ? render_result(v, outcome) : json_object());
}

void api_vgpu_move(struct api *api, struct http_request *request, const char *name)
{
	struct vgpu *v = api_find_vgpu(api, request, name);
	const char *gpu = NULL;
	struct error err;
	json_error_t where;
	int exact = 0, precopy = 1;

	if (!v)
		return;
	json_t *body = http_json(request, &err);
	if (!body) {
		http_reply_error(request, &err);
		return;
	}
	if (json_unpack_ex(body, &where, JSON_STRICT, "{s:s, s?b, s?b}", "gpu", &gpu, "exact",
		    &exact, "precopy", &precopy) < 0) {
		error_set(&err, EINVAL, "move %s: %s (see docs/api.md)", name, where.text);
		http_reply_error(request, &err);
		return;
	}
	struct api_call *call = api_call_new(api, request, name);
	if (call)
		api_call_started(
			call, vgpu_move(v, gpu, exact, precopy, on_result, call, &err), &err);
}

/* --- files --- */

static void on_snapshot(void *data, const struct error *err, const struct vgpu_outcome *outcome)
{
	struct api_call *call = data;
	const struct vgpu *v = vgpud_find_vgpu(call->api->d, call->name);

	if (err || !v) {
		on_result(data, err, outcome);
		return;
	}
	http_reply_file(
		call->request, STATE_CONTENT_TYPE, TAKE_FD(call->fd), render_result(v, outcome));
	api_call_free(call);
}

static bool asked(const struct http_request *request, const char *key)
{
	const char *value = http_query(request, key);
	return value && !strcmp(value, "1");
}

void api_vgpu_snapshot(struct api *api, struct http_request *request, const char *name)
{
	struct vgpu *v = api_find_vgpu(api, request, name);
	struct api_call *call = v ? api_call_new(api, request, name) : NULL;
	struct error err;

	if (!call)
		return;
	call->fd = vgpud_state_file(api->d);
	int r = vgpu_snapshot(v, call->fd, asked(request, "exact"), on_snapshot, call, &err);
	api_call_started(call, r, &err);
}

/* The body of a restore or a domain's definition goes to a file; every other is short. */
int api_upload(void *data, const struct http_request *request)
{
	static const char tail[] = "/restore", vms[] = "/v1/node/vms";
	struct api *api = data;
	const char *path = http_path(request);
	size_t len = strlen(path);

	bool restore = len >= sizeof(tail) && !strcmp(path + len - (sizeof(tail) - 1), tail);
	if (strcmp(http_method(request), "POST") != 0 || (!restore && strcmp(path, vms) != 0))
		return -1;
	int fd = vgpud_state_file(api->d);
	return fd == -EPERM ? -EACCES : fd;
}

void api_vgpu_restore(struct api *api, struct http_request *request, const char *name)
{
	struct vgpu *v = api_find_vgpu(api, request, name);
	struct api_call *call = v ? api_call_new(api, request, name) : NULL;
	struct error err;

	if (!call)
		return;
	call->fd = http_take_upload(request);
	api_call_started(call, vgpu_restore(v, call->fd, on_result, call, &err), &err);
}

/* --- hibernation --- */

void api_vgpu_hibernate(struct api *api, struct http_request *request, const char *name)
{
	struct vgpu *v = api_find_vgpu(api, request, name);
	struct api_call *call = v ? api_call_new(api, request, name) : NULL;
	struct error err;

	if (call)
		api_call_started(call, vgpu_hibernate(v, false, on_result, call, &err), &err);
}

void api_vgpu_wake(struct api *api, struct http_request *request, const char *name)
{
	struct vgpu *v = api_find_vgpu(api, request, name);
	struct api_call *call = v ? api_call_new(api, request, name) : NULL;
	struct error err;

	if (call)
		api_call_started(call, vgpu_wake(v, on_result, call, &err), &err);
}

/* --- asking --- */

static void on_check(void *data, const struct error *err, const struct vgpu_outcome *outcome)
{
	struct api_call *call = data;
	const struct vgpu *v = vgpud_find_vgpu(call->api->d, call->name);

	if (err || !v) {
		on_result(data, err, outcome);
		return;
	}
	api_call_end(call, NULL, 200, render_state_check(v, outcome));
}

void api_vgpu_check(struct api *api, struct http_request *request, const char *name)
{
	struct vgpu *v = api_find_vgpu(api, request, name);
	struct api_call *call = v ? api_call_new(api, request, name) : NULL;
	struct error err;

	if (call)
		api_call_started(call, vgpu_check(v, on_check, call, &err), &err);
}

void api_vgpu_progress(struct api *api, struct http_request *request, const char *name)
{
	const struct vgpu *v = api_find_vgpu(api, request, name);
	struct keeper_progress progress = {0};

	if (!v)
		return;
	const char *verb = vgpu_operation(v, &progress);
	http_reply_json(request, 200,
		json_pack("{s:o, s:s, s:I, s:I}", "operation",
			verb ? json_string(verb) : json_null(), "step", progress.step, "done_bytes",
			(json_int_t)(progress.bytes & INT64_MAX), "total_bytes",
			(json_int_t)(progress.total_bytes & INT64_MAX)));
}
