/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interposition, measured: the verbs that need a vGPU's state are tried while a client draws on it,
 * and the client says at its end whether every picture was the same.
 */
#include "cli/advise.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "cli/command.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define HOLD_S     "60"
#define SETTLE_MS  300u /* between two verbs, so that the client has drawn again */
#define OUTPUT_MAX 4096

static json_t *verdict(int r, const json_t *result, const struct error *err)
{
	json_t *one = json_pack("{s:b}", "works", r == 0);
	json_t *pause = json_object_get(result, "pause_ms"),
	       *lossy = json_object_get(result, "lossy");

	if (pause)
		json_object_set(one, "pause_ms", pause);
	if (json_array_size(lossy))
		json_object_set(one, "why", json_array_get(lossy, 0));
	if (r < 0)
		json_object_set_new(one, "why", json_string(err->text));
	return one;
}

static json_t *try_check(const struct measuring *m)
{
	struct cli_reply reply = {0};
	struct error err;
	char path[256];
	int r = -1;

	error_set(&err, 0, "check: the name is too long (choose another)");
	if (cli_path(path, sizeof(path), "/v1/vgpus/", m->name, "/check"))
		r = cli_call(m->cli, "GET", path, NULL, &reply, &err);
	json_t *one = verdict(r, NULL, &err);
	if (r == 0)
		json_object_set(one, "says", json_object_get(reply.json, "verdict"));
	cli_reply_finish(&reply);
	return one;
}

static json_t *try_snapshot(const struct measuring *m)
{
	struct cli_reply reply = {0};
	struct error err;
	char path[256];
	int r = -1;

	cleanup_fclose FILE *nowhere = fopen("/dev/null", "we");
	const struct cli_transfer transfer = {.download = nowhere};
	error_set(&err, 0, "snapshot: it cannot be written (see /dev/null)");
	if (nowhere && cli_path(path, sizeof(path), "/v1/vgpus/", m->name, "/snapshot"))
		r = cli_call_long(m->cli, "POST", path, NULL, &transfer, &reply, &err);
	json_t *one = verdict(r, reply.json, &err);
	cli_reply_finish(&reply);
	return one;
}

static json_t *try_operation(const struct measuring *m, const char *verb, const char *gpu)
{
	struct cli_reply reply = {0};
	struct error err;
	json_t *body = gpu ? json_pack("{s:s}", "gpu", gpu) : NULL;

	int r = cli_operate(m->cli, m->name, verb, body, false, &reply, &err);
	json_t *one = verdict(r, reply.json, &err);
	cli_reply_finish(&reply);
	return one;
}

/* What the client says at its end: {"frames", "different"}. */
static json_t *client_verdict(struct command *c)
{
	json_t *said = NULL;
	char *line;

	command_read(c, ADVISE_LIMIT_MS, NULL, NULL);
	line = c->said.s ? strchr(c->said.s, '{') : NULL;
	if (line)
		said = json_loads(line, JSON_DISABLE_EOF_CHECK, NULL);
	bool good = said && json_integer_value(json_object_get(said, "frames")) > 0 &&
		    !json_integer_value(json_object_get(said, "different"));
	json_t *one = json_pack("{s:b, s:s?}", "works", good, "why",
		good ? NULL : (said ? "pictures differed" : "the client ended before"));
	if (said)
		json_object_set(one, "frames", json_object_get(said, "frames"));
	json_decref(said);
	return one;
}

json_t *advise_try_verbs(const struct measuring *m, const char *gpu)
{
	const char *words[] = {m->vgpuctl, "--socket", m->cli->socket, "run", m->name, "--",
		m->probe, "--hold", HOLD_S, NULL};
	int ends[2] = {-1, -1}; /* the client ends when its input does */
	json_t *all = json_object();

	int r = pipe2(ends, O_CLOEXEC) < 0 ? -errno : 0;
	struct command client = {.words = words,
		.input = ends[0],
		.output_max = OUTPUT_MAX,
		.pid = -1,
		.out = -1,
		.err = -1};
	if (r == 0)
		r = command_start(&client);
	close_fd(&ends[0]);
	if (r == 0)
		r = command_read(&client, ADVISE_LIMIT_MS, "ready", m->stop);
	if (r == 0) {
		json_object_set_new(all, "check", try_check(m));
		json_object_set_new(all, "snapshot", try_snapshot(m));
	}
	if (r == 0 && !*m->stop)
		json_object_set_new(all, "move", try_operation(m, "move", gpu));
	usleep(SETTLE_MS * 1000);
	if (r == 0 && !*m->stop)
		json_object_set_new(all, "hibernate", try_operation(m, "hibernate", NULL));
	usleep(SETTLE_MS * 1000);
	close_fd(&ends[1]);
	if (r == 0)
		json_object_set_new(all, "client", client_verdict(&client));
	command_end(&client, r < 0 ? SIGKILL : 0);
	return all;
}
