/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/inspect.h"

#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static json_int_t number(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

static const char *text(const json_t *object, const char *key)
{
	const char *s = json_string_value(json_object_get(object, key));
	return s ? s : "?";
}

static void print_contexts(const json_t *contexts)
{
	const json_t *context;
	const char *name;
	json_t *count;
	size_t i;

	json_array_foreach(contexts, i, context)
	{
		printf("context %lld of client %lld: %s%s, %lld resources, %lld sub-contexts, %lld "
		       "queries\n ",
			(long long)number(context, "handle"), (long long)number(context, "client"),
			text(context, "name"),
			json_is_true(json_object_get(context, "lost")) ? " (lost)" : "",
			(long long)number(context, "resources"),
			(long long)number(context, "sub_contexts"),
			(long long)number(context, "queries"));
		json_object_foreach(json_object_get(context, "objects"), name, count)
			printf(" %s %lld", name, (long long)json_integer_value(count));
		putchar('\n');
	}
}

static void print_state(const json_t *state)
{
	static const struct cli_column columns[] = {{"ID", "id"}, {"CLIENT", "client"},
		{"HANDLE", "handle"}, {"TARGET", "target"}, {"FORMAT", "format"},
		{"WIDTH", "width"}, {"HEIGHT", "height"}, {"DEPTH", "depth"}, {"LAYERS", "layers"},
		{"LEVELS", "levels"}, {"SAMPLES", "samples"}, {"BYTES", "content_bytes"},
		{"CONTENT", "content"}};
	const json_t *device = json_object_get(state, "device"), *item;
	char size[24];
	size_t i;

	printf("made by %s, vgpud %s\n", text(state, "renderer"), text(state, "program_version"));
	cli_bytes((double)number(state, "payload_bytes"), size, sizeof(size));
	printf("%s; a vGPU of %lld MiB, %lld heads of at most %lldx%lld\n", size,
		(long long)number(device, "vram_mib"), (long long)number(device, "heads"),
		(long long)number(device, "max_width"), (long long)number(device, "max_height"));
	json_array_foreach(json_object_get(state, "clients"), i, item)
		printf("client %lld: %s\n", (long long)number(item, "id"), text(item, "name"));
	print_contexts(json_object_get(state, "contexts"));
	json_array_foreach(json_object_get(state, "lossy"), i, item)
		printf("lossy: %s\n", json_string_value(item));
	if (number(state, "malformed_sections"))
		printf("%lld sections are not as they should be: it will be refused\n",
			(long long)number(state, "malformed_sections"));
	if (json_object_get(state, "pictures"))
		printf("%lld pictures\n", (long long)number(state, "pictures"));
	if (json_array_size(json_object_get(state, "resources")))
		cli_print_table(json_object_get(state, "resources"), columns,
			sizeof(columns) / sizeof(*columns));
}

static int inspect(struct cli *cli, int argc, char **argv)
{
	const char *png = NULL;
	const struct cli_option options[] = {{"png", &png, NULL}, {0}};
	struct cli_words words;
	struct error err;
	json_t *state = NULL;

	int r = cli_parse(cli, argc, argv, options, 1, 1, &words, NULL);
	if (CLI_PARSE_FAILED(r))
		return CLI_PARSE_STATUS(r);
	const char *file = words.word[0];
	int fd = strcmp(file, "-") ? open(file, O_RDONLY | O_CLOEXEC) : STDIN_FILENO;
	if (fd < 0) {
		error_set(&err, errno, "inspect: %.200s: %s (give a file that can be read)", file,
			strerror(errno));
		return cli_fail(&err);
	}
	r = inspect_read(fd, file, png, &state, &err);
	if (fd != STDIN_FILENO)
		close(fd);
	if (r < 0)
		return cli_fail(&err);
	if (cli->json)
		cli_print_json(state);
	else
		print_state(state);
	json_decref(state);
	return CLI_OK;
}

const struct verb verb_inspect = {.name = "inspect",
	.args = "FILE [--png DIR]",
	.summary = "Says what a saved state holds",
	.details = "Needs no vgpud. --png writes level 0 of each texture of a common format into "
		   "DIR,\n"
		   "as resource-ID.png. FILE - is standard input.",
	.run = inspect};
