/* SPDX-License-Identifier: Apache-2.0 */
#include "device/load_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- the context itself ---- */

static int load_attached(struct context *ctx, uint32_t handle, uint32_t id)
{
	struct device *dev = ctx->client->device;
	struct resource *res = idmap_get(&ctx->client->resources, handle);

	if (!handle || !res || res->stream.id != id)
		return -ENOENT;
	int err = idmap_add(&ctx->attached, handle, res);
	if (!err)
		dev->ops->context_attach(dev->renderer, ctx->id, id);
	return err;
}

static int load_new_context(struct device_loader *l, struct context *ctx)
{
	void *grown = realloc(l->contexts, (l->n_contexts + 1u) * sizeof(*l->contexts));

	if (!grown)
		return -ENOMEM;
	l->contexts = grown;
	l->contexts[l->n_contexts++] = (struct loading_context){.ctx = ctx};
	idmap_init(&l->contexts[l->n_contexts - 1].borrowed, l->dev->resource_ids.seed);
	return 0;
}

int load_context(struct device_loader *l, struct state_reader *r)
{
	char name[DEVICE_NAME_MAX];
	struct context *ctx;
	uint32_t client_id = state_get_u32(r), handle = state_get_u32(r), id = state_get_u32(r),
		 flags = state_get_u32(r);

	state_get_text(r, name, sizeof(name));
	uint32_t n = state_get_u32(r);
	struct device_client *client = load_find_client(l, client_id);
	if (state_bad(r))
		return -EBADMSG;
	if (!client || !id)
		return load_refuse(l, -EBADMSG, "CONTEXT: number %u of client %u", id, client_id);
	int err = context_make(client, handle, id, name, strlen(name), &ctx);
	if (!err)
		err = load_new_context(l, ctx);
	if (!err && flags & STATE_CONTEXT_LOST)
		ctx->lost = true;
	while (!err && n-- && !state_bad(r)) {
		uint32_t res_handle = state_get_u32(r), res_id = state_get_u32(r);
		err = load_attached(ctx, res_handle, res_id);
	}
	return err;
}

/* ---- streams ---- */

/* The live context that a section is about, which has no such section yet. */
static struct loading_context *load_which(
	struct device_loader *l, struct state_reader *r, enum state_section_type type)
{
	uint32_t id = state_get_u32(r);

	for (uint32_t i = 0; i < l->n_contexts; i++) {
		struct loading_context *lc = &l->contexts[i];
		if (lc->ctx->id != id || lc->ctx->lost || lc->seen & 1u << type)
			continue;
		lc->seen |= 1u << type;
		return lc;
	}
	load_refuse(l, -EBADMSG, "%s: of context %u", state_section_name(type), id);
	return NULL;
}

static int load_stream(
	struct device_loader *l, struct state_reader *r, enum state_section_type type)
{
	struct loading_context *lc = load_which(l, r, type);
	size_t bytes = state_left(r);

	if (!lc)
		return l->error;
	const void *saved = state_take(r, bytes);
	uint32_t *dwords = malloc(MAX(bytes, 1u));
	if (!dwords)
		return -ENOMEM;
	if (bytes % sizeof(*dwords) || !saved) {
		free(dwords);
		return -EBADMSG;
	}
	memcpy(dwords, saved, bytes);
	lc->ctx->borrowed = &lc->borrowed;
	int err = context_run(lc->ctx, dwords, bytes / sizeof(*dwords));
	free(dwords);
	return err < 0 ? load_refuse(l, -EIO,
				 "%s: this host refuses what context \"%s\" is made of",
				 state_section_name(type), lc->ctx->name)
		       : 0;
}

int load_objects(struct device_loader *l, struct state_reader *r)
{
	return load_stream(l, r, STATE_OBJECTS);
}

int load_bindings(struct device_loader *l, struct state_reader *r)
{
	return load_stream(l, r, STATE_BINDINGS);
}

/* ---- queries ---- */

static int by_query(const void *a, const void *b)
{
	const struct saved_query *x = a, *y = b;
	if (x->sub_context != y->sub_context)
		return x->sub_context < y->sub_context ? -1 : 1;
	return x->handle < y->handle ? -1 : x->handle > y->handle;
}

struct query_loader {
	struct device *dev;
	struct loading_context *lc;
	enum renderer_query_state state; /* those to load now */
	uint32_t n;
	int error;
};

static void load_query(
	void *data, uint32_t sub_ctx, uint32_t handle, uint32_t type, bool active, uint32_t host_id)
{
	struct query_loader *q = data;
	const struct saved_query key = {.sub_context = sub_ctx, .handle = handle};
	const struct saved_query *saved = NULL;
	int err = 0;

	q->n++;
	if (q->lc->n_queries)
		saved = bsearch(&key, q->lc->queries, q->lc->n_queries, sizeof(key), by_query);
	if (!saved || saved->type != type)
		err = -ENOENT;
	else if (saved->query.state != q->state || !q->dev->ops->query_load)
		return;
	else if (q->state == RENDERER_QUERY_ACTIVE && !active)
		err = -EINVAL;
	else
		err = q->dev->ops->query_load(q->dev->renderer, host_id, &saved->query);
	if (err < 0 && !q->error)
		q->error = err;
}

