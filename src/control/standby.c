/* SPDX-License-Identifier: Apache-2.0 */
#include "control/standby.h"

#include "base/checked.h"
#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STANDBY_KINDS      8u
#define STANDBY_DELAY_MS   20u   /* the vGPU that was just made goes first */
#define STANDBY_FAILED_MS  5000u /* until the next attempt; doubles with each failure */
#define STANDBY_DOUBLINGS  7u
#define STANDBY_START_SLOT 1000u /* us: how late the timer may be */

struct kind {
	char gpu[TYPES_NAME_MAX]; /* the first one that wanted it, for people */
	enum method method;
	struct vgpu_device_args args;
	unsigned wanted, n;
	unsigned failures; /* in a row */
	uint64_t not_before_ms;
	uint64_t used, missing;
};

struct standby {
	struct standbys *pool;
	struct kind *kind;
	struct link *link;
	bool ready;
	struct standby *next;
};

struct standbys {
	struct vgpud *d;
	struct kind kinds[STANDBY_KINDS];
	unsigned n_kinds;
	struct standby *list; /* the oldest last */
	sd_event_source *timer;
};

/* --- kinds --- */

static bool option_is_late(const char *option)
{
	static const char *const late[] = {
#define X(name) "--" name,
		STANDBY_LATE_OPTIONS(X)
#undef X
	};

	for (size_t i = 0; i < ARRAY_SIZE(late); i++) {
		if (!strcmp(option, late[i]))
			return true;
	}
	return false;
}

/* Can a process that was started with `a` be told to be one with `b`? */
static bool args_fit(char *const *a, char *const *b)
{
	bool late = false;

	for (; *a && *b; a++, b++) {
		if (!late && strcmp(*a, *b) != 0)
			return false;
		late = !late && option_is_late(*a);
	}
	return !*a && !*b;
}

static void kind_args(
	struct vgpud *d, const struct gpu *gpu, enum method method, struct vgpu_device_args *ret)
{
	const struct vgpu nobody = {.d = d,
		.def = {.name = "standby",
			.method = method,
			.type = {
				.vram_mib = 64, .heads = 1, .max_width = 1024, .max_height = 768}}};

	*ret = (struct vgpu_device_args){0};
	vgpu_device_args(&nobody, gpu, ret);
}

static struct kind *kind_find(struct standbys *pool, char *const *args)
{
	for (unsigned i = 0; i < pool->n_kinds; i++) {
		if (args_fit(pool->kinds[i].args.args, args))
			return &pool->kinds[i];
	}
	return NULL;
}

/* For a new one: at the end, or that of one which nobody wants. NULL: there are too many. */
static struct kind *kind_place(struct standbys *pool)
{
	for (unsigned i = 0; i < pool->n_kinds; i++) {
		if (!pool->kinds[i].wanted && !pool->kinds[i].n)
			return &pool->kinds[i];
	}
	return pool->n_kinds < STANDBY_KINDS ? &pool->kinds[pool->n_kinds++] : NULL;
}

/* --- one --- */

static void standbys_refill_in(struct standbys *pool, uint64_t ms);

static struct link *standby_free(struct standby *s)
{
	struct link *link = s->link;

	for (struct standby **at = &s->pool->list; *at; at = &(*at)->next) {
		if (*at == s) {
			*at = s->next;
			break;
		}
	}
	s->kind->n--;
	free(s);
	return link;
}

static uint64_t kind_failed(struct standbys *pool, struct kind *kind, const char *why)
{
	uint64_t ms = (uint64_t)STANDBY_FAILED_MS << MIN(kind->failures, STANDBY_DOUBLINGS);

	if (!kind->failures++)
		events_add(&pool->d->events, "",
			"no stand-by for %s, method %s: %s (vGPUs start without, slower; tried "
			"again)",
			kind->gpu, method_names[kind->method], why);
	kind->not_before_ms = clock_ms() + ms;
	return ms;
}

static void standby_failed(struct standby *s, const char *why)
{
	struct standbys *pool = s->pool;
	uint64_t ms = kind_failed(pool, s->kind, why);

	link_destroy(standby_free(s));
	standbys_refill_in(pool, ms);
}

