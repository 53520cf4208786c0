/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a job came to, as JSON: written in its process, and read by vgpud with bounds, since that
 * process asked devices and their drivers.
 */
#include "control/direct_private.h"

#include "base/checked.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- in the job's process --- */

static json_t *text(const char *s)
{
	json_t *json = json_string(s);

	return json ? json : json_string("?"); /* not UTF-8 */
}

static json_t *plan_to_json(const struct change_plan *plan)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < plan->count; i++) {
		const struct change *c = &plan->list[i];
		json_array_append_new(list,
			json_pack("{s:s, s:o, s:o, s:o, s:b}", "kind", change_kind_word(c->kind),
				"subject", text(c->subject), "before", text(c->before), "after",
				text(c->after), "shared", c->shared));
	}
	return json_pack("{s:o, s:o}", "device", text(plan->device), "changes", list);
}

static json_t *files_to_json(const struct direct_files *files)
{
	json_t *list = json_array();

	for (size_t i = 0; i < files->count; i++)
		json_array_append_new(list, json_string(files->name[i]));
	return list;
}

json_t *direct_result_to_json(const struct direct_result *r)
{
	json_t *json = json_pack("{s:i, s:o, s:i, s:i, s:o, s:I, s:o}", "code", r->code, "text",
		text(r->text), "done", (int)r->done, "left", (int)r->left, "files",
		files_to_json(&r->files), "window", (json_int_t)(r->window & INT64_MAX), "boot",
		text(r->boot));
	if (r->plan && r->code == 0)
		json_object_set_new(json, "plan", plan_to_json(r->plan));
	if (r->scrub.done)
		json_object_set_new(json, "scrub",
			json_pack("{s:s, s:o, s:I, s:I, s:I}", "verdict", r->scrub.verdict, "text",
				text(r->scrub.text), "bytes", (json_int_t)r->scrub.bytes, "took_ms",
				(json_int_t)r->scrub.took_ms, "time_ms",
				(json_int_t)r->scrub.time_ms));
	return json;
}

/* --- in vgpud --- */

static bool copy(const char *from, char *ret, size_t size)
{
	return (size_t)snprintf(ret, size, "%s", from) < size;
}

static bool change_from_json(json_t *json, struct change *ret)
{
	const char *kind, *subject, *before, *after;
	int shared;

	*ret = (struct change){0};
	if (json_unpack(json, "{s:s, s:s, s:s, s:s, s:b}", "kind", &kind, "subject", &subject,
		    "before", &before, "after", &after, "shared", &shared) < 0 ||
		!copy(subject, ret->subject, sizeof(ret->subject)) ||
		!copy(before, ret->before, sizeof(ret->before)) ||
		!copy(after, ret->after, sizeof(ret->after)))
		return false;
	ret->kind = change_kind_from_word(kind);
	ret->shared = shared;
	return change_valid(ret);
}

/* NULL: it is none. */
static struct change_plan *plan_from_json(json_t *json)
{
	struct change_plan *plan = calloc(1, sizeof(*plan));
	const char *device;
	json_t *list;

	bool good = plan &&
		    json_unpack(json, "{s:s, s:o}", "device", &device, "changes", &list) == 0 &&
		    copy(device, plan->device, sizeof(plan->device)) && json_array_size(list) > 0 &&
		    json_array_size(list) <= CHANGES_MAX;
	for (size_t i = 0; good && i < json_array_size(list); i++)
		good = change_from_json(json_array_get(list, i), &plan->list[plan->count++]);
	if (good)
		return plan;
	free(plan);
	return NULL;
}

static void scrub_from_json(json_t *json, struct direct_scrub_report *ret)
{
	json_int_t bytes = 0, took_ms = 0, time_ms = 0;
	const char *verdict = "", *words = "";

	if (json_unpack(json, "{s:s, s:s, s:I, s:I, s:I}", "verdict", &verdict, "text", &words,
		    "bytes", &bytes, "took_ms", &took_ms, "time_ms", &time_ms) < 0)
		return;
	ret->done = true;
	copy(verdict, ret->verdict, sizeof(ret->verdict));
	copy(words, ret->text, sizeof(ret->text));
	ret->bytes = (uint64_t)bytes;
	ret->took_ms = (uint64_t)took_ms;
	ret->time_ms = (uint64_t)time_ms;
}

static void files_from_json(json_t *json, struct direct_files *ret)
{
	ret->count = 0;
	for (size_t i = 0; i < json_array_size(json) && ret->count < DIRECT_FILES_MAX; i++) {
		const char *name = json_string_value(json_array_get(json, i));
		if (name && copy(name, ret->name[ret->count], HOLDER_FILE_MAX))
			ret->count++;
	}
}

bool direct_result_from_json(json_t *json, struct direct_result *ret)
{
	const char *words, *boot;
	json_int_t window;
	int done, left;
	json_t *files, *plan, *scrub;

	if (json_unpack(json, "{s:i, s:s, s:i, s:i, s:o, s:I, s:s}", "code", &ret->code, "text",
		    &words, "done", &done, "left", &left, "files", &files, "window", &window,
		    "boot", &boot) < 0)
		return false;
	ret->window = (uint64_t)MAX(window, 0);
	files_from_json(files, &ret->files);
	copy(words, ret->text, sizeof(ret->text));
	copy(boot, ret->boot, sizeof(ret->boot));
	ret->done = (uint32_t)MAX(done, 0);
	ret->left = (uint32_t)MAX(left, 0);
	scrub = json_object_get(json, "scrub");
	if (scrub)
		scrub_from_json(scrub, &ret->scrub);
	plan = json_object_get(json, "plan");
	if (plan)
		ret->plan = plan_from_json(plan);
	return !plan || ret->plan;
}
