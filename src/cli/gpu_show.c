/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `gpu show` for people: what the GPU is, then each method with what stands in its way and the way
 * out. Lines have at most 80 columns, but for words that are longer.
 */
#include "cli/cli.h"

#include "base/checked.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define TITLE_WIDTH 14 /* of a fact */
#define TEXT_MAX    2048
#define SHOWN_MAX   8 /* of a list; how many more there are is said */

struct text {
	char s[TEXT_MAX];
};

static void add(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(struct text *text, const char *format, ...)
{
	size_t len = strlen(text->s);
	va_list args;

	va_start(args, format);
	vsnprintf(text->s + len, sizeof(text->s) - len, format, args);
	va_end(args);
}

static void print_fact(const char *title, const struct text *text)
{
	if (!text->s[0])
		return;
	printf("  %-*s", TITLE_WIDTH, title);
	cli_print_wrapped(text->s, TITLE_WIDTH + 2, TITLE_WIDTH + 2);
}

/* NULL for what is no string. */
static const char *string_of(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

static const char *string_or(const json_t *object, const char *key, const char *otherwise)
{
	const char *s = string_of(object, key);

	return s ? s : otherwise;
}

static long long number_of(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

static bool is_true(const json_t *object, const char *key)
{
	return json_is_true(json_object_get(object, key));
}

/* ", and N more" when only some of a list were shown. */
static void add_rest(struct text *text, size_t n)
{
	if (n > SHOWN_MAX)
		add(text, ", and %zu more", n - SHOWN_MAX);
}

/* --- what it is --- */

static void show_identity(const json_t *gpu)
{
	const json_t *pci = json_object_get(gpu, "pci");
	const char *driver = string_of(gpu, "driver");
	struct text line = {0};

	if (json_is_object(pci)) {
		const char *vendor = string_of(pci, "vendor");
		add(&line, "%s%s%s [%.4s:%.4s],", vendor ? vendor : "", vendor ? " " : "",
			string_or(pci, "class_name", ""), string_or(pci, "vendor_id", "0x?") + 2,
			string_or(pci, "device_id", "0x?") + 2);
	} else {
		add(&line, "%s GPU,", string_or(gpu, "kind", ""));
	}
	add(&line, " %s%s", driver ? "driver " : "no driver", driver ? driver : "");
	printf("%s: ", string_or(gpu, "name", "?"));
	cli_print_wrapped(line.s, strlen(string_or(gpu, "name", "?")) + 2, 2);
}

static void show_state(const json_t *gpu)
{
	const char *type = string_of(gpu, "type"), *method = string_of(gpu, "method");
	struct text state = {0}, vram = {0};

	add(&state, "%s", string_or(gpu, "state", "?"));
	if (number_of(gpu, "vgpus"))
		add(&state, ", carries %lld vGPUs%s%s%s%s", number_of(gpu, "vgpus"),
			method ? " by " : "", method ? method : "", type ? " of type " : "",
			type ? type : "");
	if (strcmp(string_or(gpu, "mode", "any"), "any") != 0)
		add(&state, ", kept for %s", string_of(gpu, "mode"));
	if (string_of(gpu, "left_by"))
		add(&state, ", with what %s left in it", string_of(gpu, "left_by"));
	add(&state, ", %s%s", string_or(gpu, "policy", "?"),
		is_true(gpu, "mixed") ? ", types may be mixed" : "");
	print_fact("state", &state);
	add(&vram, "%lld MiB, %lld not given away", number_of(gpu, "vram_mib"),
		number_of(gpu, "vram_free_mib"));
	print_fact("VRAM", &vram);
}

static void show_pci(const json_t *pci)
{
	const char *power = string_of(pci, "power_state"), *physfn = string_of(pci, "physfn"),
		   *only = string_of(pci, "driver_override");
	const json_t *methods = json_object_get(pci, "reset_methods"), *node;
	struct text where = {0}, reset = {0};
	const json_t *method;
	size_t i;

	if (!json_is_object(pci))
		return;
	add(&where, "%s", string_or(pci, "address", "?"));
	node = json_object_get(pci, "numa_node");
	if (json_is_integer(node))
		add(&where, ", NUMA node %lld", (long long)json_integer_value(node));
	if (power)
		add(&where, ", power %s", power);
	if (is_true(pci, "boot_vga"))
		add(&where, ", the firmware's screen was on it");
	if (physfn)
		add(&where, ", virtual function of %s", physfn);
	if (only)
		add(&where, ", for the driver %s only", only);
	print_fact("PCI", &where);
	json_array_foreach(methods, i, method)
		add(&reset, "%s%s", i ? ", then " : "by ", json_string_value(method));
	if (!reset.s[0])
		add(&reset, "%s", is_true(pci, "can_reset") ? "possible" : "not possible");
	print_fact("reset", &reset);
}

static void show_iommu(const json_t *iommu)
{
	const json_t *members = json_object_get(iommu, "members"),
		     *group = json_object_get(iommu, "group"), *member;
	struct text text = {0};
	size_t i, others = 0;

	if (!json_is_object(iommu))
		return;
	if (json_is_integer(group))
		add(&text, "group %lld", (long long)json_integer_value(group));
	else
		add(&text, "%s", is_true(iommu, "active") ? "in no group" : "none on this node");
	json_array_foreach(members, i, member)
	{
		const char *role = string_or(member, "role", "?");
		const char *driver = string_of(member, "driver");
		if (!strcmp(role, "self") || others++ >= SHOWN_MAX)
			continue;
		add(&text, "%s %s (%s, %s)", others == 1 ? ", with" : ",",
			string_or(member, "address", "?"), string_or(member, "class_name", "?"),
			driver ? driver : "no driver");
	}
	add_rest(&text, others);
	print_fact("IOMMU", &text);
}

static void show_files(const json_t *gpu)
{
	const json_t *nodes = json_object_get(gpu, "device_nodes"),
		     *holders = json_object_get(gpu, "holders"), *item;
	const char *console = string_of(gpu, "console");
	struct text files = {0}, held = {0}, screens = {0};
	size_t i;

	json_array_foreach(nodes, i, item)
		add(&files, "%s%s", i ? ", " : "", json_string_value(item));
	print_fact("device files", &files);
	json_array_foreach(holders, i, item)
	{
		if (i < SHOWN_MAX)
			add(&held, "%s%s[%lld]", i ? ", " : "", string_or(item, "comm", "?"),
				number_of(item, "pid"));
	}
	add_rest(&held, json_array_size(holders));
	print_fact("open in", &held);
	if (number_of(gpu, "screens"))
		add(&screens, "%lld plugged in", number_of(gpu, "screens"));
	if (console)
		add(&screens, "%sthe text console is on %s", screens.s[0] ? ", " : "", console);
	print_fact("screens", &screens);
}

/* --- slices --- */

static void show_sriov(const json_t *sriov)
{
	const json_t *vfs = json_object_get(sriov, "vfs"), *vf;
	struct text text = {0};
	size_t i;

	if (!json_is_object(sriov))
		return;
	add(&text, "%lld of %lld virtual functions are enabled", number_of(sriov, "num_vfs"),
		number_of(sriov, "total_vfs"));
	json_array_foreach(vfs, i, vf)
	{
		const char *driver = string_of(vf, "driver");
		if (i >= SHOWN_MAX)
			break;
		add(&text, "%s %s (%s", i ? "," : ":", string_or(vf, "address", "?"),
			driver ? driver : "no driver");
		if (json_is_integer(json_object_get(vf, "vgpu_type")))
			add(&text, ", type %lld", number_of(vf, "vgpu_type"));
		add(&text, ")");
	}
	add_rest(&text, json_array_size(vfs));
	print_fact("SR-IOV", &text);
}

static void show_mdev(const json_t *mdev)
{
	const json_t *types = json_object_get(mdev, "types"), *type;
	size_t i, n = json_array_size(json_object_get(mdev, "devices"));
	struct text text = {0};

	if (!json_is_object(mdev))
		return;
	add(&text, "%zu of them are there", n);
	json_array_foreach(types, i, type)
	{
		const json_t *available = json_object_get(type, "available_instances");
		const char *name = string_of(type, "name");
		if (i >= SHOWN_MAX)
			break;
		add(&text, "%s %s%s%s%s", i ? "," : "; types:", string_or(type, "id", "?"),
			name ? " (" : "", name ? name : "", name ? ")" : "");
		if (json_is_integer(available))
			add(&text, ", %lld more fit", (long long)json_integer_value(available));
	}
	add_rest(&text, json_array_size(types));
	print_fact("mediated", &text);
}

static void show_vendor(const json_t *vendor)
{
	const json_t *types = json_object_get(vendor, "types"),
		     *profiles = json_object_get(vendor, "profiles"), *item;
	struct text text = {0};
	size_t i;

	if (!json_is_object(vendor))
		return;
	json_array_foreach(types, i, item)
	{
		if (i < SHOWN_MAX)
			add(&text, "%s%lld %s on %lld VFs",
				i ? ", " : "can be made: ", number_of(item, "id"),
				string_or(item, "name", "?"), number_of(item, "creatable_vfs"));
	}
	add_rest(&text, json_array_size(types));
	json_array_foreach(profiles, i, item)
	{
		if (i < SHOWN_MAX)
			add(&text, "%s%s %lld ms %s",
				i ? ", " : "profiles: ", string_or(item, "function", "?"),
				number_of(item, "exec_quantum_ms"),
				string_or(item, "sched_priority", ""));
	}
	add_rest(&text, json_array_size(profiles));
	print_fact(string_or(vendor, "interface", "vendor"), &text);
}

static void show_unreadable(const json_t *list)
{
	const json_t *item;
	size_t i;

	json_array_foreach(list, i, item)
	{
		struct text text = {0};
		add(&text, "%s: %s (%s)", string_or(item, "file", "?"), string_or(item, "why", "?"),
			string_or(item, "remedy", "?"));
		print_fact(i ? "" : "unreadable", &text);
	}
}

/* --- methods --- */

#define METHOD_WIDTH 13
#define ANSWER_WIDTH 5

static void show_method(const json_t *method)
{
	const size_t indent = METHOD_WIDTH + ANSWER_WIDTH;
	const json_t *findings = json_object_get(method, "findings"), *finding;
	bool possible = is_true(method, "possible"), first = true;
	size_t i;

	bool says = json_array_size(findings) || !is_true(method, "offered");
	printf("%-*s%-*s", METHOD_WIDTH, string_or(method, "method", "?"), says ? ANSWER_WIDTH : 0,
		possible ? "yes" : "no");
	if (possible && !is_true(method, "offered")) {
		cli_print_wrapped("the node could; this vgpud cannot yet", indent, indent);
		first = false;
	}
	json_array_foreach(findings, i, finding)
	{
		const char *remedy = string_of(finding, "remedy");
		struct text text = {0};
		if (!first)
			printf("%*s", (int)indent, "");
		add(&text, "%s%s", is_true(finding, "forbids") ? "" : "note: ",
			string_or(finding, "text", "?"));
		cli_print_wrapped(text.s, indent, indent);
		if (remedy) {
			printf("%*s-> ", (int)indent, "");
			cli_print_wrapped(remedy, indent + 3, indent + 3);
		}
		first = false;
	}
	if (first)
		putchar('\n');
}

static void gpu_print(const json_t *gpu)
{
	const json_t *methods = json_object_get(gpu, "methods"), *method;
	size_t i;

	show_identity(gpu);
	show_state(gpu);
	show_pci(json_object_get(gpu, "pci"));
	show_iommu(json_object_get(gpu, "iommu"));
	show_files(gpu);
	show_sriov(json_object_get(gpu, "sriov"));
	show_mdev(json_object_get(gpu, "mdev"));
	show_vendor(json_object_get(gpu, "vendor"));
	show_unreadable(json_object_get(gpu, "unreadable"));
	putchar('\n');
	json_array_foreach(methods, i, method) show_method(method);
}

static int gpu_show(struct cli *cli, int argc, char **argv)
{
	return cli_show_one(cli, argc, argv, "/v1/gpus/", "", gpu_print);
}

const struct verb verb_gpu_show = {.name = "gpu show",
	.args = "GPU",
	.summary = "One GPU, and how this node could give it to machines",
	.details = "For each method: possible, or why not, and behind -> what would make it so.",
	.run = gpu_show};
