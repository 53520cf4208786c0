/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define COLUMNS_MAX 16
#define VALUE_MAX   512

#define TEXT_COLUMNS 80

void cli_value(const json_t *value, char *ret, size_t size)
{
	if (json_is_string(value))
		snprintf(ret, size, "%s", json_string_value(value));
	else if (json_is_integer(value))
		snprintf(ret, size, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
	else if (json_is_real(value))
		snprintf(ret, size, "%.3f", json_real_value(value));
	else if (json_is_boolean(value))
		snprintf(ret, size, "%s", json_is_true(value) ? "yes" : "no");
	else
		snprintf(ret, size, "-");
}

void cli_print_table(const json_t *array, const struct cli_column *columns, size_t n)
{
	size_t width[COLUMNS_MAX], row;
	char text[VALUE_MAX];
	const json_t *object;

	for (size_t c = 0; c < n; c++)
		width[c] = strlen(columns[c].title);
	json_array_foreach(array, row, object)
	{
		for (size_t c = 0; c < n; c++) {
			cli_value(json_object_get(object, columns[c].key), text, sizeof(text));
			if (strlen(text) > width[c])
				width[c] = strlen(text);
		}
	}
	/* The last column is not padded. */
	for (size_t c = 0; c < n; c++)
		printf("%-*s%s", c + 1 < n ? (int)width[c] : 0, columns[c].title,
			c + 1 < n ? "  " : "\n");
	json_array_foreach(array, row, object)
	{
		for (size_t c = 0; c < n; c++) {
			cli_value(json_object_get(object, columns[c].key), text, sizeof(text));
			printf("%-*s%s", c + 1 < n ? (int)width[c] : 0, text,
				c + 1 < n ? "  " : "\n");
		}
	}
}

void cli_print_wrapped(const char *s, size_t at, size_t indent)
{
	size_t column = at;

	while (*(s += strspn(s, " "))) {
		size_t len = strcspn(s, " ");
		if (column > at && column + 1 + len > TEXT_COLUMNS) {
			printf("\n%*s", (int)indent, "");
			column = at = indent;
		} else if (column > at) {
			putchar(' ');
			column++;
		}
		printf("%.*s", (int)len, s);
		column += len;
		s += len;
	}
	putchar('\n');
}

static void print_object(const json_t *object)
{
	size_t width = 0;
	const char *key;
	const json_t *value;
	char text[VALUE_MAX];

	json_object_foreach((json_t *)(uintptr_t)object, key, value)
	{
		if (strlen(key) > width)
			width = strlen(key);
	}
	json_object_foreach((json_t *)(uintptr_t)object, key, value)
	{
		cli_value(value, text, sizeof(text));
		printf("%-*s  %s\n", (int)width, key, text);
	}
}

int cli_print_json(const json_t *json)
{
	json_dumpf(json, stdout, JSON_INDENT(2));
	putchar('\n');
	return CLI_OK;
}

int cli_get_table(struct cli *cli, const char *path, const struct cli_column *columns, size_t n)
{
	struct cli_reply reply;
	struct error err;

	if (cli_call(cli, "GET", path, NULL, &reply, &err) < 0)
		return cli_fail(&err);
	if (cli->json)
		cli_print_json(reply.json);
	else
		cli_print_table(reply.json, columns, n);
	cli_reply_finish(&reply);
	return CLI_OK;
}

int cli_get(struct cli *cli, const char *path, void (*print)(const json_t *json))
{
	struct cli_reply reply;
	struct error err;

	if (cli_call(cli, "GET", path, NULL, &reply, &err) < 0)
		return cli_fail(&err);
	if (cli->json)
		cli_print_json(reply.json);
	else
		print(reply.json);
	cli_reply_finish(&reply);
	return CLI_OK;
}

int cli_get_object(struct cli *cli, const char *path)
{
	return cli_get(cli, path, print_object);
}

int cli_show_one(struct cli *cli, int argc, char **argv, const char *before, const char *tail,
	void (*print)(const json_t *json))
{
	struct cli_words words;
	char path[512];

	int r = cli_parse(cli, argc, argv, NULL, 1, 1, &words, NULL);
	if (CLI_PARSE_FAILED(r))
		return CLI_PARSE_STATUS(r);
	if (!cli_path(path, sizeof(path), before, words.word[0], tail))
		return cli_usage(cli);
	return cli_get(cli, path, print);
}
