/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

static void print_check(const json_t *json)
{
	const char *verdict = json_string_value(json_object_get(json, "verdict"));
	const char *name = json_string_value(json_object_get(json, "name"));
	const json_t *reason;
	size_t i;

	printf("%s: saving it now would be %s\n", name ?: "?", verdict ?: "?");
	json_array_foreach(json_object_get(json, "reasons"), i, reason)
		printf("%-8s %s\n", json_string_value(json_object_get(reason, "verdict")) ?: "?",
			json_string_value(json_object_get(reason, "text")) ?: "?");
}

static int check(struct cli *cli, int argc, char **argv)
{
	return cli_show_one(cli, argc, argv, "/v1/vgpus/", "/check", print_check);
}

const struct verb verb_check = {.name = "check",
	.args = "NAME",
	.summary = "Says what moving or saving a vGPU would lose now",
	.details = "fine: nothing. lossy: what, and why. refused: why it would not be done at all.",
	.run = check};
