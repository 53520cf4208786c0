/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

static int move(struct cli *cli, int argc, char **argv)
{
	const char *gpu = NULL;
	bool exact = false, progress = false, at_once = false;
	const struct cli_option options[] = {{"gpu", &gpu, NULL}, {"exact", NULL, &exact},
		{"no-precopy", NULL, &at_once}, {"progress", NULL, &progress}, {0}};
	struct cli_words words;
	struct cli_reply reply;
	struct error err;
	char did[160];

	int r = cli_parse(cli, argc, argv, options, 1, 1, &words, NULL);
	if (CLI_PARSE_FAILED(r))
		return CLI_PARSE_STATUS(r);
	if (!gpu)
		return cli_usage(cli);
	json_t *body =
		json_pack("{s:s, s:b, s:b}", "gpu", gpu, "exact", exact, "precopy", !at_once);
	if (!body) {
		error_set(&err, 0, "move: names are UTF-8 text (see `vgpuctl gpu list`)");
		return cli_fail(&err);
	}
	if (cli_operate(cli, words.word[0], "move", body, progress, &reply, &err) < 0)
		return cli_fail(&err);
	snprintf(did, sizeof(did), "%.64s is on %.64s", words.word[0], gpu);
	r = cli_print_result(cli, did, &reply);
	cli_reply_finish(&reply);
	return r;
}

const struct verb verb_move = {.name = "move",
	.args = "NAME --gpu GPU [--exact] [--no-precopy] [--progress]",
	.summary = "Moves a vGPU to another GPU under its guest",
	.details = "For vGPUs of method emulate and forward. The same GPU is allowed: its device "
		   "process is\nreplaced by a new one.\n\n"
		   "--exact refuses rather than lose anything; emulated vGPUs never lose any.\n"
		   "--no-precopy copies nothing ahead: less work, a longer pause.\n"
		   "--progress says on standard error how it goes on, as on a terminal anyway.",
	.run = move};
