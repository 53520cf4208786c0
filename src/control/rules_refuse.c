/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is said when a rule refuses. A reason is a row: the rule that it keeps, why, and the way
 * out, in words into which the names of what is in the way are put.
 */
#include "control/rules_private.h"

#include "base/checked.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define NAMES_SHOWN 3u /* of vGPUs in a refusal; how many more there are is said */
#define NAMES_MAX   (NAMES_SHOWN * (VGPU_NAME_LONGEST + 3) + 32)

/* In braces: a word of struct words. */
static const struct {
	unsigned rule; /* 0: of none of the rules, but of how things are */
	int code;
	const char *why, *way;
} reasons[REASON_COUNT] = {
	[VM_HAS_ANOTHER] = {1, EBUSY,
		"by rule 1 a VM has at most one vGPU, and this one holds {holds}",
		"take that from it first, or keep that"},
	[HELD] = {1, EBUSY, "by rule 1 a vGPU has at most one VM, and {vgpu} is held by {vm}",
		"end that first, or create another vGPU"},
	[HELD_IN_USE] = {1, EBUSY, "{holder} is held by {vm}, which has the device itself",
		"shut that VM down first"},
	[HELD_ENDABLE] = {1, EBUSY, "it is held by {vm}", "end that first, or use --force"},
	[OTHER_TYPE] = {2, EBUSY,
		"by rule 2 all vGPUs of {gpu} are of one type, and it carries {others} of type "
		"{type}",
		"choose that type or another GPU, delete them, or set mixed = yes for it"},
	[OTHER_METHOD] = {2, EBUSY,
		"by rule 2 all vGPUs of {gpu} are of one method, and it carries {others} of method "
		"{method}",
		"choose that method or another GPU, delete them, or set mixed = yes for it"},
	[SLICES] = {2, EBUSY,
		"by rule 2 slices of a GPU and other vGPUs do not share it, and {gpu} carries "
		"{others} of method {method}",
		"choose that method or another GPU, or delete them"},
	[FIXED] = {0, ENOTSUP, "{vgpu} is of method {wanted}, and so a part of its own GPU",
		"create another on {gpu}"},
	[KEPT_PASSTHROUGH] = {3, EBUSY,
		"by rule 3 a GPU in passthrough carries no vGPUs, and {gpu} is kept for "
		"passthrough",
		"choose another GPU, or `vgpuctl gpu mode {gpu} any`"},
	[KEPT_VGPUS] = {3, EBUSY,
		"by rule 3 a GPU with vGPUs cannot go to passthrough, and {gpu} is kept for vGPUs "
		"of method {kept}",
		"choose another GPU, or `vgpuctl gpu mode {gpu} any`"},
	[KEPT_METHOD] = {2, EBUSY,
		"by rule 2 all vGPUs of {gpu} are of one method, and it is kept for {kept}",
		"choose that method or another GPU, or `vgpuctl gpu mode {gpu} any`"},
	[CARRIES] = {3, EBUSY,
		"by rule 3 a GPU with vGPUs cannot go to passthrough, and {gpu} carries {others} "
		"of method {method}",
		"move them to another GPU, or delete them"},
	[PASSED] = {3, EBUSY,
		"by rule 3 a GPU in passthrough carries no other vGPU, and {gpu} is in passthrough "
		"for {others}",
		"choose another GPU, or delete that"},
	[LEFTOVERS] = {5, EBUSY,
		"by rule 5 nobody else sees what {owner} left in the memory of {gpu}, and not all "
		"of "
		"it could be zeroed",
		"create it for that tenant, restart the node, or `vgpuctl gpu release {gpu} "
		"--unscrubbed`"},
	[LEFTOVERS_MODE] = {5, EBUSY,
		"by rule 5 {gpu} does not go back to its driver while in its memory is what "
		"{owner} left and could not be zeroed",
		"restart the node, or `vgpuctl gpu release {gpu} --unscrubbed`"},
	[BUSY] = {3, EBUSY, "{gpu} is {state} for {holder}, and carries nothing else meanwhile",
		"wait for that; `vgpuctl gpu show {gpu}` says how it stands"},
	[FAULT] = {0, EIO, "{gpu} is with no driver as it should be: {trouble}",
		"see dmesg; then delete what is on it, or restart the node"},
	[NOT_THERE] = {0, ENODEV, "{gpu} is not on this node any more",
		"plug it in again, or choose another GPU"},
	[STRAY] = {0, EPROTO, "{gpu} is {state}, and {event} does not come then",
		"see `vgpuctl gpu show {gpu}`"},
};

