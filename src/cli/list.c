/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include "base/checked.h"

static int list(struct cli *cli, int argc, char **argv)
{
	static const struct cli_column columns[] = {{"NAME", "name"}, {"GPU", "gpu"},
		{"TYPE", "type"}, {"METHOD", "method"}, {"TENANT", "tenant"}, {"STATE", "state"},
		{"PID", "pid"}, {"USED MiB", "vram_used_mib"}, {"VRAM MiB", "vram_mib"},
		{"BOUND TO", "bound_to"}, {"RENDERER", "renderer"}};
	struct cli_words words;

	int r = cli_parse(cli, argc, argv, NULL, 0, 0, &words, NULL);
	if (CLI_PARSE_FAILED(r))
		return CLI_PARSE_STATUS(r);
	return cli_get_table(cli, "/v1/vgpus", columns, ARRAY_SIZE(columns));
}

const struct verb verb_list = {.name = "list",
	.args = "",
	.summary = "All vGPUs",
	.details = "`vgpuctl show NAME` says more of one.",
	.run = list};
