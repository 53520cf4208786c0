/* SPDX-License-Identifier: Apache-2.0 */
#include "control/slice_types.h"

#include "base/checked.h"
#include "control/direct_private.h"
#include "control/gpus.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct answer {
	char gpu[TYPES_NAME_MAX]; /* "" : unused */
	struct type *types;       /* malloc'd */
	size_t n;
	bool asked;   /* a process is at it */
	bool again;   /* and what it says is old already */
	bool waiting; /* for its turn: AT_ONCE are asked */
	bool silent;  /* it did not answer, which was said */
};

#define AT_ONCE 4u

struct slice_types_cache {
	struct answer answers[VGPUD_MAX_GPUS];
};

struct slice_types_cache *slice_types_new(void)
{
	return calloc(1, sizeof(struct slice_types_cache));
}

void slice_types_free(struct slice_types_cache *cache)
{
	for (size_t i = 0; cache && i < VGPUD_MAX_GPUS; i++)
		free(cache->answers[i].types);
	free(cache);
}

/* --- what is taken, and plans --- */

/* VFs that vGPUs of that GPU have, but for one of them. */
static struct plan_taken find_taken(const struct vgpud *d, const char *gpu, const struct vgpu *but,
	char (*list)[PCI_ADDRESS_MAX], size_t max)
{
	struct plan_taken ret = {.list = (const char(*)[PCI_ADDRESS_MAX])list};

	for (const struct vgpu *v = d->vgpus; v; v = v->next) {
		if (v == but || !v->direct || strcmp(v->def.gpu, gpu) != 0)
			continue;
		const char *device = v->direct->stored.plan.device;
		if (pci_address_valid(device) && ret.count < max)
			snprintf(list[ret.count++], PCI_ADDRESS_MAX, "%.15s", device);
	}
	return ret;
}

/*
 * What vGPUs share was made by the first of them: only its plan knows what was there before, and
 * whoever is the last undoes it to that.
 */
static void inherit(const struct vgpu *v, struct change *change)
{
	for (const struct vgpu *other = v->d->vgpus; other; other = other->next) {
		if (other == v || !other->direct)
			continue;
		const struct change_plan *plan = &other->direct->stored.plan;
		for (uint32_t i = 0; i < plan->count; i++) {
			const struct change *c = &plan->list[i];
			if (c->kind == change->kind && !strcmp(c->subject, change->subject) &&
				!strcmp(c->after, change->after))
				memcpy(change->before, c->before, sizeof(change->before));
		}
	}
}

int slice_plan(const struct vgpu *v, const struct host_facts *facts, struct change_plan *ret,
	struct error *err)
{
	const struct direct *x = v->direct;
	char list[SRIOV_VFS_MAX][PCI_ADDRESS_MAX];
	struct plan_taken taken = find_taken(v->d, v->def.gpu, v, list, SRIOV_VFS_MAX);

	int r = plan_mediate(
		facts, x->stored.slice, v->def.uuid, &x->owner, &taken, x->what, ret, err);
	for (uint32_t i = 0; i < ret->count; i++) {
		if (ret->list[i].shared)
			inherit(v, &ret->list[i]);
	}
	return r;
}

/* --- in the process that asks --- */

struct question {
	struct vgpud *d;
	char gpu[TYPES_NAME_MAX];
};

static json_t *ask(const void *data)
{
	const struct question *q = data;
	const struct gpu *gpu = vgpud_find_gpu(q->d, q->gpu);
	struct host_facts *facts = calloc(1, sizeof(*facts));
	struct slice_types *found = calloc(1, sizeof(*found));
	char list[SRIOV_VFS_MAX][PCI_ADDRESS_MAX];
	json_t *json = json_array();

	if (!gpu || !facts || !found)
		return NULL;
	struct plan_taken taken = find_taken(q->d, q->gpu, NULL, list, SRIOV_VFS_MAX);
	gpus_facts(q->d, gpu, NULL, facts);
	if (!facts->is_pci || !iommu_driver_is_vfio(facts->pci.driver))
		plan_slice_types(facts, &taken, found);
	for (size_t i = 0; i < found->count; i++) {
		const struct slice_type *t = &found->list[i];
		json_array_append_new(
			json, json_pack("{s:s, s:s, s:I, s:I, s:I}", "name", t->name, "id", t->id,
				      "vram_mib", (json_int_t)MIN(t->vram_mib, (uint64_t)INT64_MAX),
				      "max_instances", (json_int_t)t->max_instances, "available",
				      (json_int_t)t->available));
	}
	free(facts);
	free(found);
	return json;
}

/* --- in vgpud --- */

static bool name_fits(const char *name)
{
	for (const char *p = name; *p; p++) {
		if ((unsigned char)*p > '~' || (!isalnum((unsigned char)*p) && !strchr("-.", *p)))
			return false;
	}
	return *name != '\0';
}

