/* SPDX-License-Identifier: Apache-2.0 */
#include "control/advise_show.h"

#include "base/checked.h"

#include <stdio.h>
#include <string.h>

/* --- what it is made from --- */

static const char *string_of(const json_t *object, const char *key)
{
	const char *s = json_string_value(json_object_get(object, key));

	return s ? s : "";
}

static uint32_t number_of(const json_t *object, const char *key)
{
	json_int_t n = json_integer_value(json_object_get(object, key));

	return n > 0 ? (uint32_t)MIN(n, (json_int_t)UINT32_MAX) : 0;
}

static void read_findings(const json_t *findings, struct advise_way *way)
{
	const json_t *finding;
	size_t i;

	json_array_foreach(findings, i, finding)
	{
		if (!json_is_true(json_object_get(finding, "forbids")) || way->forbidding++)
			continue;
		snprintf(way->condition, sizeof(way->condition), "%s",
			string_of(finding, "condition"));
		snprintf(way->why, sizeof(way->why), "%s", string_of(finding, "text"));
		snprintf(way->remedy, sizeof(way->remedy), "%s", string_of(finding, "remedy"));
	}
}

static void set_fit(struct advise_way *way, const char *type, uint64_t vram_mib, uint32_t fits)
{
	way->fits = fits;
	way->vram_mib = vram_mib;
	snprintf(way->type, sizeof(way->type), "%s", type);
}

/* The largest type of that kind of which enough fit, else the one of which most do. */
static void fit_types(const struct vgpud *d, const struct gpu *gpu, enum type_kind kind,
	uint32_t vms, struct advise_way *way)
{
	for (size_t i = 0; i < d->n_types; i++) {
		const struct type *type = &d->types[i];
		if (strcmp(type->gpu, gpu->name) != 0 || type->kind != kind)
			continue;
		struct gpu_use use = vgpud_gpu_use(d, gpu->name, type->name);
		uint32_t fits = types_available(gpu, type, &use);
		bool better = MIN(fits, vms) != MIN(way->fits, vms)
				      ? MIN(fits, vms) > MIN(way->fits, vms)
				      : type->vram_mib > way->vram_mib;
		if (fits && better)
			set_fit(way, type->name, type->vram_mib, fits);
	}
}

/* Slices, whoever makes them: mediated devices, a vendor's types, or plain virtual functions. */
static void fit_slices(const json_t *shown, struct advise_way *way)
{
	const json_t *mdev = json_object_get(json_object_get(shown, "mdev"), "types"),
		     *vendor = json_object_get(json_object_get(shown, "vendor"), "types"),
		     *sriov = json_object_get(shown, "sriov"), *one;
	size_t i;

	json_array_foreach(mdev, i, one)
	{
		uint32_t fits = number_of(one, "available_instances");
		if (fits > way->fits)
			set_fit(way, string_of(one, "id"), 0, fits);
	}
	json_array_foreach(vendor, i, one)
	{
		uint32_t fits = number_of(one, "creatable_vfs");
		if (fits > way->fits)
			set_fit(way, string_of(one, "name"), 0, fits);
	}
	if (!way->fits && !json_array_size(mdev) && !json_array_size(vendor))
		way->fits = number_of(sriov, "num_vfs") ? number_of(sriov, "num_vfs")
							: number_of(sriov, "total_vfs");
}

void advise_gpu_read(const struct vgpud *d, const struct gpu *gpu, const json_t *shown,
	uint32_t vms, struct advise_gpu *ret)
{
	static const enum type_kind kinds[METHOD_COUNT] = {[METHOD_EMULATE] = TYPE_SHARE,
		[METHOD_FORWARD] = TYPE_SHARE,
		[METHOD_MEDIATE] = TYPE_SLICE,
		[METHOD_PASSTHROUGH] = TYPE_WHOLE};
	const json_t *method;
	size_t i;

	*ret = (struct advise_gpu){.soft = gpu_is_soft(gpu)};
	snprintf(ret->name, sizeof(ret->name), "%s", gpu->name);
	json_array_foreach(json_object_get(shown, "methods"), i, method)
	{
		enum method m = method_from_name(string_of(method, "method"));
		if (m == METHOD_COUNT)
			continue;
		struct advise_way *way = &ret->ways[m];
		way->possible = json_is_true(json_object_get(method, "possible"));
		way->offered = json_is_true(json_object_get(method, "offered"));
		read_findings(json_object_get(method, "findings"), way);
		if (!way->possible)
			continue;
		fit_types(d, gpu, kinds[m], vms, way);
		if (m == METHOD_MEDIATE && !way->fits)
			fit_slices(shown, way);
	}
}

