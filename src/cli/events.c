/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <stdio.h>
#include <time.h>

static void print_event(const json_t *event)
{
	char vgpu[128], text[512], when[64];
	struct tm utc;
	time_t seconds = (time_t)(json_integer_value(json_object_get(event, "time_ms")) / 1000);

	gmtime_r(&seconds, &utc);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &utc);
	cli_value(json_object_get(event, "vgpu"), vgpu, sizeof(vgpu));
	cli_value(json_object_get(event, "text"), text, sizeof(text));
	printf("%s  %s  %s\n", when, vgpu, text);
}

static int events(struct cli *cli, int argc, char **argv)
{
	bool follow = false;
	const struct cli_option options[] = {{"follow", NULL, &follow}, {0}};
	struct cli_words words;
	struct cli_reply reply;
	struct error err;
	char path[128] = "/v1/events";

	int r = cli_parse(cli, argc, argv, options, 0, 0, &words, NULL);
	if (CLI_PARSE_FAILED(r))
		return CLI_PARSE_STATUS(r);
	for (json_int_t after = 0;;) {
		size_t i;
		const json_t *event;
		if (cli_call(cli, "GET", path, NULL, &reply, &err) < 0)
			return cli_fail(&err);
		if (cli->json && !follow)
			cli_print_json(reply.json);
		json_array_foreach(reply.json, i, event)
		{
			after = json_integer_value(json_object_get(event, "number"));
			if (!cli->json)
				print_event(event);
			else if (follow)
				cli_print_json(event);
		}
		cli_reply_finish(&reply);
		fflush(stdout);
		if (!follow)
			return CLI_OK;
		snprintf(
			path, sizeof(path), "/v1/events?wait=1&after=%" JSON_INTEGER_FORMAT, after);
	}
}

const struct verb verb_events = {.name = "events",
	.args = "[--follow]",
	.summary = "What happened lately",
	.details = "The last 256, with the time in UTC.\n"
		   "--follow  goes on with what happens, until it is interrupted",
	.run = events};
