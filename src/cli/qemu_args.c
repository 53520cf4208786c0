/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

/* One word for a shell. */
static void print_word(const char *word, bool first)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
				    "_-+=:,./@%";

	if (!first)
		putchar(' ');
	if (*word && !word[strspn(word, plain)]) {
		fputs(word, stdout);
		return;
	}
	putchar('\'');
	for (; *word; word++)
		fputs(*word == '\'' ? "'\\''" : (char[]){*word, 0}, stdout);
	putchar('\'');
}

static int qemu_args(struct cli *cli, int argc, char **argv)
{
	bool vga = false;
	const char *memory = NULL;
	const struct cli_option options[] = {{"vga", NULL, &vga}, {"memory", &memory, NULL}, {0}};
	struct cli_words words;
	struct cli_reply reply;
	struct error err;
	char path[512], tail[256], query[64];
	size_t i;
	const json_t *arg;

	int r = cli_parse(cli, argc, argv, options, 1, 1, &words, NULL);
	if (CLI_PARSE_FAILED(r))
		return CLI_PARSE_STATUS(r);
	snprintf(query, sizeof(query), "/qemu-args?vga=%d%s", vga, memory ? "&memory=" : "");
	if (!cli_path(tail, sizeof(tail), query, memory ?: "", "") ||
		!cli_path(path, sizeof(path), "/v1/vgpus/", words.word[0], tail))
		return cli_usage(cli);
	if (cli_call(cli, "GET", path, NULL, &reply, &err) < 0)
		return cli_fail(&err);
	if (cli->json) {
		cli_print_json(reply.json);
	} else {
		json_array_foreach(json_object_get(reply.json, "args"), i, arg)
			print_word(json_string_value(arg) ?: "", i == 0);
		putchar('\n');
		const char *note = json_string_value(json_object_get(reply.json, "note"));
		fflush(stdout);
		if (note)
			fprintf(stderr, "# %s\n", note);
	}
	cli_reply_finish(&reply);
	return CLI_OK;
}

const struct verb verb_qemu_args = {.name = "qemu-args",
	.args = "NAME [--vga] [--memory SIZE]",
	.summary = "Arguments that give the vGPU to a stock QEMU",
	.details =
		"With mediate and passthrough these are VFIO devices, and the options mean "
		"nothing.\n\n"
		"--vga          a boot screen too (vhost-user-vga)\n"
		"--memory SIZE  also the shared memory that the guest needs; SIZE as in QEMU's -m",
	.run = qemu_args};