/* --- JSON --- */

static json_t *text(const char *s)
{
	json_t *json = json_string(s);

	return json ? json : json_string("?");
}

static json_t *text_or_null(const char *s)
{
	return *s ? text(s) : json_null();
}

static json_t *render_criteria(const struct advise_answer *answer)
{
	json_t *list = json_array();

	for (unsigned c = 0; c < CRITERION_COUNT; c++)
		json_array_append_new(
			list, json_pack("{s:s, s:i, s:o}", "criterion", advise_criterion_names[c],
				      "score", (int)answer->criteria[c].score, "text",
				      text(answer->criteria[c].text)));
	return list;
}

static json_t *render_against(const struct advise_answer *answer)
{
	json_t *list = json_array();

	for (size_t i = 0; i < answer->n_against; i++) {
		const struct advise_against *a = &answer->against[i];
		json_array_append_new(
			list, json_pack("{s:o, s:o, s:o}", "condition", text(a->condition), "text",
				      text(a->text), "remedy", text_or_null(a->remedy)));
	}
	return list;
}

static json_t *render_others(
	const struct advise_answer *answer, const struct advise_gpu *gpus, size_t n)
{
	json_t *list = json_array();

	for (size_t i = 0; i < n; i++) {
		if (answer->gpus[i] && i != answer->gpu)
			json_array_append_new(list, text(gpus[i].name));
	}
	return list;
}

static void add_command(void *data, const char *line)
{
	json_array_append_new(data, text(line));
}

static json_t *render_answer(const struct advise_question *q, const struct advise_gpu *gpus,
	size_t n, const struct advise_answer *answer)
{
	const struct advise_way *way = &gpus[answer->gpu].ways[answer->method];
	json_t *commands = json_array(), *json;

	advise_commands(q, gpus, n, answer, add_command, commands);
	json = json_pack("{s:s, s:o, s:b, s:b, s:b, s:i, s:i, s:o, s:o}", "method",
		method_names[answer->method], "gpu", text(gpus[answer->gpu].name), "suitable",
		answer->suitable, "possible", way->possible, "offered", way->offered, "score",
		(int)answer->score, "fits", (int)answer->fits, "type", text_or_null(way->type),
		"vram_mib", way->vram_mib ? json_integer((json_int_t)way->vram_mib) : json_null());
	json_object_set_new(json, "criteria", render_criteria(answer));
	json_object_set_new(json, "against", render_against(answer));
	json_object_set_new(json, "others", render_others(answer, gpus, n));
	json_object_set_new(json, "commands", commands);
	return json;
}

json_t *advise_render(const struct advise_question *question, const struct advise_gpu *gpus,
	size_t n, const struct advice *advice)
{
	json_t *needs = json_array(), *answers = json_array();

	for (unsigned need = 0; need < ADVISE_NEED_COUNT; need++) {
		if (question->needs & 1u << need)
			json_array_append_new(needs, json_string(advise_need_names[need]));
	}
	for (unsigned i = 0; i < METHOD_COUNT; i++) {
		json_t *answer = json_pack("{s:i}", "rank", (int)i + 1),
		       *more = render_answer(question, gpus, n, &advice->answers[i]);
		json_object_update(answer, more);
		json_decref(more);
		json_array_append_new(answers, answer);
	}
	return json_pack("{s:o, s:i, s:s, s:o}", "needs", needs, "vms", (int)question->vms, "guest",
		question->windows ? "windows" : "linux", "answers", answers);
}
