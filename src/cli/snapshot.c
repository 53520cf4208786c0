/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

/*
 * A file beside the one that is meant takes its place when it is whole. Until then it has no name,
 * so that nothing is left of it however this program ends; where the file system has no such files,
 * it has a name of its own.
 */
struct target {
	FILE *file;
	char path[4096]; /* "" : standard output */
	bool nameless;
};

static int open_nameless(const char *path)
{
	char folder[4096];
	const char *slash = strrchr(path, '/');
	int n = slash ? snprintf(folder, sizeof(folder), "%.*s", (int)(slash - path + 1), path)
		      : snprintf(folder, sizeof(folder), ".");

	if (n < 0 || (size_t)n >= sizeof(folder))
		return -1;
	return open(folder, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
}

/* Names it like mkostemp() does. */
static int name_it(struct target *t)
{
	char link[64];
	uint32_t number;

	if (!t->nameless)
		return 0;
	if (getrandom(&number, sizeof(number), 0) != sizeof(number))
		return -1;
	snprintf(t->path + strlen(t->path) - 6, 7, "%06x", (unsigned)number & 0xffffffu);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fileno(t->file));
	if (linkat(AT_FDCWD, link, AT_FDCWD, t->path, AT_SYMLINK_FOLLOW) < 0)
		return -1;
	t->nameless = false;
	return 0;
}

static int open_target(struct target *t, const char *path, struct error *err)
{
	*t = (struct target){0};
	if (!strcmp(path, "-")) {
		t->file = stdout;
		return 0;
	}
	int n = snprintf(t->path, sizeof(t->path), "%s.XXXXXX", path);
	bool fits = n >= 0 && (size_t)n < sizeof(t->path);
	int fd = fits ? open_nameless(path) : -1;
	t->nameless = fd >= 0;
	if (fits && fd < 0)
		fd = mkostemp(t->path, O_CLOEXEC);
	t->file = fd >= 0 ? fdopen(fd, "w") : NULL;
	if (t->file)
		return 0;
	int code = fits ? errno : ENAMETOOLONG;
	if (fd >= 0) {
		close(fd);
		if (!t->nameless)
			unlink(t->path);
	}
	return error_set(err, code, "snapshot: %s: %s (choose another file)", path, strerror(code));
}

static void drop_target(struct target *t)
{
	if (t->file == stdout)
		return;
	fclose(t->file);
	if (!t->nameless)
		unlink(t->path);
}

static int keep_target(struct target *t, const char *path, struct error *err)
{
	bool good = fflush(t->file) == 0;

	if (t->file != stdout) {
		good = good && fsync(fileno(t->file)) == 0 && name_it(t) == 0;
		good = fclose(t->file) == 0 && good;
		good = good && rename(t->path, path) == 0;
	}
	if (good)
		return 0;
	int code = errno;
	if (t->path[0] && !t->nameless)
		unlink(t->path);
	return error_set(err, code, "snapshot: %s: %s (free some space)", path, strerror(code));
}

static int snapshot(struct cli *cli, int argc, char **argv)
{
	bool exact = false, progress = false;
	const struct cli_option options[] = {
		{"exact", NULL, &exact}, {"progress", NULL, &progress}, {0}};
	struct cli_words words;
	struct cli_reply reply;
	struct target target;
	struct error err;
	char path[512], did[512];

	int r = cli_parse(cli, argc, argv, options, 2, 2, &words, NULL);
	if (CLI_PARSE_FAILED(r))
		return CLI_PARSE_STATUS(r);
	const char *name = words.word[0], *file = words.word[1];
	if (!cli_path(path, sizeof(path), "/v1/vgpus/", name,
		    exact ? "/snapshot?exact=1" : "/snapshot"))
		return cli_usage(cli);
	if (open_target(&target, file, &err) < 0)
		return cli_fail(&err);
	struct cli_transfer transfer = {.download = target.file,
		.progress_of = progress || isatty(STDERR_FILENO) ? name : NULL};
	if (cli_call_long(cli, "POST", path, NULL, &transfer, &reply, &err) < 0) {
		drop_target(&target);
		return cli_fail(&err);
	}
	r = keep_target(&target, file, &err) < 0 ? cli_fail(&err) : CLI_OK;
	snprintf(did, sizeof(did), "%.64s is saved in %.400s", name, file);
	if (r == CLI_OK && target.file != stdout)
		r = cli_print_result(cli, did, &reply);
	cli_reply_finish(&reply);
	return r;
}

const struct verb verb_snapshot = {.name = "snapshot",
	.args = "NAME FILE [--exact] [--progress]",
	.summary = "Saves a vGPU's state as a file",
	.details =
		"The guest goes on afterwards. FILE - is standard output. The file holds what the\n"
		"guest has drawn and is readable by you alone.\n"
		"--exact refuses rather than lose anything; emulated vGPUs never lose any.",
	.run = snapshot};
