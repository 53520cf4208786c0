/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

static int show(struct cli *cli, int argc, char **argv)
{
	struct cli_words words;
	char path[512];

	int r = cli_parse(cli, argc, argv, NULL, 1, 1, &words, NULL);
	if (CLI_PARSE_FAILED(r))
		return CLI_PARSE_STATUS(r);
	if (!cli_path(path, sizeof(path), "/v1/vgpus/", words.word[0], ""))
		return cli_usage(cli);
	return cli_get_object(cli, path);
}

const struct verb verb_show = {.name = "show",
	.args = "NAME",
	.summary = "One vGPU",
	.details = "A failed vGPU says why; its next use starts a new device process, at most "
		   "three a\n"
		   "minute. The states are in vgpuctl(1).",
	.run = show};
