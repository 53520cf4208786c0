/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libvirt's qemu hook: libvirt runs a program of ours before it starts a domain, with the domain's
 * definition on its standard input, and starts it only when that says yes (libvirt.org/hooks.html).
 * Ours hands it to vgpud. A node whose vgpud does not run still starts its VMs.
 */
#include "cli/cli.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HOOKS_DIR "/etc/libvirt/hooks"
#define HOOK_MARK                                                                                  \
	"# Written by `vgpuctl libvirt hook install`; `vgpuctl libvirt hook remove` ends it."
#define HOOK_MAX 4096
#define ANSWER_S 20u

/* --- install, remove --- */

static void hook_path(const char *dir, const char *tail, char ret[PATH_MAX])
{
	snprintf(ret, PATH_MAX, "%.2000s/qemu.d%s", dir, tail);
}

/* 1: ours; 0: none; -EEXIST: somebody else's; -errno. */
static int hook_look(const char *path)
{
	char text[HOOK_MAX];

	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return errno == ENOENT ? 0 : errno == ELOOP ? -EEXIST : -errno;
	ssize_t n = read(fd, text, sizeof(text) - 1);
	if (n < 0)
		return -errno;
	text[n] = '\0';
	return strstr(text, HOOK_MARK) ? 1 : -EEXIST;
}

static int hook_refused(int code, const char *what, const char *path)
{
	struct error err;

	if (code == -EEXIST)
		error_set(&err, EEXIST,
			"%s: %s is not one that vgpuctl wrote, and is left alone (move it away)",
			what, path);
	else
		error_set(&err, -code, "%s: %s: %s (%s)", what, path, strerror(-code),
			code == -EACCES || code == -EPERM ? "run it as root"
							  : "see --hooks-dir, and its disk");
	return cli_fail(&err);
}

/* A word of a shell, whatever is in it. */
static void print_quoted(FILE *f, const char *word)
{
	fputc('\'', f);
	for (; *word; word++) {
		if (*word == '\'')
			fputs("'\\''", f);
		else
			fputc(*word, f);
	}
	fputc('\'', f);
}

static int hook_write(const struct cli *cli, const char *path)
{
	char self[PATH_MAX], next[PATH_MAX + 8];

	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n < 0)
		return -errno;
	self[n] = '\0';
	snprintf(next, sizeof(next), "%s.new", path);
	cleanup_fclose FILE *f = fopen(next, "we");
	if (!f)
		return -errno;
	fprintf(f, "#!/bin/sh\n" HOOK_MARK "\nexec ");
	print_quoted(f, self);
	fprintf(f, " --socket ");
	print_quoted(f, cli->socket);
	fprintf(f, " libvirt hook run -- \"$@\"\n");
	int r = fchmod(fileno(f), 0755) < 0 || fflush(f) != 0 || fsync(fileno(f)) < 0 ? -errno : 0;
	if (r == 0 && rename(next, path) < 0)
		r = -errno;
	if (r < 0)
		unlink(next);
	return r;
}

static int hook_install(struct cli *cli, const char *dir)
{
	char folder[PATH_MAX], path[PATH_MAX];

	hook_path(dir, "", folder);
	hook_path(dir, "/vgpud", path);
	int r = hook_look(path);
	if (r >= 0 && ((mkdir(dir, 0755) < 0 && errno != EEXIST) ||
			      (mkdir(folder, 0755) < 0 && errno != EEXIST)))
		r = -errno;
	if (r >= 0)
		r = hook_write(cli, path);
	if (r < 0)
		return hook_refused(r, "hook install", path);
	printf("%s is installed; a libvirt daemon that runs knows it after a restart\n", path);
	return CLI_OK;
}

static int hook_remove(const char *dir)
{
	char path[PATH_MAX];

	hook_path(dir, "/vgpud", path);
	int r = hook_look(path);
	if (r == 1)
		r = unlink(path) < 0 ? -errno : 1;
	if (r < 0)
		return hook_refused(r, "hook remove", path);
	printf("%s\n", r ? "the hook is removed" : "no hook is installed");
	return CLI_OK;
}

/* --- run --- */

static void on_alarm(int number)
{
	static const char text[] = "vgpuctl: hook: vgpud does not answer, so the VM is let start "
				   "(see vgpud's log)\n";

	(void)!write(STDERR_FILENO, text, sizeof(text) - 1);
	_exit(CLI_OK);
}

/* `words`: the domain, the operation, and what is not needed. */
static int hook_run(struct cli *cli, int n, char **words)
{
	const struct cli_transfer transfer = {.upload = stdin};
	struct cli_reply reply;
	struct error err;
	char domain[512], path[1024];

	if (n < 2)
		return cli_usage(cli);
	if (!cli_path(domain, sizeof(domain), "/v1/node/vms?domain=", words[0], "&operation=") ||
		!cli_path(path, sizeof(path), domain, words[1], ""))
		return cli_usage(cli);
	signal(SIGALRM, on_alarm);
	alarm(ANSWER_S);
	int r = cli_call_long(cli, "POST", path, NULL, &transfer, &reply, &err);
	alarm(0);
	if (r == -ECONNREFUSED) {
		fprintf(stderr, "vgpuctl: hook: no vgpud answers, so the VM is let start\n");
		return CLI_OK;
	}
	if (r < 0)
		return cli_fail(&err);
	cli_reply_finish(&reply);
	return CLI_OK;
}

static int libvirt_hook(struct cli *cli, int argc, char **argv)
{
	const char *dir = HOOKS_DIR;
	const struct cli_option options[] = {{"hooks-dir", &dir, NULL}, {0}};
	struct cli_words words;
	int rest = 0;

	int r = cli_parse(cli, argc, argv, options, 1, 1, &words, &rest);
	if (CLI_PARSE_FAILED(r))
		return CLI_PARSE_STATUS(r);
	if (!strcmp(words.word[0], "run"))
		return hook_run(cli, argc - rest, argv + rest);
	if (rest < argc)
		return cli_usage(cli);
	if (!strcmp(words.word[0], "install"))
		return hook_install(cli, dir);
	if (!strcmp(words.word[0], "remove"))
		return hook_remove(dir);
	return cli_usage(cli);
}

const struct verb verb_libvirt_hook = {.name = "libvirt hook",
	.args = "install|remove [--hooks-dir DIR] | run -- DOMAIN OPERATION ...",
	.summary = "Lets libvirt ask vgpud before it starts a VM",
	.details =
		"install: writes /etc/libvirt/hooks/qemu.d/vgpud, which calls run; another one of\n"
		"that name is left alone. With it `node show` knows all VMs of libvirt, and while\n"
		"over-commit is on a VM with a vGPU or a device of its own that would not fit, or\n"
		"whose memory cannot be locked, is refused before it starts.\n"
		"run: what libvirt calls, with the domain's definition on standard input. Where no "
		"vgpud\n"
		"answers the VM starts.\n\n"
		"--hooks-dir DIR  in place of /etc/libvirt/hooks",
	.run = libvirt_hook};
