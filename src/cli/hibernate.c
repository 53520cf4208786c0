/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

static int operate(struct cli *cli, int argc, char **argv, const char *verb, const char *did_what)
{
	bool progress = false;
	const struct cli_option options[] = {{"progress", NULL, &progress}, {0}};
	struct cli_words words;
	struct cli_reply reply;
	struct error err;
	char did[160];

	int r = cli_parse(cli, argc, argv, options, 1, 1, &words, NULL);
	if (CLI_PARSE_FAILED(r))
		return CLI_PARSE_STATUS(r);
	if (cli_operate(cli, words.word[0], verb, NULL, progress, &reply, &err) < 0)
		return cli_fail(&err);
	snprintf(did, sizeof(did), "%.64s %s", words.word[0], did_what);
	r = cli_print_result(cli, did, &reply);
	cli_reply_finish(&reply);
	return r;
}

static int hibernate(struct cli *cli, int argc, char **argv)
{
	return operate(cli, argc, argv, "hibernate", "hibernates");
}

static int wake(struct cli *cli, int argc, char **argv)
{
	return operate(cli, argc, argv, "wake", "is awake");
}

const struct verb verb_hibernate = {.name = "hibernate",
	.args = "NAME [--progress]",
	.summary = "Saves a vGPU's state and ends its device process",
	.details =
		"Its GPU memory is free then. It wakes by itself when its guest does something;\n"
		"while its guest waits for an answer it does not hibernate, and says so.\n"
		"hibernate_idle_s in vgpud's configuration does this to vGPUs that are idle.",
	.run = hibernate};

const struct verb verb_wake = {.name = "wake",
	.args = "NAME [--progress]",
	.summary = "Wakes a vGPU from hibernation",
	.details = "Its next use does so by itself; where that failed, this tries again.",
	.run = wake};
