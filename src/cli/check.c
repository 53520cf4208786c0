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
	struct cli_words words;
	struct cli_reply reply;
	struct error err;
	char path[512];

	int r = cli_parse(cli, argc, argv, NULL, 1, 1, &words, NULL);
	if (CLI_PARSE_FAILED(r))
		return CLI_PARSE_STATUS(r);
	if (!cli_path(path, sizeof(path), "/v1/vgpus/", words.word[0], "/check"))
		return cli_usage(cli);
	if (cli_call(cli, "GET", path, NULL, &reply, &err) < 0)
		return cli_fail(&err);
	if (cli->json)
		cli_print_json(reply.json);
	else
		print_check(reply.json);
	cli_reply_finish(&reply);
	return CLI_OK;
}

const struct verb verb_check = {.name = "check",
	.args = "NAME",
	.summary = "Says what moving or saving a vGPU would lose now",
	.details = "fine: nothing. lossy: what, and why. refused: why it would not be done at all.",
	.run = check};
