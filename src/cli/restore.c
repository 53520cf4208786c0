/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static int restore(struct cli *cli, int argc, char **argv)
{
	bool progress = false;
	const struct cli_option options[] = {{"progress", NULL, &progress}, {0}};
	struct cli_words words;
	struct cli_reply reply;
	struct error err;
	char path[512], did[512];

	int r = cli_parse(cli, argc, argv, options, 2, 2, &words, NULL);
	if (CLI_PARSE_FAILED(r))
		return CLI_PARSE_STATUS(r);
	const char *name = words.word[0], *file = words.word[1];
	if (!cli_path(path, sizeof(path), "/v1/vgpus/", name, "/restore"))
		return cli_usage(cli);
	FILE *from = strcmp(file, "-") ? fopen(file, "re") : stdin;
	if (!from) {
		error_set(&err, errno, "restore %.64s: %s: %s (give a file that can be read)", name,
			file, strerror(errno));
		return cli_fail(&err);
	}
	struct cli_transfer transfer = {
		.upload = from, .progress_of = progress || isatty(STDERR_FILENO) ? name : NULL};
	r = cli_call_long(cli, "POST", path, NULL, &transfer, &reply, &err);
	if (from != stdin)
		fclose(from);
	if (r < 0)
		return cli_fail(&err);
	snprintf(did, sizeof(did), "%.64s is as in %.400s", name, file);
	r = cli_print_result(cli, did, &reply);
	cli_reply_finish(&reply);
	return r;
}

const struct verb verb_restore = {.name = "restore",
	.args = "NAME FILE [--progress]",
	.summary = "Loads a state from a file into a vGPU",
	.details =
		"For a vGPU that nothing holds, to look at the state: its screens, or a snapshot\n"
		"of it from another GPU. No guest or client takes it up, and it goes when the "
		"next\n"
		"one leaves. FILE - is standard input.",
	.run = restore};
