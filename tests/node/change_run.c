/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What host/plan.h and host/change.h make of a GPU's slices, without a vgpud. One line of JSON.
 *
 * change_run types GPU [TAKEN...]             what it offers
 * change_run plan FILE GPU TYPE UUID [TAKEN...]   a plan, into FILE
 * change_run raw FILE KIND SUBJECT BEFORE AFTER   the same, of one change
 * change_run apply|undo|keep|check FILE       keep: undo all but what is shared
 *
 * GPU: a PCI function, or mdev-PARENT. CHANGE_RUN_VFS: how many VFs to enable.
 */
#include "host/plan.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int tell(json_t *json)
{
	char *text = json_dumps(json, JSON_COMPACT);

	puts(text ? text : "{}");
	free(text);
	json_decref(json);
	return 0;
}

static struct host_facts *read_facts(const char *name)
{
	const char *vfs = getenv("CHANGE_RUN_VFS");
	struct host_use use = {.root = geteuid() == 0, .vfs = vfs ? (uint32_t)atoi(vfs) : 0};
	struct host_gpu gpu = {.kind = "mdev"};
	struct host_facts *facts = calloc(1, sizeof(*facts));

	if (!facts)
		exit(2);
	snprintf(gpu.name, sizeof(gpu.name), "%s", name);
	if (pci_address_valid(name)) {
		gpu.kind = "pci";
		snprintf(gpu.pci_address, sizeof(gpu.pci_address), "%s", name);
	}
	host_facts_read(&host_roots_real, &gpu, &use, facts);
	return facts;
}

static struct plan_taken read_taken(char **from, int n)
{
	static char list[16][PCI_ADDRESS_MAX];
	struct plan_taken taken = {.list = (const char(*)[PCI_ADDRESS_MAX])list};

	for (; n > 0 && taken.count < 16; n--)
		snprintf(list[taken.count++], PCI_ADDRESS_MAX, "%s", *from++);
	return taken;
}

static int types(char **args, int n)
{
	struct plan_taken taken = read_taken(args + 1, n - 1);
	struct host_facts *facts = read_facts(args[0]);
	struct slice_types *found = calloc(1, sizeof(*found));
	json_t *list = json_array();

	plan_slice_types(facts, &taken, found);
	for (size_t i = 0; i < found->count; i++) {
		const struct slice_type *t = &found->list[i];
		json_array_append_new(list,
			json_pack("{s:s, s:s, s:s, s:I, s:i, s:i, s:s}", "name", t->name, "id",
				t->id, "interface", slice_interface_names[t->interface], "vram_mib",
				(json_int_t)t->vram_mib, "max_instances", t->max_instances,
				"available", t->available, "description", t->description));
	}
	free(facts);
	free(found);
	return tell(list);
}

static void put_plan(const char *path, const struct change_plan *plan)
{
	FILE *file = fopen(path, "w");

	if (!file || fwrite(plan, sizeof(*plan), 1, file) != 1 || fclose(file) != 0)
		exit(2);
}

static json_t *list_changes(const struct change_plan *plan)
{
	json_t *list = json_array();
	char text[512];

	for (uint32_t i = 0; i < plan->count; i++) {
		const struct change *c = &plan->list[i];
		snprintf(text, sizeof(text), "%s %s %s>%s", change_kind_word(c->kind), c->subject,
			c->before, c->after);
		json_array_append_new(list, json_string(text));
	}
	return list;
}

static int make_plan(char **args, int n)
{
	static const struct plan_owner owner = {1000, 1000, 0600};
	const struct change_node node = {
		.roots = &host_roots_real, .kernel = &vfio_kernel_real, .limit_ms = 5000};
	struct plan_taken taken = read_taken(args + 4, n - 4);
	struct host_facts *facts = read_facts(args[1]);
	struct error err = {0};
	struct change_plan plan;

	int r = plan_mediate(facts, args[2], args[3], &owner, &taken, args[0], &plan, &err);
	free(facts);
	change_plan_settle(&node, &plan);
	if (r == 0)
		put_plan(args[0], &plan);
	return tell(json_pack("{s:i, s:s, s:s, s:o}", "code", r, "text", err.text, "device",
		plan.device, "plan", list_changes(&plan)));
}

static int make_raw(char **args)
{
	struct change_plan plan = {.count = 1};
	struct change *c = &plan.list[0];

	c->kind = change_kind_from_word(args[1]);
	snprintf(c->subject, sizeof(c->subject), "%s", args[2]);
	snprintf(c->before, sizeof(c->before), "%s", args[3]);
	snprintf(c->after, sizeof(c->after), "%s", args[4]);
	bool valid = change_valid(c);
	if (valid)
		put_plan(args[0], &plan);
	return tell(json_pack("{s:b}", "valid", valid));
}

static int act(const char *how, const char *path)
{
	const struct change_node node = {
		.roots = &host_roots_real, .kernel = &vfio_kernel_real, .limit_ms = 5000};
	bool keep[CHANGES_MAX] = {false};
	struct change_result result;
	struct change_plan plan;
	FILE *file = fopen(path, "r");

	if (!file || fread(&plan, sizeof(plan), 1, file) != 1 || plan.count > CHANGES_MAX)
		return 2;
	fclose(file);
	for (uint32_t i = 0; i < plan.count; i++)
		keep[i] = !strcmp(how, "keep") && plan.list[i].shared;
	if (!strcmp(how, "apply"))
		change_apply(&node, &plan, path, &result);
	else if (!strcmp(how, "check"))
		change_check(&node, &plan, path, &result);
	else
		change_undo(&node, &plan, keep, path, &result);
	return tell(json_pack("{s:i, s:i, s:i, s:s}", "code", result.code, "done", result.done,
		"left", result.left, "text", result.sentence));
}

int main(int argc, char **argv)
{
	const char *how = argc > 2 ? argv[1] : "";

	if (!strcmp(how, "types"))
		return types(argv + 2, argc - 2);
	if (!strcmp(how, "plan") && argc >= 6)
		return make_plan(argv + 2, argc - 2);
	if (!strcmp(how, "raw") && argc == 7)
		return make_raw(argv + 2);
	return argc == 3 ? act(how, argv[2]) : 2;
}
