/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Writes everything that the device knows, in the order in which loading needs it. Nothing is
 * changed by that but the time: the driver completes what it has first.
 */
#include "device/state.h"

#include "protocol/formats.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct saver {
	struct device *dev;
	struct state_writer *w;
	bool precopied;
	bool lossy;
	int error;
	struct resource **resources;
	struct context **contexts;
	size_t n_resources, n_contexts;
};

/* ---- lists in an order that depends on nothing but what is in them ---- */

static int by_serial(const void *a, const void *b)
{
	const struct resource *x = *(struct resource *const *)a, *y = *(struct resource *const *)b;
	return x->serial < y->serial ? -1 : x->serial > y->serial;
}

static int by_context_id(const void *a, const void *b)
{
	const struct context *x = *(struct context *const *)a, *y = *(struct context *const *)b;
	return x->id < y->id ? -1 : x->id > y->id;
}

static int by_handle(const void *a, const void *b)
{
	const struct resource *x = *(struct resource *const *)a, *y = *(struct resource *const *)b;
	return x->handle < y->handle ? -1 : x->handle > y->handle;
}

static int by_client_id(const void *a, const void *b)
{
	const struct device_client *x = *(struct device_client *const *)a,
				   *y = *(struct device_client *const *)b;
	return x->id < y->id ? -1 : x->id > y->id;
}

/* Never NULL for an empty map. */
static void **values_of(const struct idmap *map, int (*order)(const void *, const void *))
{
	void **values = calloc(map->count + 1u, sizeof(*values)), *value;
	uint32_t cursor = 0, n = 0;

	if (!values)
		return NULL;
	while ((value = idmap_next(map, &cursor, NULL)))
		values[n++] = value;
	qsort(values, n, sizeof(*values), order);
	return values;
}

int state_resources(struct device *dev, struct resource ***ret, size_t *ret_n)
{
	*ret = (struct resource **)values_of(&dev->resource_ids, by_serial);
	*ret_n = dev->resource_ids.count;
	return *ret ? 0 : -ENOMEM;
}

int state_contexts(struct device *dev, struct context ***ret, size_t *ret_n)
{
	*ret = (struct context **)values_of(&dev->context_ids, by_context_id);
	*ret_n = dev->context_ids.count;
	return *ret ? 0 : -ENOMEM;
}

/* ---- sections ---- */

static int save_capset(struct device *dev, struct state_writer *w, unsigned index)
{
	struct renderer_capset capset;

	if (device_capset_info(dev, index, &capset) < 0)
		return 0;
	uint8_t *bytes = calloc(1, capset.max_size);
	if (!bytes)
		return -ENOMEM;
	int err = device_capset_get(dev, capset.id, capset.max_version, bytes, capset.max_size);
	if (!err) {
		state_put_u32(w, capset.id);
		state_put_u32(w, capset.max_version);
		state_put_u32(w, capset.max_size);
		state_put(w, bytes, capset.max_size);
	}
	free(bytes);
	return err;
}

static void save_source(struct saver *s)
{
	struct renderer_capset capset;
	unsigned n = 0;

	while (n < DEVICE_MAX_CAPSETS && device_capset_info(s->dev, n, &capset) == 0)
		n++;
	state_begin(s->w, STATE_SOURCE);
	state_put_text(s->w, device_renderer_description(s->dev));
	state_put_text(s->w, VGPU_VERSION);
	state_put_u32(s->w, n);
	for (unsigned i = 0; i < n && !s->error; i++)
		s->error = save_capset(s->dev, s->w, i);
	state_end(s->w);
}

/* The next process need not try what this one has tried. */
static void save_formats(struct saver *s)
{
	uint8_t bytes[FORMATS_FILE_MAX];
	int size = device_fidelity_save(s->dev, bytes, sizeof(bytes));

	if (size <= 0)
		return;
	state_begin(s->w, STATE_FORMATS);
	state_put(s->w, bytes, (size_t)size);
	state_end(s->w);
}

