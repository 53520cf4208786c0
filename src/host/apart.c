/* SPDX-License-Identifier: Apache-2.0 */
#include "host/apart.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

/* What it says; -ETIMEDOUT: nothing in time; -EIO: it ended without a word. */
static int wait_for(int fd, unsigned limit_ms)
{
	uint64_t end = clock_ms() + limit_ms, now;
	int code;

	while ((now = clock_ms()) < end) {
		struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
		int n = poll(&poll_fd, 1, (int)MIN(end - now, (uint64_t)INT_MAX));
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			return read(fd, &code, sizeof(code)) == (ssize_t)sizeof(code) ? code : -EIO;
	}
	return -ETIMEDOUT;
}

int apart_run(apart_work work, const void *data, unsigned limit_ms)
{
	int pipes[2];

	if (pipe2(pipes, O_CLOEXEC) < 0)
		return -errno;
	pid_t pid = fork();
	if (pid == 0) {
		pid_t worker = fork();
		if (worker != 0)
			_exit(worker < 0 ? errno : 0);
		int code = work(data);
		(void)!write(pipes[1], &code, sizeof(code));
		_exit(0);
	}
	int r = pid < 0 ? -errno : 0, status;
	close(pipes[1]);
	cleanup_close int fd = pipes[0];
	if (r < 0)
		return r;
	if (waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status))
		return -WEXITSTATUS(status);
	return wait_for(fd, limit_ms);
}
