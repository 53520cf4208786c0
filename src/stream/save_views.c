/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sampler views that share a texture. The library sets levels and swizzle of a view on the texture
 * itself, when the view is bound where it was not; of several bound views of one texture the one
 * bound last counts for all. So where the order of saving would let another one be the last, the
 * right one is unbound and bound again at the end.
 */
#include "stream/save_internal.h"

#include <errno.h>
#include <string.h>

struct place {
	const struct stream_sub_context *sub;
	const struct stream_object *view;
	uint32_t stage, slot;
	uint32_t order; /* in which it is saved */
	bool again;
};

void save_put_views(struct save_out *out, const struct stream_stage *s, uint32_t stage,
	uint32_t start, bool without_first)
{
	uint32_t n = s->views_count - start;
	uint32_t *dw = save_put(out, VIRGL_SET_SAMPLER_VIEWS, 0, 2 + n);

	dw[0] = stage;
	dw[1] = start;
	for (uint32_t i = 0; i < n; i++)
		dw[2 + i] = i == 0 && without_first ? 0 : save_handle(s->view[start + i]);
}

static uint32_t collect(struct stream_sub_context *const *subs, uint32_t n_subs, struct place *ret)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < n_subs; i++) {
		for (uint32_t stage = 0; stage < VIRGL_STAGES; stage++) {
			const struct stream_stage *s = &subs[i]->stages[stage];
			for (uint32_t slot = 0; slot < s->views_count; slot++) {
				if (!s->view[slot])
					continue;
				if (ret)
					ret[n] = (struct place){
						subs[i], s->view[slot], stage, slot, n, false};
				n++;
			}
		}
	}
	return n;
}

static int by_order(const void *a, const void *b)
{
	const struct place *x = a, *y = b;
	return (x->order > y->order) - (x->order < y->order);
}

static int by_resource(const void *a, const void *b)
{
	const struct place *x = a, *y = b;
	uint32_t p = x->view->res->id, q = y->view->res->id;
	return p == q ? by_order(a, b) : (p > q) - (p < q);
}

/* All but the header and the handle. */
static bool same_view(const struct stream_object *a, const struct stream_object *b)
{
	return a->n == b->n &&
	       memcmp(a->dwords + 2, b->dwords + 2, (a->n - 2) * sizeof(uint32_t)) == 0;
}

/* Of one resource: marks the place of the view bound last, unless the last one saved is as good. */
static void choose(struct place *places, uint32_t n)
{
	struct place *last = &places[0];

	for (uint32_t i = 1; i < n; i++) {
		if (places[i].view->made > last->view->made)
			last = &places[i];
	}
	last->again = !same_view(last->view, places[n - 1].view);
}

static void choose_all(struct place *places, uint32_t n)
{
	for (uint32_t from = 0, to; from < n; from = to) {
		for (to = from + 1; to < n && places[to].view->res == places[from].view->res;)
			to++;
		choose(&places[from], to - from);
	}
}

int save_views_again(struct save_out *out, struct stream_sub_context *const *subs, uint32_t n_subs)
{
	uint32_t n = collect(subs, n_subs, NULL);
	cleanup_free struct place *places = calloc((size_t)n + 1, sizeof(*places));

	if (!places)
		return -ENOMEM;
	collect(subs, n_subs, places);
	qsort(places, n, sizeof(*places), by_resource);
	choose_all(places, n);
	qsort(places, n, sizeof(*places), by_order);
	for (uint32_t i = 0; i < n; i++) {
		const struct place *p = &places[i];
		if (!p->again)
			continue;
		save_select(out, p->sub);
		save_put_views(out, &p->sub->stages[p->stage], p->stage, p->slot, true);
		save_put_views(out, &p->sub->stages[p->stage], p->stage, p->slot, false);
	}
	return 0;
}
