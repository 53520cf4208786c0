/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `advise --measure`: on the GPU of each answer that a process can draw on, one scene on the host's
 * own driver and the same on a vGPU that is made for it: how fast (performance), what is offered
 * and whether the picture is the same (fidelity), which verbs work while a client draws
 * (interposition). Multiplexing is what fits, which the advice has already.
 *
 * The vGPU is named after this process, and gone when it ends, also by a signal; one that a killed
 * process left behind is deleted by the next.
 */
#include "cli/advise.h"

#include "base/parse.h"
#include "cli/command.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OUTPUT_MAX 65536
#define BY         "vgpu-probe"

/* Set by a signal and by nothing else. */
static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
	interrupted = 1;
}

static const char *string_of(const json_t *object, const char *key)
{
	const char *s = json_string_value(json_object_get(object, key));

	return s ? s : "";
}

/* --- programs --- */

/* Beside vgpuctl, where it was built; else where it was installed. */
static void find_programs(struct measuring *m)
{
	ssize_t n = readlink("/proc/self/exe", m->vgpuctl, sizeof(m->vgpuctl) - 1);

	m->vgpuctl[n > 0 ? n : 0] = '\0';
	const char *slash = strrchr(m->vgpuctl, '/');
	snprintf(m->probe, sizeof(m->probe), "%.*s/vgpu-probe",
		slash ? (int)(slash - m->vgpuctl) : 0, m->vgpuctl);
	if (access(m->probe, X_OK) < 0)
		snprintf(m->probe, sizeof(m->probe), "%s/vgpu-probe", VGPUD_LIBEXEC);
}

static int probe_failed(const char *where, int r, const struct command *c, struct error *err)
{
	const char *why = r == -ETIMEDOUT ? "it did not end in time" : c->errors.s;
	char line[200];

	if (r == -EINTR)
		return error_set(err, EINTR, "advise: interrupted (run it again)");
	snprintf(line, sizeof(line), "%.190s", why ? why : "vgpu-probe could not be run");
	line[strcspn(line, "\n")] = '\0';
	return error_set(err, EIO, "advise --measure: %s: %s (see `vgpuctl doctor`)", where, line);
}

/* Runs the probe and reads what it says. */
static int run_probe(const struct measuring *m, const char *where, const char *const *words,
	const char *const *environment, json_t **ret, struct error *err)
{
	struct command c = {.words = words,
		.environment = environment,
		.input = STDIN_FILENO,
		.output_max = OUTPUT_MAX};

	int r = command_start(&c);
	if (r == 0)
		r = command_read(&c, ADVISE_LIMIT_MS, NULL, m->stop);
	json_t *json = r == 0 && c.said.s ? json_loads(c.said.s, 0, NULL) : NULL;
	if (!json)
		r = probe_failed(where, r, &c, err);
	command_end(&c, r < 0 ? SIGKILL : 0);
	*ret = json;
	return json ? 0 : r;
}

static int measure_native(struct measuring *m, const char *gpu, struct error *err)
{
	static const char *const soft[] = {
		"LIBGL_ALWAYS_SOFTWARE", "1", "GALLIUM_DRIVER", "llvmpipe", NULL};
	static const char *const hard[] = {
		"LIBGL_ALWAYS_SOFTWARE", NULL, "GALLIUM_DRIVER", NULL, NULL};
	struct cli_reply reply;
	char path[256];

	if (m->native && !strcmp(m->native_gpu, gpu))
		return 0;
	json_decref(m->native);
	m->native = NULL;
	if (!cli_path(path, sizeof(path), "/v1/gpus/", gpu, ""))
		return error_set(err, EINVAL, "advise: %s is no GPU (see `vgpuctl gpu list`)", gpu);
	int r = cli_call(m->cli, "GET", path, NULL, &reply, err);
	if (r < 0)
		return r;
	const char *node = string_of(reply.json, "render_node");
	const char *words[] = {
		m->probe, "--seconds", ADVISE_PROBE_S, *node ? "--device" : NULL, node, NULL};
	r = run_probe(m, "the host's driver", words, *node ? hard : soft, &m->native, err);
	cli_reply_finish(&reply);
	snprintf(m->native_gpu, sizeof(m->native_gpu), "%s", gpu);
	return r;
}

/* --- the vGPU --- */

static void delete_vgpu(struct cli *cli, const char *name)
{
	struct cli_reply reply;
	struct error ignored;
	char path[256];

	if (cli_path(path, sizeof(path), "/v1/vgpus/", name, "?force=1") &&
		cli_call(cli, "DELETE", path, NULL, &reply, &ignored) == 0)
		cli_reply_finish(&reply);
}

/* A process that ended and was not waited for has no program any more. */
static bool alive(uint64_t pid)
{
	char path[64], program[8];

	snprintf(path, sizeof(path), "/proc/%llu/exe", (unsigned long long)pid);
	return readlink(path, program, sizeof(program)) >= 0 || errno == EACCES;
}

