/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a command whose OpenGL draws on a vGPU: binds the vGPU to this process, makes Mesa's virpipe
 * driver the only choice, and puts the vGPU's socket where Mesa looks for it.
 *
 * Mesa before 24 looks at one fixed path only, so the command gets a mount namespace of its own in
 * which that path is this vGPU's socket. If that cannot be done the command is not started: drawing
 * without the vGPU would look right and be wrong.
 */
#include "cli/cli.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MESA_SOCKET "/tmp/.virgl_test"

static int write_text(const char *path, const char *text)
{
	cleanup_close int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		return -errno;
	return 0;
}

/* A mount namespace of our own; a user namespace around it where we are not allowed otherwise. */
static int enter_namespace(void)
{
	char map[64];
	uid_t uid = geteuid();
	gid_t gid = getegid();

	if (unshare(CLONE_NEWNS) == 0)
		return 0;
	if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
		return -errno;
	snprintf(map, sizeof(map), "%u %u 1", uid, uid);
	int r = write_text("/proc/self/uid_map", map);
	if (r == 0)
		r = write_text("/proc/self/setgroups", "deny");
	snprintf(map, sizeof(map), "%u %u 1", gid, gid);
	return r < 0 ? r : write_text("/proc/self/gid_map", map);
}

static int place_socket(const char *socket, struct error *err)
{
	struct stat at;
	static const char advice[] = "allow user namespaces, see `vgpuctl doctor`; with Mesa 24 or "
				     "newer --no-mount does without";

	int r = enter_namespace();
	if (r < 0)
		return error_set(err, -r, "run: no mount namespace: %s (%s)", strerror(-r), advice);
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return error_set(err, errno, "run: mounts cannot be made private: %s (%s)",
			strerror(errno), advice);
	/* Something to mount on. It stays: another process may be mounting on it. */
	int fd = open(MESA_SOCKET, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);
	close_fd(&fd);
	if (lstat(MESA_SOCKET, &at) < 0 || S_ISDIR(at.st_mode) || S_ISLNK(at.st_mode))
		return error_set(err, EEXIST,
			"run: " MESA_SOCKET
			" cannot be the place of the vGPU's socket (remove it)");
	if (mount(socket, MESA_SOCKET, NULL, MS_BIND, NULL) < 0)
		return error_set(err, errno,
			"run: %s cannot be mounted at " MESA_SOCKET ": %s (%s)", socket,
			strerror(errno), advice);
	return 0;
}

static int set_environment(const json_t *environment)
{
	const char *key;
	json_t *value;

	/* These choose another driver before virpipe is even asked. */
	unsetenv("MESA_LOADER_DRIVER_OVERRIDE");
	unsetenv("LIBGL_ALWAYS_INDIRECT");
	json_object_foreach((json_t *)(uintptr_t)environment, key, value)
	{
		if (!json_is_string(value) || setenv(key, json_string_value(value), 1) < 0)
			return -EINVAL;
	}
	return 0;
}

static int bind_vgpu(struct cli *cli, const char *name, const char *command, char *ret_socket,
	size_t size, struct error *err)
{
	struct cli_reply reply;
	char path[512];
	const char *socket = NULL, *slash = strrchr(command, '/');
	json_t *environment = NULL;

	if (!cli_path(path, sizeof(path), "/v1/vgpus/", name, "/bind"))
		return error_set(err, EINVAL, "run: the name is too long (see `vgpuctl list`)");
	/* No pid: the kernel tells vgpud ours, also when we are in a container with pids of its
	 * own. */
	json_t *body = json_object();
	json_t *label = json_string(slash ? slash + 1 : command);
	if (label)
		json_object_set_new(body, "label", label);
	int r = cli_call(cli, "POST", path, body, &reply, err);
	if (r < 0)
		return r;
	if (json_unpack(reply.json, "{s:s, s:o}", "socket", &socket, "environment", &environment) <
			0 ||
		set_environment(environment) < 0)
		r = error_set(err, EPROTO,
			"run: vgpud's answer is not understood (install vgpud and "
			"vgpuctl of one version)");
	else
		snprintf(ret_socket, size, "%s", socket);
	cli_reply_finish(&reply);
	return r;
}

/* The vGPU is free again when this program ends, not a moment later. */
static void unbind_vgpu(struct cli *cli, const char *name)
{
	struct cli_reply reply;
	struct error err;
	char path[512];

	if (cli_path(path, sizeof(path), "/v1/vgpus/", name, "/unbind") &&
		cli_call(cli, "POST", path, json_object(), &reply, &err) == 0)
		cli_reply_finish(&reply);
}

static _Noreturn void run_child(char **argv, const sigset_t *signals, pid_t parent)
{
	sigprocmask(SIG_SETMASK, signals, NULL);
	/* The binding is this program's: the command does not outlive it. */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(CLI_FAILED);
	execvp(argv[0], argv);
	int code = errno;
	fprintf(stderr, "vgpuctl: run: %s: %s (check the command)\n", argv[0], strerror(code));
	_exit(code == ENOENT ? 127 : 126);
}

static int run_command(char **argv, struct error *err)
{
	sigset_t set, before;
	siginfo_t info;
	int status;
	pid_t parent = getpid();

	/* Signals that end us are passed on, so that the command decides how to end. */
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGQUIT);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, &before);
	fflush(stdout);
	pid_t pid = fork();
	if (pid < 0)
		return error_set(err, errno, "run: %s (free some memory)", strerror(errno));
	if (pid == 0)
		run_child(argv, &before, parent);
	for (;;) {
		int signal = sigwaitinfo(&set, &info);
		if (waitpid(pid, &status, WNOHANG) == pid)
			break;
		/* The terminal sends its signals to the command itself. */
		if (signal > 0 && signal != SIGCHLD && info.si_code != SI_KERNEL)
			kill(pid, signal);
	}
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static int run(struct cli *cli, int argc, char **argv)
{
	bool no_mount = false;
	const struct cli_option options[] = {{"no-mount", NULL, &no_mount}, {0}};
	struct cli_words words;
	char socket[256];
	struct error err;
	int rest;

	int r = cli_parse(cli, argc, argv, options, 1, 1, &words, &rest);
	if (CLI_PARSE_FAILED(r))
		return CLI_PARSE_STATUS(r);
	if (rest >= argc)
		return cli_usage(cli);
	r = bind_vgpu(cli, words.word[0], argv[rest], socket, sizeof(socket), &err);
	if (r < 0)
		return cli_fail(&err);
	if (!no_mount)
		r = place_socket(socket, &err);
	if (r == 0)
		r = run_command(argv + rest, &err);
	unbind_vgpu(cli, words.word[0]);
	return r < 0 ? cli_fail(&err) : r;
}

const struct verb verb_run = {.name = "run",
	.args = "NAME [--no-mount] -- CMD...",
	.summary = "Runs a command that draws on the vGPU",
	.details = "The command's OpenGL (Mesa) draws on the vGPU, which it holds meanwhile. The "
		   "status is the\ncommand's; 128 + N when signal N ended it, 127 when there is no "
		   "such "
		   "command.\n\n"
		   "--no-mount  only sets the environment; enough for Mesa 24 and newer",
	.run = run};
