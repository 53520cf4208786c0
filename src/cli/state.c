/* SPDX-License-Identifier: Apache-2.0 */

/* What the verbs about a vGPU's state share. */

#include "cli/cli.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

int cli_operate(struct cli *cli, const char *name, const char *verb, json_t *body, bool progress,
	struct cli_reply *ret, struct error *err)
{
	struct cli_transfer transfer = {
		.progress_of = progress || isatty(STDERR_FILENO) ? name : NULL};
	char path[512], tail[32];

	snprintf(tail, sizeof(tail), "/%s", verb);
	if (!cli_path(path, sizeof(path), "/v1/vgpus/", name, tail)) {
		json_decref(body);
		return error_set(
			err, EINVAL, "%s: this is no name of a vGPU (see `vgpuctl list`)", verb);
	}
	return cli_call_long(cli, "POST", path, body, &transfer, ret, err);
}

int cli_print_result(const struct cli *cli, const char *did, const struct cli_reply *reply)
{
	const json_t *json = reply->json, *text;
	char size[24];
	size_t i;

	if (cli->json)
		return cli_print_json(json);
	cli_bytes((double)json_integer_value(json_object_get(json, "state_bytes")), size,
		sizeof(size));
	printf("%s: %s of state, the guest paused %.1f ms, %.1f ms in all\n", did, size,
		json_number_value(json_object_get(json, "pause_ms")),
		json_number_value(json_object_get(json, "total_ms")));
	json_array_foreach(json_object_get(json, "lossy"), i, text)
		printf("lossy: %s\n", json_string_value(text) ?: "?");
	return CLI_OK;
}
