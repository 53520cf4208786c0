/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <stdio.h>

static int create(struct cli *cli, int argc, char **argv)
{
	const char *gpu = NULL, *type = NULL, *method = NULL, *tenant = NULL, *owner = NULL;
	const struct cli_option options[] = {{"gpu", &gpu, NULL}, {"type", &type, NULL},
		{"method", &method, NULL}, {"tenant", &tenant, NULL}, {"owner", &owner, NULL}, {0}};
	struct cli_words words;
	struct cli_reply reply;
	struct error err;

	int r = cli_parse(cli, argc, argv, options, 1, 1, &words, NULL);
	if (CLI_PARSE_FAILED(r))
		return CLI_PARSE_STATUS(r);
	if (!gpu)
		return cli_usage(cli);
	json_t *body = json_pack("{s:s, s:s, s:s*, s:s*, s:s*, s:s*}", "name", words.word[0], "gpu",
		gpu, "type", type, "method", method, "tenant", tenant, "owner", owner);
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
			json_string_value(json_object_get(reply.json, "renderer"))
				?: json_string_value(json_object_get(reply.json, "device")) ?: "?");
	cli_reply_finish(&reply);
	return CLI_OK;
}

const struct verb verb_create = {.name = "create",
	.args = "NAME --gpu GPU [--type TYPE] [--method M] [--tenant T] [--owner USER]",
	.summary = "Creates a vGPU and waits until it is ready",
	.details =
		"M is\n"
		"  forward      all that the GPU's driver can do; the default\n"
		"  emulate      what can be saved exactly, on a software GPU\n"
		"  mediate      a slice that the GPU's driver makes, for one VM\n"
		"  passthrough  the whole GPU, for one VM\n"
		"TYPE is one of `vgpuctl type list GPU`. Without it, it is what GPU carries "
		"already, "
		"else\nthe largest of at most 256 MiB; with mediate, where the GPU makes one kind "
		"of slices, that.\n\n"
		"With mediate and passthrough the VM owns the hardware (`vgpuctl qemu-args`), "
		"whose "
		"VFIO\nfiles USER alone may open: who asks, if not given; another than oneself "
		"only "
		"root may name.\n\n"
		"vGPUs of one tenant share what their drivers compiled, so that a program need not "
		"compile\nits shaders on each of them; give it to all vGPUs of one customer, and "
		"to "
		"no others'.\nIt belongs to the user who named it first, while it has a vGPU or "
		"left data in a GPU;\nonly root may name another's. Without one, each user's "
		"programs have their own on this\nvGPU, and VMs none.",
	.run = create};
