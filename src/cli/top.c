/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/top.h"

#include "cli/cli.h"

#include "base/checked.h"
#include "base/parse.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TOP_INTERVAL_MS  1000u
#define TOP_LEAST_MS     100u
#define TOP_MOST_MS      60000u
#define TOP_BATCH_WIDTH  80
#define KEY_END_OF_INPUT 4 /* ^D */

struct top {
	struct cli *cli;
	struct cli_stream *stream;
	struct terminal *terminal; /* NULL: lines are printed one after another */
	struct top_view view;
	bool once;
	unsigned printed;
};

static int top_fail(const struct top *top, const char *why, const char *advice)
{
	struct error err;

	error_set(&err, EIO, "top: %s (%s)", why, advice);
	return cli_fail(&err);
}

/* ---- without a terminal ---- */

static void batch_print(struct top *top)
{
	const struct top_page page = {
		TOP_BATCH_WIDTH, TOP_NO_LIMIT, .before = "", .after = "", .end = "\n"};

	if (top->printed++)
		putchar('\n');
	top_view_print(&top->view, &page, stdout);
	putchar('\n');
}

static int batch_run(struct top *top)
{
	struct error err;
	const char *line;
	int r;

	while ((r = cli_stream_next(top->stream, NULL, 0, &line, &err)) >= 0) {
		if (r == 0)
			continue;
		if (!top_view_sample(&top->view, line))
			return top_fail(top, "vgpud sent no sample", "update vgpuctl or vgpud");
		if (top->cli->json)
			puts(line);
		else if (top_view_ready(&top->view))
			batch_print(top);
		else
			continue;
		if (fflush(stdout) != 0)
			return top_fail(top, "it cannot be written", "free some space");
		if (top->once)
			return CLI_OK;
	}
	return cli_fail(&err);
}

/* ---- on a terminal ---- */

static int screen_draw(struct top *top)
{
	struct top_page page = {.before = "\033[7m", .after = "\033[0m", .end = "\n\033[K"};
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return -ENOMEM;
	fputs("\033[K", out); /* a line is cleared before it is written: at its end is no room */
	terminal_size(&page.width, &page.height);
	if (top_view_ready(&top->view))
		top_view_print(&top->view, &page, out);
	else
		fprintf(out, "%.*s", page.width, "vgpud: the first sample comes");
	int r = fclose(out) == 0 ? terminal_draw(text, size) : -ENOMEM;
	free(text);
	return r;
}

/* -1: go on; else the exit status. */
static int screen_event(struct top *top, enum terminal_event event, int key)
{
	if (event == TERMINAL_END)
		return key == SIGINT || key == SIGTERM ? CLI_OK : CLI_FAILED;
	if (event == TERMINAL_KEY && (key == 'q' || key == 'Q' || key == KEY_END_OF_INPUT))
		return CLI_OK;
	if (event == TERMINAL_KEY && key == 'r')
		top->view.reverse = !top->view.reverse;
	else if (event == TERMINAL_KEY && !top_view_sort_by_key(&top->view, key))
		return -1;
	return screen_draw(top) < 0 ? CLI_FAILED : -1;
}

static int screen_events(struct top *top)
{
	enum terminal_event event;
	int key, status = -1;

	while (status < 0 && (event = terminal_next(top->terminal, &key)) != TERMINAL_NOTHING)
		status = screen_event(top, event, key);
	return status;
}

static int screen_run(struct top *top, struct error *err)
{
	struct pollfd fds[2];
	const char *line;
	int status;

	if (screen_draw(top) < 0)
		return CLI_FAILED;
	for (;;) {
		unsigned n = terminal_poll(top->terminal, fds);
		int r = cli_stream_next(top->stream, fds, n, &line, err);
		if (r < 0)
			return r;
		if (r == 1 && !top_view_sample(&top->view, line))
			return error_set(
				err, EPROTO, "top: vgpud sent no sample (update vgpuctl or vgpud)");
		if (r == 1 && screen_draw(top) < 0)
			return CLI_FAILED;
		status = screen_events(top);
		if (status >= 0)
			return status;
	}
}

/* ---- the verb ---- */

static int top_run(struct top *top)
{
	struct error err;
	int r = -ENOTTY;

	if (!top->once && !top->cli->json)
		r = terminal_open(&top->terminal);
	if (r < 0)
		return batch_run(top);
	r = screen_run(top, &err);
	terminal_close(top->terminal);
	return r < 0 ? cli_fail(&err) : r;
}

static int top(struct cli *cli, int argc, char **argv)
{
	const char *sort = NULL, *interval = NULL;
	struct top top = {.cli = cli, .view.sort = TOP_time};
	const struct cli_option options[] = {{"sort", &sort, NULL},
		{"interval-ms", &interval, NULL}, {"once", NULL, &top.once}, {0}};
	uint64_t interval_ms = TOP_INTERVAL_MS;
	struct cli_words words;
	struct error err;
	char path[64];

	int r = cli_parse(cli, argc, argv, options, 0, 0, &words, NULL);
	if (CLI_PARSE_FAILED(r))
		return CLI_PARSE_STATUS(r);
	if ((sort && !top_view_sort_by_name(&top.view, sort)) ||
		(interval && (!parse_number(interval, 10, TOP_MOST_MS, &interval_ms) ||
				     interval_ms < TOP_LEAST_MS)))
		return cli_usage(cli);
	snprintf(path, sizeof(path), "/v1/samples?interval_ms=%u", (unsigned)interval_ms);
	if (cli_stream_open(cli, path, &top.stream, &err) < 0)
		return cli_fail(&err);
	r = top_run(&top);
	top_view_finish(&top.view);
	cli_stream_close(top.stream);
	return r;
}

const struct verb verb_top = {.name = "top",
	.args = "[--sort COLUMN] [--interval-ms N] [--once]",
	.summary = "What all vGPUs are doing, live",
	.details = "COLUMN is name, gpu, state, time, wait, draws, bytes, fps, p99 or vram. Keys: "
		   "n h s g w\n"
		   "d b f p v sort by them in that order, the same again or r reverses, q ends.\n"
		   "Where output is no terminal, tables follow one another; --once prints one, "
		   "--json\n"
		   "the samples. N is from 100 to 60000.\n\n"
		   "GPU%    GPU time; above 100 on a soft GPU that uses several CPUs\n"
		   "WAIT%   work was ready, other clients or processes were served\n"
		   "MB/s    command streams and transfers, both ways\n"
		   "P99ms   99 of 100 frames took at most that",
	.run = top};
