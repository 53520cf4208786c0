/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control group of the device processes, made by vgpud: what share of the CPU they get is then
 * the kernel's business, and stays so when vgpud is gone. The keeper itself is not in it, so it
 * never waits for its device process' share. Each device process enters before it is executed; all
 * it starts later is in it as well.
 */
#include "keeper/keeper.h"

#include "base/cleanup.h"
#include "base/parse.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define GROUP_FAMILY 64 /* processes of one device process; mostly it is two */
#define GROUP_ROUNDS 8  /* it may start one while it is looked through */

struct family {
	pid_t pids[GROUP_FAMILY];
	unsigned n;
};

static bool family_has(const struct family *f, pid_t pid)
{
	for (unsigned i = 0; i < f->n; i++) {
		if (f->pids[i] == pid)
			return true;
	}
	return false;
}

/* Adds the children of one thread. */
static void family_add_children(struct family *f, int tasks, const char *thread)
{
	char path[64], text[1024];
	uint64_t child;

	snprintf(path, sizeof(path), "%.32s/children", thread);
	cleanup_close int fd = openat(tasks, path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	text[n < 0 ? 0 : n] = '\0';
	for (const char *at = text;
		f->n < GROUP_FAMILY && parse_next(&at, 10, INT32_MAX, &child);) {
		if (!family_has(f, (pid_t)child))
			f->pids[f->n++] = (pid_t)child;
	}
}

static void family_add_of(struct family *f, pid_t pid)
{
	char path[64];
	const struct dirent *thread;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	DIR *tasks = opendir(path);
	while (tasks && (thread = readdir(tasks))) {
		if (thread->d_name[0] != '.')
			family_add_children(f, dirfd(tasks), thread->d_name);
	}
	if (tasks)
		closedir(tasks);
}

static int group_write(int fd, pid_t pid)
{
	char text[16];
	int n = snprintf(text, sizeof(text), "%d", (int)pid);

	/* One that has ended meanwhile needs no share. */
	return write(fd, text, (size_t)n) < 0 && errno != ESRCH ? -errno : 0;
}

/* Puts a device process there with all it has started. */
static int group_move(int fd, pid_t pid)
{
	struct family f = {.pids = {pid}, .n = 1};
	unsigned moved = 0;

	for (unsigned round = 0; round < GROUP_ROUNDS && moved < f.n; round++) {
		for (; moved < f.n; moved++) {
			int r = group_write(fd, f.pids[moved]);
			if (r < 0)
				return r;
		}
		for (unsigned i = 0, n = f.n; i < n; i++)
			family_add_of(&f, f.pids[i]);
	}
	return 0;
}

int group_join(struct keeper *k, const char *path)
{
	cleanup_close int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return -errno;
	for (unsigned i = 0; i < KEEPER_PROCESSES; i++) {
		pid_t pid = k->processes[i].pid;
		int r = pid ? group_move(fd, pid) : 0;
		if (r < 0)
			return r;
	}
	close_fd(&k->group_fd);
	k->group_fd = TAKE_FD(fd);
	return 0;
}

void group_enter(const struct keeper *k)
{
	if (k->group_fd >= 0 && write(k->group_fd, "0", 1) < 0)
		dprintf(STDERR_FILENO, "this process has no share of the CPU of its own: %s\n",
			strerror(errno));
}
