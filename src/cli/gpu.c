/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include "base/checked.h"

static int gpu_list(struct cli *cli, int argc, char **argv)
{
	static const struct cli_column columns[] = {{"NAME", "name"}, {"KIND", "kind"},
		{"DRIVER", "driver"}, {"PCI", "pci_address"}, {"STATE", "state"},
		{"METHOD", "method"}, {"TYPE", "type"}, {"VRAM MiB", "vram_mib"},
		{"FREE MiB", "vram_free_mib"}, {"VGPUS", "vgpus"}, {"POLICY", "policy"}};
	struct cli_words words;

	int r = cli_parse(cli, argc, argv, NULL, 0, 0, &words, NULL);
	if (CLI_PARSE_FAILED(r))
		return CLI_PARSE_STATUS(r);
	return cli_get_table(cli, "/v1/gpus", columns, ARRAY_SIZE(columns));
}

static int gpu_show(struct cli *cli, int argc, char **argv)
{
	struct cli_words words;
	char path[512];

	int r = cli_parse(cli, argc, argv, NULL, 1, 1, &words, NULL);
	if (CLI_PARSE_FAILED(r))
		return CLI_PARSE_STATUS(r);
	if (!cli_path(path, sizeof(path), "/v1/gpus/", words.word[0], ""))
		return cli_usage(cli);
	return cli_get_object(cli, path);
}

const struct verb verb_gpu_list = {.name = "gpu list",
	.args = "",
	.summary = "The GPUs of this node",
	.details = "",
	.run = gpu_list};

const struct verb verb_gpu_show = {
	.name = "gpu show", .args = "GPU", .summary = "One GPU", .details = "", .run = gpu_show};
