/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

static int delete_vgpu(struct cli *cli, int argc, char **argv)
{
	bool force = false;
	const struct cli_option options[] = {{"force", NULL, &force}, {0}};
	struct cli_words words;
	struct cli_reply reply;
	struct error err;
	char path[512];

	int r = cli_parse(cli, argc, argv, options, 1, 1, &words, NULL);
	if (CLI_PARSE_FAILED(r))
		return CLI_PARSE_STATUS(r);
	if (!cli_path(path, sizeof(path), "/v1/vgpus/", words.word[0], force ? "?force=1" : ""))
		return cli_usage(cli);
	if (cli_call(cli, "DELETE", path, NULL, &reply, &err) < 0)
		return cli_fail(&err);
	if (cli->json)
		cli_print_json(reply.json);
	cli_reply_finish(&reply);
	return CLI_OK;
}

const struct verb verb_delete = {.name = "delete",
	.args = "NAME [--force]",
	.summary = "Deletes a vGPU",
	.details =
		"Refused while something holds it, unless --force, which takes it away from that. "
		"A VM\nthat owns hardware has to be shut down first; its GPU is then emptied, and "
		"the\ndeletion refused if that cannot be done (`vgpuctl gpu release`).",
	.run = delete_vgpu};
