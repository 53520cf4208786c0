/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/command.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ERRORS_MAX 4096
#define CHUNK      65536

#define END_MS      5000u
#define END_STEP_NS 2000000

bool command_exists(const char *program)
{
	const char *path = getenv("PATH");
	char file[4096];

	for (path = path ? path : "/usr/bin:/bin"; *path;) {
		size_t len = strcspn(path, ":");
		int n = snprintf(
			file, sizeof(file), "%.*s/%s", (int)MIN(len, sizeof(file)), path, program);
		if (n > 0 && (size_t)n < sizeof(file) && access(file, X_OK) == 0)
			return true;
		path += len + (path[len] == ':');
	}
	return false;
}

/* --- starting --- */

static _Noreturn void become(const struct command *c, int out, int err, pid_t parent)
{
	const int fds[] = {c->input, out, err};

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	setpgid(0, 0);
	if (getppid() != parent)
		_exit(COMMAND_NOT_RUN);
	for (int i = 0; i < 3; i++) {
		if (dup2(fds[i], i) < 0)
			_exit(COMMAND_NOT_RUN);
	}
	for (const char *const *e = c->environment; e && *e; e += 2) {
		if (e[1])
			setenv(e[0], e[1], 1);
		else
			unsetenv(e[0]);
	}
	/* execvp() takes what it does not change as if it did. */
	execvp(c->words[0], (char *const *)(uintptr_t)c->words);
	_exit(COMMAND_NOT_RUN);
}

int command_start(struct command *c)
{
	int out[2] = {-1, -1}, err[2] = {-1, -1};
	pid_t parent = getpid();

	c->pid = -1;
	c->out = c->err = -1;
	c->said = (struct command_text){.max = c->output_max};
	c->errors = (struct command_text){.max = ERRORS_MAX};
	if (pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0) {
		int r = -errno;
		close_fd(&out[0]);
		close_fd(&out[1]);
		return r;
	}
	c->pid = fork();
	if (c->pid == 0)
		become(c, out[1], err[1], parent);
	int r = c->pid < 0 ? -errno : 0;
	close_fd(&out[1]);
	close_fd(&err[1]);
	c->out = out[0];
	c->err = err[0];
	return r;
}

/* --- reading --- */

/* 1: more may come, 0: the end; -errno. */
static int take(int *fd, struct command_text *text, bool drop)
{
	char chunk[CHUNK];

	ssize_t n = read(*fd, chunk, sizeof(chunk));
	if (n < 0)
		return errno == EINTR || errno == EAGAIN ? 1 : -errno;
	if (n == 0) {
		close_fd(fd);
		return 0;
	}
	size_t fits = MIN((size_t)n, text->max - text->size);
	if (fits < (size_t)n && !drop)
		return -E2BIG;
	char *more = realloc(text->s, text->size + fits + 1);
	if (!more)
		return -ENOMEM;
	memcpy(more + text->size, chunk, fits);
	text->s = more;
	text->size += fits;
	more[text->size] = '\0';
	return 1;
}

static bool said(const struct command *c, const char *until)
{
	return until && c->said.s && strstr(c->said.s, until);
}

int command_read(
	struct command *c, unsigned limit_ms, const char *until, const volatile sig_atomic_t *stop)
{
	uint64_t end = clock_ms() + limit_ms;

	while ((c->out >= 0 || c->err >= 0) && !said(c, until)) {
		struct pollfd fds[] = {
			{.fd = c->out, .events = POLLIN}, {.fd = c->err, .events = POLLIN}};
		uint64_t now = clock_ms();
		if (stop && *stop)
			return -EINTR;
		if (now >= end)
			return -ETIMEDOUT;
		if (poll(fds, 2, (int)(end - now)) < 0) {
			if (errno != EINTR)
				return -errno;
			continue;
		}
		int r = fds[0].revents ? take(&c->out, &c->said, false) : 1;
		if (r >= 0 && fds[1].revents)
			r = take(&c->err, &c->errors, true);
		if (r < 0)
			return r;
	}
	return until && !said(c, until) ? -EPIPE : 0;
}

/* Who does not end in time is ended by force. */
static int wait_for(pid_t pid)
{
	uint64_t end = clock_ms() + END_MS;
	int status = 0;
	pid_t r;

	while ((r = waitpid(pid, &status, clock_ms() < end ? WNOHANG : 0)) == 0 ||
		(r < 0 && errno == EINTR)) {
		nanosleep(&(struct timespec){.tv_nsec = END_STEP_NS}, NULL);
		if (clock_ms() >= end)
			kill(-pid, SIGKILL);
	}
	return status;
}

int command_end(struct command *c, int signal)
{
	int status = 0;

	if (c->pid > 0) {
		if (signal)
			kill(-c->pid, signal);
		status = wait_for(c->pid);
	}
	close_fd(&c->out);
	close_fd(&c->err);
	free(c->errors.s);
	free(c->said.s);
	c->pid = -1;
	c->said = c->errors = (struct command_text){0};
	return status;
}
