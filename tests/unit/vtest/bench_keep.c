/* SPDX-License-Identifier: Apache-2.0 */

/*
 * What it costs a connection that it can be carried on by another process: messages a second
 * between two processes, with and without, over a device that does nothing. Not a test.
 */

#include "life.h"

#include "base/clock.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define JOURNAL_BYTES (64ull << 20)

void life_point(void)
{
}

static bool idle(void *data)
{
	struct process *p = data;

	if (p->over)
		loop_quit(p->loop, 0);
	else if (p->image_wanted && process_image(p))
		abort();
	return false;
}

static void closed(void *data, const char *reason)
{
	((struct process *)data)->over = true;
}

static void serve(int fd, bool keep)
{
	static const struct vtest_ops ops = {.closed = closed};
	struct life life;
	struct process p;

	life_init(&life, fd);
	life.limit = JOURNAL_BYTES;
	if (keep) {
		if (!process_start(&life, &p))
			abort();
		p.dev.point = NULL;
	} else {
		p = (struct process){.life = &life, .budget.max_fds = 512};
		fake_device_init(&p.dev);
		if (loop_create(&p.loop) ||
			vtest_create(&p.dev, p.loop, &p.budget, fcntl(fd, F_DUPFD_CLOEXEC, 0),
				"bench", &ops, &p, &p.vtest))
			abort();
	}
	close(fd);
	loop_set_idle(p.loop, idle, &p);
	(void)loop_run(p.loop);
	_exit(0);
}

static void put(int fd, const void *bytes, size_t n)
{
	if (send(fd, bytes, n, MSG_NOSIGNAL) != (ssize_t)n)
		abort();
}

static void get(int fd, size_t n)
{
	uint8_t buf[64];

	if (recv(fd, buf, n, MSG_WAITALL) != (ssize_t)n)
		abort();
}

/* One answer waited for after each. */
static unsigned pings(int fd)
{
	put(fd, (uint32_t[]){0, VTEST_PING_PROTOCOL_VERSION}, 8);
	get(fd, 8);
	return 1;
}

/* 16 command buffers of 4 KiB, then an answer. */
static unsigned submits(int fd)
{
	static uint32_t message[2 + 1024] = {1024, VTEST_SUBMIT_CMD};

	for (unsigned i = 0; i < 16; i++)
		put(fd, message, sizeof(message));
	return 16 * pings(fd);
}

/* A fence as Mesa makes one: a submit, its buffer, waiting for it, letting go of it. */
static unsigned fences(int fd)
{
	static const uint32_t messages[] = {2, VTEST_SUBMIT_CMD, 1, 2, 11, VTEST_RESOURCE_CREATE2,
		9, 0, 64, 1 << 17, 8, 1, 1, 0, 0, 0, 8};
	static const uint32_t wait[] = {
		2, VTEST_RESOURCE_BUSY_WAIT, 9, 1, 1, VTEST_RESOURCE_UNREF, 9};
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	char byte;
	struct iovec iov = {&byte, 1};
	struct msghdr header = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes)};

	put(fd, messages, sizeof(messages));
	if (recvmsg(fd, &header, 0) != 1)
		abort();
	const struct cmsghdr *c = CMSG_FIRSTHDR(&header);
	int received;
	if (!c)
		abort();
	memcpy(&received, CMSG_DATA(c), sizeof(int));
	close(received);
	put(fd, wait, sizeof(wait));
	get(fd, 12);
	return 1;
}

static double child_cpu_ns(void)
{
	struct rusage usage;

	getrusage(RUSAGE_CHILDREN, &usage);
	return 1e9 * (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       1e3 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

/* Messages a second, and the server's processor time for each. */
static double measure(unsigned (*what)(int fd), bool keep, double seconds, double *ret_cpu_ns)
{
	double cpu = child_cpu_ns();
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		abort();
	pid_t pid = fork();
	if (pid == 0) {
		close(pair[0]);
		serve(pair[1], keep);
	}
	close(pair[1]);
	put(pair[0], (uint32_t[]){0, VTEST_CREATE_RENDERER, 1, VTEST_PROTOCOL_VERSION, 2}, 20);
	get(pair[0], 12);
	uint64_t start = clock_ns(), until = start + (uint64_t)(seconds * 1e9), now, n = 0;
	do {
		for (unsigned i = 0; i < 100; i++)
			n += what(pair[0]);
		now = clock_ns();
	} while (now < until);
	close(pair[0]);
	if (waitpid(pid, NULL, 0) != pid)
		abort();
	*ret_cpu_ns = (child_cpu_ns() - cpu) / (double)n;
	return (double)n / ((double)(now - start) / 1e9);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		unsigned (*what)(int fd);
	} rows[] = {{"ping", pings}, {"submit of 4 KiB", submits}, {"fence", fences}};
	double seconds = argc > 1 ? atof(argv[1]) : 1;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		double best[2] = {0}, least[2] = {1e9, 1e9};
		for (unsigned round = 0; round < 10; round++) {
			double cpu, rate = measure(rows[i].what, round & 1, seconds, &cpu);
			if (rate > best[round & 1])
				best[round & 1] = rate;
			if (cpu < least[round & 1])
				least[round & 1] = cpu;
		}
		printf("%-16s %7.0f/s without, %7.0f/s with; server's time %5.0f ns, %5.0f ns\n",
			rows[i].name, best[0], best[1], least[0], least[1]);
	}
	return 0;
}