static void save_head(struct state_writer *w, const struct screen *screen)
{
	const uint32_t image = DISPLAY_CURSOR_SIZE * DISPLAY_CURSOR_SIZE * sizeof(uint32_t);
	const struct display_cursor *cursor = &screen->cursor;
	const uint32_t numbers[] = {
		screen->resource ? screen->resource->stream.id : 0,
		screen->rect.x,
		screen->rect.y,
		screen->rect.w,
		screen->rect.h,
		screen->preferred.enabled,
		screen->preferred.width,
		screen->preferred.height,
		cursor->x,
		cursor->y,
		cursor->hot_x,
		cursor->hot_y,
		cursor->visible,
		screen->cursor_image != NULL,
	};
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		state_put_u32(w, numbers[i]);
	if (screen->cursor_image)
		state_put(w, screen->cursor_image, image);
}

static void save_device(struct saver *s)
{
	const struct device *dev = s->dev;
	uint64_t cost = 0;

	for (size_t i = 0; i < s->n_resources; i++)
		cost += resource_saved_cost(&s->resources[i]->desc);
	state_begin(s->w, STATE_DEVICE);
	state_put_u64(s->w, dev->config.vram_bytes);
	state_put_u32(s->w, dev->config.heads);
	state_put_u32(s->w, dev->config.max_width);
	state_put_u32(s->w, dev->config.max_height);
	state_put_u32(s->w, dev->next_resource_id);
	state_put_u32(s->w, dev->next_context_id);
	state_put_u32(s->w, dev->next_client_id);
	state_put_u64(s->w, dev->next_serial);
	state_put_u64(s->w, cost);
	for (uint32_t head = 0; head < dev->config.heads; head++)
		save_head(s->w, &dev->screens[head]);
	state_end(s->w);
}

static void save_clients(struct saver *s)
{
	size_t n = 0;

	for (const struct device_client *c = s->dev->clients; c; c = c->next)
		n++;
	const struct device_client **clients = calloc(n + 1, sizeof(*clients));
	if (!clients) {
		s->error = -ENOMEM;
		return;
	}
	n = 0;
	for (const struct device_client *c = s->dev->clients; c; c = c->next)
		clients[n++] = c;
	qsort(clients, n, sizeof(*clients), by_client_id);
	for (size_t i = 0; i < n; i++) {
		state_begin(s->w, STATE_CLIENT);
		state_put_u32(s->w, clients[i]->id);
		state_put_text(s->w, clients[i]->name);
		state_end(s->w);
	}
	free(clients);
}

void state_put_resource(struct state_writer *w, const struct resource *res)
{
	const struct renderer_resource_desc *d = &res->desc;
	const uint32_t numbers[] = {d->target, d->format, d->bind, d->width, d->height, d->depth,
		d->array_size, d->last_level, d->nr_samples, d->flags,
		(res->has_uuid ? STATE_RESOURCE_UUID : 0) |
			(res->iov ? STATE_RESOURCE_BACKING : 0)};

	state_begin(w, STATE_RESOURCE);
	state_put_u32(w, res->client->id);
	state_put_u32(w, res->handle);
	state_put_u32(w, res->stream.id);
	state_put_u64(w, res->serial);
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		state_put_u32(w, numbers[i]);
	state_put(w, res->uuid, sizeof(res->uuid));
	state_end(w);
}

static void put_content_head(struct state_writer *w, const struct resource *res, uint32_t part,
	enum state_encoding encoding, uint64_t size)
{
	state_begin(w, STATE_CONTENT);
	state_put_u32(w, res->stream.id);
	state_put_u32(w, part);
	state_put_u32(w, encoding);
	state_put_u64(w, res->serial);
	state_put_u64(w, size);
}

static bool is_zero(const uint8_t *bytes, size_t n)
{
	return !n || (!bytes[0] && !memcmp(bytes, bytes + 1, n - 1));
}

void state_put_content(struct device *dev, struct state_writer *w, const struct resource *res,
	uint32_t part, bool *ret_lost)
{
	enum state_encoding encoding = STATE_RAW;
	struct format_content_part p;
	int err;

	if (!format_content_part(&res->desc, part, &p))
		return;
	if ((resource_is_guests(res) && res->iov) ||
		dev->ops->fidelity(dev->renderer, &res->desc) == RENDERER_UNREADABLE) {
		put_content_head(w, res, part, STATE_NOT_HERE, p.bytes);
		state_end(w);
		return;
	}
	put_content_head(w, res, part, STATE_RAW, p.bytes);
	uint8_t *bytes = state_reserve(w, p.bytes);
	if (!bytes)
		return;
	err = dev->ops->content_read(dev->renderer, res->stream.id, part, bytes, p.bytes);
	if (err < 0) {
		encoding = STATE_NOT_HERE;
		*ret_lost |= err != -ENODATA;
	} else if (is_zero(bytes, p.bytes)) {
		encoding = STATE_ZERO;
	}
	if (encoding == STATE_RAW) {
		state_end(w);
		return;
	}
	state_abandon(w);
	put_content_head(w, res, part, encoding, p.bytes);
	state_end(w);
}