static int load_queries_in_state(
	struct device_loader *l, struct loading_context *lc, enum renderer_query_state state)
{
	struct query_loader q = {.dev = l->dev, .lc = lc, .state = state};
	int err = stream_each_query(lc->ctx->stream, load_query, &q);

	if (!err)
		err = q.error;
	if (!err && q.n != lc->n_queries)
		err = -ENOENT;
	return err < 0 ? load_refuse(l, -EBADMSG, "QUERIES: those of context \"%s\" do not fit: %s",
				 lc->ctx->name, strerror(-err))
		       : 0;
}

int load_queries(struct device_loader *l, struct state_reader *r)
{
	struct loading_context *lc = load_which(l, r, STATE_QUERIES);
	uint32_t n = state_get_u32(r);

	if (!lc)
		return l->error;
	if (n > state_left(r) / (4 * sizeof(uint32_t) + sizeof(uint64_t)))
		return -EBADMSG;
	lc->queries = calloc(MAX(n, 1u), sizeof(*lc->queries));
	if (!lc->queries)
		return -ENOMEM;
	lc->n_queries = n;
	for (uint32_t i = 0; i < n; i++) {
		struct saved_query *q = &lc->queries[i];
		q->sub_context = state_get_u32(r);
		q->handle = state_get_u32(r);
		q->type = state_get_u32(r);
		uint32_t state = state_get_u32(r);
		q->query.value = state_get_u64(r);
		if (state > RENDERER_QUERY_ENDED)
			return load_refuse(l, -EBADMSG, "QUERIES: state %u", state);
		q->query.state = (enum renderer_query_state)state;
	}
	qsort(lc->queries, n, sizeof(*lc->queries), by_query);
	return load_queries_in_state(l, lc, RENDERER_QUERY_ENDED);
}

/* ---- transform feedback ---- */

struct streamout_loader {
	struct device *dev;
	struct context *ctx;
	struct state_reader *r;
	uint32_t left;
};

static int load_streamout_list(void *data, uint32_t index)
{
	struct streamout_loader *s = data;
	struct renderer_streamout saved = {0};

	if (!s->left-- || state_get_u32(s->r) != index)
		return -EBADMSG;
	saved.begun = state_get_u32(s->r);
	for (size_t k = 0; k < RENDERER_STREAMOUT_BUFFERS; k++)
		saved.bytes[k] = state_get_u64(s->r);
	for (size_t k = 0; k < RENDERER_STREAMOUT_BUFFERS; k++)
		saved.vertices[k] = state_get_u64(s->r);
	if (state_bad(s->r))
		return -EBADMSG;
	return s->dev->ops->streamout_load
		       ? s->dev->ops->streamout_load(s->dev->renderer, s->ctx->id, &saved)
		       : 0;
}

int load_streamout(struct device_loader *l, struct state_reader *r)
{
	struct loading_context *lc = load_which(l, r, STATE_STREAMOUT);
	struct streamout_loader s = {.dev = l->dev, .r = r, .left = state_get_u32(r)};

	if (!lc)
		return l->error;
	s.ctx = lc->ctx;
	int err = stream_walk_streamout(
		lc->ctx->stream, context_emit, lc->ctx, load_streamout_list, &s);
	return !err && s.left ? -EBADMSG : err;
}

/* ---- the end ---- */

/* Attached only as long as objects were made of them. */
static void load_give_back(struct loading_context *lc)
{
	const struct device *dev = lc->ctx->client->device;
	const struct resource *res;
	uint32_t cursor = 0;

	lc->ctx->borrowed = NULL;
	while ((res = idmap_next(&lc->borrowed, &cursor, NULL))) {
		if (!res->handle || !idmap_get(&lc->ctx->attached, res->handle))
			dev->ops->context_detach(dev->renderer, lc->ctx->id, res->stream.id);
	}
}

int load_finish_contexts(struct device_loader *l)
{
	static const enum state_section_type needed[] = {
		STATE_OBJECTS, STATE_QUERIES, STATE_BINDINGS, STATE_STREAMOUT};

	for (uint32_t i = 0; i < l->n_contexts; i++) {
		struct loading_context *lc = &l->contexts[i];
		for (size_t k = 0; k < ARRAY_SIZE(needed) && !lc->ctx->lost; k++) {
			if (!(lc->seen & 1u << needed[k]))
				return load_refuse(l, -EBADMSG, "%s of context \"%s\" is missing",
					state_section_name(needed[k]), lc->ctx->name);
		}
		if (lc->ctx->lost)
			continue;
		int err = load_queries_in_state(l, lc, RENDERER_QUERY_ACTIVE);
		if (err < 0)
			return err;
		load_give_back(lc);
	}
	return 0;
}
