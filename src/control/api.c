/* SPDX-License-Identifier: Apache-2.0 */
#include "control/api.h"

#include "control/api_internal.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/parse.h"
#include "control/doctor.h"
#include "control/render.h"
#include "metrics/prometheus.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define API_EVENT_WAIT_MS 30000u

typedef void (*api_handler)(struct api *api, struct http_request *request, const char *name);

static void refuse(struct http_request *request, int code, const char *what, const char *why)
{
	struct error err;

	error_set(&err, code, "%s: %s", what, why);
	http_reply_error(request, &err);
}

struct vgpu *api_find_vgpu(struct api *api, struct http_request *request, const char *name)
{
	struct vgpu *v = vgpud_find_vgpu(api->d, name);
	struct error err;

	if (!v) {
		error_set(&err, ENOENT, "%.64s: there is no vGPU of that name (see `vgpuctl list`)",
			name);
		http_reply_error(request, &err);
	}
	return v;
}

struct api_call *api_call_new(struct api *api, struct http_request *request, const char *name)
{
	struct api_call *call = malloc(sizeof(*call));

	if (!call) {
		refuse(request, ENOMEM, "request", "out of memory (free some)");
		return NULL;
	}
	*call = (struct api_call){.api = api, .request = request, .fd = -1};
	snprintf(call->name, sizeof(call->name), "%.63s", name);
	return call;
}

void api_call_free(struct api_call *call)
{
	close_fd(&call->fd);
	free(call);
}

void api_call_started(struct api_call *call, int r, const struct error *err)
{
	if (r < 0)
		api_call_end(call, err, 0, NULL);
}

void api_call_end(struct api_call *call, const struct error *err, unsigned status, json_t *answer)
{
	if (err)
		http_reply_error(call->request, err);
	else
		http_reply_json(call->request, status, answer);
	api_call_free(call);
}

/* --- lists --- */

static void api_gpu_list(struct api *api, struct http_request *request, const char *name)
{
	json_t *list = json_array();

	for (size_t i = 0; i < api->d->n_gpus; i++) {
		if (!api->d->gpus[i].gone)
			json_array_append_new(list, render_gpu(api->d, &api->d->gpus[i]));
	}
	http_reply_json(request, 200, list);
}

static void api_type_list(struct api *api, struct http_request *request, const char *name)
{
	const char *gpu = http_query(request, "gpu");
	json_t *list;

	if (gpu && !api_find_gpu(api, request, gpu))
		return;
	list = json_array();
	for (size_t i = 0; i < api->d->n_types; i++) {
		const struct type *type = &api->d->types[i];
		if (!gpu || !strcmp(type->gpu, gpu))
			json_array_append_new(list, render_type(api->d, type));
	}
	http_reply_json(request, 200, list);
}

static void api_stats(struct api *api, struct http_request *request, const char *name)
{
	json_t *list = json_array();

	for (struct vgpu *v = api->d->vgpus; v; v = v->next)
		json_array_append_new(list, render_stats(v));
	http_reply_json(request, 200, list);
}

static void api_metrics(struct api *api, struct http_request *request, const char *name)
{
	size_t size;
	char *text = render_metrics(api->d, &size);

	if (text)
		http_reply_bytes(request, METRICS_CONTENT_TYPE, text, size);
	else
		refuse(request, ENOMEM, "metrics", "out of memory (free some)");
}

/* --- events --- */

static void reply_events(struct api *api, struct http_request *request, uint64_t after)
{
	json_t *list = json_array();
	const struct event *event;

	while ((event = events_next(&api->d->events, after))) {
		json_array_append_new(list, render_event(event));
		after = event->number;
	}
	http_reply_json(request, 200, list);
}

static void wake_waiters(void *data)
{
	struct api *api = data;
	struct api_waiter waiters[API_WAITERS];
	unsigned n = api->n_waiters;

	memcpy(waiters, api->waiters, sizeof(waiters));
	api->n_waiters = 0;
	for (unsigned i = 0; i < n; i++)
		reply_events(api, waiters[i].request, waiters[i].after);
}