void state_contents_done(struct device *dev)
{
	if (dev->ops->content_done)
		dev->ops->content_done(dev->renderer);
}

static void save_lossy(void *data, bool refused, const char *text)
{
	struct saver *s = data;

	s->lossy = true;
	state_begin(s->w, STATE_LOSSY);
	state_put_text(s->w, text);
	state_end(s->w);
}

static void save_contents(struct saver *s)
{
	char text[160];

	for (size_t i = 0; i < s->n_resources; i++) {
		const struct resource *res = s->resources[i];
		uint32_t parts = format_content_parts(&res->desc);
		bool lost = false;

		if (s->precopied && state_is_copied(res))
			continue;
		for (uint32_t part = 0; part < parts; part++) {
			device_busy(s->dev); /* since this part: a long save is no hang */
			state_put_content(s->dev, s->w, res, part, &lost);
		}
		if (!lost)
			continue;
		snprintf(text, sizeof(text), "%s: resource %u could not be read", res->client->name,
			res->handle);
		save_lossy(s, false, text);
	}
}

static int save_context(struct saver *s, struct context *ctx)
{
	struct resource **attached = (struct resource **)values_of(&ctx->attached, by_handle);

	if (!attached)
		return -ENOMEM;
	state_begin(s->w, STATE_CONTEXT);
	state_put_u32(s->w, ctx->client->id);
	state_put_u32(s->w, ctx->handle);
	state_put_u32(s->w, ctx->id);
	state_put_u32(s->w, ctx->lost ? STATE_CONTEXT_LOST : 0);
	state_put_text(s->w, ctx->name);
	state_put_u32(s->w, ctx->attached.count);
	for (uint32_t i = 0; i < ctx->attached.count; i++) {
		state_put_u32(s->w, attached[i]->handle);
		state_put_u32(s->w, attached[i]->stream.id);
	}
	state_end(s->w);
	free(attached);
	return 0;
}

/* ---- streams ---- */

static int save_dwords(void *data, uint32_t *dwords, size_t n)
{
	struct saver *s = data;
	state_put(s->w, dwords, n * sizeof(*dwords));
	return state_error(s->w);
}

static void save_stream(struct saver *s, struct context *ctx, enum state_section_type type)
{
	state_begin(s->w, type);
	state_put_u32(s->w, ctx->id);
	int err = type == STATE_OBJECTS ? stream_save_objects(ctx->stream, save_dwords, s)
					: stream_save_bindings(ctx->stream, save_dwords, s);
	state_end(s->w);
	if (err < 0)
		s->error = err;
}

static void save_objects(struct saver *s, struct context *ctx)
{
	save_stream(s, ctx, STATE_OBJECTS);
}

static void save_bindings(struct saver *s, struct context *ctx)
{
	save_stream(s, ctx, STATE_BINDINGS);
}

struct query_saver {
	struct saver *s;
	uint32_t n;
	bool counting;
};

static void save_query(
	void *data, uint32_t sub_ctx, uint32_t handle, uint32_t type, bool active, uint32_t host_id)
{
	struct query_saver *q = data;
	struct renderer_query saved = {.state = RENDERER_QUERY_UNUSED};
	const struct device *dev = q->s->dev;
	int err = 0;

	q->n++;
	if (q->counting)
		return;
	if (dev->ops->query_save && host_id)
		err = dev->ops->query_save(dev->renderer, host_id, &saved);
	state_put_u32(q->s->w, sub_ctx);
	state_put_u32(q->s->w, handle);
	state_put_u32(q->s->w, type);
	state_put_u32(q->s->w, saved.state);
	state_put_u64(q->s->w, saved.value);
	if (err < 0)
		q->s->error = err;
}

static void save_queries(struct saver *s, struct context *ctx)
{
	struct query_saver count = {.s = s, .counting = true}, save = {.s = s};
	int err = stream_each_query(ctx->stream, save_query, &count);

	state_begin(s->w, STATE_QUERIES);
	state_put_u32(s->w, ctx->id);
	state_put_u32(s->w, count.n);
	if (!err)
		err = stream_each_query(ctx->stream, save_query, &save);
	state_end(s->w);
	if (err < 0)
		s->error = err;
}

