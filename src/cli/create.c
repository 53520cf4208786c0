/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <stdio.h>

static int create(struct cli *cli, int argc, char **argv)
{
	const char *gpu = NULL, *type = NULL, *method = NULL, *tenant = NULL;
	const struct cli_option options[] = {{"gpu", &gpu, NULL}, {"type", &type, NULL},
		{"method", &method, NULL}, {"tenant", &tenant, NULL}, {0}};
	struct cli_words words;
	struct cli_reply reply;
	struct error err;

	int r = cli_parse(cli, argc, argv, options, 1, 1, &words, NULL);
	if (CLI_PARSE_FAILED(r))
		return CLI_PARSE_STATUS(r);
	if (!gpu || !type)
		return cli_usage(cli);
	json_t *body =
		json_pack("{s:s, s:s, s:s}", "name", words.word[0], "gpu", gpu, "type", type);
	if (body && method)
		json_object_set_new(body, "method", json_string(method));
	if (body && tenant)
		json_object_set_new(body, "tenant", json_string(tenant));
	if (!body) {
		error_set(&err, 0, "create: names are UTF-8 text (choose another name)");
		return cli_fail(&err);
	}
	if (cli_call(cli, "POST", "/v1/vgpus", body, &reply, &err) < 0)
		return cli_fail(&err);
	if (cli->json)
		cli_print_json(reply.json);
	else
		printf("%s is ready: %s\n", words.word[0],
			json_string_value(json_object_get(reply.json, "renderer")) ?: "?");
	cli_reply_finish(&reply);
	return CLI_OK;
}

const struct verb verb_create = {.name = "create",
	.args = "NAME --gpu GPU --type TYPE [--method M] [--tenant T]",
	.summary = "Creates a vGPU and waits until it is ready",
	.details =
		"METHOD is forward, which is the default and offers all that the GPU can do, or "
		"emulate,\n"
		"which offers what can be saved exactly, so that it can always be moved and "
		"saved.\n"
		"vGPUs of one tenant share what their drivers compiled, so that a program need not "
		"compile\n"
		"its shaders on each of them; give it to all vGPUs of one customer, and to no "
		"others'. Without\n"
		"one, each user's programs have their own on this vGPU, and VMs none.",
	.run = create};
