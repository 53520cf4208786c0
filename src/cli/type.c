/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include "base/checked.h"

static int type_list(struct cli *cli, int argc, char **argv)
{
	static const struct cli_column columns[] = {{"NAME", "name"}, {"GPU", "gpu"},
		{"VRAM MiB", "vram_mib"}, {"MAX", "max_instances"},
		{"AVAILABLE", "available_instances"}, {"WIDTH", "max_width"},
		{"HEIGHT", "max_height"}, {"HEADS", "heads"}};
	struct cli_words words;
	char path[512] = "/v1/types";

	int r = cli_parse(cli, argc, argv, NULL, 0, 1, &words, NULL);
	if (CLI_PARSE_FAILED(r))
		return CLI_PARSE_STATUS(r);
	if (words.count && !cli_path(path, sizeof(path), "/v1/types?gpu=", words.word[0], ""))
		return cli_usage(cli);
	return cli_get_table(cli, path, columns, ARRAY_SIZE(columns));
}

const struct verb verb_type_list = {.name = "type list",
	.args = "[GPU]",
	.summary = "What each GPU offers, and how many more fit",
	.details = "GPU-MIB: a share, for emulate and forward. GPU-passthrough: the whole of it. "
		   "Others "
		   "are\nslices that its driver makes, or from the configuration.",
	.run = type_list};
