/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include "base/checked.h"

#include <stdio.h>
#include <string.h>

#define BAR_WIDTH 40

typedef void (*unit_fn)(double value, char *ret, size_t size);

/* A field of the API, or the sum of two. */
struct figure {
	const char *title, *key, *plus;
	unit_fn unit;
};

static const struct figure short_figures[] = {
	{"GPU TIME", "gpu_time_ns_total", NULL, cli_seconds},
	{"WAITED", "wait_time_ns_total", "cpu_delay_ns_total", cli_seconds},
	{"COMMANDS", "commands_total", NULL, cli_count},
	{"DRAWS", "draws_total", NULL, cli_count},
	{"MOVED", "transfer_to_host_bytes_total", "transfer_from_host_bytes_total", cli_bytes},
	{"FRAMES", "frames_total", NULL, cli_count},
	{"VRAM", "vram_used_bytes", NULL, cli_mib},
	{"PEAK", "vram_peak_bytes", NULL, cli_mib},
	{"LIMIT", "vram_limit_bytes", NULL, cli_mib},
};

static const struct figure long_figures[] = {
	{"GPU time", "gpu_time_ns_total", NULL, cli_seconds},
	{"CPU time", "cpu_time_ns_total", NULL, cli_seconds},
	{"fence time", "fence_time_ns_total", NULL, cli_seconds},
	{"waited for other clients", "wait_time_ns_total", NULL, cli_seconds},
	{"waited for a CPU", "cpu_delay_ns_total", NULL, cli_seconds},
	{"stopped for its share", "held_time_ns_total", NULL, cli_seconds},
	{"command buffers", "submits_total", NULL, cli_count},
	{"commands", "commands_total", NULL, cli_count},
	{"draws", "draws_total", NULL, cli_count},
	{"fences", "fences_total", NULL, cli_count},
	{"command stream", "stream_bytes_total", NULL, cli_bytes},
	{"moved to the GPU", "transfer_to_host_bytes_total", NULL, cli_bytes},
	{"moved from the GPU", "transfer_from_host_bytes_total", NULL, cli_bytes},
	{"VRAM now", "vram_used_bytes", NULL, cli_mib},
	{"VRAM at most", "vram_peak_bytes", NULL, cli_mib},
	{"VRAM quota", "vram_limit_bytes", NULL, cli_mib},
	{"refused by the quota", "quota_refusals_total", NULL, cli_count},
	{"clients", "clients", NULL, cli_count},
	{"contexts", "contexts", NULL, cli_count},
	{"contexts lost", "contexts_lost_total", NULL, cli_count},
	{"resources", "resources", NULL, cli_count},
	{"malformed requests", "requests_refused_total", NULL, cli_count},
	{"frames", "frames_total", NULL, cli_count},
};

static double number(const json_t *object, const char *key)
{
	return key ? json_number_value(json_object_get(object, key)) : 0;
}

static void figure_text(const struct figure *f, const json_t *stats, char *ret, size_t size)
{
	f->unit(number(stats, f->key) + number(stats, f->plus), ret, size);
}

static void print_table(const json_t *list)
{
	struct cli_column columns[ARRAY_SIZE(short_figures) + 2] = {
		{"NAME", "name"}, {"STATE", "state"}};
	json_t *shown = json_array();
	const json_t *stats;
	char text[32];
	size_t row;

	for (size_t i = 0; i < ARRAY_SIZE(short_figures); i++)
		columns[i + 2] =
			(struct cli_column){short_figures[i].title, short_figures[i].title};
	json_array_foreach(list, row, stats)
	{
		json_t *object = json_object();
		json_object_set(object, "name", json_object_get(stats, "name"));
		json_object_set(object, "state", json_object_get(stats, "state"));
		for (size_t i = 0; i < ARRAY_SIZE(short_figures); i++) {
			figure_text(&short_figures[i], stats, text, sizeof(text));
			json_object_set_new(object, short_figures[i].title, json_string(text));
		}
		json_array_append_new(shown, object);
	}
	cli_print_table(shown, columns, ARRAY_SIZE(columns));
	json_decref(shown);
}

/* How long frames took: a line for each bucket from the first to the last that has any. */
static void print_frame_times(const json_t *stats)
{
	const json_t *list = json_object_get(stats, "frame_times"), *row;
	double most = 0, all = 0, ms = number(stats, "frame_time_ns_total") / 1e6;
	size_t i, first = 0, last = 0;

	json_array_foreach(list, i, row)
	{
		double frames = number(row, "frames");
		if (frames && !all)
			first = i;
		if (frames)
			last = i;
		all += frames;
		most = MAX(most, frames);
	}
	if (!all)
		return;
	printf("\nframe times, %.2f ms on average\n", ms / all);
	for (i = first; i <= last; i++) {
		row = json_array_get(list, i);
		const json_t *bound = json_object_get(row, "up_to_ms");
		double frames = number(row, "frames");
		char count[32];
		cli_count(frames, count, sizeof(count));
		if (json_is_number(bound))
			printf("  up to %7.3f ms  ", json_number_value(bound));
		else
			printf("  slower            ");
		printf("%6s  %5.1f %%  %.*s\n", count, frames * 100 / all,
			(int)(frames * BAR_WIDTH / most),
			"########################################");
	}
}

static void print_one(const json_t *stats)
{
	char text[32];

	printf("%-26s%s\n%-26s%s\n%-26s%s\n", "name",
		json_string_value(json_object_get(stats, "name")) ?: "?", "GPU",
		json_string_value(json_object_get(stats, "gpu")) ?: "?", "state",
		json_string_value(json_object_get(stats, "state")) ?: "?");
	for (size_t i = 0; i < ARRAY_SIZE(long_figures); i++) {
		figure_text(&long_figures[i], stats, text, sizeof(text));
		printf("%-26s%s\n", long_figures[i].title, text);
	}
	print_frame_times(stats);
}

static int stats(struct cli *cli, int argc, char **argv)
{
	char path[512] = "/v1/stats";
	struct cli_words words;

	int r = cli_parse(cli, argc, argv, NULL, 0, 1, &words, NULL);
	if (CLI_PARSE_FAILED(r))
		return CLI_PARSE_STATUS(r);
	if (words.count && !cli_path(path, sizeof(path), "/v1/vgpus/", words.word[0], "/stats"))
		return cli_usage(cli);
	return cli_get(cli, path, words.count ? print_one : print_table);
}

const struct verb verb_stats = {.name = "stats",
	.args = "[NAME]",
	.summary = "What one vGPU, or each, has used",
	.details =
		"WAITED is the time in which work was ready and other clients or other processes\n"
		"were served. --json gives every counter, units in their names.",
	.run = stats};