/* Names of those vGPUs that are in the way: of `method`, or (METHOD_COUNT) all. */
static void list_names(const struct rules_gpu *gpu, enum method method, char *ret, size_t size)
{
	size_t n = 0, len = 0;

	ret[0] = '\0';
	for (size_t i = 0; gpu->vgpus && i < gpu->n_vgpus; i++) {
		if (method != METHOD_COUNT && gpu->vgpus[i].method != method)
			continue;
		if (n++ < NAMES_SHOWN)
			len += (size_t)snprintf(ret + len, size - len, "%s%.63s", n > 1 ? ", " : "",
				gpu->vgpus[i].name);
	}
	if (n > NAMES_SHOWN)
		snprintf(ret + len, size - len, " and %zu more", n - NAMES_SHOWN);
}

struct word {
	const char *name, *value;
};

/* `text` with the words that stand in its braces. */
static void fill_in(
	const char *text, const struct word *words, size_t n_words, char *ret, size_t size)
{
	size_t len = 0;

	while (*text && len + 1 < size) {
		size_t plain = strcspn(text, "{"), i = 0;
		int n = snprintf(ret + len, size - len, "%.*s", (int)plain, text);
		len += MIN((size_t)n, size - len - 1);
		text += plain;
		if (!*text)
			break;
		size_t mark = strcspn(++text, "}");
		while (i < n_words && strncmp(words[i].name, text, mark) != 0)
			i++;
		assert(i < n_words);
		n = snprintf(ret + len, size - len, "%s", words[i].value);
		len += MIN((size_t)n, size - len - 1);
		text += mark + 1;
	}
	ret[len] = '\0';
}

static const char *method_or(enum method method, const char *none)
{
	return method < METHOD_COUNT ? method_names[method] : none;
}

int rules_refuse(const struct question *q, enum reason reason, const char *what, struct error *err)
{
	const struct rules_gpu *gpu = q->gpu;
	const struct rules_subject *subject = q->subject;
	const struct rules_vgpu *other = q->other ?: gpu->n_vgpus ? &gpu->vgpus[0] : NULL;
	enum method shown = reason == OTHER_METHOD && other ? other->method : METHOD_COUNT;
	char names[NAMES_MAX], why[ERROR_TEXT_MAX], way[ERROR_TEXT_MAX];

	list_names(gpu, shown, names, sizeof(names));
	const struct word words[] = {
		{"gpu", gpu->name},
		{"state", gpu_state_names[rules_state(gpu)]},
		{"event", rules_event_names[q->event]},
		{"others", names},
		{"type", other ? other->type : "none"},
		{"method", method_or(other ? other->method : METHOD_COUNT, "none")},
		{"vm", other && other->vm ? other->vm : "nothing"},
		{"holder", other             ? other->name
			   : gpu->left_by[0] ? gpu->left_by
					     : "vgpud"},
		{"owner", gpu->left_by},
		{"trouble", gpu->trouble[0] ? gpu->trouble : "the kernel does not say why"},
		{"kept", method_names[gpu->mode]},
		{"vgpu", subject->vgpu ?: "it"},
		{"wanted", method_or(subject->method, "any")},
		{"holds", subject->holds ?: "another"},
	};
	fill_in(reasons[reason].why, words, ARRAY_SIZE(words), why, sizeof(why));
	fill_in(reasons[reason].way, words, ARRAY_SIZE(words), way, sizeof(way));
	/* However long the names are, the way out is said. */
	size_t rest = strlen(what) + strlen(way) + sizeof(":  ()");
	int room = (int)(ERROR_TEXT_MAX - MIN(rest, (size_t)ERROR_TEXT_MAX));
	return error_set(err, reasons[reason].code, "%s: %.*s (%s)", what, room, why, way);
}
