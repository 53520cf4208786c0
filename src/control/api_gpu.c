/* SPDX-License-Identifier: Apache-2.0 */
#include "control/api_internal.h"
#include "control/direct.h"
#include "control/gpu_rules.h"
#include "control/gpus.h"
#include "control/render.h"

#include <errno.h>
#include <stdio.h>

#define NO_SLICE (-1) /* nobody chose one */

const struct gpu *api_find_gpu(struct api *api, struct http_request *request, const char *name)
{
	const struct gpu *gpu = vgpud_find_gpu(api->d, name);
	struct error err;

	if (!gpu) {
		error_set(&err, ENOENT,
			"%.64s: there is no GPU of that name (see `vgpuctl gpu list`)", name);
		http_reply_error(request, &err);
	}
	return gpu;
}

static void on_shown(void *data, json_t *report)
{
	struct api_call *call = data;
	const struct gpu *gpu = vgpud_find_gpu(call->api->d, call->name);
	struct error err;

	if (gpu && report) {
		json_t *json = render_gpu(call->api->d, gpu);
		json_object_update(json, report);
		api_call_end(call, NULL, 200, json);
	} else {
		error_set(&err, gpu ? ETIMEDOUT : ENOENT, "gpu show %s: %s", call->name,
			gpu ? "a driver does not answer (see dmesg, and try again)"
			    : "it is gone from this node (see `vgpuctl gpu list`)");
		api_call_end(call, &err, 0, NULL);
	}
	json_decref(report);
}

void api_gpu_show(struct api *api, struct http_request *request, const char *name)
{
	const struct gpu *gpu = api_find_gpu(api, request, name);
	struct api_call *call = gpu ? api_call_new(api, request, name) : NULL;
	struct error err;

	if (call)
		api_call_started(call, gpus_show(api->d, gpu, on_shown, call, &err), &err);
}

/* What is answered when something about a GPU was changed, or (`r`) was not. */
static void answer_gpu(struct api *api, struct http_request *request, const char *name, int r,
	const struct error *err)
{
	if (r < 0)
		http_reply_error(request, err);
	else
		http_reply_json(request, 200, render_gpu(api->d, vgpud_find_gpu(api->d, name)));
}

void api_gpu_policy(struct api *api, struct http_request *request, const char *name)
{
	json_int_t slice_ms = NO_SLICE;
	const char *policy;
	struct error err = {0};
	json_error_t where;

	json_t *body = http_json(request, &err);
	int r = body ? 0 : -EINVAL;
	if (r == 0 && json_unpack_ex(body, &where, JSON_STRICT, "{s:s, s?I}", "policy", &policy,
			      "slice_ms", &slice_ms) < 0)
		r = error_set(
			&err, EINVAL, "gpu policy %s: %s (see docs/api.md)", name, where.text);
	if (r == 0 && slice_ms != NO_SLICE &&
		(slice_ms < SCHED_SLICE_MIN_MS || slice_ms > SCHED_SLICE_MAX_MS))
		r = error_set(&err, EINVAL,
			"gpu policy %s: a slice of %lld ms is out of range (give %u to %u ms)",
			name, (long long)slice_ms, SCHED_SLICE_MIN_MS, SCHED_SLICE_MAX_MS);
	if (r == 0)
		r = vgpud_set_policy(
			api->d, name, policy, slice_ms == NO_SLICE ? 0 : (uint32_t)slice_ms, &err);
	answer_gpu(api, request, name, r, &err);
}

void api_gpu_mode(struct api *api, struct http_request *request, const char *name)
{
	const char *mode;
	struct error err = {0};
	json_error_t where;

	json_t *body = http_json(request, &err);
	int r = body ? 0 : -EINVAL;
	if (r == 0 && json_unpack_ex(body, &where, JSON_STRICT, "{s:s}", "mode", &mode) < 0)
		r = error_set(&err, EINVAL, "gpu mode %s: %s (see docs/api.md)", name, where.text);
	if (r == 0)
		r = vgpud_set_mode(api->d, name, mode, &err);
	answer_gpu(api, request, name, r, &err);
}

static void on_scrubbed(void *data, const struct error *err)
{
	struct api_call *call = data;
	const struct gpu *gpu = vgpud_find_gpu(call->api->d, call->name);

	api_call_end(call, err, 200,
		err   ? NULL
		: gpu ? render_gpu(call->api->d, gpu)
		      : json_object());
}

void api_gpu_scrub(struct api *api, struct http_request *request, const char *name)
{
	const struct gpu *gpu = api_find_gpu(api, request, name);
	struct api_call *call = gpu ? api_call_new(api, request, name) : NULL;
	struct error err;

	if (call)
		api_call_started(
			call, direct_scrub_gpu(api->d, name, on_scrubbed, call, &err), &err);
}

void api_gpu_release(struct api *api, struct http_request *request, const char *name)
{
	struct error err = {0};
	json_error_t where;
	char what[96];
	int unscrubbed = 0;

	json_t *body = http_json(request, &err);
	int r = body ? 0 : -EINVAL;
	snprintf(what, sizeof(what), "gpu release %.64s", name);
	if (r == 0 && (json_unpack_ex(
			       body, &where, JSON_STRICT, "{s:b}", "unscrubbed", &unscrubbed) < 0 ||
			      !unscrubbed))
		r = error_set(&err, EINVAL,
			"%s: it is done only with unscrubbed: true (see docs/api.md)", what);
	if (r == 0)
		r = api_root_only(request, what, &err);
	if (r == 0)
		r = direct_release(api->d, name, what, &err);
	answer_gpu(api, request, name, r, &err);
}
