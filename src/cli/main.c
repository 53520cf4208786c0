/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include "base/checked.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define X(name) &verb_##name,
static const struct verb *const verbs[] = {CLI_VERBS(X)};
#undef X

int cli_fail(const struct error *err)
{
	fflush(stdout);
	fprintf(stderr, "vgpuctl: %s\n", err->text);
	return CLI_FAILED;
}

int cli_usage(const struct cli *cli)
{
	fprintf(stderr, "usage: vgpuctl %s%s%s\n", cli->verb->name, *cli->verb->args ? " " : "",
		cli->verb->args);
	return CLI_USAGE;
}

static void print_help(const struct verb *verb)
{
	printf("usage: vgpuctl [--socket PATH] [--json] %s%s%s\n\n%s.\n", verb->name,
		*verb->args ? " " : "", verb->args, verb->summary);
	if (*verb->details)
		printf("\n%s\n", verb->details);
}

static void print_overview(FILE *out)
{
	fprintf(out, "usage: vgpuctl [--socket PATH] [--json] VERB [ARGUMENTS]\n\n");
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		fprintf(out, "  %-15s %s\n", verbs[i]->name, verbs[i]->summary);
	fprintf(out, "\n`vgpuctl VERB --help` says more. VGPUD_SOCKET names vgpud's socket.\n");
}

/* "--NAME VALUE" or "--NAME=VALUE" at argv[*at]: the value, NULL when it is missing. */
static const char *option_value(int argc, char **argv, int *at, size_t name_len)
{
	const char *rest = argv[*at] + 2 + name_len;

	if (*rest == '=')
		return rest + 1;
	return *at + 1 < argc ? argv[++*at] : NULL;
}

static bool option_is(const char *arg, const char *name)
{
	size_t len = strlen(name);
	return !strncmp(arg, "--", 2) && !strncmp(arg + 2, name, len) &&
	       (!arg[2 + len] || arg[2 + len] == '=');
}

/* 0: taken; -1: help was printed; -2: wrong. */
static int parse_option(
	struct cli *cli, int argc, char **argv, int *at, const struct cli_option *options)
{
	const struct cli_option common[] = {
		{"json", NULL, &cli->json}, {"socket", &cli->socket, NULL}, {0}};
	const struct cli_option *sets[] = {common, options};
	const char *arg = argv[*at];

	if (!strcmp(arg, "--help")) {
		print_help(cli->verb);
		return -1;
	}
	for (size_t s = 0; s < ARRAY_SIZE(sets); s++) {
		for (const struct cli_option *o = sets[s]; o && o->name; o++) {
			if (!option_is(arg, o->name))
				continue;
			if (!o->value) {
				if (o->flag)
					*o->flag = true;
				return strchr(arg, '=') ? -2 : 0;
			}
			if (*o->value && o[1].name && !strcmp(o[1].name, o->name))
				continue;
			*o->value = option_value(argc, argv, at, strlen(o->name));
			return *o->value ? 0 : -2;
		}
	}
	return -2;
}

int cli_parse(struct cli *cli, int argc, char **argv, const struct cli_option *options,
	int least_words, int most_words, struct cli_words *ret, int *ret_rest)
{
	int i = 0;

	*ret = (struct cli_words){0};
	for (; i < argc; i++) {
		if (!strcmp(argv[i], "--")) {
			i++;
			break;
		}
		if (!strncmp(argv[i], "--", 2)) {
			int r = parse_option(cli, argc, argv, &i, options);
			if (r == -1)
				return -CLI_OK - 1;
			if (r == -2) {
				fprintf(stderr,
					"vgpuctl: %s: unknown option, or its value is missing\n",
					argv[MIN(i, argc - 1)]);
				return -cli_usage(cli) - 1;
			}
		} else if (ret->count < MIN(most_words, CLI_WORDS)) {
			ret->word[ret->count++] = argv[i];
		} else if (ret_rest) {
			break; /* a command needs no "--" before it */
		} else {
			return -cli_usage(cli) - 1;
		}
	}
	if (ret_rest)
		*ret_rest = i;
	if (ret->count < least_words || (!ret_rest && i < argc))
		return -cli_usage(cli) - 1;
	return 0;
}

/* The verb at argv[0] (and argv[1]); how many words its name has. */
static const struct verb *find_verb(int argc, char **argv, int *ret_words)
{
	char two[64] = "";

	if (argc > 1)
		snprintf(two, sizeof(two), "%.30s %.30s", argv[0], argv[1]);
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		*ret_words = strchr(verbs[i]->name, ' ') ? 2 : 1;
		if (!strcmp(verbs[i]->name, *ret_words == 2 ? two : argv[0]))
			return verbs[i];
	}
	return NULL;
}

/* The options before the verb. -1: go on at *ret_next; else the exit status. */
static int parse_global(struct cli *cli, int argc, char **argv, int *ret_next)
{
	int i = 1;

	for (; i < argc && !strncmp(argv[i], "--", 2); i++) {
		if (!strcmp(argv[i], "--help")) {
			print_overview(stdout);
			return CLI_OK;
		}
		if (!strcmp(argv[i], "--version")) {
			printf("vgpuctl %s\n", VGPUD_VERSION);
			return CLI_OK;
		}
		if (!strcmp(argv[i], "--json")) {
			cli->json = true;
		} else if (option_is(argv[i], "socket")) {
			cli->socket = option_value(argc, argv, &i, strlen("socket"));
			if (!cli->socket)
				break;
		} else {
			break;
		}
	}
	*ret_next = i;
	if (i < argc && argv[i] && strncmp(argv[i], "--", 2) != 0)
		return -1;
	print_overview(stderr);
	return CLI_USAGE;
}

static void no_such_verb(int argc, char **argv)
{
	size_t len = strlen(argv[0]);
	bool begins = false; /* a verb of two words */

	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		begins |= !strncmp(verbs[i]->name, argv[0], len) && verbs[i]->name[len] == ' ';
	if (begins && argc < 2)
		fprintf(stderr, "vgpuctl: %s: a second word is missing (see `vgpuctl --help`)\n",
			argv[0]);
	else
		fprintf(stderr, "vgpuctl: %s%s%s: there is no such verb (see `vgpuctl --help`)\n",
			argv[0], begins ? " " : "", begins ? argv[1] : "");
}

int main(int argc, char **argv)
{
	struct cli cli = {0};
	char socket[256];
	int at = 0, words = 0;

	int r = parse_global(&cli, argc, argv, &at);
	if (r >= 0)
		return r;
	if (!strcmp(argv[at], "help")) {
		print_overview(stdout);
		return CLI_OK;
	}
	cli.verb = find_verb(argc - at, argv + at, &words);
	if (!cli.verb) {
		no_such_verb(argc - at, argv + at);
		return CLI_USAGE;
	}
	cli_socket_path(cli.socket, socket, sizeof(socket));
	cli.socket = socket;
	curl_global_init(CURL_GLOBAL_NOTHING);
	r = cli.verb->run(&cli, argc - at - words, argv + at + words);
	curl_global_cleanup();
	if (fflush(stdout) != 0 && r == CLI_OK) {
		fprintf(stderr, "vgpuctl: output: it cannot be written (free some space)\n");
		return CLI_FAILED;
	}
	return r;
}
