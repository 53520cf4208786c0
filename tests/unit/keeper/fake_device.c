/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device process without a will of its own: it hands its channel and page of counters to the
 * test that listens at VGPU_FAKE_SOCKET, with its first argument, and waits to be killed. The test
 * speaks for it. With VGPU_FAKE_CHILD it has a child at all times, which does nothing.
 */
#include "base/fdpass.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static void have_a_child(void)
{
	for (;;) {
		pid_t child = fork();
		if (child == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			for (;;)
				pause();
		}
		if (child < 0 || waitpid(child, NULL, 0) < 0)
			return;
	}
}

int main(int argc, char **argv)
{
	const char *path = getenv("VGPU_FAKE_SOCKET");
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	const int fds[2] = {3, 4};

	int s = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (!path || s < 0 || argc < 2)
		return 2;
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	if (connect(s, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
		fdpass_send(s, argv[1], strlen(argv[1]) + 1, fds, 2) < 0)
		return 3;
	close(3);
	close(4);
	if (getenv("VGPU_FAKE_CHILD"))
		have_a_child();
	for (;;)
		pause();
}