static void standby_on_status(void *data, const struct keeper_status *status)
{
	struct standby *s = data;

	if (status->version != KEEPER_PROTOCOL_VERSION) {
		standby_failed(s, "vgpu-keeper is of another version");
	} else if (status->state == KEEPER_STATE_FAILED) {
		standby_failed(s, status->failure);
	} else if (status->state == KEEPER_STATE_READY && !s->ready) {
		s->ready = true;
		s->kind->failures = 0;
		standbys_refill_in(s->pool, STANDBY_DELAY_MS);
	}
}

static void standby_on_event(void *data, const char *text)
{
	const struct standby *s = data;

	if (strncmp(text, "failed: ", 8) != 0) /* the status says that */
		log_info("stand-by for %s: %s", s->kind->gpu, text);
}

static void standby_on_lost(void *data)
{
	standby_failed(data, "it ended");
}

static const struct link_ops standby_link_ops = {
	.status = standby_on_status, .event = standby_on_event, .lost = standby_on_lost};

static int standby_start(struct standbys *pool, struct kind *kind)
{
	const struct link_spawn spawn = {.keeper = pool->d->keeper_path,
		.device = pool->d->device_path,
		.device_args = kind->args.args,
		.group = (gid_t)-1,
		.cpu_group = "",
		.shaders = ""};
	struct standby *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	*s = (struct standby){.pool = pool, .kind = kind};
	int r = link_start(pool->d->event, &spawn, &standby_link_ops, s, &s->link);
	if (r < 0) {
		free(s);
		return r;
	}
	kind->n++;
	s->next = pool->list;
	pool->list = s;
	return 0;
}

/* --- the pool --- */

static bool standbys_starting(const struct standbys *pool)
{
	for (const struct standby *s = pool->list; s; s = s->next) {
		if (!s->ready)
			return true;
	}
	return false;
}

/* Starts at most one. */
static int standbys_on_timer(sd_event_source *source, uint64_t usec, void *data)
{
	struct standbys *pool = data;
	uint64_t now = clock_ms(), next = UINT64_MAX, mib;

	if (standbys_starting(pool)) /* its READY, or its end, goes on */
		return 0;
	for (unsigned i = 0; i < pool->n_kinds; i++) {
		struct kind *kind = &pool->kinds[i];
		if (kind->n >= kind->wanted)
			continue;
		if (now < kind->not_before_ms) {
			next = MIN(next, kind->not_before_ms - now);
			continue;
		}
		int r = vgpud_has_memory(pool->d, &mib) ? standby_start(pool, kind) : -ENOMEM;
		if (r == 0)
			return 0;
		next = MIN(next, kind_failed(pool, kind, strerror(-r)));
	}
	if (next != UINT64_MAX)
		standbys_refill_in(pool, next);
	return 0;
}

static void standbys_refill_in(struct standbys *pool, uint64_t ms)
{
	pool->timer = sd_event_source_disable_unref(pool->timer);
	int r = sd_event_add_time(pool->d->event, &pool->timer, CLOCK_MONOTONIC,
		(clock_ms() + ms) * 1000, STANDBY_START_SLOT, standbys_on_timer, pool);
	if (r < 0)
		log_warning("no stand-by is started: %s", strerror(-r));
}

int standbys_create(struct vgpud *d, struct standbys **ret)
{
	struct standbys *pool = calloc(1, sizeof(*pool));

	if (!pool)
		return -ENOMEM;
	pool->d = d;
	*ret = pool;
	return 0;
}

void standbys_destroy(struct standbys *pool)
{
	if (!pool)
		return;
	sd_event_source_disable_unref(pool->timer);
	while (pool->list)
		link_destroy(standby_free(pool->list));
	free(pool);
}