struct streamout_saver {
	struct saver *s;
	struct context *ctx;
	uint32_t n;
	struct {
		uint32_t index;
		struct renderer_streamout saved;
	} * list;
};

static int save_streamout(void *data, uint32_t index)
{
	struct streamout_saver *out = data;
	const struct device *dev = out->s->dev;
	void *grown = realloc(out->list, (out->n + 1u) * sizeof(*out->list));

	if (!grown)
		return -ENOMEM;
	out->list = grown;
	out->list[out->n].index = index;
	out->list[out->n].saved = (struct renderer_streamout){0};
	return dev->ops->streamout_save ? dev->ops->streamout_save(dev->renderer, out->ctx->id,
						  &out->list[out->n++].saved)
					: 0;
}

static void save_streamouts(struct saver *s, struct context *ctx)
{
	struct streamout_saver out = {.s = s, .ctx = ctx};
	int err = stream_walk_streamout(ctx->stream, context_emit, ctx, save_streamout, &out);

	state_begin(s->w, STATE_STREAMOUT);
	state_put_u32(s->w, ctx->id);
	state_put_u32(s->w, out.n);
	for (uint32_t i = 0; i < out.n; i++) {
		const struct renderer_streamout *saved = &out.list[i].saved;
		state_put_u32(s->w, out.list[i].index);
		state_put_u32(s->w, saved->begun);
		for (size_t k = 0; k < RENDERER_STREAMOUT_BUFFERS; k++)
			state_put_u64(s->w, saved->bytes[k]);
		for (size_t k = 0; k < RENDERER_STREAMOUT_BUFFERS; k++)
			state_put_u64(s->w, saved->vertices[k]);
	}
	state_end(s->w);
	free(out.list);
	if (err < 0)
		s->error = err;
}

static void save_contexts(struct saver *s)
{
	static void (*const steps[])(struct saver * s, struct context * ctx) = {
		save_objects, save_queries, save_bindings, save_streamouts};

	for (size_t i = 0; i < s->n_contexts && !s->error; i++)
		s->error = save_context(s, s->contexts[i]);
	for (size_t step = 0; step < ARRAY_SIZE(steps); step++) {
		for (size_t i = 0; i < s->n_contexts && !s->error; i++) {
			if (!s->contexts[i]->lost)
				steps[step](s, s->contexts[i]);
		}
	}
}

/* What a lost context leaves behind is nobody's. */
static void save_forget_lost(struct device *dev)
{
	uint32_t cursor = 0;
	struct context *ctx;

	while ((ctx = idmap_next(&dev->context_ids, &cursor, NULL))) {
		if (!ctx->lost)
			continue;
		stream_destroy(ctx->stream);
		ctx->stream = NULL;
	}
	resources_bury(dev);
}

static void save_is_refused(void *data, bool refused, const char *text)
{
	*(bool *)data |= refused;
}

static bool state_is_refused(struct device *dev)
{
	bool refused = false;
	state_problems(dev, false, save_is_refused, &refused);
	return refused;
}

int device_save(struct device *dev, struct state_writer *w, bool precopied, bool *ret_lossy)
{
	struct saver s = {.dev = dev, .w = w, .precopied = precopied};

	if (!dev->ops->content_read || dev->replay.on)
		return -EBUSY;
	device_enter(dev);
	device_finish_all(dev);
	save_forget_lost(dev);
	if (state_is_refused(dev))
		return -EBUSY;
	device_busy(dev);
	s.error = state_resources(dev, &s.resources, &s.n_resources);
	if (!s.error)
		s.error = state_contexts(dev, &s.contexts, &s.n_contexts);
	if (!s.error) {
		save_source(&s);
		save_formats(&s);
		save_device(&s);
		save_clients(&s);
		for (size_t i = 0; i < s.n_resources; i++)
			state_put_resource(w, s.resources[i]);
		save_contents(&s);
		save_contexts(&s);
		state_problems(dev, false, save_lossy, &s);
	}
	free(s.resources);
	free(s.contexts);
	state_contents_done(dev);
	device_idle(dev);
	if (s.error)
		return s.error;
	*ret_lossy = s.lossy;
	return state_error(w);
}
