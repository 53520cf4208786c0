/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Stage 2. Two ways lead to the same place:
 *
 *   started as root:   groups are set, the process makes a user namespace, a short-lived child that
 *                      stayed outside maps the unprivileged user into it, and the process becomes
 *                      that user. From then on nothing of root is left.
 *   started as a user: the process makes a user namespace and maps its own user and group.
 *
 * Inside the user namespace the process has all capabilities over what it creates next, the other
 * namespaces, and none over the rest of the machine. Where user namespaces are refused, a strict
 * start fails; a best-effort start tries the other namespaces with whatever it has.
 */

#include "isolation/code_memory.h"
#include "isolation/internal.h"

#include "base/checked.h"
#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* Mount first: it is what the others are worth most with, and the order costs nothing. */
static const struct {
	int flag;
	enum isolation_layer layer;
} namespaces[] = {
	{CLONE_NEWNS, ISOLATION_LAYER_MOUNT},
	{CLONE_NEWNET, ISOLATION_LAYER_NET},
	{CLONE_NEWIPC, ISOLATION_LAYER_IPC},
	{CLONE_NEWUTS, ISOLATION_LAYER_UTS},
	{CLONE_NEWCGROUP, ISOLATION_LAYER_CGROUP},
	{CLONE_NEWPID, ISOLATION_LAYER_PID},
};

static int write_proc(pid_t pid, const char *name, const char *text)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	cleanup_close int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

/* One user and one group are mapped, each to itself. */
static int write_maps(pid_t pid, uid_t uid, gid_t gid)
{
	char map[64];

	int r = write_proc(pid, "setgroups", "deny");
	if (r < 0)
		return r;
	snprintf(map, sizeof(map), "%u %u 1", uid, uid);
	r = write_proc(pid, "uid_map", map);
	if (r < 0)
		return r;
	snprintf(map, sizeof(map), "%u %u 1", gid, gid);
	return write_proc(pid, "gid_map", map);
}

/* Stays outside the user namespace, as root, until its parent has made one; then maps it. */
static pid_t start_mapper(const struct isolation *iso, int *ret_pipe)
{
	int pipe_fds[2];
	pid_t target = getpid();

	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return -errno;
	pid_t mapper = fork();
	if (mapper == 0) {
		char byte;
		close(pipe_fds[1]);
		ssize_t n = read(pipe_fds[0], &byte, 1);
		_exit(n == 1 ? -write_maps(target, iso->uid, iso->gid) : ECANCELED);
	}
	int err = -errno;
	close(pipe_fds[0]);
	if (mapper < 0) {
		close(pipe_fds[1]);
		return err;
	}
	*ret_pipe = pipe_fds[1];
	return mapper;
}

static int user_namespace_as_root(struct isolation *iso)
{
	bool node = iso->node_group != ISOLATION_NO_GROUP;
	int pipe_fd = -1, status = 0, r = 0;

	if (setgroups(node ? 1 : 0, &iso->node_group) < 0)
		return -errno;
	pid_t mapper = start_mapper(iso, &pipe_fd);
	if (mapper < 0)
		return mapper;
	if (unshare(CLONE_NEWUSER) < 0)
		r = -errno;
	/* Closing the pipe without a byte ends the mapper with nothing done. */
	if (r == 0 && write(pipe_fd, "m", 1) != 1)
		r = -EPIPE;
	close(pipe_fd);
	while (waitpid(mapper, &status, 0) < 0 && errno == EINTR)
		;
	if (r < 0)
		return r;
	if (!WIFEXITED(status))
		return -ECHILD;
	if (WEXITSTATUS(status))
		return -WEXITSTATUS(status);
	iso->in_user_ns = true;
	return isolation_switch_user(iso);
}

static int user_namespace_as_user(struct isolation *iso)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();

	if (unshare(CLONE_NEWUSER) < 0)
		return -errno;
	/* The files below /proc belong to root while the process is not dumpable. */
	if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0)
		return -errno;
	int r = write_maps(getpid(), uid, gid);
	if (r < 0)
		return r;
	iso->in_user_ns = true;
	return 0;
}

static int other_namespaces(struct isolation *iso)
{
	int first = 0;

	for (size_t i = 0; i < ARRAY_SIZE(namespaces); i++) {
		int r = unshare(namespaces[i].flag) < 0 ? -errno : 0;
		/* Mounts made here must not appear outside, nor the other way round. */
		if (r == 0 && namespaces[i].flag == CLONE_NEWNS &&
			mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
			r = -errno;
		r = isolation_note(iso, namespaces[i].layer, r);
		if (first == 0)
			first = r;
	}
	return first;
}

/* Process 1 of a pid namespace ignores a signal it has no handler for, abort()'s included. */
static void on_abort(int signal)
{
	_exit(ISOLATION_EXIT_ABORTED);
}

/* A software driver generates code, which it can under one condition. */
static int forbid_writable_code(const struct isolation *iso)
{
	int r = isolation_filter_early();

	return r == 0 && iso->software ? code_memory_offer() : r;
}

/* In the device, single-threaded: what its later threads will inherit. */
static int settle_device(struct isolation *iso)
{
	struct sigaction abort_action = {.sa_handler = on_abort};
	char byte;

	sigemptyset(&abort_action.sa_mask);
	sigaction(SIGABRT, &abort_action, NULL);
	int r = iso->in_user_ns ? 0 : isolation_switch_user(iso);
	if (r == 0 && geteuid() == 0)
		r = -EPERM;
	r = isolation_note(iso, ISOLATION_LAYER_UNPRIVILEGED, r);
	if (r == 0)
		r = isolation_note(
			iso, ISOLATION_LAYER_CAPABILITIES, isolation_drop_capabilities());
	if (r == 0)
		r = isolation_note(iso, ISOLATION_LAYER_NO_DUMP, isolation_forbid_dump());
	if (r == 0)
		r = isolation_note(
			iso, ISOLATION_LAYER_WRITE_XOR_EXECUTE, forbid_writable_code(iso));
	if (r == 0)
		r = isolation_die_with_parent();
	/* If the monitor died before that, nobody will tell: its end of the socket is closed. */
	if (recv(iso->monitor_socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0)
		_exit(ISOLATION_EXIT_ABORTED);
	return r;
}

static int fork_device(struct isolation *iso)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	pid_t device = fork();
	if (device != 0)
		close(pair[1]);
	if (device > 0)
		isolation_monitor_run(iso, device, pair[0]);
	int err = -errno;
	close(pair[0]);
	if (device < 0)
		return err;
	iso->monitor_socket = pair[1];
	return settle_device(iso);
}

int isolation_namespaces(struct isolation *iso)
{
	if (iso->mode == ISOLATION_OFF)
		return 0;

	int r = iso->root ? user_namespace_as_root(iso) : user_namespace_as_user(iso);
	r = isolation_note(iso, ISOLATION_LAYER_USER, r == -EINVAL ? -EBUSY : r);
	/* All of them are tried, so that a refusal names everything that is missing. */
	int others = other_namespaces(iso);
	if (r < 0 || others < 0)
		return r < 0 ? r : others;
	/* The changes of user above have undone what the first stage set. */
	r = isolation_forbid_dump();
	if (r == 0)
		r = isolation_die_with_parent();
	if (r < 0)
		return r;
	if (getppid() != iso->parent)
		return -ESRCH;
	if (iso->scratch_bytes)
		iso->scratch = isolation_make_scratch(iso, iso->scratch_bytes);
	return fork_device(iso);
}
