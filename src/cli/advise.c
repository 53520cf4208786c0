/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/advise.h"

#include "base/checked.h"

#include <stdio.h>
#include <string.h>

#define NEEDS_MAX 5

static const char *string_of(const json_t *object, const char *key)
{
	const char *s = json_string_value(json_object_get(object, key));

	return s ? s : "";
}

static int number_of(const json_t *object, const char *key)
{
	return (int)json_integer_value(json_object_get(object, key));
}

/* --- what was measured --- */

static void print_offer(const json_t *fidelity, const char *key, const char *title)
{
	const json_t *offer = json_object_get(fidelity, key);

	printf("     %s: OpenGL %s with %d extensions, %s with %d\n", title,
		string_of(offer, "gl_version"), number_of(offer, "gl_extensions"),
		string_of(offer, "gles_version"), number_of(offer, "gles_extensions"));
}

static void print_verbs(const json_t *verbs)
{
	const json_t *one;
	const char *verb;

	printf("     verbs under a client that draws:");
	json_object_foreach((json_t *)(uintptr_t)verbs, verb, one)
	{
		const json_t *ms = json_object_get(one, "pause_ms");
		printf(" %s %s", verb, json_is_true(json_object_get(one, "works")) ? "yes" : "no");
		if (json_is_number(ms))
			printf(" (%.0f ms)", json_number_value(ms));
	}
	putchar('\n');
	json_object_foreach((json_t *)(uintptr_t)verbs, verb, one)
	{
		const char *why = json_string_value(json_object_get(one, "why"));
		if (why)
			printf("       %s: %s\n", verb, why);
	}
}

static void print_measured(const json_t *measured)
{
	const json_t *performance = json_object_get(measured, "performance"),
		     *fidelity = json_object_get(measured, "fidelity");
	const char *not = json_string_value(json_object_get(measured, "not_measured"));

	if (not ) {
		printf("   not measured: %s\n", not );
		return;
	}
	printf("   measured here, by %s:\n", string_of(performance, "by"));
	printf("     %.3f of native: %.1f frames/s, the host's driver %.1f\n",
		json_number_value(json_object_get(performance, "ratio")),
		json_number_value(json_object_get(performance, "frames_per_s")),
		json_number_value(json_object_get(performance, "native_frames_per_s")));
	print_offer(fidelity, "offered", "offered");
	print_offer(fidelity, "native", "native ");
	printf("     the same picture as native: %s\n",
		json_is_true(json_object_get(fidelity, "same_picture")) ? "yes" : "no");
	print_verbs(json_object_get(measured, "interposition"));
}

/* --- answers --- */

static void print_answer(const json_t *answer)
{
	const json_t *criteria = json_object_get(answer, "criteria"),
		     *against = json_object_get(answer, "against"),
		     *measured = json_object_get(answer, "measured"), *one;
	bool suitable = json_is_true(json_object_get(answer, "suitable"));
	size_t i;

	printf("%d. %s on %s: ", number_of(answer, "rank"), string_of(answer, "method"),
		string_of(answer, "gpu"));
	printf(suitable ? "%d of 100\n" : "not suitable\n", number_of(answer, "score"));
	json_array_foreach(against, i, one)
	{
		printf("   ");
		cli_print_wrapped(string_of(one, "text"), 3, 3);
		if (*string_of(one, "remedy")) {
			printf("   -> ");
			cli_print_wrapped(string_of(one, "remedy"), 6, 6);
		}
	}
	json_array_foreach(criteria, i, one)
	{
		printf("   %-14s %d/5  ", string_of(one, "criterion"), number_of(one, "score"));
		cli_print_wrapped(string_of(one, "text"), 23, 23);
	}
	if (measured)
		print_measured(measured);
}

static void print_advice(const json_t *advice)
{
	const json_t *needs = json_object_get(advice, "needs"), *one;
	size_t i;

	printf("For ");
	json_array_foreach(needs, i, one) printf("%s%s", i ? ", " : "", json_string_value(one));
	printf("%s%d VM%s with %s:\n", json_array_size(needs) ? ", " : "", number_of(advice, "vms"),
		number_of(advice, "vms") == 1 ? "" : "s", string_of(advice, "guest"));
	json_array_foreach(json_object_get(advice, "answers"), i, one)
	{
		putchar('\n');
		print_answer(one);
	}
}

