/* SPDX-License-Identifier: Apache-2.0 */

/*
 * Stage 3 and the process that carries it out. The monitor shares the device's mount namespace. On
 * the device's one request it makes an empty tmpfs the root, for itself and with it for every
 * thread of the device, detaches everything else, gives up its capabilities, and from then on can
 * do nothing but wait for the device and end as it ended. It reads one byte from the device in its
 * life, before the device has seen a guest.
 */

#include "isolation/internal.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Any directory that is always there does; it is never reached again under its name. */
#define MOUNT_POINT   "/tmp"
#define EMPTY_OPTIONS "size=4k,nr_inodes=2,mode=0555"

static int enter_empty_root(void)
{
	const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY;

	if (mount("empty", MOUNT_POINT, "tmpfs", flags, EMPTY_OPTIONS) < 0)
		return -errno;
	if (chdir(MOUNT_POINT) < 0)
		return -errno;
	/* The old root is stacked on the new one; what is detached is the top, the old. */
	if (syscall(SYS_pivot_root, ".", ".") < 0)
		return -errno;
	if (umount2(".", MNT_DETACH) < 0)
		return -errno;
	return chdir("/") < 0 ? -errno : 0;
}

static _Noreturn void end_like(int status)
{
	int signal_number = 0;

	if (WIFSIGNALED(status))
		signal_number = WTERMSIG(status);
	else if (WEXITSTATUS(status) == ISOLATION_EXIT_ABORTED)
		signal_number = SIGABRT;
	if (signal_number) {
		sigset_t all;
		sigfillset(&all);
		sigprocmask(SIG_UNBLOCK, &all, NULL);
		signal(signal_number, SIG_DFL);
		raise(signal_number);
		/* A stop or a signal of no effect. */
		// cppcheck-suppress unreachableCode
		_exit(128 + signal_number);
	}
	_exit(WEXITSTATUS(status));
}

static void give_up_rights(struct isolation *iso)
{
	/* Each of these failed in the device before, and was reported there, if it fails here. */
	if (!iso->in_user_ns)
		(void)isolation_switch_user(iso);
	(void)isolation_drop_capabilities();
	(void)isolation_forbid_dump();
	(void)isolation_die_with_parent();
	(void)isolation_filter_monitor();
}

_Noreturn void isolation_monitor_run(struct isolation *iso, pid_t device, int socket)
{
	int status = 0, result;
	char byte;

	/* What the parent handed to the device must have one holder, so that its end is seen. */
	if (dup2(socket, STDERR_FILENO + 1) < 0 || close_range(STDERR_FILENO + 2, ~0u, 0) < 0)
		_exit(ISOLATION_EXIT_ABORTED);
	socket = STDERR_FILENO + 1;
	if (recv(socket, &byte, 1, 0) == 1) {
		result = iso->layer[ISOLATION_LAYER_MOUNT];
		if (result == 0)
			result = enter_empty_root();
		give_up_rights(iso);
		(void)send(socket, &result, sizeof(result), MSG_NOSIGNAL);
	} else {
		give_up_rights(iso);
	}
	while (waitpid(device, &status, 0) < 0) {
		if (errno != EINTR)
			_exit(ISOLATION_EXIT_ABORTED);
	}
	end_like(status);
}

int isolation_monitor_request_root(struct isolation *iso)
{
	int result = -EPROTO;

	if (send(iso->monitor_socket, "r", 1, MSG_NOSIGNAL) != 1)
		return -errno;
	if (recv(iso->monitor_socket, &result, sizeof(result), 0) != sizeof(result))
		return -EPROTO;
	return result;
}

int isolation_filesystem(struct isolation *iso)
{
	if (iso->mode == ISOLATION_OFF)
		return 0;
	int r = isolation_note(
		iso, ISOLATION_LAYER_EMPTY_ROOT, isolation_monitor_request_root(iso));
	/* The monitor has nothing left to do for the device. */
	close(iso->monitor_socket);
	iso->monitor_socket = -1;
	return r;
}