void advise_clear(struct cli *cli)
{
	struct cli_reply reply;
	struct error ignored;
	const json_t *one;
	uint64_t pid;
	size_t i;

	if (cli_call(cli, "GET", "/v1/vgpus", NULL, &reply, &ignored) < 0)
		return;
	json_array_foreach(reply.json, i, one)
	{
		const char *name = string_of(one, "name");
		if (!strncmp(name, ADVISE_NAME, strlen(ADVISE_NAME)) &&
			parse_number(name + strlen(ADVISE_NAME), 10, INT_MAX, &pid) && !alive(pid))
			delete_vgpu(cli, name);
	}
	cli_reply_finish(&reply);
}

static int create_vgpu(const struct measuring *m, const json_t *answer, struct error *err)
{
	struct cli_reply reply;
	json_t *body =
		json_pack("{s:s, s:s, s:s, s:s}", "name", m->name, "gpu", string_of(answer, "gpu"),
			"type", string_of(answer, "type"), "method", string_of(answer, "method"));
	int r = cli_call(m->cli, "POST", "/v1/vgpus", body, &reply, err);

	if (r == 0)
		cli_reply_finish(&reply);
	return r;
}

/* --- figures --- */

static json_t *offer_of(const json_t *probe)
{
	return json_pack("{s:s, s:s, s:O, s:s, s:O}", "renderer", string_of(probe, "renderer"),
		"gl_version", string_of(probe, "gl_version"), "gl_extensions",
		json_object_get(probe, "gl_extensions"), "gles_version",
		string_of(probe, "gles_version"), "gles_extensions",
		json_object_get(probe, "gles_extensions"));
}

static json_t *figures(
	const struct measuring *m, const json_t *probe, const json_t *answer, json_t *verbs)
{
	double frames = json_number_value(json_object_get(probe, "frames_per_s"));
	double native = json_number_value(json_object_get(m->native, "frames_per_s"));
	bool same = !strcmp(string_of(probe, "picture"), string_of(m->native, "picture"));

	return json_pack("{s:{s:s, s:f, s:f, s:f}, s:{s:o, s:o, s:b}, s:{s:O}, s:o}", "performance",
		"by", BY, "ratio", native > 0 ? frames / native : 0.0, "frames_per_s", frames,
		"native_frames_per_s", native, "fidelity", "offered", offer_of(probe), "native",
		offer_of(m->native), "same_picture", same, "multiplexing", "fits",
		json_object_get(answer, "fits"), "interposition", verbs);
}

static int measure_on(struct measuring *m, json_t *answer, struct error *err)
{
	const char *words[] = {m->vgpuctl, "--socket", m->cli->socket, "run", m->name, "--",
		m->probe, "--seconds", ADVISE_PROBE_S, NULL};
	json_t *probe = NULL;

	int r = run_probe(m, "the vGPU", words, NULL, &probe, err);
	if (r < 0)
		return r;
	json_t *verbs = advise_try_verbs(m, string_of(answer, "gpu"));
	json_object_set_new(answer, "measured", figures(m, probe, answer, verbs));
	json_decref(probe);
	return 0;
}

static void say(const struct measuring *m, const json_t *answer)
{
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "measuring %s on %s...\n", string_of(answer, "method"),
			string_of(answer, "gpu"));
}

static int measure_answer(struct measuring *m, json_t *answer, struct error *err)
{
	const char *method = string_of(answer, "method");
	const char *why = NULL;

	if (!json_is_true(json_object_get(answer, "possible")))
		why = "this node cannot";
	else if (strcmp(method, "emulate") != 0 && strcmp(method, "forward") != 0)
		why = "the guest's own driver draws, so only in a guest";
	else if (!*string_of(answer, "type"))
		why = "no more vGPUs fit";
	if (why) {
		json_object_set_new(answer, "measured", json_pack("{s:s}", "not_measured", why));
		return 0;
	}
	say(m, answer);
	int r = measure_native(m, string_of(answer, "gpu"), err);
	if (r == 0)
		r = create_vgpu(m, answer, err);
	if (r == 0) {
		r = measure_on(m, answer, err);
		delete_vgpu(m->cli, m->name);
	}
	if (r < 0 && !*m->stop) { /* one that fails says so and is not the end of the others */
		json_object_set_new(
			answer, "measured", json_pack("{s:s}", "not_measured", err->text));
		r = 0;
	}
	return r;
}

int advise_measure(struct cli *cli, json_t *advice, struct error *err)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
	struct sigaction end = {.sa_handler = on_signal};
	struct measuring m = {.cli = cli, .stop = &interrupted};
	json_t *answer;
	size_t i;
	int r = 0;

	for (i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaction(signals[i], &end, NULL);
	snprintf(m.name, sizeof(m.name), ADVISE_NAME "%d", (int)getpid());
	find_programs(&m);
	json_array_foreach(json_object_get(advice, "answers"), i, answer)
	{
		r = interrupted ? error_set(err, EINTR, "advise: interrupted (run it again)")
				: measure_answer(&m, answer, err);
		if (r < 0)
			break;
	}
	json_decref(m.native);
	return r;
}
