/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include "base/checked.h"
#include "base/parse.h"

static int gpu_list(struct cli *cli, int argc, char **argv)
{
	static const struct cli_column columns[] = {{"NAME", "name"}, {"KIND", "kind"},
		{"DRIVER", "driver"}, {"PCI", "pci_address"}, {"STATE", "state"},
		{"METHOD", "method"}, {"TYPE", "type"}, {"VRAM MiB", "vram_mib"},
		{"FREE MiB", "vram_free_mib"}, {"VGPUS", "vgpus"}, {"POLICY", "policy"},
		{"MODE", "mode"}};
	struct cli_words words;

	int r = cli_parse(cli, argc, argv, NULL, 0, 0, &words, NULL);
	if (CLI_PARSE_FAILED(r))
		return CLI_PARSE_STATUS(r);
	return cli_get_table(cli, "/v1/gpus", columns, ARRAY_SIZE(columns));
}

/* Takes `body`. What it answers is for programs. */
static int post(struct cli *cli, const char *path, json_t *body)
{
	struct cli_reply reply;
	struct error err;
	int r = CLI_OK;

	if (cli_call(cli, "POST", path, body, &reply, &err) < 0)
		return cli_fail(&err);
	if (cli->json)
		r = cli_print_json(reply.json);
	cli_reply_finish(&reply);
	return r;
}

static int gpu_policy(struct cli *cli, int argc, char **argv)
{
	const char *slice = NULL;
	const struct cli_option options[] = {{"slice-ms", &slice, NULL}, {0}};
	struct cli_words words;
	struct error err;
	uint64_t slice_ms = 0;
	char path[512];

	int r = cli_parse(cli, argc, argv, options, 2, 2, &words, NULL);
	if (CLI_PARSE_FAILED(r))
		return CLI_PARSE_STATUS(r);
	if (!cli_path(path, sizeof(path), "/v1/gpus/", words.word[0], "/policy") ||
		(slice && !parse_number(slice, 10, INT32_MAX, &slice_ms)))
		return cli_usage(cli);
	json_t *body = json_pack("{s:s}", "policy", words.word[1]);
	if (!body) {
		error_set(
			&err, 0, "gpu policy: that is no policy (see `vgpuctl gpu policy --help`)");
		return cli_fail(&err);
	}
	if (slice)
		json_object_set_new(body, "slice_ms", json_integer((json_int_t)slice_ms));
	return post(cli, path, body);
}

static int gpu_mode(struct cli *cli, int argc, char **argv)
{
	struct cli_words words;
	struct error err;
	char path[512];

	int r = cli_parse(cli, argc, argv, NULL, 2, 2, &words, NULL);
	if (CLI_PARSE_FAILED(r))
		return CLI_PARSE_STATUS(r);
	if (!cli_path(path, sizeof(path), "/v1/gpus/", words.word[0], "/mode"))
		return cli_usage(cli);
	json_t *body = json_pack("{s:s}", "mode", words.word[1]);
	if (!body) {
		error_set(&err, 0, "gpu mode: that is no mode (see `vgpuctl gpu mode --help`)");
		return cli_fail(&err);
	}
	return post(cli, path, body);
}

static int gpu_scrub(struct cli *cli, int argc, char **argv)
{
	struct cli_words words;
	char path[512];

	int r = cli_parse(cli, argc, argv, NULL, 1, 1, &words, NULL);
	if (CLI_PARSE_FAILED(r))
		return CLI_PARSE_STATUS(r);
	if (!cli_path(path, sizeof(path), "/v1/gpus/", words.word[0], "/scrub"))
		return cli_usage(cli);
	return post(cli, path, json_object());
}

static int gpu_release(struct cli *cli, int argc, char **argv)
{
	bool unscrubbed = false;
	const struct cli_option options[] = {{"unscrubbed", NULL, &unscrubbed}, {0}};
	struct cli_words words;
	char path[512];

	int r = cli_parse(cli, argc, argv, options, 1, 1, &words, NULL);
	if (CLI_PARSE_FAILED(r))
		return CLI_PARSE_STATUS(r);
	if (!unscrubbed || !cli_path(path, sizeof(path), "/v1/gpus/", words.word[0], "/release"))
		return cli_usage(cli);
	return post(cli, path, json_pack("{s:b}", "unscrubbed", true));
}

const struct verb verb_gpu_list = {.name = "gpu list",
	.args = "",
	.summary = "The GPUs of this node",
	.details =
		"`vgpuctl gpu show GPU` says how each could be used. The states are in vgpud(8).",
	.run = gpu_list};

const struct verb verb_gpu_policy = {.name = "gpu policy",
	.args = "GPU best-effort|equal-share|fixed-share [--slice-ms N]",
	.summary = "How the vGPUs of a GPU share it",
	.details = "best-effort: whoever submits most gets most.\n"
		   "equal-share: by the weight of their types among those that draw.\n"
		   "fixed-share: each its share and no more, even when others are idle.\n"
		   "--slice-ms: 1 to 30; 2 up to 8 vGPUs and 1 above if not given. See vgpud(8), "
		   "SHARING.",
	.run = gpu_policy};

const struct verb verb_gpu_mode = {.name = "gpu mode",
	.args = "GPU any|emulate|forward|mediate|passthrough",
	.summary = "Which method a GPU is kept for",
	.details = "any: the first vGPU decides. With a method, vGPUs of another are refused, and\n"
		   "what is created without --method is of that one.\n"
		   "Refused while the GPU carries vGPUs of another method.",
	.run = gpu_mode};

const struct verb verb_gpu_scrub = {.name = "gpu scrub",
	.args = "GPU",
	.summary = "Empties the memory of a GPU in passthrough",
	.details =
		"That is done behind each VM; here once more, while none has it. Resets the GPU,\n"
		"writes zeroes to all of its memory that its window reaches, and reads them back.",
	.run = gpu_scrub};

const struct verb verb_gpu_release = {.name = "gpu release",
	.args = "GPU --unscrubbed",
	.summary = "Lets anybody have a GPU that could not be emptied",
	.details =
		"What its last tenant left in its memory may be read by the next. For GPUs of "
		"which\n"
		"vgpud could not empty all (`vgpuctl gpu show`, `vgpuctl show`: scrub), where you\n"
		"know that it does no harm. For root and vgpud's own user. It is an event.",
	.run = gpu_release};
