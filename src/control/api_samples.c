/* SPDX-License-Identifier: Apache-2.0 */
#include "control/api_internal.h"

#include "base/checked.h"
#include "base/clock.h"
#include "base/parse.h"
#include "control/render.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/*
 * One stream for a reader that wants to see all vGPUs move, as `vgpuctl top` does: each vGPU's
 * sources are read once for a sample, not asked for one by one.
 */

#define SAMPLERS_MAX        16u
#define SAMPLER_INTERVAL_MS 1000u
#define SAMPLER_LEAST_MS    100u
#define SAMPLER_MOST_MS     60000u

struct api_sampler {
	struct api *api;
	struct api_sampler *next;
	struct http_stream *stream;
	sd_event_source *timer;
	uint64_t interval_us, last_ns;
	uint64_t missed;
};

static char *sample_text(struct api_sampler *sampler, size_t *ret_size)
{
	uint64_t now = clock_ns(), last = sampler->last_ns;
	json_t *list = json_array();
	struct timespec time;

	clock_gettime(CLOCK_REALTIME, &time);
	for (struct vgpu *v = sampler->api->d->vgpus; v; v = v->next)
		json_array_append_new(list, render_stats(v));
	json_t *sample = json_pack("{s:I, s:o, s:I, s:o}", "time_ms",
		(json_int_t)time.tv_sec * 1000 + (json_int_t)(time.tv_nsec / 1000000),
		"interval_ns", last ? json_integer((json_int_t)(now - last)) : json_null(),
		"missed", (json_int_t)sampler->missed, "vgpus", list);
	char *text = json_dumps(sample, JSON_COMPACT | JSON_ENSURE_ASCII);
	json_decref(sample);
	if (!text)
		return NULL;
	sampler->last_ns = now;
	*ret_size = strlen(text) + 1;
	text[*ret_size - 1] = '\n'; /* where its end was: the size is known */
	return text;
}

static int sampler_on_time(sd_event_source *source, uint64_t usec, void *data)
{
	struct api_sampler *sampler = data;
	size_t size;

	sd_event_source_set_time_relative(source, sampler->interval_us);
	sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
	char *text = http_stream_ready(sampler->stream) ? sample_text(sampler, &size) : NULL;
	if (!text) {
		sampler->missed++;
		return 0;
	}
	sampler->missed = 0;
	http_stream_send(sampler->stream, text, size);
	return 0;
}

static void sampler_ended(void *data)
{
	struct api_sampler *sampler = data;
	struct api_sampler **at = &sampler->api->samplers;

	while (*at != sampler)
		at = &(*at)->next;
	*at = sampler->next;
	sampler->api->n_samplers--;
	sd_event_source_disable_unref(sampler->timer);
	free(sampler);
}

static void sampler_refuse(struct http_request *request, int code, const char *why)
{
	struct error err;

	error_set(&err, code, "samples: %s", why);
	http_reply_error(request, &err);
}

void api_samples(struct api *api, struct http_request *request, const char *name)
{
	const char *text = http_query(request, "interval_ms");
	uint64_t interval_ms = SAMPLER_INTERVAL_MS;

	if (text && (!parse_number(text, 10, SAMPLER_MOST_MS, &interval_ms) ||
			    interval_ms < SAMPLER_LEAST_MS)) {
		sampler_refuse(request, EINVAL,
			"`interval_ms` is no number from 100 to 60000 (give one, or none)");
		return;
	}
	struct api_sampler *sampler =
		api->n_samplers < SAMPLERS_MAX ? calloc(1, sizeof(*sampler)) : NULL;
	if (!sampler) {
		sampler_refuse(request, EAGAIN, "too many readers (end one, or ask /v1/stats)");
		return;
	}
	*sampler = (struct api_sampler){
		.api = api, .next = api->samplers, .interval_us = interval_ms * 1000};
	int r = sd_event_add_time_relative(api->d->event, &sampler->timer, CLOCK_MONOTONIC, 0,
		10000, sampler_on_time, sampler);
	if (r < 0) {
		free(sampler);
		sampler_refuse(request, -r, "no timer (free some memory)");
		return;
	}
	api->samplers = sampler;
	api->n_samplers++;
	sampler->stream =
		http_reply_stream(request, "application/x-ndjson", sampler_ended, sampler);
	if (!sampler->stream)
		sampler_ended(sampler);
}
