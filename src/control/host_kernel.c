/* SPDX-License-Identifier: Apache-2.0 */
#include "control/host_kernel.h"

#include "base/cleanup.h"
#include "control/kill_point.h"
#include "host/sysfs_write.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* The end of a packet's path, and of its text. */
#define PACKET_MAX (SYSFS_PATH_MAX + SYSFS_WRITE_MAX + 2)

/* -errno; a descriptor. */
static int test_connect(const char *root)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	cleanup_close int dir = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -errno;
	/* The root's own path may be longer than an address. */
	snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/" HOST_KERNEL_SOCKET, dir);
	cleanup_close int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return -errno;
	return TAKE_FD(fd);
}

static int test_write(const char *root, const char *path, const char *text, unsigned limit_ms)
{
	char packet[PACKET_MAX], answer[16] = "";

	cleanup_close int fd = test_connect(root);
	if (fd < 0)
		return fd;
	int len = snprintf(packet, sizeof(packet), "%s%c%s", path, '\0', text);
	if (len < 0 || (size_t)len >= sizeof(packet))
		return -E2BIG;
	if (send(fd, packet, (size_t)len, MSG_NOSIGNAL) < 0)
		return -errno;
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
	if (poll(&poll_fd, 1, (int)limit_ms) == 0) {
		/* As a writer that the kernel keeps, with what it holds. */
		if (fork() == 0) {
			(void)!recv(fd, answer, sizeof(answer) - 1, 0);
			_exit(0);
		}
		return -ETIMEDOUT;
	}
	if (recv(fd, answer, sizeof(answer) - 1, 0) <= 0)
		return -EIO;
	return (int)strtol(answer, NULL, 10);
}

static bool is_test(const char *root)
{
	char path[SYSFS_PATH_MAX];
	struct stat file;

	if (!root)
		return false;
	snprintf(path, sizeof(path), "%s/" HOST_KERNEL_SOCKET, root);
	return lstat(path, &file) == 0 && S_ISSOCK(file.st_mode);
}

static int make_request(const char *root, const char *path, const char *text, unsigned limit_ms)
{
	return is_test(root) ? test_write(root, path, text, limit_ms)
			     : sysfs_write(path, text, limit_ms);
}

static int kernel_write(void *data, const char *path, const char *text, unsigned limit_ms)
{
	kill_point();
	if (kill_point_in_request()) {
		make_request(data, path, text, limit_ms);
		_exit(0);
	}
	int r = make_request(data, path, text, limit_ms);
	kill_point();
	return r;
}

void host_kernel_open(struct vgpud *d, const char *root)
{
	d->kernel = (struct vfio_kernel){
		.write = kernel_write, .data = root[0] ? (void *)(uintptr_t)root : NULL};
}
