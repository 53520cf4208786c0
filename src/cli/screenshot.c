/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int write_file(const char *path, const struct cli_reply *reply, struct error *err)
{
	FILE *f = strcmp(path, "-") ? fopen(path, "we") : stdout;

	if (!f)
		return error_set(err, errno, "screenshot: %s: %s (choose another file)", path,
			strerror(errno));
	bool good = fwrite(reply->body, 1, reply->size, f) == reply->size;
	good &= (f == stdout ? fflush(f) : fclose(f)) == 0;
	if (!good) {
		int code = errno;
		if (f != stdout)
			remove(path); /* half a picture is none */
		return error_set(
			err, code, "screenshot: %s: %s (free some space)", path, strerror(code));
	}
	return 0;
}

static int screenshot(struct cli *cli, int argc, char **argv)
{
	const char *head = "0";
	const struct cli_option options[] = {{"head", &head, NULL}, {0}};
	struct cli_words words;
	struct cli_reply reply;
	struct error err;
	char path[512], tail[64];

	int r = cli_parse(cli, argc, argv, options, 2, 2, &words, NULL);
	if (CLI_PARSE_FAILED(r))
		return CLI_PARSE_STATUS(r);
	if (!*head || head[strspn(head, "0123456789")] || strlen(head) > 4)
		return cli_usage(cli);
	snprintf(tail, sizeof(tail), "/screenshot?head=%.8s", head);
	if (!cli_path(path, sizeof(path), "/v1/vgpus/", words.word[0], tail))
		return cli_usage(cli);
	if (cli_call(cli, "GET", path, NULL, &reply, &err) < 0)
		return cli_fail(&err);
	r = write_file(words.word[1], &reply, &err);
	cli_reply_finish(&reply);
	return r < 0 ? cli_fail(&err) : CLI_OK;
}

const struct verb verb_screenshot = {.name = "screenshot",
	.args = "NAME FILE.png [--head N]",
	.summary = "Writes what a vGPU's screen shows",
	.details = "FILE - is standard output. Heads count from 0.",
	.run = screenshot};