/* 1; 0: its name is too long to be one, and it is left out; -EBADMSG. */
static int type_parse(json_t *json, const char *gpu, struct type *ret)
{
	json_int_t vram_mib, most, available;
	const char *name, *id;

	if (json_unpack(json, "{s:s, s:s, s:I, s:I, s:I}", "name", &name, "id", &id, "vram_mib",
		    &vram_mib, "max_instances", &most, "available", &available) < 0 ||
		!name_fits(name) || !*id || vram_mib < 0 || most < 0 || most > UINT32_MAX ||
		available < 0 || available > UINT32_MAX)
		return -EBADMSG;
	*ret = (struct type){.kind = TYPE_SLICE,
		.vram_mib = MIN((uint64_t)vram_mib, UINT64_MAX >> 24),
		.max_instances = (uint32_t)most,
		.available = (uint32_t)available,
		.weight = SCHED_WEIGHT_DEFAULT};
	int n = snprintf(ret->name, sizeof(ret->name), "%s-%s", gpu, name);
	int k = snprintf(ret->slice, sizeof(ret->slice), "%s", id);
	snprintf(ret->gpu, sizeof(ret->gpu), "%s", gpu);
	return n < (int)sizeof(ret->name) && k < (int)sizeof(ret->slice);
}

bool slice_types_parse(
	json_t *list, const char *gpu, struct type *ret, size_t max, size_t *ret_count)
{
	*ret_count = 0;
	if (!json_is_array(list) || json_array_size(list) > max)
		return false;
	for (size_t i = 0; i < json_array_size(list); i++) {
		int r = type_parse(json_array_get(list, i), gpu, &ret[*ret_count]);
		if (r < 0)
			return false;
		*ret_count += r > 0;
	}
	return true;
}

static struct answer *find_answer(struct slice_types_cache *cache, const char *gpu)
{
	for (size_t i = 0; cache && i < VGPUD_MAX_GPUS; i++) {
		if (!strcmp(cache->answers[i].gpu, gpu))
			return &cache->answers[i];
	}
	return NULL;
}

/* Of a GPU that is asked for the first time: a place that no GPU of this node has. */
static struct answer *new_answer(struct vgpud *d, const char *gpu)
{
	for (size_t i = 0; d->slices && i < VGPUD_MAX_GPUS; i++) {
		struct answer *a = &d->slices->answers[i];
		if (a->asked || a->waiting || (a->gpu[0] && vgpud_find_gpu(d, a->gpu)))
			continue;
		free(a->types);
		*a = (struct answer){0};
		snprintf(a->gpu, sizeof(a->gpu), "%s", gpu);
		return a;
	}
	return NULL;
}

/* It says nothing: what it said before is of no use, because nothing can be made there now. */
static void is_silent(struct vgpud *d, struct answer *a)
{
	a->n = 0;
	if (!a->silent)
		events_add(&d->events, "",
			"%s: its driver does not say what slices it offers (see dmesg)", a->gpu);
	a->silent = true;
}

static void ask_next(struct vgpud *d);

static void on_answer(void *data, json_t *json)
{
	struct question *q = data;
	struct vgpud *d = q->d;
	struct answer *a = find_answer(d->slices, q->gpu);
	struct type *types = calloc(PLAN_TYPES_MAX, sizeof(*types));
	bool again = a && a->again;

	if (a)
		a->asked = a->again = false;
	if (a && types && slice_types_parse(json, q->gpu, types, PLAN_TYPES_MAX, &a->n)) {
		free(a->types);
		a->types = types;
		types = NULL;
		a->silent = false;
	} else if (a) {
		is_silent(d, a);
	}
	free(types);
	json_decref(json);
	gpus_types_changed(d);
	if (again)
		slice_types_refresh(d, q->gpu);
	ask_next(d);
	free(q);
}

static void start_asking(struct vgpud *d, struct answer *a)
{
	struct question *q = calloc(1, sizeof(*q));
	int r = -ENOMEM;

	a->waiting = false;
	if (q) {
		q->d = d;
		memcpy(q->gpu, a->gpu, sizeof(q->gpu));
		r = child_start(&d->children, d->event, ask, q, SLICE_TYPES_MS, on_answer, q);
	}
	a->asked = r == 0;
	if (r < 0) {
		log_warning("%s: what slices it offers is not known: %s", a->gpu, strerror(-r));
		free(q);
	}
}

static void ask_next(struct vgpud *d)
{
	unsigned asked = 0;

	for (size_t i = 0; i < VGPUD_MAX_GPUS; i++)
		asked += d->slices->answers[i].asked;
	for (size_t i = 0; asked < AT_ONCE && i < VGPUD_MAX_GPUS; i++) {
		struct answer *a = &d->slices->answers[i];
		if (!a->waiting)
			continue;
		start_asking(d, a);
		asked += a->asked;
	}
}

static void refresh_one(struct vgpud *d, const struct gpu *gpu)
{
	struct answer *a = find_answer(d->slices, gpu->name);

	if (!a)
		a = new_answer(d, gpu->name);
	if (!a)
		return;
	a->again = a->asked;
	a->waiting = !a->asked;
}

void slice_types_refresh(struct vgpud *d, const char *gpu)
{
	for (size_t i = 0; i < d->n_gpus; i++) {
		const struct gpu *g = &d->gpus[i];
		bool could = !strcmp(g->kind, "pci") || !strcmp(g->kind, "mdev");
		if (could && !g->gone && (!gpu || !strcmp(g->name, gpu)))
			refresh_one(d, g);
	}
	if (d->slices)
		ask_next(d);
}

size_t slice_types_get(const struct vgpud *d, const char *gpu, struct type *ret, size_t max)
{
	const struct answer *a = find_answer(d->slices, gpu);
	size_t n = a ? MIN(a->n, max) : 0;

	if (n)
		memcpy(ret, a->types, n * sizeof(*ret));
	return n;
}

bool slice_types_pending(const struct vgpud *d, const char *gpu)
{
	const struct answer *a = find_answer(d->slices, gpu);

	return a && (a->asked || a->waiting);
}
