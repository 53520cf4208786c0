/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include "base/checked.h"

static int stats(struct cli *cli, int argc, char **argv)
{
	static const struct cli_column columns[] = {{"NAME", "name"}, {"STATE", "state"},
		{"VRAM USED", "vram_used_bytes"}, {"VRAM LIMIT", "vram_limit_bytes"},
		{"CLIENTS", "clients"}, {"CONTEXTS", "contexts"}, {"RESOURCES", "resources"},
		{"SUBMITS", "submits_total"}, {"DRAWS", "draws_total"}, {"FRAMES", "frames_total"},
		{"REFUSED", "requests_refused_total"}};
	struct cli_words words;
	char path[512];

	int r = cli_parse(cli, argc, argv, NULL, 0, 1, &words, NULL);
	if (CLI_PARSE_FAILED(r))
		return CLI_PARSE_STATUS(r);
	if (!words.count)
		return cli_get_table(cli, "/v1/stats", columns, ARRAY_SIZE(columns));
	if (!cli_path(path, sizeof(path), "/v1/vgpus/", words.word[0], "/stats"))
		return cli_usage(cli);
	return cli_get_object(cli, path);
}

const struct verb verb_stats = {.name = "stats",
	.args = "[NAME]",
	.summary = "Counters of one vGPU or of all",
	.details = "",
	.run = stats};