static int on_wait_over(sd_event_source *source, uint64_t usec, void *data)
{
	wake_waiters(data);
	return 0;
}

static void api_events(struct api *api, struct http_request *request, const char *name)
{
	const char *after_text = http_query(request, "after");
	const char *wait = http_query(request, "wait");
	uint64_t after = 0;

	if (after_text && !parse_number(after_text, 10, UINT64_MAX, &after)) {
		refuse(request, EINVAL, "events",
			"`after` is no number (give the number of the last event you know)");
		return;
	}
	if (events_next(&api->d->events, after) || !wait || strcmp(wait, "1") != 0 ||
		api->n_waiters == API_WAITERS) {
		reply_events(api, request, after);
		return;
	}
	api->waiters[api->n_waiters++] = (struct api_waiter){request, after};
	if (api->n_waiters == 1) {
		sd_event_source_set_time_relative(api->timer, API_EVENT_WAIT_MS * 1000ull);
		sd_event_source_set_enabled(api->timer, SD_EVENT_ONESHOT);
	}
}

/* --- doctor --- */

static void on_doctor(void *data, json_t *checks)
{
	http_reply_json(data, 200, checks);
}

static void api_doctor(struct api *api, struct http_request *request, const char *name)
{
	struct error err;

	if (doctor_start(api->d, on_doctor, request, &err) < 0)
		http_reply_error(request, &err);
}

/* --- dispatch --- */

struct route {
	const char *method, *path;
	api_handler handler;
};

#define X(method, path, handler, summary, request, answer) {method, path, handler},
static const struct route routes[] = {API_ROUTES(X)};
#undef X

/* Does `path` fit the pattern? Copies what stands at NAME; NAME never holds a slash. */
static bool route_fits(const char *pattern, const char *path, char *ret_name, size_t size)
{
	const char *mark = strstr(pattern, "NAME");

	ret_name[0] = '\0';
	if (!mark)
		return !strcmp(pattern, path);
	size_t before = (size_t)(mark - pattern);
	if (strncmp(pattern, path, before) != 0)
		return false;
	path += before;
	size_t len = strcspn(path, "/");
	if (!len || len >= size || strcmp(path + len, mark + 4) != 0)
		return false;
	memcpy(ret_name, path, len);
	ret_name[len] = '\0';
	return true;
}

void api_handle(void *data, struct http_request *request)
{
	char name[128];
	bool path_known = false;
	struct error err;

	for (size_t i = 0; i < ARRAY_SIZE(routes); i++) {
		if (!route_fits(routes[i].path, http_path(request), name, sizeof(name)))
			continue;
		path_known = true;
		if (!strcmp(routes[i].method, http_method(request))) {
			routes[i].handler(data, request, name);
			return;
		}
	}
	if (path_known) {
		error_set(&err, EINVAL, "request: that path has no method %.16s (see docs/api.md)",
			http_method(request));
		http_reply_error_status(request, 405, &err);
	} else {
		error_set(&err, ENOENT, "request: there is nothing at %.128s (see docs/api.md)",
			http_path(request));
		http_reply_error(request, &err);
	}
}

void api_handle_metrics(void *data, struct http_request *request)
{
	if (!strcmp(http_path(request), "/metrics") && !strcmp(http_method(request), "GET"))
		api_metrics(data, request, "");
	else
		refuse(request, ENOENT, "request", "here is nothing but GET /metrics");
}

int api_create(struct vgpud *d, struct api **ret)
{
	struct api *api = calloc(1, sizeof(*api));

	if (!api)
		return -ENOMEM;
	api->d = d;
	int r = sd_event_add_time(
		d->event, &api->timer, CLOCK_MONOTONIC, UINT64_MAX, 100000, on_wait_over, api);
	if (r < 0) {
		free(api);
		return r;
	}
	sd_event_source_set_enabled(api->timer, SD_EVENT_OFF);
	d->events.added = wake_waiters;
	d->events.data = api;
	*ret = api;
	return 0;
}

void api_destroy(struct api *api)
{
	if (!api)
		return;
	api->d->events.added = NULL;
	sd_event_source_disable_unref(api->timer);
	free(api);
}
