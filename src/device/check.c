/* SPDX-License-Identifier: Apache-2.0 */
/* What cannot be saved exactly, in words. */
#include "device/state.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

struct problems {
	struct device *dev;
	const struct context *ctx; /* whose queries are looked at */
	state_problem_fn found;
	void *data;
	unsigned n;
	bool refused; /* one of them was told */
	bool clocks; /* queries that measure time count: their state is saved, the pause is in it */
};

static const char *format_name(uint32_t format)
{
	static const char *const names[] = {
#define X(name, number, block_w, block_h, size) [number] = #name,
		VIRGL_FORMATS(X)
#undef X
	};
	return format < ARRAY_SIZE(names) && names[format] ? names[format] : "unknown format";
}

static void __attribute__((format(printf, 3, 4)))
problem(struct problems *p, bool refused, const char *format, ...)
{
	char text[192];
	va_list args;

	/* A refusal is told however much else there is: one at least. */
	if (p->n++ >= STATE_MAX_PROBLEMS && (!refused || p->refused))
		return;
	p->refused = p->refused || refused;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	p->found(p->data, refused, text);
}

static void problem_of_resource(struct problems *p, const struct resource *res)
{
	static const char *const words[] = {
		[RENDERER_LOSSY] =
			"some of its bits change when it is read and written on this host",
		[RENDERER_UNREADABLE] = "this host's driver cannot read it"};
	const struct renderer_resource_desc *d = &res->desc;
	enum renderer_fidelity fidelity = p->dev->ops->fidelity(p->dev->renderer, d);

	if (resource_is_guests(res) && res->iov)
		return;
	if (fidelity != RENDERER_UNREADABLE && resource_is_too_large_to_save(d))
		problem(p, true,
			"%s: resource %u (%s, %u x %u) is too large: %llu MiB at once can be "
			"saved",
			res->client->name, res->handle, format_name(d->format), d->width, d->height,
			STATE_SECTION_MAX >> 20);
	if (fidelity == RENDERER_EXACT)
		return;
	problem(p, false, "%s: resource %u (%s, %u x %u x %u, %u samples): %s", res->client->name,
		res->handle, format_name(d->format), d->width, d->height,
		MAX(d->depth, d->array_size), MAX(d->nr_samples, 1u), words[fidelity]);
}

static void problem_of_query(void *data, uint32_t sub_context, uint32_t handle, uint32_t type,
	bool active, uint32_t host_id)
{
	enum { TIMESTAMP = 2, TIMESTAMP_DISJOINT = 3, TIME_ELAPSED = 4 }; /* VIRGL_QUERY_* */
	struct problems *p = data;

	if (p->clocks && active && type >= TIMESTAMP && type <= TIME_ELAPSED)
		problem(p, false,
			"%s: context \"%s\": query %u measures time, and will measure the pause "
			"too",
			p->ctx->client->name, p->ctx->name, handle);
}

static void problem_of_context(struct problems *p, struct context *ctx)
{
	char why[96];

	p->ctx = ctx;
	if (!stream_saveable(ctx->stream, why, sizeof(why)))
		problem(p, true, "%s: context \"%s\": %s", ctx->client->name, ctx->name, why);
	if (stream_each_query(ctx->stream, problem_of_query, p) < 0)
		problem(p, true, "the host has no memory left");
}

void state_problems(struct device *dev, bool clocks, state_problem_fn found, void *data)
{
	struct problems p = {.dev = dev, .found = found, .data = data, .clocks = clocks};
	struct resource **resources = NULL;
	struct context **contexts = NULL;
	size_t n_resources = 0, n_contexts = 0;

	if (state_resources(dev, &resources, &n_resources) < 0 ||
		state_contexts(dev, &contexts, &n_contexts) < 0)
		problem(&p, true, "the host has no memory left");
	for (size_t i = 0; contexts && i < n_contexts; i++) {
		if (!contexts[i]->lost)
			problem_of_context(&p, contexts[i]);
	}
	for (size_t i = 0; resources && i < n_resources; i++)
		problem_of_resource(&p, resources[i]);
	free(resources);
	free(contexts);
}

void device_check(
	struct device *dev, void (*found)(void *data, bool refused, const char *text), void *data)
{
	device_finish_all(dev);
	if (!dev->ops->content_read)
		found(data, true, "this renderer cannot read contents");
	else
		state_problems(dev, true, found, data);
}
