/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include "base/checked.h"

#include <string.h>
#include <time.h>

static long long field(const json_t *json, const char *key)
{
	return json_integer_value(json_object_get(json, key));
}

static const char *word(const json_t *json, const char *key)
{
	return json_string_value(json_object_get(json, key)) ?: "-";
}

static void print_size(const char *label, const json_t *node, const char *key, const char *note)
{
	printf("%-16s %8lld MiB%s%s\n", label, field(node, key), *note ? "  " : "", note);
}

/* "14:03:07", UTC; "-": never */
static void verified_at(const json_t *vm, char *ret, size_t size)
{
	time_t seconds = (time_t)(field(vm, "verified_ms") / 1000);
	struct tm tm;

	snprintf(ret, size, "-");
	if (seconds && gmtime_r(&seconds, &tm))
		strftime(ret, size, "%H:%M:%S", &tm);
}

static void print_vms(const json_t *vms, const char *title)
{
	const json_t *vm;
	char at[32];
	size_t i;

	if (!json_array_size(vms))
		return;
	printf("\n%-32s %-12s %-10s %10s %10s %-9s %6s %s\n", title, "KIND", "VGPU", "MiB",
		"LOCKED", "STATE", "HOLES", "VERIFIED");
	json_array_foreach(vms, i, vm)
	{
		verified_at(vm, at, sizeof(at));
		printf("%-32.32s %-12s %-10s %10lld %10lld %-9s %6lld %s\n", word(vm, "vm"),
			word(vm, "kind"), word(vm, "vgpu"), field(vm, "memory_mib"),
			field(vm, "locked_mib"), word(vm, "state"), field(vm, "holes"), at);
	}
}

static void print_ksm(const json_t *node)
{
	const json_t *ksm = json_object_get(node, "ksm");
	bool running = json_is_true(json_object_get(ksm, "running"));

	if (!json_is_true(json_object_get(ksm, "present"))) {
		printf("%-16s not in this kernel, or not to be read\n", "KSM");
		return;
	}
	printf("%-16s %s, run=%lld", "KSM", running ? "running" : "stopped", field(ksm, "run"));
	if (json_is_true(json_object_get(ksm, "changed_by_hand")))
		printf(", by somebody else");
	else if (json_is_true(json_object_get(ksm, "switched_by_vgpud")))
		printf(", started by vgpud (was %lld)", field(ksm, "run_before"));
	printf("; %lld pages shared, %lld saved, %lld alone; %lld pages every %lld ms\n",
		field(ksm, "pages_shared"), field(ksm, "pages_sharing"),
		field(ksm, "pages_unshared"), field(ksm, "pages_to_scan"),
		field(ksm, "sleep_millisecs"));
}

static void print_node(const json_t *node)
{
	const json_t *rule;
	size_t i;
	bool off = !strcmp(word(node, "overcommit"), "off");

	print_size("memory", node, "memory_mib", "");
	print_size("available", node, "available_mib", "");
	print_size("kept free", node, "keep_free_mib", "");
	print_size("reserved", node, "reserved_mib", "by VMs whose memory is locked or pinned");
	print_size("promised", node, "promised_mib", "of that not resident yet");
	print_size("known VMs", node, "known_vms_mib", "");
	print_size("over-committed", node, "overcommitted_mib", "");
	print_size("merged", node, "merged_mib", "saved by KSM now");
	printf("%-16s %s%s\n", "over-commit", word(node, "overcommit"),
		off ? ": no VM's memory is locked" : "");
	print_ksm(node);
	print_vms(json_object_get(node, "vgpu_vms"), "VM WITH A VGPU");
	print_vms(json_object_get(node, "vms"), "OTHER VM");
	printf("\n");
	json_array_foreach(json_object_get(node, "rules"), i, rule)
	{
		printf("%s: %s.\n", word(rule, "rule"), word(rule, "text"));
	}
}

static int node_show(struct cli *cli, int argc, char **argv)
{
	struct cli_words words;

	int r = cli_parse(cli, argc, argv, NULL, 0, 0, &words, NULL);
	if (CLI_PARSE_FAILED(r))
		return CLI_PARSE_STATUS(r);
	return cli_get(cli, "/v1/node", print_node);
}

static void print_turned(const json_t *node, bool on)
{
	const json_t *vm, *ksm = json_object_get(node, "ksm");
	long long locked = 0;
	size_t i;

	json_array_foreach(json_object_get(node, "vgpu_vms"), i, vm)
	{
		locked += field(vm, "locked_mib");
	}
	size_t n = json_array_size(json_object_get(node, "vgpu_vms"));
	if (on)
		printf("over-commit is on: KSM runs%s; %zu VM%s with a vGPU, %lld MiB of memory "
		       "locked\n",
			json_is_true(json_object_get(ksm, "switched_by_vgpud"))
				? ""
				: " (somebody else had started it)",
			n, n == 1 ? "" : "s", locked);
	else
		printf("over-commit is off: nothing is locked%s\n",
			json_is_true(json_object_get(ksm, "running"))
				? "; KSM runs on, for somebody else had started it"
			: field(ksm, "run") == 2 ? ", and KSM is stopped and unmerged"
						 : ", and KSM was stopped by somebody else");
}

static int node_overcommit(struct cli *cli, int argc, char **argv)
{
	const struct cli_transfer nothing = {0}; /* locking takes its time */
	struct cli_words words;
	struct cli_reply reply;
	struct error err;

	int r = cli_parse(cli, argc, argv, NULL, 1, 1, &words, NULL);
	if (CLI_PARSE_FAILED(r))
		return CLI_PARSE_STATUS(r);
	bool on = !strcmp(words.word[0], "on");
	if (!on && strcmp(words.word[0], "off") != 0)
		return cli_usage(cli);
	json_t *body = json_pack("{s:b}", "on", on);
	if (cli_call_long(cli, "POST", "/v1/node/overcommit", body, &nothing, &reply, &err) < 0)
		return cli_fail(&err);
	if (cli->json)
		cli_print_json(reply.json);
	else
		print_turned(reply.json, on);
	cli_reply_finish(&reply);
	return CLI_OK;
}

const struct verb verb_node_show = {.name = "node show",
	.args = "",
	.summary = "The node's memory: whose it is, over-commit, KSM",
	.details = "MiB. VERIFIED is the time (UTC) at which all pages were looked at.",
	.run = node_show};

const struct verb verb_node_overcommit = {.name = "node overcommit",
	.args = "on|off",
	.summary = "Turns the node's memory over-commit (KSM)",
	.details =
		"on: locks the memory of all VMs that hold a vGPU, then starts KSM; refused, "
		"naming "
		"them,\nwhen one cannot be locked. From then on a vGPU serves a VM only when all "
		"of "
		"that VM's\nmemory is resident and locked. KSM merges private anonymous memory "
		"that "
		"asked for it,\nnever shared memory, so never that of a VM with an emulated or "
		"forwarded vGPU.\n"
		"off: unmerges, if there is memory for it, and locks nothing any more. If KSM ran "
		"before\nvgpud turned it on, it runs on.\n"
		"For root and vgpud's own user.",
	.run = node_overcommit};
