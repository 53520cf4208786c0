/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include "base/checked.h"
#include "host/doctor.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Without a vgpud that answers, the checks run here. */
static json_t *local_checks(const struct error *why)
{
	char device[PATH_MAX];

	ssize_t n = readlink("/proc/self/exe", device, sizeof(device) - 16);
	device[MAX(n, 0)] = '\0';
	char *slash = strrchr(device, '/');
	if (slash)
		snprintf(slash + 1, sizeof("vgpu-device"), "vgpu-device");
	if (!slash || access(device, X_OK) < 0)
		snprintf(device, sizeof(device), "%s/vgpu-device", VGPUD_LIBEXEC);
	json_t *list = host_doctor(device, &host_roots_real);
	json_array_append_new(list,
		json_pack("{s:s, s:s, s:s, s:s}", "check", "vgpud", "status", "fail", "detail",
			why->text, "advice", "start it: `systemctl start vgpud`, or run `vgpud`"));
	return list;
}

static unsigned failures(const json_t *list)
{
	unsigned n = 0;
	size_t i;
	const json_t *check;

	json_array_foreach(list, i, check)
	{
		const char *status = json_string_value(json_object_get(check, "status"));
		n += status && !strcmp(status, "fail");
	}
	return n;
}

static int doctor(struct cli *cli, int argc, char **argv)
{
	static const struct cli_column columns[] = {{"CHECK", "check"}, {"STATUS", "status"},
		{"FOUND", "detail"}, {"ADVICE", "advice"}};
	struct cli_words words;
	struct cli_reply reply = {0};
	struct error err;

	int r = cli_parse(cli, argc, argv, NULL, 0, 0, &words, NULL);
	if (CLI_PARSE_FAILED(r))
		return CLI_PARSE_STATUS(r);
	if (cli_call(cli, "GET", "/v1/doctor", NULL, &reply, &err) < 0)
		reply.json = local_checks(&err);
	if (cli->json)
		cli_print_json(reply.json);
	else
		cli_print_table(reply.json, columns, ARRAY_SIZE(columns));
	unsigned failed = failures(reply.json);
	cli_reply_finish(&reply);
	if (!failed)
		return CLI_OK;
	error_set(&err, 0, "doctor: %u of the checks failed (do what is advised above)", failed);
	return cli_fail(&err);
}

const struct verb verb_doctor = {.name = "doctor",
	.args = "",
	.summary = "What works on this node and what does not, why, and what to do",
	.details = "Status 1 when a check failed. Without a vgpud, the checks run as this user.",
	.run = doctor};