void standbys_want(struct standbys *pool, const struct gpu *gpu, enum method method)
{
	struct vgpu_device_args args;

	if (!pool || !gpu->standby)
		return;
	kind_args(pool->d, gpu, method, &args);
	struct kind *kind = kind_find(pool, args.args);
	if (!kind) {
		kind = kind_place(pool);
		if (!kind)
			return;
		*kind = (struct kind){.method = method};
		snprintf(kind->gpu, sizeof(kind->gpu), "%s", gpu->name);
		kind_args(pool->d, gpu, method, &kind->args); /* it points into itself */
	}
	kind->wanted = MAX(kind->wanted, gpu->standby);
	if (kind->n < kind->wanted)
		standbys_refill_in(pool, STANDBY_DELAY_MS);
}

void standbys_unwant(struct standbys *pool, const struct gpu *gpu)
{
	if (!pool || gpu_is_soft(gpu))
		return;
	for (struct standby *s = pool->list, *next; s; s = next) {
		next = s->next;
		if (!strcmp(s->kind->gpu, gpu->name))
			link_destroy(standby_free(s));
	}
	for (unsigned i = 0; i < pool->n_kinds; i++) {
		if (!strcmp(pool->kinds[i].gpu, gpu->name))
			pool->kinds[i].wanted = 0;
	}
	standbys_refill_in(pool, STANDBY_DELAY_MS); /* one that was starting held up the others */
}

/* One that is ready, or else the one that has been starting for longest. */
static struct standby *standbys_choose(const struct standbys *pool, const struct kind *kind)
{
	struct standby *best = NULL;

	for (struct standby *s = pool->list; s; s = s->next) {
		if (s->kind == kind && (!best || s->ready || !best->ready))
			best = s;
	}
	return best;
}

static int assign_fill(
	const struct vgpu *v, const struct link_spawn *spawn, struct standby_assign *ret)
{
	*ret = (struct standby_assign){.group = spawn->group,
		.shaders_mib = spawn->shaders_mib,
		.shaders_by_user = spawn->shaders_by_user};
	snprintf(ret->name, sizeof(ret->name), "%s", spawn->name);
	snprintf(ret->uuid, sizeof(ret->uuid), "%s", spawn->uuid);
	int dir = snprintf(ret->run_dir, sizeof(ret->run_dir), "%s", v->dir);
	int group = snprintf(ret->cpu_group, sizeof(ret->cpu_group), "%s", spawn->cpu_group);
	int shaders = snprintf(ret->shaders, sizeof(ret->shaders), "%s", spawn->shaders);
	if ((size_t)shaders >= sizeof(ret->shaders))
		return -ENAMETOOLONG;
	if ((size_t)dir >= sizeof(ret->run_dir) || (size_t)group >= sizeof(ret->cpu_group))
		return -ENAMETOOLONG;
	return vgpu_pack_args(
		spawn->device_args, ret->device.text, sizeof(ret->device.text), &ret->device.n);
}

int standbys_take(struct standbys *pool, struct vgpu *v, const struct link_spawn *spawn,
	const struct link_ops *ops, struct link **ret)
{
	struct standby_assign assign;
	struct kind *kind = pool ? kind_find(pool, spawn->device_args) : NULL;
	struct standby *s = kind ? standbys_choose(pool, kind) : NULL;

	if (kind && !s)
		kind->missing++;
	if (!s)
		return -ENOENT;
	int r = assign_fill(v, spawn, &assign);
	if (r < 0)
		return r;
	struct link *link = standby_free(s);
	standbys_refill_in(pool, STANDBY_DELAY_MS);
	r = link_assign(link, v->dir, &assign, ops, v);
	if (r < 0) {
		link_destroy(link);
		return r;
	}
	kind->used++;
	*ret = link;
	return 0;
}

struct standby_counts standbys_count(const struct standbys *pool, const struct gpu *gpu)
{
	struct standby_counts counts = {0};
	struct vgpu_device_args args;

	for (enum method m = 0; pool && m < METHOD_COUNT; m++) {
		kind_args(pool->d, gpu, m, &args);
		const struct kind *kind = kind_find((struct standbys *)pool, args.args);
		if (!kind || kind->method != m)
			continue;
		counts.used += kind->used;
		counts.missing += kind->missing;
		for (const struct standby *s = pool->list; s; s = s->next)
			counts.ready += s->kind == kind && s->ready;
	}
	return counts;
}
