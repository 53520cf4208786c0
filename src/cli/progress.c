/* SPDX-License-Identifier: Apache-2.0 */

/*
 * While one thread waits for an operation's answer, this one asks how far it is. On a terminal it
 * keeps to one line; elsewhere each step is a line.
 */

#include "cli/cli.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PROGRESS_MS 100

struct progress {
	struct cli cli;
	char path[512];
	pthread_t thread;
	atomic_bool ended;
	bool terminal, shown;
	char last[96];
};

static void show(struct progress *p, const json_t *json)
{
	const char *operation = json_string_value(json_object_get(json, "operation"));
	const char *step = json_string_value(json_object_get(json, "step"));
	double done = (double)json_integer_value(json_object_get(json, "done_bytes"));
	double total = (double)json_integer_value(json_object_get(json, "total_bytes"));
	char line[96], done_text[24], total_text[24];

	if (!operation || !step || !*step)
		return;
	cli_bytes(done, done_text, sizeof(done_text));
	cli_bytes(total, total_text, sizeof(total_text));
	if (total > 0)
		snprintf(line, sizeof(line), "%s: %s, %s of %s", operation, step, done_text,
			total_text);
	else
		snprintf(line, sizeof(line), "%s: %s", operation, step);
	if (!strcmp(line, p->last))
		return;
	memcpy(p->last, line, sizeof(line));
	if (p->terminal)
		fprintf(stderr, "\r\033[K%s", line);
	else
		fprintf(stderr, "%s\n", line);
	p->shown = true;
}

static void *run(void *data)
{
	struct progress *p = data;
	const struct timespec wait = {.tv_nsec = PROGRESS_MS * 1000000L};
	struct cli_reply reply;
	struct error err;

	while (!atomic_load(&p->ended)) {
		if (cli_call(&p->cli, "GET", p->path, NULL, &reply, &err) == 0) {
			show(p, reply.json);
			cli_reply_finish(&reply);
		}
		nanosleep(&wait, NULL);
	}
	return NULL;
}

struct progress *progress_begin(struct cli *cli, const char *name)
{
	struct progress *p = name ? calloc(1, sizeof(*p)) : NULL;

	if (!p)
		return NULL;
	p->cli = *cli;
	p->terminal = isatty(STDERR_FILENO);
	if (!cli_path(p->path, sizeof(p->path), "/v1/vgpus/", name, "/progress") ||
		pthread_create(&p->thread, NULL, run, p) != 0) {
		free(p);
		return NULL;
	}
	return p;
}

void progress_end(struct progress *p)
{
	if (!p)
		return;
	atomic_store(&p->ended, true);
	pthread_join(p->thread, NULL);
	if (p->terminal && p->shown)
		fprintf(stderr, "\r\033[K");
	free(p);
}
