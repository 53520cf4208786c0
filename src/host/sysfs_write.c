/* SPDX-License-Identifier: Apache-2.0 */
#include "host/sysfs_write.h"

#include "base/checked.h"
#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* In a process of its own. errno, 0: done. */
static int write_now(const char *path, const char *text)
{
	size_t len = strlen(text);

	int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return errno;
	ssize_t n = write(fd, text, len);
	if (n < 0)
		return errno;
	return (size_t)n == len ? 0 : EIO;
}

/* What the writer says; -ETIMEDOUT: nothing in time; -EIO: it ended without a word. */
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
			return read(fd, &code, sizeof(code)) == (ssize_t)sizeof(code) ? -code
										      : -EIO;
	}
	return -ETIMEDOUT;
}

int sysfs_write(const char *path, const char *text, unsigned limit_ms)
{
	int pipes[2];

	if (strlen(text) > SYSFS_WRITE_MAX)
		return -E2BIG;
	if (pipe2(pipes, O_CLOEXEC) < 0)
		return -errno;
	/* The writer is nobody's child: whoever waits for it could wait as long as it does. */
	pid_t pid = fork();
	if (pid == 0) {
		pid_t writer = fork();
		if (writer != 0)
			_exit(writer < 0 ? errno : 0);
		int code = write_now(path, text);
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