/* The commands of the best answer, if there is one. */
static int print_commands(const json_t *advice)
{
	const json_t *best = json_array_get(json_object_get(advice, "answers"), 0), *line;
	struct error err;
	size_t i;

	if (!json_is_true(json_object_get(best, "suitable"))) {
		error_set(&err, 0,
			"advise --apply: no method suits that on this node (see `vgpuctl advise`)");
		return cli_fail(&err);
	}
	json_array_foreach(json_object_get(best, "commands"), i, line)
		printf("%s\n", json_string_value(line));
	return CLI_OK;
}

/* --- the question --- */

struct asked {
	const char *needs[NEEDS_MAX], *vms, *guest, *gpu;
};

static bool add_query(char *path, size_t size, const char *key, const char *value)
{
	char query[256], before[64];
	size_t n = strlen(path);

	snprintf(before, sizeof(before), "%c%s=", strchr(path, '?') ? '&' : '?', key);
	return cli_path(query, sizeof(query), before, value, "") &&
	       (size_t)snprintf(path + n, size - n, "%s", query) < size - n;
}

static bool make_path(const struct asked *asked, char *path, size_t size)
{
	char needs[128] = "";
	size_t n = 0;

	snprintf(path, size, "/v1/advise");
	for (unsigned i = 0; i < NEEDS_MAX && asked->needs[i] && n < sizeof(needs); i++)
		n += (size_t)snprintf(
			needs + n, sizeof(needs) - n, "%s%s", i ? "," : "", asked->needs[i]);
	return n < sizeof(needs) && (!n || add_query(path, size, "need", needs)) &&
	       (!asked->vms || add_query(path, size, "vms", asked->vms)) &&
	       (!asked->guest || add_query(path, size, "guest", asked->guest)) &&
	       (!asked->gpu || add_query(path, size, "gpu", asked->gpu));
}

static int advise(struct cli *cli, int argc, char **argv)
{
	struct asked a = {0};
	bool measure = false, apply = false;
	const struct cli_option options[] = {{"need", &a.needs[0], NULL},
		{"need", &a.needs[1], NULL}, {"need", &a.needs[2], NULL},
		{"need", &a.needs[3], NULL}, {"need", &a.needs[4], NULL}, {"vms", &a.vms, NULL},
		{"guest", &a.guest, NULL}, {"gpu", &a.gpu, NULL}, {"measure", NULL, &measure},
		{"apply", NULL, &apply}, {0}};
	struct cli_words words;
	struct cli_reply reply;
	struct error err;
	char path[512];

	int r = cli_parse(cli, argc, argv, options, 0, 0, &words, NULL);
	if (CLI_PARSE_FAILED(r))
		return CLI_PARSE_STATUS(r);
	if (!make_path(&a, path, sizeof(path)))
		return cli_usage(cli);
	if (measure)
		advise_clear(cli);
	if (cli_call(cli, "GET", path, NULL, &reply, &err) < 0)
		return cli_fail(&err);
	if (measure && advise_measure(cli, reply.json, &err) < 0)
		r = cli_fail(&err);
	else if (apply)
		r = print_commands(reply.json);
	else if (cli->json)
		r = cli_print_json(reply.json);
	else
		print_advice(reply.json);
	cli_reply_finish(&reply);
	return r;
}

const struct verb verb_advise = {.name = "advise",
	.args = "[--need NEED]... [--vms N] [--guest linux|windows] [--gpu GPU] [--measure] "
		"[--apply]",
	.summary = "Which method suits a need on this node",
	.details =
		"NEED is performance, density, isolation, migration or no-hardware; of several, "
		"all "
		"count.\nEach method is judged by what it is worth, by what the node says of it, "
		"and by "
		"the guests;\nbehind -> what would make it suitable.\n\n"
		"--vms N    so many VMs, 1 to 1024; 1 if not given\n"
		"--guest    linux if not given\n"
		"--gpu GPU  that one alone\n"
		"--measure  draws on a vGPU of each method that this node can make, which takes "
		"about "
		"ten\n           seconds each, and says what came out beside the host's own "
		"driver\n"
		"--apply    prints the commands that would do what is advised; runs none of them",
	.run = advise};
