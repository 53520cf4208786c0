/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GET /v1/advise: looks at one GPU after another, each in a process of its own as `gpu show` does,
 * and answers from all of them. A GPU whose driver does not answer is judged as not possible.
 */
#include "base/checked.h"
#include "base/parse.h"
#include "control/advise_show.h"
#include "control/api_internal.h"
#include "control/gpus.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct asking {
	struct vgpud *d;
	struct http_request *request;
	struct advise_question question;
	char names[ADVISE_GPUS_MAX][TYPES_NAME_MAX]; /* of those that are looked at */
	size_t n_names, at;
	struct advise_gpu gpus[ADVISE_GPUS_MAX];
	size_t n;
};

static void asking_end(struct asking *a, const struct error *err)
{
	if (err) {
		http_reply_error(a->request, err);
	} else {
		struct advice advice;
		advise(&a->question, a->gpus, a->n, &advice);
		http_reply_json(
			a->request, 200, advise_render(&a->question, a->gpus, a->n, &advice));
	}
	free(a);
}

/* Its driver said nothing in time. */
static void silent(struct advise_gpu *gpu)
{
	for (unsigned m = 0; m < METHOD_COUNT; m++) {
		struct advise_way *way = &gpu->ways[m];
		snprintf(way->condition, sizeof(way->condition), "unreadable");
		snprintf(way->why, sizeof(way->why), "its driver does not answer");
		snprintf(way->remedy, sizeof(way->remedy), "see dmesg");
		way->forbidding = 1;
	}
}

/* How many shall fit: whoever asks for density and names no number wants as many as possible. */
static uint32_t wanted(const struct advise_question *q)
{
	return q->needs & 1u << ADVISE_DENSITY && q->vms == 1 ? ADVISE_VMS_MAX : q->vms;
}

static void asking_next(struct asking *a);

static void on_shown(void *data, json_t *report)
{
	struct asking *a = data;
	const struct gpu *gpu = vgpud_find_gpu(a->d, a->names[a->at]);

	if (gpu) {
		struct advise_gpu *one = &a->gpus[a->n++];
		advise_gpu_read(a->d, gpu, report, wanted(&a->question), one);
		if (!report)
			silent(one);
	}
	json_decref(report);
	a->at++;
	asking_next(a);
}

static void asking_next(struct asking *a)
{
	struct error err;

	while (a->at < a->n_names) {
		const struct gpu *gpu = vgpud_find_gpu(a->d, a->names[a->at]);
		int r = gpu ? gpus_show(a->d, gpu, on_shown, a, &err) : -ENOENT;
		if (r == 0)
			return;
		if (gpu) {
			asking_end(a, &err);
			return;
		}
		a->at++; /* it is gone meanwhile */
	}
	if (!a->n) {
		error_set(&err, ENOENT, "advise: its GPUs are gone (see `vgpuctl gpu list`)");
		asking_end(a, &err);
		return;
	}
	asking_end(a, NULL);
}

/* "a,b": a bit for each. */
static int read_needs(const char *list, unsigned *ret, struct error *err)
{
	char word[32];

	while (list && *list) {
		size_t len = strcspn(list, ",");
		snprintf(word, sizeof(word), "%.*s", (int)MIN(len, sizeof(word) - 1), list);
		enum advise_need need = advise_need_from_name(word);
		if (len >= sizeof(word) || need == ADVISE_NEED_COUNT)
			return error_set(err, EINVAL,
				"advise: there is no need %s (choose from performance, density, "
				"isolation, migration, no-hardware)",
				word);
		*ret |= 1u << need;
		list += len + (list[len] == ',');
	}
	return 0;
}

static int read_question(
	const struct http_request *request, struct advise_question *ret, struct error *err)
{
	const char *vms = http_query(request, "vms"), *guest = http_query(request, "guest");
	uint64_t n = 1;

	if (vms && (!parse_number(vms, 10, ADVISE_VMS_MAX, &n) || !n))
		return error_set(err, EINVAL, "advise: that is no number of VMs (give 1 to %u)",
			ADVISE_VMS_MAX);
	if (guest && strcmp(guest, "linux") != 0 && strcmp(guest, "windows") != 0)
		return error_set(err, EINVAL, "advise: that is no guest (give linux or windows)");
	ret->vms = (uint32_t)n;
	ret->windows = guest && !strcmp(guest, "windows");
	return read_needs(http_query(request, "need"), &ret->needs, err);
}

static uint32_t processes_that_fit(const struct vgpud *d)
{
	uint64_t mib, keep = d->config.min_free_mib;

	vgpud_has_memory(d, &mib);
	return mib > keep ? (uint32_t)MIN((mib - keep) / VGPU_NEEDS_MIB, (uint64_t)UINT32_MAX) : 0;
}

void api_advise(struct api *api, struct http_request *request, const char *name)
{
	const char *only = http_query(request, "gpu");
	struct asking *a = calloc(1, sizeof(*a));
	struct error err = {0};

	if (!a) {
		error_set(&err, ENOMEM, "advise: out of memory (free some)");
		http_reply_error(request, &err);
		return;
	}
	a->d = api->d;
	a->request = request;
	a->question.processes = processes_that_fit(api->d);
	if (read_question(request, &a->question, &err) < 0) {
		asking_end(a, &err);
		return;
	}
	for (size_t i = 0; i < api->d->n_gpus && a->n_names < ADVISE_GPUS_MAX; i++) {
		const struct gpu *gpu = &api->d->gpus[i];
		if (!gpu->gone && (!only || !strcmp(only, gpu->name)))
			snprintf(a->names[a->n_names++], TYPES_NAME_MAX, "%s", gpu->name);
	}
	if (only && !a->n_names) {
		error_set(&err, ENOENT,
			"advise: %.64s: there is no GPU of that name (see `vgpuctl gpu list`)",
			only);
		asking_end(a, &err);
		return;
	}
	asking_next(a);
}
